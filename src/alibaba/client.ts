import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { byPriority, type Priority } from '../priority.ts'
import type { Log, LogFields } from '../telemetry/log.ts'
import type { Meter } from '../telemetry/meter.ts'
import type { Tracer } from '../telemetry/tracing.ts'
import { type Deadline, withDeadline } from '../time.ts'
import { signAcs3 } from './acs3.ts'
import type { ReportContradiction } from './assumptions.ts'
import { type CircuitChange, createCircuits } from './circuit-breaker.ts'
import { createClock } from './clock.ts'
import type { CredentialProvider } from './credentials.ts'
import { createLimiter, type Rejection } from './limiter.ts'
import { RAM_ACTIONS } from './ram-actions.ts'
import {
  type AttemptResult,
  contradictedBy,
  ENDINGS,
  type FailureClass,
  failed,
  type Operation,
  readResult,
  type UpstreamFailure,
  type UpstreamResult,
} from './response.ts'
import { signRpcV1 } from './rpc-v1.ts'
import type { ApiCall, Credentials, Sign } from './signing.ts'
import { createTransport } from './transport.ts'

/** How important a call is, when it must be over, and the signal that it is not wanted any more. */
export interface CallLimits {
  /** A caller's own reads have `read`; a request that belongs to a cancellation has one of the others. */
  readonly priority: Priority
  readonly deadline: Deadline
  /**
   * A request that was not sent before this signal aborts is never sent. Read anew at each step: after the last waiter
   * left another can join. A method, since V8 keeps the accessors of object literals in the old generation.
   */
  currentSignal?(): AbortSignal | undefined
  /** Fewer attempts than the setting allows; the setting where absent. */
  readonly maxAttempts?: number | undefined
}

export type Upstream = ReturnType<typeof createUpstream>

export interface UpstreamOptions {
  readonly url: URL
  readonly signature: keyof typeof SIGNERS
  readonly timeoutMs: number
  readonly maxAttempts: number
  /** Attempts in flight. */
  readonly maxConcurrency: number
  readonly maxPerSecond?: number | undefined
  readonly credentials: CredentialProvider
  readonly log: Log
  readonly meter: Meter
  readonly tracer: Tracer
  readonly onContradiction?: ReportContradiction | undefined
  readonly ca?: string | undefined
  readonly now?: () => number
  readonly random?: () => number
}

interface Attempt {
  readonly operation: Operation
  readonly action: string
  readonly params: ApiCall['params']
  readonly limits: CallLimits
  readonly credentials: Credentials
  /** From 1. */
  readonly number: number
  readonly earlier: readonly FailureClass[]
}

const SIGNERS = { 'rpc-v1': signRpcV1, acs3: signAcs3 } as const satisfies Record<string, Sign>

/** An attempt with this share of the configured timeout had its full length: earlier attempts use up some of it. */
const FULL_LENGTH_SHARE = 0.9

const BACKOFF_BASE_MS = 100
const BACKOFF_MAX_MS = 2000

/** Full jitter: between nothing and twice the longest wait before the previous attempt. */
export const backoffMs = (attempt: number, random: () => number): number =>
  random() * Math.min(BACKOFF_MAX_MS, BACKOFF_BASE_MS * 2 ** attempt)

export const createUpstream = (options: UpstreamOptions) => {
  const { url, log, maxAttempts, maxConcurrency, random = Math.random } = options
  const { meter, tracer, credentials: provider } = options
  const sign = SIGNERS[options.signature]
  const transport = createTransport({ origin: url, ca: options.ca })
  const clock = createClock(options)
  const circuits = createCircuits({ onChange: logChange(log) })
  const limiter = createLimiter({ circuits, maxConcurrency, maxPerSecond: options.maxPerSecond })
  let isClosed = false

  const isWanted = (limits: CallLimits): boolean =>
    limits.deadline.remainingMs() > 0 && !isClosed && !limits.currentSignal?.()?.aborted

  /** Signs and sends. Each attempt has its own signature, since the upstream rejects a nonce that it has seen. */
  const send = ({ action, params, limits, credentials }: Attempt, timeoutMs: number, revoked?: AbortSignal) => {
    const signed = sign({ action, params, host: url.host }, credentials, { nonce: randomUUID(), at: clock.now() })
    return transport.send(signed, { timeoutMs, signal: limits.currentSignal?.(), revoked })
  }

  /** Sends the attempt, reads its result, and observes both in a metric and a span. */
  const observe = (attempt: Attempt, timeoutMs: number, revoked?: AbortSignal): Promise<AttemptResult> =>
    tracer.span(attempt.action, 'client', async (span) => {
      const { action, number, credentials } = attempt
      const startedAtMs = performance.now()
      const raw = await send(attempt, timeoutMs, revoked)
      const isFullLength = timeoutMs >= options.timeoutMs * FULL_LENGTH_SHARE
      const result = readResult(raw, credentials, { isFullLength, backoffMs: backoffMs(number, random) })
      const ending = result.ok ? 'ok' : result.failure
      meter.attempt({ action, attempt: number, result: ending, durationMs: performance.now() - startedAtMs })
      span.set({ 'gateway.attempt': number })
      if (result.httpStatus !== null) span.set({ 'http.response.status_code': result.httpStatus })
      if (!result.ok) span.fail(ending)
      const contradicted = contradictedBy(result)
      if (contradicted !== null) options.onContradiction?.(contradicted, codesOf(action, result))
      return result
    })

  /** Null if nothing was sent since the attempt is not wanted any more, or if its permit was revoked. */
  const attemptWithPermit = async (attempt: Attempt, revoked?: AbortSignal): Promise<AttemptResult | null> => {
    const { limits } = attempt
    if (!isWanted(limits)) return null
    const timeoutMs = Math.min(options.timeoutMs, limits.deadline.remainingMs())
    const result = await observe(attempt, timeoutMs, revoked)
    if (!result.sent && limits.currentSignal?.()?.aborted) return null
    if (result.reason === 'revoked') return null
    if (result.date !== null) clock.observe(result.date)
    return result
  }

  const attemptOnce = async (attempt: Attempt): Promise<AttemptResult | Rejection | null> => {
    const { limits } = attempt
    for (;;) {
      const { priority, deadline } = limits
      const wait = { priority, forMs: deadline.remainingMs(), signal: limits.currentSignal?.() }
      const result = await limiter.run(wait, ({ revoked }) => attemptWithPermit(attempt, revoked))
      // Another caller may have joined after the last one left, and an attempt with a revoked permit waits again.
      if (result !== null || !isWanted(limits)) return result
    }
  }

  /** A second correction for one operation would not help more than the first, which is undone. */
  const correctClock = (date: Date | null, isRepeated: boolean): number | null => {
    if (isRepeated) clock.forget()
    if (isRepeated || date === null) return null
    clock.correct(date)
    return 0
  }

  const renewCredentials = async ({ credentials, limits }: Attempt): Promise<number | null> =>
    (await withDeadline(limits.deadline, provider.renewAfterRejection(credentials), null)) === null ? null : 0

  /** Milliseconds after which another attempt is safe and can help; null if there must be none. */
  const retryInMs = async (attempt: Attempt, failure: FailureClass, { date, health }: AttemptResult) => {
    const { retry } = ENDINGS[failure]
    const isRepeated = attempt.earlier.some((each) => ENDINGS[each].retry === retry)
    switch (retry) {
      case 'never':
        return null
      case 'once-with-new-clock':
        return correctClock(date, isRepeated)
      case 'once-with-new-credentials':
        return isRepeated ? null : renewCredentials(attempt)
      case 'after':
        return health.kind === 'throttled' ? health.forMs : null
      case 'queries-only':
        return attempt.operation === 'query' ? backoffMs(attempt.number, random) : null
      case 'backoff':
        return backoffMs(attempt.number, random)
    }
  }

  const execute =
    (operation: Operation) =>
    async (action: string, params: ApiCall['params'], limits: CallLimits): Promise<UpstreamResult> => {
      const { deadline } = limits
      const earlier: FailureClass[] = []
      let last = failed(operation, 'no-time')
      for (let number = 1; ; number += 1) {
        const credentials = await withDeadline(deadline, provider.get(), null)
        if (credentials === null) return failed(operation, 'no-credentials', { attempts: number - 1 })
        const attempt = { operation, action, params, limits, credentials, number, earlier }
        const result = await attemptOnce(attempt)
        if (result === null) return last
        if (!('ok' in result)) return afterRejection(operation, result, last)
        if (result.ok) return { ok: true, requestId: result.requestId, body: result.body, attempts: number }
        const { failure, sent, upstreamCode, requestId } = result
        const waitMs = await retryInMs(attempt, failure, result)
        const retryAfterMs = failure === 'throttled' ? waitMs : null
        last = failed(operation, failure, { sent, upstreamCode, requestId, retryAfterMs, attempts: number })
        logFailure(log, action, last, result)
        if (
          waitMs === null ||
          number >= Math.min(maxAttempts, limits.maxAttempts ?? maxAttempts) ||
          waitMs >= deadline.remainingMs()
        )
          return last
        earlier.push(failure)
        await delay(waitMs, undefined, { signal: limits.currentSignal?.() }).catch(() => undefined)
      }
    }

  return {
    /**
     * Changes something. Repeated after a failed connection, after throttling, and once each after a correction of the
     * clock and with new credentials. Never rejects because of the upstream.
     */
    call: execute('call'),
    /** Only reads, so that it is also repeated if its result is unknown. */
    query: execute('query'),
    state: () => ({
      priorities: byPriority((priority) => ({
        inFlight: limiter.inFlight(priority),
        /** Attempts that wait for a permit. */
        waiting: limiter.waiting(priority),
        /** Attempts are held back after failures, until a probe succeeds. */
        isUnhealthy: circuits.isUnhealthy(priority),
      })),
      /** All attempts are held back after throttling, until a probe succeeds. */
      isThrottled: circuits.isThrottled(),
      clockSkewMs: clock.skewMs(),
    }),
    close: (): void => {
      isClosed = true
      transport.close()
    },
  }
}

const codesOf = (action: string, result: AttemptResult): LogFields => ({
  action,
  upstreamCode: result.ok ? null : result.upstreamCode,
  upstreamRequestId: result.requestId,
})

/** The result after the limiter rejected the next attempt: that of the last attempt, if there was one. */
const afterRejection = (operation: Operation, rejection: Rejection, last: UpstreamFailure): UpstreamFailure => {
  const { reason, retryAfterMs } = rejection
  const rejected = failed(operation, reason, { retryAfterMs })
  if (last.attempts === 0) return rejected
  return last.code === rejected.code ? { ...last, retryAfterMs } : last
}

const CHANGES = {
  closed: 'the upstream can be called again',
  unhealthy: 'the upstream is unhealthy; attempts of this priority are held back',
  throttled: 'the upstream throttles; all attempts are held back',
} as const satisfies Record<CircuitChange['state'], string>

const logChange =
  (log: Log) =>
  (change: CircuitChange, priority?: Priority): void => {
    if (change.state === 'closed') log.info(CHANGES.closed, { priority })
    else log.warn(CHANGES[change.state], { priority, waitMs: Math.round(change.forMs) })
  }

const logFailure = (
  log: Log,
  action: string,
  failure: UpstreamFailure,
  { httpStatus, reason }: AttemptResult,
): void => {
  const { code, attempts, upstreamCode, requestId } = failure
  log.warn('an upstream call failed', {
    action,
    attempt: attempts,
    code,
    upstreamCode,
    upstreamRequestId: requestId,
    status: httpStatus,
    reason,
    ramAction: code === 'upstream-forbidden' ? RAM_ACTIONS[action] : undefined,
  })
}
