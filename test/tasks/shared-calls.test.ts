import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import type { Response } from 'supertest'
import type { UpstreamResult } from '../../src/alibaba/response.ts'
import { createAuditTrail } from '../../src/audit/audit-trail.ts'
import type { Intent, OutcomeEvent } from '../../src/audit/store.ts'
import { type CancelRequest, createCancellations } from '../../src/tasks/cancel.ts'
import { type CallControl, createSharedCalls } from '../../src/tasks/shared-calls.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { NO_METER } from '../../src/telemetry/meter.ts'
import { NO_TRACER } from '../../src/telemetry/tracing.ts'
import { deadlineIn } from '../../src/time.ts'
import { cancelRequest, STUB_DEPENDENCIES } from '../helpers/cancel-request.ts'
import { createCertificate } from '../helpers/certificate.ts'
import { startWatchedGateway, type WatchedOptions } from '../helpers/consistency.ts'
import { asAuditor, asOperator, asReader, cancelCalls, eventually, type Started } from '../helpers/gateway.ts'
import { startIssuer } from '../helpers/issuer.ts'
import { startCancel } from '../helpers/raw-http.ts'
import { type PausedProxy, startPausedProxy } from '../helpers/upstream-proxy.ts'

type Headers = Readonly<Record<string, string>>
type Item = Readonly<Record<string, unknown>>

interface Gated extends Started {
  readonly proxy: PausedProxy
  readonly taskNo: string
  /** All records of the task, once the condition holds for this many. */
  records(count: number, holds?: (item: Item) => boolean): Promise<readonly Item[]>
  /** Resolves when the gateway has noticed that this many callers disconnected. */
  left(count: number): Promise<unknown>
}

/** The gateway with a held upstream: over HTTP calls are sent without a response, over TLS they cannot be sent. */
const startGated = async (
  t: TestContext,
  { tls = false, env = {} }: { tls?: boolean; env?: WatchedOptions['env'] } = {},
) => {
  const certificate = createCertificate()
  let proxy: PausedProxy | undefined
  const started = await startWatchedGateway(t, {
    env: { TRUST_PROXY: '127.0.0.1', ...env },
    sandbox: tls ? { tls: certificate } : {},
    overrides: { ca: certificate.cert },
    proxy: async (_t, upstream) => {
      proxy = await startPausedProxy(t, upstream.url)
      return `${tls ? 'https' : 'http'}://127.0.0.1:${proxy.port}`
    },
  })
  if (proxy === undefined) throw new Error('no proxy')
  const taskNo = started.upstream.addTask()
  const records: Gated['records'] = (count, holds = () => true) =>
    eventually(async () => {
      const { body } = await started.api.get('/cancellations').query({ taskNo }).set(asAuditor)
      return body.items.filter(holds).length >= count ? body.items : undefined
    })
  const left: Gated['left'] = (count) =>
    eventually(() => started.logLines.filter(isAbandonedCancel).length >= count || undefined)
  return { ...started, proxy, taskNo, records, left } satisfies Gated
}

const isAbandonedCancel = (line: string): boolean => {
  const { msg, method, status } = JSON.parse(line)
  return msg === 'request' && method === 'DELETE' && status === undefined
}

const cancel = ({ api, taskNo }: Gated, headers: Headers = asOperator): Promise<Response> =>
  api
    .delete(`/tasks/${taskNo}`)
    .set(headers)
    .then((answer) => answer)

const startLeavable = ({ url, taskNo }: Gated) => startCancel(url, `/tasks/${taskNo}`, asOperator)

const outcomesOf = (items: readonly Item[]): readonly unknown[] => items.map(({ outcome }) => outcome)

test('equal requests at the same moment share one call, and each has a record of its own', async (t) => {
  const gated = await startGated(t)
  const asked = Array.from({ length: 5 }, () => cancel(gated))
  await gated.records(5)
  gated.proxy.resume()
  const answers = await Promise.all(asked)
  assert.deepEqual(
    answers.map(({ status }) => status),
    Array(5).fill(202),
  )
  assert.equal(cancelCalls(gated.upstream).length, 1)
  assert.equal(new Set(answers.map(({ body }) => body.requestId)).size, 1)
  const ids = answers.map(({ body }) => body.cancellationId).sort()
  const records = await gated.records(5)
  assert.deepEqual(records.map(({ id }) => id).sort(), ids)
  assert.deepEqual(outcomesOf(records), Array(5).fill('accepted'))
  assert.equal(new Set(records.map(({ gatewayRequestId }) => gatewayRequestId)).size, 5)
})

test('requests of one caller share a call also if their tokens state different names', async (t) => {
  const issuer = await startIssuer(t)
  const gated = await startGated(t, { env: issuer.env })
  const names = ['Ann', 'Ann Lee']
  const asked = names.map(async (name) => cancel(gated, await issuer.bearer({ name })))
  const records = await gated.records(2)
  gated.proxy.resume()
  await Promise.all(asked)
  assert.equal(cancelCalls(gated.upstream).length, 1)
  assert.deepEqual(records.map(({ callerDisplayName }) => callerDisplayName).sort(), names)
})

test('requests that share a failed call all report the failure', async (t) => {
  const gated = await startGated(t)
  gated.upstream.fault('CancelTask', { reply: 'reset' })
  const asked = Array.from({ length: 3 }, () => cancel(gated))
  await gated.records(3)
  gated.proxy.resume()
  const answers = await Promise.all(asked)
  assert.deepEqual(
    answers.map(({ body }) => body.code),
    Array(3).fill('outcome-unknown'),
  )
  assert.deepEqual(outcomesOf(await gated.records(3)), Array(3).fill('unknown'))
  assert.equal(cancelCalls(gated.upstream).length, 1)
})

test('requests that share a failed call also share the read of the task that settles it', async (t) => {
  const gated = await startGated(t)
  gated.upstream.fault('CancelTask', { reply: 'reset', effect: true })
  const asked = Array.from({ length: 3 }, () => cancel(gated))
  await gated.records(3)
  gated.proxy.resume()
  const answers = await Promise.all(asked)
  assert.deepEqual(
    answers.map(({ status, body }) => [status, body.requestId, body.cancelStatus]),
    Array(3).fill([202, null, 'cancelling']),
  )
  assert.deepEqual(outcomesOf(await gated.records(3)), Array(3).fill('accepted'))
  assert.deepEqual(
    gated.upstream.calls.map(({ action }) => action),
    ['CancelTask', 'QueryTaskList'],
  )
})

test('requests with different User-Agents share a call, with a record for each', async (t) => {
  const gated = await startGated(t)
  const asked = ['one', 'two'].map((agent) => cancel(gated, { ...asOperator, 'user-agent': agent }))
  await gated.records(2)
  gated.proxy.resume()
  await Promise.all(asked)
  assert.equal(cancelCalls(gated.upstream).length, 1)
  assert.deepEqual((await gated.records(2)).map(({ userAgent }) => userAgent).sort(), ['one', 'two'])
})

/** Differences between requests for the same task. */
const DIFFERENT: readonly (readonly [string, Headers, Headers])[] = [
  ['another caller', asOperator, asAuditor],
  [
    'another address',
    { ...asOperator, 'x-forwarded-for': '203.0.113.1' },
    { ...asOperator, 'x-forwarded-for': '203.0.113.2' },
  ],
  ['another language', { ...asOperator, 'accept-language': 'zh' }, { ...asOperator, 'accept-language': 'en' }],
]

for (const [difference, first, second] of DIFFERENT) {
  test(`${difference} does not share the call`, async (t) => {
    const gated = await startGated(t)
    const asked = [cancel(gated, first), cancel(gated, second)]
    await gated.records(2)
    gated.proxy.resume()
    const answers = await Promise.all(asked)
    // Upstream rejects the later call, but the task is being cancelled, which is the goal of the request.
    assert.deepEqual(answers.map(({ body }) => body.cancelStatus).sort(), ['accepted', 'cancelling'])
    assert.equal(cancelCalls(gated.upstream).length, 2)
  })
}

test('each call contains the address and language of its caller', async (t) => {
  const gated = await startGated(t)
  const from = (address: string, lang: string) =>
    cancel(gated, { ...asOperator, 'x-forwarded-for': address, 'accept-language': lang })
  const asked = [from('203.0.113.1', 'zh'), from('203.0.113.2', 'en'), from('203.0.113.2', 'en')]
  await gated.records(3)
  gated.proxy.resume()
  await Promise.all(asked)
  const seen = cancelCalls(gated.upstream).map(({ params }) => `${params.UserClientIp} ${params.Lang}`)
  assert.deepEqual(seen.sort(), ['203.0.113.1 zh', '203.0.113.2 en'])
})

test('a call that has ended is not aborted when its last waiter leaves', async () => {
  let signal: AbortSignal | undefined
  const call = createSharedCalls<string>().join('key', async (control) => {
    signal = control.currentSignal()
    await setImmediate()
    control.close()
    return 'done'
  })
  assert.equal(await call.wait({ deadline: deadlineIn(1000), signal: new AbortController().signal }), 'done')
  assert.equal(signal?.aborted, false)
})

/** A shared call that ends when the test says so. */
const openCall = () => {
  const { promise, resolve } = Promise.withResolvers<string>()
  let control: CallControl | undefined
  const call = createSharedCalls<string>().join('key', (given) => {
    control = given
    return promise
  })
  return { call, end: () => resolve('done'), isAbandoned: () => control?.currentSignal().aborted }
}

test('a request leaves once, also if its caller disconnects and its deadline passes', async () => {
  const { call, end, isAbandoned } = openCall()
  const other = call.wait({ deadline: deadlineIn(60_000), signal: new AbortController().signal })
  assert.equal(await call.wait({ deadline: deadlineIn(0), signal: AbortSignal.abort() }), null)
  assert.equal(isAbandoned(), false)
  end()
  assert.equal(await other, 'done')
})

test('a request whose caller has already disconnected is no waiter', async () => {
  const { call, end, isAbandoned } = openCall()
  const waiting = call.wait({ deadline: deadlineIn(60_000), signal: AbortSignal.abort() })
  assert.equal(isAbandoned(), true)
  end()
  assert.equal(await waiting, 'done')
})

test('another task does not share the call', async (t) => {
  const gated = await startGated(t)
  const other = gated.upstream.addTask()
  const asked = [cancel(gated), cancel({ ...gated, taskNo: other })]
  await gated.records(1)
  gated.proxy.resume()
  assert.deepEqual(
    (await Promise.all(asked)).map(({ status }) => status),
    [202, 202],
  )
  assert.deepEqual(
    cancelCalls(gated.upstream)
      .map(({ params }) => params.TaskNo)
      .sort(),
    [gated.taskNo, other].sort(),
  )
})

test('a key of the same name without the scope is refused and never joins', async (t) => {
  const gated = await startGated(t)
  const first = cancel(gated)
  await gated.proxy.firstByte
  const refused = await cancel(gated, asReader)
  assert.deepEqual([refused.status, refused.body.code, refused.body.outcome], [403, 'forbidden', 'not-cancelled'])
  gated.proxy.resume()
  assert.equal((await first).status, 202)
  const records = await gated.records(2)
  assert.deepEqual(outcomesOf(records), ['refused', 'accepted'])
  assert.deepEqual(
    [records[0]?.id, records[0]?.attempts, cancelCalls(gated.upstream).length],
    [refused.body.cancellationId, 0, 1],
  )
})

for (const tls of [true, false]) {
  test(`the first to leave does not abort the others, with the call ${tls ? 'not sent yet' : 'sent'}`, async (t) => {
    const gated = await startGated(t, { tls })
    const first = startLeavable(gated)
    await gated.records(1)
    const second = cancel(gated)
    await gated.records(2)
    first.destroy()
    await gated.left(1)
    gated.proxy.resume()
    assert.equal((await second).status, 202)
    assert.deepEqual(outcomesOf(await gated.records(2, isFinished)), ['accepted', 'accepted'])
    assert.equal(cancelCalls(gated.upstream).length, 1)
  })
}

const isFinished = ({ outcome }: Item): boolean => outcome !== 'pending'

test('if all waiters leave before the call is sent, nothing is sent and their outcomes are failed', async (t) => {
  const gated = await startGated(t, { tls: true })
  const asked = [startLeavable(gated), startLeavable(gated)]
  await gated.records(2)
  await gated.proxy.connected
  for (const one of asked) one.destroy()
  const records = await gated.records(2, isFinished)
  assert.deepEqual(outcomesOf(records), ['failed', 'failed'])
  gated.proxy.resume()
  await gated.upstream.socketsClosed()
  assert.equal(cancelCalls(gated.upstream).length, 0)
  assert.equal(gated.upstream.task(gated.taskNo)?.cancelStatus, 'INIT')
})

test('no request joins an unsent call after its last waiter has left', async (t) => {
  const gated = await startGated(t, { tls: true })
  const first = startLeavable(gated)
  await gated.proxy.connected
  first.destroy()
  await gated.left(1)
  gated.proxy.resume()
  assert.equal((await cancel(gated)).status, 202)
  assert.deepEqual(outcomesOf(await gated.records(2, isFinished)), ['accepted', 'failed'])
  assert.equal(cancelCalls(gated.upstream).length, 1)
})

test('the outcome is recorded even if the caller disconnects after the call was sent', async (t) => {
  const gated = await startGated(t)
  const first = startLeavable(gated)
  await gated.proxy.firstByte
  first.destroy()
  await gated.left(1)
  gated.proxy.resume()
  assert.deepEqual(outcomesOf(await gated.records(1, isFinished)), ['accepted'])
  assert.equal(cancelCalls(gated.upstream)[0]?.effect, true)
})

for (const throttled of [false, true]) {
  const how = throttled ? ', and retries it after throttling' : ''
  test(`a request joins a call that was sent after its first waiter has left${how}`, async (t) => {
    const gated = await startGated(t)
    if (throttled) gated.upstream.fault('CancelTask', { reply: { status: 400, code: 'Throttling.User' } })
    const first = startLeavable(gated)
    await gated.proxy.firstByte
    first.destroy()
    await gated.left(1)
    const second = cancel(gated)
    await gated.records(2)
    gated.proxy.resume()
    assert.equal((await second).status, 202)
    assert.deepEqual(outcomesOf(await gated.records(2, isFinished)), ['accepted', 'accepted'])
    assert.equal(cancelCalls(gated.upstream).length, throttled ? 2 : 1)
  })
}

test('no request joins a call that has ended', async (t) => {
  const gated = await startGated(t)
  gated.proxy.resume()
  const [first, second] = [await cancel(gated), await cancel(gated)]
  assert.deepEqual([first.body.cancelStatus, second.body.cancelStatus], ['accepted', 'cancelling'])
  assert.equal(cancelCalls(gated.upstream).length, 2)
})

test('a request that arrives while the call is in flight waits for that call', async (t) => {
  const gated = await startGated(t)
  const first = cancel(gated)
  await gated.proxy.firstByte
  const second = cancel(gated)
  await gated.records(2)
  gated.proxy.resume()
  const answers = await Promise.all([first, second])
  assert.deepEqual(
    answers.map(({ body }) => body.requestId === answers[0]?.body.requestId),
    [true, true],
  )
})

const ACCEPTED: UpstreamResult = { ok: true, requestId: 'r-1', body: {}, attempts: 1 }

const NEVER_SENT: UpstreamResult = {
  ok: false,
  code: 'upstream-unavailable',
  ambiguous: false,
  sent: false,
  upstreamCode: null,
  requestId: null,
  retryAfterMs: null,
  attempts: 0,
}

/** The operation alone. The test ends its one call; an unsent call also ends when its last waiter leaves. */
const startOperation = (t: TestContext, { sent }: { readonly sent: boolean }) => {
  const upstreamResult = Promise.withResolvers<UpstreamResult>()
  const intents: Intent[] = []
  const outcomes: OutcomeEvent[] = []
  const log = createLog({ level: 'silent', destination: { write: () => {} } })
  const cancellations = createCancellations({
    ...STUB_DEPENDENCIES,
    meter: NO_METER,
    tracer: NO_TRACER,
    upstream: {
      call: (_action, _params, { currentSignal }) => {
        if (!sent) currentSignal?.()?.addEventListener('abort', () => upstreamResult.resolve(NEVER_SENT))
        return upstreamResult.promise
      },
    },
    trail: createAuditTrail({
      log,
      meter: NO_METER,
      store: {
        append: async (...[newIntents, newOutcomes]) => {
          intents.push(...newIntents)
          outcomes.push(...newOutcomes)
        },
        find: async () => null,
        list: async () => ({ records: [], next: null }),
        lastSighting: async () => null,
        listFinal: async ({ after }) => ({ records: [], next: after }),
        lastFinal: async () => 0,
        probe: async () => {},
        close: async () => {},
      },
    }),
    log,
    instanceId: 'i-1',
  })
  const endCall = (result: UpstreamResult) => upstreamResult.resolve(result)
  t.after(() => endCall(NEVER_SENT))
  const ask = (changes: Partial<CancelRequest> = {}) =>
    cancellations.cancel(cancelRequest('t-1', { deadline: deadlineIn(60_000), ...changes }))
  /** The recorded outcomes of each request, in the order of the requests. */
  const recorded = () =>
    intents.map(({ id }) => outcomes.filter((it) => it.cancellationId === id).map(({ outcome }) => outcome))
  return { endCall, ask, recorded, idle: cancellations.idle }
}

test('a request whose deadline passes before the call ends is unknown, and the result is recorded later', async (t) => {
  const { ask, endCall, recorded, idle } = startOperation(t, { sent: true })
  await assert.rejects(ask({ deadline: deadlineIn(0) }), { code: 'outcome-unknown' })
  assert.deepEqual(recorded(), [['unknown']])

  let isIdle = false
  const idled = idle().then(() => {
    isIdle = true
  })
  await setImmediate()
  assert.equal(isIdle, false)

  endCall(ACCEPTED)
  await idled
  assert.deepEqual(recorded(), [['unknown', 'accepted']])
})

test('a request whose deadline has passed is no waiter: when the others leave as well, nothing is sent', async (t) => {
  const { ask, endCall, recorded, idle } = startOperation(t, { sent: false })
  const gone = new AbortController()
  const first = assert.rejects(ask({ signal: gone.signal }), { code: 'upstream-unavailable' })
  await assert.rejects(ask({ deadline: deadlineIn(0) }), { code: 'outcome-unknown' })
  gone.abort()
  endCall(ACCEPTED)
  await Promise.all([first, idle()])
  assert.deepEqual(recorded(), [['failed'], ['unknown', 'failed']])
})
