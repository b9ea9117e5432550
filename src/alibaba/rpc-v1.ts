import { createHmac } from 'node:crypto'
import {
  API_VERSION,
  type ApiCall,
  type Credentials,
  canonicalQuery,
  percentEncode,
  type SignedRequest,
  type Stamp,
  timestamp,
} from './signing.ts'

// Signature version 1.0 of Alibaba Cloud's RPC style: HMAC-SHA1 over the sorted parameters.

type Params = Readonly<Record<string, string>>

/** All parameters of the request but `Signature`. */
export const commonParams = (call: ApiCall, credentials: Credentials, stamp: Stamp): Params => ({
  ...call.params,
  Action: call.action,
  Version: API_VERSION,
  Format: 'JSON',
  AccessKeyId: credentials.accessKeyId,
  SignatureMethod: 'HMAC-SHA1',
  SignatureVersion: '1.0',
  SignatureNonce: stamp.nonce,
  Timestamp: timestamp(stamp.at),
  ...(credentials.securityToken === undefined ? {} : { SecurityToken: credentials.securityToken }),
})

/** Text to be signed: `METHOD & "/" & canonical query`, each percent-encoded. */
export const stringToSign = (method: string, query: string): string => [method, '/', query].map(percentEncode).join('&')

/** Base64 of HMAC-SHA1 under the secret with `&` appended. */
export const signature = (secret: string, text: string): string =>
  createHmac('sha1', `${secret}&`).update(text).digest('base64')

/** The signed call as a form POST, so that nothing signed stands in a URL. */
export const signRpcV1 = (call: ApiCall, credentials: Credentials, stamp: Stamp): SignedRequest => {
  const query = canonicalQuery(commonParams(call, credentials, stamp))
  const signed = signature(credentials.accessKeySecret, stringToSign('POST', query))
  return {
    method: 'POST',
    path: '/',
    headers: { host: call.host, 'content-type': 'application/x-www-form-urlencoded' },
    body: `${query}&Signature=${percentEncode(signed)}`,
  }
}
