import { singleFlight } from '../async.ts'
import type { Log } from '../telemetry/log.ts'
import { deadlineIn, withDeadline } from '../time.ts'
import {
  type CredentialProvider,
  renewAfterRejection,
  sameCredentials,
  unlessRejected,
  validCredentials,
} from './credentials.ts'
import type { Credentials } from './signing.ts'

/** Credentials, and the moment at which they expire; Infinity if the source does not say. */
export interface ExpiringCredentials {
  readonly credentials: Credentials
  readonly expiresAtMs: number
}

export interface CredentialChainOptions {
  /** Tries the providers of the chain in order, from the first. */
  readonly fetchCredentials: () => Promise<ExpiringCredentials>
  readonly log: Log
  /** The wall clock, milliseconds. */
  readonly now?: (() => number) | undefined
  /** For one pass through the chain, which takes longest on a machine without a metadata service. */
  readonly timeoutMs?: number | undefined
}

const TIMEOUT_MS = 10_000
/** After a read without a result. */
const PAUSE_MS = 2000
/** Credentials are read again after this time at the latest. */
const AGE_MAX_MS = 30 * 60_000

/**
 * Credentials of a provider chain. They are refreshed on use once half of their lifetime has passed, and stay in force
 * until they expire: no timer runs without use, and readiness probes keep an idle gateway ready.
 */
export const createCredentialChain = (options: CredentialChainOptions): CredentialProvider => {
  const { fetchCredentials, log, now = Date.now, timeoutMs = TIMEOUT_MS } = options
  let held: ExpiringCredentials | null = null
  let takenAtMs = Number.NaN
  let renewAtMs = Number.NEGATIVE_INFINITY
  let pausedAtMs = Number.NEGATIVE_INFINITY

  const usable = (): Credentials | null => (held !== null && now() < held.expiresAtMs ? held.credentials : null)
  // A clock that is set back must not make the pause longer.
  const isPaused = (): boolean => Math.abs(now() - pausedAtMs) < PAUSE_MS

  const accept = (found: ExpiringCredentials): void => {
    if (!sameCredentials(found.credentials, held?.credentials ?? null))
      log.info('new credentials are in use', { setting: 'CREDENTIALS' })
    held = found
    takenAtMs = now()
    renewAtMs = now() + Math.min((found.expiresAtMs - now()) / 2, AGE_MAX_MS)
  }

  const fail = (reason: string): void => {
    pausedAtMs = now()
    log.error('the provider chain returned no credentials; known ones are used until they expire', {
      setting: 'CREDENTIALS',
      reason,
    })
  }

  const read = async (): Promise<void> => {
    // The vendor's errors quote the response, credentials included, so they are never read.
    const found = await withDeadline(deadlineIn(timeoutMs), fetchCredentials(), 'took too long').catch(
      () => 'has no credentials',
    )
    if (typeof found === 'string') return fail(found)
    const credentials = validCredentials(found.credentials)
    if (credentials === null) fail('has credentials with invalid characters')
    else if (now() >= found.expiresAtMs) fail('has only expired credentials, by the clock of this machine')
    else accept({ ...found, credentials })
  }

  const reads = singleFlight(read)

  /** Starts a read if one is due. */
  const refreshIfDue = (): Promise<void> | undefined =>
    now() >= renewAtMs && !isPaused() ? reads.run() : reads.current()

  void refreshIfDue()
  return {
    get: async () => {
      const reading = refreshIfDue()
      if (usable() === null) await reading
      return usable()
    },
    renewAfterRejection: async (refused) => {
      // Credentials that the upstream always rejects must not cause a read for every request.
      if (isPaused()) return unlessRejected(refused, usable())
      const others = await renewAfterRejection(refused, reads, usable)
      if (others === null) pausedAtMs = now()
      return others
    },
    isReady: () => {
      void refreshIfDue()
      return usable() !== null
    },
    state: () => {
      if (held === null || usable() === null) return { ageMs: undefined, expireInMs: undefined }
      const expireInMs = Number.isFinite(held.expiresAtMs) ? held.expiresAtMs - now() : undefined
      return { ageMs: now() - takenAtMs, expireInMs }
    },
    faultyFiles: () => ({}),
    close: () => undefined,
  }
}
