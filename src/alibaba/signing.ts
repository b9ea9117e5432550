/**
 * The AccessKey pair, or the STS triple. Plain text: only credential providers hold it, and nothing that can be
 * printed.
 */
export interface Credentials {
  readonly accessKeyId: string
  readonly accessKeySecret: string
  readonly securityToken?: string | undefined
}

/** One operation of the Domain API and its own parameters. */
export interface ApiCall {
  readonly action: string
  readonly params: Readonly<Record<string, string>>
  /** Value of the `Host` header that the request will carry. */
  readonly host: string
}

/** Differs in every attempt: the upstream rejects a nonce that it has seen, and a time too far from its own. */
export interface Stamp {
  readonly nonce: string
  readonly at: Date
}

/** A request ready to be sent; bytes that differ from it no longer match the signature. */
export interface SignedRequest {
  readonly method: 'POST'
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

export type Sign = (call: ApiCall, credentials: Credentials, stamp: Stamp) => SignedRequest

export const API_VERSION = '2018-01-29'

const UNRESERVED = /^[\w.~-]*$/

/** RFC 3986 encoding of UTF-8: only `A–Z a–z 0–9 - _ . ~` stay. `encodeURIComponent` leaves five more alone. */
export const percentEncode = (text: string): string =>
  UNRESERVED.test(text)
    ? text
    : encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)

/** `k=v` pairs sorted by parameter name (not by joined pair: `A` comes before `A1`), each side percent-encoded. */
export const canonicalQuery = (params: Readonly<Record<string, string>>): string =>
  Object.keys(params)
    .sort()
    .map((name) => `${percentEncode(name)}=${percentEncode(params[name] ?? '')}`)
    .join('&')

/** ISO 8601 UTC without milliseconds, the only form that both signature versions take. */
export const timestamp = (at: Date): string => at.toISOString().replace(/\.\d{3}Z$/, 'Z')
