import { createRemoteJWKSet, customFetch, errors, type JWTVerifyGetKey, jwksCache } from 'jose'
import * as z from 'zod'
import { isSafeUrl } from '../addresses.ts'
import { repeat } from '../async.ts'
import { GatewayError } from '../errors.ts'
import { describeError, type Log } from '../telemetry/log.ts'
import { readBounded } from './bounded-body.ts'
import { type SortedKeys, sortKeys } from './usable-keys.ts'

export interface KeySetOptions {
  readonly issuer: string
  /** Where the keys are; undefined: where the issuer's metadata says. */
  readonly jwksUrl: URL | undefined
  /** The setting that a failure concerns. */
  readonly setting?: string | undefined
  readonly log: Log
  readonly timing?: Partial<KeySetTiming> | undefined
}

export interface KeySetTiming {
  /** One reading of the set, its metadata included. */
  readonly timeoutMs: number
  /** After a reading, how long unknown keys ask for no other. */
  readonly cooldownMs: number
  /** How often the set is read unasked, so that a key that was withdrawn counts no longer. */
  readonly refreshMs: number
}

export interface KeySet {
  /**
   * The key that a token names. @throws identity-provider-unavailable where it is not at hand and can't be had;
   * KeyRefusal where the set has it and it is not usable; errors of jose's where the set has no such key, or several
   */
  readonly keyFor: JWTVerifyGetKey
  /** Resolves once there are keys. @throws identity-provider-unavailable where they can't be had */
  ready(): Promise<void>
  /** How long an unknown key causes no reading, in milliseconds; 0 where it does. */
  pausedMs(): number
  /** Reads the set again, unless it was read a moment ago; whether it changed by that. Never rejects. */
  renew(): Promise<boolean>
  /** Another number after each change of the set. */
  version(): number
  /** Since it was last read, or else since the start, in milliseconds. */
  ageMs(): number
  close(): void
}

const TIMING: KeySetTiming = { timeoutMs: 5000, cooldownMs: 10_000, refreshMs: 300_000 }
const MAX_BYTES = 256 * 1024

/** A token proves nothing because of the keys in the set. The message says in a fixed text why. */
export class KeyRefusal extends Error {
  constructor(fault: string) {
    super(`its key ${fault}`)
  }
}

/** The provider's answer is of no use. The message is a fixed text. */
class KeySetError extends Error {}

/**
 * The issuer's keys. jose joins readings; unknown keys cause one no more often than the pause allows. A set once read
 * serves until the next, however long the provider is away.
 */
export const createKeySet = ({ issuer, jwksUrl, log, timing, ...options }: KeySetOptions): KeySet => {
  const { setting = jwksUrl === undefined ? 'JWT_ISSUER' : 'JWT_JWKS_URL' } = options
  const { timeoutMs, cooldownMs, refreshMs } = { ...TIMING, ...timing }
  const closing = new AbortController()
  const changes = hookKeySetChanges()
  let failedAtMs = Number.NEGATIVE_INFINITY
  let unusable: SortedKeys['unusable'] = new Map()

  const fetchSet = async (signal: AbortSignal): Promise<Response> => {
    // jose's own pause follows successes only.
    if (performance.now() < failedAtMs + cooldownMs) throw new KeySetError('failed a moment ago')
    try {
      const sorted = await readSet(issuer, jwksUrl, AbortSignal.any([signal, closing.signal]))
      unusable = sorted.unusable
      return Response.json({ keys: sorted.usable })
    } catch (error) {
      if (closing.signal.aborted) throw error
      failedAtMs = performance.now()
      const reason =
        error instanceof KeySetError ? error.message : signal.aborted ? 'took too long' : 'cannot be reached'
      log.error('the key set of the issuer could not be fetched; known keys stay in use', {
        setting,
        reason,
        ...(error instanceof KeySetError ? {} : { errorCode: causeOf(error) }),
      })
      throw error
    }
  }

  const remote = createRemoteJWKSet(jwksUrl ?? new URL(issuer), {
    timeoutDuration: timeoutMs,
    // jose would measure the pause on the wall clock, which can be set back.
    cooldownDuration: Number.POSITIVE_INFINITY,
    cacheMaxAge: Number.POSITIVE_INFINITY,
    [jwksCache]: changes.cache,
    [customFetch]: (_url, { signal }) => fetchSet(signal),
  })

  // A failure is in the log.
  const refresh = (): Promise<void> => remote.reload().catch(() => undefined)

  const keyFor: JWTVerifyGetKey = async (header, token) => {
    try {
      return await remote(header, token)
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey) || changes.ageMs() < cooldownMs) throw error
      await remote.reload()
      return await remote(header, token)
    }
  }

  const pausedMs = (): number => {
    const readAtMs = performance.now() - changes.ageMs()
    return Math.max(0, Math.max(readAtMs, failedAtMs) + cooldownMs - performance.now())
  }

  void repeat(refresh, refreshMs, closing.signal)
  return {
    keyFor: async (header, token) => {
      try {
        return await keyFor(header, token)
      } catch (error) {
        const fault = unusable.get(header.kid ?? '')
        if (error instanceof errors.JWKSNoMatchingKey) throw fault === undefined ? error : new KeyRefusal(fault)
        if (error instanceof errors.JWKSMultipleMatchingKeys) throw error
        throw new GatewayError('identity-provider-unavailable')
      }
    },
    ready: async () => {
      if (remote.jwks() !== undefined) return
      await remote.reload().catch(() => {
        throw new GatewayError('identity-provider-unavailable')
      })
    },
    pausedMs,
    renew: async () => {
      if (pausedMs() > 0) return false
      const before = changes.version()
      await remote.reload().catch(() => undefined)
      return changes.version() !== before
    },
    version: changes.version,
    ageMs: changes.ageMs,
    close: () => closing.abort(),
  }
}

/** jose puts each set that it takes into the given cache, in the same moment in which it begins to use it. */
const hookKeySetChanges = () => {
  let version = 0
  let known = ''
  let takenAtMs = performance.now()
  const cache: Record<string, never> = {}
  Object.defineProperty(cache, 'jwks', {
    set: (set: unknown) => {
      const text = JSON.stringify(set)
      if (text !== known) version += 1
      known = text
      takenAtMs = performance.now()
    },
  })
  const ageMs = (): number => performance.now() - takenAtMs
  return { cache, version: () => version, ageMs }
}

/** Providers publish a few keys; each verification looks through all of them. */
const KEYS_MAX = 100
const keySetSchema = z.object({ keys: z.array(z.unknown()) })

/** No address in use is longer, and it is sent on with each request. */
const ADDRESS_MAX = 2048

const metadataSchema = z.object({ issuer: z.string(), jwks_uri: z.string().max(ADDRESS_MAX) })

const readSet = async (issuer: string, jwksUrl: URL | undefined, signal: AbortSignal) => {
  const url = jwksUrl ?? (await findSet(issuer, signal))
  return await keysIn(await readJson(url, signal))
}

const keysIn = async (json: unknown): Promise<SortedKeys> => {
  const parsed = keySetSchema.safeParse(json)
  if (!parsed.success) throw new KeySetError('is no key set')
  if (parsed.data.keys.length > KEYS_MAX) throw new KeySetError('has too many keys')
  const sorted = await sortKeys(parsed.data.keys)
  // As much use as none: the set that is known stays.
  if (sorted.usable.length === 0) throw new KeySetError('has no usable key')
  return sorted
}

/** OpenID Connect Discovery 1.0, sections 4.1 and 4.3: the metadata must name the issuer that it was asked of. */
const findSet = async (issuer: string, signal: AbortSignal): Promise<URL> => {
  const metadataUrl = new URL(`${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`)
  const parsed = metadataSchema.safeParse(await readJson(metadataUrl, signal))
  if (!parsed.success || parsed.data.issuer !== issuer) throw new KeySetError('has no metadata of this issuer')
  const url = URL.parse(parsed.data.jwks_uri)
  const isSafe = url !== null && isSafeUrl(url) && (url.protocol === 'https:' || metadataUrl.protocol === 'http:')
  if (!isSafe) throw new KeySetError('names no safe address of its keys')
  return url
}

const readJson = async (url: URL, signal: AbortSignal): Promise<unknown> => {
  const headers = { accept: 'application/json, application/jwk-set+json' }
  const response = await fetch(url, { headers, redirect: 'manual', signal })
  if (response.status !== 200) {
    await response.body?.cancel()
    throw new KeySetError(`answered ${response.status}`)
  }
  const text = await readBounded(response, MAX_BYTES)
  if (text === null) throw new KeySetError('is too large')
  try {
    return JSON.parse(text)
  } catch {
    throw new KeySetError('is not JSON')
  }
}

/** The cause of a failed fetch holds the reason. */
const causeOf = (error: unknown): string | null => {
  const { errorCode } = describeError(error instanceof Error ? (error.cause ?? error) : error)
  return typeof errorCode === 'string' ? errorCode : null
}
