import { createHash, randomBytes } from 'node:crypto'

// Secrets that are easy to guess: placeholders of examples, common words, and texts that repeat themselves.

/** Texts of examples in place of a value. */
const PLACEHOLDERS: readonly RegExp[] = [
  /^(<.*>|\[.*\])$/s,
  // A variable that was not replaced.
  /^\$?\{.*\}$/,
  /^(\$[A-Z][A-Z0-9_]{2,}|%[A-Z][A-Z0-9_]{2,}%)$/,
  /change[-_ ]?(me|this|it)/i,
  /replace[-_ ]?(me|this|with)/i,
  /placeholder/i,
  /^(your|insert|todo)[-_ ]/i,
  /^([*.…_-]{4,}|x{4,})$/i,
]

/** In quotes too: some programs that read a file of variables leave them on. */
export const isPlaceholder = (text: string): boolean => {
  const [, , bare = ''] = /^(["'`]?)(.*)\1$/s.exec(text.trim()) ?? []
  return PLACEHOLDERS.some((pattern) => pattern.test(bare.trim()))
}

const LENGTH_MIN = 32
const CHARACTERS_MIN = 8
/** Nearly all of the 30 runs of 32 random hex digits differ. */
const RUNS_MIN = 20
/** The steps between neighbouring characters are all the same in a sequence such as `0123456789`. */
const STEP_RUNS_MIN = 12

/** A sequence of bytes has one or a few different steps; those of sixteen random bytes nearly all differ. */
const BYTE_STEPS_MIN = 6

/**
 * Whether a text can be a secret that sessions are encrypted with. It is long and no placeholder. It is not made of a
 * few characters, does not repeat a word or a sequence, and does not encode bytes that are such a sequence.
 */
export const isStrongSecret = (text: string): boolean => {
  const codes = Array.from(text, (character) => character.codePointAt(0) ?? 0)
  const isVaried =
    new Set(codes).size >= CHARACTERS_MIN && runsOf(codes) >= RUNS_MIN && runsOf(stepsOf(codes)) >= STEP_RUNS_MIN
  const isEncodedSequence = bytesIn(text).some((bytes) => new Set(stepsOf(bytes)).size < BYTE_STEPS_MIN)
  return text.length >= LENGTH_MIN && isVaried && !isEncodedSequence && !isPlaceholder(text)
}

const stepsOf = (numbers: readonly number[]): readonly number[] =>
  numbers.slice(1).map((each, index) => each - (numbers[index] ?? 0))

/** The bytes that a text can stand for, in each of the encodings that it can be. */
const bytesIn = (text: string): readonly (readonly number[])[] => [
  ...(/^([0-9a-f]{2}[:\s-]?)+$/i.test(text) ? [[...Buffer.from(text.replace(/[^0-9a-f]/gi, ''), 'hex')]] : []),
  ...(/^[\w+/-]+={0,2}$/.test(text) ? [[...Buffer.from(text, 'base64')]] : []),
]

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
  'changeme123',
  'your-key',
  'your-api-key',
  'your_api_key',
  'replace-me',
  'placeholder',
  '""',
  "''",
  '-',
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

/** Each as it stands and in capitals, also with the line end that `echo` adds before the text is hashed. */
const WEAK_HASHES: ReadonlySet<string> = new Set(
  WEAK_KEYS.flatMap((key) => [key, key.toUpperCase(), `${key.slice(0, 1).toUpperCase()}${key.slice(1)}`]).flatMap(
    (key) => [key, `${key}\n`, `${key}\r\n`].map(hashOf),
  ),
)

/** Whether a SHA-256 in hex digits is that of an empty text or of a commonly used word. */
export const isWeakHash = (hex: string): boolean => WEAK_HASHES.has(hex.toLowerCase())
