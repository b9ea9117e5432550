import * as z from 'zod'
import { SCOPES } from './caller.ts'
import { toDomainPattern } from './domain-names.ts'

/** Either the entries, or the rule that the text breaks. The rule names places, never values. */
export type ParsedEntries<T> =
  | { readonly ok: true; readonly entries: readonly T[] }
  | { readonly ok: false; readonly rule: string }

/** A list, up to its first faulty element: a schema of the whole list would describe each one. */
const listOf = <T>(element: z.ZodType<T>, error: string) =>
  z.array(z.unknown(), { error }).transform((list, context): T[] => {
    const elements: T[] = []
    for (const [index, each] of list.entries()) {
      const parsed = element.safeParse(each)
      if (!parsed.success) {
        context.addIssue({ code: 'custom', path: [index], message: parsed.error.issues[0]?.message ?? error })
        return z.NEVER
      }
      elements.push(parsed.data)
    }
    return elements
  })

export const scopesField = listOf(
  z.enum(SCOPES, { error: `must be one of ${SCOPES.join(', ')}` }),
  'must be a list of scopes',
)

const DOMAIN_RULE = 'must be a domain, such as example.com, or *.example.com for those below it'

const domainPattern = z.string({ error: DOMAIN_RULE }).transform((text, context) => {
  const pattern = toDomainPattern(text)
  if (pattern !== null) return pattern
  context.addIssue({ code: 'custom', message: DOMAIN_RULE })
  return z.NEVER
})

const TYPE_RULE = 'must be a type of task, such as CHG_DNS'

const taskType = z.string({ error: TYPE_RULE }).regex(/^[\w.-]{1,64}$/, { error: TYPE_RULE })

export const domainPatterns = listOf(domainPattern, 'must be a list of domains')

export const taskTypes = listOf(taskType, 'must be a list of types of tasks')

// An empty list leaves nothing. Refusing it would leave a caller with what it could do before the file was changed.
export const restrictionFields = {
  domains: domainPatterns.optional().transform((patterns) => patterns ?? null),
  taskTypes: taskTypes.optional().transform((types) => types ?? null),
}

/** Reads a JSON array of such entries. `shape` is how the rule names an entry. */
export const parseEntries = <T>(text: string, entry: z.ZodType<T>, shape: string): ParsedEntries<T> => {
  const json = parseJson(text)
  if (!Array.isArray(json)) return { ok: false, rule: `must be a JSON array of ${shape}` }
  const entries: T[] = []
  for (const [index, each] of json.entries()) {
    const parsed = entry.safeParse(each)
    if (!parsed.success) return { ok: false, rule: describeIssue(index, parsed.error.issues[0]) }
    entries.push(parsed.data)
  }
  return { ok: true, entries }
}

const parseJson = (text: string): unknown => {
  try {
    // A file can begin with a byte order mark, which counts as white space here.
    return JSON.parse(text.trim())
  } catch {
    return undefined
  }
}

const describeIssue = (index: number, issue: z.core.$ZodIssue | undefined): string => {
  const place = [`entry ${index + 1}`, ...(issue?.path ?? []).map(String)].join(', ')
  // The library's own text for unknown fields quotes them, and a misplaced secret can be one.
  const rule = issue?.code === 'unrecognized_keys' ? 'has a field that is not known' : issue?.message
  return `${place}: ${rule ?? 'is not valid'}`
}
