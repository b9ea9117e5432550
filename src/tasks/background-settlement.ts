import { AsyncLocalStorage } from 'node:async_hooks'
import type { Task } from '../alibaba/task-schemas.ts'
import { pause } from '../async.ts'
import type { AuditPage, AuditRecord, AuditTrail, Intent, Outcome, OutcomeEvent } from '../audit/audit-trail.ts'
import type { Log } from '../telemetry/log.ts'
import type { Meter } from '../telemetry/meter.ts'
import { deadlineIn } from '../time.ts'
import type { Lookup } from './lookup.ts'

/** The cancellations whose outcome is unknown. They are looked at now and then until the task tells, or a day is over. */
export interface BackgroundSettlement {
  /** Takes up, once the start is over, what a process before this one left unknown, and later what others left. */
  resume(): void
  /** Takes note of an outcome: of an unknown one, to find out more; of any other, to stop that. */
  track(intent: Pick<Intent, 'taskNo' | 'requestedAtMs'>, outcome: OutcomeEvent): void
  /** How many there are. */
  size(): number
  close(): void
}

export interface BackgroundSettlementOptions {
  readonly trail: Pick<AuditTrail, 'find' | 'list' | 'recordOutcome'>
  readonly lookup: Pick<Lookup, 'find'>
  readonly log: Log
  readonly meter: Meter
  /** The wall clock and a monotonic one, milliseconds. */
  readonly now?: () => number
  readonly monotonic?: () => number
  readonly loadEveryMs?: number
  /** How long to wait for the next look at a cancellation of that age. */
  readonly pauseMs?: ((ageMs: number) => number) | undefined
}

interface UnsettledCancellation {
  readonly taskNo: string
  readonly requestedAtMs: number
  readonly outcome: OutcomeEvent
  /** Since when it is looked at, and when next, on the monotonic clock. */
  readonly addedAtMs: number
  pollAtMs: number
}

const GIVE_UP_MS = 24 * 3_600_000
/** One that gets no answer holds up the others for so long. */
const POLL_TIMEOUT_MS = 10_000
const TICK_MS = 1000
const PAUSE_MIN_MS = 2000
const PAUSE_MAX_MS = 10 * 60_000
const LIST_LIMIT = 200
/** What a replica leaves when it stops is taken up by another before long. */
const LOAD_EVERY_MS = 10 * 60_000

/** Ever more seldom, as what was under way for long is less and less likely to show. */
const backoff = (ageMs: number): number => Math.min(PAUSE_MAX_MS, Math.max(PAUSE_MIN_MS, ageMs / 2))

/** (assumption) What is complete and not cancelled so long after a request's end will not be cancelled by it any more. */
const QUIET_MS = 60_000

/** What the task proves about a request for its cancellation that ended so long ago, or null. */
export const outcomeShownBy = (
  { status, cancelStatus }: Pick<Task, 'status' | 'cancelStatus'>,
  quietMs: number,
): Outcome | null => {
  if (cancelStatus === 'cancelled') return 'cancelled'
  if (cancelStatus === 'cancelling') return 'accepted'
  return status === 'complete' && cancelStatus === 'none' && quietMs >= QUIET_MS ? 'failed' : null
}

export const createBackgroundSettlement = (options: BackgroundSettlementOptions): BackgroundSettlement => {
  const { trail, lookup, log, now = Date.now, pauseMs = backoff, loadEveryMs = LOAD_EVERY_MS } = options
  const { monotonic = () => performance.now(), meter } = options
  const startedAtMs = now()
  const open = new Map<string, UnsettledCancellation>()
  const closing = new AbortController()
  /** Looks belong to no request, and so to no trace of the one that happens to begin them. */
  const withoutTrace = AsyncLocalStorage.snapshot()
  let isRunning = false

  const poll = async (cancellation: UnsettledCancellation): Promise<void> => {
    // Like a caller's read: it must take nothing from cancels, and can come again.
    const limits = { priority: 'read', deadline: deadlineIn(POLL_TIMEOUT_MS) } as const
    const task = await lookup.find(cancellation.taskNo, limits).catch(() => null)
    const ageMs = now() - cancellation.requestedAtMs
    cancellation.pollAtMs = monotonic() + pauseMs(ageMs)
    // A wall clock that jumps ahead must not make it long.
    const quietMs = Math.min(now() - cancellation.outcome.finishedAtMs, monotonic() - cancellation.addedAtMs)
    const found = task === null ? null : outcomeShownBy(task, quietMs)
    if (found !== null) await settle(cancellation, found)
    else if (ageMs >= GIVE_UP_MS) open.delete(cancellation.outcome.cancellationId)
  }

  /** The answer may have come in the meantime, to here or to a replica, and an answer tells more than the task. */
  const settle = async (cancellation: UnsettledCancellation, found: Outcome): Promise<void> => {
    const { taskNo, outcome } = cancellation
    const { cancellationId } = outcome
    const isOpen = (): boolean => open.get(cancellationId) === cancellation && !closing.signal.aborted
    if (!isOpen()) return
    const known = await trail.find(cancellationId, deadlineIn(POLL_TIMEOUT_MS)).catch(() => undefined)
    if (known === undefined || !isOpen()) return
    open.delete(cancellationId)
    if (known?.outcome !== 'unknown') return
    const settled = { ...outcome, outcome: found, requestId: null, finishedAtMs: now(), settledBy: 'query' } as const
    await trail.recordOutcome(settled, deadlineIn(POLL_TIMEOUT_MS))
    log.info('an unknown outcome is settled', { cancellationId, taskNo, outcome: found })
    meter.cancellation(found)
  }

  /** One look after the other, so that upstream is not stormed however many there are. */
  const run = async (): Promise<void> => {
    if (isRunning) return
    isRunning = true
    while (open.size > 0 && !closing.signal.aborted) {
      for (const each of open.values()) if (each.pollAtMs <= monotonic() && !closing.signal.aborted) await poll(each)
      const soonestMs = [...open.values()].reduce(
        (soonest, { pollAtMs }) => Math.min(soonest, pollAtMs),
        monotonic() + TICK_MS,
      )
      await pause(Math.max(0, soonestMs - monotonic()), closing.signal)
    }
    isRunning = false
  }

  const add = (cancellation: UnsettledCancellation): void => {
    const { cancellationId } = cancellation.outcome
    if (!open.has(cancellationId)) open.set(cancellationId, cancellation)
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
   * First what was asked before this process began: of what came later it knows more than the record. Then, now and then,
   * what a replica that is gone by now may have left: whoever is there still has looked at it often enough.
   */
  const loadRegularly = async (): Promise<void> => {
    await pause(pauseMs(0), closing.signal)
    for (let toMs = startedAtMs; !closing.signal.aborted; toMs = now() - loadEveryMs) {
      await load(toMs).catch(() => undefined)
      await pause(loadEveryMs, closing.signal)
    }
  }

  return {
    track: ({ taskNo, requestedAtMs }, outcome) => {
      const addedAtMs = monotonic()
      const pollAtMs = addedAtMs + pauseMs(now() - requestedAtMs)
      if (outcome.outcome === 'unknown') add({ taskNo, requestedAtMs, outcome, addedAtMs, pollAtMs })
      else open.delete(outcome.cancellationId)
    },

    resume: () => void loadRegularly(),
    size: () => open.size,
    close: () => closing.abort(),
  }
}

const unknownOf = ({ id, attempts, upstreamCode, finishedAtMs, requestedAtMs }: AuditRecord): OutcomeEvent => ({
  cancellationId: id,
  outcome: 'unknown',
  attempts,
  requestId: null,
  upstreamCode,
  finishedAtMs: finishedAtMs ?? requestedAtMs,
  settledBy: null,
})
