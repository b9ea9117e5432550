// Controls (C0, C1, DEL), format characters (direction marks and overrides, zero-width ones, tags), line and paragraph
// separators, and halves of surrogate pairs: in a terminal or a page they hide, move or forge the text around them.
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu

/** The character as JavaScript writes it: `\u202e`, or `\u{e0001}` beyond the first plane. */
const escapeOf = (character: string): string => {
  const hex = (character.codePointAt(0) ?? 0).toString(16)
  return hex.length > 4 ? `\\u{${hex}}` : `\\u${hex.padStart(4, '0')}`
}

/** The text with each invisible character escaped; well-formed, and the same again if it is given a second time. */
export const visible = (text: string): string => text.replace(INVISIBLE, escapeOf)

/** Likewise where there may be no text. */
export const visibleOrNull = (text: string | null): string | null => (text === null ? null : visible(text))

const USER_AGENT_MAX = 256

/** A User-Agent as it is recorded and shown: at most 256 UTF-16 units, no escape or surrogate pair cut in two. */
export const visibleUserAgent = (userAgent: string | null): string | null => {
  if (userAgent === null) return null
  let start = ''
  for (const character of userAgent) {
    const shown = visible(character)
    if (start.length + shown.length > USER_AGENT_MAX) break
    start += shown
  }
  return start
}
