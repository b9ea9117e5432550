import type { ErrorCode, ErrorFacts, GatewayError, Lang } from '../errors.ts'

interface Text {
  readonly title: string
  readonly detail: string
}

interface Problem {
  readonly status: number
  readonly retryable: boolean
  /** What became of the cancel that failed so; null where no cancel can fail so, or only the failure knows. */
  readonly outcome: 'not-cancelled' | 'unknown' | null
  readonly en: Text
  readonly zh: Text
}

const refusal = { retryable: false, outcome: 'not-cancelled' } as const
const later = { retryable: true, outcome: 'not-cancelled' } as const

/** What each code means on the wire. Source of the texts: this table alone. */
export const PROBLEMS = {
  'audit-unavailable': {
    status: 503,
    ...later,
    en: {
      title: 'The record is not available',
      detail: 'The record can be neither written nor read now, so nothing was sent. Try again later.',
    },
    zh: { title: '审计记录不可用', detail: '审计记录目前无法读写，因此未发送任何内容。请稍后重试。' },
  },
  'bad-request': {
    status: 400,
    ...refusal,
    en: { title: 'The request is malformed', detail: 'The request is not valid HTTP, or lacks something required.' },
    zh: { title: '请求格式错误', detail: '该请求不是有效的 HTTP 请求，或缺少必要内容。' },
  },
  'content-too-large': {
    status: 413,
    ...refusal,
    en: { title: 'The body is too large', detail: 'No route here takes a body of that size.' },
    zh: { title: '请求体过大', detail: '此处没有接口接受如此大的请求体。' },
  },
  'credentials-ambiguous': {
    status: 400,
    ...refusal,
    en: { title: 'More than one credential', detail: 'Send exactly one credential, in one header.' },
    zh: { title: '凭证不唯一', detail: '请只在一个请求头中发送一份凭证。' },
  },
  'expectation-failed': {
    status: 417,
    ...refusal,
    en: { title: 'The expectation cannot be met', detail: 'Only "100-continue" is understood in Expect.' },
    zh: { title: '无法满足期望', detail: 'Expect 请求头只支持 "100-continue"。' },
  },
  forbidden: {
    status: 403,
    ...refusal,
    en: { title: 'Not allowed', detail: 'You are known, but this is not granted to you.' },
    zh: { title: '没有权限', detail: '您的身份已确认，但未被授予此权限。' },
  },
  'headers-too-large': {
    status: 431,
    retryable: false,
    outcome: null,
    en: { title: 'The headers are too large', detail: 'Send fewer or shorter headers.' },
    zh: { title: '请求头过大', detail: '请减少或缩短请求头。' },
  },
  internal: {
    status: 500,
    retryable: false,
    outcome: 'unknown',
    en: {
      title: 'Something is wrong with the gateway',
      detail: 'The fault is ours. Quote the request id to report it.',
    },
    zh: { title: '网关内部错误', detail: '这是网关的问题。报告时请附上请求编号。' },
  },
  'method-not-allowed': {
    status: 405,
    retryable: false,
    outcome: null,
    en: { title: 'Method not allowed', detail: 'This route knows other methods; see the Allow header.' },
    zh: { title: '不支持该方法', detail: '该路径支持其他方法，请见 Allow 响应头。' },
  },
  misdirected: {
    status: 421,
    ...refusal,
    en: { title: 'Wrong host', detail: 'This gateway does not answer for the host that was named.' },
    zh: { title: '主机名错误', detail: '本网关不为所请求的主机名提供服务。' },
  },
  'not-found': {
    status: 404,
    ...refusal,
    en: { title: 'Nothing is here', detail: 'There is no such route or record.' },
    zh: { title: '未找到', detail: '不存在该路径或记录。' },
  },
  'outcome-unknown': {
    status: 504,
    retryable: false,
    outcome: 'unknown',
    en: {
      title: 'The cancellation may or may not have happened',
      detail: 'The request was sent, but no answer tells whether it took effect. Look at the task before trying again.',
    },
    zh: {
      title: '取消操作可能已生效，也可能未生效',
      detail: '请求已发送，但没有结果表明其是否生效。重试前请先查看该任务。',
    },
  },
  'query-invalid': {
    status: 400,
    ...refusal,
    en: { title: 'A query parameter is not valid', detail: 'A query parameter is not valid.' },
    zh: { title: '查询参数无效', detail: '某个查询参数无效。' },
  },
  'request-timeout': {
    status: 408,
    ...later,
    en: { title: 'The request took too long', detail: 'The request did not arrive completely in time.' },
    zh: { title: '请求超时', detail: '请求未能及时完整到达。' },
  },
  'shutting-down': {
    status: 503,
    ...later,
    en: {
      title: 'This instance is shutting down',
      detail: 'Nothing was sent. Try again; another instance will answer.',
    },
    zh: { title: '该实例正在关闭', detail: '未发送任何内容。请重试，其他实例会响应。' },
  },
  'task-no-invalid': {
    status: 400,
    ...refusal,
    en: { title: 'The task number is not valid', detail: 'The task number is not valid.' },
    zh: { title: '任务编号无效', detail: '任务编号无效。' },
  },
  'task-not-cancellable': {
    status: 409,
    ...refusal,
    en: {
      title: 'The task cannot be cancelled',
      detail: 'Alibaba Cloud refused: the task is finished, being cancelled already, or of a kind that stays.',
    },
    zh: { title: '任务无法取消', detail: '阿里云拒绝了该请求：任务已完成、正在取消，或属于不可取消的类型。' },
  },
  'task-not-found': {
    status: 404,
    ...refusal,
    en: { title: 'No such task', detail: 'Alibaba Cloud does not know a task of that number in this account.' },
    zh: { title: '任务不存在', detail: '阿里云账号中不存在该编号的任务。' },
  },
  'too-many-requests': {
    status: 429,
    ...later,
    en: { title: 'Too many requests', detail: 'You asked too often. Wait as long as Retry-After says.' },
    zh: { title: '请求过于频繁', detail: '请求次数过多，请按 Retry-After 所示时间等待。' },
  },
  unauthenticated: {
    status: 401,
    ...refusal,
    en: { title: 'Who are you?', detail: 'A valid credential is required; see the WWW-Authenticate header.' },
    zh: { title: '身份未验证', detail: '需要有效凭证，请见 WWW-Authenticate 响应头。' },
  },
  'upstream-bad-response': {
    status: 502,
    retryable: false,
    outcome: 'unknown',
    en: {
      title: 'Alibaba Cloud answered something unreadable',
      detail: 'The request was sent, but the answer makes no sense. Look at the task before trying again.',
    },
    zh: { title: '阿里云的响应无法识别', detail: '请求已发送，但响应无法理解。重试前请先查看该任务。' },
  },
  'upstream-credentials-rejected': {
    status: 502,
    ...refusal,
    en: { title: 'Alibaba Cloud rejected the gateway’s keys', detail: 'The fault is not yours: tell the operator.' },
    zh: { title: '阿里云拒绝了网关的密钥', detail: '这不是您的问题，请通知运维人员。' },
  },
  'upstream-forbidden': {
    status: 502,
    ...refusal,
    en: { title: 'The gateway lacks a permission', detail: 'Its RAM policy does not allow this: tell the operator.' },
    zh: { title: '网关缺少权限', detail: '网关的 RAM 策略不允许此操作，请通知运维人员。' },
  },
  'upstream-misconfigured': {
    status: 502,
    ...refusal,
    en: {
      title: 'The gateway is misconfigured',
      detail: 'Its endpoint, version or clock is wrong: tell the operator.',
    },
    zh: { title: '网关配置错误', detail: '网关的接入点、版本或时钟有误，请通知运维人员。' },
  },
  'upstream-throttled': {
    status: 503,
    ...later,
    en: { title: 'Alibaba Cloud is throttling', detail: 'Nothing was carried out. Wait as long as Retry-After says.' },
    zh: { title: '阿里云正在限流', detail: '操作未执行。请按 Retry-After 所示时间等待。' },
  },
  'upstream-timeout': {
    status: 504,
    ...later,
    en: { title: 'Alibaba Cloud took too long', detail: 'Nothing was changed. Try again later.' },
    zh: { title: '阿里云响应超时', detail: '未作任何更改。请稍后重试。' },
  },
  'upstream-unavailable': {
    status: 503,
    ...later,
    en: { title: 'Alibaba Cloud cannot be reached', detail: 'Nothing was sent. Try again later.' },
    zh: { title: '无法连接阿里云', detail: '未发送任何内容。请稍后重试。' },
  },
} as const satisfies Record<ErrorCode, Problem>

/** Where a problem arises: what its members depend on besides its code. */
export interface ProblemSite {
  readonly requestId: string
  readonly lang: Lang
  /** A cancel that fails says what became of it. */
  readonly isCancel: boolean
  /** Origin that `type` is built on; a path alone where there is none. */
  readonly publicUrl: string | undefined
}

/** The members of an RFC 9457 problem; those without a value are left out. */
export const problemBody = ({ code, facts }: Pick<GatewayError, 'code' | 'facts'>, site: ProblemSite) => {
  const { status, retryable, outcome, [site.lang]: text } = PROBLEMS[code]
  return {
    type: `${site.publicUrl ?? ''}/problems/${code}`,
    title: text.title,
    status,
    detail: detailOf(facts, text, site.lang),
    instance: `urn:uuid:${site.requestId}`,
    code,
    // Of a bug no detail leaves.
    ...(code !== 'internal' && facts.upstreamCode && { upstreamCode: facts.upstreamCode }),
    ...(facts.requestId && { requestId: facts.requestId }),
    retryable,
    ...(site.isCancel && outcome !== null && { outcome: facts.outcome ?? outcome }),
    ...(facts.cancellationId && { cancellationId: facts.cancellationId }),
  }
}

const detailOf = ({ field, rule }: ErrorFacts, text: Text, lang: Lang): string =>
  field === undefined || rule === undefined ? text.detail : `${field} ${rule[lang]}`

/** `Retry-After` in whole seconds, at least one; null where no wait is known to help. */
export const retryAfterSeconds = ({ retryAfterMs }: ErrorFacts): number | null =>
  retryAfterMs === undefined || retryAfterMs === null ? null : Math.max(1, Math.ceil(retryAfterMs / 1000))
