import * as z from 'zod'
import { GatewayError } from '../../errors.ts'
import { parseMoment } from '../../time.ts'

/** The rules that a query parameter can break, in both languages. */
const RULES = {
  'unknown-parameter': { en: 'is not a parameter of this route', zh: '不是该接口的参数' },
  lang: { en: 'must be en or zh', zh: '必须为 en 或 zh' },
  limit: { en: 'must be a whole number from 1 to 200', zh: '必须为 1 到 200 的整数' },
  page: { en: 'must be a whole number from 1 to 1000000', zh: '必须为 1 到 1000000 的整数' },
  pageSize: { en: 'must be a whole number from 1 to 100', zh: '必须为 1 到 100 的整数' },
  detailPageSize: { en: 'must be a whole number from 1 to 1000', zh: '必须为 1 到 1000 的整数' },
  createdTo: { en: 'must not be before createdFrom', zh: '不得早于 createdFrom' },
  detailStatus: {
    en: 'must be one of waiting, executing, succeeded, failed',
    zh: '必须为 waiting、executing、succeeded 或 failed',
  },
  include: { en: 'must be domains', zh: '必须为 domains' },
  sort: { en: 'must be finished', zh: '必须为 finished' },
  cursor: { en: 'must be a nextCursor of an earlier response', zh: '必须为之前响应中的 nextCursor' },
  date: {
    en: 'must be an ISO 8601 date, or a date and time with a time zone',
    zh: '必须为 ISO 8601 格式的日期，或带时区的日期和时间',
  },
  outcome: {
    en: 'must be one of pending, refused, accepted, cancelled, too-late, rejected, failed, unknown',
    zh: '必须为 pending、refused、accepted、cancelled、too-late、rejected、failed 或 unknown',
  },
  returnTo: {
    en: 'must be a path of this site, such as /console, or a URL of an origin in CORS_ORIGINS, of at most 1000 characters',
    zh: '必须为本站的路径（例如 /console），或 CORS_ORIGINS 所列来源的 URL，且长度不超过 1000 个字符',
  },
  text: { en: 'must occur once and have 1 to 253 characters', zh: '只能指定一次，且长度必须为 1 到 253 个字符' },
} as const

type RuleName = keyof typeof RULES

/** For a schema's `error`: names the rule that its failure breaks. */
export const rule = (name: RuleName): { error: RuleName } => ({ error: name })

// Parameters of several routes.

export const langParameter = z.enum(['en', 'zh'], rule('lang')).optional()

/** No database keeps a NUL. */
export const textParameter = z
  .string(rule('text'))
  .regex(/^[^\0]{1,253}$/, rule('text'))
  .optional()

/** Milliseconds since the epoch. */
export const momentParameter = z
  .string(rule('date'))
  .transform(parseMoment)
  .pipe(z.number(rule('date')))
  .optional()

/** The rule must state the same bounds. */
export const countParameter = (name: RuleName, max: number) =>
  z
    .string(rule(name))
    .regex(/^\d{1,7}$/, rule(name))
    .transform(Number)
    .pipe(z.number().min(1, rule(name)).max(max, rule(name)))

/**
 * Reads a query by a schema whose errors are names of rules. @throws query-invalid naming the first faulty parameter
 */
export const parseQuery = <T>(schema: z.ZodType<T>, query: unknown): T => {
  const parsed = schema.safeParse(query)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  const unknown = issue?.code === 'unrecognized_keys'
  const field = String(unknown ? issue.keys[0] : issue?.path[0])
  const broken = unknown ? RULES['unknown-parameter'] : (RULES_BY_NAME.get(issue?.message ?? '') ?? RULES.text)
  throw new GatewayError('query-invalid', { field: /^[\w.-]{1,64}$/.test(field) ? field : 'query', rule: broken })
}

const RULES_BY_NAME = new Map<string, (typeof RULES)[RuleName]>(Object.entries(RULES))
