import type { Client } from 'openapi-fetch'
import { isProblem, type Problem } from './problem.ts'
import type { paths } from './schema.ts'

/**
 * - `cancelled`: the task is cancelled.
 * - `too-late`: the upstream accepted the cancellation, but the task completed without being cancelled.
 * - `not-cancelled`: the cancellation never took effect. Of several requests, none did.
 * - `accepted`: the upstream accepted the cancellation, and its end is not known yet.
 * - `unknown`: the cancellation may have taken effect.
 */
export type CancelOutcome = 'cancelled' | 'too-late' | 'not-cancelled' | 'accepted' | 'unknown'

export interface CancelResult {
  readonly outcome: CancelOutcome
  /** Of the audit record, for `GET /cancellations/{id}`; null if none is known. */
  readonly cancellationId: string | null
  /** The last problem that the cancel request got; null if it got none. */
  readonly problem: Problem | null
}

export interface CancelAndWaitOptions {
  /** Milliseconds after which the result is returned, whatever is known by then. */
  readonly timeoutMs?: number
}

/**
 * Cancels a task and waits for its end. A cancel request is sent again only after a problem that is `retryable`, and
 * not before its `Retry-After`. After `outcome-unknown` or a lost response none is sent: the audit record tells the
 * outcome. @throws only if nothing was sent, such as the error of a `headers` function
 */
export type CancelAndWait = (taskNo: string, options?: CancelAndWaitOptions) => Promise<CancelResult>

/** The clock and the timer, for tests. */
export interface Timing {
  /** Milliseconds that never go back. */
  readonly now: () => number
  readonly pause: (ms: number) => Promise<void>
}

type Fetch = (request: Request) => Promise<Response>

const TIMEOUT_MS = 60_000
/** A request that waits for longer is more likely to be lost on the way. */
const WAIT_MAX_S = 10
/** For the response to a request that waited. */
const RESPONSE_MS = 2000
/** Between two requests: the first pause, doubled each time up to the last one. */
const PAUSE_MS = 1000
const PAUSE_MAX_MS = 10_000

const REAL_TIME: Timing = {
  now: () => performance.now(),
  pause: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
}

/** What one cancel request showed. `unsent`: the request failed before it was sent. */
type Attempt =
  | { readonly kind: 'ended'; readonly result: CancelResult }
  | { readonly kind: 'retryable'; readonly result: CancelResult; readonly afterMs: number | null }
  | { readonly kind: 'open'; readonly result: CancelResult & { readonly cancellationId: string } }
  | { readonly kind: 'unsent'; readonly error: unknown }

export const createCancelAndWait = (client: Client<paths>, fetch: Fetch, timing: Timing = REAL_TIME): CancelAndWait => {
  const { now, pause } = timing

  const cancel = async (taskNo: string, leftMs: number): Promise<Attempt> => {
    let isSent = false
    let response: Response | null = null
    const observed = async (request: Request): Promise<Response> => {
      isSent = true
      response = await fetch(request)
      return response
    }
    const waitS = waitWithin(leftMs)
    const header = waitS > 0 ? { Prefer: `wait=${waitS}` } : {}
    try {
      const { data, error } = await client.DELETE('/tasks/{taskNo}', {
        params: { path: { taskNo }, header },
        signal: abortAfter(leftMs),
        fetch: observed,
      })
      if (data?.cancelStatus === 'cancelled') return ended('cancelled', data.cancellationId)
      if (data !== undefined) return openOrEnded('accepted', data.cancellationId)
      if (isProblem(error)) return attemptOf(error, response)
    } catch (error) {
      if (!isSent) return { kind: 'unsent', error }
    }
    return openOrEnded('unknown', monitoredIn(response))
  }

  /** Reads the audit record until its outcome is final. `result` is known before. */
  const follow = async (id: string, result: CancelResult, endAtMs: number): Promise<CancelResult> => {
    let known = result
    for (let pauseMs = PAUSE_MS; endAtMs - now() >= 1; ) {
      const beganAtMs = now()
      const reading = await read(id, endAtMs - beganAtMs)
      if (reading.kind === 'refused') return known
      if (reading.kind === 'record') {
        known = { ...known, outcome: outcomeOf(reading.outcome, known.outcome) }
        if (reading.isFinal) return known
      }
      // A gateway that waits makes pauses needless.
      const restMs = beganAtMs + pauseMs - now()
      if (restMs > 0) pauseMs = Math.min(2 * pauseMs, PAUSE_MAX_MS)
      await pause(Math.max(0, Math.min(Math.max(restMs, reading.afterMs ?? 0), endAtMs - now())))
    }
    return known
  }

  const read = async (id: string, leftMs: number): Promise<Reading> => {
    const waitS = waitWithin(leftMs)
    const headers = waitS > 0 ? { Prefer: `wait=${waitS}` } : {}
    try {
      const { data, error, response } = await client.GET('/cancellations/{id}', {
        params: { path: { id } },
        headers,
        signal: abortAfter(leftMs),
      })
      if (data !== undefined) return recordReading(data)
      const isRefused = isProblem(error) && !error.retryable && response.status < 500
      return isRefused ? { kind: 'refused' } : { kind: 'failed', afterMs: retryAfterMs(response) }
    } catch {
      return { kind: 'failed', afterMs: null }
    }
  }

  return async (taskNo, { timeoutMs = TIMEOUT_MS } = {}) => {
    const endAtMs = now() + timeoutMs
    for (let pauseMs = PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, PAUSE_MAX_MS)) {
      const attempt = await cancel(taskNo, Math.max(1, endAtMs - now()))
      if (attempt.kind === 'unsent') throw attempt.error
      if (attempt.kind === 'ended') return attempt.result
      if (attempt.kind === 'open') return follow(attempt.result.cancellationId, attempt.result, endAtMs)
      const afterMs = attempt.afterMs ?? pauseMs
      if (now() + afterMs >= endAtMs) return attempt.result
      await pause(afterMs)
    }
  }
}

const ended = (
  outcome: CancelOutcome,
  cancellationId: string | null = null,
  problem: Problem | null = null,
): Attempt => ({ kind: 'ended', result: { outcome, cancellationId, problem } })

const openOrEnded = (outcome: CancelOutcome, cancellationId: string | null, problem: Problem | null = null): Attempt =>
  cancellationId === null
    ? ended(outcome, null, problem)
    : { kind: 'open', result: { outcome, cancellationId, problem } }

const attemptOf = (problem: Problem, response: Response | null): Attempt => {
  const { cancellationId = null } = problem
  if (problem.outcome === 'unknown') return openOrEnded('unknown', cancellationId ?? monitoredIn(response), problem)
  const isUnsent = problem.outcome === 'not-cancelled' || problem.status < 500
  if (!isUnsent) return ended('unknown', cancellationId, problem)
  const result = { outcome: 'not-cancelled', cancellationId, problem } as const
  return problem.retryable
    ? { kind: 'retryable', result, afterMs: response === null ? null : retryAfterMs(response) }
    : { kind: 'ended', result }
}

type Reading =
  | { readonly kind: 'record'; readonly outcome: string; readonly isFinal: boolean; readonly afterMs: null }
  /** The record cannot be read, now or later. */
  | { readonly kind: 'refused' }
  | { readonly kind: 'failed'; readonly afterMs: number | null }

/** Outcomes after which nothing changes. A gateway that follows cancellations states it as `isFinal`. */
const FINAL: readonly string[] = ['refused', 'rejected', 'failed', 'cancelled', 'too-late']

const recordReading = ({ outcome, isFinal }: { readonly outcome: string; readonly isFinal?: boolean }): Reading => ({
  kind: 'record',
  outcome,
  isFinal: isFinal ?? FINAL.includes(outcome),
  afterMs: null,
})

/** `pending`, `unknown` and an outcome that this client does not know add nothing to `known`. */
const outcomeOf = (recorded: string, known: CancelOutcome): CancelOutcome => {
  switch (recorded) {
    case 'cancelled':
    case 'too-late':
    case 'accepted':
      return recorded
    case 'refused':
    case 'rejected':
    case 'failed':
      return 'not-cancelled'
    default:
      return known
  }
}

/** Timers take no longer time, and whole milliseconds only. */
const abortAfter = (ms: number): AbortSignal => AbortSignal.timeout(Math.min(Math.ceil(ms), 2 ** 31 - 1))

/** Whole seconds that leave time for the response; 0 if there are none. */
const waitWithin = (leftMs: number): number =>
  Math.max(0, Math.min(WAIT_MAX_S, Math.floor((leftMs - RESPONSE_MS) / 1000)))

/** RFC 9110, section 10.2.3: seconds or a date. Null if the header is absent or neither. */
const retryAfterMs = ({ headers }: Response): number | null => {
  const text = headers.get('Retry-After') ?? ''
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000
  const atMs = Date.parse(text)
  return Number.isNaN(atMs) ? null : Math.max(0, atMs - Date.now())
}

/** The id in `Link: </cancellations/…>; rel="monitor"`, of a response whose body was lost. */
const monitoredIn = (response: Response | null): string | null =>
  /<[^>]*\/cancellations\/([\w-]+)>\s*;\s*rel="?monitor"?/.exec(response?.headers.get('Link') ?? '')?.[1] ?? null
