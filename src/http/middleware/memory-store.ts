import type { IncrementResponse, Store } from 'express-rate-limit'
import { createCache } from '../../collections.ts'

interface Count {
  totalHits: number
  readonly resetAtMs: number
}

/** About fourteen thousand addresses or callers. */
const COUNTS_BYTES = 8 * 2 ** 20

/**
 * Counts of one limit in the memory of this process, each for a window that begins with its first request. A count is
 * removed at the end of its window. Above `COUNTS_BYTES` the least recently used counts are removed, so an address that
 * keeps sending requests stays counted. The store of express-rate-limit keeps every address of two windows.
 */
export const createMemoryStore = (windowMs: number): Store => {
  const counts = createCache<Count>({ maxBytes: COUNTS_BYTES, ttlMs: windowMs })

  const begin = (key: string): Count => {
    const count = { totalHits: 0, resetAtMs: performance.now() + windowMs }
    counts.set(key, count)
    return count
  }

  return {
    increment: async (key): Promise<IncrementResponse> => {
      const count = counts.get(key) ?? begin(key)
      count.totalHits += 1
      const leftMs = Math.max(0, count.resetAtMs - performance.now())
      return { totalHits: count.totalHits, resetTime: new Date(Date.now() + leftMs) }
    },
    decrement: async (key) => {
      const count = counts.get(key)
      if (count !== undefined && count.totalHits > 0) count.totalHits -= 1
    },
    resetKey: async (key) => {
      counts.delete(key)
    },
  }
}
