import * as z from 'zod'
import { visible } from '../visible-text.ts'
import { type Grant, SCOPES, type Scope } from './caller.ts'
import { domainPatterns, taskTypes } from './entry-schema.ts'

/** The claim that lists a token's scopes, where no other is named. */
export const DEFAULT_SCOPE_CLAIM = 'scope'

export type Claims = Readonly<Record<string, unknown>>

/** The claims that hold the scopes and restrictions of a token. */
export interface ClaimNames {
  readonly scopeClaim: string
  /** Undefined where tokens do not restrict their holders so. */
  readonly domainsClaim: string | undefined
  readonly taskTypesClaim: string | undefined
}

/** Limit for a list or text of scopes, domains or types; a longer one counts as empty. */
const LIST_MAX = 1000

/** The grant in the claims of a token. */
export const grantIn = (claims: Claims, { scopeClaim, domainsClaim, taskTypesClaim }: ClaimNames): Grant => ({
  scopes: scopesIn(claims, scopeClaim),
  domains: restrictionIn(claims, domainsClaim, domainPatterns),
  taskTypes: restrictionIn(claims, taskTypesClaim, taskTypes),
})

/** A claim that restricts leaves nothing where it is absent or in any part faulty. */
const restrictionIn = (
  claims: Claims,
  name: string | undefined,
  list: z.ZodType<readonly string[]>,
): readonly string[] | null => (name === undefined ? null : (list.safeParse(boundedList(claims[name])).data ?? []))

const boundedList = (value: unknown): readonly unknown[] | undefined =>
  Array.isArray(value) && value.length <= LIST_MAX ? value : undefined

/** A text with spaces in between (RFC 8693, section 4.2) or a list of texts; in any other form it grants nothing. */
const scopesIn = (claims: Claims, name: string): readonly Scope[] => {
  const value = claims[name] ?? (name === DEFAULT_SCOPE_CLAIM ? claims.scp : undefined)
  const listed = boundedList(typeof value === 'string' ? value.split(' ', LIST_MAX + 1) : value) ?? []
  return listed.every((text) => typeof text === 'string') ? SCOPES.filter((scope) => listed.includes(scope)) : []
}

/** A holder's name goes on record and into the log, so nothing in it may be invisible or break a line. */
export const subject = z.string().regex(/^(?!\s)[^\p{C}\p{Zl}\p{Zp}]{1,256}(?<!\s)$/u)

/** Of a display name, after escapes, in UTF-16 units. */
export const DISPLAY_NAME_MAX = 128
/** More than enough for every name; four units at most compose one (Unicode, NFC). */
const NORMALIZED_MAX = 8 * DISPLAY_NAME_MAX

/**
 * The name of the person in the claims of a token, for display only: in NFC, with invisible characters escaped, and
 * truncated without cutting an escape or a surrogate pair in two. Null if there is none.
 */
export const displayNameIn = (claims: Claims, nameClaim: string | null): string | null => {
  const value = nameClaim === null ? null : claims[nameClaim]
  if (typeof value !== 'string') return null
  let start = ''
  for (const character of value.trim().slice(0, NORMALIZED_MAX).normalize('NFC')) {
    const shown = visible(character)
    if (start.length + shown.length > DISPLAY_NAME_MAX) break
    start += shown
  }
  // The last letter of an escape composes with a mark that follows it.
  return start.normalize('NFC') || null
}
