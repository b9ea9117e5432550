import type { ChargeCall } from '../alibaba/task-queries.ts'
import { bytesOf, createCache } from '../bounded.ts'
import { type Priority, rankOf } from '../priority.ts'

/** For how long what was read of tasks serves those who come after it, unless something else is asked for. */
export const SHARED_MS = 1500

export interface SharedReads<T> {
  /**
   * What was read under this key a moment ago, or is being read, or else is read now. A failure is shared like a value.
   * A less important reading serves only once it has succeeded: its wait and its failure concern no more important one.
   * A reading that ends because its starter cannot be charged for the next call is no failure: the requests that joined
   * it start a new one, once for all of them, at the cost of the one that starts it.
   */
  get(key: string, read: Read<T>, need: ReadNeed): Promise<T>
}

/** Reads, and charges each call that it starts by the given function. */
export type Read<T> = (chargeCall: ChargeCall | undefined) => Promise<T>

/** Which readings serve a request, and the charge for a reading that it starts. */
export interface ReadNeed {
  readonly priority: Priority
  /**
   * A reading that began earlier (on the clock of `performance.now`) does not serve. If one is in flight, the request
   * waits for its end, so that many requests that need a later reading share the next.
   */
  readonly begunAfterMs?: number | undefined
  /** Charges the calls of a reading that this request starts; absent where they cost nothing. */
  readonly chargeCall?: ChargeCall | undefined
}

export interface SharedReadOptions<T> {
  /** Counted from a reading's end. */
  readonly ttlMs: number
  /** Of all cached readings. Those in flight are not counted: each belongs to a request. */
  readonly maxBytes: number
  /** Bytes of a value; `bytesOf` where absent. */
  readonly sizeOf?: ((value: T) => number) | undefined
  /** Milliseconds on a monotonic clock. */
  readonly now?: () => number
}

interface Reading<T> {
  readonly value: Promise<T>
  readonly rank: number
  readonly begunAtMs: number
  /** It ended because its starter could not be charged for the next call. */
  isUnpaid: boolean
}

interface Remembered<T> extends Omit<Reading<T>, 'isUnpaid'> {
  readonly endedAtMs: number
  readonly hasSucceeded: boolean
  readonly bytes: number
}

/** An error with its stack. */
const FAILURE_BYTES = 2048

export const createSharedReads = <T>(options: SharedReadOptions<T>): SharedReads<T> => {
  const { ttlMs, maxBytes, sizeOf = bytesOf, now = () => performance.now() } = options
  const underWay = new Map<string, Reading<T>>()
  const remembered = createCache<Remembered<T>>({ maxBytes, ttlMs, sizeOf: ({ bytes }) => bytes, now })

  const end = (key: string, reading: Reading<T>, hasSucceeded: boolean, bytes: number): void => {
    // A more important reading that began in the meantime serves instead of this one.
    if (underWay.get(key) !== reading) return
    underWay.delete(key)
    const { isUnpaid, ...ended } = reading
    if (!isUnpaid) remembered.set(key, { ...ended, endedAtMs: now(), hasSucceeded, bytes })
  }

  const begin = (key: string, read: Read<T>, { priority, chargeCall }: ReadNeed): Promise<T> => {
    const begunAtMs = now()
    const charge = async (): Promise<void> => {
      await chargeCall?.().catch((error) => {
        reading.isUnpaid = true
        throw error
      })
    }
    const value = read(chargeCall && charge)
    const reading: Reading<T> = { value, rank: rankOf(priority), begunAtMs, isUnpaid: false }
    underWay.set(key, reading)
    value.then(
      (read) => end(key, reading, true, sizeOf(read)),
      () => end(key, reading, false, FAILURE_BYTES),
    )
    return value
  }

  const get: SharedReads<T>['get'] = async (key, read, need) => {
    const { priority, begunAfterMs = 0 } = need
    const rank = rankOf(priority)
    const joined = underWay.get(key)
    const known = remembered.get(key)
    if (known !== undefined && known.begunAtMs >= begunAfterMs && now() - known.endedAtMs < ttlMs) {
      // A failure serves until the next reading begins, and no more important request.
      if (known.hasSucceeded || (joined === undefined && known.rank <= rank)) return known.value
    }
    if (joined === undefined || joined.rank > rank) return begin(key, read, need)
    if (joined.begunAtMs < begunAfterMs) {
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
