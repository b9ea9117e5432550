/** One preference with its parameters: up to a comma outside of quotes. */
const PREFERENCE = /(?:[^",]|"(?:[^"\\]|\\.)*"?)+/g
const IS_WAIT = /^[ \t]*wait[ \t]*(?:[=;]|$)/i
const SECONDS = /^[^=;]*=[ \t]*("?)(?<seconds>\d+)\1[ \t]*(?:;|$)/

/** Seconds of the preference `wait`; null where there is none (RFC 7240, 4.3). */
export const waitSeconds = (prefer = ''): number | null => {
  // Of several, only the first counts (RFC 7240, 2). A malformed value is ignored.
  const wait = prefer.match(PREFERENCE)?.find((preference) => IS_WAIT.test(preference))
  const { seconds } = SECONDS.exec(wait ?? '')?.groups ?? {}
  return seconds === undefined ? null : Number(seconds)
}
