import { errors, type JWTPayload, type JWTVerifyOptions, type JWTVerifyResult, jwtVerify } from 'jose'
import * as z from 'zod'
import { createCache } from '../collections.ts'
import { GatewayError } from '../errors.ts'
import type { Log } from '../telemetry/log.ts'
import { sha256 } from './api-keys.ts'
import type { Caller, Grant } from './caller.ts'
import { type ClaimNames, displayNameIn, grantIn, subject } from './claims.ts'
import { CLOCK_TOLERANCE_MS } from './clock-tolerance.ts'
import { failedWithoutName, verifyByFittingKey } from './fitting-keys.ts'
import { type Grants, grantFor } from './grants.ts'
import { KeyRefusal, type KeySet } from './jwks.ts'

export interface TokenOptions {
  readonly claimNames: ClaimNames
  /** The claim with the name of the person; null: none. */
  readonly nameClaim: string | null
  readonly issuer: string
  readonly audience: string
  readonly algorithms: readonly string[]
  readonly keySet: KeySet
  /** Used instead of the tokens' claims; null: the claims count. */
  readonly grants: Grants | null
  readonly log: Log
  readonly now?: () => number
}

/** Tokens of callers: JWTs of one issuer (RFC 7519, RFC 8725). */
export interface Tokens {
  /** The caller of a token that was verified a short time ago. Costs a hash. */
  cached(token: string): Caller | undefined
  /** The result of a verification of that token that is in flight; undefined where there is none. Never rejects. */
  pending(token: string): Promise<Caller | undefined> | undefined
  /** The caller of a token; undefined where it proves nothing. @throws identity-provider-unavailable */
  verify(token: string): Promise<Caller | undefined>
}

const CLOCK_TOLERANCE_S = CLOCK_TOLERANCE_MS / 1000
/** A token can name as many domains as a header holds. */
const CACHE_BYTES = 16 * 2 ** 20
const CACHE_TTL_MS = 300_000

// An issuer signs other things with the same key, such as orders to sign out (RFC 8725, section 3.11).
const TYPE = /^(application\/)?(at\+)?jwt$/i

/** The identity and grant in a verified token. */
interface VerifiedToken {
  readonly sub: string
  readonly displayName: string | null
  readonly grant: Grant
  readonly untilMs: number
  /** Of the key set that verified it. */
  readonly version: number
}

// jose looks at `iat` only where a greatest age is given.
const claimsSchema = (nowMs: number) =>
  z.object({
    sub: subject,
    exp: z.number(),
    iat: z
      .number()
      .max(nowMs / 1000 + CLOCK_TOLERANCE_S)
      .optional(),
  })

export const createTokens = (options: TokenOptions): Tokens => {
  const { issuer, claimNames, nameClaim, keySet, grants, log, now = Date.now } = options
  const verifiedTokens = createCache<VerifiedToken>({ maxBytes: CACHE_BYTES, ttlMs: CACHE_TTL_MS })
  /** Requests with the same token wait for these verifications, and do not count as further attempts. */
  const inFlight = new Map<string, Promise<Caller | undefined>>()

  const toCaller = ({ sub, displayName, grant }: VerifiedToken): Caller => ({
    via: 'jwt',
    issuer,
    name: sub,
    displayName,
    ...grantFor(grants, issuer, sub, grant),
  })

  const verifyAnew = async (token: string): Promise<VerifiedToken> => {
    const version = keySet.version()
    const payload = await payloadOf(token, options, now())
    const claims = claimsSchema(now()).parse(payload)
    // If a new key set arrived meanwhile, verify again: a result of the old set must not be cached for the new one.
    if (version !== keySet.version()) return verifyAnew(token)
    const untilMs = Math.min(claims.exp * 1000, now() + CACHE_TTL_MS)
    const displayName = displayNameIn(payload, nameClaim)
    return { sub: claims.sub, displayName, grant: grantIn(payload, claimNames), untilMs, version }
  }

  const verify = async (token: string): Promise<Caller | undefined> => {
    try {
      const proof = await verifyAnew(token)
      verifiedTokens.set(digestOf(token), proof, proof.untilMs - now())
      return toCaller(proof)
    } catch (error) {
      if (error instanceof GatewayError) throw error
      log.info('a token was refused', { reason: reasonOf(error) })
      return undefined
    }
  }

  return {
    cached: (token) => {
      const digest = digestOf(token)
      const proof = verifiedTokens.get(digest)
      if (proof === undefined) return undefined
      if (now() < proof.untilMs && proof.version === keySet.version()) return toCaller(proof)
      verifiedTokens.delete(digest)
      return undefined
    },

    pending: (token) => inFlight.get(digestOf(token))?.catch(() => undefined),

    verify: (token) => {
      const digest = digestOf(token)
      const verified = inFlight.get(digest) ?? verify(token).finally(() => inFlight.delete(digest))
      inFlight.set(digest, verified)
      return verified
    },
  }
}

const digestOf = (token: string): string => sha256(token).toString('base64')

const payloadOf = async (token: string, options: TokenOptions, nowMs: number): Promise<JWTPayload> => {
  const { payload, protectedHeader } = await verifyByCurrentKeys(token, options.keySet, {
    issuer: options.issuer,
    audience: options.audience,
    algorithms: [...options.algorithms],
    clockTolerance: CLOCK_TOLERANCE_S,
    currentDate: new Date(nowMs),
  })
  const { typ = 'JWT' } = protectedHeader
  if (!TYPE.test(typ)) throw new errors.JWTClaimValidationFailed('another type', payload, 'typ', 'check_failed')
  return payload
}

/** jose reads the set again for a key that is named and unknown; a token that names none can be of a new key too. */
const verifyByCurrentKeys = async (token: string, keySet: KeySet, rules: JWTVerifyOptions) => {
  const attempt = () =>
    verifyByFittingKey(
      async (): Promise<JWTVerifyResult> => jwtVerify(token, keySet.keyFor, rules),
      (key) => jwtVerify(token, key, rules),
    )
  try {
    return await attempt()
  } catch (error) {
    if (!failedWithoutName(error, token) || !(await keySet.renew())) throw error
    return await attempt()
  }
}

/** The loggable reason of a refused token: the kind of fault and the claim, never a value. */
const reasonOf = (error: unknown): string => {
  if (error instanceof errors.JWTClaimValidationFailed || error instanceof errors.JWTExpired)
    return `${error.code} ${error.claim}`
  if (error instanceof KeyRefusal) return error.message
  if (error instanceof errors.JOSEError) return error.code
  return error instanceof z.ZodError ? `claim ${String(error.issues[0]?.path[0])}` : 'is not valid'
}
