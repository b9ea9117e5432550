import { setTimeout as delay } from 'node:timers/promises'

export type SingleFlight<T> = ReturnType<typeof singleFlight<T>>

/** Work of which at most one run is in flight. */
export const singleFlight = <T>(work: () => Promise<T>) => {
  let inFlight: Promise<T> | undefined
  /** Joins the run in flight, or starts one. */
  const run = (): Promise<T> => {
    inFlight ??= work().finally(() => {
      inFlight = undefined
    })
    return inFlight
  }
  const current = (): Promise<T> | undefined => inFlight
  return { run, current }
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
