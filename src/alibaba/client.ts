import { setTimeout as delay } from 'node:timers/promises'
import type { ErrorCode } from '../errors.ts'
import { byPriority, type Priority } from '../priority.ts'
import type { Log } from '../telemetry/log.ts'
import type { Meter } from '../telemetry/meter.ts'
import type { Tracer } from '../telemetry/tracing.ts'
import { type Deadline, withDeadline } from '../time.ts'
import { type Attempted, backoffMs, type CallLimits, createAttempt, type Params } from './attempt.ts'
import { type CircuitChange, createCircuits } from './circuit-breaker.ts'
import { type Clock, createClock } from './clock.ts'
import type { CredentialProvider } from './credentials.ts'
import { createLimiter, type Rejection } from './limiter.ts'
import { RAM_ACTIONS } from './ram-actions.ts'
import { CALL_MEANINGS, type FailureClass, QUERY_MEANINGS } from './response.ts'
import type { Credentials } from './signing.ts'
import { createTransport, type RawResult } from './transport.ts'

export type { CallLimits } from './attempt.ts'

export interface UpstreamSuccess {
  readonly ok: true
  readonly requestId: string
  readonly body: Readonly<Record<string, unknown>>
  readonly attempts: number
}

export interface UpstreamFailure {
  readonly ok: false
  readonly code: ErrorCode
  /** The call may have taken effect: a request was sent, and no answer says that it was refused. */
  readonly ambiguous: boolean
  /** The last attempt went out on a connection: upstream may have had it, and failed to serve it. */
  readonly sent: boolean
  readonly upstreamCode: string | null
  readonly requestId: string | null
  /** How long the caller should wait before trying again, where that is known to help. */
  readonly retryAfterMs: number | null
  readonly attempts: number
}

export type UpstreamResult = UpstreamSuccess | UpstreamFailure

/** One operation, in as many attempts as are safe. Never rejects for a reason of upstream's. */
type Operation = (action: string, params: Params, limits: CallLimits) => Promise<UpstreamResult>

export interface Upstream {
  /**
   * Changes something. Tried again after connecting failed, after throttling, and once each after a correction of the
   * clock and with new keys in place of refused ones.
   */
  readonly call: Operation
  /** Only reads, so that it is tried again too where nobody can tell what became of it. */
  readonly query: Operation
  /** How it stands right now. */
  state(): UpstreamState
  close(): void
}

/** The attempts of one priority. */
export interface PriorityState {
  readonly inFlight: number
  /** Attempts that wait for a permit. */
  readonly waiting: number
  /** Held back after failures, until an attempt shows that this is over. */
  readonly isUnhealthy: boolean
}

export interface UpstreamState {
  readonly priorities: Readonly<Record<Priority, PriorityState>>
  /** All are held back after throttling, until an attempt shows that this is over. */
  readonly isThrottled: boolean
  /** Upstream's clock less ours, by its last answer. */
  readonly clockSkewMs: number | undefined
}

export interface UpstreamOptions {
  readonly url: URL
  readonly signature: 'rpc-v1' | 'acs3'
  readonly timeoutMs: number
  readonly maxAttempts: number
  /** Attempts under way at a time, and in a second. */
  readonly maxConcurrency: number
  readonly maxPerSecond?: number | undefined
  readonly credentials: CredentialProvider
  readonly log: Log
  readonly meter: Meter
  readonly tracer: Tracer
  readonly ca?: string | undefined
  readonly now?: () => number
  readonly random?: () => number
}

/** What differs between calls and queries. */
interface Kind {
  readonly meanings: typeof CALL_MEANINGS | typeof QUERY_MEANINGS
  /** Failures after which it is safe to ask again, besides those that are safe for all. */
  readonly repeatable: readonly FailureClass[]
  /** What it is where the time was up before anything was sent. */
  readonly unsent: ErrorCode
}

const CALL: Kind = { meanings: CALL_MEANINGS, repeatable: [], unsent: 'upstream-unavailable' }
const QUERY: Kind = {
  meanings: QUERY_MEANINGS,
  repeatable: ['ambiguous', 'duplicate', 'timeout'],
  unsent: 'upstream-timeout',
}

/** An attempt of an operation. */
interface Try {
  readonly kind: Kind
  readonly attempt: number
  readonly keys: Credentials
  /** The clock was corrected before it. */
  readonly corrected: boolean
  /** Keys were refused before it, and others found. */
  readonly renewed: boolean
  readonly deadline: Deadline
}

/** How an attempt ended that brought no success. */
interface Ending extends Omit<UpstreamFailure, 'ok' | 'attempts'> {
  /** Milliseconds after which another attempt is safe and sensible; null where there must be none. */
  readonly retryInMs: number | null
}

export const createUpstream = (options: UpstreamOptions): Upstream => {
  const { url, log, maxAttempts, maxConcurrency, random = Math.random } = options
  const transport = createTransport({ origin: url, ca: options.ca })
  const clock = createClock(options)
  const circuits = createCircuits({ onChange: reportChange(log) })
  const limiter = createLimiter({ circuits, maxConcurrency, maxPerSecond: options.maxPerSecond })
  let isClosed = false
  const attemptOnce = createAttempt({
    ...options,
    transport,
    limiter,
    clock,
    random,
    isClosed: () => isClosed,
  })

  const renewKeys = async ({ keys, deadline }: Try): Promise<number | null> =>
    (await withDeadline(deadline, options.credentials.renewAfterRejection(keys), null)) === null ? null : 0

  /** Milliseconds after which asking again is safe and can help, or null. */
  const retryIn = async (failure: FailureClass, { exchanged, health }: Attempted, tried: Try) => {
    const { kind, attempt, corrected, renewed } = tried
    if (failure === 'clock-skew') return adjust(clock, dateOf(exchanged), corrected)
    if (failure === 'credentials-unknown') return renewed ? null : renewKeys(tried)
    if (health.kind === 'throttled') return health.forMs
    return kind.repeatable.includes(failure) ? backoffMs(attempt, random) : null
  }

  const conclude = async (attempted: Attempted, tried: Try): Promise<UpstreamSuccess | Ending> => {
    const { kind, attempt } = tried
    const { reading } = attempted
    if (reading === null) return unreached('upstream-unavailable', backoffMs(attempt, random))
    if (reading.ok) return { ...reading, attempts: attempt }
    const { failure, upstreamCode, requestId } = reading
    const retryInMs = await retryIn(failure, attempted, tried)
    const retryAfterMs = failure === 'throttled' ? retryInMs : null
    return { ...kind.meanings[failure], sent: true, upstreamCode, requestId, retryAfterMs, retryInMs }
  }

  const operate =
    (kind: Kind): Operation =>
    async (action, params, limits) => {
      const { deadline } = limits
      const asked = { action, params, limits }
      let last = unreached(kind.unsent, null)
      let [corrected, renewed] = [false, false]
      for (let attempt = 1; ; attempt += 1) {
        const keys = await withDeadline(deadline, options.credentials.get(), null)
        if (keys === null) return failure(unreached('upstream-credentials-rejected', null), attempt - 1)
        const attempted = await attemptOnce(asked, keys, attempt)
        if (attempted === null) return failure(last, attempt - 1)
        if ('reason' in attempted) return failure(rejectedLocally(attempted, attempt === 1 ? null : last), attempt - 1)
        const ended = await conclude(attempted, { kind, attempt, keys, corrected, renewed, deadline })
        if ('ok' in ended) return ended
        report(log, { action, attempt, exchanged: attempted.exchanged, ended })
        last = ended
        // Of what is misconfigured only the clock can be tried again, and of rejected keys only unknown ones.
        corrected ||= ended.code === 'upstream-misconfigured'
        renewed ||= ended.code === 'upstream-credentials-rejected'
        const { retryInMs } = ended
        if (retryInMs === null || attempt >= maxAttempts || retryInMs >= deadline.remainingMs()) {
          return failure(ended, attempt)
        }
        await delay(retryInMs, undefined, { signal: limits.signal }).catch(() => undefined)
      }
    }

  return {
    call: operate(CALL),
    query: operate(QUERY),
    state: () => ({
      priorities: byPriority((priority) => ({
        inFlight: limiter.inFlight(priority),
        waiting: limiter.waiting(priority),
        isUnhealthy: circuits.isUnhealthy(priority),
      })),
      isThrottled: circuits.isThrottled(),
      clockSkewMs: clock.skewMs(),
    }),
    close: () => {
      isClosed = true
      transport.close()
    },
  }
}

/** Adjusts the time to sign with; milliseconds after which that can help, or null where it was done before. */
const adjust = (clock: Clock, date: Date | null, corrected: boolean): number | null => {
  if (corrected) clock.forget()
  else if (date !== null) clock.correct(date)
  return corrected || date === null ? null : 0
}

const REJECTIONS = {
  unhealthy: 'upstream-unavailable',
  throttled: 'upstream-throttled',
  busy: 'gateway-busy',
} as const satisfies Record<Rejection['reason'], ErrorCode>

/** The result of an operation whose next attempt may not be sent: that of its last one, if there was one. */
const rejectedLocally = ({ reason, retryAfterMs }: Rejection, last: Ending | null): Ending => {
  const kept = { ...unreached(REJECTIONS[reason], null), retryAfterMs }
  if (last === null) return kept
  return last.code === kept.code ? { ...last, retryAfterMs } : last
}

const dateOf = (exchanged: RawResult): Date | null => (exchanged.kind === 'response' ? exchanged.date : null)

const unreached = (code: ErrorCode, retryInMs: number | null): Ending => ({
  code,
  ambiguous: false,
  sent: false,
  upstreamCode: null,
  requestId: null,
  retryAfterMs: null,
  retryInMs,
})

const CHANGES = {
  closed: 'the upstream can be called again',
  unhealthy: 'the upstream is unhealthy; attempts of this priority are held back',
  throttled: 'the upstream throttles; all attempts are held back',
} as const satisfies Record<CircuitChange['state'], string>

const reportChange =
  (log: Log) =>
  (change: CircuitChange, priority?: Priority): void => {
    if (change.state === 'closed') log.info(CHANGES.closed, { priority })
    else log.warn(CHANGES[change.state], { priority, waitMs: Math.round(change.forMs) })
  }

const failure = ({ retryInMs: _, ...ended }: Ending, attempts: number): UpstreamFailure => ({
  ok: false,
  ...ended,
  attempts,
})

interface Report {
  readonly action: string
  readonly attempt: number
  readonly exchanged: RawResult
  readonly ended: Ending
}

const report = (log: Log, { action, attempt, exchanged, ended }: Report): void =>
  log.warn('an upstream call failed', {
    action,
    attempt,
    code: ended.code,
    upstreamCode: ended.upstreamCode,
    upstreamRequestId: ended.requestId,
    status: exchanged.kind === 'response' ? exchanged.response.status : null,
    reason: exchanged.kind === 'no-response' ? exchanged.reason : exchanged.kind,
    ramAction: ended.code === 'upstream-forbidden' ? RAM_ACTIONS[action] : undefined,
  })
