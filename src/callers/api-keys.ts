import { hash, randomBytes, timingSafeEqual } from 'node:crypto'
import * as z from 'zod'
import { isWeakHash } from '../settings/secret-strength.ts'
import type { Caller } from './caller.ts'
import { type ParsedEntries, parseEntries, restrictionFields, scopesField } from './entry-schema.ts'

/** A caller and the hashes of the keys that prove it. */
export interface ApiKeyEntry {
  readonly caller: Caller
  readonly hashes: readonly Buffer[]
  /** Milliseconds since the epoch from which on the keys no longer count; null: for ever. */
  readonly expiresAtMs: number | null
}

export type ParsedApiKeys = ParsedEntries<ApiKeyEntry>

export interface ApiKeys {
  /** The caller that a key belongs to, none for an empty one. Every stored hash is compared, in constant time. */
  find(key: string): Caller | undefined
  /** Takes new entries in place of the old ones. */
  replace(entries: readonly ApiKeyEntry[]): void
}

const hashSchema = z.string().regex(/^[0-9a-f]{64}$/i, { error: 'must be a SHA-256 in 64 hex digits' })

const entrySchema = z.strictObject({
  name: z
    .string({ error: 'must be a text' })
    .trim()
    .min(1, { error: 'must not be empty' })
    .max(128, { error: 'must have at most 128 characters' }),
  sha256: z.union([hashSchema, z.array(hashSchema).nonempty({ error: 'must have at least one SHA-256' })], {
    error: 'must be a SHA-256 in 64 hex digits, or a list of them',
  }),
  scopes: scopesField,
  expiresAt: z.iso.datetime({ offset: true, error: 'must be an ISO 8601 date and time with a zone' }).optional(),
  ...restrictionFields,
})

/** Reads the JSON of `API_KEYS` or `API_KEYS_FILE`. */
export const parseApiKeys = (text: string): ParsedApiKeys => {
  const parsed = parseEntries(text, entrySchema, '{"name","sha256","scopes"}')
  if (!parsed.ok) return parsed
  const entries = parsed.entries.map(toEntry)
  const hashes = entries.flatMap((entry) => entry.hashes.map((digest) => digest.toString('hex')))
  if (hashes.some(isWeakHash)) return { ok: false, rule: 'must not list the SHA-256 of an empty or well-known key' }
  if (new Set(hashes).size < hashes.length) return { ok: false, rule: 'must not list a key twice' }
  return { ok: true, entries }
}

/** A new key, of 256 random bits. The prefix lets secret scanners recognise one that went astray. */
export const createKey = (): string => `dtg_${randomBytes(32).toString('base64url')}`

export const sha256 = (text: string): Buffer => hash('sha256', text, 'buffer')

export const createApiKeys = (initial: readonly ApiKeyEntry[], now: () => number = Date.now): ApiKeys => {
  let entries = initial
  return {
    find: (key) => {
      // An empty key never matches, even if an entry has its hash.
      if (key.trim() === '') return undefined
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

const toEntry = ({ sha256: hashes, expiresAt, ...caller }: z.output<typeof entrySchema>): ApiKeyEntry => ({
  caller: { via: 'api-key', issuer: null, displayName: null, ...caller },
  hashes: [hashes].flat().map((hex) => Buffer.from(hex, 'hex')),
  expiresAtMs: expiresAt === undefined ? null : Date.parse(expiresAt),
})
