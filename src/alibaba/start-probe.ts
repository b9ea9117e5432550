import { pause } from '../async.ts'
import { describeError, type Log } from '../telemetry/log.ts'
import { type Deadline, deadlineIn, withDeadline } from '../time.ts'
import type { CallLimits, Upstream } from './client.ts'
import type { UpstreamResult } from './response.ts'

export interface StartProbeOptions {
  readonly upstream: Upstream
  readonly log: Log
  /** Time for one query with its attempts. */
  readonly timeoutMs: number
  /** Pause after the query of that number, counted from 0. */
  readonly pauseMs?: ((query: number) => number) | undefined
}

/** How long a request for the readiness waits for the first query. Load balancers wait longer for a response. */
const FIRST_RESULT_MS = 1000
const PAUSE_MIN_MS = 5000
const PAUSE_MAX_MS = 30_000

const backoff = (query: number): number => Math.min(PAUSE_MAX_MS, PAUSE_MIN_MS * 2 ** query)

/** The smallest query that is signed: one row of the list of tasks. Changes nothing. */
export const queryOneTask = (upstream: Pick<Upstream, 'query'>, deadline: Deadline, signal?: AbortSignal) => {
  const limits: CallLimits = { priority: 'read', deadline, currentSignal: () => signal }
  return upstream.query('QueryTaskList', { PageNum: '1', PageSize: '1' }, limits)
}

/**
 * Whether the upstream accepts the credentials of a process that has just started. Queries the upstream in the
 * background until one result shows that it does. Results of calls that callers cause count as well.
 */
export const createStartProbe = ({ upstream, log, timeoutMs, pauseMs = backoff }: StartProbeOptions) => {
  const closing = new AbortController()
  const firstQuery = Promise.withResolvers<void>()
  let firstResultBy = deadlineIn(FIRST_RESULT_MS)
  let verdict: Verdict | null = null

  const isSettled = (): boolean => verdict === 'accepted' || closing.signal.aborted

  const note = (result: UpstreamResult): UpstreamResult => {
    // Another result can have settled it meanwhile.
    if (isSettled()) return result
    const found = verdictOf(result)
    if (found !== null && found !== verdict) logVerdict(log, found, result)
    verdict = found ?? verdict
    return result
  }
  /** Costs calls nothing once the question is settled. */
  const noted = (result: Promise<UpstreamResult>): Promise<UpstreamResult> => (isSettled() ? result : result.then(note))
  const observed: Upstream = {
    ...upstream,
    call: (action, params, limits) => noted(upstream.call(action, params, limits)),
    query: (action, params, limits) => noted(upstream.query(action, params, limits)),
  }

  const run = async (): Promise<void> => {
    for (let query = 0; !isSettled(); query += 1) {
      await queryOneTask(observed, deadlineIn(timeoutMs), closing.signal).catch((error: unknown) => {
        log.error('an upstream call failed with an internal error', describeError(error))
      })
      firstQuery.resolve()
      if (verdict === null && query === 0 && !isSettled())
        log.warn('the upstream has not shown yet whether it accepts the credentials')
      if (!isSettled()) await pause(pauseMs(query), closing.signal)
    }
  }

  return {
    /** Sends as the given upstream does, and lets each result count. */
    upstream: observed,
    start: (): void => {
      firstResultBy = deadlineIn(FIRST_RESULT_MS)
      void run()
    },
    /** Waits up to a second for the first query. Never true again after the upstream has accepted the credentials. */
    isRefused: async (): Promise<boolean> => {
      if (verdict === null) await withDeadline(firstResultBy, firstQuery.promise, undefined)
      return verdict === 'refused'
    },
    close: (): void => closing.abort(),
  }
}

type Verdict = 'accepted' | 'refused'

/**
 * Null where the result does not show it: no response, throttling, or a failure of the upstream. (assumption)
 * credentials-first: the RAM policy and the task are checked after the credentials.
 */
const verdictOf = (result: UpstreamResult): Verdict | null => {
  if (result.ok) return 'accepted'
  const { code, sent } = result
  if (code === 'upstream-credentials-rejected') return sent ? 'refused' : null
  return ACCEPTING.has(code) ? 'accepted' : null
}

const ACCEPTING: ReadonlySet<string> = new Set(['upstream-forbidden', 'task-not-cancellable', 'task-not-found'])

const logVerdict = (log: Log, verdict: Verdict, result: UpstreamResult): void => {
  if (verdict === 'accepted') log.info('the upstream accepts the credentials')
  else {
    log.error('the upstream rejects the credentials; the gateway is not ready', {
      upstreamCode: result.ok ? null : result.upstreamCode,
      upstreamRequestId: result.requestId,
    })
  }
}
