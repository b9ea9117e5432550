import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import fc from 'fast-check'
import type { TaskListQuery, TaskQueries } from '../../src/alibaba/task-queries.ts'
import { createLookup, planPages } from '../../src/tasks/lookup.ts'
import { deadlineIn } from '../../src/time.ts'
import { asOperator, type Started, startGateway } from '../helpers/gateway.ts'
import { taskOf } from '../helpers/task.ts'

const DAY_MS = 86_400_000
/** Even on a slow machine a cached read is served until the end of the test. */
const LASTING = { timings: { lookupTtlMs: 600_000 } }

const find = async ({ api }: Started, taskNo: string) => await api.get(`/tasks/${taskNo}`).set(asOperator)

const actionsOf = ({ upstream }: Started): readonly string[] => upstream.calls.map(({ action }) => action)

const pagesOf = ({ upstream }: Started): readonly string[] =>
  upstream.calls.map(({ params }) => `${params.PageNum}x${params.PageSize}`)

/** The gateway and a number of tasks, each a minute older than the previous one. */
const startWithTasks = async (t: TestContext, count: number, limit?: number) => {
  const env = limit === undefined ? {} : { TASK_LOOKUP_LIMIT: String(limit) }
  const started = await startGateway(t, { env, overrides: LASTING })
  const nowMs = Date.now()
  const taskNos = Array.from({ length: count }, (_, age) =>
    started.upstream.addTask({ createdAt: nowMs - age * 60_000 }),
  )
  const taskAt = (index: number): string => taskNos.at(index) ?? ''
  return { ...started, taskAt }
}

test('pages are read one after the other, only up to the page of the task, and then serve all callers', async (t) => {
  const started = await startWithTasks(t, 250)
  assert.equal((await find(started, started.taskAt(0))).status, 200)
  assert.deepEqual(pagesOf(started), ['1x100'])
  assert.equal((await find(started, started.taskAt(199))).status, 200)
  for (const index of [5, 99, 100, 150, 198]) assert.equal((await find(started, started.taskAt(index))).status, 200)
  assert.deepEqual(pagesOf(started), ['1x100', '2x95', '3x67'])
})

test('one call serves concurrent requests for many tasks', async (t) => {
  const started = await startWithTasks(t, 50)
  const answers = await Promise.all(
    Array.from({ length: 200 }, (_, index) => find(started, started.taskAt(index % 50))),
  )
  assert.ok(answers.every(({ status }) => status === 200))
  assert.equal(started.upstream.calls.length, 1)
})

test('an account with few tasks is not read beyond its end', async (t) => {
  const started = await startWithTasks(t, 3)
  assert.equal((await find(started, 'nowhere')).body.code, 'task-not-found')
  assert.deepEqual(actionsOf(started), ['QueryTaskList', 'QueryTaskDetailList'])
})

test('an older task is found by the day in its details', async (t) => {
  const started = await startWithTasks(t, 5, 2)
  const { status, body } = await find(started, started.taskAt(-1))
  assert.deepEqual([status, body.cancelStatus, body.domainCount], [200, 'none', 1])
  assert.deepEqual(actionsOf(started), ['QueryTaskList', 'QueryTaskDetailList', 'QueryTaskList'])
})

test('an older task among hundreds of its day is found too', async (t) => {
  const started = await startGateway(t, { env: { TASK_LOOKUP_LIMIT: '1' } })
  const createdAt = Date.now() - 3 * DAY_MS
  const oldest = started.upstream.addTask({ createdAt })
  for (let index = 0; index < 250; index += 1) started.upstream.addTask({ createdAt })
  assert.equal((await find(started, oldest)).body.cancelStatus, 'none')
})

test('an older task is cached for a moment, and so is a number without a task', async (t) => {
  const started = await startWithTasks(t, 5, 2)
  await Promise.all(Array.from({ length: 20 }, () => find(started, started.taskAt(-1))))
  await Promise.all(Array.from({ length: 20 }, () => find(started, 'nowhere')))
  assert.deepEqual(actionsOf(started), ['QueryTaskList', 'QueryTaskDetailList', 'QueryTaskList', 'QueryTaskDetailList'])
})

test('the list of a day is read once for any number of requests for its old tasks', async (t) => {
  const started = await startWithTasks(t, 60, 1)
  const ask = (index: number) => find(started, started.taskAt(10 + (index % 50)))
  const answers = await Promise.all(Array.from({ length: 200 }, (_, index) => ask(index)))
  assert.ok(answers.every(({ body }) => body.cancelStatus === 'none'))
  const calls = actionsOf(started)
  assert.equal(calls.filter((action) => action === 'QueryTaskDetailList').length, 50)
  assert.ok(calls.filter((action) => action === 'QueryTaskList').length <= 3, String(calls))
})

test('the day of an old task is cached: its details are read once', async () => {
  const { find, queried, detailed } = startOver(1, () => ['new', 'old'], detailsOf(['succeeded'], 1), 0)
  for (let look = 0; look < 3; look += 1) assert.equal((await find('old'))?.cancelStatus, 'none')
  assert.deepEqual([detailed(), queried.length], [1, 6])
})

test('a failure is shared: pollers do not overload an unhealthy upstream', async (t) => {
  const started = await startGateway(t, { env: { UPSTREAM_MAX_ATTEMPTS: '1' }, overrides: LASTING })
  started.upstream.fault('QueryTaskList', { reply: { status: 503, code: 'ServiceUnavailable' } }, 100)
  const answers = await Promise.all(Array.from({ length: 50 }, (_, index) => find(started, `t-${index}`)))
  assert.ok(answers.every(({ body }) => body.code === 'upstream-unavailable'))
  assert.equal(started.upstream.calls.length, 1)
})

/** A lookup over a list that changes with each page that is read of it. */
const startOver = (
  limit: number,
  list: (read: number) => readonly string[],
  details: TaskQueries['details'],
  ttlMs?: number,
) => {
  const queried: TaskListQuery[] = []
  let detailed = 0
  const queries: TaskQueries = {
    list: async (query) => {
      queried.push(query)
      const rows = list(queried.length)
      const { page, pageSize } = query
      const items = rows.slice((page - 1) * pageSize, page * pageSize).map((taskNo) => taskOf({ taskNo }))
      const totalPages = Math.ceil(rows.length / pageSize)
      return { items, page, pageSize, totalItems: rows.length, totalPages, hasNext: page < totalPages, requestId: 'r' }
    },
    details: (...query) => {
      detailed += 1
      return details(...query)
    },
    allDetails: () => assert.fail('no test reads all details'),
  }
  const lookup = createLookup({ queries, limit, timeoutMs: 1000, ttlMs })
  const find = (taskNo: string) => lookup.find(taskNo, { priority: 'read', deadline: deadlineIn(10_000) })
  return { queried, detailed: () => detailed, find, invalidate: lookup.invalidate }
}

const NO_DETAILS: TaskQueries['details'] = async ({ page, pageSize }) => ({
  items: [],
  page,
  pageSize,
  totalItems: 0,
  totalPages: 0,
  hasNext: false,
  requestId: 'r',
})

test('a task that was changed is read again, however many others were changed after it', async () => {
  const { find, queried, invalidate } = startOver(1, () => ['t'], NO_DETAILS, 600_000)
  await find('t')
  invalidate('t')
  for (let other = 0; other < 20_000; other += 1) invalidate(`other ${other}`)
  await find('t')
  assert.equal(queried.length, 2)
  await find('t')
  assert.equal(queried.length, 2)
})

test('a read that is in flight as a task is changed is not served for it afterwards', async () => {
  const answer = Promise.withResolvers<void>()
  let reads = 0
  const queries: TaskQueries = {
    list: async ({ page, pageSize }) => {
      reads += 1
      if (reads === 1) await answer.promise
      const items = [taskOf({ taskNo: 't' })]
      return { items, page, pageSize, totalItems: 1, totalPages: 1, hasNext: false, requestId: 'r' }
    },
    details: NO_DETAILS,
    allDetails: () => assert.fail('no test reads all details'),
  }
  // Nothing is served from the cache, so that only the read in flight counts.
  const lookup = createLookup({ queries, limit: 1, timeoutMs: 60_000, ttlMs: 0 })
  const find = () => lookup.find('t', { priority: 'read', deadline: deadlineIn(60_000) })
  const early = find()
  lookup.invalidate('t')
  const late = find()
  answer.resolve()
  await Promise.all([early, late])
  assert.equal(reads, 2)
})

const rowsFrom = (first: number): readonly string[] => Array.from({ length: 400 }, (_, index) => `t-${first + index}`)

for (const [how, shift] of [
  ['move down, as new ones come', -5],
  ['move up, as others go', 5],
] as const) {
  test(`no task is missed where rows ${how} between two pages`, async () => {
    for (let row = 20; row < 180; row += 1) {
      const { find } = startOver(200, (read) => rowsFrom(shift * (read - 1)), NO_DETAILS)
      assert.notEqual(await find(`t-${row}`), null, `t-${row}`)
    }
  })
}

test('pages cover as many rows as they must, and each begins before the end of the previous one', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 1000 }), (limit) => {
      const ranges = planPages(limit).map(({ page, pageSize }) => ({
        from: (page - 1) * pageSize,
        to: page * pageSize,
      }))
      assert.ok((ranges.at(-1)?.to ?? 0) >= limit)
      for (const [index, { from }] of ranges.entries()) {
        assert.ok(index === 0 ? from === 0 : from <= (ranges[index - 1]?.to ?? 0) - 5)
      }
      assert.ok(planPages(limit).every(({ pageSize }) => pageSize >= 1 && pageSize <= 100))
    }),
  )
})

/** Statuses of a task's details, and the resulting status of a task that is in no list. */
const STATUSES = [
  [['waiting', 'waiting'], 'waiting'],
  [['waiting', 'succeeded'], 'executing'],
  [['executing', 'failed'], 'executing'],
  [['succeeded', 'failed'], 'complete'],
  [['succeeded', 'unknown'], 'unknown'],
] as const

describe('a task that is in no list is built from its details', () => {
  for (const [statuses, status] of STATUSES) {
    test(`${statuses.join(' and ')} make it ${status}, with an unknown cancel status`, async () => {
      const { find } = startOver(10, () => [], detailsOf(statuses, 2))
      const { taskNo, domainCount, cancelStatus, clientIp, ...rest } = (await find('old')) ?? taskOf()
      assert.deepEqual([taskNo, domainCount, cancelStatus, clientIp], ['old', 2, 'unknown', null])
      assert.equal(rest.status, status)
    })
  }

  test('with more details than one page holds its status is unknown', async () => {
    const { find } = startOver(10, () => [], detailsOf(['succeeded'], 1001))
    assert.deepEqual([(await find('old'))?.status, (await find('old'))?.domainCount], ['unknown', 1001])
  })
})

const detailsOf =
  (statuses: readonly (typeof STATUSES)[number][0][number][], totalItems: number): TaskQueries['details'] =>
  async ({ taskNo, page, pageSize }) => ({
    items: statuses.map((status) => ({
      detailNo: null,
      taskNo,
      type: 'CHG_DNS',
      typeDescription: null,
      status,
      domain: 'example.com',
      instanceId: null,
      createdAtMs: 1_700_000_000_000,
      updatedAtMs: null,
      attempts: null,
      message: null,
      result: null,
    })),
    page,
    pageSize,
    totalItems,
    totalPages: Math.ceil(totalItems / pageSize),
    hasNext: totalItems > pageSize,
    requestId: 'r',
  })
