import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { by, type Deadline } from '../deadline.ts'
import type { ErrorCode } from '../errors.ts'
import type { Log } from '../telemetry/log.ts'
import { signAcs3 } from './acs3.ts'
import type { KeySource } from './credentials.ts'
import { type Budget, createExchange, type Exchanged } from './exchange.ts'
import { CALL_MEANINGS, type FailureClass, QUERY_MEANINGS, type Reading, readAnswer } from './failures.ts'
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
  /** The last attempt went out on a connection: upstream may have had it, and failed to serve it. */
  readonly sent: boolean
  readonly upstreamCode: string | null
  readonly requestId: string | null
  /** How long the caller should wait before trying again, where that is known to help. */
  readonly retryAfterMs: number | null
  readonly attempts: number
}

export type UpstreamResult = UpstreamSuccess | UpstreamFailure

/**
 * When a call must be over, and the signal that nobody waits for it any more: what was not sent by then never is. The
 * signal is asked for anew at each step, since others can begin to wait.
 */
export interface CallLimits {
  readonly deadline: Deadline
  readonly signal?: AbortSignal | undefined
}

/** One operation, in as many attempts as are safe. Never rejects for a reason of upstream's. */
type Operation = (
  action: string,
  params: Readonly<Record<string, string>>,
  limits: CallLimits,
) => Promise<UpstreamResult>

export interface Upstream {
  /**
   * Changes something. Tried again after connecting failed, after throttling, and once each after a correction of the
   * clock and with new keys in place of refused ones.
   */
  readonly call: Operation
  /** Only reads, so that it is tried again too where nobody can tell what became of it. */
  readonly query: Operation
  close(): void
}

export interface UpstreamOptions {
  readonly url: URL
  readonly signature: 'rpc-v1' | 'acs3'
  readonly timeoutMs: number
  readonly maxAttempts: number
  readonly keys: KeySource
  readonly log: Log
  readonly ca?: string | undefined
  readonly now?: () => number
  readonly random?: () => number
}

const SIGNERS = { 'rpc-v1': signRpcV1, acs3: signAcs3 } as const satisfies Record<string, Sign>

const BACKOFF_BASE_MS = 100
const BACKOFF_MAX_MS = 2000

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
  readonly keys: PlainKeys
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

/** Full jitter: any wait from nothing to twice as long as the attempt before could have had. */
export const backoffMs = (attempt: number, random: () => number): number =>
  random() * Math.min(BACKOFF_MAX_MS, BACKOFF_BASE_MS * 2 ** attempt)

export const createUpstream = (options: UpstreamOptions): Upstream => {
  const { url, log, maxAttempts, now = Date.now, random = Math.random } = options
  const sign = SIGNERS[options.signature]
  const exchange = createExchange({ origin: url, ca: options.ca })
  let clockSkewMs = 0
  let isClosed = false

  /** Signed anew each time: upstream refuses a nonce that it has seen. */
  const send = async (action: string, params: Readonly<Record<string, string>>, keys: PlainKeys, budget: Budget) => {
    const stamp = { nonce: randomUUID(), at: new Date(now() + clockSkewMs) }
    const signed = sign({ action, params, host: url.host }, keys, stamp)
    return withoutKeys(await exchange.send(signed, budget), keys)
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

  const renewKeys = async ({ keys, deadline }: Try): Promise<number | null> =>
    (await by(deadline, options.keys.replacing(keys), null)) === null ? null : 0

  /** Milliseconds after which asking again is safe and can help, or null. */
  const retryIn = async (failure: FailureClass, exchanged: Exchanged, tried: Try): Promise<number | null> => {
    const { kind, attempt, corrected, renewed } = tried
    if (failure === 'clock') return corrected ? forgetClock() : correctClock(dateOf(exchanged))
    if (failure === 'unknown-keys') return renewed ? null : renewKeys(tried)
    if (failure === 'throttled') return retryAfterOf(exchanged) + backoffMs(attempt, random)
    return kind.repeatable.includes(failure) ? backoffMs(attempt, random) : null
  }

  const judge = async (exchanged: Exchanged, tried: Try): Promise<UpstreamSuccess | Ending> => {
    const { kind, attempt } = tried
    if (isUnsent(exchanged)) return unreached('upstream-unavailable', backoffMs(attempt, random))
    const reading = readExchanged(exchanged)
    if (reading.ok) return { ...reading, attempts: attempt }
    const { failure, upstreamCode, requestId } = reading
    const retryInMs = await retryIn(failure, exchanged, tried)
    const retryAfterMs = failure === 'throttled' ? retryInMs : null
    return { ...kind.meanings[failure], sent: true, upstreamCode, requestId, retryAfterMs, retryInMs }
  }

  const operate =
    (kind: Kind): Operation =>
    async (action, params, limits) => {
      const { deadline } = limits
      let last = unreached(kind.unsent, null)
      let [corrected, renewed] = [false, false]
      for (let attempt = 1; ; attempt += 1) {
        const keys = await by(deadline, options.keys.current(), null)
        if (keys === null) return failure(unreached('upstream-credentials-rejected', null), attempt - 1)
        const timeoutMs = Math.min(options.timeoutMs, deadline.remainingMs())
        if (timeoutMs <= 0 || isClosed || limits.signal?.aborted) return failure(last, attempt - 1)
        const exchanged = await send(action, params, keys, { timeoutMs, signal: limits.signal })
        // Whoever it was for left before anything was sent: that is no attempt, and nobody's failure.
        if (limits.signal?.aborted && isUnsent(exchanged)) return failure(last, attempt - 1)
        const judged = await judge(exchanged, { kind, attempt, keys, corrected, renewed, deadline })
        if ('ok' in judged) return judged
        report(log, { action, attempt, exchanged, judged })
        last = judged
        // Of what is misconfigured only the clock can be tried again, and of rejected keys only unknown ones.
        corrected ||= judged.code === 'upstream-misconfigured'
        renewed ||= judged.code === 'upstream-credentials-rejected'
        const { retryInMs } = judged
        if (retryInMs === null || attempt >= maxAttempts || retryInMs >= deadline.remainingMs()) {
          return failure(judged, attempt)
        }
        await delay(retryInMs, undefined, { signal: limits.signal }).catch(() => undefined)
      }
    }

  return {
    call: operate(CALL),
    query: operate(QUERY),
    close: () => {
      isClosed = true
      exchange.close()
    },
  }
}

/** Upstream's answers can give back what was signed: no part of the keys gets any further, whatever field it stands in. */
const withoutKeys = (exchanged: Exchanged, { accessKeyId, accessKeySecret, securityToken }: PlainKeys): Exchanged => {
  if (exchanged.kind !== 'answer') return exchanged
  const secrets = [accessKeyId, accessKeySecret, securityToken ?? ''].filter((secret) => secret !== '')
  const body = secrets.reduce((text, secret) => text.replaceAll(secret, '[secret]'), exchanged.answer.body)
  return { ...exchanged, answer: { ...exchanged.answer, body } }
}

const isUnsent = (exchanged: Exchanged): boolean => exchanged.kind === 'lost' && !exchanged.sent

const readExchanged = (exchanged: Exchanged): Reading => {
  if (exchanged.kind === 'answer') return readAnswer(exchanged.answer)
  const unread = { ok: false, upstreamCode: null, requestId: null } as const
  if (exchanged.kind === 'too-large') return { ...unread, failure: 'bad-response' }
  return { ...unread, failure: exchanged.reason === 'ETIMEDOUT' ? 'timeout' : 'ambiguous' }
}

const dateOf = (exchanged: Exchanged): Date | null => (exchanged.kind === 'answer' ? exchanged.date : null)

const retryAfterOf = (exchanged: Exchanged): number =>
  exchanged.kind === 'answer' ? (exchanged.answer.retryAfterMs ?? 0) : 0

const unreached = (code: ErrorCode, retryInMs: number | null): Ending => ({
  code,
  ambiguous: false,
  sent: false,
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
