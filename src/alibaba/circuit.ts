/** What an attempt told of upstream; `untold` where it says nothing: it was cut short, or never went out. */
export type Verdict =
  | { readonly kind: 'well' | 'ill' | 'untold' }
  | { readonly kind: 'throttled'; readonly forMs: number }

/** Upstream is ill, or throttles us: nothing may be sent for so many milliseconds, as far as can be told. */
export interface Closed {
  readonly reason: 'ill' | 'throttled'
  readonly forMs: number
}

/**
 * Keeps all attempts back for a while after too many in a row found upstream ill, and after one was throttled. Then one
 * goes first, and how it fares decides for the others.
 */
export interface Circuit {
  /** Null where attempts may go out. */
  closed(): Closed | null
  /** An attempt goes out; its end must be told. */
  begin(): (verdict: Verdict) => void
}

export type CircuitState = { readonly state: 'open' } | { readonly state: Closed['reason']; readonly forMs: number }

export interface CircuitOptions {
  /** Called when it closes, and when attempts are free to go again. */
  readonly onChange?: (change: CircuitState) => void
  /** Milliseconds on a monotonic clock. The libraries' circuits go by the wall clock: set back, it keeps them closed. */
  readonly now?: () => number
}

const ILL_IN_A_ROW = 10

/** Twice as long each time that the first to go finds upstream ill still. */
const ILL_MS = 5000
const ILL_MAX_MS = 40_000

/** Whatever an answer asks for: by then one goes and sees. */
const THROTTLED_MAX_MS = 60_000

/** What is told while the first is on its way, whose end nobody knows: short, so that there is time to wait for it. */
const SCOUTING_MS = 300

interface Closure extends Closed {
  readonly untilMs: number
  isScouted: boolean
}

export const createCircuit = (options: CircuitOptions = {}): Circuit => {
  const { onChange = () => undefined, now = () => performance.now() } = options
  let closure: Closure | null = null
  let illInARow = 0

  const change = (closed: Closed | null): void => {
    closure = closed === null ? null : { ...closed, untilMs: now() + closed.forMs, isScouted: false }
    onChange(closed === null ? { state: 'open' } : { state: closed.reason, forMs: closed.forMs })
  }

  /** What an attempt calls for that went out while it was open, or first after it was closed. */
  const consequence = (verdict: Verdict, scouted: Closed | null): Closed | null => {
    if (verdict.kind === 'throttled') return { reason: 'throttled', forMs: Math.min(THROTTLED_MAX_MS, verdict.forMs) }
    if (illInARow < ILL_IN_A_ROW) return null
    const lastMs = scouted?.reason === 'ill' ? scouted.forMs : 0
    return { reason: 'ill', forMs: Math.min(ILL_MAX_MS, Math.max(ILL_MS, 2 * lastMs)) }
  }

  const judge = (verdict: Verdict, scouted: Closure | null): void => {
    if (scouted !== null) scouted.isScouted = false
    if (verdict.kind === 'untold') return
    illInARow = verdict.kind === 'ill' ? illInARow + 1 : 0
    // Whoever went out before it closed knows less than whoever closed it.
    if (closure !== scouted) return
    const next = consequence(verdict, scouted)
    if (next !== closure) change(next)
  }

  return {
    closed: () => {
      if (closure === null) return null
      if (closure.isScouted) return { reason: closure.reason, forMs: SCOUTING_MS }
      const forMs = closure.untilMs - now()
      return forMs <= 0 ? null : { reason: closure.reason, forMs }
    },
    begin: () => {
      const scouted = closure
      if (scouted !== null) scouted.isScouted = true
      return (verdict) => judge(verdict, scouted)
    },
  }
}
