import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { createTaskParsers } from '../../src/alibaba/task-schemas.ts'
import { asOperator, type Started, startGateway } from '../helpers/gateway.ts'
import { heapUsed } from '../helpers/heap.ts'
import { apiKeysWith, asCaller } from '../helpers/restricted-callers.ts'
import { mebibytes } from '../helpers/vitals.ts'

// Memory after reads and cancels, while every cache entry is still valid.

const DAY_MS = 86_400_000
const LASTING = { timings: { lookupTtlMs: 600_000 } }
const TASKS = 24
const WARM_UP = 4
const DETAILS = 1000
/** The details of this many tasks are more than twice as large. */
const MOST_GROWTH = 4 * 2 ** 20

const API_KEYS = apiKeysWith({ name: 'shop', scopes: ['tasks:cancel', 'tasks:read'], domains: ['*.a.example'] })
const DOMAINS = Array.from({ length: DETAILS }, (_, index) => `${index}.a.example`)

/** The gateway and complete old tasks with a thousand details each. */
const start = async (t: TestContext) => {
  const env = { API_KEYS, TASK_LOOKUP_LIMIT: '1', RATE_LIMIT_MAX: '1000', RATE_LIMIT_READ_MAX: '100000' }
  const started = await startGateway(t, { env, overrides: LASTING })
  const createdAt = Date.now() - 3 * DAY_MS
  const taskNos = Array.from({ length: TASKS }, () => started.upstream.addTask({ createdAt, domains: DOMAINS }))
  started.upstream.addTask()
  return { ...started, taskNos }
}

type Ask = (started: Started, taskNo: string) => Promise<number>

const get =
  (headers: Readonly<Record<string, string>>, path = ''): Ask =>
  async ({ api }, taskNo) =>
    (await api.get(`/tasks/${taskNo}${path}`).set(headers)).status

const cancel =
  (headers: Readonly<Record<string, string>>): Ask =>
  async ({ api }, taskNo) =>
    (await api.delete(`/tasks/${taskNo}`).set(headers)).status

const ASKED: readonly (readonly [string, Ask, status: number])[] = [
  ['reads of tasks', get(asOperator), 200],
  ['reads by a restricted caller', get(asCaller('shop')), 200],
  ['reads of details that a filter leaves empty', get(asOperator, '/details?domain=x'), 200],
  ['cancels that upstream rejects', cancel(asOperator), 409],
  ['cancels of a restricted caller', cancel(asCaller('shop')), 409],
]

const LONG_TEXT = 1_000_000

/** Texts are cut at 4,000 characters. A value counts as that long, so it may keep nothing of the rest. */
test('the fields of a task keep nothing of the longer texts that they were cut from', () => {
  const { readTasks, readDetails } = createTaskParsers(() => undefined)
  const asked = { page: 1, pageSize: 100 }
  const row = (index: number, name: string): string =>
    JSON.stringify({ TaskNo: String(index), [name]: `${index} `.padEnd(LONG_TEXT, 'x') })
  const read = (index: number): readonly unknown[] => [
    readTasks(pageOf('TaskInfo', row(index, 'TaskTypeDescription')), asked),
    ...['TaskTypeDescription', 'ErrorMsg', 'FailReason', 'TaskResult'].map((name) =>
      readDetails(pageOf('TaskDetail', row(index, name)), asked),
    ),
  ]
  const before = heapUsed()
  const kept = Array.from({ length: 10 }, (_, index) => read(index))
  const growth = heapUsed() - before
  assert.ok(kept.flat().every((page) => page !== null))
  assert.ok(growth < MOST_GROWTH, `${mebibytes(growth)} MiB`)
})

const pageOf = (list: string, row: string): unknown => JSON.parse(`{"TotalItemNum":1,"Data":{"${list}":[${row}]}}`)

for (const [name, ask, status] of ASKED) {
  test(`${name} of a thousand details leave none of them in memory`, async (t) => {
    const started = await start(t)
    const [warm, more] = [started.taskNos.slice(0, WARM_UP), started.taskNos.slice(WARM_UP)]
    for (const taskNo of warm) assert.equal(await ask(started, taskNo), status)
    const before = heapUsed()
    for (const taskNo of more) assert.equal(await ask(started, taskNo), status)
    const growth = heapUsed() - before
    t.diagnostic(`${mebibytes(growth)} MiB more after ${more.length}`)
    assert.ok(growth < MOST_GROWTH, `${mebibytes(growth)} MiB`)
  })
}
