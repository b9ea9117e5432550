import type { ChargeCall } from '../alibaba/task-queries.ts'
import { bytesOf, createCache } from '../collections.ts'
import { type Priority, rankOf } from '../priority.ts'

/** For how long what was read of tasks serves those who come after it, unless something else is asked for. */
export const SHARED_TTL_MS = 1500

export interface SharedCache<T> {
  /**
   * What was read under this key a moment ago, or is being read, or else is read now. A failure is shared like a value.
   * A less important reading serves only once it has succeeded: its wait and its failure concern no more important one.
   * A reading that ends because its starter cannot be charged for the next call is no failure: the requests that joined
   * it start a new one, once for all of them, at the cost of the one that starts it.
   */
  get(key: string, read: Read<T>, need: ReadOptions): Promise<T>
}

/** Reads, and charges each call that it starts by the given function. */
export type Read<T> = (chargeCall: ChargeCall | undefined) => Promise<T>

/** Which readings serve a request, and the charge for a reading that it starts. */
export interface ReadOptions {
  readonly priority: Priority
  /**
   * A reading that began earlier (on the clock of `performance.now`) does not serve. If one is in flight, the request
   * waits for its end, so that many requests that need a later reading share the next.
   */
  readonly startedAfterMs?: number | undefined
  /** Charges the calls of a reading that this request starts; absent where they cost nothing. */
  readonly chargeCall?: ChargeCall | undefined
}

export interface SharedCacheOptions<T> {
  /** Counted from a reading's end. */
  readonly ttlMs: number
  /** Of all cached readings. Those in flight are not counted: each belongs to a request. */
  readonly maxBytes: number
  /** Bytes of a value; `bytesOf` where absent. */
  readonly sizeOf?: ((value: T) => number) | undefined
  /** Milliseconds on a monotonic clock. */
  readonly now?: () => number
}

interface CacheEntry<T> {
  readonly value: Promise<T>
  readonly rank: number
  readonly startedAtMs: number
  /** It ended because its starter could not be charged for the next call. */
  isUnpaid: boolean
}

interface CachedEntry<T> extends Omit<CacheEntry<T>, 'isUnpaid'> {
  readonly endedAtMs: number
  readonly hasSucceeded: boolean
  readonly bytes: number
}

/** An error with its stack. */
const FAILURE_BYTES = 2048

export const createSharedCache = <T>(options: SharedCacheOptions<T>): SharedCache<T> => {
  const { ttlMs, maxBytes, sizeOf = bytesOf, now = () => performance.now() } = options
  const inFlight = new Map<string, CacheEntry<T>>()
  const cached = createCache<CachedEntry<T>>({ maxBytes, ttlMs, sizeOf: ({ bytes }) => bytes, now })

  const end = (key: string, reading: CacheEntry<T>, hasSucceeded: boolean, bytes: number): void => {
    // A more important reading that began in the meantime serves instead of this one.
    if (inFlight.get(key) !== reading) return
    inFlight.delete(key)
    const { isUnpaid, ...ended } = reading
    if (!isUnpaid) cached.set(key, { ...ended, endedAtMs: now(), hasSucceeded, bytes })
  }

  const start = (key: string, read: Read<T>, { priority, chargeCall }: ReadOptions): Promise<T> => {
    const startedAtMs = now()
    const charge = async (): Promise<void> => {
      await chargeCall?.().catch((error) => {
        reading.isUnpaid = true
        throw error
      })
    }
    const value = read(chargeCall && charge)
    const reading: CacheEntry<T> = { value, rank: rankOf(priority), startedAtMs, isUnpaid: false }
    inFlight.set(key, reading)
    value.then(
      (read) => end(key, reading, true, sizeOf(read)),
      () => end(key, reading, false, FAILURE_BYTES),
    )
    return value
  }

  const get: SharedCache<T>['get'] = async (key, read, need) => {
    const { priority, startedAfterMs = 0 } = need
    const rank = rankOf(priority)
    const joined = inFlight.get(key)
    const known = cached.get(key)
    if (known !== undefined && known.startedAtMs >= startedAfterMs && now() - known.endedAtMs < ttlMs) {
      // A failure serves until the next reading begins, and no more important request.
      if (known.hasSucceeded || (joined === undefined && known.rank <= rank)) return known.value
    }
    if (joined === undefined || joined.rank > rank) return start(key, read, need)
    if (joined.startedAtMs < startedAfterMs) {
      await joined.value.catch(() => undefined)
      return get(key, read, need)
    }
    return joined.value.catch((error) => {
      if (joined.isUnpaid) return get(key, read, need)
      throw error
    })
  }

  return { get }
}
