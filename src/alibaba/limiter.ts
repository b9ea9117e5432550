import { createLinkedList } from '../collections.ts'
import { byPriority, PRIORITIES, type Priority, rankOf } from '../priority.ts'
import type { createCircuits, HealthSignal, OpenCircuit } from './circuit-breaker.ts'

/** Why an attempt may not be sent, and after how many milliseconds another may. */
export interface Rejection {
  readonly reason: OpenCircuit['reason'] | 'busy'
  readonly retryAfterMs: number
}

export interface RunOptions {
  readonly priority: Priority
  /** How long there is time to wait. */
  readonly forMs: number
  /** Aborts when the attempt is no longer wanted. */
  readonly signal?: AbortSignal | undefined
}

/** No attempt waits for longer, however much time there is. */
const MAX_WAIT_MS = 1000

/** Timers fire late, so permits that became due in this time are granted together. */
const CATCH_UP_MS = 20

/** Timers count whole milliseconds, so an attempt may be sent this much early. */
const EARLY_MS = 1

/** How much of the known pace of a queue each attempt that leaves it replaces. */
const PACE_WEIGHT = 0.2

/** The part of all places that each step down in importance leaves free. */
const RESERVED_PART = 1 / 8

/** A place that an attempt has taken. */
interface Permit {
  /** Aborts when a more important attempt needs this place: the work then ends at once. Undefined if it never does. */
  readonly revoked: AbortSignal | undefined
  readonly lane: Lane
  readonly circuit: ReturnType<ReturnType<typeof createCircuits>['startAttempt']>
}

interface Waiter {
  readonly settle: (entry: Permit | Rejection | null) => void
  readonly sinceMs: number
  /** How many had left the queue by a permit when this one came. */
  readonly servedBefore: number
}

/** The queue and the counts of one priority. */
interface Lane {
  readonly priority: Priority
  readonly rank: number
  /** How many attempts of this priority and all less important ones may be in flight together. */
  readonly limit: number
  readonly queue: ReturnType<typeof createLinkedList<Waiter>>
  inFlight: number
  /** In flight of this priority and all less important ones. */
  occupied: number
  served: number
  /** Milliseconds that the queue takes to let one out. */
  paceMs: number
  /** Ends the attempt in flight, where there can be one at most, and it may have to give up its place. */
  revocation: AbortController | undefined
}

/** Given as a reason, since an abort without one makes an error with a stack, each time. */
const REVOKED = 'a more important attempt needs its place'

/**
 * How many attempts of each priority and all less important ones may be in flight together: each step down in
 * importance leaves some places free. At least one remains for each. Where two priorities can have just one place, the
 * more important one takes it from the other (`Permit.revoked`): all but CancelTask only reads, and can be sent again.
 */
export const limitsFor = (maxConcurrency: number): Readonly<Record<Priority, number>> => {
  const reserved = Math.max(1, Math.floor(maxConcurrency * RESERVED_PART))
  return byPriority((priority) => Math.max(1, maxConcurrency - rankOf(priority) * reserved))
}

/**
 * Limits the attempts in flight and per second, in the order of their priorities, and within one priority in the order
 * of their arrival. An attempt that would wait for too long is rejected at once, and so is each one of a priority with
 * an open circuit after failures. Less important attempts never take all places: see `limitsFor`.
 */
export const createLimiter = ({
  circuits,
  maxConcurrency,
  maxPerSecond,
  now = () => performance.now(),
}: {
  readonly circuits: ReturnType<typeof createCircuits>
  readonly maxConcurrency: number
  /** Evenly spaced; no limit if undefined. */
  readonly maxPerSecond?: number | undefined
  /** Milliseconds on a monotonic clock. */
  readonly now?: () => number
}) => {
  const spacingMs = maxPerSecond === undefined ? 0 : 1000 / maxPerSecond
  const limits = limitsFor(maxConcurrency)
  const laneOf = byPriority((priority): Lane => {
    const [rank, limit] = [rankOf(priority), limits[priority]]
    const queue = createLinkedList<Waiter>()
    return { priority, rank, limit, queue, inFlight: 0, occupied: 0, served: 0, paceMs: 0, revocation: undefined }
  })
  const lanes = PRIORITIES.map((priority) => laneOf[priority])
  let dueAtMs = 0
  let timer: NodeJS.Timeout | undefined

  /** Milliseconds for which time alone holds this priority back. */
  const untilDueMs = ({ priority }: Lane): number =>
    Math.max(0, dueAtMs - EARLY_MS - now(), circuits.open(priority)?.forMs ?? 0)

  const hasRoom = ({ rank }: Lane): boolean => {
    for (const lane of lanes) if (lane.rank <= rank && lane.occupied >= lane.limit) return false
    return true
  }

  const isFree = (lane: Lane): boolean => hasRoom(lane) && untilDueMs(lane) === 0

  /** How many wait in more important queues. */
  const waitingBefore = ({ rank }: Lane): number => {
    let count = 0
    for (const lane of lanes) if (lane.rank < rank) count += lane.queue.size
    return count
  }

  /** Less important queues do not count: their attempts are overtaken. */
  const expectedMs = (lane: Lane): number => {
    const ahead = lane.queue.size
    const dueMs = untilDueMs(lane) + (waitingBefore(lane) + ahead) * spacingMs
    return ahead === 0 ? dueMs : Math.max(dueMs, (ahead + 1) * lane.paceMs)
  }

  const count = ({ rank }: Lane, change: 1 | -1): void => {
    for (const lane of lanes) if (lane.rank <= rank) lane.occupied += change
  }

  /** Takes a place, and makes the attempt a probe where a circuit waits for one. */
  const grant = (lane: Lane): Permit => {
    const { priority } = lane
    lane.inFlight += 1
    count(lane, 1)
    dueAtMs = Math.max(dueAtMs, now() + EARLY_MS - CATCH_UP_MS) + spacingMs
    if (priority !== 'cancel' && lane.limit === 1) lane.revocation = new AbortController()
    return { lane, circuit: circuits.startAttempt(priority), revoked: lane.revocation?.signal }
  }

  const release = ({ lane, circuit }: Permit, health: HealthSignal): void => {
    lane.inFlight -= 1
    count(lane, -1)
    circuits.endAttempt(circuit, lane.priority, health)
    drainQueues()
  }

  /** Takes a place back that stands in the way: only where less important attempts can have as many as this one. */
  const makeRoom = ({ rank, limit }: Lane): void => {
    const obstacle = lanes.find((lane) => lane.rank > rank && lane.inFlight >= limit)
    obstacle?.revocation?.abort(REVOKED)
  }

  const updatePace = (lane: Lane, { sinceMs, servedBefore }: Waiter): void => {
    const seenMs = (now() - sinceMs) / (lane.served - servedBefore + 1)
    lane.paceMs += (seenMs - lane.paceMs) * PACE_WEIGHT
  }

  const rejection = ({ priority }: Lane, retryAfterMs: number): Rejection => ({
    reason: circuits.open(priority)?.reason ?? 'busy',
    retryAfterMs,
  })

  const drainQueue = (lane: Lane): void => {
    for (let waiter = lane.queue.first(); waiter !== undefined; waiter = lane.queue.first()) {
      const open = circuits.open(lane.priority)
      if (open?.reason === 'unhealthy') waiter.settle({ reason: open.reason, retryAfterMs: open.forMs })
      else if (isFree(lane)) {
        updatePace(lane, waiter)
        lane.served += 1
        waiter.settle(grant(lane))
      } else break
    }
  }

  /** Grants permits to all that may be sent, and comes back when time alone holds the next one back. */
  const drainQueues = (): void => {
    clearTimeout(timer)
    for (const lane of lanes) drainQueue(lane)
    let nextMs = Number.POSITIVE_INFINITY
    for (const lane of lanes) if (lane.queue.size > 0 && hasRoom(lane)) nextMs = Math.min(nextMs, untilDueMs(lane))
    if (nextMs < Number.POSITIVE_INFINITY) timer = setTimeout(drainQueues, Math.ceil(nextMs))
  }

  const waitInQueue = (lane: Lane, { signal }: RunOptions, forMs: number): Promise<Permit | Rejection | null> =>
    new Promise((resolve) => {
      let isWaiting = true
      const settle = (entry: Permit | Rejection | null): void => {
        isWaiting = false
        clearTimeout(patience)
        signal?.removeEventListener('abort', abandon)
        leave()
        resolve(entry)
      }
      const abandon = (): void => settle(null)
      const patience = setTimeout(() => {
        // It may have become due in this very millisecond.
        drainQueues()
        if (!isWaiting) return
        updatePace(lane, waiter)
        settle(rejection(lane, MAX_WAIT_MS))
      }, forMs)
      const waiter: Waiter = { settle, sinceMs: now(), servedBefore: lane.served }
      signal?.addEventListener('abort', abandon)
      const leave = lane.queue.add(waiter)
      makeRoom(lane)
      drainQueues()
    })

  const acquire = (options: RunOptions): Promise<Permit | Rejection | null> | Permit | Rejection | null => {
    const lane = laneOf[options.priority]
    if (options.signal?.aborted) return null
    if (lane.queue.size === 0 && waitingBefore(lane) === 0 && isFree(lane)) return grant(lane)
    const limitMs = Math.min(MAX_WAIT_MS, options.forMs)
    const open = circuits.open(lane.priority)
    if (open?.reason === 'unhealthy') return rejection(lane, open.forMs)
    const retryAfterMs = expectedMs(lane)
    return retryAfterMs > limitMs ? rejection(lane, retryAfterMs) : waitInQueue(lane, options, limitMs)
  }

  return {
    inFlight: (priority: Priority): number => laneOf[priority].inFlight,
    waiting: (priority: Priority): number => laneOf[priority].queue.size,
    /**
     * Runs the work as soon as it may be sent, and passes its health signal to the circuits. Null if the signal was
     * aborted while it waited, or if the work resolved with null since it sent nothing or its permit was revoked.
     */
    run: async <T extends { readonly health: HealthSignal }>(
      options: RunOptions,
      work: (permit: Pick<Permit, 'revoked'>) => Promise<T | null>,
    ): Promise<T | Rejection | null> => {
      const permit = await acquire(options)
      if (permit === null || 'reason' in permit) return permit
      let health: HealthSignal = { kind: 'ignore' }
      try {
        const result = await work(permit)
        if (result !== null) health = result.health
        return result
      } finally {
        release(permit, health)
      }
    },
  }
}
