import type { ErrorCode } from '../errors.ts'
import { parseBoundedJson } from './bounded-json.ts'

/**
 * What a failed call means for us. Only `throttled`, `clock` and `unknown-keys` say that nothing was executed and that
 * asking again can help.
 */
export type FailureClass =
  | 'ambiguous'
  | 'bad-response'
  | 'clock'
  | 'duplicate'
  | 'forbidden'
  | 'keys'
  | 'misconfigured'
  | 'our-bug'
  | 'task-not-cancellable'
  | 'task-not-found'
  | 'throttled'
  | 'timeout'
  | 'unknown-keys'

interface Meaning {
  readonly code: ErrorCode
  /** The call may have taken effect although it failed. */
  readonly ambiguous: boolean
}

/** What a failure means for a call that changes something. */
export const CALL_MEANINGS = {
  ambiguous: { code: 'outcome-unknown', ambiguous: true },
  'bad-response': { code: 'upstream-bad-response', ambiguous: true },
  clock: { code: 'upstream-misconfigured', ambiguous: false },
  // These bytes arrived twice, through a middlebox: the first arrival may have been carried out.
  duplicate: { code: 'outcome-unknown', ambiguous: true },
  forbidden: { code: 'upstream-forbidden', ambiguous: false },
  keys: { code: 'upstream-credentials-rejected', ambiguous: false },
  misconfigured: { code: 'upstream-misconfigured', ambiguous: false },
  'our-bug': { code: 'internal', ambiguous: false },
  'task-not-cancellable': { code: 'task-not-cancellable', ambiguous: false },
  'task-not-found': { code: 'task-not-found', ambiguous: false },
  throttled: { code: 'upstream-throttled', ambiguous: false },
  timeout: { code: 'outcome-unknown', ambiguous: true },
  // Revoked, expired or never there: others may have taken their place.
  'unknown-keys': { code: 'upstream-credentials-rejected', ambiguous: false },
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

/** Codes that the vendor documents or that were seen in public, most exact first: the first match decides. */
const CODES: readonly (readonly [RegExp, FailureClass])[] = [
  [/^(MissingAccessKeyId|SignatureDoesNotMatch|IncompleteSignature)$/, 'keys'],
  [/^(InvalidAccessKeyId|InvalidSecurityToken)(\.|$)/, 'unknown-keys'],
  [/^(InvalidTimeStamp(\..+)?|IllegalTimestamp)$/, 'clock'],
  [/^SignatureNonceUsed$/, 'duplicate'],
  [/^(Throttling(\..+)?|Rejected\.Throttling)$/, 'throttled'],
  [/^(Forbidden|NoPermission$)/, 'forbidden'],
  [/^Invalid(Action|Api|Product)\.NotFound$/, 'misconfigured'],
  [/^(InvalidProtocol\.NeedSsl|UnsupportedHTTPMethod|NoSuchVersion)$/, 'misconfigured'],
  [/^(InternalError|ServiceUnavailable)(\.|$)/, 'ambiguous'],
  [/^Missing/, 'our-bug'],
  [/^InvalidParameter/, 'task-not-cancellable'],
]

/** These say that a call reached execution, so that no hint to ask again proves that it had no effect. */
const PERHAPS_EXECUTED = /^(InternalError(\..+)?|SignatureNonceUsed)$/

/** (assumption) No codes are published for tasks: what names something missing is taken to mean the task. */
const NAMES_NOTHING = /NotExist|NotFound/

/** Success as the vendor's samples spell it, in any of the places where a code can stand. */
const SUCCESS_CODES: readonly string[] = ['200', 'OK', 'Success', 'success']

export interface UpstreamAnswer {
  readonly status: number
  /** `x-acs-retry-after`, milliseconds. */
  readonly retryAfterMs: number | null
  readonly body: string
}

export type Reading =
  | { readonly ok: true; readonly requestId: string; readonly body: Readonly<Record<string, unknown>> }
  | {
      readonly ok: false
      readonly failure: FailureClass
      readonly upstreamCode: string | null
      readonly requestId: string | null
    }

/** What an answer says: success, or a failure by its `Code`, with the HTTP status as the fallback. */
export const readAnswer = (answer: UpstreamAnswer): Reading => {
  const body = parseObject(answer.body)
  const requestId = body === null ? null : requestIdOf(body)
  const upstreamCode = body === null ? null : failureCodeOf(body)
  const success = answer.status >= 200 && answer.status < 300 && upstreamCode === null
  if (success && body !== null && requestId !== null) return { ok: true, requestId, body }
  return { ok: false, failure: classify(answer, upstreamCode), upstreamCode: printable(upstreamCode), requestId }
}

const classify = ({ status, retryAfterMs }: UpstreamAnswer, code: string | null): FailureClass => {
  const failed = code !== null || status >= 400
  const known = CODES.find(([pattern]) => code !== null && pattern.test(code))?.[1]
  if (failed && retryAfterMs !== null && !PERHAPS_EXECUTED.test(code ?? '')) return 'throttled'
  if (known !== undefined) return known
  if (status >= 500 || /^5\d\d$/.test(code ?? '')) return 'ambiguous'
  if (status === 429 || code === '429') return 'throttled'
  if (code === null) return 'bad-response'
  if (status < 400) return 'ambiguous'
  return NAMES_NOTHING.test(code) ? 'task-not-found' : 'task-not-cancellable'
}

const parseObject = (text: string): Readonly<Record<string, unknown>> | null => {
  const value = parseBoundedJson(text)
  return isObject(value) ? value : null
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Both documented bodies: the fields stand at the top or under `data`, in either case. */
const fieldsOf = (body: Readonly<Record<string, unknown>>, names: readonly string[]): readonly unknown[] =>
  [body, body.data].flatMap((place) => (isObject(place) ? names.map((name) => place[name]) : []))

const failureCodeOf = (body: Readonly<Record<string, unknown>>): string | null => {
  const codes = fieldsOf(body, ['Code', 'code']).filter((code) => typeof code === 'string' || typeof code === 'number')
  const failures = codes.map(String).filter((code) => !SUCCESS_CODES.includes(code))
  // An envelope can carry the HTTP status outside and the telling code inside.
  return failures.find((code) => !/^\d+$/.test(code)) ?? failures[0] ?? null
}

const requestIdOf = (body: Readonly<Record<string, unknown>>): string | null => {
  const id = fieldsOf(body, ['RequestId', 'requestId']).find((value) => typeof value === 'string')
  return typeof id === 'string' && /^[A-Za-z0-9-]{1,64}$/.test(id) ? id : null
}

/** A code is passed on only where it looks like one: what upstream says must not carry anything else out. */
const printable = (code: string | null): string | null =>
  code !== null && /^[A-Za-z][A-Za-z0-9._-]{0,99}$/.test(code) ? code : null
