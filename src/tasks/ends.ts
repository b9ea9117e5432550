import { pause } from '../async.ts'
import type { AuditRecord, OpenedStore } from '../audit/store.ts'
import { type Deadline, deadlineIn, withDeadline } from '../time.ts'

export type Ends = ReturnType<typeof createEnds>

export interface EndsOptions {
  readonly store: Pick<OpenedStore, 'listFinal' | 'lastFinal'>
  /** Requests that may wait at the same time. */
  readonly max?: number | undefined
  /** The longest and the shortest time between two reads. */
  readonly everyMs?: number
  readonly pauseMs?: number
}

interface Waiter {
  /** Whether that end is one that the request waits for. */
  readonly isAwaited: (record: AuditRecord) => boolean
  readonly wake: () => void
}

const MAX_WAITING = 1000
const EVERY_MS = 500
const PAUSE_MS = 100
const LIMIT = 200
/** A request does not wait for longer until the store tells the last end. */
const READ_MS = 5000

/**
 * Lets requests wait for outcomes that become final, here or at another replica. One reader of the order of ends serves
 * all of them, and only reads while a request waits.
 */
export const createEnds = (options: EndsOptions) => {
  const { store, max = MAX_WAITING, everyMs = EVERY_MS, pauseMs = PAUSE_MS } = options
  const waiters = new Set<Waiter>()
  const closing = new AbortController()
  let isRunning = false
  let position: Promise<number> | null = null
  let outcomeRecorded = Promise.withResolvers<void>()

  /** Wakes the requests that wait for an end after that number. Returns the number of the last end. */
  const wakeFrom = async (after: number): Promise<number> => {
    for (let from = after; ; ) {
      const { records, next } = await store.listFinal({ after: from, limit: LIMIT })
      for (const { isAwaited, wake } of waiters) if (records.some(isAwaited)) wake()
      if (next === from) return next
      from = next
    }
  }

  const run = async (): Promise<void> => {
    if (isRunning) return
    isRunning = true
    while (waiters.size > 0 && position !== null && !closing.signal.aborted) {
      outcomeRecorded = Promise.withResolvers()
      const after = await position.catch(() => null)
      if (after === null) {
        // Without the position an end could be missed: all look for themselves.
        for (const { wake } of waiters) wake()
        position = store.lastFinal()
      } else position = wakeFrom(after).catch(() => after)
      await position.catch(() => undefined)
      // Outcomes that are recorded meanwhile share the next read.
      await pause(pauseMs, closing.signal)
      await Promise.race([pause(everyMs - pauseMs, closing.signal), outcomeRecorded.promise])
    }
    position = null
    isRunning = false
  }

  return {
    /**
     * Starts to wait for an end; null where too many requests wait. Read the record once more before the wait: the end
     * can have come by then.
     */
    open: async (isAwaited: Waiter['isAwaited']) => {
      if (waiters.size >= max || closing.signal.aborted) return null
      const woken = Promise.withResolvers<void>()
      const left = new AbortController()
      const waiter: Waiter = { isAwaited, wake: () => woken.resolve() }
      waiters.add(waiter)
      position ??= store.lastFinal()
      const isKnown = position.catch(() => undefined)
      await withDeadline(deadlineIn(READ_MS), isKnown, undefined)
      void run()
      return {
        /** Resolves with the end, when the time is over, or when the caller leaves. */
        wait: (until: Deadline, signal: AbortSignal): Promise<void> => {
          const over = AbortSignal.any([signal, closing.signal, left.signal])
          return Promise.race([woken.promise, pause(Math.max(0, until.remainingMs()), over)])
        },
        close: (): void => {
          waiters.delete(waiter)
          left.abort()
        },
      }
    },

    /** To be called after an outcome was recorded here. */
    readSoon: (): void => outcomeRecorded.resolve(),

    waiting: (): number => waiters.size,
    close: (): void => closing.abort(),
  }
}
