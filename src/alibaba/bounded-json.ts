/** The largest documented page has 1,000 rows of 14 fields; this is three times as much. */
const MAX_VALUES = 50_000

const [QUOTE, COMMA, BRACKET, BACKSLASH, BRACE] = [...'",[\\{'].map((character) => character.charCodeAt(0))

/**
 * Parses JSON; undefined for what is none, or holds more than 50,000 values. Text of the permitted size can hold millions
 * of values, names or levels, and JSON.parse would block the event loop for as long as it takes to build them all.
 */
export const parseBoundedJson = (text: string): unknown => {
  if (countValues(text, MAX_VALUES + 1) > MAX_VALUES) return undefined
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** An upper bound of the number of values, by the separators outside of strings. Counts no further than `end`. */
const countValues = (text: string, end: number): number => {
  let count = 1
  for (let at = 0; at < text.length && count < end; at += 1) {
    const code = text.charCodeAt(at)
    if (code === QUOTE) at = endOfString(text, at)
    else if (code === COMMA || code === BRACKET || code === BRACE) count += 1
  }
  return count
}

/** The place of the quote that ends the string which begins at `start`; the end of the text where there is none. */
const endOfString = (text: string, start: number): number => {
  for (let at = start; ; ) {
    at = text.indexOf('"', at + 1)
    if (at < 0) return text.length
    if (!isEscaped(text, at)) return at
  }
}

/** Whether an odd number of backslashes stands before that place. */
const isEscaped = (text: string, at: number): boolean => {
  let first = at
  while (text.charCodeAt(first - 1) === BACKSLASH) first -= 1
  return (at - first) % 2 === 1
}
