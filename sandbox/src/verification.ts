import { API_VERSION, type Credentials } from '../../src/alibaba/signing.ts'
import { type Failure, failure, missing, signatureMismatch } from './failures.ts'
import type { SignedRequest } from './signed-request.ts'

/** How far a timestamp may be off, and how long a nonce is remembered. */
export const VALIDITY_MS = 31 * 60_000
/** Far beyond what one client sends in that time; only there so that memory has a limit. */
const NONCES_KEPT = 1_000_000

interface Verification {
  /** By AccessKeyId. */
  readonly keys: ReadonlyMap<string, Credentials>
  readonly nowMs: number
  readonly nonces: Nonces
  readonly actions: readonly string[]
}

export interface Nonces {
  /** Takes the nonce; false where it was taken within the validity. */
  take(nonce: string, nowMs: number): boolean
}

type Check = (signedRequest: SignedRequest, verification: Verification) => Failure | null

const TIMESTAMP = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/

const methodIsServed: Check = ({ method }) =>
  method === 'GET' || method === 'POST' ? null : failure('UnsupportedHTTPMethod')

const accessKeyIsGiven: Check = ({ accessKeyId }) => (accessKeyId === '' ? failure('MissingAccessKeyId') : null)

const accessKeyIsKnown: Check = ({ accessKeyId }, { keys }) =>
  keys.has(accessKeyId) ? null : failure('InvalidAccessKeyId.NotFound')

const tokenBelongsToKey: Check = ({ accessKeyId, securityToken }, { keys }) =>
  securityToken === (keys.get(accessKeyId)?.securityToken ?? '')
    ? null
    : failure('InvalidSecurityToken.MismatchWithAccessKey')

const timestampIsReadable: Check = ({ timestamp }) =>
  TIMESTAMP.test(timestamp) && !Number.isNaN(Date.parse(timestamp)) ? null : failure('InvalidTimeStamp.Format')

const timestampIsNear: Check = ({ timestamp }, { nowMs }) =>
  Math.abs(nowMs - Date.parse(timestamp)) <= VALIDITY_MS ? null : failure('InvalidTimeStamp.Expired')

const signatureIsComplete: Check = ({ isComplete }) => (isComplete ? null : failure('IncompleteSignature'))

const signatureMatches: Check = (signedRequest, { keys }) =>
  signedRequest.signature === signedRequest.sign(keys.get(signedRequest.accessKeyId)?.accessKeySecret ?? '')
    ? null
    : signatureMismatch(signedRequest.stringToSign)

const nonceIsGiven: Check = ({ nonce }) => (nonce === '' ? missing('SignatureNonce') : null)

const nonceIsFresh: Check = ({ nonce }, { nonces, nowMs }) =>
  nonces.take(nonce, nowMs) ? null : failure('SignatureNonceUsed')

const versionExists: Check = ({ version }) => (version === API_VERSION ? null : failure('NoSuchVersion'))

const actionExists: Check = ({ action }, { actions }) =>
  actions.includes(action) ? null : failure('InvalidAction.NotFound')

const pathExists: Check = ({ path }) => (path === '/' ? null : failure('InvalidApi.NotFound'))

/** The order is part of the behaviour: only a request with a right signature uses up its nonce. */
const CHECKS = [
  methodIsServed,
  accessKeyIsGiven,
  accessKeyIsKnown,
  tokenBelongsToKey,
  timestampIsReadable,
  timestampIsNear,
  signatureIsComplete,
  signatureMatches,
  nonceIsGiven,
  nonceIsFresh,
  versionExists,
  actionExists,
  pathExists,
] as const

/** The first thing that is wrong with the request, or null. */
export const verify: Check = (signedRequest, verification) => {
  for (const check of CHECKS) {
    const found = check(signedRequest, verification)
    if (found !== null) return found
  }
  return null
}

/** Remembers nonces for the validity, in the order in which they came. */
export const createNonces = (kept = NONCES_KEPT): Nonces => {
  const takenAt = new Map<string, number>()

  const forgetOld = (nowMs: number): void => {
    for (const [nonce, atMs] of takenAt) {
      if (nowMs - atMs <= VALIDITY_MS && takenAt.size < kept) return
      takenAt.delete(nonce)
    }
  }

  return {
    take: (nonce, nowMs) => {
      forgetOld(nowMs)
      if (takenAt.has(nonce)) return false
      takenAt.set(nonce, nowMs)
      return true
    },
  }
}
