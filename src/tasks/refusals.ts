import type { Intent } from '../audit/store.ts'

export interface RefusalOptions {
  /** Refusals of one caller that are recorded one by one in a window. */
  readonly max: number
  readonly windowMs: number
  /**
   * Records the further refusals of a window as one audit record, after the window has ended.
   * @param first the intent of the first of them, which the record shows
   */
  readonly record: (first: Intent, count: number) => Promise<void>
}

interface Window {
  /** All refusals, including those that were recorded one by one. */
  count: number
  /** The first refusal that was not recorded on its own. */
  firstFurther: Intent | null
  readonly timer: NodeJS.Timeout
}

/** Callers whose refusals are counted at the same time. Above it the oldest window ends early. */
const CALLERS_MAX = 10_000

/** Limits how many refused cancels of one caller are recorded one by one in a window; further ones are counted. */
export const createRefusals = ({ max, windowMs, record }: RefusalOptions) => {
  // All windows have the same length, so the oldest comes first in insertion order.
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
    /** Counts a refusal. True if it must be recorded on its own; false if it is part of the record of its window. */
    isRecordedAlone: (intent: Intent): boolean => {
      const key = JSON.stringify([intent.via, intent.issuer, intent.caller])
      const window = windows.get(key) ?? begin(key)
      window.count += 1
      if (window.count <= max) return true
      window.firstFurther ??= intent
      return false
    },

    /** Ends all windows now, and resolves when the counted refusals are recorded. */
    flush: async (): Promise<void> => {
      for (const key of [...windows.keys()]) end(key)
      await Promise.all(recording)
    },
  }
}
