import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { startCollector } from '../helpers/collector.ts'
import { asOperator, asReader, CANARIES, startGateway } from '../helpers/gateway.ts'
import { closedPort } from '../helpers/ports.ts'
import { sendLine } from '../helpers/raw-http.ts'

const TRACE = '0af7651916cd43dd8448eb211c80319c'
const PARENT = 'b7ad6b7169203331'
const traced = (traceId = TRACE, flags = '01') => ({ traceparent: `00-${traceId}-${PARENT}-${flags}` })

const start = async (t: TestContext) => {
  const collector = await startCollector(t)
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url }
  const started = await startGateway(t, { env, overrides: { timings: { traceDelayMs: 10 } } })
  return { ...started, collector }
}

test('a cancel continues the trace of its caller: policy, record and each attempt', async (t) => {
  const { api, upstream, collector } = await start(t)
  upstream.fault('CancelTask', { reply: { status: 400, code: 'Throttling.User' } })
  await api.delete(`/tasks/${upstream.addTask()}`).set(asOperator).set(traced()).expect(202)
  const spans = await collector.trace(TRACE, 6)
  const server = spans.find(({ kind }) => kind === 2)
  assert.deepEqual([server?.name, server?.parentSpanId], ['DELETE /tasks/:taskNo', PARENT])
  assert.deepEqual(
    spans.filter((span) => span !== server).map(({ name, parentSpanId }) => [name, parentSpanId === server?.spanId]),
    ['policy', 'record intent', 'CancelTask', 'CancelTask', 'record outcome'].map((name) => [name, true]),
  )
  const attempts = spans.filter(({ name }) => name === 'CancelTask')
  assert.deepEqual(
    attempts.map(({ attributes }) => [attributes['gateway.attempt'], attributes['error.type']]),
    [
      [1, 'throttled'],
      [2, undefined],
    ],
  )
  assert.equal(server?.attributes['http.response.status_code'], 202)
})

test('a problem and the log line name the trace', async (t) => {
  const { api, logLines, collector } = await start(t)
  const { body } = await api.delete('/tasks/none').set(asOperator).set(traced()).expect(404)
  assert.equal(body.traceId, TRACE)
  assert.match(logLines.join(''), new RegExp(`"traceId":"${TRACE}".*"msg":"request"`))
  const [server] = (await collector.trace(TRACE, 5)).filter(({ kind }) => kind === 2)
  assert.equal(server?.attributes['gateway.problem.code'], 'task-not-found')
  assert.equal(server?.status.code ?? 0, 0)
})

test('without a trace of the caller one begins here', async (t) => {
  const { api, collector } = await start(t)
  for (const traceparent of ['', 'rubbish', `00-${'0'.repeat(32)}-${PARENT}-01`]) {
    const { body } = await api.get('/nowhere').set({ traceparent }).expect(404)
    assert.match(body.traceId, /^[0-9a-f]{32}$/)
    const [span] = await collector.trace(body.traceId, 1)
    assert.deepEqual([span?.name, span?.parentSpanId ?? ''], ['GET', ''])
  }
})

test('a cancel whose caller does not record the trace is recorded in that trace', async (t) => {
  const { api, upstream, collector } = await start(t)
  for (const [at, flags] of ['00', '02', '0a', 'fe'].entries()) {
    const traceId = TRACE.replace('0', String(at + 1))
    await api.delete(`/tasks/${upstream.addTask()}`).set(asOperator).set(traced(traceId, flags)).expect(202)
    const spans = await collector.trace(traceId, 5)
    const server = spans.find(({ kind }) => kind === 2)
    assert.deepEqual([server?.name, server?.parentSpanId], ['DELETE /tasks/:taskNo', PARENT], flags)
  }
})

for (const target of ['http://a/tasks/none', 'HTTP://a/tasks/none', 'hTTps://a:80/tasks/none?lang=zh']) {
  test(`a cancel of ${target} is one, recorded in a trace that its caller does not record`, async (t) => {
    const { url, collector } = await start(t)
    const lines = Object.entries({ ...asOperator, ...traced(TRACE, '00') }).map((pair) => pair.join(': '))
    const { status, body } = await sendLine(url, `DELETE ${target}`, ...lines)
    assert.deepEqual([status, JSON.parse(body).outcome], [404, 'not-cancelled'])
    const [server] = (await collector.trace(TRACE, 5)).filter(({ kind }) => kind === 2)
    assert.equal(server?.name, 'DELETE /tasks/:taskNo')
  })
}

test('a refused cancel whose caller does not record the trace is recorded', async (t) => {
  const { api, collector } = await start(t)
  const { body } = await api.delete('/tasks/t-1').set(asReader).set(traced(TRACE, '00')).expect(403)
  const [server] = await collector.trace(TRACE, 1)
  assert.deepEqual([body.traceId, server?.attributes['gateway.problem.code']], [TRACE, 'forbidden'])
})

test('a cancel with a traceparent that names no trace is recorded in a trace that begins here', async (t) => {
  const { api, collector } = await start(t)
  for (const traceparent of [
    'rubbish',
    '00',
    `ff-${TRACE}-${PARENT}-00`,
    `00-${TRACE}-${'0'.repeat(16)}-00`,
    `00-${'0'.repeat(32)}-${PARENT}-00`,
    `00-${TRACE.toUpperCase()}-${PARENT}-00`,
    `00-${TRACE}-${PARENT}`,
    `00-${TRACE}-${PARENT}-0`,
    `00-${TRACE}-${PARENT}-00-more`,
    `00-${TRACE}-${PARENT}-00,00-${TRACE}-${PARENT}-00`,
  ]) {
    const { body } = await api.delete('/tasks/none').set(asOperator).set({ traceparent }).expect(404)
    assert.notEqual(body.traceId, TRACE, traceparent)
    const [server] = (await collector.trace(body.traceId, 5)).filter(({ kind }) => kind === 2)
    assert.deepEqual([server?.name, server?.parentSpanId ?? ''], ['DELETE /tasks/:taskNo', ''], traceparent)
  }
})

test('a read whose caller does not record the trace is not recorded', async (t) => {
  const { api, collector } = await start(t)
  const other = TRACE.replace('0', '1')
  await api.get('/me').set(asOperator).set(traced(TRACE, '00')).expect(200)
  await api.get('/me').set(asOperator).set(traced(other)).expect(200)
  await collector.trace(other, 1)
  assert.ok(!collector.bodies.join('').includes(TRACE))
})

test('a failure of ours is an error', async (t) => {
  const { api, upstream, collector } = await start(t)
  upstream.fault('CancelTask', { reply: { status: 403, code: 'Forbidden.RAM' } })
  await api.delete(`/tasks/${upstream.addTask()}`).set(asOperator).set(traced()).expect(502)
  const [server] = (await collector.trace(TRACE, 5)).filter(({ kind }) => kind === 2)
  assert.deepEqual([server?.status.code, server?.attributes['error.type']], [2, 'upstream-forbidden'])
})

test('nothing secret, no address and no task is in a trace', async (t) => {
  const { api, upstream, collector } = await start(t)
  const taskNo = upstream.addTask()
  await api.delete(`/tasks/${taskNo}?lang=zh`).set(asOperator).set(traced()).set('cookie', 'canary=1').expect(202)
  await collector.trace(TRACE, 5)
  const all = collector.bodies.join('')
  for (const hidden of [...Object.values(CANARIES), 'canary', '127.0.0.1', taskNo])
    assert.ok(!all.includes(hidden), hidden)
})

test('looks that come later belong to nobody’s trace', async (t) => {
  const collector = await startCollector(t)
  const { api, upstream } = await startGateway(t, {
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, UPSTREAM_MAX_ATTEMPTS: '1' },
    overrides: { timings: { traceDelayMs: 10, lookupTtlMs: 0, settlementPauseMs: () => 5 } },
  })
  upstream.fault('CancelTask', { reply: 'reset' })
  await api.delete(`/tasks/${upstream.addTask()}`).set(asOperator).set(traced()).expect(504)
  const asked = upstream.calls.length
  while (upstream.calls.length < asked + 5) await upstream.nextCall('QueryTaskList')
  await api
    .get('/me')
    .set(asOperator)
    .set(traced(TRACE.replace('0', '1')))
    .expect(200)
  await collector.trace(TRACE.replace('0', '1'), 1)
  const names = (await collector.trace(TRACE, 5)).map(({ name }) => name)
  assert.ok(names.filter((name) => name === 'QueryTaskList').length <= 2, names.join())
})

test('a collector that is away changes nothing', async (t) => {
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${await closedPort()}` }
  const { api, upstream, stop } = await startGateway(t, { env, overrides: { timings: { traceDelayMs: 1 } } })
  await api.delete(`/tasks/${upstream.addTask()}`).set(asOperator).expect(202)
  await stop()
})

test('where nothing is traced, nothing names a trace', async (t) => {
  const { api, logLines } = await startGateway(t)
  const { body } = await api.get('/nowhere').set(traced()).expect(404)
  assert.equal(body.traceId, undefined)
  assert.doesNotMatch(logLines.join(''), /0af7651916cd/)
})
