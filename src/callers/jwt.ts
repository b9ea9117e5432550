import { errors, type JWTPayload, jwtVerify } from 'jose'
import { z } from 'zod'
import { setBounded } from '../bounded.ts'
import { GatewayError } from '../errors.ts'
import type { Log } from '../telemetry/log.ts'
import { sha256 } from './api-keys.ts'
import { type Caller, DEFAULT_SCOPE_CLAIM, SCOPES, type Scope } from './caller.ts'
import type { Grants } from './grants.ts'
import type { KeySet } from './key-set.ts'

export interface TokenRules {
  readonly issuer: string
  readonly audience: string
  readonly algorithms: readonly string[]
  readonly scopeClaim: string
}

export interface TokenOptions extends TokenRules {
  readonly keySet: KeySet
  /** What counts instead of the tokens' own scopes; null: those count. */
  readonly grants: Grants | null
  readonly log: Log
  readonly now?: () => number
}

/** Tokens of callers: JWTs of one issuer (RFC 7519, RFC 8725). */
export interface Tokens {
  /** The caller of a token that was verified a moment ago. Costs a hash. */
  recall(token: string): Caller | undefined
  /** The caller of a token; undefined where it proves nothing. @throws identity-provider-unavailable */
  verify(token: string): Promise<Caller | undefined>
}

const CLOCK_TOLERANCE_S = 5
const REMEMBERED_MAX = 10_000
const REMEMBERED_MS = 300_000

/** What a verified token says of its holder. */
interface Proof {
  readonly sub: string
  readonly scopes: readonly Scope[]
  readonly untilMs: number
  /** Of the key set that verified it. */
  readonly version: number
}

// The name goes on record and into the log, so nothing in it may be invisible or break a line.
const name = z.string().regex(/^(?!\s)[^\p{C}\p{Zl}\p{Zp}]{1,256}(?<!\s)$/u)

// jose looks at `iat` only where a greatest age is given.
const claimsSchema = (nowMs: number) =>
  z.object({
    sub: name,
    exp: z.number(),
    iat: z
      .number()
      .max(nowMs / 1000 + CLOCK_TOLERANCE_S)
      .optional(),
  })

export const createTokens = (options: TokenOptions): Tokens => {
  const { issuer, scopeClaim, keySet, grants, log, now = Date.now } = options
  const remembered = new Map<string, Proof>()

  const toCaller = ({ sub, scopes }: Proof): Caller => ({
    via: 'jwt',
    issuer,
    name: sub,
    scopes: grants === null ? scopes : grants.scopesOf(issuer, sub),
  })

  const remember = (token: string, proof: Proof): void => setBounded(remembered, digestOf(token), proof, REMEMBERED_MAX)

  const prove = async (token: string): Promise<Proof> => {
    const version = keySet.version()
    const payload = await payloadOf(token, options, now())
    const claims = claimsSchema(now()).parse(payload)
    // A set that came meanwhile decides anew, so that what its keys do not prove is not remembered as proven by it.
    if (version !== keySet.version()) return prove(token)
    const untilMs = Math.min(claims.exp * 1000, now() + REMEMBERED_MS)
    return { sub: claims.sub, scopes: scopesIn(payload, scopeClaim), untilMs, version }
  }

  return {
    recall: (token) => {
      const digest = digestOf(token)
      const proof = remembered.get(digest)
      if (proof === undefined) return undefined
      if (now() < proof.untilMs && proof.version === keySet.version()) return toCaller(proof)
      remembered.delete(digest)
      return undefined
    },

    verify: async (token) => {
      try {
        const proof = await prove(token)
        remember(token, proof)
        return toCaller(proof)
      } catch (error) {
        if (error instanceof GatewayError) throw error
        log.info('a token was refused', { reason: reasonOf(error) })
        return undefined
      }
    },
  }
}

const digestOf = (token: string): string => sha256(token).toString('base64')

const payloadOf = async (token: string, options: TokenOptions, nowMs: number): Promise<JWTPayload> => {
  const { payload } = await jwtVerify(token, options.keySet.keyFor, {
    issuer: options.issuer,
    audience: options.audience,
    algorithms: [...options.algorithms],
    clockTolerance: CLOCK_TOLERANCE_S,
    currentDate: new Date(nowMs),
  })
  return payload
}

/** A text with spaces in between (RFC 8693, section 4.2) or a list of texts; in any other form it grants nothing. */
const scopesIn = (payload: JWTPayload, claim: string): readonly Scope[] => {
  const value = payload[claim] ?? (claim === DEFAULT_SCOPE_CLAIM ? payload.scp : undefined)
  const listed: unknown = typeof value === 'string' ? value.split(' ') : value
  const parsed = z.array(z.string()).safeParse(listed)
  return parsed.success ? SCOPES.filter((scope) => parsed.data.includes(scope)) : []
}

/** What may be told of a refused token: the kind of fault and the claim, never a value. */
const reasonOf = (error: unknown): string => {
  if (error instanceof errors.JWTClaimValidationFailed || error instanceof errors.JWTExpired)
    return `${error.code} ${error.claim}`
  if (error instanceof errors.JOSEError) return error.code
  return error instanceof z.ZodError ? `claim ${String(error.issues[0]?.path[0])}` : 'is not valid'
}
