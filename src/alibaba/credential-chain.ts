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

/** Keys, and the moment from which on they are none; Infinity where nobody says. */
export interface ExpiringCredentials {
  readonly credentials: Credentials
  readonly expiresAtMs: number
}

export interface CredentialChainOptions {
  /** Goes through the chain from its beginning. */
  readonly fetchCredentials: () => Promise<ExpiringCredentials>
  readonly log: Log
  /** The wall clock, milliseconds. */
  readonly now?: (() => number) | undefined
  /** One way through the chain; most of it is spent where there is no metadata service to answer. */
  readonly timeoutMs?: number | undefined
}

const TIMEOUT_MS = 10_000
/** After a reading that brought nothing. */
const PAUSE_MS = 2000
/** Keys are read again after so long at the latest. */
const AGE_MAX_MS = 30 * 60_000

/**
 * Keys of a chain of providers. Whoever uses them in the second half of their life has them read again, and they serve
 * until they expire: nothing runs while nobody asks, and probes keep an idle gateway ready.
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
      log.info('new keys are in force', { setting: 'CREDENTIALS' })
    held = found
    takenAtMs = now()
    renewAtMs = now() + Math.min((found.expiresAtMs - now()) / 2, AGE_MAX_MS)
  }

  const fail = (reason: string): void => {
    pausedAtMs = now()
    log.error('the chain of credentials brings no keys, known ones serve until they expire', {
      setting: 'CREDENTIALS',
      reason,
    })
  }

  const read = async (): Promise<void> => {
    // The vendor's errors quote what was answered, keys included: they are not looked at.
    const found = await withDeadline(deadlineIn(timeoutMs), fetchCredentials(), 'took too long').catch(() => 'has none')
    if (typeof found === 'string') return fail(found)
    const keys = validCredentials(found.credentials)
    if (keys === null) fail('has keys with characters that no key contains')
    else if (now() >= found.expiresAtMs) fail('has expired ones only, by the clock of this machine')
    else accept({ ...found, credentials: keys })
  }

  const reads = singleFlight(read)

  /** Has the keys read again where it is time to. */
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
      // Keys that upstream refuses for good must not have the providers asked by every request.
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
