import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import type { Response } from 'supertest'
import type { UpstreamResult } from '../../src/alibaba/client.ts'
import { createAuditTrail, type Intent, type OutcomeEvent } from '../../src/audit/audit-trail.ts'
import { type CancelRequest, createCancellations } from '../../src/tasks/cancel.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { deadlineIn } from '../../src/time.ts'
import { cancelRequest, STUB_DEPENDENCIES } from '../helpers/cancel-request.ts'
import { createCertificate } from '../helpers/certificate.ts'
import { startWatchedGateway, type WatchedOptions } from '../helpers/consistency.ts'
import { asAuditor, asOperator, asReader, cancelCalls, eventually, type Started } from '../helpers/gateway.ts'
import { startCancel } from '../helpers/raw-http.ts'
import { type PausedProxy, startPausedProxy } from '../helpers/upstream-proxy.ts'

type Headers = Readonly<Record<string, string>>
type Item = Readonly<Record<string, unknown>>

interface Gated extends Started {
  readonly proxy: PausedProxy
  readonly taskNo: string
  /** All records of the task, once there are so many for which the condition holds. */
  records(count: number, holds?: (item: Item) => boolean): Promise<readonly Item[]>
  /** Resolves when the gateway has seen that many callers go away. */
  left(count: number): Promise<unknown>
}

/** The gateway with its upstream held back: over HTTP calls are sent and not answered, over TLS they can't even be sent. */
const startGated = async (
  t: TestContext,
  { tls = false, env = {} }: { tls?: boolean; env?: WatchedOptions['env'] } = {},
) => {
  const certificate = createCertificate()
  let proxy: PausedProxy | undefined
  const started = await startWatchedGateway(t, {
    env: { TRUST_PROXY: '127.0.0.1', ...env },
    sandbox: tls ? { tls: certificate } : {},
    overrides: { upstreamCa: certificate.cert },
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

test('those who share a failure are all told of it', async (t) => {
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

test('those who share a failure that is settled share the question too', async (t) => {
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

test('another User-Agent is no other request, but its own record', async (t) => {
  const gated = await startGated(t)
  const asked = ['one', 'two'].map((agent) => cancel(gated, { ...asOperator, 'user-agent': agent }))
  await gated.records(2)
  gated.proxy.resume()
  await Promise.all(asked)
  assert.equal(cancelCalls(gated.upstream).length, 1)
  assert.deepEqual((await gated.records(2)).map(({ userAgent }) => userAgent).sort(), ['one', 'two'])
})

/** What sets requests for the same task apart. */
const DIFFERENT: readonly (readonly [string, Headers, Headers])[] = [
  ['another caller', asOperator, asAuditor],
  [
    'another address',
    { ...asOperator, 'x-forwarded-for': '203.0.113.1' },
    { ...asOperator, 'x-forwarded-for': '203.0.113.2' },
  ],
  ['another language', { ...asOperator, 'accept-language': 'zh' }, { ...asOperator, 'accept-language': 'en' }],
]

for (const [what, first, second] of DIFFERENT) {
  test(`${what} does not share the call`, async (t) => {
    const gated = await startGated(t)
    const asked = [cancel(gated, first), cancel(gated, second)]
    await gated.records(2)
    gated.proxy.resume()
    const answers = await Promise.all(asked)
    // The later call is refused by upstream, but the task is being cancelled, which is what was asked for.
    assert.deepEqual(answers.map(({ body }) => body.cancelStatus).sort(), ['accepted', 'cancelling'])
    assert.equal(cancelCalls(gated.upstream).length, 2)
  })
}

test('each call carries address and language of whoever asked', async (t) => {
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

test('where all leave before anything was sent, nothing is, and their records say failed', async (t) => {
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

test('nobody joins a call that everybody has left', async (t) => {
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

test('a caller who leaves after sending still gets the outcome on record', async (t) => {
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
  const how = throttled ? ', and it is tried again for them after throttling' : ''
  test(`whoever comes after the first has left a call on its way joins it${how}`, async (t) => {
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

test('nothing is joined after the call has landed', async (t) => {
  const gated = await startGated(t)
  gated.proxy.resume()
  const [first, second] = [await cancel(gated), await cancel(gated)]
  assert.deepEqual([first.body.cancelStatus, second.body.cancelStatus], ['accepted', 'cancelling'])
  assert.equal(cancelCalls(gated.upstream).length, 2)
})

test('a request that comes while the call is out waits for that call', async (t) => {
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

/** The operation alone. Its one call lands when it is told to, or, not sent yet, once nobody waits for it any more. */
const startFlight = (t: TestContext, { sent }: { readonly sent: boolean }) => {
  const landing = Promise.withResolvers<UpstreamResult>()
  const intents: Intent[] = []
  const outcomes: OutcomeEvent[] = []
  const log = createLog('silent', { write: () => {} })
  const cancellations = createCancellations({
    ...STUB_DEPENDENCIES,
    upstream: {
      call: (_action, _params, { signal }) => {
        if (!sent) signal?.addEventListener('abort', () => landing.resolve(NEVER_SENT))
        return landing.promise
      },
    },
    trail: createAuditTrail({
      log,
      store: {
        append: async (...[newIntents, newOutcomes]) => {
          intents.push(...newIntents)
          outcomes.push(...newOutcomes)
        },
        find: async () => null,
        list: async () => ({ records: [], next: null }),
        probe: async () => {},
        close: async () => {},
      },
    }),
    log,
    instanceId: 'i-1',
  })
  const land = (result: UpstreamResult) => landing.resolve(result)
  t.after(() => land(NEVER_SENT))
  const ask = (changes: Partial<CancelRequest> = {}) =>
    cancellations.cancel(cancelRequest('t-1', { deadline: deadlineIn(60_000), ...changes }))
  /** What is on record of each request, in the order in which they came. */
  const recorded = () =>
    intents.map(({ id }) => outcomes.filter((it) => it.cancellationId === id).map(({ outcome }) => outcome))
  return { land, ask, recorded, idle: cancellations.idle }
}

test('whoever is out of time before the call lands is told so, and the record ends with what it came to', async (t) => {
  const { ask, land, recorded, idle } = startFlight(t, { sent: true })
  await assert.rejects(ask({ deadline: deadlineIn(0) }), { code: 'outcome-unknown' })
  assert.deepEqual(recorded(), [['unknown']])

  let isIdle = false
  const idled = idle().then(() => {
    isIdle = true
  })
  await setImmediate()
  assert.equal(isIdle, false)

  land(ACCEPTED)
  await idled
  assert.deepEqual(recorded(), [['unknown', 'accepted']])
})

test('whoever is out of time waits no more: once the others have left as well, nothing is sent', async (t) => {
  const { ask, land, recorded, idle } = startFlight(t, { sent: false })
  const gone = new AbortController()
  const first = assert.rejects(ask({ signal: gone.signal }), { code: 'upstream-unavailable' })
  await assert.rejects(ask({ deadline: deadlineIn(0) }), { code: 'outcome-unknown' })
  gone.abort()
  land(ACCEPTED)
  await Promise.all([first, idle()])
  assert.deepEqual(recorded(), [['failed'], ['unknown', 'failed']])
})
