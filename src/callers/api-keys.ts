import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { z } from 'zod'
import { type Caller, SCOPES } from './caller.ts'

/** A caller and the hashes of the keys that prove it. */
export interface ApiKeyEntry {
  readonly caller: Caller
  readonly hashes: readonly Buffer[]
  /** Milliseconds since the epoch from which on the keys no longer count; null: for ever. */
  readonly expiresAtMs: number | null
}

/** Either the entries, or the rule that the text breaks. The rule names places, never values. */
export type ParsedApiKeys =
  | { readonly ok: true; readonly entries: readonly ApiKeyEntry[] }
  | { readonly ok: false; readonly rule: string }

export interface ApiKeys {
  /** The caller that a key belongs to. Every stored hash is compared, in constant time. */
  find(key: string): Caller | undefined
  /** Takes new entries in place of the old ones. */
  replace(entries: readonly ApiKeyEntry[]): void
}

const hash = z.string().regex(/^[0-9a-f]{64}$/i, { error: 'must be a SHA-256 in 64 hex digits' })
// A restriction that is not enforced would be a promise broken in silence, so an entry with one is refused.
const unenforced = z.undefined({ error: 'restrictions are not enforced by this version' })

const entrySchema = z.strictObject({
  name: z
    .string({ error: 'must be a text' })
    .trim()
    .min(1, { error: 'must not be empty' })
    .max(128, { error: 'must have at most 128 characters' }),
  sha256: z.union([hash, z.array(hash).nonempty({ error: 'must have at least one SHA-256' })], {
    error: 'must be a SHA-256 in 64 hex digits, or a list of them',
  }),
  scopes: z.array(z.enum(SCOPES, { error: `must be one of ${SCOPES.join(', ')}` }), {
    error: 'must be a list of scopes',
  }),
  expiresAt: z.iso.datetime({ offset: true, error: 'must be an ISO 8601 date and time with a zone' }).optional(),
  domains: unenforced.optional(),
  taskTypes: unenforced.optional(),
})

/** Reads the JSON of `API_KEYS` or `API_KEYS_FILE`. */
export const parseApiKeys = (text: string): ParsedApiKeys => {
  const json = parseJson(text)
  if (!Array.isArray(json)) return { ok: false, rule: 'must be a JSON array of {"name","sha256","scopes"}' }
  const parsed = z.array(entrySchema).safeParse(json)
  if (!parsed.success) return { ok: false, rule: describeIssue(parsed.error.issues[0]) }
  const entries = parsed.data.map(toEntry)
  const hashes = entries.flatMap((entry) => entry.hashes.map((digest) => digest.toString('hex')))
  if (new Set(hashes).size < hashes.length) return { ok: false, rule: 'must not list a key twice' }
  return { ok: true, entries }
}

/** A new key, of 256 random bits. The prefix lets secret scanners recognise one that went astray. */
export const createKey = (): string => `dtg_${randomBytes(32).toString('base64url')}`

export const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest()

export const createApiKeys = (initial: readonly ApiKeyEntry[], now: () => number = Date.now): ApiKeys => {
  let entries = initial
  return {
    find: (key) => {
      const digest = sha256(key)
      // No early end: the time taken must not tell where in the list a key stands.
      const matches = entries.filter(
        (entry) => entry.hashes.filter((known) => timingSafeEqual(known, digest)).length > 0,
      )
      return matches.find(({ expiresAtMs }) => expiresAtMs === null || now() < expiresAtMs)?.caller
    },
    replace: (next) => {
      entries = next
    },
  }
}

const toEntry = ({ name, scopes, sha256: hashes, expiresAt }: z.output<typeof entrySchema>): ApiKeyEntry => ({
  caller: { via: 'api-key', issuer: null, name, scopes },
  hashes: [hashes].flat().map((hex) => Buffer.from(hex, 'hex')),
  expiresAtMs: expiresAt === undefined ? null : Date.parse(expiresAt),
})

const parseJson = (text: string): unknown => {
  try {
    // A file can begin with a byte order mark, which counts as white space here.
    return JSON.parse(text.trim())
  } catch {
    return undefined
  }
}

const describeIssue = (issue: z.core.$ZodIssue | undefined): string => {
  const [index, ...rest] = issue?.path ?? []
  const place =
    index === undefined ? '' : `entry ${Number(index) + 1}${rest.map((step) => `, ${String(step)}`).join('')}: `
  // The library's own text for unknown fields quotes them, and a misplaced secret can be one.
  const rule = issue?.code === 'unrecognized_keys' ? 'has a field that is not known' : issue?.message
  return `${place}${rule ?? 'is not valid'}`
}
