import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createTaskStore } from '../../sandbox/src/tasks.ts'
import { signedCall, startKeyedSandbox } from '../helpers/signed-call.ts'

const LIFECYCLE = { waitingMs: 10, executingMs: 100, cancellingMs: 20 } as const
const NOBODY = { userClientIp: null, lang: null } as const

const LIVES = [
  { ageMs: 0, cancelledAtMs: null, taskStatus: 'WAITING_EXECUTE', cancelStatus: 'INIT' },
  { ageMs: 9, cancelledAtMs: null, taskStatus: 'WAITING_EXECUTE', cancelStatus: 'INIT' },
  { ageMs: 10, cancelledAtMs: null, taskStatus: 'EXECUTING', cancelStatus: 'INIT' },
  { ageMs: 109, cancelledAtMs: null, taskStatus: 'EXECUTING', cancelStatus: 'INIT' },
  { ageMs: 110, cancelledAtMs: null, taskStatus: 'COMPLETE', cancelStatus: 'INIT' },
  { ageMs: 5, cancelledAtMs: 5, taskStatus: 'WAITING_EXECUTE', cancelStatus: 'CANCELLING' },
  { ageMs: 24, cancelledAtMs: 5, taskStatus: 'WAITING_EXECUTE', cancelStatus: 'CANCELLING' },
  { ageMs: 25, cancelledAtMs: 5, taskStatus: 'COMPLETE', cancelStatus: 'COMPLETE' },
  { ageMs: 115, cancelledAtMs: 105, taskStatus: 'EXECUTING', cancelStatus: 'CANCELLING' },
] as const

for (const { ageMs, cancelledAtMs, ...expected } of LIVES) {
  test(`a task of ${ageMs} ms, cancelled at ${cancelledAtMs} ms, is ${expected.taskStatus}`, () => {
    const tasks = createTaskStore(LIFECYCLE)
    const taskNo = tasks.add({}, 0)
    if (cancelledAtMs !== null) tasks.cancel(taskNo, NOBODY, cancelledAtMs)
    const task = tasks.find(taskNo, ageMs)
    assert.deepEqual({ taskStatus: task?.taskStatus, cancelStatus: task?.cancelStatus }, expected)
  })
}

test('tasks come newest first, the later added one first where they are equally old', () => {
  const tasks = createTaskStore(LIFECYCLE)
  for (const [taskNo, createdAt] of [
    ['b', 2],
    ['a', 1],
    ['c', 2],
  ] as const)
    tasks.add({ taskNo, createdAt }, 0)
  assert.deepEqual(
    tasks.newestFirst(5).map((task) => task.taskNo),
    ['c', 'b', 'a'],
  )
})

test('a task that is added later is listed too', () => {
  const tasks = createTaskStore(LIFECYCLE)
  assert.equal(tasks.newestFirst(0).length, 0)
  tasks.add({}, 0)
  assert.equal(tasks.newestFirst(0).length, 1)
})

test('a task number is given once', () => {
  const tasks = createTaskStore(LIFECYCLE)
  tasks.add({ taskNo: 'a' }, 0)
  assert.throws(() => tasks.add({ taskNo: 'a' }, 0), /exists already/)
})

test('a task gets a random number, a type and a domain where none is given', () => {
  const tasks = createTaskStore(LIFECYCLE)
  const task = tasks.find(tasks.add({}, 7), 7)
  assert.match(task?.taskNo ?? '', /^[0-9a-f-]{36}$/)
  assert.deepEqual([task?.taskType, task?.domains, task?.createdAt], ['CHG_DNS', ['example.com'], 7])
})

test('a real cancellation runs through its states as the clock moves', async (t) => {
  let nowMs = Date.now()
  const sandbox = await startKeyedSandbox(t, { ...LIFECYCLE, now: () => nowMs })
  const taskNo = sandbox.addTask()
  nowMs += 10
  await signedCall(sandbox, 'CancelTask', { TaskNo: taskNo })
  assert.deepEqual([sandbox.task(taskNo)?.taskStatus, sandbox.task(taskNo)?.cancelStatus], ['EXECUTING', 'CANCELLING'])
  nowMs += 20
  assert.deepEqual([sandbox.task(taskNo)?.taskStatus, sandbox.task(taskNo)?.cancelStatus], ['COMPLETE', 'COMPLETE'])
})

test('a wrong clock does not make tasks older', async (t) => {
  const sandbox = await startKeyedSandbox(t)
  const taskNo = sandbox.addTask()
  sandbox.setClockOffset(600_000)
  assert.equal(sandbox.task(taskNo)?.taskStatus, 'WAITING_EXECUTE')
  assert.equal((await signedCall(sandbox, 'CancelTask', { TaskNo: taskNo })).status, 200)
})

test('an unknown task is undefined', async (t) => {
  const sandbox = await startKeyedSandbox(t)
  assert.equal(sandbox.task('none'), undefined)
})
