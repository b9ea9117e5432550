import assert from 'node:assert/strict'
import { test } from 'node:test'
import { asOperator, eventually, type Started, startGateway } from '../helpers/gateway.ts'
import { startCancel } from '../helpers/raw-http.ts'

const cancel = ({ api }: Started, taskNo: string, prefer: string) =>
  api.delete(`/tasks/${taskNo}`).set(asOperator).set('prefer', prefer)

/** Longer than the test. */
const FOREVER_MS = 3_600_000

test('with Prefer: wait the response and the record show when the task is cancelled', async (t) => {
  const started = await startGateway(t, { sandbox: { cancellingMs: 300 }, overrides: { timings: { lookupTtlMs: 0 } } })
  const taskNo = started.upstream.addTask()
  const { status, body, headers } = await cancel(started, taskNo, 'wait=10')
  assert.deepEqual([status, body.cancelStatus, headers['preference-applied']], [200, 'cancelled', 'wait=10'])
  assert.equal(headers.location, `/tasks/${taskNo}`)
  const { outcome, settledBy, requestId } = await started.record(taskNo)
  assert.deepEqual([outcome, settledBy, requestId], ['cancelled', 'query', body.requestId])
})

test('if the wait ends first, the task is being cancelled', async (t) => {
  const started = await startGateway(t, { sandbox: { cancellingMs: FOREVER_MS } })
  const taskNo = started.upstream.addTask()
  const { status, body, headers } = await cancel(started, taskNo, 'wait=1')
  assert.deepEqual([status, body.cancelStatus, headers['preference-applied']], [202, 'cancelling', 'wait=1'])
  assert.equal((await started.record(taskNo)).outcome, 'accepted')
})

test('the wait ends at the deadline of the request, and the response contains its length', async (t) => {
  const env = { UPSTREAM_TIMEOUT_MS: '2000', REQUEST_TIMEOUT_MS: '5100' }
  const started = await startGateway(t, { env, sandbox: { cancellingMs: FOREVER_MS } })
  const { status, body, headers } = await cancel(started, started.upstream.addTask(), 'wait=600')
  assert.deepEqual([status, body.cancelStatus], [202, 'cancelling'])
  assert.match(headers['preference-applied'] ?? '', /^wait=[1-5]$/)
})

for (const prefer of ['wait=0', 'respond-async', 'wait=soon', 'wait']) {
  test(`"Prefer: ${prefer}" asks for no wait`, async (t) => {
    const started = await startGateway(t, { sandbox: { cancellingMs: 0 } })
    const { status, body, headers } = await cancel(started, started.upstream.addTask(), prefer)
    assert.deepEqual([status, body.cancelStatus, headers['preference-applied']], [202, 'accepted', undefined])
    assert.equal(started.upstream.calls.length, 1)
  })
}

test('a cancel whose task cannot be read is only reported as accepted, without a wait', async (t) => {
  const started = await startGateway(t, { env: { UPSTREAM_MAX_ATTEMPTS: '1' } })
  started.upstream.fault('QueryTaskList', { reply: { status: 500, code: 'InternalError' } }, 100)
  const { status, body, headers } = await cancel(started, started.upstream.addTask(), 'wait=1')
  assert.deepEqual([status, body.cancelStatus, headers['preference-applied']], [202, 'accepted', undefined])
})

test('a cancel that upstream rejects is reported at once', async (t) => {
  const started = await startGateway(t)
  const { body } = await cancel(started, 'nowhere', 'wait=10')
  assert.deepEqual([body.code, body.outcome], ['task-not-found', 'not-cancelled'])
})

test('a caller that disconnects stops the watch', async (t) => {
  const started = await startGateway(t, {
    sandbox: { cancellingMs: FOREVER_MS },
    overrides: { timings: { lookupTtlMs: 0 } },
  })
  const taskNo = started.upstream.addTask()
  const leaving = startCancel(started.url, `/tasks/${taskNo}`, { ...asOperator, prefer: 'wait=10' })
  await started.upstream.nextCall('QueryTaskList')
  leaving.destroy()
  await eventually(() => started.logLines.find((line) => line.includes('"msg":"request"')))
  // Stopping waits for watches in flight: a watch that continued would last ten seconds and make more calls.
  await started.stop()
  assert.ok(started.upstream.calls.length <= 4, String(started.upstream.calls.length))
})

test('a read after a cancel shows its effect, even if another caller had just read the task', async (t) => {
  const started = await startGateway(t, { overrides: { timings: { lookupTtlMs: 600_000 } } })
  const taskNo = started.upstream.addTask()
  const look = async () => (await started.api.get(`/tasks/${taskNo}`).set(asOperator)).body.cancelStatus
  assert.equal(await look(), 'none')
  await started.api.delete(`/tasks/${taskNo}`).set(asOperator)
  assert.deepEqual([await look(), await look(), started.upstream.calls.length], ['cancelling', 'cancelling', 3])
})

test('concurrent waits for many tasks share their polls', async (t) => {
  const started = await startGateway(t, {
    sandbox: { cancellingMs: 0 },
    overrides: { timings: { lookupTtlMs: 600_000 } },
  })
  const taskNos = Array.from({ length: 20 }, () => started.upstream.addTask())
  const watched = taskNos.map((taskNo) => cancel(started, taskNo, 'wait=1'))
  await Promise.all(watched)
  const looks = started.upstream.calls.filter(({ action }) => action === 'QueryTaskList')
  // One read at the beginning, and a few at the end, where each needs a recent one.
  assert.ok(looks.length <= taskNos.length / 2, String(looks.length))
})
