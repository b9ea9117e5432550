import { nullOnError } from '../errors.ts'

/**
 * The characters that a text can have:
 * - `json`: any JSON, over several lines too
 * - `access-key`: an AccessKey id or secret, or an STS token (Base64, or letters and digits with dots and dashes)
 * - `client`: a client id or secret of OAuth: printable ASCII (RFC 6749, appendix A.1 and A.2)
 * - `host`: a host name or an address
 * - `visible`: anything that can be seen, and blanks
 */
export type TextKind = 'json' | 'access-key' | 'client' | 'host' | 'visible'

// Copying and `echo` leave white space (the next-line control too), byte order marks, zero-width and other format
// characters, and letters and marks that are drawn as nothing (variation selectors, fillers, the Braille blank).
const INVISIBLE_ENDS =
  /^[\s\u0085\p{Cf}\p{Default_Ignorable_Code_Point}\u2800]+|[\s\u0085\p{Cf}\p{Default_Ignorable_Code_Point}\u2800]+$/gu

/** Removes white space and invisible characters at the ends. Each setting and each file of settings is read so. */
export const trimEnds = (text: string): string => text.replace(INVISIBLE_ENDS, '')

/** The text with its percent-escapes decoded; null if one is malformed or the result is no UTF-8. */
export const decodeEscapes = (text: string): string | null => nullOnError(() => decodeURIComponent(text))

const QUOTES: readonly string[] = ['""', "''", '``', '“”', '‘’', '«»', '„“']
const LINE_END = /[\n\r\v\f\u0085\u2028\u2029]/
// No controls, characters that are drawn as nothing, white space other than the blank, or the character that stands for
// bytes that are no UTF-8.
const VISIBLE = /^(?:[^\p{C}\p{Z}\p{Default_Ignorable_Code_Point}\u2800\ufffd]| )*$/u

const KINDS: Readonly<Record<Exclude<TextKind, 'json'>, readonly [pattern: RegExp, rule: string]>> = {
  'access-key': [/^[\w+/=.~-]*$/, 'must contain only letters, digits and + / = . _ ~ -'],
  client: [/^[\x20-\x7e]*$/, 'must contain only printable ASCII characters'],
  host: [/^[\w.:%[\]-]*$/, 'must be a host name or an address'],
  visible: [VISIBLE, 'must contain only visible characters and blanks'],
}

/** The rule that a trimmed text of this kind breaks; null if it breaks none. Never quotes the text. */
export const textFault = (text: string, kind: TextKind): string | null => {
  const ends = `${text.at(0)}${text.at(-1)}`
  if (text.length > 1 && QUOTES.includes(ends)) return 'must not be in quotes'
  if (kind === 'json') return null
  if (LINE_END.test(text)) return 'must be one line'
  const [pattern, rule] = KINDS[kind]
  return pattern.test(text) ? null : rule
}
