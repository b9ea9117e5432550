import { type Deadline, withDeadline } from '../time.ts'

/** A request that waits for a shared call. */
export interface Waiter {
  readonly deadline: Deadline
  /** Aborts when the caller of this request disconnects. */
  readonly signal: AbortSignal
}

/** Given to the function that makes the call. */
export interface CallControl {
  /**
   * Aborted while the call has no waiter: a request that is not sent by then need not be sent. A request that joins
   * later replaces the signal, so read it anew at each step.
   */
  currentSignal(): AbortSignal
  /** Ends the time in which requests may join. Call it in the same turn in which the call ends; then nothing aborts. */
  close(): void
}

/** One call in flight whose result is shared by all requests that joined it. */
export type SharedCall<T> = ReturnType<typeof createSharedCall<T>>

/** Lets equal requests that are in flight at the same time share one call. */
export const createSharedCalls = <T>() => {
  // Not a Map, for the reason given at `createLinkedList`.
  const joinable: Record<string, SharedCall<T>> = Object.create(null)

  return {
    /** The call with this key that can still be joined, or else a new one. */
    join: (key: string, start: (control: CallControl) => Promise<T>): SharedCall<T> => {
      const existing = joinable[key]
      if (existing !== undefined) return existing
      const call = createSharedCall(start, () => {
        delete joinable[key]
      })
      joinable[key] = call
      return call
    },
  }
}

/** An abort without a reason creates an error with a stack each time, so a constant text is given. */
const NO_WAITERS = 'no request waits for this call'

const createSharedCall = <T>(start: (control: CallControl) => Promise<T>, close: () => void) => {
  let abandoned = new AbortController()
  let waiters = 0
  let isClosed = false
  const result = start({
    currentSignal: () => abandoned.signal,
    close: () => {
      if (isClosed) return
      isClosed = true
      close()
    },
  })

  return {
    /** Also settles after the last waiter has left. */
    result,

    /**
     * Waits for the result; null if the deadline of the waiter passes first. A waiter leaves when its deadline passes
     * or its caller disconnects. When the last waiter leaves, the signal of the call control aborts.
     */
    wait: async ({ signal, deadline }: Waiter): Promise<T | null> => {
      let isWaiting = true
      const leave = (): void => {
        if (isWaiting) waiters -= 1
        isWaiting = false
        if (waiters === 0 && !isClosed) abandoned.abort(NO_WAITERS)
      }
      waiters += 1
      // A call that was already sent continues after its last waiter leaves. If another request joins it, retries are
      // allowed again.
      if (abandoned.signal.aborted) abandoned = new AbortController()
      if (signal.aborted) leave()
      signal.addEventListener('abort', leave)
      return await withDeadline(deadline, result, null).finally(() => {
        signal.removeEventListener('abort', leave)
        leave()
      })
    },
  }
}
