const WINDOW_MS = 60_000
const SUBJECTS_MAX = 10

/**
 * Whether a line about that subject (an origin, an address) may be written: once a minute for each subject, and for ten
 * subjects a minute at most. Subjects that callers choose fill neither the log nor the memory.
 */
export const createLogLimit = (): ((subject: string) => boolean) => {
  const logged = new Set<string>()
  let startedAtMs = Number.NEGATIVE_INFINITY
  return (subject) => {
    const nowMs = performance.now()
    if (nowMs >= startedAtMs + WINDOW_MS) {
      logged.clear()
      startedAtMs = nowMs
    }
    if (logged.has(subject) || logged.size >= SUBJECTS_MAX) return false
    logged.add(subject)
    return true
  }
}
