import * as z from 'zod'
import { type Grant, NO_GRANT } from './caller.ts'
import { type ParsedEntries, parseEntries, restrictionFields, scopesField } from './entry-schema.ts'

/** The grant of one subject of an issuer; the claims of its tokens don't count then. */
export interface NamedGrant extends Grant {
  readonly issuer: string
  readonly sub: string
}

export interface Grants {
  /** An empty grant for a subject that is not listed. */
  grantOf(issuer: string, sub: string): Grant
  /** Takes new grants in place of the old ones. */
  replace(grants: readonly NamedGrant[]): void
}

// Compared exactly with the claims of tokens, so nothing is cut or folded.
const claim = z.string({ error: 'must be a text' }).min(1, { error: 'must not be empty' })

const grantSchema = z.strictObject({ issuer: claim, sub: claim, scopes: scopesField, ...restrictionFields })

/** Reads the JSON of `GRANTS_FILE`. */
export const parseGrants = (text: string): ParsedEntries<NamedGrant> => {
  const parsed = parseEntries(text, grantSchema, '{"issuer","sub","scopes"}')
  if (!parsed.ok) return parsed
  const isDoubled = new Set(parsed.entries.map(keyOf)).size < parsed.entries.length
  return isDoubled ? { ok: false, rule: 'must not list a subject twice' } : parsed
}

export const createGrants = (initial: readonly NamedGrant[]): Grants => {
  const index = (grants: readonly NamedGrant[]) => new Map(grants.map((grant) => [keyOf(grant), grant]))
  let granted = index(initial)
  return {
    grantOf: (issuer, sub) => granted.get(keyOf({ issuer, sub })) ?? NO_GRANT,
    replace: (grants) => {
      granted = index(grants)
    },
  }
}

/** The grant of a subject: from the grants file if there is one, else from its token. */
export const grantFor = (grants: Grants | null, issuer: string, sub: string, own: Grant): Grant => {
  const { scopes, domains, taskTypes } = grants === null ? own : grants.grantOf(issuer, sub)
  return { scopes, domains, taskTypes }
}

const keyOf = ({ issuer, sub }: Pick<NamedGrant, 'issuer' | 'sub'>): string => JSON.stringify([issuer, sub])
