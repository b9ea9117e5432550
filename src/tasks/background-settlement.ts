import { AsyncLocalStorage } from 'node:async_hooks'
import type { Task } from '../alibaba/task-schemas.ts'
import { pause } from '../async.ts'
import type { AuditTrail } from '../audit/audit-trail.ts'
import {
  type AuditPage,
  type AuditRecord,
  type Intent,
  type Outcome,
  type OutcomeEvent,
  outcomeEvent,
} from '../audit/store.ts'
import type { Log } from '../telemetry/log.ts'
import type { Meter } from '../telemetry/meter.ts'
import { deadlineIn } from '../time.ts'
import type { Lookup } from './lookup.ts'

export type BackgroundSettlement = ReturnType<typeof createBackgroundSettlement>

export interface BackgroundSettlementOptions {
  readonly trail: Pick<AuditTrail, 'find' | 'list' | 'recordOutcome'>
  readonly lookup: Pick<Lookup, 'find'>
  readonly log: Log
  readonly meter: Meter
  /** The wall clock and a monotonic one, milliseconds. */
  readonly now?: () => number
  readonly monotonic?: () => number
  readonly loadEveryMs?: number
  /** The pause before the next poll of a cancellation of this age. */
  readonly pauseMs?: ((ageMs: number) => number) | undefined
}

interface UnsettledCancellation {
  readonly taskNo: string
  readonly requestedAtMs: number
  readonly outcome: OutcomeEvent
  /** On the monotonic clock, as the time of the next poll is. */
  readonly addedAtMs: number
  pollAtMs: number
}

const GIVE_UP_MS = 24 * 3_600_000
/** Polls are sequential, so one without a response delays the others by this time. */
const POLL_TIMEOUT_MS = 10_000
const TICK_MS = 1000
const PAUSE_MIN_MS = 2000
const PAUSE_MAX_MS = 10 * 60_000
const LIST_LIMIT = 200
/** After this time another replica continues with the unknown outcomes of a replica that stopped. */
const LOAD_EVERY_MS = 10 * 60_000

/** Polls become rarer with age, as an old cancellation is less likely to change the task. */
const backoff = (ageMs: number): number => Math.min(PAUSE_MAX_MS, Math.max(PAUSE_MIN_MS, ageMs / 2))

/**
 * (assumption) completed-task: a task that is complete and not cancelled so long after a request is not cancelled by
 * this request later.
 */
const QUIET_MS = 60_000

/** The outcome that the task proves for a cancellation that ended `quietMs` ago; null where it proves none. */
export const outcomeShownBy = (
  { status, cancelStatus }: Pick<Task, 'status' | 'cancelStatus'>,
  quietMs: number,
): Outcome | null => {
  if (cancelStatus === 'cancelled') return 'cancelled'
  if (cancelStatus === 'cancelling') return 'accepted'
  return status === 'complete' && cancelStatus === 'none' && quietMs >= QUIET_MS ? 'failed' : null
}

/** Polls the tasks of cancellations with unknown outcome until a task proves the outcome, for at most a day. */
export const createBackgroundSettlement = (options: BackgroundSettlementOptions) => {
  const { trail, lookup, log, now = Date.now, pauseMs = backoff, loadEveryMs = LOAD_EVERY_MS } = options
  const { monotonic = () => performance.now(), meter } = options
  const startedAtMs = now()
  const unsettled = new Map<string, UnsettledCancellation>()
  const closing = new AbortController()
  /** Polls belong to no request, so they must not be part of the trace of the request that starts them. */
  const withoutTrace = AsyncLocalStorage.snapshot()
  let isRunning = false

  const poll = async (cancellation: UnsettledCancellation): Promise<void> => {
    // The priority of a caller's read: polls must not delay cancels, and can be repeated.
    const limits = { priority: 'read', deadline: deadlineIn(POLL_TIMEOUT_MS) } as const
    const task = await lookup.find(cancellation.taskNo, limits).catch(() => null)
    const ageMs = now() - cancellation.requestedAtMs
    cancellation.pollAtMs = monotonic() + pauseMs(ageMs)
    // Use the smaller of wall-clock and monotonic age, so that a clock jump cannot fake a quiet period.
    const quietMs = Math.min(now() - cancellation.outcome.finishedAtMs, monotonic() - cancellation.addedAtMs)
    const proved = task === null ? null : outcomeShownBy(task, quietMs)
    if (proved !== null) await settle(cancellation, proved)
    else if (ageMs >= GIVE_UP_MS) unsettled.delete(cancellation.outcome.cancellationId)
  }

  /**
   * Records the outcome, unless a response upstream has arrived in the meantime, here or at another replica. A response
   * is better evidence than the task.
   */
  const settle = async (cancellation: UnsettledCancellation, proved: Outcome): Promise<void> => {
    const { taskNo, outcome } = cancellation
    const { cancellationId, attempts, upstreamCode } = outcome
    const isUnsettled = (): boolean => unsettled.get(cancellationId) === cancellation && !closing.signal.aborted
    if (!isUnsettled()) return
    const record = await trail.find(cancellationId, deadlineIn(POLL_TIMEOUT_MS)).catch(() => undefined)
    if (record === undefined || !isUnsettled()) return
    unsettled.delete(cancellationId)
    if (record?.outcome !== 'unknown') return
    const settled = outcomeEvent(cancellationId, proved, now(), { attempts, upstreamCode, settledBy: 'query' })
    await trail.recordOutcome(settled, deadlineIn(POLL_TIMEOUT_MS))
    log.info('an unknown outcome was resolved', { cancellationId, taskNo, outcome: proved })
    meter.cancellation(proved)
  }

  /** Polls one task after another, so that upstream is not overloaded by many unsettled cancellations. */
  const run = async (): Promise<void> => {
    if (isRunning) return
    isRunning = true
    while (unsettled.size > 0 && !closing.signal.aborted) {
      for (const cancellation of unsettled.values())
        if (cancellation.pollAtMs <= monotonic() && !closing.signal.aborted) await poll(cancellation)
      const soonestMs = [...unsettled.values()].reduce(
        (soonest, { pollAtMs }) => Math.min(soonest, pollAtMs),
        monotonic() + TICK_MS,
      )
      await pause(Math.max(0, soonestMs - monotonic()), closing.signal)
    }
    isRunning = false
  }

  const add = (cancellation: UnsettledCancellation): void => {
    const { cancellationId } = cancellation.outcome
    if (!unsettled.has(cancellationId)) unsettled.set(cancellationId, cancellation)
    void withoutTrace(run)
  }

  const load = async (toMs: number): Promise<void> => {
    for (let before: AuditPage['next'] = null, more = true; more; more = before !== null) {
      const times = { fromMs: now() - GIVE_UP_MS, toMs }
      const filter = { ...times, outcome: 'unknown', limit: LIST_LIMIT, before } as const
      const { records, next }: AuditPage = await trail.list(filter, deadlineIn(POLL_TIMEOUT_MS))
      for (const record of records) {
        add({ ...record, outcome: unknownOf(record), addedAtMs: monotonic(), pollAtMs: monotonic() })
      }
      before = next
    }
  }

  /**
   * First loads cancellations that were requested before this process started; for later ones its own state is better
   * than the audit trail. Then loads, at each interval, those that are older than an interval: a replica that has
   * stopped may have left them. Replicas that still run have polled these tasks often enough.
   */
  const loadRegularly = async (): Promise<void> => {
    await pause(pauseMs(0), closing.signal)
    for (let toMs = startedAtMs; !closing.signal.aborted; toMs = now() - loadEveryMs) {
      await load(toMs).catch(() => undefined)
      await pause(loadEveryMs, closing.signal)
    }
  }

  return {
    /** To be called with each outcome that is recorded: polls the task of an unknown one, and stops after any other. */
    track: ({ taskNo, requestedAtMs }: Pick<Intent, 'taskNo' | 'requestedAtMs'>, outcome: OutcomeEvent): void => {
      const addedAtMs = monotonic()
      const pollAtMs = addedAtMs + pauseMs(now() - requestedAtMs)
      if (outcome.outcome === 'unknown') add({ taskNo, requestedAtMs, outcome, addedAtMs, pollAtMs })
      else unsettled.delete(outcome.cancellationId)
    },

    /** Starts to load unknown outcomes of earlier processes, and later those of replicas that have stopped. */
    resume: (): void => void loadRegularly(),
    /** The number of unsettled cancellations. */
    size: (): number => unsettled.size,
    close: (): void => closing.abort(),
  }
}

const unknownOf = ({ id, attempts, upstreamCode, finishedAtMs, requestedAtMs }: AuditRecord): OutcomeEvent =>
  outcomeEvent(id, 'unknown', finishedAtMs ?? requestedAtMs, { attempts, upstreamCode })
