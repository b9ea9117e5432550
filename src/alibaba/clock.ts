import type { Log } from '../telemetry/log.ts'

export interface ClockOptions {
  readonly log: Log
  /** Milliseconds since the epoch, as this machine's clock has them. */
  readonly now?: (() => number) | undefined
}

/** The upstream accepts larger differences. The early warning leaves the operator time to correct the clock. */
const NOTABLE_SKEW_MS = 60_000

/**
 * The time to sign with: that of this machine, until the upstream rejects it; then the time of the upstream's
 * responses.
 */
export const createClock = ({ log, now = Date.now }: ClockOptions) => {
  let correctionMs = 0
  let isOff = false
  let skewMs: number | undefined

  /**
   * Compares this machine's clock with the `Date` of a response, and logs a large difference before it causes a
   * rejection.
   */
  const observe = (date: Date): void => {
    const clockSkewMs = date.getTime() - now()
    skewMs = clockSkewMs
    if (Math.abs(clockSkewMs) > NOTABLE_SKEW_MS === isOff) return
    isOff = !isOff
    if (isOff) log.warn('the clock differs from the upstream clock by more than a minute', { clockSkewMs })
    else log.info('the clock agrees with the upstream clock again', { clockSkewMs })
  }

  return {
    now: (): Date => new Date(now() + correctionMs),
    observe,
    /** The upstream's clock minus ours, by its last response; undefined before the first. Milliseconds. */
    skewMs: () => skewMs,
    /** From now on signs with the upstream's time. */
    correct: (date: Date): void => {
      correctionMs = date.getTime() - now()
      log.error('the upstream rejected the clock; signing with its time', { clockSkewMs: correctionMs })
    },
    /** Signs with this machine's time again, after a correction that did not help. */
    forget: (): void => {
      correctionMs = 0
    },
  }
}
