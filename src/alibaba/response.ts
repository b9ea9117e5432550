import type { ErrorCode } from '../errors.ts'
import type { Assumption } from './assumptions.ts'
import { parseBoundedJson } from './bounded-json.ts'
import type { HealthSignal } from './circuit-breaker.ts'
import { type Credentials, percentEncode } from './signing.ts'
import type { RawResult, UpstreamResponse } from './transport.ts'
import { readXmlFailure } from './xml-failure.ts'

/** A call changes something, a query only reads. */
export type Operation = 'call' | 'query'

/** Attempts and operations that failed in one way. */
interface Ending {
  /** The problem code of a call, and that of a query. */
  readonly call: ErrorCode
  readonly query: ErrorCode
  /** A call may have taken effect although it failed. A query has no effect that could be unknown. */
  readonly ambiguous: boolean
  /** `after`: wait as long as the response asks. `queries-only`: back off, but never repeat a call. */
  readonly retry: 'never' | 'backoff' | 'after' | 'once-with-new-clock' | 'once-with-new-credentials' | 'queries-only'
  /** `failure` with two exceptions, see `healthOf`. */
  readonly health: HealthSignal['kind']
}

const sameCode = <Code extends ErrorCode>(code: Code) => ({ call: code, query: code }) as const

const UNKNOWN = { call: 'outcome-unknown', ambiguous: true, retry: 'queries-only' } as const
const REFUSED = { ambiguous: false, retry: 'never', health: 'ok' } as const
const LOCAL = { ambiguous: false, retry: 'never', health: 'ignore' } as const

/**
 * How an attempt or an operation can fail. Each row decides the problem, the retry and the health signal. A response
 * that refuses the request shows that the upstream is healthy.
 */
export const ENDINGS = {
  // No response, or a response that does not say whether the request was executed.
  ambiguous: { ...UNKNOWN, query: 'upstream-unavailable', health: 'failure' },
  timeout: { ...UNKNOWN, query: 'upstream-timeout', health: 'failure' },
  // The same bytes arrived twice, through a middlebox: the first arrival may have been executed.
  duplicate: { ...UNKNOWN, query: 'upstream-unavailable', health: 'ok' },
  'bad-response': { ...sameCode('upstream-bad-response'), ambiguous: true, retry: 'never', health: 'ok' },

  // A response that says that nothing was executed.
  'clock-skew': { ...REFUSED, ...sameCode('upstream-misconfigured'), retry: 'once-with-new-clock' },
  'credentials-rejected': { ...REFUSED, ...sameCode('upstream-credentials-rejected') },
  // Revoked, expired or never valid: the provider may have others by now.
  'credentials-unknown': {
    ...REFUSED,
    ...sameCode('upstream-credentials-rejected'),
    retry: 'once-with-new-credentials',
  },
  forbidden: { ...REFUSED, ...sameCode('upstream-forbidden') },
  'invalid-request': { ...REFUSED, ...sameCode('internal') },
  misconfigured: { ...REFUSED, ...sameCode('upstream-misconfigured') },
  // The parameters of a query are checked before it is sent, so the upstream has no documented reason to refuse one.
  'task-not-cancellable': { ...REFUSED, call: 'task-not-cancellable', query: 'upstream-bad-response' },
  'task-not-found': { ...REFUSED, ...sameCode('task-not-found') },
  // Also the limiter's rejection while the upstream throttles; that is no attempt, and has no health signal.
  throttled: { ...REFUSED, ...sameCode('upstream-throttled'), retry: 'after', health: 'throttled' },

  // Nothing was sent.
  aborted: { ...LOCAL, ...sameCode('upstream-unavailable'), retry: 'backoff' },
  'not-sent': { ...LOCAL, ...sameCode('upstream-unavailable'), retry: 'backoff', health: 'failure' },
  busy: { ...LOCAL, ...sameCode('gateway-busy') },
  unhealthy: { ...LOCAL, ...sameCode('upstream-unavailable') },
  'no-credentials': { ...LOCAL, ...sameCode('upstream-credentials-rejected') },
  'no-time': { ...LOCAL, call: 'upstream-unavailable', query: 'upstream-timeout' },

  // An exception of the gateway's own code in the middle of a call proves nothing about the task.
  unexpected: { ...LOCAL, ...sameCode('internal'), ambiguous: true },
} as const satisfies Readonly<Record<string, Ending>>

export type FailureClass = keyof typeof ENDINGS

export interface UpstreamFailure {
  readonly ok: false
  readonly code: ErrorCode
  /** The call may have taken effect: a request was sent, and no response says that it was refused. */
  readonly ambiguous: boolean
  /** The last attempt was sent on a connection: the upstream may have received it, and failed to serve it. */
  readonly sent: boolean
  readonly upstreamCode: string | null
  readonly requestId: string | null
  /** How long the caller should wait before trying again, if that is known to help. */
  readonly retryAfterMs: number | null
  readonly attempts: number
}

export type UpstreamResult =
  | {
      readonly ok: true
      readonly requestId: string
      readonly body: Fields
      readonly attempts: number
    }
  | UpstreamFailure

/** The failure of an operation. Without facts, nothing was sent. */
export const failed = (
  operation: Operation,
  failure: FailureClass,
  facts: Partial<Omit<UpstreamFailure, 'ok' | 'code' | 'ambiguous'>> = {},
): UpstreamFailure => ({
  ok: false,
  code: ENDINGS[failure][operation],
  ambiguous: operation === 'call' && ENDINGS[failure].ambiguous,
  sent: false,
  upstreamCode: null,
  requestId: null,
  retryAfterMs: null,
  attempts: 0,
  ...facts,
})

/**
 * Codes that the vendor documents or that were seen in public. The first match decides, so exact names stand before the
 * patterns that they would match.
 */
const CODES: readonly (readonly [RegExp, FailureClass])[] = [
  [/^(MissingAccessKeyId|SignatureDoesNotMatch|IncompleteSignature)$/, 'credentials-rejected'],
  [/^(MissingSecurityToken|Forbidden\.AccessKeyDisabled)$/, 'credentials-unknown'],
  [/^(InvalidAccessKeyId|InvalidSecurityToken)(\.|$)/, 'credentials-unknown'],
  [/^(InvalidTimeStamp(\..+)?|IllegalTimestamp)$/, 'clock-skew'],
  [/^SignatureNonceUsed$/, 'duplicate'],
  [/^(Throttling(\..+)?|Rejected\.Throttling)$/, 'throttled'],
  [/^(Forbidden|NoPermission$|(Auth\.)?AccessDenied|ActionUnauthorized$|Unauthorized(\.|$))/, 'forbidden'],
  // These concern the account, not the task.
  [/^(InsufficientBalance(\..+)?|UnsupportedOperation)$/, 'forbidden'],
  [/^Invalid(Api|Product)\.NotFound$/, 'misconfigured'],
  [/^Invalid(Action|Version)(\.|$)/, 'misconfigured'],
  [/^(InvalidProtocol\.NeedSsl|UnsupportedHTTPMethod|NoSuchVersion)$/, 'misconfigured'],
  [/^(InternalError|ServiceUnavailable)(\.|$)/, 'ambiguous'],
  [/^Missing/, 'invalid-request'],
  [/^InvalidParameter/, 'task-not-cancellable'],
]

/** These say that a call reached execution, so that no hint to ask again proves that it had no effect. */
const PERHAPS_EXECUTED = /^(InternalError(\..+)?|SignatureNonceUsed)$/

/**
 * (assumption) task-codes: no codes are published for tasks. A Code that is in no row above concerns the task, and one
 * that says that something is missing is read as a missing task.
 */
const NAMES_NOTHING = /NotExist|NotFound/

/** Success as the vendor's samples spell it, in any of the places where a code can stand. */
const SUCCESS_CODES: readonly string[] = ['200', 'OK', 'Success', 'success']

/** A JSON object of a response. */
type Fields = Readonly<Record<string, unknown>>

/** The content of a response. */
type ParsedResponse =
  | { readonly ok: true; readonly requestId: string; readonly body: Fields }
  | {
      readonly ok: false
      readonly failure: FailureClass
      readonly upstreamCode: string | null
      readonly requestId: string | null
      /** The HTTP status, or the one that the body reports in its place. */
      readonly status: number
    }

/** The result of one attempt: the content of the response, or the reason that there is none. */
export type AttemptResult = ParsedResponse & {
  /** A byte of the request was handed to a connected socket. */
  readonly sent: boolean
  /** The reason that there is no readable response; else `response`. */
  readonly reason: string
  readonly httpStatus: number | null
  /** The upstream's time. */
  readonly date: Date | null
  readonly health: HealthSignal
}

/** The success or failure that a body reports. */
interface BodyReport {
  /** The status that the body reports, outside of `data`. */
  readonly outerStatus: number | null
  /** It has a code that is none of success. */
  readonly failed: boolean
  /** The failing code that decides, where one is a name and not a number alone. */
  readonly name: string | null
  /** It has no failing code, and reports a failure in another way. */
  readonly denial: string | null
}

/** A `backoffMs` is added to the wait that a throttled response asks for. */
export const readResult = (
  raw: RawResult,
  credentials: Credentials,
  { isFullLength, backoffMs }: { readonly isFullLength: boolean; readonly backoffMs: number },
): AttemptResult => {
  const parsed = parseResult(raw, credentials)
  const kind = healthOf(raw, parsed, isFullLength)
  const askedMs = raw.kind === 'response' ? raw.response.retryAfterMs : null
  const health = kind === 'throttled' ? { kind, forMs: (askedMs ?? 0) + backoffMs } : { kind }
  if (raw.kind === 'response')
    return { ...parsed, sent: true, reason: raw.kind, httpStatus: raw.response.status, date: raw.date, health }
  const ended = raw.kind === 'no-response' ? raw : { sent: true, reason: raw.kind }
  return { ...parsed, sent: ended.sent, reason: ended.reason, httpStatus: null, date: null, health }
}

const parseResult = (raw: RawResult, credentials: Credentials): ParsedResponse =>
  raw.kind === 'response'
    ? readResponse(raw.response, hiding(credentials))
    : { ok: false, failure: failureWithoutResponse(raw), upstreamCode: null, requestId: null, status: 0 }

const failureWithoutResponse = (raw: Exclude<RawResult, { kind: 'response' }>): FailureClass => {
  if (raw.kind === 'too-large') return 'bad-response'
  if (raw.reason === 'aborted' || raw.reason === 'revoked') return 'aborted'
  if (!raw.sent) return 'not-sent'
  return raw.reason === 'ETIMEDOUT' ? 'timeout' : 'ambiguous'
}

/**
 * Two facts decide besides the table: an ambiguous response shows a failure only with a 5xx, and a timeout says nothing
 * of the upstream if the attempt had less than its full length.
 */
const healthOf = (raw: RawResult, parsed: ParsedResponse, isFullLength: boolean): HealthSignal['kind'] => {
  if (parsed.ok) return 'ok'
  const { health } = ENDINGS[parsed.failure]
  if (health !== 'failure') return health
  if (raw.kind === 'no-response') return raw.reason === 'ETIMEDOUT' && !isFullLength ? 'ignore' : health
  return parsed.status >= 500 ? health : 'ok'
}

const HIDDEN = '[secret]'

/**
 * Cuts the credentials out of a text, as they are and percent-encoded once or twice: a response of the upstream can
 * repeat the text that was sent or signed.
 */
const createHiding = ({ accessKeyId, accessKeySecret, securityToken }: Credentials): ((text: string) => string) => {
  const secrets = [accessKeyId, accessKeySecret, securityToken ?? ''].filter((secret) => secret !== '')
  const encoded = secrets.map(percentEncode)
  const spellings = [...new Set([...secrets, ...encoded, ...encoded.map(percentEncode)])]
  return (text) => spellings.reduce((cut, spelling) => cut.replaceAll(spelling, HIDDEN), text)
}

/** The function for each object of credentials, which serves many responses. */
const hidings = new WeakMap<Credentials, (text: string) => string>()

const hiding = (credentials: Credentials): ((text: string) => string) => {
  const known = hidings.get(credentials)
  if (known !== undefined) return known
  const hide = createHiding(credentials)
  hidings.set(credentials, hide)
  return hide
}

/**
 * Reads success, or a failure by its `Code`, with the status as the fallback. `hide` is applied to every
 * string of the body, so that no secret in it goes any further.
 */
export const readResponse = (
  response: UpstreamResponse,
  hide: (text: string) => string = (it) => it,
): ParsedResponse => {
  const text = response.body.replace(/^\ufeff/, '')
  const json = parseObject(text, hide)
  const places = json === null ? xmlPlaces(text, hide) : placesIn(json)
  const report = bodyReportOf(places)
  const status = statusOf(response.status, report.outerStatus)
  const requestId = requestIdOf(places)
  const success = isSuccess(status) && !report.failed && report.denial === null
  if (success && json !== null && requestId !== null) return { ok: true, requestId, body: json }
  const upstreamCode = printable(report.name ?? report.denial)
  return { ok: false, failure: classify(response, status, report), upstreamCode, requestId, status }
}

const isSuccess = (status: number): boolean => status >= 200 && status < 300

/** A status that the body reports replaces a 2xx of HTTP; of others the worse counts. */
const statusOf = (status: number, outerStatus: number | null): number =>
  isSuccess(status) ? (outerStatus ?? status) : Math.max(status, outerStatus ?? 0)

const classify = (response: UpstreamResponse, status: number, report: BodyReport): FailureClass => {
  const { failed, name, denial, outerStatus } = report
  // The part of the upstream that wrote the envelope was reached, and failed.
  if (outerStatus !== null && outerStatus >= 500) return 'ambiguous'
  const isFailure = failed || denial !== null || status >= 400
  if (isFailure && response.retryAfterMs !== null && !PERHAPS_EXECUTED.test(name ?? '')) return 'throttled'
  const known = name === null ? undefined : classOf(name)
  if (known !== undefined) return known
  if (status >= 500) return 'ambiguous'
  if (response.status === 429 || (status === 429 && name !== null)) return 'throttled'
  if (!failed) return denial !== null && isSuccess(status) ? 'ambiguous' : 'bad-response'
  // (assumption) envelope-failure: only the envelope of success is documented. A call whose envelope fails by a number
  // alone may have been executed.
  if (name === null || status < 400) return 'ambiguous'
  return NAMES_NOTHING.test(name) ? 'task-not-found' : 'task-not-cancellable'
}

/** The assumption that a response contradicts; null if there is none. */
export const contradictedBy = (result: AttemptResult): Assumption | null => {
  if (result.ok || result.httpStatus === null) return null
  const { failure, upstreamCode, httpStatus } = result
  if (upstreamCode !== null) return classOf(upstreamCode) === undefined ? 'task-codes' : null
  return failure === 'ambiguous' && isSuccess(httpStatus) ? 'envelope-failure' : null
}

const classOf = (code: string): FailureClass | undefined => CODES.find(([pattern]) => pattern.test(code))?.[1]

const parseObject = (text: string, hide: (text: string) => string): Fields | null => {
  const value = parseBoundedJson(text, hide)
  return isObject(value) ? value : null
}

const isObject = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const xmlPlaces = (text: string, hide: (text: string) => string): readonly Fields[] => {
  const failure = readXmlFailure(text)
  if (failure === null) return []
  const hidden = (value: string | null): string | null => (value === null ? null : hide(value))
  return [{ Code: hidden(failure.Code), RequestId: hidden(failure.RequestId) }]
}

const PLACES_DEPTH = 3

/** Where codes and ids can stand: at the top, and under `data`, which may be a list. */
const placesIn = (value: unknown, levels = PLACES_DEPTH): readonly Fields[] => {
  if (levels === 0) return []
  if (Array.isArray(value)) return value.flatMap((each) => placesIn(each, levels - 1))
  if (!isObject(value)) return []
  return [value, ...membersOf([value], 'data').flatMap((inner) => placesIn(inner, levels - 1))]
}

/** No name below is longer, in any spelling. */
const MEMBER_MAX = 12

/** The name of a member without differences of spelling: `ErrorCode`, `errorcode` and `error_code` are the same. */
const plainName = (name: string): string => (name.length > MEMBER_MAX ? '' : name.toLowerCase().replaceAll('_', ''))

/** The members of those plain names that are there, in any spelling. */
const membersOf = (places: readonly Fields[], ...names: readonly string[]): readonly unknown[] =>
  places
    .flatMap((place) => Object.keys(place).flatMap((name) => (names.includes(plainName(name)) ? [place[name]] : [])))
    .filter((value) => value !== undefined && value !== null)

/** A code of another type than text or number is one that fails, without a name. */
const codeText = (value: unknown): string =>
  typeof value === 'string' || typeof value === 'number' ? String(value) : ''

const codesOf = (places: readonly Fields[]): readonly string[] => membersOf(places, 'code').map(codeText)

const bodyReportOf = (places: readonly Fields[]): BodyReport => {
  const failing = codesOf(places).filter((code) => !SUCCESS_CODES.includes(code))
  const outerStatus = codesOf(places.slice(0, 1)).find((code) => /^[1-5]\d\d$/.test(code))
  return {
    outerStatus: outerStatus === undefined ? null : Number(outerStatus),
    failed: failing.length > 0,
    name: decisive(failing.filter((code) => /\p{L}/u.test(code))),
    denial: failing.length > 0 ? null : denialOf(places),
  }
}

/** Of several names the one after which the call may have been executed, else one that is known. */
const decisive = (names: readonly string[]): string | null => {
  const known = names.flatMap((name) => {
    const failure = classOf(name)
    return failure === undefined ? [] : [{ name, ambiguous: ENDINGS[failure].ambiguous }]
  })
  return (known.find(({ ambiguous }) => ambiguous) ?? known[0])?.name ?? names[0] ?? null
}

/** Spellings of success in `Success`, and of no error in `ErrorCode`. */
const AFFIRMATIONS: readonly string[] = [...SUCCESS_CODES, 'true', 'True', 'TRUE', '1']
const NO_ERRORS: readonly string[] = [...SUCCESS_CODES, '', '0', 'false']

/** The error code, or an empty text, of a body that says otherwise than by `Code` that the call failed; else null. */
const denialOf = (places: readonly Fields[]): string | null => {
  const errors = membersOf(places, 'errorcode', 'errcode', 'error')
  const error = errors.find((value) => !NO_ERRORS.includes(flagText(value)))
  if (error !== undefined) return typeof error === 'string' ? error : ''
  return membersOf(places, 'success')
    .map(flagText)
    .every((text) => AFFIRMATIONS.includes(text))
    ? null
    : ''
}

/** A list or an object is neither success nor the absence of an error. */
const flagText = (value: unknown): string => (typeof value === 'object' ? 'object' : String(value))

const requestIdOf = (places: readonly Fields[]): string | null => {
  const id = membersOf(places, 'requestid').find((value) => typeof value === 'string')
  return typeof id === 'string' && /^[A-Za-z0-9-]{1,64}$/.test(id) ? id : null
}

/** A text is passed on only if it looks like a code, so that a response cannot carry other data out. */
const printable = (code: string | null): string | null =>
  code !== null && /^[A-Za-z][A-Za-z0-9._-]{0,99}$/.test(code) ? code : null
