import { setTimeout as delay } from 'node:timers/promises'
import type { Task } from '../alibaba/task-answers.ts'
import type { AuditPage, AuditRecord, Intent, Outcome, OutcomeEvent, Trail } from '../audit/trail.ts'
import { deadlineIn } from '../deadline.ts'
import type { Log } from '../telemetry/log.ts'
import type { Lookup } from './lookup.ts'

/** The cancellations whose outcome is unknown. They are looked at now and then until the task tells, or a day is over. */
export interface Unsettled {
  /** Takes up, once the start is over, what a process before this one left unknown. */
  resume(): Promise<void>
  /** Takes note of an outcome: of an unknown one, to find out more; of any other, to stop that. */
  note(intent: Pick<Intent, 'taskNo' | 'requestedAtMs'>, outcome: OutcomeEvent): void
  close(): void
}

export interface UnsettledOptions {
  readonly trail: Pick<Trail, 'list' | 'finish'>
  readonly lookup: Pick<Lookup, 'find'>
  readonly log: Log
  readonly now?: () => number
  /** How long to wait for the next look at a cancellation of that age. */
  readonly pauseMs?: ((ageMs: number) => number) | undefined
}

interface Open {
  readonly taskNo: string
  readonly requestedAtMs: number
  readonly outcome: OutcomeEvent
  lookAtMs: number
}

const GIVE_UP_MS = 24 * 3_600_000
/** One that gets no answer holds up the others for so long. */
const LOOK_MS = 10_000
const TICK_MS = 1000
const PAUSE_MIN_MS = 2000
const PAUSE_MAX_MS = 10 * 60_000
const LIST_LIMIT = 200

/** Ever more seldom, as what was under way for long is less and less likely to show. */
const growing = (ageMs: number): number => Math.min(PAUSE_MAX_MS, Math.max(PAUSE_MIN_MS, ageMs / 2))

/** (assumption) What is complete and not cancelled so long after the request will not be cancelled by it any more. */
const QUIET_MS = 60_000

/** What the task proves about a request for its cancellation of that age, or null. */
export const findingOf = (
  { status, cancelStatus }: Pick<Task, 'status' | 'cancelStatus'>,
  ageMs: number,
): Outcome | null => {
  if (cancelStatus === 'cancelled') return 'cancelled'
  if (cancelStatus === 'cancelling') return 'accepted'
  return status === 'complete' && cancelStatus === 'none' && ageMs >= QUIET_MS ? 'failed' : null
}

export const createUnsettled = (options: UnsettledOptions): Unsettled => {
  const { trail, lookup, log, now = Date.now, pauseMs = growing } = options
  const begunAtMs = now()
  const open = new Map<string, Open>()
  const closing = new AbortController()
  let isRunning = false

  const look = async (each: Open): Promise<void> => {
    const task = await lookup.find(each.taskNo, deadlineIn(LOOK_MS)).catch(() => null)
    const ageMs = now() - each.requestedAtMs
    const found = task === null ? null : findingOf(task, ageMs)
    const { cancellationId } = each.outcome
    each.lookAtMs = now() + pauseMs(ageMs)
    // Its answer may have come in the meantime, and an answer tells more than the task.
    if (open.get(cancellationId) !== each || closing.signal.aborted) return
    if (found === null && ageMs < GIVE_UP_MS) return
    open.delete(cancellationId)
    if (found === null) return
    const outcome = {
      ...each.outcome,
      outcome: found,
      requestId: null,
      finishedAtMs: now(),
      settledBy: 'query',
    } as const
    await trail.finish(outcome, deadlineIn(LOOK_MS))
    log.info('an unknown outcome is settled', { cancellationId, taskNo: each.taskNo, outcome: found })
  }

  const pause = (ms: number): Promise<void> =>
    delay(ms, undefined, { signal: closing.signal, ref: false }).catch(() => undefined)

  /** One look after the other, so that upstream is not stormed however many there are. */
  const run = async (): Promise<void> => {
    if (isRunning) return
    isRunning = true
    while (open.size > 0 && !closing.signal.aborted) {
      for (const each of open.values()) if (each.lookAtMs <= now() && !closing.signal.aborted) await look(each)
      const soonestMs = [...open.values()].reduce(
        (soonest, { lookAtMs }) => Math.min(soonest, lookAtMs),
        now() + TICK_MS,
      )
      await pause(Math.max(0, soonestMs - now()))
    }
    isRunning = false
  }

  const take = (each: Open): void => {
    const { cancellationId } = each.outcome
    if (!open.has(cancellationId)) open.set(cancellationId, each)
    void run()
  }

  /** Only what was asked before this process began: of what came later it knows more than the record. */
  const load = async (): Promise<void> => {
    for (let before: AuditPage['next'] = null, more = true; more; more = before !== null) {
      const times = { fromMs: now() - GIVE_UP_MS, toMs: begunAtMs }
      const filter = { ...times, outcome: 'unknown', limit: LIST_LIMIT, before } as const
      const { records, next }: AuditPage = await trail.list(filter, deadlineIn(LOOK_MS))
      for (const record of records) take({ ...record, outcome: unknownOf(record), lookAtMs: now() })
      before = next
    }
  }

  return {
    note: ({ taskNo, requestedAtMs }, outcome) => {
      const lookAtMs = now() + pauseMs(now() - requestedAtMs)
      if (outcome.outcome === 'unknown') take({ taskNo, requestedAtMs, outcome, lookAtMs })
      else open.delete(outcome.cancellationId)
    },

    resume: async () => {
      await pause(pauseMs(0))
      while (!closing.signal.aborted) {
        const isLoaded = await load().then(
          () => true,
          () => false,
        )
        if (isLoaded) return
        await pause(PAUSE_MAX_MS)
      }
    },
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
