/** What an attempt told of upstream; `untold` where it says nothing: it was cut short, or never went out. */
export type Verdict =
  | { readonly kind: 'well' | 'ill' | 'untold' }
  | { readonly kind: 'throttled'; readonly forMs: number }

/** Upstream is ill, or throttles us: nothing may be sent for so many milliseconds, as far as can be told. */
export interface Block {
  readonly reason: 'ill' | 'throttled'
  readonly forMs: number
}

/**
 * Keeps all attempts back for a while after too many in a row found upstream ill, and after one was throttled. Then one
 * goes first, and how it fares decides for the others.
 */
export interface Circuit {
  /** Null where attempts may go out. */
  blocked(): Block | null
  /** Why attempts were last kept back, until one has shown that they need not be any more. */
  reason(): Block['reason'] | null
  /** An attempt goes out; its end must be told. */
  begin(): (verdict: Verdict) => void
}

export type CircuitState = { readonly state: 'closed' } | { readonly state: Block['reason']; readonly forMs: number }

export interface CircuitOptions {
  /** Called when it opens, and when attempts are free to go again. */
  readonly onChange?: (change: CircuitState) => void
  /** Milliseconds on a monotonic clock. The libraries' circuits go by the wall clock: set back, it keeps them open. */
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

interface Opening extends Block {
  readonly untilMs: number
  isScouted: boolean
}

export const createCircuit = (options: CircuitOptions = {}): Circuit => {
  const { onChange = () => undefined, now = () => performance.now() } = options
  let opening: Opening | null = null
  let illInARow = 0

  const change = (block: Block | null): void => {
    opening = block === null ? null : { ...block, untilMs: now() + block.forMs, isScouted: false }
    onChange(block === null ? { state: 'closed' } : { state: block.reason, forMs: block.forMs })
  }

  /** What an attempt calls for that went out while it was closed, or first after it had opened. */
  const consequence = (verdict: Verdict, scouted: Block | null): Block | null => {
    if (verdict.kind === 'throttled') return { reason: 'throttled', forMs: Math.min(THROTTLED_MAX_MS, verdict.forMs) }
    if (illInARow < ILL_IN_A_ROW) return null
    const lastMs = scouted?.reason === 'ill' ? scouted.forMs : 0
    return { reason: 'ill', forMs: Math.min(ILL_MAX_MS, Math.max(ILL_MS, 2 * lastMs)) }
  }

  const judge = (verdict: Verdict, scouted: Opening | null): void => {
    if (scouted !== null) scouted.isScouted = false
    if (verdict.kind === 'untold') return
    illInARow = verdict.kind === 'ill' ? illInARow + 1 : 0
    // Whoever went out before it opened knows less than whoever opened it.
    if (opening !== scouted) return
    const next = consequence(verdict, scouted)
    if (next !== opening) change(next)
  }

  return {
    blocked: () => {
      if (opening === null) return null
      if (opening.isScouted) return { reason: opening.reason, forMs: SCOUTING_MS }
      const forMs = opening.untilMs - now()
      return forMs <= 0 ? null : { reason: opening.reason, forMs }
    },
    reason: () => opening?.reason ?? null,
    begin: () => {
      const scouted = opening
      if (scouted !== null) scouted.isScouted = true
      return (verdict) => judge(verdict, scouted)
    },
  }
}
