/** A session that was signed out before its end. */
export interface SignOut {
  /** The session's identifier, which its cookie and every renewal carry. */
  readonly id: string
  /** The session's own end, in milliseconds since the epoch. */
  readonly endsAtMs: number
}

/** Sessions that were signed out: each is stored until its own end, and their number is not limited. */
export interface SignOuts {
  /** Whether that is news: false where it is known, or the session has ended by itself. */
  add(signOut: SignOut): boolean
  has(signOut: SignOut): boolean
  /** The ends are rounded up to a full minute. */
  all(): Iterable<SignOut>
  size(): number
}

const MINUTE_MS = 60_000
/** Clocks of replicas differ. */
const MARGIN_MS = MINUTE_MS

/** The sessions that end within one minute: they are forgotten together, so no entry needs a time of its own. */
interface Minute {
  readonly ids: Set<string>
  /** On the monotonic clock: a jump of the wall clock must not make the sign-outs forgotten. */
  keptUntilMs: number
}

/** About 100 bytes for each sign-out. `now` is the wall clock of sessions. */
export const createSignOuts = (now: () => number = Date.now): SignOuts => {
  const minutes = new Map<number, Minute>()
  let sweptAtMs = performance.now()

  const sweep = (): void => {
    if (performance.now() < sweptAtMs + MINUTE_MS) return
    sweptAtMs = performance.now()
    for (const [minute, { keptUntilMs }] of minutes) {
      const isOver = now() >= endOf(minute) + MARGIN_MS && performance.now() >= keptUntilMs
      if (isOver) minutes.delete(minute)
    }
  }

  return {
    add: ({ id, endsAtMs }) => {
      sweep()
      const leftMs = endsAtMs - now() + MINUTE_MS + MARGIN_MS
      if (leftMs <= 0) return false
      const minute = minutes.get(minuteOf(endsAtMs)) ?? { ids: new Set(), keptUntilMs: 0 }
      if (minute.ids.has(id)) return false
      minute.ids.add(id)
      minute.keptUntilMs = Math.max(minute.keptUntilMs, performance.now() + leftMs)
      minutes.set(minuteOf(endsAtMs), minute)
      return true
    },
    has: ({ id, endsAtMs }) => {
      sweep()
      return minutes.get(minuteOf(endsAtMs))?.ids.has(id) ?? false
    },
    *all() {
      for (const [minute, { ids }] of minutes) for (const id of ids) yield { id, endsAtMs: endOf(minute) - 1 }
    },
    size: () => [...minutes.values()].reduce((sum, { ids }) => sum + ids.size, 0),
  }
}

const minuteOf = (atMs: number): number => Math.floor(atMs / MINUTE_MS)

const endOf = (minute: number): number => (minute + 1) * MINUTE_MS
