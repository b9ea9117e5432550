import { type Deadline, withDeadline } from '../time.ts'

/** Who waits for a flight, and for how long. */
export interface Waiter {
  readonly deadline: Deadline
  /** Aborts when the rider goes away. */
  readonly signal: AbortSignal
}

/** What is under way for all who ask for the same at the same moment. */
export interface SharedCall<T> {
  readonly result: Promise<T>
  /**
   * Waits until it lands; null where the rider's time is up first. Whoever goes away or runs out of time leaves it, and
   * the last to leave aborts the flight's signal.
   */
  wait(rider: Waiter): Promise<T | null>
}

/** What a flight is told while it is under way. */
export interface CallControl {
  /**
   * Aborted as long as nobody waits: what was not sent by then need not be. Another one after somebody has joined, so it
   * is to be asked for anew at each step.
   */
  currentSignal(): AbortSignal
  /** To be called when nobody may join any more, before anything else can happen. */
  close(): void
}

export interface SharedCalls<T> {
  /** The flight of that key that can still be joined, or a new one. */
  join(key: string, takeOff: (cockpit: CallControl) => Promise<T>): SharedCall<T>
}

export const createSharedCalls = <T>(): SharedCalls<T> => {
  // Not a Map, for the reason that `createBag` gives.
  const open: Record<string, SharedCall<T>> = Object.create(null)

  return {
    join: (key, start) => {
      const joined = open[key]
      if (joined !== undefined) return joined
      const call = createSharedCall(start, () => {
        if (open[key] === call) delete open[key]
      })
      open[key] = call
      return call
    },
  }
}

/** Given as a reason, since an abort without one makes an error with a stack, each time. */
const LEFT = 'nobody waits for it'

const createSharedCall = <T>(start: (cockpit: CallControl) => Promise<T>, close: () => void): SharedCall<T> => {
  let abandoned = new AbortController()
  let waiting = 0
  const result = start({ currentSignal: () => abandoned.signal, close })

  return {
    result,
    wait: async ({ signal, deadline }) => {
      let isWaiting = true
      const leave = (): void => {
        if (isWaiting) waiting -= 1
        isWaiting = false
        if (waiting === 0) abandoned.abort(LEFT)
      }
      waiting += 1
      // What was sent before everyone left flies on; for whoever joins it then it may be tried again.
      if (abandoned.signal.aborted) abandoned = new AbortController()
      if (signal.aborted) leave()
      signal.addEventListener('abort', leave, { once: true })
      return await withDeadline(deadline, result, null).finally(() => {
        signal.removeEventListener('abort', leave)
        leave()
      })
    },
  }
}
