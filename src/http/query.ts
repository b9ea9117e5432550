import type { z } from 'zod'
import { GatewayError } from '../errors.ts'

/** The rules that a query parameter can break, in both languages. */
const RULES = {
  'unknown-parameter': { en: 'is not a parameter of this route', zh: '不是此接口的参数' },
  lang: { en: 'must be en or zh', zh: '必须为 en 或 zh' },
  limit: { en: 'must be a whole number from 1 to 200', zh: '必须为 1 到 200 的整数' },
  cursor: { en: 'must be a nextCursor of an earlier answer', zh: '必须是先前响应中的 nextCursor' },
  date: {
    en: 'must be an ISO 8601 date, or date and time with a zone',
    zh: '必须为 ISO 8601 日期，或带时区的日期时间',
  },
  outcome: {
    en: 'must be one of pending, refused, accepted, cancelled, rejected, failed, unknown',
    zh: '必须为 pending、refused、accepted、cancelled、rejected、failed、unknown 之一',
  },
  text: { en: 'must be given once, with 1 to 128 characters', zh: '必须只出现一次，且为 1 到 128 个字符' },
} as const

/** For a schema's `error`: names the rule that its failure breaks. */
export const rule = (name: keyof typeof RULES): { error: string } => ({ error: name })

/** Reads a query by a schema whose errors are names of rules. @throws query-invalid naming the first faulty parameter */
export const parseQuery = <T>(schema: z.ZodType<T>, query: unknown): T => {
  const parsed = schema.safeParse(query)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  const unknown = issue?.code === 'unrecognized_keys'
  const field = String(unknown ? issue.keys[0] : issue?.path[0])
  const name = unknown ? 'unknown-parameter' : (RULE_NAMES.find((known) => known === issue?.message) ?? 'text')
  throw new GatewayError('query-invalid', { field: /^[\w.-]{1,64}$/.test(field) ? field : 'query', rule: RULES[name] })
}

const RULE_NAMES = ['lang', 'limit', 'cursor', 'date', 'outcome', 'text'] as const
