import type { ErrorCode, ErrorReason, Lang } from '../../errors.ts'

export interface ProblemText {
  readonly title: string
  /** Together they are the problem's `detail`. */
  readonly happened: string
  readonly advice: string
  /** For developers: headers, routes and settings. The page shows it under its details; no other text names them. */
  readonly technical?: string
}

interface Problem {
  readonly status: number
  readonly retryable: boolean
  /**
   * The outcome of a cancel that fails with this code; null where no cancel can, or the outcome depends on the failure.
   */
  readonly outcome: 'not-cancelled' | 'unknown' | null
  readonly en: ProblemText
  readonly zh: ProblemText
}

const refusal = { retryable: false, outcome: 'not-cancelled' } as const
const unknown = { retryable: false, outcome: 'unknown' } as const
const noCancel = { retryable: false, outcome: null } as const
const later = { retryable: true, outcome: 'not-cancelled' } as const

/** Status, flags and texts of each code. No other place but `REASONS` holds these texts. */
export const PROBLEMS = {
  'audit-unavailable': {
    status: 503,
    ...later,
    en: {
      title: 'The audit trail is not available',
      happened:
        'The gateway cannot read or write the audit trail at the moment. It cancels no task without an audit record.',
      advice: 'Try again later.',
    },
    zh: {
      title: '审计记录不可用',
      happened: '网关暂时无法读取或写入审计记录。没有审计记录时，网关不会取消任务。',
      advice: '请稍后重试。',
    },
  },
  'bad-request': {
    status: 400,
    ...refusal,
    en: {
      title: 'The request is malformed',
      happened: 'The gateway cannot read the request, or a required part is missing.',
      advice: 'Correct the request before you send it again.',
      technical: 'The request is not valid HTTP.',
    },
    zh: {
      title: '请求格式错误',
      happened: '网关无法识别该请求，或请求缺少必要内容。',
      advice: '请更正后重新发送。',
      technical: '该请求不是有效的 HTTP 请求。',
    },
  },
  'content-too-large': {
    status: 413,
    ...refusal,
    en: {
      title: 'The request carries too much data',
      happened: 'The request carries more data than the gateway accepts.',
      advice: 'Send the request without data.',
      technical: 'No route needs a request body.',
    },
    zh: {
      title: '请求携带的数据过多',
      happened: '请求携带的数据超出了网关允许的大小。',
      advice: '请去掉数据后重新发送。',
      technical: '所有接口均不需要请求体。',
    },
  },
  'credentials-ambiguous': {
    status: 400,
    ...refusal,
    en: {
      title: 'More than one credential',
      happened: 'The request carries more than one credential. The gateway cannot tell which credential to use.',
      advice: 'Send exactly one credential, once.',
      technical: 'Credentials are X-API-Key, Authorization and the session cookie.',
    },
    zh: {
      title: '请求携带了多个凭证',
      happened: '请求携带了多个凭证，网关无法确定使用哪一个。',
      advice: '请仅发送一个凭证，且只发送一次。',
      technical: '凭证包括 X-API-Key、Authorization 和会话 Cookie。',
    },
  },
  'csrf-rejected': {
    status: 403,
    ...refusal,
    en: {
      title: 'The request was not sent by a trusted page',
      happened: 'The request was sent in your name, but it does not come from a page that the gateway trusts.',
      advice: 'The gateway blocked the request. If you did not send it, do nothing.',
      technical:
        'A state-changing request of a session needs the header X-CSRF: 1 and an Origin that is PUBLIC_URL or in CORS_ORIGINS.',
    },
    zh: {
      title: '请求并非来自受信任的页面',
      happened: '该请求以您的身份发送，但并非来自受网关信任的页面。',
      advice: '网关已拦截该请求。如果这不是您的操作，则无需处理。',
      technical:
        '使用会话的更改类请求必须携带请求头 X-CSRF: 1，且 Origin 必须等于 PUBLIC_URL 或包含在 CORS_ORIGINS 中。',
    },
  },
  'expectation-failed': {
    status: 417,
    ...refusal,
    en: {
      title: 'The request expects an unsupported feature',
      happened: 'The program that sent the request asks for a feature that the gateway does not support.',
      advice: 'Tell the developer of that program.',
      technical: 'Remove the header Expect, or set it to "100-continue".',
    },
    zh: {
      title: '请求要求了不支持的功能',
      happened: '发送该请求的程序要求了网关不支持的功能。',
      advice: '请联系该程序的开发人员。',
      technical: '请删除请求头 Expect，或将其设置为“100-continue”。',
    },
  },
  forbidden: {
    status: 403,
    ...refusal,
    en: {
      title: 'Permission denied',
      happened: 'The gateway knows your identity, but you do not have the permission for this request.',
      advice: 'If you need the permission, ask the operator of the gateway.',
    },
    zh: {
      title: '没有权限',
      happened: '您的身份已通过验证，但没有执行此操作的权限。',
      advice: '如需此权限，请联系网关运维人员。',
    },
  },
  'gateway-busy': {
    status: 503,
    ...later,
    en: {
      title: 'The gateway is busy',
      happened: 'Too many requests are waiting to be sent to Alibaba Cloud. Nothing was sent for this request.',
      advice: 'Wait a moment, then try again.',
      technical: 'The header Retry-After states the wait in seconds.',
    },
    zh: {
      title: '网关繁忙',
      happened: '等待发送至阿里云的请求过多，该请求未被发送。',
      advice: '请稍候片刻后重试。',
      technical: '响应头 Retry-After 给出需要等待的秒数。',
    },
  },
  'headers-too-large': {
    status: 431,
    ...noCancel,
    en: {
      title: 'The request is too large',
      happened: 'The request carries more data about itself than the gateway accepts.',
      advice:
        'If this happens in a browser, remove the cookies of this site. Otherwise tell the developer of the program.',
      technical: 'Send fewer or shorter headers.',
    },
    zh: {
      title: '请求过大',
      happened: '该请求携带的附加信息超出了网关允许的大小。',
      advice: '如果使用浏览器，请删除此网站的 Cookie；否则请联系该程序的开发人员。',
      technical: '请减少请求头的数量或长度。',
    },
  },
  'identity-provider-unavailable': {
    status: 503,
    ...later,
    en: {
      title: 'The identity provider is not available',
      happened: 'The gateway needs the identity provider to verify your identity. Nothing was changed.',
      advice: 'Try again later.',
    },
    zh: {
      title: '身份提供商不可用',
      happened: '网关暂时无法通过身份提供商验证您的身份。未做任何更改。',
      advice: '请稍后重试。',
    },
  },
  internal: {
    status: 500,
    ...unknown,
    en: {
      title: 'Internal error of the gateway',
      happened: 'The gateway failed because of an internal error.',
      advice:
        'Report the error with the request id. If you were cancelling a task, check the task before you try again.',
    },
    zh: {
      title: '网关内部错误',
      happened: '网关因内部错误未能完成请求。',
      advice: '请提供请求 ID 并报告此问题。如果该请求用于取消任务，请先查看任务状态，再决定是否重试。',
    },
  },
  'method-not-allowed': {
    status: 405,
    ...noCancel,
    en: {
      title: 'This operation is not supported here',
      happened: 'The address exists, but it does not support the requested operation.',
      advice: 'Check the address and the operation against the documentation.',
      technical: 'The header Allow lists the methods of the route.',
    },
    zh: {
      title: '此处不支持该操作',
      happened: '该地址存在，但不支持所请求的操作。',
      advice: '请对照文档检查地址和操作。',
      technical: '响应头 Allow 列出了该路由支持的请求方法。',
    },
  },
  misdirected: {
    status: 421,
    ...refusal,
    en: {
      title: 'Wrong host',
      happened: 'The request names another host than this gateway.',
      advice: 'Use the correct address of the gateway.',
      technical:
        'The gateway accepts only local names in the header Host, because it serves requests without a credential.',
    },
    zh: {
      title: '主机名错误',
      happened: '请求中的主机名不是此网关的主机名。',
      advice: '请使用网关的正确地址。',
      technical: '网关接受无凭证的请求，因此请求头 Host 只能是本机名称。',
    },
  },
  'not-found': {
    status: 404,
    ...refusal,
    en: {
      title: 'Not found',
      happened: 'The page or the audit record does not exist, or you may not see the audit record.',
      advice: 'Check the address and every id in it.',
    },
    zh: {
      title: '未找到',
      happened: '该页面或审计记录不存在，或者您无权查看该审计记录。',
      advice: '请检查地址及其中的 ID。',
    },
  },
  'outcome-unknown': {
    status: 504,
    ...unknown,
    en: {
      title: 'The cancellation may or may not have happened',
      happened: 'The request was sent. Neither the response nor the task shows whether it took effect.',
      advice: 'Check the task later. Cancel it again only if it is neither cancelled nor being cancelled.',
      technical:
        'GET /tasks/:taskNo returns the state of the task. GET /cancellations/:id returns the outcome as soon as it is known.',
    },
    zh: {
      title: '取消操作可能已生效，也可能未生效',
      happened: '请求已发送至阿里云，但根据响应和任务状态均无法确定其是否生效。',
      advice: '请稍后再次查看该任务。仅当任务未取消且不在取消中时，才可再次取消。',
      technical: 'GET /tasks/:taskNo 返回任务状态；GET /cancellations/:id 在结果确定后返回该结果。',
    },
  },
  'query-invalid': {
    status: 400,
    ...refusal,
    en: {
      title: 'A parameter is not valid',
      happened: 'A parameter of the request is unknown, or its value is not valid.',
      advice: 'Correct the parameter that the problem names.',
      technical: 'The member “detail” of the problem names the query parameter and the rule.',
    },
    zh: {
      title: '参数无效',
      happened: '请求中存在未知的参数，或参数的值无效。',
      advice: '请更正错误信息中指出的参数。',
      technical: '错误信息的 detail 字段给出查询参数及其规则。',
    },
  },
  'request-timeout': {
    status: 408,
    ...later,
    en: {
      title: 'The request took too long',
      happened: 'The complete request did not arrive in time.',
      advice: 'Send the request again.',
    },
    zh: { title: '请求超时', happened: '网关未能及时收到完整的请求。', advice: '请重新发送请求。' },
  },
  'shutting-down': {
    status: 503,
    ...later,
    en: {
      title: 'This instance is shutting down',
      happened: 'This instance of the gateway is shutting down. It accepts no new requests.',
      advice: 'Try again in a moment. Another instance can respond then.',
    },
    zh: {
      title: '实例正在关闭',
      happened: '该网关实例正在关闭，不再接受新请求。',
      advice: '请稍后重试，其他实例可以处理该请求。',
    },
  },
  'sign-in-failed': {
    status: 400,
    retryable: true,
    outcome: null,
    en: {
      title: 'The sign-in failed',
      happened: 'The response of the identity provider does not complete a sign-in that this browser started.',
      advice: 'Sign in again. If the sign-in fails again, tell the operator of the gateway.',
    },
    zh: {
      title: '登录失败',
      happened: '身份提供商返回的内容无法完成由此浏览器发起的登录。',
      advice: '请重新登录。如果仍然失败，请联系网关运维人员。',
    },
  },
  'task-no-invalid': {
    status: 400,
    ...refusal,
    en: {
      title: 'The task number is not valid',
      happened: 'A task number must be 1 to 64 letters, digits, hyphens or underscores.',
      advice: 'Check the number against the list of tasks.',
    },
    zh: {
      title: '任务编号无效',
      happened: '任务编号必须由 1 到 64 个字母、数字、短划线或下划线组成。',
      advice: '请对照任务列表检查任务编号。',
    },
  },
  'task-not-cancellable': {
    status: 409,
    ...refusal,
    en: {
      title: 'The task cannot be cancelled',
      happened:
        'Alibaba Cloud refused the request for a reason that concerns the task. The task may be complete, or its type may not allow cancellation.',
      advice: 'Check the task. The same request is unlikely to succeed.',
    },
    zh: {
      title: '任务无法取消',
      happened: '阿里云因任务自身的原因拒绝了该请求。任务可能已完成，或者该类型的任务不支持取消。',
      advice: '请查看该任务。重复发送相同的请求通常不会成功。',
    },
  },
  'task-not-found': {
    status: 404,
    ...refusal,
    en: {
      title: 'No such task',
      happened: 'The account has no task with this number, or you may not see the task.',
      advice: 'Check the number against the list of tasks.',
    },
    zh: {
      title: '任务不存在',
      happened: '账号中不存在该编号的任务，或者您无权查看该任务。',
      advice: '请对照任务列表检查任务编号。',
    },
  },
  'too-many-requests': {
    status: 429,
    ...later,
    en: {
      title: 'Too many requests',
      happened: 'The number of requests exceeds a limit of the gateway.',
      advice: 'Wait a moment, then try again.',
      technical:
        'The header Retry-After states the wait in seconds. The header RateLimit states what is left of the limit.',
    },
    zh: {
      title: '请求过于频繁',
      happened: '请求次数超出了网关的限制。',
      advice: '请稍候片刻后重试。',
      technical: '响应头 Retry-After 给出需要等待的秒数；响应头 RateLimit 给出剩余的限额。',
    },
  },
  unauthenticated: {
    status: 401,
    ...refusal,
    en: {
      title: 'Authentication is required',
      happened: 'The gateway does not know who sent the request.',
      advice: 'Sign in, or use a valid key or token.',
      technical: 'The header WWW-Authenticate names a kind of credential that the gateway accepts.',
    },
    zh: {
      title: '需要身份验证',
      happened: '网关无法确定该请求的发送者。',
      advice: '请登录，或使用有效的密钥或令牌。',
      technical: '响应头 WWW-Authenticate 给出网关接受的凭证类型。',
    },
  },
  'upstream-bad-response': {
    status: 502,
    ...unknown,
    en: {
      title: 'The response of Alibaba Cloud cannot be read',
      happened: 'Alibaba Cloud responded, but the gateway cannot interpret the response.',
      advice:
        'If you were cancelling a task, check the task before you try again. If the problem persists, tell the operator of the gateway.',
    },
    zh: {
      title: '无法识别阿里云的响应',
      happened: '阿里云返回了响应，但网关无法解析。',
      advice: '如果该请求用于取消任务，请先查看任务状态，再决定是否重试。如果问题持续存在，请联系网关运维人员。',
    },
  },
  'upstream-credentials-rejected': {
    status: 502,
    ...refusal,
    en: {
      title: 'Alibaba Cloud rejected the credentials of the gateway',
      happened: 'The gateway has no credentials that Alibaba Cloud accepts. Your request is not the cause.',
      advice: 'Tell the operator of the gateway.',
    },
    zh: {
      title: '阿里云拒绝了网关的访问凭证',
      happened: '网关没有阿里云认可的访问凭证（AccessKey）。此问题与您的请求无关。',
      advice: '请联系网关运维人员。',
    },
  },
  'upstream-forbidden': {
    status: 502,
    ...refusal,
    en: {
      title: 'The gateway lacks a permission',
      happened:
        'The Alibaba Cloud account of the gateway does not allow this operation. Your request is not the cause.',
      advice: 'Tell the operator of the gateway.',
      technical: 'A RAM policy, or the state of the account, denies the action.',
    },
    zh: {
      title: '网关缺少权限',
      happened: '网关的阿里云账号不允许此操作。此问题与您的请求无关。',
      advice: '请联系网关运维人员。',
      technical: 'RAM 权限策略或账号状态拒绝了该操作。',
    },
  },
  'upstream-misconfigured': {
    status: 502,
    ...refusal,
    en: {
      title: 'The gateway is misconfigured',
      happened: 'A setting or the clock of the gateway is wrong. Your request is not the cause.',
      advice: 'Tell the operator of the gateway.',
      technical: 'The endpoint, the API version or the system time does not fit Alibaba Cloud.',
    },
    zh: {
      title: '网关配置错误',
      happened: '网关的设置或系统时间有误。此问题与您的请求无关。',
      advice: '请联系网关运维人员。',
      technical: '服务接入点、API 版本或系统时间与阿里云不符。',
    },
  },
  'upstream-throttled': {
    status: 503,
    ...later,
    en: {
      title: 'Alibaba Cloud is throttling',
      happened: 'Alibaba Cloud limits the rate of requests and did not carry out this request.',
      advice: 'Wait a moment, then try again.',
      technical: 'The header Retry-After states the wait in seconds.',
    },
    zh: {
      title: '请求被阿里云限流',
      happened: '阿里云限制了请求频率，该请求未被执行。',
      advice: '请稍候片刻后重试。',
      technical: '响应头 Retry-After 给出需要等待的秒数。',
    },
  },
  'upstream-timeout': {
    status: 504,
    ...later,
    en: {
      title: 'Alibaba Cloud took too long to respond',
      happened: 'The gateway could not read from Alibaba Cloud in time. Nothing was changed.',
      advice: 'Try again later.',
    },
    zh: { title: '阿里云响应超时', happened: '网关未能及时从阿里云读取数据。未做任何更改。', advice: '请稍后重试。' },
  },
  'upstream-unavailable': {
    status: 503,
    ...later,
    en: {
      title: 'Alibaba Cloud is not available',
      happened:
        'The gateway could not reach Alibaba Cloud, or Alibaba Cloud did not process the request. Nothing was changed.',
      advice: 'Try again later.',
    },
    zh: {
      title: '阿里云暂时不可用',
      happened: '网关无法连接阿里云，或者阿里云未处理该请求。未做任何更改。',
      advice: '请稍后重试。',
    },
  },
} as const satisfies Record<ErrorCode, Problem>

/**
 * Texts that replace those of the code where the cause is known. A problem keeps the title of its code (RFC 9457,
 * section 3.1.3); a page shows the title of the cause.
 */
export const REASONS = {
  'consent-denied': {
    en: {
      title: 'You did not allow the sign-in',
      happened: 'The sign-in ended at the identity provider, because you or your organization did not allow it.',
      advice: 'Sign in again and allow the access. If you cannot allow it, ask the operator of the gateway.',
    },
    zh: {
      title: '您未同意登录授权',
      happened: '登录在身份提供商处终止，因为您或您的组织未同意授权。',
      advice: '请重新登录并同意授权。如果您无法授权，请联系网关运维人员。',
    },
  },
  'key-invalid': {
    en: {
      title: 'This key is not valid',
      happened: 'This key is not valid. It may be mistyped, expired or withdrawn.',
      advice: 'Check the key, or ask the operator of the gateway for a new one.',
    },
    zh: {
      title: '此密钥无效',
      happened: '此密钥无效，可能输入有误、已过期或已被撤销。',
      advice: '请检查密钥，或向网关运维人员申请新的密钥。',
    },
  },
  'session-ended': {
    en: {
      title: 'You are no longer signed in',
      happened: 'You signed out, or your sign-in has expired.',
      advice: 'Sign in again.',
    },
    zh: { title: '您的登录已失效', happened: '您已退出登录，或登录已过期。', advice: '请重新登录。' },
  },
  'token-invalid': {
    en: {
      title: 'This token is not valid',
      happened: 'This token is not valid, or it has expired.',
      advice: 'Obtain a new token, then send the request again.',
    },
    zh: { title: '此令牌无效', happened: '此令牌无效或已过期。', advice: '请获取新的令牌后重新发送请求。' },
  },
} as const satisfies Record<ErrorReason, Record<Lang, ProblemText>>
