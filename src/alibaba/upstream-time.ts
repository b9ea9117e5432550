// (assumption) time-zone: upstream names no zone. A sample that carries both forms shows UTC+8.
const UTC_PLUS_8_MS = 8 * 3_600_000
const DAY_MS = 86_400_000

const MONTHS: readonly string[] = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']

/**
 * (assumption) date-format: these forms are all. `2017-11-01 17:22:51` and ISO 8601, with a fraction of a second and a
 * zone where they are given.
 */
const DASHED =
  /^(?<year>\d{4})-(?<month>\d\d)-(?<day>\d\d)[T\s](?<hour>\d\d):(?<minute>\d\d)(:(?<second>\d\d)([.,](?<fraction>\d{1,9}))?)?(?<zone>\s?(Z|[+-]\d\d(:?\d\d)?))?$/
/** As Java writes dates: `Dec 26,2017 11:00:54`, or `Dec 26, 2017, 11:00:54 AM` with any space before `AM`. */
const NAMED =
  /^(?<name>[A-Z][a-z]{2}) (?<day>\d{1,2}), ?(?<year>\d{4}),?\s(?<hour>\d{1,2}):(?<minute>\d\d):(?<second>\d\d)(\s?(?<half>[AaPp][Mm]))?$/
/** Milliseconds since the epoch, from 1973 to 5138: fewer digits could be seconds. */
const EPOCH = /^\d{12,14}$/

type Groups = Readonly<Record<string, string | undefined>>

/**
 * A moment as upstream spells it, in milliseconds since the epoch; null where it can't be read. Forms: `2017-11-01
 * 17:22:51`, `Dec 26,2017 11:00:54`, with `AM` or `PM` too, ISO 8601 and milliseconds since the epoch.
 */
export const parseUpstreamTime = (text: string): number | null => {
  if (EPOCH.test(text)) return Number(text)
  const groups = (DASHED.exec(text) ?? NAMED.exec(text))?.groups
  const at = groups === undefined ? null : clockTimeOf(groups)
  const offsetMs = zoneOf(groups?.zone)
  return at === null || offsetMs === null ? null : at - offsetMs
}

/** The time that the clock shows, as if it were in UTC. */
const clockTimeOf = ({ year = '', month, name = '', day = '', hour = '', half, ...parts }: Groups): number | null => {
  const { minute = '', second = '00', fraction = '' } = parts
  const number = month ?? String(MONTHS.indexOf(name) + 1).padStart(2, '0')
  const hours = half === undefined ? hour.padStart(2, '0') : hoursOf(Number(hour), half)
  const milliseconds = fraction.slice(0, 3).padEnd(3, '0')
  const iso = `${year}-${number}-${day.padStart(2, '0')}T${hours}:${minute}:${second}.${milliseconds}Z`
  const at = Date.parse(iso)
  // JavaScript takes the 31st of February for a day in March.
  return !Number.isNaN(at) && new Date(at).toISOString() === iso ? at : null
}

/** Of a clock of twelve hours, on which 12 AM is midnight; an hour that no such clock shows gives no valid date. */
const hoursOf = (hour: number, half: string): string => {
  if (hour < 1 || hour > 12) return ''
  return String((hour % 12) + (half.toUpperCase() === 'PM' ? 12 : 0)).padStart(2, '0')
}

/** Milliseconds that a zone's clock is ahead of UTC; null where there is no such zone. */
const zoneOf = (zone: string | undefined): number | null => {
  if (zone === undefined) return UTC_PLUS_8_MS
  const [, sign, hours = '0', minutes = '0'] = /([+-])(\d\d):?(\d\d)?$/.exec(zone) ?? []
  if (Number(hours) > 14 || Number(minutes) > 59) return null
  return (sign === '-' ? -1 : 1) * (Number(hours) * 60 + Number(minutes)) * 60_000
}

/**
 * Noon of the upstream's day in which the moment lies, the same for the whole day. If the upstream counts days in UTC
 * after all, noon has the same date.
 */
export const noonOfUpstreamDay = (atMs: number): number =>
  Math.floor((atMs + UTC_PLUS_8_MS) / DAY_MS) * DAY_MS + DAY_MS / 2 - UTC_PLUS_8_MS
