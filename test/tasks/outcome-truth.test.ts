import assert from 'node:assert/strict'
import { createServer } from 'node:net'
import { describe, type TestContext, test } from 'node:test'
import type { Fault, FaultReply, Sandbox, SandboxOptions } from '../../sandbox/src/server.ts'
import type { Env } from '../../src/config.ts'
import { createCertificate } from '../helpers/certificate.ts'
import { startWatchedGateway, upstreamState } from '../helpers/consistency.ts'
import { asOperator } from '../helpers/gateway.ts'
import { closedPort, listenOn } from '../helpers/ports.ts'
import { type Interception, startInterceptingProxy } from '../helpers/upstream-proxy.ts'

// Four observations of each failure: the response to the caller, the audit record, the state of the upstream, and the
// number of calls. The expectations differ so much that a build with constant results cannot pass.

interface Truth {
  readonly status: number
  readonly code?: string
  readonly outcome?: 'not-cancelled' | 'unknown'
  /** Of a success: the cancel status in the response. */
  readonly cancelStatus?: 'accepted' | 'cancelling' | 'cancelled'
  readonly record: 'accepted' | 'cancelled' | 'rejected' | 'failed' | 'unknown'
  readonly settledBy: 'query' | null
  readonly attempts: number
  readonly upstreamCode: string | null
  readonly hasRequestId: boolean
  readonly cancelled: boolean
  readonly calls: number
}

interface Row {
  readonly name: string
  readonly truth: Truth
  /** Faults of the upstream's responses, in order; later responses are correct. */
  readonly faults?: readonly Fault[]
  /** Fault of every query about the task. */
  readonly queryFault?: Fault
  readonly task?: 'open' | 'finished' | 'unknown' | 'cancelling'
  /** Another caller has just read the task, so its status is cached. */
  readonly looked?: boolean
  /** How many tasks are newer than this one. */
  readonly others?: number
  readonly proxy?: (t: TestContext, upstream: Sandbox) => Promise<string>
  readonly env?: Env
  readonly sandbox?: Partial<SandboxOptions>
  readonly clockOffsetMs?: number
  readonly retryAfter?: RegExp
}

const TWO_HOURS_MS = 7_200_000
const ONE_ATTEMPT: Env = { UPSTREAM_MAX_ATTEMPTS: '1' }
const IMPATIENT: Env = { UPSTREAM_TIMEOUT_MS: '1500' }

const accepted = (attempts = 1): Truth => ({
  status: 202,
  cancelStatus: 'accepted',
  record: 'accepted',
  settledBy: null,
  attempts,
  upstreamCode: null,
  hasRequestId: true,
  cancelled: true,
  calls: attempts,
})

const unknown = (more: Partial<Truth> = {}): Truth => ({
  status: 504,
  code: 'outcome-unknown',
  outcome: 'unknown',
  record: 'unknown',
  settledBy: null,
  attempts: 1,
  upstreamCode: null,
  hasRequestId: false,
  cancelled: false,
  calls: 1,
  ...more,
})

/** The response proves nothing, but the task shows that it is being cancelled. */
const settled = (more: Partial<Truth> = {}): Truth => ({
  ...accepted(),
  cancelStatus: 'cancelling',
  settledBy: 'query',
  hasRequestId: false,
  ...more,
})

/** The results of the same response: with an effect, which the task shows, and without, which proves nothing. */
const ambiguous = (effect: boolean, { hasRequestId = false, ...more }: Partial<Truth> = {}): Truth =>
  effect ? settled(more) : unknown({ hasRequestId, ...more })

const unreadable = (effect: boolean, more: Partial<Truth> = {}): Truth =>
  effect ? ambiguous(true, more) : ambiguous(false, { status: 502, code: 'upstream-bad-response', ...more })

const refusedWith = (
  upstreamCode: string,
  more: Pick<Truth, 'status' | 'code' | 'record'> & Partial<Truth>,
): Truth => ({
  outcome: 'not-cancelled',
  settledBy: null,
  attempts: 1,
  upstreamCode,
  hasRequestId: true,
  cancelled: false,
  calls: 1,
  ...more,
})

const UNREACHED: Truth = {
  status: 503,
  code: 'upstream-unavailable',
  outcome: 'not-cancelled',
  record: 'failed',
  settledBy: null,
  attempts: 3,
  upstreamCode: null,
  hasRequestId: false,
  cancelled: false,
  calls: 0,
}

const reply = (status: number, code: string, headers?: Record<string, string>): FaultReply =>
  headers === undefined ? { status, code } : { status, code, headers }

const done = (effect: boolean): string => (effect ? 'after the task was cancelled' : 'and the task stays')

/** Responses that prove nothing, each with and without an effect. */
const AMBIGUOUS_ANSWERS: readonly (readonly [number, string])[] = [
  [500, 'InternalError'],
  [503, 'ServiceUnavailable'],
  [502, 'BadGateway'],
  [504, 'TaskNotExist.Perhaps'],
  [200, 'NeverHeardOf'],
  [200, 'Forbidding'],
  [400, 'SignatureNonceUsed'],
]

const unreadableOrLost = (effect: boolean): readonly Row[] => [
  { name: `no answer ${done(effect)}`, faults: [{ reply: 'stall', effect }], env: IMPATIENT, truth: ambiguous(effect) },
  { name: `a reset ${done(effect)}`, faults: [{ reply: 'reset', effect }], truth: ambiguous(effect) },
  { name: `half an answer ${done(effect)}`, faults: [{ reply: 'truncate', effect }], truth: ambiguous(effect) },
  { name: `a page with 200 ${done(effect)}`, faults: [{ reply: 'not-json', effect }], truth: unreadable(effect) },
  { name: `an endless answer ${done(effect)}`, faults: [{ reply: 'huge', effect }], truth: unreadable(effect) },
  { name: `a redirect ${done(effect)}`, faults: [{ reply: 'redirect', effect }], truth: unreadable(effect) },
  { name: `no RequestId ${done(effect)}`, faults: [{ reply: 'no-request-id', effect }], truth: unreadable(effect) },
  ...AMBIGUOUS_ANSWERS.map(([status, code]) => ({
    name: `${code} with ${status} ${done(effect)}`,
    faults: [{ reply: reply(status, code), effect }],
    truth: ambiguous(effect, { upstreamCode: code, hasRequestId: true }),
  })),
]

const answering =
  (interception: Interception): NonNullable<Row['proxy']> =>
  (t, upstream) =>
    startInterceptingProxy(t, upstream.url, interception)

const PAGE = '<html><body>Bad Gateway</body></html>'

type Body = Readonly<Record<string, unknown>> & { readonly ErrorCode?: string }

/** Bodies that contradict their status 200, and envelopes that report a failure without a reason. */
const AMBIGUOUS_BODIES: readonly (readonly [string, Body])[] = [
  ['Success false with 200', { RequestId: 'R-1', Success: false }],
  ['an ErrorCode with 200', { RequestId: 'R-1', ErrorCode: 'TaskFinished' }],
  ['an envelope of 200 with an error inside', { code: '200', data: { RequestId: 'R-1', Success: false } }],
  ['an envelope of 400 without a code inside', { code: '400', data: { RequestId: 'R-1' } }],
  ['an envelope of 500', { code: '500', data: { RequestId: 'R-1' } }],
]

const codeIn = ({ ErrorCode }: Body): string | null => ErrorCode ?? null

/** Rejections in forms that the sandbox does not produce. */
const OTHER_FORMS: readonly Row[] = [
  ['in an envelope of 400', 200, JSON.stringify({ code: '400', data: { RequestId: 'R-1', Code: 'TaskFinished' } })],
  ['in XML', 400, '<Error><RequestId>R-1</RequestId><Code>TaskFinished</Code></Error>'],
  ['after a byte order mark', 400, '\ufeff{"RequestId":"R-1","Code":"TaskFinished"}'],
].map(([name, status, body]) => ({
  name: `a refusal ${name}`,
  proxy: answering({ forwarded: 0, response: { status: Number(status), body: String(body) } }),
  truth: refusedWith('TaskFinished', { status: 409, code: 'task-not-cancellable', record: 'rejected', calls: 0 }),
}))

const throughMiddlebox = (effect: boolean): readonly Row[] => {
  const forwarded = effect ? 1 : 0
  const calls = forwarded
  const behind = (status: number, body: string) => answering({ forwarded, response: { status, body } })
  return [
    { name: `a page with 502 ${done(effect)}`, proxy: behind(502, PAGE), truth: ambiguous(effect, { calls }) },
    { name: `a page with 503 ${done(effect)}`, proxy: behind(503, PAGE), truth: ambiguous(effect, { calls }) },
    { name: `an empty 504 ${done(effect)}`, proxy: behind(504, ''), truth: ambiguous(effect, { calls }) },
    { name: `a page with 404 ${done(effect)}`, proxy: behind(404, PAGE), truth: unreadable(effect, { calls }) },
    { name: `a page with 403 ${done(effect)}`, proxy: behind(403, PAGE), truth: unreadable(effect, { calls }) },
    { name: `an empty 200 ${done(effect)}`, proxy: behind(200, ''), truth: unreadable(effect, { calls }) },
    {
      name: `a JSON list ${done(effect)}`,
      proxy: behind(200, '["RequestId"]'),
      truth: unreadable(effect, { calls }),
    },
    ...AMBIGUOUS_BODIES.map(([name, body]) => ({
      name: `${name} ${done(effect)}`,
      proxy: behind(200, JSON.stringify(body)),
      truth: ambiguous(effect, { calls, hasRequestId: true, upstreamCode: codeIn(body) }),
    })),
    {
      name: `a RequestId with 302 ${done(effect)}`,
      proxy: behind(302, '{"RequestId":"R-1"}'),
      truth: unreadable(effect, { calls, hasRequestId: true }),
    },
  ]
}

const KEY_CODES: readonly (readonly [number, string])[] = [
  [404, 'InvalidAccessKeyId.NotFound'],
  [400, 'InvalidAccessKeyId.Inactive'],
  [403, 'InvalidAccessKeyId'],
  [400, 'MissingAccessKeyId'],
  [400, 'SignatureDoesNotMatch'],
  [403, 'SignatureDoesNotMatch'],
  [400, 'IncompleteSignature'],
  [400, 'InvalidSecurityToken.Expired'],
  [403, 'InvalidSecurityToken.MismatchWithAccessKey'],
  [400, 'MissingSecurityToken'],
  [403, 'Forbidden.AccessKeyDisabled'],
]

const FORBIDDEN_CODES: readonly (readonly [number, string])[] = [
  [403, 'Forbidden.RAM'],
  [400, 'Forbidden.RAM'],
  [403, 'NoPermission'],
  [403, 'Forbidden'],
  [403, 'ActionUnauthorized'],
  [403, 'AccessDeniedForRAM'],
  [403, 'Auth.AccessDenied.Policy'],
  [401, 'Unauthorized'],
  [400, 'InsufficientBalance'],
  [400, 'UnsupportedOperation'],
]

const MISCONFIGURED_CODES: readonly (readonly [number, string])[] = [
  [404, 'InvalidAction.NotFound'],
  [404, 'InvalidApi.NotFound'],
  [404, 'InvalidProduct.NotFound'],
  [400, 'InvalidProtocol.NeedSsl'],
  [400, 'UnsupportedHTTPMethod'],
  [400, 'NoSuchVersion'],
  [400, 'InvalidVersion'],
  [404, 'InvalidAction'],
]

const THROTTLING_CODES: readonly (readonly [number, string])[] = [
  [400, 'Throttling'],
  [400, 'Throttling.User'],
  [429, 'Throttling.Api'],
  [503, 'Throttling.Concurrency'],
  [503, 'Rejected.Throttling'],
]

const TASK_CODES: readonly (readonly [number, string, string])[] = [
  [400, 'TaskNotExist', 'task-not-found'],
  [404, 'InvalidTask.NotFound', 'task-not-found'],
  [400, 'TaskIsDone', 'task-not-cancellable'],
  [409, 'OperationDenied', 'task-not-cancellable'],
  [400, 'InvalidParameter', 'task-not-cancellable'],
  [400, 'InvalidParameter.TaskNo', 'task-not-cancellable'],
]

const rowsOf = (
  codes: readonly (readonly [number, string])[],
  more: Pick<Truth, 'status' | 'code' | 'record'>,
  env: Env = {},
): readonly Row[] =>
  codes.map(([status, code]) => ({
    name: `${code} with ${status}`,
    env,
    faults: [{ reply: reply(status, code) }],
    truth: refusedWith(code, more),
  }))

const KEYS_REJECTED = { status: 502, code: 'upstream-credentials-rejected', record: 'failed' } as const
const MISCONFIGURED = { status: 502, code: 'upstream-misconfigured', record: 'failed' } as const
const THROTTLED = { status: 503, code: 'upstream-throttled', record: 'failed' } as const

const RAW_CODES: readonly Row[] = [
  ...rowsOf(KEY_CODES, KEYS_REJECTED),
  ...rowsOf(FORBIDDEN_CODES, { status: 502, code: 'upstream-forbidden', record: 'failed' }),
  ...rowsOf(MISCONFIGURED_CODES, MISCONFIGURED),
  ...rowsOf(THROTTLING_CODES, THROTTLED, ONE_ATTEMPT),
  ...rowsOf(
    [
      [400, 'MissingTaskNo'],
      [400, 'MissingParameter.TaskNo'],
    ],
    { status: 500, code: 'internal', record: 'failed' },
  ),
  ...TASK_CODES.flatMap(([status, code, problem]) =>
    rowsOf([[status, code]], { status: problem === 'task-not-found' ? 404 : 409, code: problem, record: 'rejected' }),
  ),
]

const throttledBy = (waitMs: number, status = 400, code = 'Throttling.User'): Fault => ({
  reply: reply(status, code, { 'x-acs-retry-after': String(waitMs) }),
})
const throttled: Fault = { reply: reply(400, 'Throttling.User') }
const timestampRefused: Fault = { reply: reply(400, 'InvalidTimeStamp.Expired') }

const THROTTLING: readonly Row[] = [
  { name: 'one throttling, then success', faults: [throttled], truth: accepted(2) },
  { name: 'two throttlings, then success', faults: [throttled, throttled], truth: accepted(3) },
  {
    name: 'throttling until the attempts run out',
    faults: [throttledBy(10), throttledBy(10), throttledBy(10)],
    truth: refusedWith('Throttling.User', { ...THROTTLED, attempts: 3, calls: 3 }),
    retryAfter: /^1$/,
  },
  {
    name: 'throttling for longer than the request lasts',
    faults: [throttledBy(60_000)],
    truth: refusedWith('Throttling.User', THROTTLED),
    retryAfter: /^6[01]$/,
  },
  {
    name: 'x-acs-retry-after on ServiceUnavailable',
    faults: [throttledBy(1, 503, 'ServiceUnavailable')],
    truth: accepted(2),
  },
  { name: 'x-acs-retry-after on an unknown code', faults: [throttledBy(1, 400, 'Busy')], truth: accepted(2) },
  {
    name: 'throttling, then a reset after the task was cancelled',
    faults: [throttled, { reply: 'reset', effect: true }],
    truth: settled({ attempts: 2, calls: 2 }),
  },
  {
    name: 'throttling, then a refusal',
    faults: [throttled, { reply: reply(400, 'TaskIsDone') }],
    truth: refusedWith('TaskIsDone', {
      status: 409,
      code: 'task-not-cancellable',
      record: 'rejected',
      attempts: 2,
      calls: 2,
    }),
  },
  {
    name: 'a page with 429',
    proxy: answering({ forwarded: 0, response: { status: 429, body: PAGE } }),
    env: ONE_ATTEMPT,
    truth: { ...UNREACHED, code: 'upstream-throttled', attempts: 1 },
    retryAfter: /^1$/,
  },
]

const CLOCK: readonly Row[] = [
  { name: 'a clock two hours behind', clockOffsetMs: TWO_HOURS_MS, truth: accepted(2) },
  { name: 'a clock two hours ahead', clockOffsetMs: -TWO_HOURS_MS, truth: accepted(2) },
  { name: 'a timestamp refused once', faults: [{ reply: reply(400, 'IllegalTimestamp') }], truth: accepted(2) },
  {
    name: 'a timestamp refused twice',
    faults: [timestampRefused, timestampRefused],
    truth: refusedWith('InvalidTimeStamp.Expired', { ...MISCONFIGURED, attempts: 2, calls: 2 }),
  },
  {
    name: 'a clock that is off, then throttling',
    clockOffsetMs: TWO_HOURS_MS,
    faults: [throttled],
    truth: accepted(3),
  },
]

const PLAIN: readonly Row[] = [
  { name: 'success', truth: accepted() },
  { name: 'success in the envelope', faults: [{ reply: 'envelope' }], truth: accepted() },
  { name: 'success byte by byte', faults: [{ reply: 'slow' }], truth: accepted() },
  {
    name: 'an unknown task',
    task: 'unknown',
    truth: refusedWith('TaskNotExist', { status: 404, code: 'task-not-found', record: 'rejected' }),
  },
  {
    name: 'an unknown task, reported in the envelope',
    task: 'unknown',
    faults: [{ reply: 'envelope' }],
    truth: refusedWith('TaskNotExist', { status: 404, code: 'task-not-found', record: 'rejected' }),
  },
  {
    name: 'a task that is finished',
    task: 'finished',
    truth: refusedWith('TaskStatusNotAllowed', { status: 409, code: 'task-not-cancellable', record: 'rejected' }),
  },
  {
    name: 'a wrong secret',
    env: { ALIBABA_CLOUD_ACCESS_KEY_SECRET: 'another' },
    truth: refusedWith('SignatureDoesNotMatch', KEYS_REJECTED),
  },
  {
    name: 'an unknown AccessKeyId',
    env: { ALIBABA_CLOUD_ACCESS_KEY_ID: 'another' },
    truth: refusedWith('InvalidAccessKeyId.NotFound', KEYS_REJECTED),
  },
  {
    name: 'a request that a middlebox sends twice',
    proxy: answering({ forwarded: 2 }),
    truth: settled({ upstreamCode: 'SignatureNonceUsed', calls: 2 }),
  },
]

const NEVER_SENT: readonly Row[] = [
  {
    name: 'a port that nobody listens on',
    proxy: async () => `http://127.0.0.1:${await closedPort()}`,
    truth: UNREACHED,
  },
  {
    name: 'a port that nobody listens on, and one attempt',
    proxy: async () => `http://127.0.0.1:${await closedPort()}`,
    env: ONE_ATTEMPT,
    truth: { ...UNREACHED, attempts: 1 },
  },
  {
    name: 'a TLS handshake that is cut',
    proxy: async (t) =>
      `https://127.0.0.1:${await listenOn(
        t,
        createServer((socket) => socket.destroy()),
      )}`,
    truth: UNREACHED,
  },
  {
    name: 'a TLS handshake that is never answered',
    proxy: async (t) => `https://127.0.0.1:${await listenOn(t, createServer())}`,
    env: { ...ONE_ATTEMPT, UPSTREAM_TIMEOUT_MS: '200' },
    truth: { ...UNREACHED, attempts: 1 },
  },
  { name: 'a certificate that nobody vouches for', sandbox: { tls: createCertificate() }, truth: UNREACHED },
  // A label of 64 letters is refused by the resolver itself, so no name server is asked.
  { name: 'a name that does not exist', proxy: async () => `https://${'a'.repeat(64)}.invalid`, truth: UNREACHED },
]

const addTask = (upstream: Sandbox, task: Row['task']): string => {
  if (task === 'unknown') return 'never-added'
  return upstream.addTask(task === 'finished' ? { createdAt: Date.now() - TWO_HOURS_MS } : {})
}

const witness = async (t: TestContext, row: Row) => {
  const { api, upstream, record } = await startWatchedGateway(t, row)
  const taskNo = addTask(upstream, row.task)
  if (row.task === 'cancelling') await api.delete(`/tasks/${taskNo}`).set(asOperator)
  if (row.looked) await api.get(`/tasks/${taskNo}`).set(asOperator)
  for (let other = 0; other < (row.others ?? 0); other += 1) upstream.addTask()
  for (const fault of row.faults ?? []) upstream.fault('CancelTask', fault)
  if (row.queryFault !== undefined) upstream.fault('QueryTaskList', row.queryFault, 100)
  upstream.setClockOffset(row.clockOffsetMs ?? 0)
  const answer = await api.delete(`/tasks/${taskNo}`).set(asOperator)
  return {
    answer,
    recorded: await record(taskNo),
    seen: upstreamState(upstream, taskNo),
    violations: upstream.violations,
  }
}

/** After each of these results the task must be read, and its status decides the outcome. */
const SETTLED: readonly Row[] = [
  {
    name: 'a reset after a task that is cancelled at once',
    faults: [{ reply: 'reset', effect: true }],
    sandbox: { cancellingMs: 0 },
    truth: settled({ status: 200, cancelStatus: 'cancelled', record: 'cancelled' }),
  },
  {
    name: 'a task that is being cancelled already',
    task: 'cancelling',
    truth: settled({ upstreamCode: 'TaskAlreadyCancelled', calls: 2 }),
  },
  {
    name: 'a task that is cancelled already',
    task: 'cancelling',
    sandbox: { cancellingMs: 0 },
    truth: settled({
      status: 200,
      cancelStatus: 'cancelled',
      record: 'cancelled',
      upstreamCode: 'TaskAlreadyCancelled',
      calls: 2,
    }),
  },
  {
    name: 'a refusal of a task that is being cancelled already, after throttling',
    task: 'cancelling',
    faults: [throttled],
    truth: settled({ upstreamCode: 'TaskAlreadyCancelled', attempts: 2, calls: 3 }),
  },
  {
    name: 'a reset after the task was cancelled, with a cached read from before the cancel',
    looked: true,
    faults: [{ reply: 'reset', effect: true }],
    truth: settled(),
  },
  ...[true, false].map((effect) => ({
    name: `a reset ${done(effect)}, and then no answer about the task`,
    faults: [{ reply: 'reset', effect } as const],
    queryFault: { reply: reply(500, 'InternalError') },
    truth: unknown({ cancelled: effect }),
  })),
  {
    name: 'a refusal, and then no answer about the task',
    task: 'finished',
    queryFault: { reply: reply(500, 'InternalError') },
    truth: refusedWith('TaskStatusNotAllowed', { status: 409, code: 'task-not-cancellable', record: 'rejected' }),
  },
  {
    name: 'a reset after the task was cancelled, of which the list shows no such task',
    faults: [{ reply: 'reset', effect: true }],
    env: { TASK_LOOKUP_LIMIT: '1' },
    others: 3,
    truth: settled(),
  },
]

const SUITES = {
  'the plain cases': PLAIN,
  'questions to the task': SETTLED,
  'answers that prove nothing': [true, false].flatMap(unreadableOrLost),
  'answers of a middlebox': [true, false].flatMap(throughMiddlebox),
  'codes of the vendor': RAW_CODES,
  'refusals in other forms': OTHER_FORMS,
  throttling: THROTTLING,
  clocks: CLOCK,
  'calls that were never sent': NEVER_SENT,
}

for (const [suite, rows] of Object.entries(SUITES)) {
  describe(`the truth about ${suite}`, { concurrency: 4 }, () => {
    for (const row of rows) {
      test(row.name, async (t) => {
        const { answer, recorded, seen, violations } = await witness(t, row)
        const { code, outcome, cancelStatus } = answer.body
        const { attempts, upstreamCode, requestId, settledBy } = recorded
        const told = { status: answer.status, ...(code && { code, outcome }), ...(cancelStatus && { cancelStatus }) }
        const found = { record: recorded.outcome, attempts, upstreamCode, settledBy, hasRequestId: requestId !== null }
        assert.deepEqual({ ...told, ...found, ...seen }, row.truth)
        const { upstreamCode: toldCode = null, requestId: toldId = null, cancellationId } = answer.body
        // After a success or an internal error the record contains more than the response to the caller.
        const tellable = code === undefined || code === 'internal' ? null : upstreamCode
        assert.deepEqual([toldCode, toldId, cancellationId], [tellable, requestId, recorded.id])
        assert.match(answer.get('retry-after') ?? '', row.retryAfter ?? /^(1)?$/)
        assert.equal(violations, 0, 'nothing is sent before the intent is on record')
      })
    }
  })
}
