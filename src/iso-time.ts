/** Milliseconds since the epoch as ISO 8601 in UTC, the form of every time in an answer. What is not known stays null. */
export const isoTime = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString())
