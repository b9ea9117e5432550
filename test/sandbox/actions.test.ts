import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runAction } from '../../sandbox/src/actions.ts'
import { createTaskStore, type NewTask } from '../../sandbox/src/tasks.ts'

const LIFECYCLE = { waitingMs: 10, executingMs: 100, cancellingMs: 20 } as const
const CREATED_MS = Date.UTC(2017, 10, 1, 9, 22, 51)
const PAGE = { PageNum: '1', PageSize: '2' } as const

type Params = Readonly<Record<string, string>>

const storeWith = (...given: readonly NewTask[]) => {
  const tasks = createTaskStore(LIFECYCLE)
  for (const task of given) tasks.add(task, CREATED_MS)
  return tasks
}

const run = (action: string, params: Params, tasks = storeWith(), nowMs = CREATED_MS, carryOut = true) =>
  runAction(action, { params, tasks, nowMs, carryOut })

const codeOf = (...args: Parameters<typeof run>): string | undefined => run(...args).failure?.code

const numbered = (count: number): readonly NewTask[] =>
  Array.from({ length: count }, (_, index) => ({ taskNo: `t-${index}`, createdAt: CREATED_MS + index }))

/** Task numbers of a page of QueryTaskList. */
const listed = (params: Params, tasks: ReturnType<typeof storeWith>): string[] =>
  JSON.stringify(run('QueryTaskList', params, tasks).fields).match(/t-\d+/g) ?? []

const MISSING = [
  ['CancelTask', {}, 'MissingTaskNo'],
  ['CancelTask', { TaskNo: '' }, 'MissingTaskNo'],
  ['QueryTaskList', { PageSize: '1' }, 'MissingPageNum'],
  ['QueryTaskList', { PageNum: '1' }, 'MissingPageSize'],
  ['QueryTaskDetailList', PAGE, 'MissingTaskNo'],
  ['QueryTaskList', { PageNum: '0', PageSize: '1' }, 'InvalidParameter'],
  ['QueryTaskList', { PageNum: '1', PageSize: '0' }, 'InvalidParameter'],
  ['QueryTaskList', { PageNum: 'x', PageSize: '1' }, 'InvalidParameter'],
  ['QueryTaskList', { ...PAGE, BeginCreateTime: 'yesterday' }, 'InvalidParameter'],
  ['QueryTaskDetailList', { TaskNo: 't', PageNum: '1', PageSize: '1001' }, 'InvalidParameter'],
] as const

for (const [action, params, code] of MISSING) {
  test(`${action} with ${JSON.stringify(params)} answers ${code}`, () => {
    assert.equal(codeOf(action, params), code)
  })
}

test('cancelling a task that does not exist answers TaskNotExist', () => {
  assert.equal(codeOf('CancelTask', { TaskNo: 'none' }), 'TaskNotExist')
})

test('cancelling a finished task answers TaskStatusNotAllowed', () => {
  assert.equal(
    codeOf('CancelTask', { TaskNo: 't-0' }, storeWith(...numbered(1)), CREATED_MS + 110),
    'TaskStatusNotAllowed',
  )
})

test('cancelling twice answers TaskAlreadyCancelled, during the cancellation and after it', () => {
  const tasks = storeWith(...numbered(1))
  run('CancelTask', { TaskNo: 't-0' }, tasks)
  assert.equal(codeOf('CancelTask', { TaskNo: 't-0' }, tasks, CREATED_MS + 19), 'TaskAlreadyCancelled')
  assert.equal(codeOf('CancelTask', { TaskNo: 't-0' }, tasks, CREATED_MS + 20), 'TaskAlreadyCancelled')
})

test('a cancellation that is not carried out answers like one that is', () => {
  const tasks = storeWith(...numbered(1))
  const result = run('CancelTask', { TaskNo: 't-0' }, tasks, CREATED_MS, false)
  assert.deepEqual([result.failure, result.effect], [null, false])
  assert.equal(tasks.find('t-0', CREATED_MS)?.cancelStatus, 'INIT')
})

test('a task is listed with the fields and enums of the vendor, its time in UTC+8', () => {
  const { fields } = run('QueryTaskList', PAGE, storeWith({ taskNo: 't-0', taskType: 'ORDER_RENEW' }))
  const times = { CreateTime: '2017-11-01 17:22:51', Clientip: '127.0.0.1' }
  const type = { TaskType: 'ORDER_RENEW', TaskTypeDescription: '域名续费' }
  const status = { TaskStatus: 'WAITING_EXECUTE', TaskStatusCode: 1, TaskCancelStatus: 'INIT', TaskCancelStatusCode: 0 }
  assert.deepEqual(fields.Data, { TaskInfo: [{ TaskNo: 't-0', TaskNum: 1, ...type, ...status, ...times }] })
})

test('pages say where they stand', () => {
  const tasks = storeWith(...numbered(5))
  const { Data, ...paging } = run('QueryTaskList', { PageNum: '2', PageSize: '2' }, tasks).fields
  assert(Data !== undefined)
  const totals = { TotalItemNum: 5, TotalPageNum: 3, CurrentPageNum: 2, PageSize: 2 }
  assert.deepEqual(paging, { ...totals, PrePage: true, NextPage: true })
})

test('pages together hold every task once, newest first', () => {
  const tasks = storeWith(...numbered(5))
  const pages = ['1', '2', '3', '4'].map((PageNum) => listed({ PageNum, PageSize: '2' }, tasks))
  assert.deepEqual(pages, [['t-4', 't-3'], ['t-2', 't-1'], ['t-0'], []])
})

test('the first page has none before it and the last one none after it', () => {
  const tasks = storeWith(...numbered(3))
  const at = (PageNum: string) => run('QueryTaskList', { PageNum, PageSize: '2' }, tasks).fields
  assert.deepEqual([at('1').PrePage, at('1').NextPage], [false, true])
  assert.deepEqual([at('2').PrePage, at('2').NextPage], [true, false])
})

test('only the UTC+8 day of the creation times counts', () => {
  const midnightMs = Date.UTC(2017, 9, 31, 16)
  const tasks = storeWith({ taskNo: 't-1', createdAt: midnightMs - 1 }, { taskNo: 't-2', createdAt: midnightMs })
  const noon = String(midnightMs + 12 * 3_600_000)
  assert.deepEqual(listed({ ...PAGE, BeginCreateTime: noon }, tasks), ['t-2'])
  assert.deepEqual(listed({ ...PAGE, EndCreateTime: String(midnightMs - 3_600_000) }, tasks), ['t-1'])
  assert.deepEqual(listed({ ...PAGE, BeginCreateTime: noon, EndCreateTime: String(midnightMs) }, tasks), ['t-2'])
})

/** Domain and status of each detail. */
const details = (params: Params, tasks: ReturnType<typeof storeWith>, nowMs = CREATED_MS): string[] =>
  JSON.stringify(run('QueryTaskDetailList', { TaskNo: 't', ...PAGE, ...params }, tasks, nowMs).fields).match(
    /EXECUT\w+|WAITING\w+|(?<="DomainName":")[^"]+/g,
  ) ?? []

test('a task has one detail for each domain', () => {
  const tasks = storeWith({ taskNo: 't', domains: ['a.com', 'b.com', 'c.com'] })
  assert.deepEqual(details({}, tasks), ['WAITING_EXECUTE', 'a.com', 'WAITING_EXECUTE', 'b.com'])
  assert.deepEqual(details({ PageNum: '2' }, tasks), ['WAITING_EXECUTE', 'c.com'])
})

test('details follow their task, and fail where it is cancelled', () => {
  const tasks = storeWith({ taskNo: 't', domains: ['a.com'] })
  assert.deepEqual(details({}, tasks, CREATED_MS + 10), ['EXECUTING', 'a.com'])
  assert.deepEqual(details({}, tasks, CREATED_MS + 110), ['EXECUTE_SUCCESS', 'a.com'])
  run('CancelTask', { TaskNo: 't' }, tasks)
  assert.deepEqual(details({}, tasks, CREATED_MS + 20), ['EXECUTE_FAILURE', 'a.com'])
})

test('details are filtered by status code, domain and instance', () => {
  const tasks = storeWith({ taskNo: 't', domains: ['a.com', 'b.com'] })
  assert.deepEqual(details({ TaskStatus: '2' }, tasks), [])
  assert.deepEqual(details({ TaskStatus: '0', DomainName: 'b.com' }, tasks), ['WAITING_EXECUTE', 'b.com'])
  assert.deepEqual(details({ InstanceId: 'S0' }, tasks), [])
})

test('a task that does not exist has no details', () => {
  const { failure, fields } = run('QueryTaskDetailList', { TaskNo: 'none', ...PAGE })
  assert.deepEqual([failure, fields.TotalItemNum, fields.Data], [null, 0, { TaskDetail: [] }])
})
