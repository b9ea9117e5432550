import type { CookieOptions, Request } from 'express'

/** For this host alone, over TLS alone, out of reach of scripts: `__Host-` makes browsers insist on it. */
const HOST_ONLY = { path: '/', secure: true, httpOnly: true } as const satisfies CookieOptions

interface Cookie {
  readonly name: `__Host-${string}`
  readonly options: CookieOptions
}

/** Never sent with what another site causes, and gone with the browser. */
export const SESSION_COOKIE: Cookie = { name: '__Host-session', options: { ...HOST_ONLY, sameSite: 'strict' } }

/** Lax, since the provider sends the browser back. */
export const SIGN_IN_COOKIE: Cookie = { name: '__Host-sign-in', options: { ...HOST_ONLY, sameSite: 'lax' } }

/** Every value that a request gives a cookie. Parsers keep one of several silently. */
export const cookieValues = ({ headersDistinct }: Request, { name }: Cookie): readonly string[] =>
  (headersDistinct.cookie ?? [])
    .flatMap((line) => line.split(';'))
    .map((pair) => pair.trim())
    .filter((pair) => pair.startsWith(`${name}=`))
    .map((pair) => pair.slice(name.length + 1))
