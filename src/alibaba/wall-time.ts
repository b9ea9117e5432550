// (assumption) Upstream names no zone. A sample that carries both forms shows UTC+8.
const UTC_PLUS_8_MS = 8 * 3_600_000
const DAY_MS = 86_400_000

const MONTHS: readonly string[] = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']

const DASHED = /^(?<year>\d{4})-(?<month>\d\d)-(?<day>\d\d) (?<time>\d\d:\d\d:\d\d)$/
const NAMED = /^(?<name>[A-Z][a-z]{2}) (?<day>\d{1,2}), ?(?<year>\d{4}) (?<time>\d{1,2}:\d\d:\d\d)$/

/**
 * A moment as upstream spells it, `2017-11-01 17:22:51` or `Dec 26,2017 11:00:54`, in milliseconds since the epoch;
 * null where it can't be read.
 */
export const parseWallTime = (text: string): number | null => {
  const { year = '', month, name = '', day = '', time = '' } = (DASHED.exec(text) ?? NAMED.exec(text))?.groups ?? {}
  const number = month ?? String(MONTHS.indexOf(name) + 1).padStart(2, '0')
  const iso = `${year}-${number}-${day.padStart(2, '0')}T${time.padStart(8, '0')}.000Z`
  const at = Date.parse(iso)
  // JavaScript takes the 31st of February for a day in March.
  return !Number.isNaN(at) && new Date(at).toISOString() === iso ? at - UTC_PLUS_8_MS : null
}

/** Noon of the day of upstream's on which a moment lies. Should upstream count days in UTC after all, it is the same date. */
export const noonOf = (atMs: number): number =>
  Math.floor((atMs + UTC_PLUS_8_MS) / DAY_MS) * DAY_MS + DAY_MS / 2 - UTC_PLUS_8_MS
