import { pause } from '../async.ts'
import type { OpenedStore } from '../audit/store.ts'
import type { Deadline } from '../time.ts'

export type Ends = ReturnType<typeof createEnds>

export interface EndsOptions {
  readonly store: Pick<OpenedStore, 'listFinal' | 'lastFinal'>
  /** Requests that may wait at the same time. */
  readonly max?: number | undefined
  readonly everyMs?: number
}

interface Waiter {
  /** The cancellation whose end is awaited; null: the next end of any. */
  readonly id: string | null
  readonly wake: () => void
}

const MAX_WAITING = 1000
const EVERY_MS = 500
const LIMIT = 200

/**
 * Lets requests wait for outcomes that become final, here or at another replica. One reader of the order of ends serves
 * all of them, and only reads while a request waits.
 */
export const createEnds = ({ store, max = MAX_WAITING, everyMs = EVERY_MS }: EndsOptions) => {
  const waiters = new Set<Waiter>()
  const closing = new AbortController()
  let isRunning = false
  let position: Promise<number> | null = null
  let outcomeRecorded = Promise.withResolvers<void>()

  /** Wakes the requests whose cancellations became final after that number. Returns the number of the last end. */
  const wakeFrom = async (after: number): Promise<number> => {
    for (let from = after; ; ) {
      const { records, next } = await store.listFinal({ after: from, limit: LIMIT })
      const ended = new Set(records.map(({ id }) => id))
      for (const { id, wake } of waiters) if ((id === null && next > from) || (id !== null && ended.has(id))) wake()
      if (next === from) return next
      from = next
    }
  }

  const run = async (): Promise<void> => {
    if (isRunning) return
    isRunning = true
    while (waiters.size > 0 && position !== null && !closing.signal.aborted) {
      const after = await position.catch(() => null)
      // Without the position an end could be missed: all look for themselves.
      if (after === null) for (const { wake } of waiters) wake()
      else position = wakeFrom(after).catch(() => after)
      await position.catch(() => undefined)
      await Promise.race([pause(everyMs, closing.signal), outcomeRecorded.promise])
    }
    position = null
    isRunning = false
  }

  return {
    /**
     * Starts to wait for the end of a cancellation, or (null) for the next end of any; null where too many requests
     * wait. Read the record once more before the wait: the end can have come by then.
     */
    open: async (id: string | null) => {
      if (waiters.size >= max) return null
      const woken = Promise.withResolvers<void>()
      const left = new AbortController()
      const waiter: Waiter = { id, wake: () => woken.resolve() }
      waiters.add(waiter)
      position ??= store.lastFinal()
      await position.catch(() => undefined)
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
    readSoon: (): void => {
      if (waiters.size === 0) return
      outcomeRecorded.resolve()
      outcomeRecorded = Promise.withResolvers()
    },

    waiting: (): number => waiters.size,
    close: (): void => closing.abort(),
  }
}
