/** One preference with its parameters: up to a comma, but for those that stand in quotes. */
const PREFERENCE = /(?:[^",]|"(?:[^"\\]|\\.)*"?)+/g
const IS_WAIT = /^[ \t]*wait[ \t]*(?:[=;]|$)/i
const SECONDS = /^[^=;]*=[ \t]*("?)(?<seconds>\d+)\1[ \t]*(?:;|$)/

/** Seconds that a caller would rather wait than be answered early; null where it did not say (RFC 7240, 4.3). */
export const waitSeconds = (prefer = ''): number | null => {
  // Of several, only the first counts (RFC 7240, 2); what is spelled wrong is no preference.
  const wait = prefer.match(PREFERENCE)?.find((preference) => IS_WAIT.test(preference))
  const { seconds } = SECONDS.exec(wait ?? '')?.groups ?? {}
  return seconds === undefined ? null : Number(seconds)
}
