import * as z from 'zod'

/** Time that attempts may not use, reserved for settling and recording the outcome of a call. */
export const SETTLE_RESERVE_MS = 3000

/** Time that settling and waiting may not use, reserved for recording the outcome. */
export const RECORD_RESERVE_MS = 1000

/** A moment by which something must be over, on the monotonic clock: a jump of the wall clock moves nothing. */
export interface Deadline {
  /** Milliseconds left; negative once it has passed. */
  remainingMs(): number
  /** The moment that lies so many milliseconds before this one. */
  minus(byMs: number): Deadline
}

export const deadlineIn = (ms: number): Deadline => deadlineAt(performance.now() + ms)

const deadlineAt = (at: number): Deadline => ({
  remainingMs: () => at - performance.now(),
  minus: (byMs) => deadlineAt(at - byMs),
})

/**
 * Settles with the promise, or with the stand-in once the deadline has passed. The promise itself goes on. By a bare
 * timer: one that is aborted makes an error each time, with a stack, which was a tenth of the cost of a cancel.
 */
export const withDeadline = <T, const U>(deadline: Deadline, promise: Promise<T>, fallback: U): Promise<T | U> =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, Math.max(0, deadline.remainingMs()), fallback)
    promise.then(
      (value) => {
        clearTimeout(timer)
        resolve(value)
      },
      (error: unknown) => {
        clearTimeout(timer)
        reject(error)
      },
    )
  })

const moment = z.union([z.iso.date(), z.iso.datetime({ offset: true })])

/**
 * Milliseconds since the epoch; a date alone is its first moment in UTC. Null where it is neither that nor a time with
 * a zone.
 */
export const parseMoment = (text: string): number | null => {
  const parsed = moment.safeParse(text)
  return parsed.success ? Date.parse(parsed.data) : null
}

/** Milliseconds since the epoch as ISO 8601 in UTC, the form of every time in a response. Null stays null. */
export const isoTime = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString())
