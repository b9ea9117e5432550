import { z } from 'zod'
import { SCOPES } from './caller.ts'

/** Either the entries, or the rule that the text breaks. The rule names places, never values. */
export type ParsedEntries<T> =
  | { readonly ok: true; readonly entries: readonly T[] }
  | { readonly ok: false; readonly rule: string }

export const scopesField = z.array(z.enum(SCOPES, { error: `must be one of ${SCOPES.join(', ')}` }), {
  error: 'must be a list of scopes',
})

// A restriction that is not enforced would be a promise broken in silence, so an entry with one is refused.
const unenforced = z
  .undefined({ error: 'restrictions are not enforced by this version' })
  .optional()
  .transform(() => null)

export const restrictionFields = { domains: unenforced, taskTypes: unenforced }

/** Reads a JSON array of such entries. `shape` is how the rule names an entry. */
export const parseEntries = <T>(text: string, entry: z.ZodType<T>, shape: string): ParsedEntries<T> => {
  const json = parseJson(text)
  if (!Array.isArray(json)) return { ok: false, rule: `must be a JSON array of ${shape}` }
  const parsed = z.array(entry).safeParse(json)
  return parsed.success
    ? { ok: true, entries: parsed.data }
    : { ok: false, rule: describeIssue(parsed.error.issues[0]) }
}

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
