import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { type TestContext, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { createUpstream } from '../../src/alibaba/client.ts'
import { fixedCredentials } from '../../src/alibaba/credentials.ts'
import type { UpstreamResult } from '../../src/alibaba/response.ts'
import type { ErrorCode } from '../../src/errors.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { NO_METER } from '../../src/telemetry/meter.ts'
import { NO_TRACER } from '../../src/telemetry/tracing.ts'
import { deadlineIn } from '../../src/time.ts'
import { listenOn } from '../helpers/ports.ts'
import { KEYS } from '../helpers/signed-call.ts'

// The meaning of each response: for a call, for a query, for another attempt, and for the health.

type Health = 'ok' | 'failure' | 'throttled'

interface Meaning {
  /** Code, and whether the call may have taken effect; null for success. */
  readonly call: readonly [ErrorCode, boolean] | null
  readonly query: ErrorCode | null
  /** Attempts of a call and of a query, of two that are allowed. */
  readonly attempts: readonly [1 | 2, 1 | 2]
  readonly health: Health
}

const SUCCESS: Meaning = { call: null, query: null, attempts: [1, 1], health: 'ok' }
const AMBIGUOUS: Meaning = {
  call: ['outcome-unknown', true],
  query: 'upstream-unavailable',
  attempts: [1, 2],
  health: 'ok',
}
const SERVER_FAULT: Meaning = { ...AMBIGUOUS, health: 'failure' }
const UNREADABLE: Meaning = {
  call: ['upstream-bad-response', true],
  query: 'upstream-bad-response',
  attempts: [1, 1],
  health: 'ok',
}
const refused = (code: ErrorCode, query: ErrorCode = code): Meaning => ({
  call: [code, false],
  query,
  attempts: [1, 1],
  health: 'ok',
})
const NOT_CANCELLABLE = refused('task-not-cancellable', 'upstream-bad-response')
const NOT_FOUND = refused('task-not-found')
const FORBIDDEN = refused('upstream-forbidden')
const MISCONFIGURED = refused('upstream-misconfigured')
const CREDENTIALS = refused('upstream-credentials-rejected')
const THROTTLED: Meaning = {
  call: ['upstream-throttled', false],
  query: 'upstream-throttled',
  attempts: [2, 2],
  health: 'throttled',
}

type Response = readonly [status: number, body: unknown, headers?: Readonly<Record<string, string>>]

const R = { RequestId: 'R-1' } as const
const coded = (Code: unknown) => ({ ...R, Code })
const envelope = (code: unknown, inner: object = {}) => ({ code, data: { ...R, ...inner }, name: 'x', message: 'x' })
const finished = { Code: 'TaskFinished' } as const
const xml = (code: string, root = 'Error') =>
  `<?xml version='1.0' encoding='UTF-8'?>\n<${root}><RequestId>R-1</RequestId><HostId>h</HostId><Code>${code}</Code></${root}>`

const section = (text: string): string => `<![CDATA[${text}]]>`

const RETRY_AFTER = { 'x-acs-retry-after': '1' } as const

/** Codes of the account or of the keys, which are never a fault of the task. */
const BY_CODE: readonly (readonly [Meaning, readonly string[]])[] = [
  [
    CREDENTIALS,
    ['MissingSecurityToken', 'Forbidden.AccessKeyDisabled', 'InvalidAccessKeyId.Inactive', 'SignatureDoesNotMatch'],
  ],
  [
    FORBIDDEN,
    [
      ...['ActionUnauthorized', 'AccessDenied', 'AccessDeniedForRAM', 'AccessDenied.RAM', 'Auth.AccessDenied'],
      ...['Auth.AccessDenied.Policy', 'Unauthorized', 'InsufficientBalance', 'UnsupportedOperation', 'Forbidden.RAM'],
    ],
  ],
  [MISCONFIGURED, ['InvalidVersion', 'InvalidAction', 'InvalidAction.NotFound', 'InvalidVersion.NotFound']],
  [refused('internal'), ['MissingTaskNo', 'MissingParameter', 'MissingSecurityTokens']],
  [NOT_CANCELLABLE, ['Unauthorised', 'NotActionUnauthorized', 'InsufficientBalances', 'UnsupportedOperations', 'X']],
]

const CODE_ROWS = BY_CODE.flatMap(([meaning, codes]) =>
  codes.map((code) => [`the code ${code}`, [400, coded(code)], meaning] as const),
)

const ROWS: readonly (readonly [string, Response, Meaning])[] = [
  ['a RequestId', [200, R], SUCCESS],
  ['an envelope of success', [200, envelope('200', { Code: '200' })], SUCCESS],
  ['an envelope of success, as numbers', [200, envelope(200, { Code: 200 })], SUCCESS],
  ['an envelope of success, as decimal numbers', [200, '{"code":200.0,"data":{"RequestId":"R-1"}}'], SUCCESS],
  ['names in lower case', [200, { requestId: 'R-1', code: 'success', success: true }], SUCCESS],
  ['no error', [200, { ...R, Success: true, ErrorCode: '', Error: null }], SUCCESS],
  ['no error, as texts', [200, { ...R, success: 'true', errorCode: '0' }], SUCCESS],
  ['a code null', [200, coded(null)], SUCCESS],
  ['a byte order mark', [200, `\ufeff${JSON.stringify(R)}`], SUCCESS],
  ['gzip', [200, gzipSync(JSON.stringify(R)), { 'content-encoding': 'gzip' }], SUCCESS],
  ['a failure in gzip', [400, gzipSync(JSON.stringify(coded('X'))), { 'content-encoding': 'gzip' }], NOT_CANCELLABLE],

  ['Success false', [200, { ...R, Success: false }], AMBIGUOUS],
  ['success false', [200, { ...R, success: false }], AMBIGUOUS],
  ['Success "false"', [200, { ...R, Success: 'false' }], AMBIGUOUS],
  ['Success 0', [200, { ...R, Success: 0 }], AMBIGUOUS],
  ['Success as an object', [200, { ...R, Success: {} }], AMBIGUOUS],
  ['ErrorCode', [200, { ...R, ErrorCode: 'TaskFinished' }], AMBIGUOUS],
  ['errorCode', [200, { ...R, errorCode: 'TaskFinished' }], AMBIGUOUS],
  ['errorcode', [200, { ...R, errorcode: 'TaskFinished' }], AMBIGUOUS],
  ['ERRORCODE', [200, { ...R, ERRORCODE: 'TaskFinished' }], AMBIGUOUS],
  ['error_code', [200, { ...R, error_code: 'TaskFinished' }], AMBIGUOUS],
  ['Errcode inside', [200, envelope('200', { Errcode: 5 })], AMBIGUOUS],
  ['SUCCESS false', [200, { ...R, SUCCESS: false }], AMBIGUOUS],
  ['CODE', [400, { ...R, CODE: 'TaskFinished' }], NOT_CANCELLABLE],
  ['CODE with 200', [200, { ...R, CODE: 'TaskFinished' }], AMBIGUOUS],
  ['outer 400, code under DATA', [200, { code: '400', DATA: { ...R, ...finished } }], NOT_CANCELLABLE],
  ['a RequestId in lower case', [200, { requestid: 'R-1' }], SUCCESS],
  ['ErrorCode of a known name', [200, { ...R, ErrorCode: 'Throttling.User' }], AMBIGUOUS],
  ['ErrCode as a number', [200, { ...R, ErrCode: 17 }], AMBIGUOUS],
  ['Error', [200, { ...R, Error: { Message: 'no' } }], AMBIGUOUS],
  ['Success false inside', [200, envelope('200', { Success: false })], AMBIGUOUS],
  ['ErrorCode inside', [200, envelope('200', { ErrorCode: 'X' })], AMBIGUOUS],
  ['Success false with 404', [404, { ...R, Success: false }], UNREADABLE],

  ['outer 400, inner code', [200, envelope('400', finished)], NOT_CANCELLABLE],
  ['outer 400 as a number, inner code', [200, envelope(400, finished)], NOT_CANCELLABLE],
  ['outer 404, inner code', [200, envelope('404', { Code: 'TaskNotExist' })], NOT_FOUND],
  ['outer 403, inner code', [200, envelope('403', { Code: 'Forbidden.RAM' })], FORBIDDEN],
  ['outer 400, inner throttling', [200, envelope('400', { Code: 'Throttling.User' })], THROTTLED],
  ['outer 400, inner code in lower case', [200, envelope('400', { code: 'TaskFinished' })], NOT_CANCELLABLE],
  ['outer 400, code under Data', [200, { code: '400', Data: { ...R, ...finished } }], NOT_CANCELLABLE],
  ['outer 400, code in a list', [200, { ...R, code: '400', data: [finished] }], NOT_CANCELLABLE],
  ['outer 200, inner code', [200, envelope('200', finished)], AMBIGUOUS],
  ['outer 200, inner code in a list', [200, { ...R, code: '200', data: [finished] }], AMBIGUOUS],
  ['outer 200, inner code deeper', [200, { ...R, code: '200', data: { data: finished } }], AMBIGUOUS],
  ['outer 200, inner code as an object', [200, envelope('200', { Code: {} })], AMBIGUOUS],
  ['outer 200, inner empty code', [200, envelope('200', { Code: '' })], AMBIGUOUS],
  ['outer 200, inner 500', [200, envelope('200', { Code: '500' })], AMBIGUOUS],
  ['outer 200 with 400, inner code', [400, envelope('200', finished)], NOT_CANCELLABLE],
  ['outer 200 with 400', [400, envelope('200')], UNREADABLE],
  ['outer 200 with 500', [500, envelope('200')], SERVER_FAULT],
  ['outer 400 with 500, inner code', [500, envelope('400', finished)], SERVER_FAULT],
  ['outer 500 with 400, inner code', [400, envelope('500', finished)], SERVER_FAULT],
  ['outer 500, inner code', [200, envelope('500', finished)], SERVER_FAULT],
  ['outer 503 as a number', [200, envelope(503)], SERVER_FAULT],
  ['outer 500, inner throttling', [200, envelope('500', { Code: 'Throttling' })], SERVER_FAULT],
  ['outer 400 without inner code', [200, envelope('400')], AMBIGUOUS],
  ['outer 400 with 400, without inner code', [400, envelope('400')], AMBIGUOUS],
  ['outer 404 with 404, data null', [404, { ...R, code: 404, data: null }], AMBIGUOUS],
  ['outer 429 without inner code', [200, envelope('429')], AMBIGUOUS],
  ['outer 2000, inner code', [200, envelope('2000', finished)], AMBIGUOUS],
  ['outer 400, inner InternalError', [200, envelope('400', { Code: 'InternalError' })], AMBIGUOUS],
  ['outer name, inner InternalError', [400, { ...R, code: 'Throttling', data: { Code: 'InternalError' } }], AMBIGUOUS],
  ['outer name, inner known code', [400, { ...R, code: 'Failed', data: { Code: 'Throttling' } }], THROTTLED],
  ['a code false', [200, coded(false)], AMBIGUOUS],
  ['a code in a list', [200, coded(['TaskFinished'])], AMBIGUOUS],
  ['an empty code with 400', [400, coded('')], AMBIGUOUS],
  ['a blank code with 400', [400, coded(' ')], AMBIGUOUS],

  ['throttling in XML', [400, xml('Throttling.User')], THROTTLED],
  ['a refusal in XML', [400, xml('TaskFinished')], NOT_CANCELLABLE],
  ['a refusal in XML, after a byte order mark', [400, `\ufeff${xml('TaskNotExist')}`], NOT_FOUND],
  ['another root in XML', [403, xml('Forbidden.RAM', 'CancelTaskResponse')], FORBIDDEN],
  ['a code and a server fault in XML', [503, xml('Odd')], SERVER_FAULT],
  ['XML in lower case', [400, xml('Throttling').toLowerCase().replace('throttling', 'Throttling')], THROTTLED],
  ['an unknown code in XML with 200', [200, xml('TaskFinished')], AMBIGUOUS],
  ['success in XML', [200, xml('200', 'CancelTaskResponse')], UNREADABLE],
  ['a RequestId in XML', [200, '<CancelTaskResponse><RequestId>R-1</RequestId></CancelTaskResponse>'], UNREADABLE],
  [
    'XML with a comment',
    [400, xml('X').replace('<HostId>', '<!--<Code>Throttling</Code>--><HostId>')],
    NOT_CANCELLABLE,
  ],
  ['XML with a comment before the root', [400, `<!-- ' > -->${xml('Throttling')}`], THROTTLED],
  ['XML with a comment without end', [400, xml('X').replace('<HostId>', '<!--<HostId>')], UNREADABLE],
  [
    'XML with a message in a section',
    [400, xml('X', 'Error').replace('>h<', `>${section('<Code>Y</Code>')}<`)],
    NOT_CANCELLABLE,
  ],
  [
    'XML with a section before the code',
    [400, xml('Throttling').replace('>h<', `>${section('<!--<Code>X')}<`)],
    THROTTLED,
  ],
  ['XML with the code in a section', [400, xml(section('Throttling'))], THROTTLED],
  ['XML with a section without end', [400, xml('Throttling').replace('>h<', '><![CDATA[<')], UNREADABLE],
  ['XML with an attribute', [400, xml('Throttling').replace('<Code>', '<Code type="a">')], THROTTLED],
  ['XML with entities', [400, `<!DOCTYPE e [<!ENTITY c "Throttling">]>${xml('&c;')}`], UNREADABLE],
  ['XML with an escaped code', [400, xml('Throttl&#105;ng')], UNREADABLE],
  ['XML that was cut', [400, xml('Throttling').slice(0, -3)], UNREADABLE],
  [
    'XML whose first code is none',
    [400, xml('<a/>').replace('</Error>', '<Code>Throttling</Code></Error>')],
    UNREADABLE,
  ],
  ['a page that names a code', [400, '<html><code>Throttling</code></html>'], UNREADABLE],
  ['a page in upper case that names a code', [400, '<HTML><Code>Throttling</Code></HTML>'], UNREADABLE],

  ['x-acs-retry-after and an unknown code', [400, coded('Busy'), RETRY_AFTER], THROTTLED],
  ['x-acs-retry-after and XML', [503, xml('ServiceUnavailable'), RETRY_AFTER], THROTTLED],
  ['x-acs-retry-after and InternalError', [500, coded('InternalError'), RETRY_AFTER], SERVER_FAULT],
  ['x-acs-retry-after and success', [200, R, RETRY_AFTER], SUCCESS],
  ['a page with 429', [429, '<html>'], THROTTLED],
  ...CODE_ROWS,
]

/** A client of an upstream that answers everything in the same way. */
const startClient = async (t: TestContext, [status, body, headers = {}]: Response, maxAttempts: number, wait = 0) => {
  const server = createServer((req, res) => {
    const bytes = typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body)
    req.resume().on('end', () => res.writeHead(status, headers).end(bytes))
  })
  const upstream = createUpstream({
    url: new URL(`http://127.0.0.1:${await listenOn(t, server)}`),
    signature: 'rpc-v1',
    timeoutMs: 5000,
    maxAttempts,
    maxConcurrency: 64,
    credentials: fixedCredentials(KEYS),
    log: createLog({ level: 'silent' }),
    meter: NO_METER,
    tracer: NO_TRACER,
    random: () => wait,
  })
  t.after(upstream.close)
  const ask = (kind: 'call' | 'query') =>
    upstream[kind]('CancelTask', { TaskNo: 't' }, { priority: 'cancel', deadline: deadlineIn(15_000) })
  return { upstream, ask }
}

const facts = (result: UpstreamResult) => (result.ok ? null : ([result.code, result.ambiguous] as const))

const healthAfterTen = async (t: TestContext, response: Response): Promise<Health> => {
  const { upstream, ask } = await startClient(t, response, 1, 1)
  await ask('call')
  if (upstream.state().isThrottled) return 'throttled'
  for (let time = 1; time < 10; time += 1) await ask('call')
  return upstream.state().priorities.cancel.isUnhealthy ? 'failure' : 'ok'
}

for (const [name, response, { call, query, attempts, health }] of ROWS) {
  test(`${name}, with ${response[0]}: ${call?.[0] ?? 'success'} of a call, ${query ?? 'success'} of a query`, async (t) => {
    const { ask } = await startClient(t, response, 2)
    const [called, queried] = [await ask('call'), await ask('query')]
    assert.deepEqual([facts(called), facts(queried)?.[0] ?? null], [call, query])
    assert.deepEqual([called.attempts, queried.attempts], attempts)
    assert.equal(await healthAfterTen(t, response), health)
  })
}

const REQUEST_IDS: readonly (readonly [string, unknown])[] = [
  ['JSON', coded('TaskFinished')],
  ['an envelope', envelope('400', finished)],
  ['XML', xml('TaskFinished')],
]

for (const [form, body] of REQUEST_IDS) {
  test(`a refusal in ${form} carries its code and its RequestId`, async (t) => {
    const { ask } = await startClient(t, [400, body], 1)
    const result = await ask('call')
    assert.ok(!result.ok)
    assert.deepEqual([result.upstreamCode, result.requestId], ['TaskFinished', 'R-1'])
  })
}
