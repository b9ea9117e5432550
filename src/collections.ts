import { AsyncLocalStorage } from 'node:async_hooks'
import { LRUCache } from 'lru-cache'

export type LinkedList<T> = ReturnType<typeof createLinkedList<T>>

interface ListNode<T> {
  readonly value: T
  isRemoved: boolean
  previous: ListNode<T> | null
  next: ListNode<T> | null
}

/**
 * Values in the order in which they came. For values that are added and removed with each request. V8 copies a Set that changes all the time again and again,
 * and each copy references the next. Once the first copy is in the old generation, every value that was ever in the Set
 * survives the collections of the young generation, with all that it references. That made these collections several
 * times as long.
 */
export const createLinkedList = <T>() => {
  let first: ListNode<T> | null = null
  let last: ListNode<T> | null = null
  let size = 0

  const unlink = (node: ListNode<T>): void => {
    const { previous: before, next: after } = node
    if (before === null) first = after
    else before.next = after
    if (after === null) last = before
    else after.previous = before
    // Otherwise removed nodes would reference later ones, as those copies do.
    node.previous = null
    node.next = null
    node.isRemoved = true
    size -= 1
  }

  return {
    // biome-ignore lint/plugin: a process has few of these objects
    get size() {
      return size
    },

    /** The one that came first of all that are in. */
    first: (): T | undefined => first?.value,

    /** All that are in at this moment. */
    values: (): T[] => {
      const values: T[] = []
      for (let place = first; place !== null; place = place.next) values.push(place.value)
      return values
    },

    /** Adds a value, and returns the function that removes it. */
    add: (value: T): (() => void) => {
      const place: ListNode<T> = { value, isRemoved: false, previous: last, next: null }
      if (last === null) first = place
      else last.next = place
      last = place
      size += 1
      return () => {
        if (!place.isRemoved) unlink(place)
      }
    },
  }
}

export interface CacheOptions<V> {
  /** Of all entries together, keys included. Above it the entries that were least recently used are removed. */
  readonly maxBytes: number
  /** Entries are removed once they are that old, whether or not the cache is used. */
  readonly ttlMs: number
  /** Bytes of a value; `bytesOf` where absent. */
  readonly sizeOf?: ((value: V) => number) | undefined
  /** Called with a value that was removed to make room. */
  readonly onEvicted?: ((value: V) => void) | undefined
  /** Milliseconds on a monotonic clock. */
  readonly now?: (() => number) | undefined
}

/** Overhead of the cache for each entry: list and map slots, and a timer. */
const ENTRY_BYTES = 400

/** The maximum delay of a timer in Node, less the millisecond that lru-cache adds. */
const TTL_MAX_MS = 2 ** 31 - 2

/**
 * The same text with memory of its own: V8 keeps a part of a longer text as a reference to all of it, which `bytesOf`
 * can't see. For what is cut from a text of others and kept.
 */
export const ownText = (text: string): string => Buffer.from(text, 'utf16le').toString('utf16le')

/** A cache that is bounded by bytes and by time. An entry larger than all of it is not kept. */
export const createCache = <V extends object | number>(options: CacheOptions<V>) => {
  const { maxBytes, sizeOf = bytesOf, onEvicted, now = () => performance.now() } = options
  const entries = new LRUCache<string, V>({
    maxSize: maxBytes,
    sizeCalculation: (value, key) => ENTRY_BYTES + bytesOf(key) + sizeOf(value),
    ttl: timerMs(options.ttlMs),
    ttlAutopurge: true,
    ttlResolution: 0,
    perf: { now },
    ...(onEvicted && { dispose: (value, _key, reason) => reason === 'evict' && onEvicted(value) }),
  })
  // An entry's timer would keep the context of the request that made the entry, and so the trace of that request.
  const outside = AsyncLocalStorage.snapshot()

  return {
    // biome-ignore lint/plugin: a process has few of these objects
    get size() {
      return entries.size
    },
    get: (key: string): V | undefined => entries.get(key),
    /** `ttlMs` counts instead of the one of all entries. */
    set: (key: string, value: V, ttlMs = options.ttlMs): void => {
      outside(() => entries.set(ownText(key), value, { ttl: timerMs(ttlMs) }))
    },
    delete: (key: string): void => {
      entries.delete(key)
    },
  }
}

const timerMs = (ms: number): number => Math.min(TTL_MAX_MS, Math.max(1, Math.ceil(ms)))

const TEXT_BYTES = 16
const OBJECT_BYTES = 48
const FIELD_BYTES = 8

/** Approximate bytes of plain data: two for each UTF-16 unit, and a constant for each text, object and field. */
export const bytesOf = (value: unknown): number => {
  if (typeof value === 'string') return TEXT_BYTES + 2 * value.length
  if (typeof value !== 'object' || value === null) return FIELD_BYTES
  return Object.values(value).reduce<number>((sum, field) => sum + FIELD_BYTES + bytesOf(field), OBJECT_BYTES)
}
