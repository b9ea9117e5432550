import { z } from 'zod'

const moment = z.union([z.iso.date(), z.iso.datetime({ offset: true })])

/** Milliseconds since the epoch; a date alone is its first moment in UTC. Null where it is neither that nor a time with a zone. */
export const parseMoment = (text: string): number | null => {
  const parsed = moment.safeParse(text)
  return parsed.success ? Date.parse(parsed.data) : null
}

/** Milliseconds since the epoch as ISO 8601 in UTC, the form of every time in an answer. What is not known stays null. */
export const isoTime = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString())
