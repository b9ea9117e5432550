/** Kept back from what attempts may use up, so that there is time to settle and record what became of a call. */
export const SETTLE_RESERVE_MS = 3000

/** Kept back from settling and watching, so that there is time to record what was found. */
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
 * Settles with the promise, or with the stand-in once the deadline has passed. The promise itself goes on. By a bare timer:
 * one that is aborted makes an error each time, with a stack, which was a tenth of the cost of a cancel.
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
