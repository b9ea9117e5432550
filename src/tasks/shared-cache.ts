import type { ChargeCall } from '../alibaba/task-queries.ts'
import { bytesOf, createCache } from '../collections.ts'
import { type Priority, rankOf } from '../priority.ts'

/** For how long a cached read of tasks is served, unless the options say otherwise. */
export const SHARED_TTL_MS = 1500

/** Reads, and charges each call that it starts by the given function. */
export type Read<T> = (chargeCall: ChargeCall | undefined) => Promise<T>

/** Which reads may serve a request, and how a read that it starts is charged. */
export interface ReadOptions {
  readonly priority: Priority
  /**
   * A read that started earlier (on the clock of `performance.now`) is not served. If such a read is in flight, the
   * request waits until it ends, so that many requests that need a later read share the next one.
   */
  readonly startedAfterMs?: number | undefined
  /** Charges the calls of a read that this request starts; absent where they cost nothing. */
  readonly chargeCall?: ChargeCall | undefined
}

export interface SharedCacheOptions<T> {
  /** Counted from the end of a read. */
  readonly ttlMs: number
  /** Of all cached reads. Reads in flight are not counted, because each belongs to a request. */
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
  /** The read ended because the request that started it could not be charged for the next call. */
  isChargeRefused: boolean
}

interface CachedEntry<T> extends Omit<CacheEntry<T>, 'isChargeRefused'> {
  readonly endedAtMs: number
  readonly hasSucceeded: boolean
  readonly bytes: number
}

/** An error with its stack. */
const FAILURE_BYTES = 2048

/** Shares reads between requests: those in flight, and for a moment those that have ended. */
export const createSharedCache = <T>(options: SharedCacheOptions<T>) => {
  const { ttlMs, maxBytes, sizeOf = bytesOf, now = () => performance.now() } = options
  const inFlight = new Map<string, CacheEntry<T>>()
  const ended = createCache<CachedEntry<T>>({ maxBytes, ttlMs, sizeOf: ({ bytes }) => bytes, now })

  const end = (key: string, entry: CacheEntry<T>, hasSucceeded: boolean, bytes: number): void => {
    // A read of higher priority that started in the meantime replaces this one.
    if (inFlight.get(key) !== entry) return
    inFlight.delete(key)
    const { isChargeRefused, ...rest } = entry
    if (!isChargeRefused) ended.set(key, { ...rest, endedAtMs: now(), hasSucceeded, bytes })
  }

  const start = (key: string, read: Read<T>, { priority, chargeCall }: ReadOptions): Promise<T> => {
    const startedAtMs = now()
    const charge = async (): Promise<void> => {
      await chargeCall?.().catch((error) => {
        entry.isChargeRefused = true
        throw error
      })
    }
    const value = read(chargeCall && charge)
    const entry: CacheEntry<T> = { value, rank: rankOf(priority), startedAtMs, isChargeRefused: false }
    inFlight.set(key, entry)
    value.then(
      (result) => end(key, entry, true, sizeOf(result)),
      () => end(key, entry, false, FAILURE_BYTES),
    )
    return value
  }

  /**
   * Serves a recent read with this key, joins one in flight, or starts one. A failure is shared like a value. A read of
   * lower priority is served only after it has succeeded, so that its delay and its failure affect no request of higher
   * priority. A read that ends because its starter could not be charged for the next call is not a failure: the
   * requests that joined it share a new read, which one of them starts and is charged for.
   */
  const get = async (key: string, read: Read<T>, readOptions: ReadOptions): Promise<T> => {
    const { priority, startedAfterMs = 0 } = readOptions
    const rank = rankOf(priority)
    const pending = inFlight.get(key)
    const cached = ended.get(key)
    if (cached !== undefined && cached.startedAtMs >= startedAfterMs && now() - cached.endedAtMs < ttlMs) {
      // A failure is served until the next read starts, and never to a request of higher priority.
      if (cached.hasSucceeded || (pending === undefined && cached.rank <= rank)) return cached.value
    }
    if (pending === undefined || pending.rank > rank) return start(key, read, readOptions)
    if (pending.startedAtMs < startedAfterMs) {
      await pending.value.catch(() => undefined)
      return get(key, read, readOptions)
    }
    return pending.value.catch((error) => {
      if (pending.isChargeRefused) return get(key, read, readOptions)
      throw error
    })
  }

  return { get }
}
