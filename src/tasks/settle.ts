import { setTimeout as delay } from 'node:timers/promises'
import type { UpstreamResult } from '../alibaba/response.ts'
import type { Task, TaskStatus } from '../alibaba/task-schemas.ts'
import type { Outcome } from '../audit/store.ts'
import type { ErrorCode } from '../errors.ts'
import type { Deadline } from '../time.ts'
import type { Lookup } from './lookup.ts'

/** The result of a call upstream, and the status of the task where the result alone proves nothing. */
export interface CallResult {
  readonly result: UpstreamResult
  /** Null where the task was not read, or its status proved no cancellation. */
  readonly observed: 'cancelling' | 'cancelled' | null
  /** The status of the task in that reading. */
  readonly taskStatus?: TaskStatus | undefined
}

type Status = Pick<Task, 'status' | 'cancelStatus'>

/** Failures whose reason is the state of the task, for example that its cancellation was requested before. */
const REJECTIONS: readonly ErrorCode[] = ['task-not-found', 'task-not-cancellable']

const isRejection = (result: UpstreamResult): boolean => !result.ok && REJECTIONS.includes(result.code)

/** The only outcome that this result proves. */
export const outcomeOf = ({ result, observed }: CallResult): Outcome => {
  if (observed === 'cancelled') return 'cancelled'
  if (result.ok || observed === 'cancelling') return 'accepted'
  if (result.ambiguous) return 'unknown'
  return isRejection(result) ? 'rejected' : 'failed'
}

const POLL_EVERY_MS = 250
/** The last poll of a watch is this long before its end. */
const LAST_POLL_MS = 300
/** The last poll accepts a cached read only if it started at most this long ago. */
const RECENT_MS = 500

export const createSettling = (lookup: Pick<Lookup, 'find'>) => {
  const readStatus = async (taskNo: string, deadline: Deadline, startedAfterMs?: number): Promise<Status | null> => {
    try {
      return await lookup.find(taskNo, { priority: 'follow-up', deadline, startedAfterMs })
    } catch {
      return null
    }
  }

  return {
    /**
     * Reads the task after a failed call that may nevertheless have reached its goal. A task that is cancelled or being
     * cancelled is a success, whichever request caused it (RFC 9110, 9.2.2). Any other status proves nothing.
     */
    settle: async (taskNo: string, result: UpstreamResult, deadline: Deadline): Promise<CallResult> => {
      if (result.ok || !(result.ambiguous || isRejection(result))) return { result, observed: null }
      const endedAtMs = performance.now()
      // A cached read of any age can prove it, because a cancellation that has begun is never undone.
      const proof =
        proofIn(await readStatus(taskNo, deadline)) ?? proofIn(await readStatus(taskNo, deadline, endedAtMs))
      return { result, observed: null, ...proof }
    },

    /**
     * Polls a task until it is cancelled, the time is over, or the signal aborts. Returns the last status that was
     * read; null where the task could not be read. Polls are cheap, because concurrent watches share cached reads.
     */
    watch: async (taskNo: string, until: Deadline, signal: AbortSignal): Promise<Status | null> => {
      const left = new Promise<null>((resolve) => signal.addEventListener('abort', () => resolve(null), { once: true }))
      for (let status: Status | null = null; ; ) {
        if (signal.aborted) return status
        const isLast = until.remainingMs() <= LAST_POLL_MS
        const startedAfterMs = isLast ? performance.now() - RECENT_MS : undefined
        status = (await Promise.race([readStatus(taskNo, until, startedAfterMs), left])) ?? status
        if (status?.cancelStatus === 'cancelled' || isLast) return status
        const pauseMs = Math.min(POLL_EVERY_MS, until.remainingMs() - LAST_POLL_MS)
        await delay(Math.max(0, pauseMs), undefined, { signal }).catch(() => undefined)
      }
    },
  }
}

const proofIn = (read: Status | null): Pick<CallResult, 'observed' | 'taskStatus'> | null =>
  read?.cancelStatus === 'cancelling' || read?.cancelStatus === 'cancelled'
    ? { observed: read.cancelStatus, taskStatus: read.status }
    : null
