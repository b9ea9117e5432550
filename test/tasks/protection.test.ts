import assert from 'node:assert/strict'
import { test } from 'node:test'
import { asOperator, asReader, cancelCalls, startGateway } from '../helpers/gateway.ts'

const FAILURE = { reply: { status: 500, code: 'InternalError' } } as const

test('while the upstream fails cancels none is sent: cancels are rejected at once with Retry-After', async (t) => {
  const { api, upstream, record } = await startGateway(t, { env: { UPSTREAM_MAX_ATTEMPTS: '1' } })
  upstream.fault('CancelTask', FAILURE, 10)
  for (let round = 0; round < 10; round += 1) await api.delete(`/tasks/${upstream.addTask()}`).set(asOperator)

  const taskNo = upstream.addTask()
  const { status, body, headers } = await api.delete(`/tasks/${taskNo}`).set(asOperator)
  assert.deepEqual(
    [status, body.code, body.outcome, body.retryable],
    [503, 'upstream-unavailable', 'not-cancelled', true],
  )
  assert.match(String(headers['retry-after']), /^[1-5]$/)
  const { outcome, attempts } = await record(taskNo)
  assert.deepEqual([outcome, attempts], ['failed', 0])
  assert.equal(cancelCalls(upstream).length, 10)
  assert.equal((await api.get('/readyz')).status, 200)
  for (const path of ['/tasks', `/tasks/${taskNo}`, `/tasks/${taskNo}/details`]) {
    assert.equal((await api.get(path).set(asReader)).status, 200, path)
  }
})

test('while the upstream fails reads none is sent: reads are rejected at once with Retry-After', async (t) => {
  const { api, upstream } = await startGateway(t, { env: { UPSTREAM_MAX_ATTEMPTS: '1' } })
  upstream.fault('QueryTaskList', FAILURE, 10)
  for (let round = 0; round < 10; round += 1) await api.get('/tasks').set(asReader)
  const before = upstream.calls.length
  for (const path of ['/tasks', `/tasks/${upstream.addTask()}`, `/tasks/${upstream.addTask()}/details`]) {
    const read = await api.get(path).set(asReader)
    assert.deepEqual([read.status, read.body.code], [503, 'upstream-unavailable'], path)
    assert.match(String(read.headers['retry-after']), /^[1-5]$/, path)
  }
  assert.equal(upstream.calls.length, before)
  assert.equal((await api.get('/readyz')).status, 200)
})

test('cancels above UPSTREAM_MAX_RPS are rejected unsent and recorded, the others are sent', async (t) => {
  const { api, upstream, record } = await startGateway(t, { env: { UPSTREAM_MAX_RPS: '10' } })
  const tasks = Array.from({ length: 40 }, () => upstream.addTask())
  const answers = await Promise.all(tasks.map((taskNo) => api.delete(`/tasks/${taskNo}`).set(asOperator)))
  const busy = answers.filter(({ status }) => status !== 202)
  assert.ok(busy.length >= 20 && busy.length < 40, String(busy.length))
  for (const { status, body, headers } of busy) {
    assert.deepEqual([status, body.code, body.outcome], [503, 'gateway-busy', 'not-cancelled'])
    assert.match(String(headers['retry-after']), /^\d+$/)
  }
  assert.equal(cancelCalls(upstream).length, tasks.length - busy.length)
  for (const [index, answer] of answers.entries()) {
    const { outcome } = await record(tasks[index] ?? '')
    assert.equal(outcome, answer.status === 202 ? 'accepted' : 'failed')
  }
})
