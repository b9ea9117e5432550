import { createHash, createHmac } from 'node:crypto'
import {
  API_VERSION,
  type ApiCall,
  type Credentials,
  canonicalQuery,
  type SignedRequest,
  type Stamp,
  timestamp,
} from './signing.ts'

// ACS3-HMAC-SHA256, signature version 3 of Alibaba Cloud: everything signed stands in headers.

const ALGORITHM = 'ACS3-HMAC-SHA256'

type Headers = Readonly<Record<string, string>>

export const sha256Hex = (text: string): string => createHash('sha256').update(text).digest('hex')

/** The headers that are signed, names in lower case. */
export const signedHeaderFields = (call: ApiCall, credentials: Credentials, stamp: Stamp): Headers => ({
  host: call.host,
  'x-acs-accesskey-id': credentials.accessKeyId,
  'x-acs-action': call.action,
  'x-acs-content-sha256': sha256Hex(''),
  'x-acs-date': timestamp(stamp.at),
  'x-acs-signature-nonce': stamp.nonce,
  'x-acs-version': API_VERSION,
  ...(credentials.securityToken === undefined ? {} : { 'x-acs-security-token': credentials.securityToken }),
})

/** Names of the signed headers, sorted, joined with `;`. */
export const signedHeaderNames = (headers: Headers): string => Object.keys(headers).sort().join(';')

/** `METHOD \n / \n query \n headers \n signed header names \n hash of the body`. */
export const canonicalRequest = (method: string, query: string, headers: Headers): string =>
  [method, '/', query, canonicalHeaders(headers), signedHeaderNames(headers), headers['x-acs-content-sha256']].join(
    '\n',
  )

const canonicalHeaders = (headers: Headers): string =>
  Object.entries(headers)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `${name}:${value.trim()}\n`)
    .join('')

/** The algorithm's name and the hex SHA-256 of the canonical request, on two lines. */
export const stringToSign = (canonical: string): string => `${ALGORITHM}\n${sha256Hex(canonical)}`

/** Hex of HMAC-SHA256 under the secret. */
export const signature = (secret: string, text: string): string =>
  createHmac('sha256', secret).update(text).digest('hex')

/** The signed call: the action's parameters in the query, an empty body, the signature in `Authorization`. */
export const signAcs3 = (call: ApiCall, credentials: Credentials, stamp: Stamp): SignedRequest => {
  const query = canonicalQuery(call.params)
  const headers = signedHeaderFields(call, credentials, stamp)
  const signed = signature(credentials.accessKeySecret, stringToSign(canonicalRequest('POST', query, headers)))
  const credential = `Credential=${credentials.accessKeyId},SignedHeaders=${signedHeaderNames(headers)},Signature=${signed}`
  return {
    method: 'POST',
    path: `/?${query}`,
    headers: { ...headers, accept: 'application/json', authorization: `${ALGORITHM} ${credential}` },
    body: '',
  }
}
