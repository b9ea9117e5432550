import { createHash, randomBytes } from 'node:crypto'

// Secrets that are not secret: what stands in examples, and what anybody would try first.

/** What stands in an example in place of a value. */
const PLACEHOLDERS: readonly RegExp[] = [
  /^<.*>$/s,
  /^\$?\{.*\}$/,
  /change[-_ ]?(me|this|it)/i,
  /replace[-_ ]?(me|this|with)/i,
  /placeholder/i,
  /^(your|insert|todo)[-_ ]/i,
  /^([*.…_-]{4,}|x{4,})$/i,
]

export const isPlaceholder = (text: string): boolean => PLACEHOLDERS.some((pattern) => pattern.test(text.trim()))

const LENGTH_MIN = 32
const CHARACTERS_MIN = 8
/** Nearly all of the 30 runs of 32 random hex digits differ. */
const RUNS_MIN = 20
/** The steps between neighbouring characters are all the same in a sequence such as `0123456789`. */
const STEP_RUNS_MIN = 12

/**
 * Whether a text can be a secret that sessions are encrypted with: long, no placeholder, and neither a few characters nor
 * a word nor a sequence again and again.
 */
export const isStrongSecret = (text: string): boolean => {
  const codes = Array.from(text, (character) => character.codePointAt(0) ?? 0)
  const steps = codes.slice(1).map((code, index) => code - (codes[index] ?? 0))
  const isVaried = new Set(codes).size >= CHARACTERS_MIN && runsOf(codes) >= RUNS_MIN && runsOf(steps) >= STEP_RUNS_MIN
  return text.length >= LENGTH_MIN && isVaried && !isPlaceholder(text)
}

/** How many different runs of three numbers there are. */
const runsOf = (numbers: readonly number[]): number =>
  new Set(numbers.slice(2).map((number, index) => [numbers[index], numbers[index + 1], number].join())).size

/** A new secret, of 256 random bits. */
export const createSecret = (): string => {
  const secret = randomBytes(32).toString('base64url')
  return isStrongSecret(secret) ? secret : createSecret()
}

const WEAK_KEYS: readonly string[] = [
  '',
  ' ',
  'changeme',
  'change-me',
  'change_me',
  'changeit',
  'secret',
  'test',
  'password',
  'passw0rd',
  'admin',
  'root',
  'api-key',
  'apikey',
  'api_key',
  'token',
  'default',
  'example',
  'letmein',
  'qwerty',
  'abc123',
  '123',
  '1234',
  '12345',
  '123456',
  '12345678',
  '123456789',
  '1234567890',
  'null',
  'undefined',
  'none',
  'true',
  'false',
  '0',
  '1',
  '<key>',
  '<the key>',
]

const hashOf = (text: string): string => createHash('sha256').update(text).digest('hex')

/** Each as it stands and in capitals, and with the line end that `echo` adds to what is hashed. */
const WEAK_HASHES: ReadonlySet<string> = new Set(
  WEAK_KEYS.flatMap((key) => [key, key.toUpperCase(), `${key.slice(0, 1).toUpperCase()}${key.slice(1)}`]).flatMap(
    (key) => [key, `${key}\n`, `${key}\r\n`].map(hashOf),
  ),
)

/** Whether a SHA-256 in hex digits is that of nothing, or of a word that anybody would try first. */
export const isWeakHash = (hex: string): boolean => WEAK_HASHES.has(hex.toLowerCase())
