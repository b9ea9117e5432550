import { randomUUID } from 'node:crypto'
import type { Deadline } from '../deadline.ts'
import type { Meter } from '../telemetry/meter.ts'
import type { Tracer } from '../telemetry/tracing.ts'
import { signAcs3 } from './acs3.ts'
import type { Verdict } from './circuit.ts'
import type { Clock } from './clock.ts'
import type { Budget, Exchange, Exchanged } from './exchange.ts'
import { type Reading, readAnswer } from './failures.ts'
import type { Gate, Refusal } from './gate.ts'
import { signRpcV1 } from './rpc-v1.ts'
import type { PlainKeys, Sign } from './signing.ts'

export type Params = Readonly<Record<string, string>>

/**
 * When a call must be over, and the signal that nobody waits for it any more: what was not sent by then never is. The
 * signal is asked for anew at each step, since others can begin to wait.
 */
export interface CallLimits {
  readonly deadline: Deadline
  readonly signal?: AbortSignal | undefined
}

/** What is asked of upstream, and until when. */
export interface Asked {
  readonly action: string
  readonly params: Params
  readonly limits: CallLimits
}

/** An exchange, how its answer reads (null where nothing was sent), and what it tells of upstream. */
export interface Attempted {
  readonly exchanged: Exchanged
  readonly reading: Reading | null
  readonly verdict: Verdict
}

export interface AttemptOptions {
  readonly url: URL
  readonly signature: keyof typeof SIGNERS
  readonly timeoutMs: number
  readonly exchange: Exchange
  readonly gate: Gate
  readonly clock: Clock
  readonly meter: Meter
  readonly tracer: Tracer
  readonly random: () => number
  /** Whoever waited until then sends nothing any more. */
  readonly isClosed: () => boolean
}

/** One attempt, as soon as it may go out; else what kept it back, or null where nobody waits for it any more. */
export type Attempt = (asked: Asked, keys: PlainKeys, attempt: number) => Promise<Attempted | Refusal | null>

const SIGNERS = { 'rpc-v1': signRpcV1, acs3: signAcs3 } as const satisfies Record<string, Sign>

/** What came before has taken some of a deadline that leaves just enough. */
const NEARLY = 0.9

const BACKOFF_BASE_MS = 100
const BACKOFF_MAX_MS = 2000

/** Full jitter: any wait from nothing to twice as long as the attempt before could have had. */
export const backoffMs = (attempt: number, random: () => number): number =>
  random() * Math.min(BACKOFF_MAX_MS, BACKOFF_BASE_MS * 2 ** attempt)

export const createAttempt = (options: AttemptOptions): Attempt => {
  const { url, exchange, gate, clock, meter, tracer, random, isClosed } = options
  const sign = SIGNERS[options.signature]

  /** Signed anew each time: upstream refuses a nonce that it has seen. */
  const send = async (action: string, params: Params, keys: PlainKeys, budget: Budget): Promise<Exchanged> => {
    const stamp = { nonce: randomUUID(), at: clock.now() }
    const signed = sign({ action, params, host: url.host }, keys, stamp)
    return withoutKeys(await exchange.send(signed, budget), keys)
  }

  /** An exchange and how its answer reads, counted and traced. */
  const observe = (action: string, attempt: number, work: () => Promise<Exchanged>) =>
    tracer.span(action, 'client', async (span) => {
      const startedAtMs = performance.now()
      const exchanged = await work()
      const reading = isUnsent(exchanged) ? null : readExchanged(exchanged)
      const result = resultOf(exchanged, reading)
      meter.attempt({ action, attempt, result, durationMs: performance.now() - startedAtMs })
      span.set({ 'gateway.attempt': attempt })
      if (exchanged.kind === 'answer') span.set({ 'http.response.status_code': exchanged.answer.status })
      if (result !== 'ok') span.fail(result)
      return { exchanged, reading }
    })

  const attemptOnce = async (asked: Asked, keys: PlainKeys, attempt: number): Promise<Attempted | Refusal | null> => {
    const { action, params, limits } = asked
    const pass = await gate.enter({ forMs: limits.deadline.remainingMs(), signal: limits.signal })
    if (pass === null) return limits.signal?.aborted ? null : attemptOnce(asked, keys, attempt)
    if ('reason' in pass) return pass
    let verdict: Verdict = { kind: 'untold' }
    try {
      const timeoutMs = Math.min(options.timeoutMs, limits.deadline.remainingMs())
      if (timeoutMs <= 0 || isClosed() || limits.signal?.aborted) return null
      const budget = { timeoutMs, signal: limits.signal }
      const { exchanged, reading } = await observe(action, attempt, () => send(action, params, keys, budget))
      // Whoever it was for left before anything was sent: that is no attempt, and nobody's failure.
      if (limits.signal?.aborted && isUnsent(exchanged)) return null
      if (exchanged.kind === 'answer' && exchanged.date !== null) clock.observe(exchanged.date)
      verdict = verdictOf(exchanged, reading, {
        backoffMs: backoffMs(attempt, random),
        inFull: timeoutMs >= options.timeoutMs * NEARLY,
      })
      return { exchanged, reading, verdict }
    } finally {
      pass.leave(verdict)
    }
  }

  return attemptOnce
}

/** Upstream's answers can give back what was signed: no part of the keys gets any further, whatever field it stands in. */
const withoutKeys = (exchanged: Exchanged, { accessKeyId, accessKeySecret, securityToken }: PlainKeys): Exchanged => {
  if (exchanged.kind !== 'answer') return exchanged
  const secrets = [accessKeyId, accessKeySecret, securityToken ?? ''].filter((secret) => secret !== '')
  const body = secrets.reduce((text, secret) => text.replaceAll(secret, '[secret]'), exchanged.answer.body)
  return { ...exchanged, answer: { ...exchanged.answer, body } }
}

const isUnsent = (exchanged: Exchanged): boolean => exchanged.kind === 'lost' && !exchanged.sent

const resultOf = (exchanged: Exchanged, reading: Reading | null): string => {
  if (exchanged.kind === 'lost' && exchanged.reason === 'aborted') return 'aborted'
  if (reading === null) return 'unreached'
  return reading.ok ? 'ok' : reading.failure
}

const readExchanged = (exchanged: Exchanged): Reading => {
  if (exchanged.kind === 'answer') return readAnswer(exchanged.answer)
  const unread = { ok: false, upstreamCode: null, requestId: null } as const
  if (exchanged.kind === 'too-large') return { ...unread, failure: 'bad-response' }
  return { ...unread, failure: exchanged.reason === 'ETIMEDOUT' ? 'timeout' : 'ambiguous' }
}

interface Given {
  readonly backoffMs: number
  /** It had about as long as an attempt may take: that nothing came in less tells nothing. */
  readonly inFull: boolean
}

/** What an attempt tells of upstream: refusals are its business, and say that it is well. */
const verdictOf = (exchanged: Exchanged, reading: Reading | null, { backoffMs, inFull }: Given): Verdict => {
  if (exchanged.kind === 'too-large') return { kind: 'well' }
  if (exchanged.kind === 'lost') {
    const isCutShort = exchanged.reason === 'aborted' || (exchanged.reason === 'ETIMEDOUT' && !inFull)
    return { kind: isCutShort ? 'untold' : 'ill' }
  }
  const { answer } = exchanged
  const failure = reading?.ok === false ? reading.failure : null
  if (failure === 'throttled') return { kind: 'throttled', forMs: (answer.retryAfterMs ?? 0) + backoffMs }
  return { kind: failure === 'ambiguous' && answer.status >= 500 ? 'ill' : 'well' }
}
