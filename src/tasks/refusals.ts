import type { Intent } from '../audit/store.ts'

/** Limits how many refused cancels of one caller are recorded one by one in a window; the others are counted. */
export interface Refusals {
  /** Counts a refusal. True where it is to be recorded by itself; else it is part of the record of its window. */
  isRecordedAlone(intent: Intent): boolean
  /** Ends every window now, and resolves when the counted refusals are recorded. */
  flush(): Promise<void>
}

export interface RefusalOptions {
  /** For each caller and window. */
  readonly max: number
  readonly windowMs: number
  /**
   * Records the further refusals of a window, once it is over, in one entry.
   * @param first the intent of the first of them, which the entry shows
   */
  readonly record: (first: Intent, count: number) => Promise<void>
}

interface Window {
  /** All refusals, those that were recorded one by one included. */
  count: number
  /** The first that was not recorded by itself. */
  firstFurther: Intent | null
  readonly timer: NodeJS.Timeout
}

/** Callers whose refusals are counted at a time; for one more the oldest window ends early. */
const CALLERS_MAX = 10_000

export const createRefusals = ({ max, windowMs, record }: RefusalOptions): Refusals => {
  // All windows last equally long, so the oldest one comes first.
  const windows = new Map<string, Window>()
  const recording = new Set<Promise<void>>()

  const end = (key: string): void => {
    const window = windows.get(key)
    if (window === undefined) return
    windows.delete(key)
    clearTimeout(window.timer)
    if (window.firstFurther === null) return
    const recorded = record(window.firstFurther, window.count - max).finally(() => recording.delete(recorded))
    recording.add(recorded)
  }

  const begin = (key: string): Window => {
    const [oldest] = windows.keys()
    if (oldest !== undefined && windows.size >= CALLERS_MAX) end(oldest)
    const window = { count: 0, firstFurther: null, timer: setTimeout(end, windowMs, key).unref() }
    windows.set(key, window)
    return window
  }

  return {
    isRecordedAlone: (intent) => {
      const key = JSON.stringify([intent.via, intent.issuer, intent.caller])
      const window = windows.get(key) ?? begin(key)
      window.count += 1
      if (window.count <= max) return true
      window.firstFurther ??= intent
      return false
    },

    flush: async () => {
      for (const key of [...windows.keys()]) end(key)
      await Promise.all(recording)
    },
  }
}
