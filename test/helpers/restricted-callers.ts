import { sha256 } from '../../src/callers/api-keys.ts'
import type { Scope } from '../../src/callers/caller.ts'
import { API_KEYS } from './gateway.ts'

export interface Restrictions {
  readonly domains?: readonly string[]
  readonly taskTypes?: readonly string[]
}

export interface ApiKeyEntry extends Restrictions {
  readonly name: string
  readonly scopes: readonly Scope[]
}

const keyOf = (name: string): string => `key-of-${name}`

/** The header of a caller from `apiKeysWith`. */
export const asCaller = (name: string) => ({ 'x-api-key': keyOf(name) })

/** `API_KEYS` with further callers, each with its own key. */
export const apiKeysWith = (...entries: readonly ApiKeyEntry[]): string =>
  JSON.stringify([
    ...JSON.parse(API_KEYS),
    ...entries.map((entry) => ({ ...entry, sha256: sha256(keyOf(entry.name)).toString('hex') })),
  ])
