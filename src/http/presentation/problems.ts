import type { ErrorCode } from '../../errors.ts'

export interface ProblemText {
  readonly title: string
  /** Together they are the problem's `detail`. */
  readonly happened: string
  readonly advice: string
}

interface Problem {
  readonly status: number
  readonly retryable: boolean
  /** The outcome of a cancel with this problem; null where a cancel cannot have it, or where the error states the outcome. */
  readonly outcome: 'not-cancelled' | 'unknown' | null
  readonly en: ProblemText
  readonly zh: ProblemText
}

const refusal = { retryable: false, outcome: 'not-cancelled' } as const
const later = { retryable: true, outcome: 'not-cancelled' } as const

/** Status, members and texts of each code. The only source of these texts. */
export const PROBLEMS = {
  'audit-unavailable': {
    status: 503,
    ...later,
    en: {
      title: 'The record is not available',
      happened: 'The record of cancellations cannot be used right now, and nothing is cancelled without it.',
      advice: 'Try again later.',
    },
    zh: {
      title: '审计记录不可用',
      happened: '审计记录暂时无法使用，网关不会在没有记录的情况下取消任务。',
      advice: '请稍后重试。',
    },
  },
  'bad-request': {
    status: 400,
    ...refusal,
    en: {
      title: 'The request is malformed',
      happened: 'The request is not valid HTTP, or lacks something required.',
      advice: 'Correct it before sending it again.',
    },
    zh: { title: '请求格式错误', happened: '该请求不是有效的 HTTP 请求，或缺少必要内容。', advice: '请更正后再发送。' },
  },
  'content-too-large': {
    status: 413,
    ...refusal,
    en: {
      title: 'The body is too large',
      happened: 'The body is larger than the gateway accepts.',
      advice: 'Send the request without a body: no route needs one.',
    },
    zh: {
      title: '请求体过大',
      happened: '请求体超出了网关接受的大小。',
      advice: '请不带请求体重新发送，各接口都不需要请求体。',
    },
  },
  'credentials-ambiguous': {
    status: 400,
    ...refusal,
    en: {
      title: 'More than one credential',
      happened: 'The request carries more than one credential, so it is not clear which one counts.',
      advice: 'Send exactly one, in one header.',
    },
    zh: {
      title: '凭证不唯一',
      happened: '请求携带了多份凭证，无法确定以哪一份为准。',
      advice: '请只在一个请求头中发送一份凭证。',
    },
  },
  'csrf-rejected': {
    status: 403,
    ...refusal,
    en: {
      title: 'Not sent by a trusted page',
      happened:
        'The request came with a session, but without the header “X-CSRF: 1” or not from an origin that the gateway trusts.',
      advice: 'It was stopped: if you did not mean it, do nothing.',
    },
    zh: {
      title: '请求并非由受信任的页面发出',
      happened: '该请求使用了登录会话，但缺少请求头“X-CSRF: 1”，或并非来自网关信任的来源。',
      advice: '请求已被拦截：如果这不是您的操作，无需处理。',
    },
  },
  'expectation-failed': {
    status: 417,
    ...refusal,
    en: {
      title: 'The expectation cannot be met',
      happened: 'The Expect header asks for something that the gateway does not support.',
      advice: 'Leave it out, or send "100-continue".',
    },
    zh: {
      title: '无法满足期望',
      happened: 'Expect 请求头提出了网关不支持的要求。',
      advice: '请去掉该请求头，或将其设为“100-continue”。',
    },
  },
  forbidden: {
    status: 403,
    ...refusal,
    en: {
      title: 'Not allowed',
      happened: 'You are known, but this is not granted to you.',
      advice: 'If you need it, ask the operator of the gateway.',
    },
    zh: { title: '没有权限', happened: '您的身份已确认，但未被授予此权限。', advice: '如有需要，请联系网关运维人员。' },
  },
  'gateway-busy': {
    status: 503,
    ...later,
    en: {
      title: 'The gateway is busy',
      happened: 'Too much is waiting to be sent to Alibaba Cloud, so nothing was sent for this request.',
      advice: 'Wait for as long as Retry-After says, then try again.',
    },
    zh: {
      title: '网关繁忙',
      happened: '等待发送到阿里云的请求过多，因此未为该请求发送任何内容。',
      advice: '请按 Retry-After 响应头等待后重试。',
    },
  },
  'headers-too-large': {
    status: 431,
    retryable: false,
    outcome: null,
    en: {
      title: 'The headers are too large',
      happened: 'The headers of the request are larger than the gateway accepts.',
      advice: 'Send fewer or shorter headers.',
    },
    zh: { title: '请求头过大', happened: '请求头超出了网关接受的大小。', advice: '请减少或缩短请求头。' },
  },
  'identity-provider-unavailable': {
    status: 503,
    ...later,
    en: {
      title: 'The identity provider is not available',
      happened: 'The identity provider cannot be asked who you are, so nothing was done.',
      advice: 'Try again later.',
    },
    zh: {
      title: '身份提供方不可用',
      happened: '暂时无法向身份提供方确认您的身份，未做任何更改。',
      advice: '请稍后重试。',
    },
  },
  internal: {
    status: 500,
    retryable: false,
    outcome: 'unknown',
    en: {
      title: 'Something is wrong with the gateway',
      happened: 'The gateway failed through a fault of its own.',
      advice: 'Report it with the request id. If you were cancelling a task, look at the task before trying again.',
    },
    zh: {
      title: '网关内部错误',
      happened: '网关因自身故障未能完成请求。',
      advice: '请附上请求编号报告此问题。如果当时在取消任务，重试前请先查看该任务。',
    },
  },
  'method-not-allowed': {
    status: 405,
    retryable: false,
    outcome: null,
    en: {
      title: 'Method not allowed',
      happened: 'This route does not support the method of the request.',
      advice: 'Use one of those that the Allow header lists.',
    },
    zh: { title: '不支持该方法', happened: '该路径不支持此请求方法。', advice: '请使用 Allow 响应头中列出的方法。' },
  },
  misdirected: {
    status: 421,
    ...refusal,
    en: {
      title: 'Wrong host',
      happened: 'The gateway does not answer for the host that the request names.',
      advice: 'Use the address that the gateway is meant to be reached at.',
    },
    zh: { title: '主机名错误', happened: '网关不为请求中的主机名提供服务。', advice: '请改用网关的正确地址。' },
  },
  'not-found': {
    status: 404,
    ...refusal,
    en: {
      title: 'Nothing is here',
      happened: 'There is no such route, or no such record that you may see.',
      advice: 'Check the path and any id in it.',
    },
    zh: { title: '未找到', happened: '该路径不存在，或没有您可以查看的相应记录。', advice: '请检查路径及其中的编号。' },
  },
  'outcome-unknown': {
    status: 504,
    retryable: false,
    outcome: 'unknown',
    en: {
      title: 'The cancellation may or may not have happened',
      happened: 'The request was sent, but neither an answer nor the task tells whether it took effect.',
      advice:
        'Look at the task again later (GET /tasks/:taskNo). Cancel it once more only if it is not being cancelled.',
    },
    zh: {
      title: '取消操作可能已生效，也可能未生效',
      happened: '请求已发送，但响应和任务本身都无法说明其是否生效。',
      advice: '请稍后再次查看该任务（GET /tasks/:taskNo），确认任务未取消且不在取消中，再重新发起取消。',
    },
  },
  'query-invalid': {
    status: 400,
    ...refusal,
    en: {
      title: 'A query parameter is not valid',
      happened: 'A query parameter is unknown, or its value is not valid.',
      advice: 'Correct the parameter that the problem names.',
    },
    zh: { title: '查询参数无效', happened: '某个查询参数不存在，或其值无效。', advice: '请更正问题中指出的参数。' },
  },
  'request-timeout': {
    status: 408,
    ...later,
    en: {
      title: 'The request took too long',
      happened: 'The request did not arrive completely in time.',
      advice: 'Send it again.',
    },
    zh: { title: '请求超时', happened: '请求未能及时完整到达。', advice: '请重新发送。' },
  },
  'shutting-down': {
    status: 503,
    ...later,
    en: {
      title: 'This instance is shutting down',
      happened: 'This instance is going out of service and takes no new requests.',
      advice: 'Try again in a moment: another instance can answer.',
    },
    zh: {
      title: '该实例正在关闭',
      happened: '该实例即将停止服务，不再接受新请求。',
      advice: '请稍后重试，其他实例可以响应。',
    },
  },
  'sign-in-failed': {
    status: 400,
    retryable: true,
    outcome: null,
    en: {
      title: 'The sign-in failed',
      happened: 'What came back from the identity provider does not complete a sign-in that this browser began.',
      advice: 'Sign in again. If it keeps failing, tell the operator.',
    },
    zh: {
      title: '登录失败',
      happened: '身份提供方返回的内容无法完成由此浏览器发起的登录。',
      advice: '请重新登录。如果仍然失败，请告知运维人员。',
    },
  },
  'task-no-invalid': {
    status: 400,
    ...refusal,
    en: {
      title: 'The task number is not valid',
      happened: 'A task number must be 1 to 64 letters, digits, hyphens or underscores.',
      advice: 'Check it against the list of tasks.',
    },
    zh: {
      title: '任务编号无效',
      happened: '任务编号必须为 1 到 64 个字母、数字、连字符或下划线。',
      advice: '请对照任务列表检查编号。',
    },
  },
  'task-not-cancellable': {
    status: 409,
    ...refusal,
    en: {
      title: 'The task cannot be cancelled',
      happened:
        'Alibaba Cloud refused for a reason of the task’s own: it may be finished, or of a kind that cannot be cancelled.',
      advice: 'Look at the task; asking again is unlikely to help.',
    },
    zh: {
      title: '任务无法取消',
      happened: '阿里云因任务自身的原因拒绝了该请求：任务可能已完成，或属于不可取消的类型。',
      advice: '请查看该任务；重复请求通常不会得到不同结果。',
    },
  },
  'task-not-found': {
    status: 404,
    ...refusal,
    en: {
      title: 'No such task',
      happened: 'There is no task with that number in this account, or none that you may see.',
      advice: 'Check the number against the list of tasks.',
    },
    zh: {
      title: '任务不存在',
      happened: '该账号中不存在此编号的任务，或您无权查看该任务。',
      advice: '请对照任务列表检查编号。',
    },
  },
  'too-many-requests': {
    status: 429,
    ...later,
    en: {
      title: 'Too many requests',
      happened: 'More requests came than the limit allows.',
      advice: 'Wait as long as Retry-After says, then try again.',
    },
    zh: { title: '请求过于频繁', happened: '请求次数超过了限额。', advice: '请按 Retry-After 所示时间等待后重试。' },
  },
  unauthenticated: {
    status: 401,
    ...refusal,
    en: {
      title: 'A credential is required',
      happened: 'The request carries no credential, or one that is not valid.',
      advice: 'Sign in, or send a valid one of the kind that the WWW-Authenticate header names.',
    },
    zh: {
      title: '身份未验证',
      happened: '请求未携带凭证，或凭证无效。',
      advice: '请登录，或按 WWW-Authenticate 响应头所示的方式提供有效凭证。',
    },
  },
  'upstream-bad-response': {
    status: 502,
    retryable: false,
    outcome: 'unknown',
    en: {
      title: 'The answer of Alibaba Cloud cannot be read',
      happened: 'Alibaba Cloud answered, but the gateway cannot make sense of the answer.',
      advice:
        'If you were cancelling a task, look at the task before trying again. If this goes on, tell the operator.',
    },
    zh: {
      title: '阿里云的响应无法识别',
      happened: '阿里云返回了响应，但网关无法理解其内容。',
      advice: '如果当时在取消任务，重试前请先查看该任务。如果问题持续，请通知网关运维人员。',
    },
  },
  'upstream-credentials-rejected': {
    status: 502,
    ...refusal,
    en: {
      title: 'Alibaba Cloud rejected the gateway’s keys',
      happened: 'The gateway has no keys that Alibaba Cloud accepts; the fault is not yours.',
      advice: 'Tell the operator of the gateway.',
    },
    zh: {
      title: '阿里云拒绝了网关的密钥',
      happened: '网关没有阿里云接受的密钥，这不是您的问题。',
      advice: '请通知网关运维人员。',
    },
  },
  'upstream-forbidden': {
    status: 502,
    ...refusal,
    en: {
      title: 'The gateway lacks a permission',
      happened: 'The RAM policy or the account of the gateway’s keys does not allow this; the fault is not yours.',
      advice: 'Tell the operator of the gateway.',
    },
    zh: {
      title: '网关缺少权限',
      happened: '网关密钥的 RAM 策略或账号不允许此操作，这不是您的问题。',
      advice: '请通知网关运维人员。',
    },
  },
  'upstream-misconfigured': {
    status: 502,
    ...refusal,
    en: {
      title: 'The gateway is misconfigured',
      happened: 'The endpoint, API version or clock of the gateway is wrong; the fault is not yours.',
      advice: 'Tell the operator of the gateway.',
    },
    zh: {
      title: '网关配置错误',
      happened: '网关的接入点、API 版本或时钟有误，这不是您的问题。',
      advice: '请通知网关运维人员。',
    },
  },
  'upstream-throttled': {
    status: 503,
    ...later,
    en: {
      title: 'Alibaba Cloud is throttling',
      happened: 'Alibaba Cloud limits how often it can be asked, and did not carry out the request.',
      advice: 'Wait, for as long as Retry-After says where it is given, then try again.',
    },
    zh: {
      title: '阿里云正在限流',
      happened: '阿里云正在限制请求频率，该请求未被执行。',
      advice: '请等待一段时间后重试；如有 Retry-After 响应头，请以其为准。',
    },
  },
  'upstream-timeout': {
    status: 504,
    ...later,
    en: {
      title: 'Alibaba Cloud took too long to answer',
      happened: 'Reading from Alibaba Cloud took too long. Nothing was changed.',
      advice: 'Try again later.',
    },
    zh: { title: '阿里云响应超时', happened: '从阿里云读取数据超时，未做任何更改。', advice: '请稍后重试。' },
  },
  'upstream-unavailable': {
    status: 503,
    ...later,
    en: {
      title: 'Alibaba Cloud is not available',
      happened: 'Alibaba Cloud could not be reached, or did not serve the request. Nothing was changed.',
      advice: 'Try again later.',
    },
    zh: {
      title: '阿里云暂时不可用',
      happened: '无法连接阿里云，或阿里云未能处理该请求，未做任何更改。',
      advice: '请稍后重试。',
    },
  },
} as const satisfies Record<ErrorCode, Problem>
