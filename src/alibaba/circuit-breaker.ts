import { byPriority, type Priority, rankOf } from '../priority.ts'

/** The upstream's health as an attempt showed it; `ignore` if the attempt was cut short, or never sent. */
export type HealthSignal =
  | { readonly kind: 'ok' | 'failure' | 'ignore' }
  | { readonly kind: 'throttled'; readonly forMs: number }

/** The upstream is unhealthy or throttles: nothing is sent for about this many milliseconds. */
export interface OpenCircuit {
  readonly reason: 'unhealthy' | 'throttled'
  readonly forMs: number
}

export type CircuitChange =
  | { readonly state: 'closed' }
  | { readonly state: OpenCircuit['reason']; readonly forMs: number }

const FAILURE_THRESHOLD = 10

/** Twice as long each time that the probe fails. */
const OPEN_MS = 5000
const OPEN_MAX_MS = 40_000

/** A probe is sent after this time, even if the response asks for a longer one. */
const THROTTLED_MAX_MS = 60_000

/** The announced wait during a probe that ends at an unknown time: short, so that other attempts can wait for it. */
const PROBE_WAIT_MS = 300

interface OpenState extends OpenCircuit {
  readonly untilMs: number
  /** Of the most important probe in flight. */
  probeRank: number | null
}

/** By default the clock is monotonic. The libraries' circuits use the wall clock: set back, it keeps them open. */
const monotonic = (): number => performance.now()

/**
 * Holds attempts back for a while after too many failures in a row, and after a throttled one. Then one attempt probes
 * the upstream, and its result decides for the others. `onChange` is called when the circuit opens and when attempts
 * may be sent again.
 */
export const createCircuitBreaker = ({
  onChange = () => undefined,
  now = monotonic,
}: {
  readonly onChange?: (change: CircuitChange) => void
  readonly now?: () => number
} = {}) => {
  let state: OpenState | null = null
  let failuresInARow = 0

  const change = (open: OpenCircuit | null): void => {
    state = open === null ? null : { ...open, untilMs: now() + open.forMs, probeRank: null }
    onChange(open === null ? { state: 'closed' } : { state: open.reason, forMs: open.forMs })
  }

  /** The state after an attempt that was sent while the circuit was closed, or as a probe. */
  const nextState = (signal: HealthSignal, probed: OpenCircuit | null): OpenCircuit | null => {
    if (signal.kind === 'throttled') return { reason: 'throttled', forMs: Math.min(THROTTLED_MAX_MS, signal.forMs) }
    if (failuresInARow < FAILURE_THRESHOLD) return null
    const lastMs = probed?.reason === 'unhealthy' ? probed.forMs : 0
    return { reason: 'unhealthy', forMs: Math.min(OPEN_MAX_MS, Math.max(OPEN_MS, 2 * lastMs)) }
  }

  return {
    /** Null if an attempt of this rank may be sent. A probe holds back attempts of its rank and less important ones. */
    open: (rank: number): OpenCircuit | null => {
      if (state === null) return null
      const { reason, untilMs, probeRank } = state
      if (probeRank !== null && probeRank <= rank) return { reason, forMs: PROBE_WAIT_MS }
      const forMs = untilMs - now()
      return forMs <= 0 ? null : { reason, forMs }
    },
    /** Why attempts were last held back, until one of them shows that this is over. */
    reason: (): OpenCircuit['reason'] | null => state?.reason ?? null,
    /** An attempt is sent; the returned value must be given to `endAttempt`. */
    startAttempt: (rank: number): OpenState | null => {
      if (state !== null) state.probeRank = Math.min(rank, state.probeRank ?? rank)
      return state
    },
    endAttempt: (probed: OpenState | null, rank: number, signal: HealthSignal): void => {
      if (probed?.probeRank === rank) probed.probeRank = null
      if (signal.kind === 'ignore') return
      failuresInARow = signal.kind === 'failure' ? failuresInARow + 1 : 0
      // Ignore results of attempts that started before the circuit opened.
      if (state !== probed) return
      const next = nextState(signal, probed)
      if (next !== state) change(next)
    },
  }
}

const OK: HealthSignal = { kind: 'ok' }

/**
 * The circuits of all attempts. Throttling concerns the account, so it holds back every priority. Failures hold back
 * only their own priority: callers' failing reads never stop a cancellation. A change without a priority concerns all.
 */
export const createCircuits = ({
  onChange = () => undefined,
  now = monotonic,
}: {
  readonly onChange?: (change: CircuitChange, priority?: Priority) => void
  readonly now?: () => number
} = {}) => {
  const account = createCircuitBreaker({ onChange: (change) => onChange(change), now })
  const own = byPriority((priority) => createCircuitBreaker({ onChange: (change) => onChange(change, priority), now }))

  return {
    /** Null if an attempt of this priority may be sent. */
    open: (priority: Priority): OpenCircuit | null => own[priority].open(0) ?? account.open(rankOf(priority)),
    isUnhealthy: (priority: Priority): boolean => own[priority].reason() !== null,
    isThrottled: (): boolean => account.reason() !== null,
    /** The returned value must be given to `endAttempt`. */
    startAttempt: (priority: Priority) => ({
      account: account.startAttempt(rankOf(priority)),
      own: own[priority].startAttempt(0),
    }),
    endAttempt: (
      attempt: { readonly account: OpenState | null; readonly own: OpenState | null },
      priority: Priority,
      signal: HealthSignal,
    ): void => {
      // A failure says nothing about throttling, and a throttled response shows that the upstream responds.
      account.endAttempt(attempt.account, rankOf(priority), signal.kind === 'failure' ? OK : signal)
      own[priority].endAttempt(attempt.own, 0, signal.kind === 'throttled' ? OK : signal)
    },
  }
}
