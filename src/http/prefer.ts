/** Among other preferences, and with parameters, perhaps; what is spelled wrong is no preference. */
const WAIT = /(?:^|,)[ \t]*wait[ \t]*=[ \t]*(?:(\d{1,9})|"(\d{1,9})")[ \t]*(?=[;,]|$)/i

/** Seconds that a caller would rather wait than be answered early; null where it did not say (RFC 7240, 4.3). */
export const waitSeconds = (prefer: string | undefined): number | null => {
  const [, plain, quoted] = WAIT.exec(prefer ?? '') ?? []
  const seconds = plain ?? quoted
  return seconds === undefined ? null : Number(seconds)
}
