import type { ErrorCode } from '../errors.ts'
import { parseBoundedJson } from './bounded-json.ts'
import { readXmlFailure } from './xml-failure.ts'

/**
 * What a failed call means for us. Only `throttled`, `clock-skew` and `credentials-unknown` say that nothing was executed and that
 * asking again can help.
 */
export type FailureClass =
  | 'ambiguous'
  | 'bad-response'
  | 'clock-skew'
  | 'duplicate'
  | 'forbidden'
  | 'credentials-rejected'
  | 'misconfigured'
  | 'invalid-request'
  | 'task-not-cancellable'
  | 'task-not-found'
  | 'throttled'
  | 'timeout'
  | 'credentials-unknown'

interface Meaning {
  readonly code: ErrorCode
  /** The call may have taken effect although it failed. */
  readonly ambiguous: boolean
}

/** What a failure means for a call that changes something. */
export const CALL_MEANINGS = {
  ambiguous: { code: 'outcome-unknown', ambiguous: true },
  'bad-response': { code: 'upstream-bad-response', ambiguous: true },
  'clock-skew': { code: 'upstream-misconfigured', ambiguous: false },
  // These bytes arrived twice, through a middlebox: the first arrival may have been carried out.
  duplicate: { code: 'outcome-unknown', ambiguous: true },
  forbidden: { code: 'upstream-forbidden', ambiguous: false },
  'credentials-rejected': { code: 'upstream-credentials-rejected', ambiguous: false },
  misconfigured: { code: 'upstream-misconfigured', ambiguous: false },
  'invalid-request': { code: 'internal', ambiguous: false },
  'task-not-cancellable': { code: 'task-not-cancellable', ambiguous: false },
  'task-not-found': { code: 'task-not-found', ambiguous: false },
  throttled: { code: 'upstream-throttled', ambiguous: false },
  timeout: { code: 'outcome-unknown', ambiguous: true },
  // Revoked, expired or never there: others may have taken their place.
  'credentials-unknown': { code: 'upstream-credentials-rejected', ambiguous: false },
} as const satisfies Record<FailureClass, Meaning>

/** What it means for one that only reads: there is no effect to be unsure of. */
export const QUERY_MEANINGS = {
  ...CALL_MEANINGS,
  ambiguous: { code: 'upstream-unavailable', ambiguous: false },
  'bad-response': { code: 'upstream-bad-response', ambiguous: false },
  duplicate: { code: 'upstream-unavailable', ambiguous: false },
  // What is asked for was checked before it was sent, so this refusal is one that nobody foresaw.
  'task-not-cancellable': { code: 'upstream-bad-response', ambiguous: false },
  timeout: { code: 'upstream-timeout', ambiguous: false },
} as const satisfies Record<FailureClass, Meaning>

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

/** (assumption) No codes are published for tasks: what names something missing is taken to mean the task. */
const NAMES_NOTHING = /NotExist|NotFound/

/** Success as the vendor's samples spell it, in any of the places where a code can stand. */
const SUCCESS_CODES: readonly string[] = ['200', 'OK', 'Success', 'success']

export interface UpstreamResponse {
  readonly status: number
  /** `x-acs-retry-after`, milliseconds. */
  readonly retryAfterMs: number | null
  readonly body: string
}

export type AttemptResult =
  | { readonly ok: true; readonly requestId: string; readonly body: Fields }
  | {
      readonly ok: false
      readonly failure: FailureClass
      readonly upstreamCode: string | null
      readonly requestId: string | null
      /** The HTTP status, or the one that the body reports in its place. */
      readonly status: number
    }

type Fields = Readonly<Record<string, unknown>>

/** What a body says of success and failure. */
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

const asIs = (text: string): string => text

/**
 * What an answer says: success, or a failure by its `Code`, with the status as the fallback. `hide` is applied to every
 * string of the body, so that no secret in it goes any further.
 */
export const readResponse = (answer: UpstreamResponse, hide: (text: string) => string = asIs): AttemptResult => {
  const text = answer.body.replace(/^\ufeff/, '')
  const json = parseObject(text, hide)
  const places = json === null ? xmlPlaces(text, hide) : placesIn(json)
  const verdict = bodyReportOf(places)
  const status = statusOf(answer.status, verdict.outerStatus)
  const requestId = requestIdOf(places)
  const success = isSuccess(status) && !verdict.failed && verdict.denial === null
  if (success && json !== null && requestId !== null) return { ok: true, requestId, body: json }
  const upstreamCode = printable(verdict.name ?? verdict.denial)
  return { ok: false, failure: classify(answer, status, verdict), upstreamCode, requestId, status }
}

const isSuccess = (status: number): boolean => status >= 200 && status < 300

/** A status that the body reports replaces a 2xx of HTTP; of others the worse counts. */
const statusOf = (status: number, outerStatus: number | null): number =>
  isSuccess(status) ? (outerStatus ?? status) : Math.max(status, outerStatus ?? 0)

const classify = (answer: UpstreamResponse, status: number, verdict: BodyReport): FailureClass => {
  const { failed, name, denial, outerStatus } = verdict
  // The part of the upstream that wrote the envelope was reached, and failed.
  if (outerStatus !== null && outerStatus >= 500) return 'ambiguous'
  const isFailure = failed || denial !== null || status >= 400
  if (isFailure && answer.retryAfterMs !== null && !PERHAPS_EXECUTED.test(name ?? '')) return 'throttled'
  const known = name === null ? undefined : classOf(name)
  if (known !== undefined) return known
  if (status >= 500) return 'ambiguous'
  if (answer.status === 429 || (status === 429 && name !== null)) return 'throttled'
  if (!failed) return denial !== null && isSuccess(status) ? 'ambiguous' : 'bad-response'
  // (assumption) Only the envelope of success is documented: one that fails by a number alone may have been executed.
  if (name === null || status < 400) return 'ambiguous'
  return NAMES_NOTHING.test(name) ? 'task-not-found' : 'task-not-cancellable'
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

/** A name of a member without what spellings differ in: `ErrorCode`, `errorcode` and `error_code` are the same. */
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
    return failure === undefined ? [] : [{ name, ambiguous: CALL_MEANINGS[failure].ambiguous }]
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

/** A code is passed on only where it looks like one: what upstream says must not carry anything else out. */
const printable = (code: string | null): string | null =>
  code !== null && /^[A-Za-z][A-Za-z0-9._-]{0,99}$/.test(code) ? code : null
