import assert from 'node:assert/strict'
import { test } from 'node:test'
import { cancelCalls } from '../helpers/gateway.ts'
import { addTasks, cancel, prepare, startProcess, waitForCancels } from '../helpers/process.ts'

/** Two hundred at once can keep a small machine busy for longer than the defaults allow. */
const PATIENT = {
  UPSTREAM_MAX_CONCURRENCY: '200',
  UPSTREAM_TIMEOUT_MS: '60000',
  REQUEST_TIMEOUT_MS: '90000',
  SHUTDOWN_GRACE_MS: '95000',
}

test('each of two hundred cancels at once is on record before the upstream hears of it', async (t) => {
  const { sandbox, env } = await prepare(t)
  const { url, records } = await startProcess(t, { ...env, ...PATIENT })
  const taskNos = addTasks(sandbox, 200)

  const statuses = await Promise.all(taskNos.map((taskNo) => cancel(url, taskNo)))

  assert.deepEqual([...new Set(statuses)], [202])
  assert.equal(sandbox.violations, 0)
  assert.equal(cancelCalls(sandbox).length, 200)
  assert.equal((await records({ outcome: 'accepted' })).length, 200)
})

for (const calls of [1, 12, 60]) {
  test(`a gateway killed after ${calls} of 100 calls upstream loses no cancellation and claims none`, async (t) => {
    const { sandbox, env } = await prepare(t)
    const killed = await startProcess(t, env)
    const taskNos = addTasks(sandbox, 100)
    const answers = Promise.allSettled(taskNos.map((taskNo) => cancel(killed.url, taskNo)))
    await waitForCancels(sandbox, calls)
    killed.kill('SIGKILL')
    await Promise.all([killed.ended, answers, sandbox.socketsClosed()])

    const { records } = await startProcess(t, env)
    const recorded = await records()

    const tasksOf = (...outcomes: string[]) =>
      new Set(recorded.filter(({ outcome }) => outcomes.includes(String(outcome))).map(({ taskNo }) => String(taskNo)))
    const cancelled = taskNos.filter((taskNo) => sandbox.task(taskNo)?.cancelStatus !== 'INIT')
    assert.ok(cancelled.length >= calls)
    assert.deepEqual(
      cancelled.filter((taskNo) => !tasksOf('accepted', 'unknown').has(taskNo)),
      [],
    )
    assert.deepEqual(
      [...tasksOf('accepted')].filter((taskNo) => !cancelled.includes(taskNo)),
      [],
    )
    assert.deepEqual([...tasksOf('pending')], [])
    assert.equal(sandbox.violations, 0)
  })
}
