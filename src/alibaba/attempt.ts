import { randomUUID } from 'node:crypto'
import type { Priority } from '../priority.ts'
import type { Meter } from '../telemetry/meter.ts'
import type { Tracer } from '../telemetry/tracing.ts'
import type { Deadline } from '../time.ts'
import { signAcs3 } from './acs3.ts'
import type { HealthSignal } from './circuit-breaker.ts'
import type { Clock } from './clock.ts'
import type { Limiter, Measured, Permit, Rejection } from './limiter.ts'
import { type AttemptResult, readResponse } from './response.ts'
import { signRpcV1 } from './rpc-v1.ts'
import { type Credentials, percentEncode, type Sign } from './signing.ts'
import type { RawResult, SendOptions, Transport } from './transport.ts'

export type Params = Readonly<Record<string, string>>

/**
 * How important a call is, when it must be over, and the signal that it is not wanted any more: a request that was
 * not sent by then never is. The signal is read anew at each step, since other callers can join.
 */
export interface CallLimits {
  /** A caller's own reads have `read`; a request that belongs to a cancel has one of the others. */
  readonly priority: Priority
  readonly deadline: Deadline
  readonly signal?: AbortSignal | undefined
}

/** What is asked of upstream, and until when. */
export interface Asked {
  readonly action: string
  readonly params: Params
  readonly limits: CallLimits
}

/** An exchange, how its answer reads (null if nothing was sent), and its health signal. */
export interface Attempted extends Measured {
  readonly exchanged: RawResult
  readonly reading: AttemptResult | null
}

export interface AttemptOptions {
  readonly url: URL
  readonly signature: keyof typeof SIGNERS
  readonly timeoutMs: number
  readonly transport: Transport
  readonly limiter: Limiter
  readonly clock: Clock
  readonly meter: Meter
  readonly tracer: Tracer
  readonly random: () => number
  /** A closed client sends no attempt that was still waiting. */
  readonly isClosed: () => boolean
}

/** One attempt, as soon as it may be sent; else why not, or null if it is not wanted any more. */
export type Attempt = (asked: Asked, keys: Credentials, attempt: number) => Promise<Attempted | Rejection | null>

const SIGNERS = { 'rpc-v1': signRpcV1, acs3: signAcs3 } as const satisfies Record<string, Sign>

/** What came before has taken some of a deadline that leaves just enough. */
const NEARLY = 0.9

const BACKOFF_BASE_MS = 100
const BACKOFF_MAX_MS = 2000

/** Full jitter: any wait from nothing to twice as long as the attempt before could have had. */
export const backoffMs = (attempt: number, random: () => number): number =>
  random() * Math.min(BACKOFF_MAX_MS, BACKOFF_BASE_MS * 2 ** attempt)

export const createAttempt = (options: AttemptOptions): Attempt => {
  const { url, transport, limiter, clock, meter, tracer, random, isClosed } = options
  const sign = SIGNERS[options.signature]

  /** Signed anew each time: upstream refuses a nonce that it has seen. */
  const send = (action: string, params: Params, keys: Credentials, budget: SendOptions): Promise<RawResult> => {
    const stamp = { nonce: randomUUID(), at: clock.now() }
    const signed = sign({ action, params, host: url.host }, keys, stamp)
    return transport.send(signed, budget)
  }

  /** An exchange and how its answer reads, counted and traced. */
  const observe = ({ action, params }: Asked, keys: Credentials, attempt: number, budget: SendOptions) =>
    tracer.span(action, 'client', async (span) => {
      const startedAtMs = performance.now()
      const exchanged = await send(action, params, keys, budget)
      const reading = isUnsent(exchanged) ? null : readExchanged(exchanged, keys)
      const result = resultOf(exchanged, reading)
      meter.attempt({ action, attempt, result, durationMs: performance.now() - startedAtMs })
      span.set({ 'gateway.attempt': attempt })
      if (exchanged.kind === 'response') span.set({ 'http.response.status_code': exchanged.response.status })
      if (result !== 'ok') span.fail(result)
      return { exchanged, reading }
    })

  const isWanted = ({ deadline, signal }: CallLimits): boolean =>
    deadline.remainingMs() > 0 && !isClosed() && !signal?.aborted

  /** Null if nothing was sent, or the permit was revoked. */
  const sendOnce = async (
    asked: Asked,
    keys: Credentials,
    attempt: number,
    { revoked }: Permit,
  ): Promise<Attempted | null> => {
    const { limits } = asked
    if (!isWanted(limits)) return null
    const timeoutMs = Math.min(options.timeoutMs, limits.deadline.remainingMs())
    const budget = { timeoutMs, signal: limits.signal, revoked }
    const { exchanged, reading } = await observe(asked, keys, attempt, budget)
    // Abandoned before anything was sent: that is no attempt, and no failure.
    if (limits.signal?.aborted && isUnsent(exchanged)) return null
    if (isRevoked(exchanged)) return null
    if (exchanged.kind === 'response' && exchanged.date !== null) clock.observe(exchanged.date)
    const health = healthOf(exchanged, reading, {
      backoffMs: backoffMs(attempt, random),
      inFull: timeoutMs >= options.timeoutMs * NEARLY,
    })
    return { exchanged, reading, health }
  }

  const attemptOnce: Attempt = async (asked, keys, attempt) => {
    const { limits } = asked
    for (;;) {
      const { priority, deadline, signal } = limits
      const wait = { priority, forMs: deadline.remainingMs(), signal }
      const result = await limiter.run(wait, (permit) => sendOnce(asked, keys, attempt, permit))
      // Another caller may have joined after the last one left, and a revoked attempt waits again.
      if (result !== null || !isWanted(limits)) return result
    }
  }

  return attemptOnce
}

const HIDDEN = '[secret]'

/**
 * Cuts the keys out of a text, as they are and percent-encoded once or twice: upstream's answers can give back what was
 * sent or signed.
 */
const hiding = ({ accessKeyId, accessKeySecret, securityToken }: Credentials): ((text: string) => string) => {
  const secrets = [accessKeyId, accessKeySecret, securityToken ?? ''].filter((secret) => secret !== '')
  const encoded = secrets.map(percentEncode)
  const spellings = [...new Set([...secrets, ...encoded, ...encoded.map(percentEncode)])]
  return (text) => spellings.reduce((cut, spelling) => cut.replaceAll(spelling, HIDDEN), text)
}

const isUnsent = (exchanged: RawResult): boolean => exchanged.kind === 'no-response' && !exchanged.sent

const isRevoked = (exchanged: RawResult): boolean => exchanged.kind === 'no-response' && exchanged.reason === 'revoked'

const resultOf = (exchanged: RawResult, reading: AttemptResult | null): string => {
  if (exchanged.kind === 'no-response' && (exchanged.reason === 'aborted' || isRevoked(exchanged))) return 'aborted'
  if (reading === null) return 'not-sent'
  return reading.ok ? 'ok' : reading.failure
}

const readExchanged = (exchanged: RawResult, keys: Credentials): AttemptResult => {
  if (exchanged.kind === 'response') return readResponse(exchanged.response, hiding(keys))
  const unread = { ok: false, upstreamCode: null, requestId: null, status: 0 } as const
  if (exchanged.kind === 'too-large') return { ...unread, failure: 'bad-response' }
  return { ...unread, failure: exchanged.reason === 'ETIMEDOUT' ? 'timeout' : 'ambiguous' }
}

interface Given {
  readonly backoffMs: number
  /** It had about as long as an attempt may take: that nothing came in less tells nothing. */
  readonly inFull: boolean
}

/** The health signal of an attempt. A refusal shows that the upstream is healthy. */
const healthOf = (exchanged: RawResult, reading: AttemptResult | null, { backoffMs, inFull }: Given): HealthSignal => {
  if (exchanged.kind === 'too-large') return { kind: 'ok' }
  if (exchanged.kind === 'no-response') {
    const isCutShort = exchanged.reason === 'aborted' || (exchanged.reason === 'ETIMEDOUT' && !inFull)
    return { kind: isCutShort ? 'ignore' : 'failure' }
  }
  const { response: answer } = exchanged
  if (reading === null || reading.ok) return { kind: 'ok' }
  const { failure, status } = reading
  if (failure === 'throttled') return { kind: 'throttled', forMs: (answer.retryAfterMs ?? 0) + backoffMs }
  return { kind: failure === 'ambiguous' && status >= 500 ? 'failure' : 'ok' }
}
