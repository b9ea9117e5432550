/** A refusal of the upstream, in the two languages of the `Lang` parameter. */
export interface Failure {
  readonly code: string
  readonly status: number
  readonly en: string
  readonly zh: string
}

interface FailureText {
  readonly status: number
  readonly en: string
  readonly zh: string
}

/** Answers of the vendor's API gateway; codes and statuses as published. */
const GATEWAY_FAILURES = {
  MissingAccessKeyId: { status: 400, en: 'AccessKeyId is mandatory for this action.', zh: '缺少参数 AccessKeyId。' },
  'InvalidAccessKeyId.NotFound': {
    status: 404,
    en: 'Specified access key is not found.',
    zh: '指定的 AccessKeyId 不存在。',
  },
  'InvalidSecurityToken.MismatchWithAccessKey': {
    status: 400,
    en: 'Specified SecurityToken mismatch with the AccessKey.',
    zh: '指定的 SecurityToken 与 AccessKey 不匹配。',
  },
  'InvalidTimeStamp.Format': {
    status: 400,
    en: 'Specified time stamp or date value is not well formatted.',
    zh: '指定的时间戳格式不正确。',
  },
  'InvalidTimeStamp.Expired': {
    status: 400,
    en: 'Specified time stamp or date value is expired.',
    zh: '指定的时间戳已过期。',
  },
  IncompleteSignature: {
    status: 400,
    en: 'The request signature does not cover what it must cover.',
    zh: '请求签名不完整。',
  },
  SignatureDoesNotMatch: {
    status: 400,
    en: 'Specified signature is not matched with our calculation.',
    zh: '指定的签名与服务端计算结果不匹配。',
  },
  SignatureNonceUsed: { status: 400, en: 'Specified signature nonce was used already.', zh: '签名随机数已被使用。' },
  UnsupportedHTTPMethod: { status: 400, en: 'This http method is not supported.', zh: '不支持该 HTTP 请求方法。' },
  NoSuchVersion: { status: 400, en: 'Specified version does not exist.', zh: '指定的版本不存在。' },
  'InvalidAction.NotFound': { status: 404, en: 'Specified api is not found.', zh: '指定的 API 不存在。' },
  'InvalidApi.NotFound': { status: 404, en: 'Specified api is not found.', zh: '指定的 API 不存在。' },
  InternalError: { status: 500, en: 'The request has failed due to an unknown error.', zh: '服务内部错误。' },
} as const satisfies Record<string, FailureText>

/** What the vendor publishes no codes for: name, status and text of each line here is ours (assumption). */
const ASSUMED_FAILURES = {
  TaskNotExist: { status: 400, en: 'The task does not exist.', zh: '任务不存在。' },
  TaskStatusNotAllowed: {
    status: 400,
    en: 'The task is finished and can no longer be cancelled.',
    zh: '任务已完成，无法取消。',
  },
  TaskAlreadyCancelled: {
    status: 400,
    en: 'The task is being cancelled or has been cancelled.',
    zh: '任务正在取消或已取消。',
  },
  InvalidParameter: { status: 400, en: 'A parameter is not valid.', zh: '参数不合法。' },
} as const satisfies Record<string, FailureText>

const FAILURES = { ...GATEWAY_FAILURES, ...ASSUMED_FAILURES }

export const failure = (code: keyof typeof FAILURES): Failure => ({ code, ...FAILURES[code] })

export const missing = (name: string): Failure => ({
  code: `Missing${name}`,
  status: 400,
  en: `${name} is mandatory for this action.`,
  zh: `缺少参数 ${name}。`,
})

/** The real one shows the caller what it signed, the AccessKeyId with it: whoever passes the text on leaks it. */
export const signatureMismatch = (stringToSign: string): Failure => {
  const echo = `server string to sign is:${stringToSign}`
  const { en, zh, ...rest } = failure('SignatureDoesNotMatch')
  return { ...rest, en: `${en} ${echo}`, zh: `${zh} ${echo}` }
}
