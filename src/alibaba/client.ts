import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { type Deadline, SETTLE_RESERVE_MS } from '../deadline.ts'
import type { ErrorCode } from '../errors.ts'
import type { Log } from '../telemetry/log.ts'
import { signAcs3 } from './acs3.ts'
import { createExchange, type Exchanged } from './exchange.ts'
import { type FailureClass, MEANINGS, readAnswer } from './failures.ts'
import { signRpcV1 } from './rpc-v1.ts'
import type { PlainKeys, Sign } from './signing.ts'

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
  readonly upstreamCode: string | null
  readonly requestId: string | null
  /** How long the caller should wait before trying again, where that is known to help. */
  readonly retryAfterMs: number | null
  readonly attempts: number
}

export type UpstreamResult = UpstreamSuccess | UpstreamFailure

/** When a call must be over, and the signal that nobody waits for it any more: what was not sent by then never is. */
export interface CallLimits {
  readonly deadline: Deadline
  readonly signal: AbortSignal
}

export interface Upstream {
  /**
   * One operation, in as many attempts as are safe: after connecting failed, after throttling, and once after a
   * correction of the clock. Never rejects for a reason of upstream's.
   */
  call(action: string, params: Readonly<Record<string, string>>, limits: CallLimits): Promise<UpstreamResult>
  close(): void
}

export interface UpstreamOptions {
  readonly url: URL
  readonly signature: 'rpc-v1' | 'acs3'
  readonly timeoutMs: number
  readonly maxAttempts: number
  readonly keys: () => PlainKeys
  readonly log: Log
  readonly ca?: string | undefined
  readonly now?: () => number
  readonly random?: () => number
}

const SIGNERS = { 'rpc-v1': signRpcV1, acs3: signAcs3 } as const satisfies Record<string, Sign>

const BACKOFF_BASE_MS = 100
const BACKOFF_MAX_MS = 2000

/** How an attempt ended that brought no success. */
interface Ending extends Omit<UpstreamFailure, 'ok' | 'attempts'> {
  /** Milliseconds after which another attempt is safe and sensible; null where there must be none. */
  readonly retryInMs: number | null
}

/** Full jitter: any wait from nothing to twice as long as the attempt before could have had. */
export const backoffMs = (attempt: number, random: () => number): number =>
  random() * Math.min(BACKOFF_MAX_MS, BACKOFF_BASE_MS * 2 ** attempt)

export const createUpstream = (options: UpstreamOptions): Upstream => {
  const { url, log, maxAttempts, now = Date.now, random = Math.random } = options
  const sign = SIGNERS[options.signature]
  const exchange = createExchange({ origin: url, ca: options.ca })
  let clockSkewMs = 0

  /** Signed anew each time: upstream refuses a nonce that it has seen. */
  const send = (action: string, params: Readonly<Record<string, string>>, limits: CallLimits, timeoutMs: number) => {
    const stamp = { nonce: randomUUID(), at: new Date(now() + clockSkewMs) }
    const signed = sign({ action, params, host: url.host }, options.keys(), stamp)
    return exchange.send(signed, { timeoutMs, signal: limits.signal })
  }

  const correctClock = (date: Date | null): number | null => {
    if (date === null) return null
    clockSkewMs = date.getTime() - now()
    log.error('the clock differs from the upstream; signing with its time', { clockSkewMs })
    return 0
  }

  /** A correction that did not help was none. */
  const forgetClock = (): null => {
    clockSkewMs = 0
    return null
  }

  const judge = (exchanged: Exchanged, attempt: number, corrected: boolean): UpstreamSuccess | Ending => {
    if (exchanged.kind === 'too-large') return ending('bad-response')
    if (exchanged.kind === 'lost') {
      return exchanged.sent ? ending('ambiguous') : unreached(backoffMs(attempt, random))
    }
    const reading = readAnswer(exchanged.answer)
    if (reading.ok) return { ...reading, attempts: attempt }
    const failed = ending(reading.failure, reading.upstreamCode, reading.requestId)
    if (reading.failure === 'clock') {
      return { ...failed, retryInMs: corrected ? forgetClock() : correctClock(exchanged.date) }
    }
    if (reading.failure !== 'throttled') return failed
    const waitMs = (exchanged.answer.retryAfterMs ?? 0) + backoffMs(attempt, random)
    return { ...failed, retryAfterMs: waitMs, retryInMs: waitMs }
  }

  const call: Upstream['call'] = async (action, params, limits) => {
    const budget = limits.deadline.earlier(SETTLE_RESERVE_MS)
    let last = unreached(null)
    let corrected = false
    for (let attempt = 1; ; attempt += 1) {
      const timeoutMs = Math.min(options.timeoutMs, budget.remainingMs())
      if (timeoutMs <= 0 || limits.signal.aborted) return failure(last, attempt - 1)
      const exchanged = await send(action, params, limits, timeoutMs)
      // Whoever it was for left before anything was sent: that is no attempt, and nobody's failure.
      const withdrawn = exchanged.kind === 'lost' && !exchanged.sent && limits.signal.aborted
      if (withdrawn) return failure(last, attempt - 1)
      const judged = judge(exchanged, attempt, corrected)
      if ('ok' in judged) return judged
      report(log, { action, attempt, exchanged, judged })
      last = judged
      // Of what is misconfigured only the clock can be tried again.
      corrected ||= judged.code === 'upstream-misconfigured'
      const { retryInMs } = judged
      if (retryInMs === null || attempt >= maxAttempts || retryInMs >= budget.remainingMs()) {
        return failure(judged, attempt)
      }
      await delay(retryInMs, undefined, { signal: limits.signal }).catch(() => undefined)
    }
  }

  return { call, close: exchange.close }
}

const ending = (
  failure: FailureClass,
  upstreamCode: string | null = null,
  requestId: string | null = null,
): Ending => ({
  ...MEANINGS[failure],
  upstreamCode,
  requestId,
  retryAfterMs: null,
  retryInMs: null,
})

const unreached = (retryInMs: number | null): Ending => ({
  code: 'upstream-unavailable',
  ambiguous: false,
  upstreamCode: null,
  requestId: null,
  retryAfterMs: null,
  retryInMs,
})

const failure = ({ retryInMs: _, ...ended }: Ending, attempts: number): UpstreamFailure => ({
  ok: false,
  ...ended,
  attempts,
})

interface Report {
  readonly action: string
  readonly attempt: number
  readonly exchanged: Exchanged
  readonly judged: Ending
}

const report = (log: Log, { action, attempt, exchanged, judged }: Report): void =>
  log.warn('an upstream call failed', {
    action,
    attempt,
    code: judged.code,
    upstreamCode: judged.upstreamCode,
    upstreamRequestId: judged.requestId,
    status: exchanged.kind === 'answer' ? exchanged.answer.status : null,
    reason: exchanged.kind === 'lost' ? exchanged.reason : exchanged.kind,
  })
