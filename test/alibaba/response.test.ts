import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ENDINGS, type FailureClass, failed, readResponse, readResult } from '../../src/alibaba/response.ts'
import type { RawResult } from '../../src/alibaba/transport.ts'

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
  ['InsufficientBalance.Anything', [400], 'forbidden'],
  ['UnsupportedOperation', [400], 'forbidden'],
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

/** Other spellings of success and failure than by `Code`. */
const DENIALS: readonly (readonly [unknown, FailureClass | null, string | null])[] = [
  [{ Success: false }, 'ambiguous', null],
  [{ success: 'false' }, 'ambiguous', null],
  [{ Success: 0 }, 'ambiguous', null],
  [{ Success: [] }, 'ambiguous', null],
  [{ Success: true }, null, null],
  [{ Success: 'True' }, null, null],
  [{ Success: 'TRUE' }, null, null],
  [{ Success: 1 }, null, null],
  [{ Success: 'OK' }, null, null],
  [{ Success: null }, null, null],
  [{ Success: true, data: { Success: false } }, 'ambiguous', null],
  [{ ErrorCode: 'SomeError' }, 'ambiguous', 'SomeError'],
  [{ errCode: 'SomeError' }, 'ambiguous', 'SomeError'],
  [{ error: 'SomeError' }, 'ambiguous', 'SomeError'],
  [{ error_code: 'SomeError' }, 'ambiguous', 'SomeError'],
  [{ ErrorCode: '0', error: 'SomeError' }, 'ambiguous', 'SomeError'],
  [{ ErrorCode: {} }, 'ambiguous', null],
  [{ ErrorCode: '' }, null, null],
  [{ ErrorCode: '0' }, null, null],
  [{ ErrorCode: 0 }, null, null],
  [{ error: false }, null, null],
  [{ ErrorCode: 'OK' }, null, null],
  [{ ErrorCode: null }, null, null],
  // A member of another name.
  [{ ErrorCodeText: 'SomeError' }, null, null],
]

for (const [members, failure, code] of DENIALS) {
  test(`a response with ${JSON.stringify(members)} is ${failure ?? 'success'}`, () => {
    const parsed = answer(200, { RequestId: 'R-1', ...Object(members) })
    assert.deepEqual(parsed.ok ? [null, null] : [parsed.failure, parsed.upstreamCode], [failure, code])
  })
}

test('a denial with a status of failure has no meaning of its own', () => {
  assert.equal(failureOf(400, { RequestId: 'R-1', Success: false }), 'bad-response')
  assert.equal(failureOf(400, { RequestId: 'R-1', Success: false }, 10), 'throttled')
  assert.equal(failureOf(200, { RequestId: 'R-1', Success: false }, 10), 'throttled')
})

test('a code of failure decides before a denial', () => {
  const parsed = answer(400, { Code: 'TaskNotExist', ErrorCode: 'SomeError' })
  assert.deepEqual(parsed.ok || [parsed.failure, parsed.upstreamCode], ['task-not-found', 'TaskNotExist'])
})

test('codes are found three levels deep, and in lists', () => {
  const Code = 'TaskNotExist'
  assert.equal(failureOf(400, { data: { data: { Code } } }), 'task-not-found')
  assert.equal(failureOf(400, { data: [{ Code }] }), 'task-not-found')
  assert.equal(failureOf(400, { data: { data: { data: { Code } } } }), 'bad-response')
  assert.equal(failureOf(400, { data: [Code] }), 'bad-response')
})

test('of several codes the ambiguous one decides, else one that is known, else the first', () => {
  const codes = (...names: readonly string[]) => failureOf(400, { data: names.map((Code) => ({ Code })) })
  assert.equal(codes('TaskNotExist', 'Throttling', 'InternalError'), 'ambiguous')
  assert.equal(codes('TaskNotExist', 'Throttling'), 'throttled')
  assert.equal(codes('TaskNotExist', 'SomeError'), 'task-not-found')
  assert.equal(codes('SomeError', 'TaskNotExist'), 'task-not-cancellable')
})

/** HTTP status, outer code, status that counts, class. */
const OUTER: readonly (readonly [number, string | number, number, FailureClass])[] = [
  [200, '404', 404, 'ambiguous'],
  [200, 503, 503, 'ambiguous'],
  [404, '200', 404, 'bad-response'],
  [404, '500', 500, 'ambiguous'],
  [500, '404', 500, 'ambiguous'],
  [404, '302', 404, 'ambiguous'],
  [400, '600', 400, 'ambiguous'],
  [400, '5000', 400, 'ambiguous'],
  [400, 'X500', 400, 'task-not-cancellable'],
  [200, '429', 429, 'ambiguous'],
]

for (const [http, code, status, failure] of OUTER) {
  test(`a code ${JSON.stringify(code)} outside with the HTTP status ${http} is ${failure}`, () => {
    const parsed = answer(http, { code, RequestId: 'R-1' })
    assert.deepEqual(parsed.ok || [parsed.status, parsed.failure], [status, failure])
  })
}

test('a status of throttling outside decides if a code is unknown', () => {
  assert.equal(failureOf(200, { code: '429', data: { Code: 'NeverHeardOf' } }), 'throttled')
  assert.equal(failureOf(200, { code: '200', data: { code: '503' } }), 'ambiguous')
})

test('a status of 500 or more outside is ambiguous, even with a known code inside', () => {
  const withOuter = (code: string) => failureOf(200, { code, data: { RequestId: 'R-1', Code: 'Forbidden.RAM' } })
  assert.deepEqual(['499', '500', '503'].map(withOuter), ['forbidden', 'ambiguous', 'ambiguous'])
})

test('a number inside is no status', () => {
  const parsed = answer(400, { data: { RequestId: 'R-1', code: '503' } })
  assert.deepEqual(parsed.ok || [parsed.status, parsed.failure], [400, 'ambiguous'])
})

test('a byte order mark before the body is ignored', () => {
  assert.equal(failureOf(200, '\ufeff{"RequestId":"R-1"}'), null)
  assert.equal(failureOf(200, '{\ufeff"RequestId":"R-1"}'), 'bad-response')
})

test('a code is passed on with at most 100 characters', () => {
  const codeOf = (code: string) => ({ upstreamCode: '', ...answer(400, { Code: code }) }).upstreamCode
  assert.equal(codeOf('a'.repeat(100)), 'a'.repeat(100))
  assert.equal(codeOf('a'.repeat(101)), null)
  assert.equal(codeOf('A_b.c-1'), 'A_b.c-1')
  assert.equal(codeOf('1a'), null)
})

test('a RequestId that is no text is not the one that counts', () => {
  assert.equal(answer(200, { RequestId: 7, data: { RequestId: 'R-1' } }).requestId, 'R-1')
})

const CREDENTIALS = { accessKeyId: 'key/id', accessKeySecret: 'se+cret', securityToken: 'to ken' } as const

const resultOf = (raw: RawResult, isFullLength = true) => readResult(raw, CREDENTIALS, { isFullLength, backoffMs: 5 })
const response = (status: number, body: unknown, retryAfterMs: number | null = null): RawResult => ({
  kind: 'response',
  response: { status, retryAfterMs, body: JSON.stringify(body) },
  date: new Date(0),
})
const noResponse = (sent: boolean, reason: string): RawResult => ({ kind: 'no-response', sent, reason })

/** Class of an attempt without a response, and its health signal with its full time and with less. */
const WITHOUT_RESPONSE: readonly (readonly [RawResult, FailureClass, string, string])[] = [
  [noResponse(false, 'aborted'), 'aborted', 'ignore', 'ignore'],
  [noResponse(true, 'revoked'), 'aborted', 'ignore', 'ignore'],
  [noResponse(false, 'ECONNREFUSED'), 'not-sent', 'failure', 'failure'],
  [noResponse(false, 'ETIMEDOUT'), 'not-sent', 'failure', 'ignore'],
  [noResponse(true, 'ETIMEDOUT'), 'timeout', 'failure', 'ignore'],
  [noResponse(true, 'ECONNRESET'), 'ambiguous', 'failure', 'failure'],
  [{ kind: 'too-large' }, 'bad-response', 'ok', 'ok'],
]

for (const [raw, failure, health, shortHealth] of WITHOUT_RESPONSE) {
  test(`an attempt that ended with ${JSON.stringify(raw)} is ${failure}`, () => {
    const { sent, reason } = raw.kind === 'no-response' ? raw : { sent: true, reason: 'too-large' }
    const facts = { upstreamCode: null, requestId: null, status: 0, httpStatus: null, date: null }
    const expected = { ok: false, failure, sent, reason, ...facts }
    assert.deepEqual(resultOf(raw), { ...expected, health: { kind: health } })
    assert.deepEqual(resultOf(raw, false), { ...expected, health: { kind: shortHealth } })
  })
}

/** A response, and the health signal. */
const SIGNALS: readonly (readonly [RawResult, object])[] = [
  [response(200, { RequestId: 'R-1' }), { kind: 'ok' }],
  [response(400, { Code: 'Throttling' }, 10), { kind: 'throttled', forMs: 15 }],
  [response(400, { Code: 'Throttling' }), { kind: 'throttled', forMs: 5 }],
  [response(400, { Code: 'TaskNotExist' }), { kind: 'ok' }],
  [response(500, {}), { kind: 'failure' }],
  [response(200, { code: '500' }), { kind: 'failure' }],
  [response(400, { Code: 'InternalError' }), { kind: 'ok' }],
  [response(499, { code: '499' }), { kind: 'ok' }],
]

for (const [raw, health] of SIGNALS) {
  test(`the health signal of ${JSON.stringify(raw)} is ${JSON.stringify(health)}`, () => {
    const result = resultOf(raw, false)
    assert.deepEqual(result.health, health)
    assert.deepEqual([result.sent, result.reason, result.date], [true, 'response', new Date(0)])
    assert.equal(result.httpStatus, raw.kind === 'response' ? raw.response.status : Number.NaN)
  })
}

test('credentials are cut out of a response, as they are and percent-encoded once or twice', () => {
  const Message =
    'id key/id key%2Fid key%252Fid, secret se+cret se%2Bcret se%252Bcret, token to ken to%20ken to%2520ken'
  const result = resultOf(response(200, { RequestId: 'R-1', Message }))
  const cut = '[secret] [secret] [secret]'
  assert.equal(result.ok && result.body.Message, `id ${cut}, secret ${cut}, token ${cut}`)
})

test('credentials without a token, or that are empty, cut nothing else', () => {
  const raw = response(200, { RequestId: 'R-1', Message: 'a key' })
  for (const credentials of [
    { accessKeyId: 'id', accessKeySecret: 's3' },
    { accessKeyId: '', accessKeySecret: '' },
  ]) {
    const result = readResult(raw, credentials, { isFullLength: true, backoffMs: 0 })
    assert.equal(result.ok && result.body.Message, 'a key')
  }
})

test('credentials are cut out of XML', () => {
  const body = '<Error><Code>Code.LTAIexample</Code><RequestId>R-LTAIexample</RequestId></Error>'
  const raw: RawResult = { kind: 'response', response: { status: 400, retryAfterMs: null, body }, date: null }
  const credentials = { accessKeyId: 'LTAIexample', accessKeySecret: 's3' }
  const result = readResult(raw, credentials, { isFullLength: true, backoffMs: 0 })
  assert.deepEqual(result.ok || [result.upstreamCode, result.requestId], [null, null])
  assert.equal(answer(400, body).requestId, 'R-LTAIexample')
})

test('a failure has the code of its operation, and a query is never ambiguous', () => {
  const nothing = { sent: false, upstreamCode: null, requestId: null, retryAfterMs: null, attempts: 0 }
  assert.deepEqual(failed('call', 'ambiguous'), { ok: false, code: 'outcome-unknown', ambiguous: true, ...nothing })
  const query = { ok: false, code: 'upstream-timeout', ambiguous: false, ...nothing, attempts: 2 }
  assert.deepEqual(failed('query', 'timeout', { attempts: 2 }), query)
  assert.equal(failed('call', 'not-sent').ambiguous, false)
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
