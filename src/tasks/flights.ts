import { type Deadline, withDeadline } from '../deadline.ts'

/** Who waits for a flight, and for how long. */
export interface Rider {
  readonly deadline: Deadline
  /** Aborts when the rider goes away. */
  readonly signal: AbortSignal
}

/** What is under way for all who ask for the same at the same moment. */
export interface Flight<T> {
  readonly landing: Promise<T>
  /**
   * Waits until it lands; null where the rider's time is up first. Whoever goes away or runs out of time leaves it, and
   * the last to leave aborts the flight's signal.
   */
  ride(rider: Rider): Promise<T | null>
}

/** What a flight is told while it is under way. */
export interface Cockpit {
  /**
   * Aborted as long as nobody waits: what was not sent by then need not be. Another one after somebody has joined, so it
   * is to be asked for anew at each step.
   */
  readonly signal: AbortSignal
  /** To be called when nobody may join any more, before anything else can happen. */
  close(): void
}

export interface Flights<T> {
  /** The flight of that key that can still be joined, or a new one. */
  board(key: string, takeOff: (cockpit: Cockpit) => Promise<T>): Flight<T>
}

export const createFlights = <T>(): Flights<T> => {
  // Not a Map, for the reason that `createBag` gives.
  const open: Record<string, Flight<T>> = Object.create(null)

  return {
    board: (key, takeOff) => {
      const joined = open[key]
      if (joined !== undefined) return joined
      const flight = createFlight(takeOff, () => {
        if (open[key] === flight) delete open[key]
      })
      open[key] = flight
      return flight
    },
  }
}

/** Given as a reason, since an abort without one makes an error with a stack, each time. */
const LEFT = 'nobody waits for it'

const createFlight = <T>(takeOff: (cockpit: Cockpit) => Promise<T>, close: () => void): Flight<T> => {
  let abandoned = new AbortController()
  let waiting = 0
  const landing = takeOff({
    get signal() {
      return abandoned.signal
    },
    close,
  })

  return {
    landing,
    ride: async ({ signal, deadline }) => {
      let isAboard = true
      const leave = (): void => {
        if (isAboard) waiting -= 1
        isAboard = false
        if (waiting === 0) abandoned.abort(LEFT)
      }
      waiting += 1
      // What was sent before everyone left flies on; for whoever joins it then it may be tried again.
      if (abandoned.signal.aborted) abandoned = new AbortController()
      if (signal.aborted) leave()
      signal.addEventListener('abort', leave, { once: true })
      return await withDeadline(deadline, landing, null).finally(() => {
        signal.removeEventListener('abort', leave)
        leave()
      })
    },
  }
}
