import type { CookieOptions, Request } from 'express'
import { trimOws } from './ows.ts'

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

/**
 * Every value of the cookie of exactly that name, in the order of the header. Parsers of libraries keep one of several
 * silently. Names compare byte by byte: browsers keep a name that differs in any byte, in case too, apart from the
 * `__Host-` cookie, and let a sibling subdomain set it.
 */
export const cookieValues = ({ headersDistinct }: Request, { name }: Cookie): readonly string[] =>
  (headersDistinct.cookie ?? [])
    .flatMap((line) => line.split(';'))
    .map(trimOws)
    .filter((pair) => pair.startsWith(`${name}=`))
    .map((pair) => pair.slice(name.length + 1))
