import { setTimeout as delay } from 'node:timers/promises'
import type { UpstreamResult } from '../alibaba/response.ts'
import type { CancelStatus } from '../alibaba/task-schemas.ts'
import type { Outcome } from '../audit/store.ts'
import type { ErrorCode } from '../errors.ts'
import type { Deadline } from '../time.ts'
import type { Lookup } from './lookup.ts'

/** What a call upstream came to, and what the task itself showed where the answer was no proof. */
export interface CallResult {
  readonly result: UpstreamResult
  /** Null where the answer says all, or the task showed nothing that proves a cancellation. */
  readonly observed: 'cancelling' | 'cancelled' | null
}

/** Failures for a reason of the task's; perhaps that its cancellation had been asked for before. */
const REJECTIONS: readonly ErrorCode[] = ['task-not-found', 'task-not-cancellable']

const isRejection = (result: UpstreamResult): boolean => !result.ok && REJECTIONS.includes(result.code)

/** The only outcome that this landing proves. */
export const outcomeOf = ({ result, observed: seen }: CallResult): Outcome => {
  if (seen === 'cancelled') return 'cancelled'
  if (result.ok || seen === 'cancelling') return 'accepted'
  if (result.ambiguous) return 'unknown'
  return isRejection(result) ? 'rejected' : 'failed'
}

export interface Settling {
  /**
   * Asks upstream for the task where a failed call may have reached its goal all the same: what is being cancelled or is
   * cancelled is a success, whoever asked for it (RFC 9110, 9.2.2). What is not cancelled proves nothing.
   */
  settle(taskNo: string, result: UpstreamResult, deadline: Deadline): Promise<CallResult>
  /** Watches a task until it is cancelled, the time is up or nobody waits; null where it could not be seen at all. */
  watch(taskNo: string, until: Deadline, signal: AbortSignal): Promise<CancelStatus | null>
}

/** Looks are cheap: most are served by what another watcher's look has read. */
const POLL_EVERY_MS = 250
/** When a watch is nearly over it looks once more, and for that reading others need have begun it only a moment ago. */
const LAST_POLL_MS = 300
const RECENT_MS = 500

export const createSettling = (lookup: Pick<Lookup, 'find'>): Settling => {
  const readStatus = async (
    taskNo: string,
    deadline: Deadline,
    startedAfterMs?: number,
  ): Promise<CancelStatus | null> => {
    try {
      return (await lookup.find(taskNo, { priority: 'follow-up', deadline, startedAfterMs }))?.cancelStatus ?? null
    } catch {
      return null
    }
  }

  return {
    settle: async (taskNo, result, deadline) => {
      if (result.ok || !(result.ambiguous || isRejection(result))) return { result, observed: null }
      const endedAtMs = performance.now()
      // However old a reading is: what is being cancelled does not cease to be.
      const seen = proofIn(await readStatus(taskNo, deadline)) ?? proofIn(await readStatus(taskNo, deadline, endedAtMs))
      return { result, observed: seen }
    },

    watch: async (taskNo, until, signal) => {
      const left = new Promise<null>((resolve) => signal.addEventListener('abort', () => resolve(null), { once: true }))
      for (let seen: CancelStatus | null = null; ; ) {
        if (signal.aborted) return seen
        const isLast = until.remainingMs() <= LAST_POLL_MS
        const startedAfterMs = isLast ? performance.now() - RECENT_MS : undefined
        seen = (await Promise.race([readStatus(taskNo, until, startedAfterMs), left])) ?? seen
        if (seen === 'cancelled' || isLast) return seen
        const pauseMs = Math.min(POLL_EVERY_MS, until.remainingMs() - LAST_POLL_MS)
        await delay(Math.max(0, pauseMs), undefined, { signal }).catch(() => undefined)
      }
    },
  }
}

const proofIn = (seen: CancelStatus | null): CallResult['observed'] =>
  seen === 'cancelling' || seen === 'cancelled' ? seen : null
