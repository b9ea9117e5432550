import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { FaultReply } from '../../sandbox/src/server.ts'
import type { UpstreamFailure } from '../../src/alibaba/response.ts'
import { openSqliteStore } from '../../src/audit/sqlite.ts'
import type { Env } from '../../src/config.ts'
import { GatewayError } from '../../src/errors.ts'
import { createPermissions } from '../../src/tasks/permission.ts'
import { deadlineIn } from '../../src/time.ts'
import { asAuditor, asOperator, cancelCalls, eventually, type Started, startGateway } from '../helpers/gateway.ts'
import { closedPort } from '../helpers/ports.ts'
import { startCancel } from '../helpers/raw-http.ts'
import { apiKeysWith, asCaller } from '../helpers/restricted-callers.ts'

// Cancellations of restricted callers whose task cannot be read.

const API_KEYS = apiKeysWith({ name: 'shop', scopes: ['tasks:cancel', 'tasks:read'], domains: ['*.a.example'] })
const INSIDE = { domains: ['www.a.example'] } as const

const start = (t: TestContext, env: Env = {}): Promise<Started> => startGateway(t, { env: { API_KEYS, ...env } })

const cancel = async ({ api }: Started, taskNo: string) => {
  const { status, body, headers } = await api.delete(`/tasks/${taskNo}`).set(asCaller('shop'))
  return { status, body, headers }
}

type Facts = readonly [status: number, code: string, record: string, attempts: number, upstreamCode: string | null]

const FORBIDDEN: Facts = [403, 'forbidden', 'refused', 0, null]

const FAILURES: readonly (readonly [FaultReply, Facts])[] = [
  [{ status: 404, code: 'TaskNotExist' }, FORBIDDEN],
  [{ status: 400, code: 'InvalidParameter' }, FORBIDDEN],
  ['not-json', FORBIDDEN],
  ['huge', FORBIDDEN],
  ['redirect', FORBIDDEN],
  ['no-request-id', FORBIDDEN],
  ['reset', FORBIDDEN],
  ['truncate', FORBIDDEN],
  ['wrong-total', FORBIDDEN],
  [{ status: 500, code: 'InternalError' }, FORBIDDEN],
  [{ status: 503, code: 'ServiceUnavailable' }, FORBIDDEN],
  ['stall', [504, 'upstream-timeout', 'failed', 2, null]],
  [{ status: 400, code: 'Throttling.User' }, [503, 'upstream-throttled', 'failed', 2, 'Throttling.User']],
  [{ status: 403, code: 'Forbidden.RAM' }, [502, 'upstream-forbidden', 'failed', 1, 'Forbidden.RAM']],
  [
    { status: 404, code: 'InvalidAccessKeyId.NotFound' },
    [502, 'upstream-credentials-rejected', 'failed', 1, 'InvalidAccessKeyId.NotFound'],
  ],
  [{ status: 400, code: 'NoSuchVersion' }, [502, 'upstream-misconfigured', 'failed', 1, 'NoSuchVersion']],
  [{ status: 400, code: 'MissingTaskNo' }, [500, 'internal', 'failed', 1, 'MissingTaskNo']],
]

for (const [reply, [status, code, outcome, attempts, upstreamCode]] of FAILURES) {
  test(`details answered by ${JSON.stringify(reply)}: ${code}, on record as ${outcome}`, async (t) => {
    const timeoutMs = reply === 'stall' ? '500' : '5000'
    const started = await start(t, { UPSTREAM_MAX_ATTEMPTS: '2', UPSTREAM_TIMEOUT_MS: timeoutMs })
    const taskNo = started.upstream.addTask(INSIDE)
    started.upstream.fault('QueryTaskDetailList', { reply }, Number.POSITIVE_INFINITY)
    const { body, headers } = await cancel(started, taskNo)
    assert.deepEqual([body.status, body.code, body.outcome], [status, code, 'not-cancelled'])
    assert.equal(code === 'upstream-throttled', headers['retry-after'] !== undefined)
    const record = await started.record(taskNo)
    assert.deepEqual(
      [record.id, record.outcome, record.attempts, record.upstreamCode],
      [body.cancellationId, outcome, attempts, upstreamCode],
    )
    assert.equal(cancelCalls(started.upstream).length, 0)
    // A refusal contains nothing about the task.
    if (code === 'forbidden') assert.deepEqual([body.upstreamCode, body.requestId], [undefined, undefined])
  })
}

test('an unreachable upstream is reported as such', async (t) => {
  const started = await start(t, { UPSTREAM_URL: `http://127.0.0.1:${await closedPort()}`, UPSTREAM_MAX_ATTEMPTS: '2' })
  const { body } = await cancel(started, 't')
  assert.deepEqual([body.status, body.code, body.outcome], [503, 'upstream-unavailable', 'not-cancelled'])
  const { id, outcome, attempts } = await started.record('t')
  assert.deepEqual([id, outcome, attempts], [body.cancellationId, 'failed', 2])
})

test('a task is read for each cancellation, even if a read is cached, with the address and language of the caller', async (t) => {
  const started = await startGateway(t, {
    env: { API_KEYS, TRUST_PROXY: '127.0.0.1' },
    overrides: { timings: { lookupTtlMs: 3_600_000 } },
  })
  const { api, upstream } = started
  const taskNo = upstream.addTask(INSIDE)
  assert.equal((await api.get(`/tasks/${taskNo}`).set(asCaller('shop'))).status, 200)
  const before = upstream.calls.length
  upstream.fault('QueryTaskDetailList', { reply: 'wrong-total' }, 2)
  const headers = { ...asCaller('shop'), 'x-forwarded-for': '203.0.113.9', 'accept-language': 'zh' }
  assert.equal((await api.delete(`/tasks/${taskNo}`).set(headers)).status, 403)
  const [read] = upstream.calls.slice(before)
  const { TaskNo, PageNum, PageSize, UserClientIp, Lang } = read?.params ?? {}
  assert.deepEqual([TaskNo, PageNum, PageSize, UserClientIp, Lang], [taskNo, '1', '1000', '203.0.113.9', 'zh'])
})

test('for an unrestricted caller no task is read', async (t) => {
  const { api, upstream } = await start(t)
  assert.equal((await api.delete(`/tasks/${upstream.addTask()}`).set(asOperator)).status, 202)
  assert.deepEqual(
    upstream.calls.map(({ action }) => action),
    ['CancelTask'],
  )
})

test('if the caller disconnects while the task is read, nothing is sent and the outcome is failed', async (t) => {
  const started = await start(t, { UPSTREAM_TIMEOUT_MS: '200' })
  const { upstream, url } = started
  const taskNo = upstream.addTask(INSIDE)
  upstream.fault('QueryTaskDetailList', { reply: 'stall' }, Number.POSITIVE_INFINITY)
  const asked = upstream.nextCall('QueryTaskDetailList')
  const leaving = startCancel(url, `/tasks/${taskNo}`, asCaller('shop'))
  await asked
  leaving.destroy()
  const record = await eventually(() => started.record(taskNo))
  assert.deepEqual([record.outcome, cancelCalls(upstream).length], ['failed', 0])
  assert.equal(upstream.calls.length, 1)
})

test('a refusal that cannot be written is still a refusal, with an alarm', async (t) => {
  const started = await startGateway(t, {
    env: { API_KEYS },
    overrides: {
      openStore: async (path) => ({
        ...(await openSqliteStore(path)),
        append: () => Promise.reject(new Error('disk full')),
      }),
    },
  })
  const { body } = await cancel(started, started.upstream.addTask({ domains: ['b.example'] }))
  assert.deepEqual([body.status, body.code, body.outcome], [403, 'forbidden', 'not-cancelled'])
  assert.match(started.logLines.join(''), /"level":"error".*a refused cancel could not be recorded/)
})

test('another key of the same name does not lend its restrictions, and joins no call of it', async (t) => {
  const unrestricted = apiKeysWith(
    { name: 'shop', scopes: ['tasks:cancel'], domains: ['*.a.example'] },
    { name: 'operator', scopes: ['tasks:cancel'], domains: ['*.a.example'] },
  )
  const { api, upstream } = await startGateway(t, { env: { API_KEYS: unrestricted } })
  const taskNo = upstream.addTask({ domains: ['b.example'] })
  const answers = await Promise.all(
    [asOperator, asCaller('operator'), asAuditor].map((headers) => api.delete(`/tasks/${taskNo}`).set(headers)),
  )
  assert.deepEqual(
    answers.map(({ status }) => status),
    [202, 403, 202],
  )
  assert.equal(cancelCalls(upstream).length, 2)
})

test('a read that ends because its caller disconnected refuses nothing', async () => {
  const failure: UpstreamFailure = {
    ok: false,
    code: 'upstream-unavailable',
    ambiguous: false,
    sent: true,
    upstreamCode: null,
    requestId: null,
    retryAfterMs: null,
    attempts: 1,
  }
  const permissions = createPermissions({
    queries: { allDetails: async (taskNo) => ({ taskNo, details: [], totals: [], failure }) },
    detailsLimit: 1,
    timeoutMs: 1000,
  })
  const ask = (signal: AbortSignal) =>
    permissions.forCancel(
      't',
      { domains: [], taskTypes: null },
      { priority: 'check', deadline: deadlineIn(1000), signal },
    )
  assert.deepEqual(await ask(AbortSignal.abort()), { kind: 'indeterminate', failure })
  assert.deepEqual(await ask(new AbortController().signal), { kind: 'denied' })
})

test('an internal error while the task is read is reported, and grants nothing', async () => {
  const permissions = createPermissions({
    queries: { allDetails: () => Promise.reject(new Error('internal error')) },
    detailsLimit: 1,
    timeoutMs: 1000,
  })
  const limits = { priority: 'check', deadline: deadlineIn(1000) } as const
  await assert.rejects(permissions.forCancel('t', { domains: [], taskTypes: null }, limits), /internal error/)
  await assert.rejects(
    permissions.forRead('t', { domains: [], taskTypes: null }, limits),
    (error) => !(error instanceof GatewayError),
  )
})
