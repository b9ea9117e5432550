import type { Log } from '../telemetry/log.ts'

/** The time to sign with: ours, unless upstream refused it; then what upstream's answers say. */
export interface Clock {
  now(): Date
  /** What the `Date` of any answer tells of ours: it is logged where it is far off, before upstream refuses it. */
  observe(date: Date): void
  /** From now on signs with upstream's time. */
  correct(date: Date): void
  /** By how much upstream's differed from ours, by its last answer; undefined before the first. Milliseconds. */
  skewMs(): number | undefined
  /** Signs with our own again: a correction that did not help was none. */
  forget(): void
}

export interface ClockOptions {
  readonly log: Log
  /** Milliseconds since the epoch, as this machine's clock has them. */
  readonly now?: (() => number) | undefined
}

/** Upstream takes times that are off by more, but whoever is warned by then has time to mend it. */
const NOTABLE_SKEW_MS = 60_000

export const createClock = ({ log, now = Date.now }: ClockOptions): Clock => {
  let correctionMs = 0
  let isOff = false
  let skewMs: number | undefined

  const observe = (date: Date): void => {
    const clockSkewMs = date.getTime() - now()
    skewMs = clockSkewMs
    if (Math.abs(clockSkewMs) > NOTABLE_SKEW_MS === isOff) return
    isOff = !isOff
    if (isOff) log.warn('the clock differs from the upstream clock by more than a minute', { clockSkewMs })
    else log.info('the clock agrees with the upstream clock again', { clockSkewMs })
  }

  return {
    now: () => new Date(now() + correctionMs),
    observe,
    skewMs: () => skewMs,
    correct: (date) => {
      correctionMs = date.getTime() - now()
      log.error('the upstream rejected the clock; signing with its time', { clockSkewMs: correctionMs })
    },
    forget: () => {
      correctionMs = 0
    },
  }
}
