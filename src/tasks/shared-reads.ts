import { setBounded } from '../bounded.ts'
import { type Priority, rankOf } from '../priority.ts'

/** For how long what was read of tasks serves those who come after it, unless something else is asked for. */
export const SHARED_MS = 1500

export interface SharedReads<T> {
  /**
   * What was read under this key a moment ago, or is being read, or else is read now. A failure is shared like a value.
   * A less important reading serves only once it has succeeded: its wait and its failure concern no more important one.
   */
  get(key: string, read: () => Promise<T>, need: ReadNeed): Promise<T>
}

/** Which readings serve a caller. */
export interface ReadNeed {
  readonly priority: Priority
  /**
   * (Of `performance.now`.) Refuses a reading that began earlier, and waits for its end before it reads anew: so all
   * that need a later reading than the last share one.
   */
  readonly begunAfterMs?: number | undefined
}

export interface SharedReadOptions {
  /** Counted from a reading's end. */
  readonly ttlMs: number
  /** The oldest readings above this number are forgotten. */
  readonly max: number
  /** Milliseconds on a monotonic clock. */
  readonly now?: () => number
}

interface Reading<T> {
  readonly value: Promise<T>
  readonly rank: number
  readonly begunAtMs: number
  endedAtMs: number | null
  hasSucceeded: boolean
}

export const createSharedReads = <T>({
  ttlMs,
  max,
  now = () => performance.now(),
}: SharedReadOptions): SharedReads<T> => {
  const readings = new Map<string, Reading<T>>()

  const begin = (key: string, read: () => Promise<T>, rank: number): Promise<T> => {
    const reading: Reading<T> = { value: read(), rank, begunAtMs: now(), endedAtMs: null, hasSucceeded: false }
    const end = (hasSucceeded: boolean): void => {
      reading.endedAtMs = now()
      reading.hasSucceeded = hasSucceeded
    }
    reading.value.then(
      () => end(true),
      () => end(false),
    )
    setBounded(readings, key, reading, max)
    return reading.value
  }

  const get: SharedReads<T>['get'] = async (key, read, need) => {
    const { priority, begunAfterMs = 0 } = need
    const rank = rankOf(priority)
    const reading = readings.get(key)
    if (reading === undefined) return begin(key, read, rank)
    const { value, begunAtMs, endedAtMs } = reading
    if (reading.rank > rank && !reading.hasSucceeded) return begin(key, read, rank)
    const isLateEnough = begunAtMs >= begunAfterMs
    if (endedAtMs === null && !isLateEnough) {
      await value.catch(() => undefined)
      return get(key, read, need)
    }
    const isFresh = endedAtMs === null || now() - endedAtMs < ttlMs
    return isFresh && isLateEnough ? value : begin(key, read, rank)
  }

  return { get }
}
