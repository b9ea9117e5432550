import { createBag } from '../bag.ts'
import type { Block, Circuit, Verdict } from './circuit.ts'

/** Whoever holds one may make one attempt, and must tell how it went. */
export interface Pass {
  leave(verdict: Verdict): void
}

/** Why an attempt may not go out, and after how many milliseconds another may. */
export interface Refusal {
  readonly reason: Block['reason'] | 'busy'
  readonly retryAfterMs: number
}

export interface Wait {
  /** How long there is time to wait. */
  readonly forMs: number
  readonly signal?: AbortSignal | undefined
}

/**
 * Lets attempts out to upstream, first come, first served: no more at a time and no more a second than was set. What
 * would wait for too long is refused at once, and everything while upstream is ill.
 */
export interface Gate {
  /** Null where whoever wanted to enter left. */
  enter(wait: Wait): Promise<Pass | Refusal | null>
  underWay(): number
  waiting(): number
}

export interface GateOptions {
  readonly circuit: Circuit
  readonly maxConcurrency: number
  /** Evenly spaced; no limit where undefined. */
  readonly maxPerSecond?: number | undefined
  /** Milliseconds on a monotonic clock. */
  readonly now?: () => number
}

/** Nobody waits for longer, however much time there is. */
const MAX_WAIT_MS = 1000

/** Timers fire late: what has become due by then goes out together, but never more than becomes due in this time. */
const CATCH_UP_MS = 20

/** How much of what is known of the queue's pace each one that leaves it replaces. */
const PACE_WEIGHT = 0.2

interface Waiting {
  readonly settle: (entry: Pass | Refusal | null) => void
  readonly sinceMs: number
  /** How many had been let out of the queue when it came. */
  readonly servedBefore: number
}

export const createGate = (options: GateOptions): Gate => {
  const { circuit, maxConcurrency, maxPerSecond, now = () => performance.now() } = options
  const spacingMs = maxPerSecond === undefined ? 0 : 1000 / maxPerSecond
  const queue = createBag<Waiting>()
  let underWay = 0
  let dueAtMs = 0
  let served = 0
  /** Milliseconds that the queue takes to let one out. */
  let paceMs = 0
  let timer: NodeJS.Timeout | undefined

  /** Milliseconds for which time alone keeps everybody back. */
  const untilDueMs = (): number => Math.max(0, dueAtMs - now(), circuit.blocked()?.forMs ?? 0)

  const isFree = (): boolean => underWay < maxConcurrency && untilDueMs() === 0

  const expectedMs = (): number => {
    const ahead = queue.size
    return ahead === 0 ? untilDueMs() : Math.max(untilDueMs() + ahead * spacingMs, (ahead + 1) * paceMs)
  }

  const letOut = (): Pass => {
    underWay += 1
    dueAtMs = Math.max(dueAtMs, now() - CATCH_UP_MS) + spacingMs
    const tell = circuit.begin()
    return {
      leave: (verdict) => {
        underWay -= 1
        tell(verdict)
        advance()
      },
    }
  }

  const learn = ({ sinceMs, servedBefore }: Waiting): void => {
    const seenMs = (now() - sinceMs) / (served - servedBefore + 1)
    paceMs += (seenMs - paceMs) * PACE_WEIGHT
  }

  const refuse = (retryAfterMs: number): Refusal => ({ reason: circuit.blocked()?.reason ?? 'busy', retryAfterMs })

  /** Lets out of the queue whoever may go, and comes back when time alone keeps the next one. */
  const advance = (): void => {
    clearTimeout(timer)
    for (let waiting = queue.first(); waiting !== undefined; waiting = queue.first()) {
      const block = circuit.blocked()
      if (block?.reason === 'ill') waiting.settle(refuse(block.forMs))
      else if (isFree()) {
        learn(waiting)
        served += 1
        waiting.settle(letOut())
      } else break
    }
    if (queue.size > 0 && underWay < maxConcurrency) timer = setTimeout(advance, Math.ceil(untilDueMs()))
  }

  const queueUp = ({ signal }: Wait, forMs: number): Promise<Pass | Refusal | null> =>
    new Promise((resolve) => {
      const settle = (entry: Pass | Refusal | null): void => {
        clearTimeout(patience)
        signal?.removeEventListener('abort', give)
        leave()
        resolve(entry)
      }
      const give = (): void => settle(null)
      const patience = setTimeout(() => {
        learn(waiting)
        settle(refuse(MAX_WAIT_MS))
      }, forMs)
      const waiting: Waiting = { settle, sinceMs: now(), servedBefore: served }
      signal?.addEventListener('abort', give)
      const leave = queue.add(waiting)
      advance()
    })

  return {
    underWay: () => underWay,
    waiting: () => queue.size,
    enter: async (wait) => {
      if (wait.signal?.aborted) return null
      if (queue.size === 0 && isFree()) return letOut()
      const limitMs = Math.min(MAX_WAIT_MS, wait.forMs)
      const block = circuit.blocked()
      if (block?.reason === 'ill') return refuse(block.forMs)
      const retryAfterMs = expectedMs()
      return retryAfterMs > limitMs ? refuse(retryAfterMs) : queueUp(wait, limitMs)
    },
  }
}
