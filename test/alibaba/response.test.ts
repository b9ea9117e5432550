import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ENDINGS, type FailureClass, readResponse } from '../../src/alibaba/response.ts'

const answer = (status: number, body: unknown, retryAfterMs: number | null = null) =>
  readResponse({ status, retryAfterMs, body: typeof body === 'string' ? body : JSON.stringify(body) })

const failureOf = (...given: Parameters<typeof answer>): FailureClass | null => {
  const reading = answer(...given)
  return reading.ok ? null : reading.failure
}

/** Section 2 of the upstream's facts: code, the statuses seen with it, class. */
const CODES: readonly (readonly [string, readonly number[], FailureClass])[] = [
  ['MissingParameter', [400], 'invalid-request'],
  ['MissingParameter.TaskNo', [400], 'invalid-request'],
  ['MissingTaskNo', [400], 'invalid-request'],
  ['InvalidParameter', [400], 'task-not-cancellable'],
  ['InvalidParameter.TaskNo', [400], 'task-not-cancellable'],
  ['InvalidParameter.NotFound', [400], 'task-not-cancellable'],
  ['InvalidAccessKeyId', [400, 403, 404], 'credentials-unknown'],
  ['InvalidAccessKeyId.NotFound', [400, 403, 404], 'credentials-unknown'],
  ['InvalidAccessKeyId.Inactive', [400, 403, 404], 'credentials-unknown'],
  ['MissingAccessKeyId', [400, 403, 404], 'credentials-rejected'],
  ['MissingSecurityToken', [400, 403, 404], 'credentials-unknown'],
  ['Forbidden.AccessKeyDisabled', [400, 403, 404], 'credentials-unknown'],
  ['SignatureDoesNotMatch', [400, 403, 404], 'credentials-rejected'],
  ['IncompleteSignature', [400, 403, 404], 'credentials-rejected'],
  ['InvalidSecurityToken.Expired', [400, 403, 404], 'credentials-unknown'],
  ['InvalidSecurityToken.MismatchWithAccessKey', [400, 403, 404], 'credentials-unknown'],
  ['InvalidTimeStamp.Expired', [400], 'clock-skew'],
  ['InvalidTimeStamp.Format', [400], 'clock-skew'],
  ['IllegalTimestamp', [400], 'clock-skew'],
  ['SignatureNonceUsed', [400], 'duplicate'],
  ['Throttling', [400, 429, 503], 'throttled'],
  ['Throttling.User', [400, 429, 503], 'throttled'],
  ['Throttling.Api', [400, 429, 503], 'throttled'],
  ['Throttling.Anything.Else', [400, 429, 503], 'throttled'],
  ['Rejected.Throttling', [400, 429, 503], 'throttled'],
  ['Forbidden.RAM', [400, 403], 'forbidden'],
  ['NoPermission', [400, 403], 'forbidden'],
  ['Forbidden', [400, 403], 'forbidden'],
  ['Forbidden.NotFound', [400, 403], 'forbidden'],
  ['ActionUnauthorized', [400, 401, 403], 'forbidden'],
  ['AccessDenied', [400, 401, 403], 'forbidden'],
  ['AccessDenied.Anything', [400, 401, 403], 'forbidden'],
  ['Auth.AccessDenied.Anything', [400, 401, 403], 'forbidden'],
  ['Unauthorized', [400, 401, 403], 'forbidden'],
  ['InsufficientBalance', [400], 'forbidden'],
  ['UnsupportedOperation', [400], 'forbidden'],
  ['InvalidAction', [400, 404], 'misconfigured'],
  ['InvalidVersion', [400, 404], 'misconfigured'],
  ['InvalidAction.NotFound', [400, 404], 'misconfigured'],
  ['InvalidApi.NotFound', [400, 404], 'misconfigured'],
  ['InvalidProduct.NotFound', [400, 404], 'misconfigured'],
  ['InvalidProtocol.NeedSsl', [400, 404], 'misconfigured'],
  ['UnsupportedHTTPMethod', [400, 404], 'misconfigured'],
  ['NoSuchVersion', [400, 404], 'misconfigured'],
  ['InternalError', [400, 500], 'ambiguous'],
  ['ServiceUnavailable', [503], 'ambiguous'],
  ['NeverHeardOf', [200, 302, 500, 502, 503, 504], 'ambiguous'],
  ['TaskNotExist', [400, 404], 'task-not-found'],
  ['TaskNo.NotFound', [400, 404], 'task-not-found'],
  ['NeverHeardOf', [400, 403, 404, 409, 422], 'task-not-cancellable'],
]

for (const [code, statuses, expected] of CODES) {
  for (const status of statuses) {
    test(`${code} with ${status} is ${expected}`, () => {
      assert.equal(failureOf(status, { RequestId: 'R-1', Code: code }), expected)
    })
  }
}

/** Where and how a code can stand. */
const PLACES: readonly (readonly [string, (code: string) => unknown])[] = [
  ['Code', (code) => ({ RequestId: 'R-1', Code: code })],
  ['code', (code) => ({ requestId: 'R-1', code })],
  ['data.Code', (code) => ({ data: { RequestId: 'R-1', Code: code } })],
  ['data.code', (code) => ({ data: { requestId: 'R-1', code } })],
  ['data.Code, next to a code of success', (code) => ({ code: '200', data: { RequestId: 'R-1', Code: code } })],
]

test('a code inside an envelope says more than a status outside', () => {
  const body = { code: '400', data: { RequestId: 'R-1', Code: 'InternalError' } }
  assert.equal(failureOf(400, body), 'ambiguous')
})

for (const [place, bodyOf] of PLACES) {
  test(`a failure is found in ${place} with any status`, () => {
    const statuses = [200, 400, 403, 429, 503]
    const found = { ok: false, failure: 'throttled', upstreamCode: 'Throttling.User', requestId: 'R-1' }
    assert.deepEqual(
      statuses.map((status) => answer(status, bodyOf('Throttling.User'))),
      statuses.map((status) => ({ ...found, status })),
    )
  })

  for (const spelling of ['200', 'OK', 'Success', 'success']) {
    test(`${spelling} in ${place} is success`, () => {
      const reading = answer(200, bodyOf(spelling))
      assert.deepEqual([reading.ok, reading.requestId], [true, 'R-1'])
    })
  }
}

test('a code may be a number', () => {
  assert.equal(answer(200, { RequestId: 'R-1', code: 200 }).ok, true)
  assert.equal(failureOf(200, { RequestId: 'R-1', code: 500 }), 'ambiguous')
})

const NEAR_SUCCESS = ['ok', 'SUCCESS', '200 ', '2000', '201', 'Successful', ''] as const

for (const code of NEAR_SUCCESS) {
  test(`"${code}" is no success`, () => assert.equal(failureOf(200, { RequestId: 'R-1', Code: code }), 'ambiguous'))
}

/** Both documented bodies of success, and similar ones. */
const BODIES: readonly (readonly [string, number, unknown, FailureClass | null])[] = [
  ['a RequestId', 200, { RequestId: 'R-1' }, null],
  ['a RequestId, with 204', 204, { RequestId: 'R-1' }, null],
  ['an envelope', 200, { code: '200', data: { RequestId: 'R-1', Code: '200' }, message: 'success' }, null],
  ['a RequestId, with 302', 302, { RequestId: 'R-1' }, 'bad-response'],
  ['a RequestId, with 404', 404, { RequestId: 'R-1' }, 'bad-response'],
  ['a RequestId, with 500', 500, { RequestId: 'R-1' }, 'ambiguous'],
  ['a code of success, with 500', 500, { RequestId: 'R-1', Code: '200' }, 'ambiguous'],
  ['no RequestId', 200, {}, 'bad-response'],
  ['an empty RequestId', 200, { RequestId: '' }, 'bad-response'],
  ['a RequestId that is no text', 200, { RequestId: 7 }, 'bad-response'],
  ['nothing', 200, '', 'bad-response'],
  ['half of JSON', 200, '{"RequestId":"R-1"', 'bad-response'],
  ['a JSON list', 200, [{ RequestId: 'R-1' }], 'bad-response'],
  ['null', 200, 'null', 'bad-response'],
  ['a JSON text', 200, '"R-1"', 'bad-response'],
  ['XML', 400, '<Error><Code>Throttling</Code></Error>', 'throttled'],
  ['a page with 403', 403, '<html>', 'bad-response'],
  ['a page with 429', 429, '<html>', 'throttled'],
  ['a page with 502', 502, '<html>', 'ambiguous'],
]

for (const [name, status, body, expected] of BODIES) {
  test(`${name} is ${expected ?? 'success'}`, () => assert.equal(failureOf(status, body), expected))
}

test('x-acs-retry-after makes throttling of every failure, but not of success', () => {
  assert.equal(failureOf(503, { Code: 'ServiceUnavailable' }, 10), 'throttled')
  assert.equal(failureOf(400, { Code: 'NeverHeardOf' }, 0), 'throttled')
  assert.equal(failureOf(503, '<html>', 10), 'throttled')
  assert.equal(failureOf(200, { RequestId: 'R-1' }, 10), null)
  assert.equal(failureOf(200, '<html>', 10), 'bad-response')
})

/** Codes that only look like those which are known, each by a letter too many. */
const NEAR_MISSES = [
  ...[
    'SignatureDoesNotMatch',
    'IncompleteSignature',
    'IllegalTimestamp',
    'SignatureNonceUsed',
    'Throttling',
    'NoPermission',
  ],
  ...['InvalidTimeStamp', 'Rejected.Throttling', 'InvalidProtocol.NeedSsl', 'UnsupportedHTTPMethod', 'NoSuchVersion'],
  ...['InvalidAccessKeyId', 'InvalidSecurityToken', 'InternalError', 'ServiceUnavailable'],
  ...['ActionUnauthorized', 'Unauthorized', 'InsufficientBalance', 'UnsupportedOperation', 'InvalidAction'],
  'InvalidVersion',
].flatMap((code) => [`X${code}`, `${code}X`])

for (const code of [...NEAR_MISSES, 'XForbidden', 'XMissing', 'XInvalidParameter', 'XAccessDenied']) {
  test(`${code} is no code that is known`, () => assert.equal(failureOf(400, { Code: code }), 'task-not-cancellable'))
}

for (const code of ['XInvalidAction.NotFound', 'InvalidApi.NotFoundX']) {
  test(`${code} names something that is missing, and not the interface`, () =>
    assert.equal(failureOf(400, { Code: code }), 'task-not-found'))
}

test('a hint to ask again counts with any failure, told by the status or by a code', () => {
  assert.equal(failureOf(400, '<html>', 10), 'throttled')
  assert.equal(failureOf(200, { Code: 'NeverHeardOf' }, 10), 'throttled')
})

test('InvalidTimeStamp is about the clock, with a detail or without', () => {
  assert.deepEqual(
    ['InvalidTimeStamp', 'InvalidTimeStamp.Expired'].map((code) => failureOf(400, { Code: code })),
    ['clock-skew', 'clock-skew'],
  )
})

test('a redirect with any body is no success', () => {
  assert.equal(failureOf(300, { RequestId: 'R-1' }), 'bad-response')
})

test('but not of one that says that the call may have been executed', () => {
  assert.equal(failureOf(500, { Code: 'InternalError' }, 10), 'ambiguous')
  assert.equal(failureOf(500, { Code: 'InternalError.Timeout' }, 10), 'ambiguous')
  assert.equal(failureOf(500, { Code: 'XInternalError' }, 10), 'throttled')
  assert.equal(failureOf(400, { Code: 'SignatureNonceUsed' }, 10), 'duplicate')
})

test('an envelope that fails by numbers alone is ambiguous', () => {
  assert.equal(failureOf(400, { code: '500', data: { Code: '503' } }), 'ambiguous')
  assert.equal(failureOf(400, { code: '429' }), 'ambiguous')
})

const UNFIT_IDS = ['R 1', 'R\r\n1', '<b>', 'a'.repeat(65), 'Signature=x', 'näh', '../..'] as const

for (const id of UNFIT_IDS) {
  test(`the RequestId ${JSON.stringify(id.slice(0, 20))} is not passed on`, () => {
    assert.equal(answer(400, { RequestId: id, Code: 'TaskNotExist' }).requestId, null)
    assert.equal(failureOf(200, { RequestId: id }), 'bad-response')
  })
}

test('a code that does not look like one still counts, but is not passed on', () => {
  const code = 'POST&%2F&AccessKeyId%3DLTAI'
  assert.deepEqual(answer(400, { RequestId: 'R-1', Code: code }), {
    ok: false,
    failure: 'task-not-cancellable',
    upstreamCode: null,
    requestId: 'R-1',
    status: 400,
  })
})

for (const ErrorCode of [{}, { Code: 'X' }, ['X'], true, 5]) {
  test(`an ErrorCode ${JSON.stringify(ErrorCode)} denies success, and is not passed on`, () => {
    const { ok, upstreamCode } = { upstreamCode: undefined, ...answer(200, { RequestId: 'R-1', ErrorCode }) }
    assert.deepEqual([ok, upstreamCode], [false, null])
  })
}

test('only failures that prove that nothing was executed are unambiguous', () => {
  const ambiguous = Object.entries(ENDINGS).flatMap(([name, meaning]) => (meaning.ambiguous ? [name] : []))
  assert.deepEqual(ambiguous.sort(), ['ambiguous', 'bad-response', 'duplicate', 'timeout', 'unexpected'])
})

test('no response makes the parser throw, and success always has a RequestId', () => {
  const body = fc.oneof(
    fc.string(),
    fc.json(),
    fc.record({ RequestId: fc.anything(), Code: fc.anything(), code: fc.anything(), data: fc.anything() }).map(toJson),
  )
  fc.assert(
    fc.property(fc.integer({ min: 100, max: 599 }), fc.option(fc.nat()), body, (status, retryAfterMs, text) => {
      const reading = readResponse({ status, retryAfterMs, body: text })
      if (reading.ok) assert.match(`${status} ${reading.requestId}`, /^2\d\d [A-Za-z0-9-]{1,64}$/)
      else assert.ok(reading.failure in ENDINGS)
    }),
  )
})

const toJson = (value: unknown): string =>
  JSON.stringify(value, (_key, member) => (typeof member === 'bigint' ? null : member))
