import { z } from 'zod'
import type { Scope } from './caller.ts'
import { type ParsedEntries, parseEntries, restrictionFields, scopesField } from './entries.ts'

/** What one holder of tokens may do, whatever the tokens say. */
export interface Grant {
  readonly issuer: string
  readonly sub: string
  readonly scopes: readonly Scope[]
}

export interface Grants {
  /** None for whoever is not listed. */
  scopesOf(issuer: string, sub: string): readonly Scope[]
  /** Takes new grants in place of the old ones. */
  replace(grants: readonly Grant[]): void
}

// Compared to the letter with what tokens say, so nothing is cut or folded.
const claim = z.string({ error: 'must be a text' }).min(1, { error: 'must not be empty' })

const grantSchema = z.strictObject({ issuer: claim, sub: claim, scopes: scopesField, ...restrictionFields })

/** Reads the JSON of `GRANTS_FILE`. */
export const parseGrants = (text: string): ParsedEntries<Grant> => {
  const parsed = parseEntries(text, grantSchema, '{"issuer","sub","scopes"}')
  if (!parsed.ok) return parsed
  const isDoubled = new Set(parsed.entries.map(keyOf)).size < parsed.entries.length
  return isDoubled ? { ok: false, rule: 'must not list a subject twice' } : parsed
}

export const createGrants = (initial: readonly Grant[]): Grants => {
  const index = (grants: readonly Grant[]) => new Map(grants.map((grant) => [keyOf(grant), grant.scopes]))
  let scopes = index(initial)
  return {
    scopesOf: (issuer, sub) => scopes.get(keyOf({ issuer, sub })) ?? [],
    replace: (grants) => {
      scopes = index(grants)
    },
  }
}

const keyOf = ({ issuer, sub }: Pick<Grant, 'issuer' | 'sub'>): string => JSON.stringify([issuer, sub])
