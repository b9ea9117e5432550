import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createTaskParsers, type Page, type Task, type TaskDetail } from '../../src/alibaba/task-schemas.ts'

const ASKED = { page: 3, pageSize: 20 } as const

type Fields = Readonly<Record<string, unknown>>

/** The parsed page, and the values that were reported as unknown. */
const read = (body: unknown) => {
  const reported: string[] = []
  const answers = createTaskParsers((field, value) => void reported.push(`${field} ${value}`))
  return { tasks: answers.readTasks(body, ASKED), details: answers.readDetails(body, ASKED), reported }
}

const TASK = {
  TaskNo: 't-1',
  TaskType: 'CHG_DNS',
  TaskTypeDescription: '修改DNS',
  TaskStatus: 'EXECUTING',
  TaskStatusCode: 2,
  TaskCancelStatus: 'INIT',
  TaskCancelStatusCode: 0,
  TaskNum: 2,
  CreateTime: '2017-11-01 17:22:51',
  Clientip: '198.51.100.7',
} as const

const DETAIL = {
  TaskNo: 't-1',
  TaskDetailNo: 'd-1',
  TaskType: 'CHG_DNS',
  TaskTypeDescription: '修改DNS',
  TaskStatus: 'EXECUTE_FAILURE',
  TaskStatusCode: 3,
  DomainName: 'example.com',
  InstanceId: 'S2017',
  CreateTime: '2017-11-01 17:22:51',
  UpdateTime: 'Nov 1,2017 17:22:52',
  TryCount: 1,
  ErrorMsg: 'locked',
  TaskResult: 'none',
} as const

const listOf = (row: Fields) => ({ TotalItemNum: 1, Data: { TaskInfo: [row] } })
const detailsOf = (row: Fields) => ({ TotalItemNum: 1, Data: { TaskDetail: [row] } })

const taskOf = (changes: Fields): Task | undefined => read(listOf({ ...TASK, ...changes })).tasks?.items[0]
const detailOf = (changes: Fields): TaskDetail | undefined =>
  read(detailsOf({ ...DETAIL, ...changes })).details?.items[0]

test('the vendor’s own sample is read by its names, not by its codes', () => {
  const sample = `{"PrePage":false,"CurrentPageNum":1,"RequestId":"8D7D294A-8E99-481F-B64C-017EFC793059","PageSize":2,"TotalPageNum":22,"Data":{"TaskInfo":[{"TaskType":"CREATE_DNSHOST","TaskCancelStatus":"INIT","TaskNo":"8b1cd755-4928-4b02-adee-e5d41d7b1939","TaskCancelStatusCode":0,"TaskStatusCode":1,"TaskStatus":"COMPLETE","TaskTypeDescription":"创建DNS host","TaskNum":1,"CreateTime":"Dec 26,2017 11:00:54","Clientip":"127.0.0.1"}]},"TotalItemNum":43,"NextPage":true}`
  const item: Task = {
    taskNo: '8b1cd755-4928-4b02-adee-e5d41d7b1939',
    type: 'CREATE_DNSHOST',
    typeDescription: '创建DNS host',
    status: 'complete',
    cancelStatus: 'none',
    domainCount: 1,
    createdAtMs: Date.UTC(2017, 11, 26, 3, 0, 54),
    clientIp: '127.0.0.1',
  }
  const page = { items: [item], page: 1, pageSize: 2, totalItems: 43, totalPages: 22, hasNext: true }
  assert.deepEqual(read(JSON.parse(sample)), { tasks: page, details: null, reported: [] })
})

test('a detail has just these members', () => {
  assert.deepEqual(detailOf({ Secret: 'Signature=x' }), {
    detailNo: 'd-1',
    taskNo: 't-1',
    type: 'CHG_DNS',
    typeDescription: '修改DNS',
    status: 'failed',
    domain: 'example.com',
    instanceId: 'S2017',
    createdAtMs: Date.UTC(2017, 10, 1, 9, 22, 51),
    updatedAtMs: Date.UTC(2017, 10, 1, 9, 22, 52),
    attempts: 1,
    message: 'locked',
    result: 'none',
  })
})

/** An upstream name, with a code of another status, and the gateway's name. */
const TASK_NAMES: readonly (readonly [Fields, Partial<Task>])[] = [
  [{ TaskStatus: 'WAITING_EXECUTE', TaskStatusCode: 3 }, { status: 'waiting' }],
  [{ TaskStatus: 'EXECUTING', TaskStatusCode: 1 }, { status: 'executing' }],
  [{ TaskStatus: 'COMPLETE', TaskStatusCode: 1 }, { status: 'complete' }],
  [{ TaskCancelStatus: 'INIT', TaskCancelStatusCode: 2 }, { cancelStatus: 'none' }],
  [{ TaskCancelStatus: 'CANCELLING', TaskCancelStatusCode: 0 }, { cancelStatus: 'cancelling' }],
  [{ TaskCancelStatus: 'CANCELING', TaskCancelStatusCode: 0 }, { cancelStatus: 'cancelling' }],
  [{ TaskCancelStatus: 'COMPLETE', TaskCancelStatusCode: 1 }, { cancelStatus: 'cancelled' }],
]

for (const [row, expected] of TASK_NAMES) {
  test(`${JSON.stringify(row)} of a task is ${JSON.stringify(expected)}`, () => {
    assert.partialDeepStrictEqual(taskOf(row), expected)
  })
}

const DETAIL_NAMES = [
  ['WAITING_EXECUTE', 'waiting'],
  ['EXECUTING', 'executing'],
  ['EXECUTE_SUCCESS', 'succeeded'],
  ['EXECUTE_FAILURE', 'failed'],
] as const

for (const [name, status] of DETAIL_NAMES) {
  test(`${name} of a detail is ${status} with any code`, () => {
    const seen = [0, 1, 2, 3, null].map((TaskStatusCode) => detailOf({ TaskStatus: name, TaskStatusCode })?.status)
    assert.deepEqual(seen, Array(5).fill(status))
  })
}

/** Values that are no name of the field, and their report. */
const STRANGE: readonly (readonly [unknown, string])[] = [
  ['PAUSED', 'PAUSED'],
  ['complete', 'complete'],
  ['COMPLETE ', 'COMPLETE '],
  ['constructor', 'constructor'],
  [3, '3'],
  ['', ''],
  [null, ''],
  [undefined, ''],
  [{ name: 'COMPLETE' }, ''],
]

for (const [name, value] of STRANGE) {
  test(`${JSON.stringify(name)} is an unknown status, and reported`, () => {
    const { tasks, reported } = read(listOf({ ...TASK, TaskStatus: name, TaskCancelStatus: name }))
    assert.deepEqual([tasks?.items[0]?.status, tasks?.items[0]?.cancelStatus], ['unknown', 'unknown'])
    assert.deepEqual(reported, [`TaskStatus ${value}`, `TaskCancelStatus ${value}`])
  })

  test(`${JSON.stringify(name)} is an unknown status of a detail, and reported`, () => {
    const { details, reported } = read(detailsOf({ ...DETAIL, TaskStatus: name }))
    assert.deepEqual([details?.items[0]?.status, reported], ['unknown', [`TaskStatus of a detail ${value}`]])
  })
}

test('a status of tasks is none of details, nor one of details one of tasks', () => {
  assert.equal(detailOf({ TaskStatus: 'COMPLETE' })?.status, 'unknown')
  assert.equal(taskOf({ TaskStatus: 'EXECUTE_SUCCESS' })?.status, 'unknown')
})

test('known values are not reported', () => {
  assert.deepEqual(read({ TotalItemNum: 1, Data: { TaskInfo: [TASK], TaskDetail: [DETAIL] } }).reported, [])
})

test('a row may say nothing but which task it is of', () => {
  const nothing = { type: null, typeDescription: null, status: 'unknown' } as const
  const task = { cancelStatus: 'unknown', domainCount: null, createdAtMs: null, clientIp: null } as const
  assert.deepEqual(read(listOf({ TaskNo: 't' })).tasks?.items, [{ taskNo: 't', ...nothing, ...task }])
  const where = { detailNo: null, domain: null, instanceId: null, createdAtMs: null, updatedAtMs: null } as const
  const detail = { ...where, attempts: null, message: null, result: null }
  assert.deepEqual(read(detailsOf({ TaskNo: 't' })).details?.items, [{ taskNo: 't', ...nothing, ...detail }])
})

/** Values of text, count and time fields, and the parsed value. */
const TEXTS = [
  ['a', 'a'],
  ['0', '0'],
  [0, '0'],
  [7, '7'],
  ...['', null, undefined, true, {}, ['a']].map((odd) => [odd, null] as const),
] as const
const COUNTS = [
  [7, 7],
  ['7', 7],
  [0, 0],
  ['0', 0],
  ...['', null, undefined, -1, 1.5, '1.5', '-1', ' 1', '1e3', 'many', true, {}, [1]].map((odd) => [odd, null] as const),
] as const
const TIMES = [
  ['2017-11-01 17:22:51', Date.UTC(2017, 10, 1, 9, 22, 51)],
  [1509528171000, 1509528171000],
  ['1509528171000', 1509528171000],
  ['Dec 26, 2017, 11:00:54\u202fAM', Date.UTC(2017, 11, 26, 3, 0, 54)],
  ...['', null, undefined, 'yesterday', 7, {}].map((odd) => [odd, null] as const),
] as const

const TASK_FIELDS = [
  ['TaskType', 'type', TEXTS],
  ['TaskTypeDescription', 'typeDescription', TEXTS],
  ['Clientip', 'clientIp', TEXTS],
  ['TaskNum', 'domainCount', COUNTS],
  ['CreateTime', 'createdAtMs', TIMES],
] as const
const DETAIL_FIELDS = [
  ['TaskDetailNo', 'detailNo', TEXTS],
  ['TaskType', 'type', TEXTS],
  ['TaskTypeDescription', 'typeDescription', TEXTS],
  ['DomainName', 'domain', TEXTS],
  ['InstanceId', 'instanceId', TEXTS],
  ['ErrorMsg', 'message', TEXTS],
  ['TaskResult', 'result', TEXTS],
  ['TryCount', 'attempts', COUNTS],
  ['CreateTime', 'createdAtMs', TIMES],
  ['UpdateTime', 'updatedAtMs', TIMES],
] as const

for (const [theirs, ours, values] of TASK_FIELDS) {
  for (const [value, expected] of values) {
    test(`${theirs} ${JSON.stringify(value)} of a task is ${JSON.stringify(expected)}`, () => {
      assert.equal(taskOf({ [theirs]: value })?.[ours], expected)
    })
  }
}

for (const [theirs, ours, values] of DETAIL_FIELDS) {
  for (const [value, expected] of values) {
    test(`${theirs} ${JSON.stringify(value)} of a detail is ${JSON.stringify(expected)}`, () => {
      assert.equal(detailOf({ [theirs]: value })?.[ours], expected)
    })
  }
}

test('the newest client’s FailReason stands in for a message that is not there', () => {
  assert.equal(detailOf({ ErrorMsg: '', FailReason: 'locked' })?.message, 'locked')
  assert.equal(detailOf({ ErrorMsg: 'locked', FailReason: 'other' })?.message, 'locked')
})

const COUNTED = {
  TotalItemNum: 50,
  TotalPageNum: 5,
  CurrentPageNum: 2,
  PageSize: 10,
  Data: { TaskInfo: [TASK] },
} as const
const PLACED = { page: 2, pageSize: 10, totalItems: 50, totalPages: 5, hasNext: true } as const

/** The page that a response names, and the parsed one; page 3 with 20 rows was requested. */
const PLACES: readonly (readonly [string, Fields, Partial<Page<Task>>])[] = [
  ['numbers', {}, PLACED],
  ['numbers as text', { TotalItemNum: '50', TotalPageNum: '5', CurrentPageNum: '2', PageSize: '10' }, PLACED],
  ['the last page', { CurrentPageNum: 5 }, { page: 5, hasNext: false }],
  ['a page past the last', { CurrentPageNum: 9 }, { page: 9, hasNext: false }],
  ['no page', { CurrentPageNum: undefined }, { ...PLACED, page: 3 }],
  ['page null', { CurrentPageNum: null }, { ...PLACED, page: 3 }],
  ['page 0', { CurrentPageNum: 0 }, { ...PLACED, page: 3 }],
  ['page -1', { CurrentPageNum: -1 }, { ...PLACED, page: 3 }],
  ['no size', { PageSize: undefined }, { ...PLACED, pageSize: 20 }],
  ['size 0', { PageSize: 0 }, { ...PLACED, pageSize: 20 }],
  ['size null', { PageSize: null }, { ...PLACED, pageSize: 20 }],
  ['no number of pages', { TotalPageNum: undefined, TotalItemNum: 51 }, { totalPages: 6, hasNext: true }],
  ['null pages', { TotalPageNum: null, TotalItemNum: 51 }, { totalPages: 6, hasNext: true }],
  ['neither size nor pages', { PageSize: 0, TotalPageNum: null }, { pageSize: 20, totalPages: 3, hasNext: true }],
  ['no rows', { TotalItemNum: 0, TotalPageNum: 0, Data: { TaskInfo: [] } }, { items: [], hasNext: false }],
]

for (const [name, changes, expected] of PLACES) {
  test(`an answer that says ${name} is read as ${JSON.stringify(expected)}`, () => {
    assert.partialDeepStrictEqual(read({ ...COUNTED, ...changes }).tasks, expected)
  })
}

const EMPTY: readonly Fields[] = [{}, { Data: null }, { Data: {} }, { Data: { TaskInfo: null, TaskDetail: null } }]

for (const body of EMPTY) {
  test(`${JSON.stringify(body)} is an empty page where nothing should be in it, and else unreadable`, () => {
    const none = read({ TotalItemNum: 0, CurrentPageNum: 1, ...body })
    assert.deepEqual([none.tasks?.items, none.details?.items], [[], []])
    const pastTheLast = read({ TotalItemNum: 20, CurrentPageNum: 3, PageSize: 10, ...body })
    assert.deepEqual([pastTheLast.tasks?.items, pastTheLast.details?.items], [[], []])
    const some = read({ TotalItemNum: 21, CurrentPageNum: 3, PageSize: 10, ...body })
    assert.deepEqual([some.tasks, some.details], [null, null])
  })
}

const UNREADABLE: readonly (readonly [string, unknown])[] = [
  ['nothing', undefined],
  ['null', null],
  ['a text', 'TaskInfo'],
  ['a list', [COUNTED]],
  ['no total', { Data: { TaskInfo: [TASK], TaskDetail: [DETAIL] } }],
  ['a total that is no number', { ...COUNTED, TotalItemNum: 'many' }],
  ['a negative total', { ...COUNTED, TotalItemNum: -1 }],
  ['rows that are no list', { TotalItemNum: 1, Data: { TaskInfo: TASK, TaskDetail: DETAIL } }],
  ['a row that is none', { TotalItemNum: 1, Data: { TaskInfo: [null], TaskDetail: ['d'] } }],
  ...[undefined, null, '', {}].map((TaskNo) => {
    const rows = { TaskInfo: [TASK, { ...TASK, TaskNo }], TaskDetail: [DETAIL, { ...DETAIL, TaskNo }] }
    return [`a row of task ${JSON.stringify(TaskNo)}`, { TotalItemNum: 2, Data: rows }] as const
  }),
]

for (const [name, body] of UNREADABLE) {
  test(`${name} is unreadable`, () => {
    const { tasks, details } = read(body)
    assert.deepEqual([tasks, details], [null, null])
  })
}

// The documented shape, spelled out a second time.

const isText = (value: unknown): boolean => value === null || (typeof value === 'string' && value !== '')
const isCount = (value: unknown): boolean => value === null || (Number.isSafeInteger(value) && Number(value) >= 0)
const isTime = (value: unknown): boolean =>
  value === null || !Number.isNaN(new Date(typeof value === 'number' ? value : Number.NaN).getTime())
const among =
  (...values: readonly string[]) =>
  (value: unknown): boolean =>
    values.includes(String(value))

type Shape = Readonly<Record<string, (value: unknown) => boolean>>

const TASK_SHAPE: Shape = {
  taskNo: (value) => typeof value === 'string' && value !== '',
  type: isText,
  typeDescription: isText,
  status: among('waiting', 'executing', 'complete', 'unknown'),
  cancelStatus: among('none', 'cancelling', 'cancelled', 'unknown'),
  domainCount: isCount,
  createdAtMs: isTime,
  clientIp: isText,
}
const DETAIL_SHAPE: Shape = {
  detailNo: isText,
  taskNo: (value) => typeof value === 'string' && value !== '',
  type: isText,
  typeDescription: isText,
  status: among('waiting', 'executing', 'succeeded', 'failed', 'unknown'),
  domain: isText,
  instanceId: isText,
  createdAtMs: isTime,
  updatedAtMs: isTime,
  attempts: isCount,
  message: isText,
  result: isText,
}

const assertShape = (item: object, shape: Shape): void => {
  assert.deepEqual(Object.keys(item), Object.keys(shape))
  for (const [name, value] of Object.entries(item)) assert.ok(shape[name]?.(value), `${name}: ${value}`)
}

const assertPage = (page: Page<object> | null, shape: Shape): void => {
  if (page === null) return
  const { items, page: number, pageSize, totalItems, totalPages, hasNext } = page
  for (const item of items) assertShape(item, shape)
  assert.ok([number, pageSize, totalItems, totalPages].every((value) => Number.isSafeInteger(value) && value >= 0))
  assert.ok(number >= 1 && pageSize >= 1)
  assert.equal(hasNext, number < totalPages)
}

const anything = fc.jsonValue()
/** Often a documented value, sometimes an arbitrary one. */
const mostly = <T>(value: T) =>
  fc.oneof({ weight: 9, arbitrary: fc.constant(value) }, { weight: 1, arbitrary: anything })
const record = (fields: Fields) =>
  fc.record(Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, mostly(value)])), {
    requiredKeys: [],
  })
const body = fc.record(
  {
    TotalItemNum: mostly(2),
    TotalPageNum: mostly(1),
    CurrentPageNum: mostly(1),
    PageSize: mostly(2),
    Data: fc.oneof(
      anything,
      fc.record({ TaskInfo: fc.array(record(TASK)), TaskDetail: fc.array(record({ ...DETAIL, FailReason: '' })) }),
    ),
  },
  { requiredKeys: [] },
)

test('no JSON makes the parser throw, and only documented values are parsed', () => {
  fc.assert(
    fc.property(fc.oneof(anything, body), (json) => {
      const { tasks, details } = read(json)
      assertPage(tasks, TASK_SHAPE)
      assertPage(details, DETAIL_SHAPE)
    }),
    { numRuns: 500 },
  )
})

test('the number of a task can come as a number', () => {
  const { tasks, details } = read({
    TotalItemNum: 1,
    Data: { TaskInfo: [{ ...TASK, TaskNo: 7 }], TaskDetail: [{ ...DETAIL, TaskNo: 7 }] },
  })
  assert.deepEqual([tasks?.items[0]?.taskNo, details?.items[0]?.taskNo], ['7', '7'])
})

for (const TaskNo of [1.5, 1e30, 2 ** 53, -(2 ** 60)]) {
  test(`the number ${TaskNo} with uncertain digits names no task and nothing else`, () => {
    assert.equal(read(listOf({ ...TASK, TaskNo })).tasks, null)
    assert.equal(read(detailsOf({ ...DETAIL, TaskNo })).details, null)
    assert.equal(detailOf({ TaskDetailNo: TaskNo, InstanceId: TaskNo })?.detailNo, null)
  })
}

const LONG = 'x'.repeat(257)

for (const [theirs, ours] of [
  ['TaskType', 'type'],
  ['Clientip', 'clientIp'],
  ['CreateTime', 'createdAtMs'],
] as const) {
  test(`${theirs} of a task that is longer than 256 characters can't be read`, () => {
    assert.equal(taskOf({ [theirs]: LONG })?.[ours], null)
  })
}

for (const [theirs, ours] of [
  ['DomainName', 'domain'],
  ['TaskDetailNo', 'detailNo'],
  ['TaskType', 'type'],
  ['InstanceId', 'instanceId'],
] as const) {
  test(`${theirs} of a detail that is longer than 256 characters can't be read, and is not cut to another name`, () => {
    assert.equal(detailOf({ [theirs]: LONG })?.[ours], null)
    assert.equal(detailOf({ [theirs]: LONG.slice(1) })?.[ours], LONG.slice(1))
  })
}

test('a status that is longer than any is not known, and is not repeated', () => {
  assert.deepEqual(read(listOf({ ...TASK, TaskStatus: LONG })).reported, ['TaskStatus '])
})

test('a number of a task that is longer than any makes the page unreadable', () => {
  assert.equal(read(listOf({ ...TASK, TaskNo: LONG })).tasks, null)
})

for (const [theirs, ours] of [
  ['ErrorMsg', 'message'],
  ['TaskResult', 'result'],
  ['TaskTypeDescription', 'typeDescription'],
] as const) {
  test(`${theirs} is cut after 4,000 characters, and never within one`, () => {
    assert.equal(detailOf({ [theirs]: 'x'.repeat(4001) })?.[ours], 'x'.repeat(4000))
    assert.equal(detailOf({ [theirs]: `${'x'.repeat(3999)}😀` })?.[ours], 'x'.repeat(3999))
  })
}

test('a time that is there and cannot be parsed is reported by its field, without its text', () => {
  const rows = { TaskInfo: [{ ...TASK, CreateTime: 'yesterday' }], TaskDetail: [{ ...DETAIL, UpdateTime: 7 }] }
  const { reported } = read({ TotalItemNum: 1, Data: rows })
  assert.deepEqual(reported, ['CreateTime ', 'UpdateTime of a detail '])
  assert.deepEqual(read(listOf({ ...TASK, CreateTime: null })).reported, [])
  assert.deepEqual(read(detailsOf({ ...DETAIL, CreateTime: '' })).reported, [])
})
