import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { createUpstream } from '../../src/alibaba/client.ts'
import { fixedCredentials } from '../../src/alibaba/credentials.ts'
import { createAuditTrail } from '../../src/audit/audit-trail.ts'
import { openSqliteStore } from '../../src/audit/sqlite.ts'
import type { Intent, OpenedStore, OutcomeEvent } from '../../src/audit/store.ts'
import { GatewayError } from '../../src/errors.ts'
import { type CancellationOptions, type CancelRequest, createCancellations } from '../../src/tasks/cancel.ts'
import type { Lookup } from '../../src/tasks/lookup.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { NO_METER } from '../../src/telemetry/meter.ts'
import { NO_TRACER } from '../../src/telemetry/tracing.ts'
import { deadlineIn } from '../../src/time.ts'
import { cancelRequest, STUB_DEPENDENCIES } from '../helpers/cancel-request.ts'
import { startWatchedGateway, upstreamState } from '../helpers/consistency.ts'
import {
  asAuditor,
  asOperator,
  asReader,
  CANARIES,
  eventually,
  startGateway,
  startSandbox,
  temporaryFolder,
} from '../helpers/gateway.ts'

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
const UUID_IN_ORDER = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

test('a cancel is answered 202 with where to look, and upstream is cancelling', async (t) => {
  const { api, upstream } = await startGateway(t)
  const taskNo = upstream.addTask()
  const answer = await api.delete(`/tasks/${taskNo}`).set(asOperator)
  assert.deepEqual([answer.status, answer.get('location')], [202, `/tasks/${taskNo}`])
  assert.match(answer.get('content-type') ?? '', /^application\/json/)
  const { cancellationId, requestId, ...rest } = answer.body
  assert.deepEqual(rest, { taskNo, cancelStatus: 'accepted' })
  assert.match(cancellationId, UUID_IN_ORDER)
  assert.match(requestId, /^[0-9A-F-]{36}$/)
  assert.equal(upstream.task(taskNo)?.cancelStatus, 'CANCELLING')
})

for (const signature of ['rpc-v1', 'acs3'] as const) {
  test(`upstream is sent task, address and language, signed by ${signature}, and nothing else of the request`, async (t) => {
    const { api, upstream } = await startGateway(t, { env: { UPSTREAM_SIGNATURE: signature } })
    const taskNo = upstream.addTask()
    await api.delete(`/tasks/${taskNo}?lang=zh&Action=QueryTaskList&TaskNo=x`).set(asOperator).send({ TaskNo: 'y' })
    const [call] = upstream.calls
    assert.deepEqual([call?.action, call?.signatureVersion, upstream.calls.length], ['CancelTask', signature, 1])
    const { TaskNo, UserClientIp, Lang } = call?.params ?? {}
    assert.deepEqual([TaskNo, UserClientIp, Lang], [taskNo, '127.0.0.1', 'zh'])
  })
}

test('with PUBLIC_URL the location is absolute', async (t) => {
  const { api, upstream } = await startGateway(t, { env: { PUBLIC_URL: 'https://gateway.example.com' } })
  const taskNo = upstream.addTask()
  const answer = await api.delete(`/tasks/${taskNo}`).set(asOperator)
  assert.equal(answer.get('location'), `https://gateway.example.com/tasks/${taskNo}`)
})

test('only named fields of the envelope are returned', async (t) => {
  const { api, upstream } = await startGateway(t)
  upstream.fault('CancelTask', { reply: 'envelope' })
  const answer = await api.delete(`/tasks/${upstream.addTask()}`).set(asOperator)
  assert.deepEqual(Object.keys(answer.body).sort(), ['cancelStatus', 'cancellationId', 'requestId', 'taskNo'])
  assert.doesNotMatch(answer.text, /Signature|AccessKeyId|url|127\.0\.0\.1/)
})

test('an audit record contains caller, task, address and outcome', async (t) => {
  const { api, upstream, record } = await startGateway(t, { env: { TRUST_PROXY: '127.0.0.1' } })
  const taskNo = upstream.addTask()
  const before = Date.now()
  const headers = { ...asOperator, 'x-forwarded-for': '203.0.113.9', 'user-agent': 'curl/8' }
  const { body } = await api.delete(`/tasks/${taskNo}`).set(headers)
  const { requestedAt, finishedAt, gatewayRequestId, ...rest } = await record(taskNo)
  assert.deepEqual(rest, {
    id: body.cancellationId,
    taskNo,
    caller: 'operator',
    callerDisplayName: null,
    via: 'api-key',
    clientIp: '203.0.113.9',
    peerIp: '127.0.0.1',
    userAgent: 'curl/8',
    outcome: 'accepted',
    attempts: 1,
    requestId: body.requestId,
    upstreamCode: null,
    settledBy: null,
    isFinal: false,
  })
  assert.match(String(gatewayRequestId), UUID)
  const times = [before, Date.parse(String(requestedAt)), Date.parse(String(finishedAt)), Date.now()]
  assert.deepEqual(
    times,
    [...times].sort((a, b) => a - b),
  )
})

test('the record contains the request id of the response', async (t) => {
  const { api, upstream, record } = await startGateway(t)
  const taskNo = upstream.addTask()
  const answer = await api.delete(`/tasks/${taskNo}`).set(asOperator)
  assert.equal((await record(taskNo)).gatewayRequestId, answer.get('x-request-id'))
})

test('a User-Agent is recorded up to 256 characters', async (t) => {
  const { api, upstream, record } = await startGateway(t)
  const taskNo = upstream.addTask()
  await api.delete(`/tasks/${taskNo}`).set({ ...asOperator, 'user-agent': 'a'.repeat(300) })
  assert.equal((await record(taskNo)).userAgent, 'a'.repeat(256))
})

test('a refused cancel is on record and never reaches upstream', async (t) => {
  const { api, upstream, record } = await startGateway(t)
  const taskNo = upstream.addTask()
  const { status, body } = await api.delete(`/tasks/${taskNo}`).set(asReader)
  assert.deepEqual([status, body.code, body.outcome], [403, 'forbidden', 'not-cancelled'])
  const { id, outcome, attempts, caller } = await record(taskNo)
  assert.deepEqual([id, outcome, attempts, caller], [body.cancellationId, 'refused', 0, 'operator'])
  assert.deepEqual(upstreamState(upstream, taskNo), { calls: 0, cancelled: false })
})

test('the intent is durable before upstream hears of it', async (t) => {
  const { api, upstream } = await startWatchedGateway(t)
  for (const taskNo of [upstream.addTask(), upstream.addTask()]) await api.delete(`/tasks/${taskNo}`).set(asOperator)
  assert.deepEqual([upstream.calls.length, upstream.violations], [2, 0])
})

type Append = (intents: readonly Intent[], outcomes: readonly OutcomeEvent[]) => Promise<void>

/** The real store with another `append`. */
const storeThat =
  (change: (append: Append) => Append) =>
  async (path: string): Promise<OpenedStore> => {
    const store = await openSqliteStore(path)
    return { ...store, append: change(store.append) }
  }

const brokenDisk = async (): Promise<never> => {
  throw new Error('disk full')
}

test('an intent that can not be written sends nothing', async (t) => {
  const { api, upstream, logLines } = await startGateway(t, { overrides: { openStore: storeThat(() => brokenDisk) } })
  const taskNo = upstream.addTask()
  const { status, body } = await api.delete(`/tasks/${taskNo}`).set(asOperator)
  assert.deepEqual([status, body.code, body.outcome], [503, 'audit-unavailable', 'not-cancelled'])
  assert.deepEqual(upstreamState(upstream, taskNo), { calls: 0, cancelled: false })
  assert.match(logLines.join(''), /"level":"error".*could not be written/)
})

test('a refusal that can not be written is still a refusal, with an alarm', async (t) => {
  const { api, logLines } = await startGateway(t, { overrides: { openStore: storeThat(() => brokenDisk) } })
  const { status, body } = await api.delete('/tasks/t-1').set(asReader)
  assert.deepEqual([status, body.code], [403, 'forbidden'])
  assert.match(logLines.join(''), /"level":"error".*a refused cancel could not be recorded/)
})

test('an outcome that can not be written at once is written later, and the answer stays true', async (t) => {
  let failures = 1
  const once = storeThat((append) => async (intents, outcomes) => {
    if (outcomes.length > 0 && failures-- > 0) return brokenDisk()
    return append(intents, outcomes)
  })
  const { api, upstream, record, logLines } = await startGateway(t, { overrides: { openStore: once } })
  const taskNo = upstream.addTask()
  const { status } = await api.delete(`/tasks/${taskNo}`).set(asOperator)
  assert.equal(status, 202)
  await eventually(async () => (await record(taskNo)).outcome === 'accepted' || undefined)
  assert.match(logLines.join(''), /"level":"error".*the write is retried/)
})

test('an outcome that can not be written for long does not change the answer', async (t) => {
  let isBroken = true
  const broken = storeThat((append) => (intents, outcomes) => {
    return outcomes.length > 0 && isBroken ? brokenDisk() : append(intents, outcomes)
  })
  const { api, upstream, record } = await startGateway(t, { overrides: { openStore: broken } })
  const taskNo = upstream.addTask()
  const { status, body } = await api.delete(`/tasks/${taskNo}`).set(asOperator)
  assert.deepEqual([status, body.cancelStatus], [202, 'accepted'])
  assert.equal((await record(taskNo)).outcome, 'pending')
  isBroken = false
})

test('the outcome of a cancel is logged in one line', async (t) => {
  const { api, upstream, logLines } = await startGateway(t)
  const taskNo = upstream.addTask()
  const answer = await api.delete(`/tasks/${taskNo}`).set(asOperator)
  const lines = logLines.map((line) => JSON.parse(line)).filter(({ msg }) => msg === 'cancellation')
  assert.deepEqual(
    lines.map(({ time: _, ...line }) => line),
    [
      {
        level: 'info',
        caller: 'operator',
        cancellationId: answer.body.cancellationId,
        clientIp: '127.0.0.1',
        outcome: 'accepted',
        requestId: answer.get('x-request-id'),
        taskNo,
        upstreamRequestId: answer.body.requestId,
        via: 'api-key',
        msg: 'cancellation',
      },
    ],
  )
})

/** The operation without Express; everything else is real. */
const startOperation = async (t: TestContext, changes: Partial<CancellationOptions> = {}) => {
  const sandbox = await startSandbox(t)
  const log = createLog({ level: 'silent', destination: { write: () => {} } })
  const store = await openSqliteStore(join(await temporaryFolder(t), 'audit.db'))
  const trail = createAuditTrail({ store, log, meter: NO_METER })
  t.after(() => trail.close(deadlineIn(0)))
  const { accessKeyId, accessKeySecret } = CANARIES
  const keys = fixedCredentials({ accessKeyId, accessKeySecret })
  const url = new URL(sandbox.url)
  const upstream = createUpstream({
    url,
    signature: 'rpc-v1',
    timeoutMs: 5000,
    maxConcurrency: 64,
    maxAttempts: 3,
    credentials: keys,
    log,
    meter: NO_METER,
    tracer: NO_TRACER,
  })
  t.after(upstream.close)
  const request = (changes: Partial<CancelRequest>) => cancelRequest(sandbox.addTask(), changes)
  const cancellations = createCancellations({
    ...STUB_DEPENDENCIES,
    meter: NO_METER,
    tracer: NO_TRACER,
    upstream,
    trail,
    log,
    instanceId: randomUUID(),
    ...changes,
  })
  return { sandbox, trail, request, ...cancellations }
}

test('without an address nothing is sent', async (t) => {
  const { sandbox, request, cancel } = await startOperation(t)
  await assert.rejects(cancel(request({ clientIp: null })), (error) => {
    assert.ok(error instanceof GatewayError)
    return error.facts.outcome === 'not-cancelled'
  })
  assert.equal(sandbox.calls.length, 0)
})

test('if the caller disconnects before the call starts, nothing is sent and the outcome is failed', async (t) => {
  const { sandbox, request, cancel, trail } = await startOperation(t)
  const asked = request({ signal: AbortSignal.abort() })
  await assert.rejects(cancel(asked), { code: 'upstream-unavailable' })
  const { records } = await trail.list({ taskNo: asked.taskNo, limit: 10, before: null }, deadlineIn(5000))
  assert.deepEqual([records.length, records[0]?.outcome, sandbox.calls.length], [1, 'failed', 0])
})

test('with only the reserve left nothing is sent, and the caller may try again', async (t) => {
  const { sandbox, request, cancel } = await startOperation(t)
  await assert.rejects(cancel(request({ deadline: deadlineIn(2900) })), (error) => {
    assert.ok(error instanceof GatewayError)
    assert.match(error.code, /^(audit-unavailable|upstream-unavailable)$/)
    return error.facts.outcome === 'not-cancelled'
  })
  assert.equal(sandbox.calls.length, 0)
})

test('a rejection waits for the read of the task no longer than the reserved time', async (t) => {
  const leftMs: number[] = []
  const lookup: Lookup = {
    invalidate: () => {},
    find: async (_taskNo, { deadline }) => {
      leftMs.push(deadline.remainingMs())
      return null
    },
  }
  const { request, cancel } = await startOperation(t, { lookup })
  await assert.rejects(cancel(request({ taskNo: 'nowhere', deadline: deadlineIn(600_000) })), {
    code: 'task-not-found',
  })
  assert.ok(leftMs.length > 0 && leftMs.every((ms) => ms <= 3000), String(leftMs))
})

test('an auditor finds an own cancel among the records', async (t) => {
  const { api, upstream } = await startGateway(t)
  const taskNo = upstream.addTask()
  const { body } = await api.delete(`/tasks/${taskNo}`).set(asAuditor)
  const found = await api.get(`/cancellations/${body.cancellationId}`).set(asAuditor)
  assert.deepEqual([found.status, found.body.caller, found.body.outcome], [200, 'auditor', 'accepted'])
})
