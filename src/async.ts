import { setTimeout as delay } from 'node:timers/promises'

/** Work of which at most one run is in flight. */
export interface SingleFlight<T> {
  /** Joins the run in flight, or starts one. */
  readonly run: () => Promise<T>
  /** The run in flight. */
  readonly current: () => Promise<T> | undefined
}

export const singleFlight = <T>(work: () => Promise<T>): SingleFlight<T> => {
  let inFlight: Promise<T> | undefined
  const run = (): Promise<T> => {
    inFlight ??= work().finally(() => {
      inFlight = undefined
    })
    return inFlight
  }
  return { run, current: () => inFlight }
}

/** Ends after that time, or at once when the signal aborts; keeps no process alive. */
export const pause = (ms: number, signal: AbortSignal): Promise<void> =>
  delay(ms, undefined, { signal, ref: false }).catch(() => undefined)

/**
 * Does the work until the signal aborts. Each run starts `everyMs` after the end of the one before, so that runs never
 * overlap. The work must not reject.
 */
export const repeat = async (work: () => Promise<unknown>, everyMs: number, signal: AbortSignal): Promise<void> => {
  while (!signal.aborted) {
    await work()
    await pause(everyMs, signal)
  }
}
