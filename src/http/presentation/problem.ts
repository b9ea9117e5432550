import type { ErrorFacts, GatewayError, Lang } from '../../errors.ts'
import { PROBLEMS, type ProblemText, REASONS } from './problems.ts'

export interface ProblemContext {
  readonly requestId: string
  /** Of the trace that tells more about it; null where none is recorded. */
  readonly traceId: string | null
  readonly lang: Lang
  /** The problem of a cancel states its outcome. */
  readonly isCancel: boolean
  /** Origin that `type` is built on; a path alone where there is none. */
  readonly publicUrl: string | undefined
}

export const statusOf = ({ code, facts }: Pick<GatewayError, 'code' | 'facts'>): number =>
  facts.status ?? PROBLEMS[code].status

/** What is known of the cause, for people. */
export const textOf = ({ code, facts: { reason } }: Pick<GatewayError, 'code' | 'facts'>, lang: Lang): ProblemText =>
  reason === undefined ? PROBLEMS[code][lang] : REASONS[reason][lang]

/** The members of an RFC 9457 problem; those without a value are left out. */
export const problemBody = ({ code, facts }: Pick<GatewayError, 'code' | 'facts'>, site: ProblemContext) => {
  const { retryable, outcome, [site.lang]: text } = PROBLEMS[code]
  return {
    type: `${site.publicUrl ?? ''}/problems/${code}`,
    title: text.title,
    status: statusOf({ code, facts }),
    detail: detailOf(facts, textOf({ code, facts }, site.lang), site.lang),
    instance: `urn:uuid:${site.requestId}`,
    code,
    // Of a bug no detail leaves.
    ...(code !== 'internal' && facts.upstreamCode && { upstreamCode: facts.upstreamCode }),
    ...(facts.requestId && { requestId: facts.requestId }),
    retryable,
    ...(site.isCancel && outcome !== null && { outcome: facts.outcome ?? outcome }),
    ...(facts.cancellationId && { cancellationId: facts.cancellationId }),
    ...(site.traceId && { traceId: site.traceId }),
  }
}

const BETWEEN_SENTENCES = { en: ' ', zh: '' } as const

const detailOf = ({ field, rule }: ErrorFacts, { happened, advice }: ProblemText, lang: Lang): string =>
  field === undefined || rule === undefined
    ? `${happened}${BETWEEN_SENTENCES[lang]}${advice}`
    : `${field} ${rule[lang]}`

/** `Retry-After` in whole seconds, at least one; null where no wait is known to help. */
export const retryAfterSeconds = ({ retryAfterMs }: ErrorFacts): number | null =>
  retryAfterMs === undefined || retryAfterMs === null ? null : Math.max(1, Math.ceil(retryAfterMs / 1000))
