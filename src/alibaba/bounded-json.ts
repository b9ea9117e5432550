/** The largest documented page has 1,000 rows of 14 fields; this is three times as much. */
const MAX_VALUES = 50_000
/** A documented page has four levels. */
const MAX_DEPTH = 100

/** Numbers of fewer digits are exact. */
const LONG_NUMBER = /\d{16}/
const WHOLE_NUMBER = /^-?\d+$/

const [QUOTE, COMMA, BRACKET, BACKSLASH, BRACE] = [...'",[\\{'].map((character) => character.charCodeAt(0))
const [END_BRACKET, END_BRACE] = [...']}'].map((character) => character.charCodeAt(0))

/**
 * Parses JSON; undefined for text that is not JSON, holds more than 50,000 values or nests deeper than 100 levels. Text
 * of the permitted size can hold millions of values, names or levels, and JSON.parse would block the event loop for as
 * long as it takes to build them all. A number of 16 digits or more that JavaScript cannot represent exactly, and each
 * whole number of 2^53 or more (an id), becomes the text of its digits. Every string is passed through `edit`, without
 * its escapes.
 */
export const parseBoundedJson = (text: string, edit: (text: string) => string = (value) => value): unknown => {
  if (!isBounded(text)) return undefined
  try {
    // A reviver takes three times as long as parsing, and most texts need none.
    if (!text.includes('\\') && !LONG_NUMBER.test(text) && edit(text) === text) return JSON.parse(text)
    return JSON.parse(text, (_name, value: unknown, context?: { readonly source?: string }) => {
      if (typeof value === 'string') return edit(value)
      return typeof value === 'number' ? exactly(value, context?.source) : value
    })
  } catch {
    return undefined
  }
}

const exactly = (value: number, source = String(value)): number | string => {
  if (Number.isSafeInteger(value)) return value
  // The digits of a whole number above 2^53 can be right by chance.
  return String(value) === source && !WHOLE_NUMBER.test(source) ? value : source
}

/** An upper bound of the number of values, and the depth, by the separators and brackets outside of strings. */
const isBounded = (text: string): boolean => {
  let [count, depth] = [1, 0]
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at)
    if (code === QUOTE) at = endOfString(text, at)
    else if (code === COMMA) count += 1
    else if (code === BRACKET || code === BRACE) [count, depth] = [count + 1, depth + 1]
    else if (code === END_BRACKET || code === END_BRACE) depth -= 1
    if (count > MAX_VALUES || depth > MAX_DEPTH) return false
  }
  return true
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
