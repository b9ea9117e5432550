import { setBounded } from '../bounded.ts'

/** For how long what was read of tasks serves those who come after it, unless something else is asked for. */
export const SHARED_MS = 1500

export interface SharedReads<T> {
  /**
   * What was read under this key a moment ago, or is being read, or else is read now. A failure is shared like a value.
   * `begunAfterMs` (of `performance.now`) refuses what began earlier, and waits for its end before it reads anew: so
   * many who each need a later reading than the last get one between them.
   */
  get(key: string, read: () => Promise<T>, begunAfterMs?: number): Promise<T>
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
  readonly begunAtMs: number
  endedAtMs: number | null
}

export const createSharedReads = <T>({
  ttlMs,
  max,
  now = () => performance.now(),
}: SharedReadOptions): SharedReads<T> => {
  const readings = new Map<string, Reading<T>>()

  const begin = (key: string, read: () => Promise<T>): Promise<T> => {
    const reading: Reading<T> = { value: read(), begunAtMs: now(), endedAtMs: null }
    const end = (): void => {
      reading.endedAtMs = now()
    }
    reading.value.then(end, end)
    setBounded(readings, key, reading, max)
    return reading.value
  }

  const get: SharedReads<T>['get'] = async (key, read, begunAfterMs = 0) => {
    const reading = readings.get(key)
    if (reading === undefined) return begin(key, read)
    const { value, begunAtMs, endedAtMs } = reading
    const isLateEnough = begunAtMs >= begunAfterMs
    if (endedAtMs === null && !isLateEnough) {
      await value.catch(() => undefined)
      return get(key, read, begunAfterMs)
    }
    const isFresh = endedAtMs === null || now() - endedAtMs < ttlMs
    return isFresh && isLateEnough ? value : begin(key, read)
  }

  return { get }
}
