import type { CookieOptions, Request } from 'express'
import { trimOws } from './ows.ts'

/** For this host alone, over TLS alone, out of reach of scripts: `__Host-` makes browsers insist on it. */
const HOST_ONLY = { path: '/', secure: true, httpOnly: true } as const satisfies CookieOptions

interface Cookie {
  readonly name: `__Host-${string}`
  readonly options: CookieOptions
}

/** Browsers never send it with requests that another site causes, and delete it when they close. */
export const SESSION_COOKIE: Cookie = { name: '__Host-session', options: { ...HOST_ONLY, sameSite: 'strict' } }

type Pair = readonly [name: string, value: string]

const SIGN_IN_PREFIX = '__Host-sign-in-'

/** One for each sign-in, so that several windows can sign in. Lax, since the provider sends the browser back. */
export const signInCookie = (id: string): Cookie => ({
  name: `${SIGN_IN_PREFIX}${id}`,
  options: { ...HOST_ONLY, sameSite: 'lax' },
})

/**
 * Every value of the cookie of exactly that name, in the order of the header. Parsers of libraries keep one of several
 * silently. Names compare byte by byte: browsers keep a name that differs in any byte, in case too, apart from the
 * `__Host-` cookie, and let a sibling subdomain set it.
 */
export const cookieValues = (req: Request, { name }: Cookie): readonly string[] =>
  cookiePairs(req)
    .filter(([given]) => given === name)
    .map(([, value]) => value)

const cookiePairs = ({ headersDistinct }: Request): readonly Pair[] =>
  (headersDistinct.cookie ?? [])
    .flatMap((line) => line.split(';'))
    .map(trimOws)
    .flatMap((pair) => {
      const at = pair.indexOf('=')
      return at < 0 ? [] : [[pair.slice(0, at), pair.slice(at + 1)] as const]
    })

/** Before the value of the cookie of a sign-in that is complete. It opens nothing: the rest of the value is sealed. */
const MARKER = 'done.'

export const markerValue = (sealed: string): string => `${MARKER}${sealed}`

/** The sealed values: transactions, and markers of sign-ins that are complete. */
export const sortSignInValues = (values: readonly string[]) => ({
  transactions: values.filter((value) => !value.startsWith(MARKER)),
  markers: values.filter((value) => value.startsWith(MARKER)).map((value) => value.slice(MARKER.length)),
})

const PENDING_MAX = 4
/** Of all cookies of the gateway in one request, as the browser sends them. */
const BYTES_MAX = 4096
/** No browser of a person has more of them: others may plant any number. */
const REMOVED_MAX = 20

/**
 * The cookies of sign-ins that must go, so that there is room for those that the response sets: completed ones before
 * pending ones, the oldest first, by the time in their names. The new ones always have room.
 */
export const surplusSignIns = (req: Request, added: readonly Pair[]): readonly Cookie[] => {
  const isReplaced = ([name]: Pair): boolean => added.some(([addedName]) => addedName === name)
  const own = cookiePairs(req).filter(
    (pair) => (pair[0].startsWith(SIGN_IN_PREFIX) || pair[0] === SESSION_COOKIE.name) && !isReplaced(pair),
  )
  const signIns = own.filter(([name]) => SIGN_IN_NAME.test(name)).sort(([one], [other]) => (one < other ? -1 : 1))
  const [completed, pending] = [signIns.filter(isMarker), signIns.filter((pair) => !isMarker(pair))]
  const removed = pending.slice(0, Math.max(0, pending.length + 1 - PENDING_MAX))
  let bytes = sizeOf([...own, ...added]) - sizeOf(removed)
  for (const pair of [...completed, ...pending.slice(removed.length)]) {
    if (bytes < BYTES_MAX) break
    removed.push(pair)
    bytes -= sizeOf([pair])
  }
  const ids = new Set(removed.map(([name]) => name.slice(SIGN_IN_PREFIX.length)))
  return [...ids].slice(0, REMOVED_MAX).map(signInCookie)
}

const SIGN_IN_NAME = new RegExp(`^${SIGN_IN_PREFIX}[0-9a-z]{9}[\\w-]{9}$`)

const isMarker = ([, value]: Pair): boolean => value.startsWith(MARKER)

/** With `=` and `; `. */
const sizeOf = (pairs: readonly Pair[]): number =>
  pairs.reduce((sum, [name, value]) => sum + name.length + value.length + 3, 0)
