import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { test } from 'node:test'
import { ASSUMPTIONS, type Assumption, createContradictionReport } from '../../src/alibaba/assumptions.ts'
import { asReader, startGateway } from '../helpers/gateway.ts'
import { listenOn } from '../helpers/ports.ts'

const ROOT = join(import.meta.dirname, '../..')

const MARK = /\(assumption\)(?:[\s*/]+([a-z]+(?:-[a-z]+)+):)?/g

const marks = globSync('src/**/*.ts', { cwd: ROOT }).flatMap((path) =>
  [...readFileSync(join(ROOT, path), 'utf8').matchAll(MARK)].map(([, label]) => ({ path, label: label ?? 'no label' })),
)

const rows = [...readFileSync(join(ROOT, 'docs/assumptions.md'), 'utf8').matchAll(/^\| `([a-z-]+)` \|(.*)\|$/gm)].map(
  ([, label = '', rest = '']) => {
    const [, counted = '', change = ''] = rest.split('|').map((cell) => cell.trim())
    return { label, counted, change }
  },
)

test('docs/assumptions.md has a row for each mark in the code, and no other', () => {
  assert.ok(rows.length > 5)
  assert.deepEqual(rows.map(({ label }) => label).sort(), [...new Set(marks.map(({ label }) => label))].sort())
})

test('each row that names a contradiction is a label of the metric', () => {
  const counted = rows.filter((row) => row.counted !== '–').map(({ label }) => label)
  assert.deepEqual(counted.sort(), [...ASSUMPTIONS].sort())
})

test('each row names a file of the code that exists and holds the name to change', () => {
  for (const { label, change } of rows) {
    const [, path = ''] = /`(src\/[^`]+)`/.exec(change) ?? []
    const text = readFileSync(join(ROOT, path), 'utf8')
    for (const [, name = ''] of change.matchAll(/`([A-Za-z]\w*)`/g)) {
      if (!change.includes(`setting \`${name}\``)) assert.ok(text.includes(name), `${label}: ${name}`)
    }
  }
})

const SOUND = { TaskNo: 't-1', TaskStatus: 'COMPLETE', TaskCancelStatus: 'INIT', CreateTime: '2026-01-02 00:00:00' }

const page = (...rows: readonly object[]) => ({
  RequestId: 'C1D1FD6D-3F68-4BDF-A479-11548DCD6DC9',
  ...{ TotalItemNum: rows.length, TotalPageNum: 1, CurrentPageNum: 1, PageSize: 20 },
  Data: { TaskInfo: rows },
})

/** Contradictions as a status and a body of QueryTaskList. A single body does not contradict `completed-task`. */
const CONTRADICTIONS: Readonly<Record<Exclude<Assumption, 'completed-task'>, readonly [status: number, body: object]>> =
  {
    'task-codes': [400, { RequestId: 'C1D1FD6D-3F68-4BDF-A479-11548DCD6DC9', Code: 'TaskIsSleeping' }],
    'envelope-failure': [200, { code: '400', data: { RequestId: 'C1D1FD6D-3F68-4BDF-A479-11548DCD6DC9' } }],
    'enum-values': [200, page({ ...SOUND, TaskStatus: 'SLEEPING' })],
    'date-format': [200, page({ ...SOUND, CreateTime: 'yesterday' })],
    'time-zone': [200, page({ ...SOUND, CreateTime: new Date(Date.now() + 10 * 3_600_000).toISOString() })],
    'list-order': [200, page(SOUND, { ...SOUND, CreateTime: '2026-01-03 00:00:00' })],
    'list-page-size': [200, { ...page(SOUND), PageSize: 10 }],
    'response-shape': [200, { ...page(SOUND), TotalItemNum: null }],
  }

test('each contradiction is counted with its label, and logged once', async (t) => {
  let answer: readonly [number, object] = [200, page(SOUND)]
  const server = createServer((_req, res) => {
    const [status, body] = answer
    res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
  })
  const url = `http://127.0.0.1:${await listenOn(t, server)}`
  const env = { UPSTREAM_URL: url, UPSTREAM_MAX_ATTEMPTS: '1' }
  const { api, adminUrl, logLines } = await startGateway(t, { env })
  const counts = async () => {
    const text = await (await fetch(`${adminUrl}/metrics`)).text()
    const samples = text.matchAll(/^gateway_assumption_contradicted_total\{assumption="([^"]+)"\} (\d+)$/gm)
    return Object.fromEntries([...samples].map(([, label = '', count]) => [label, Number(count)]))
  }

  await api.get('/tasks').set(asReader).expect(200)
  const none = Object.fromEntries(ASSUMPTIONS.map((label) => [label, 0]))
  assert.deepEqual(await counts(), none)
  for (const [index, label] of ASSUMPTIONS.filter((each) => each !== 'completed-task').entries()) {
    answer = CONTRADICTIONS[label]
    for (const _ of ['first', 'second']) await api.get('/tasks').set(asReader)
    const expected = Object.fromEntries(ASSUMPTIONS.map((each, place) => [each, place <= index ? 2 : 0]))
    assert.deepEqual(await counts(), expected)
    assert.equal(logLines.filter((line) => line.includes(`"assumption":"${label}"`)).length, 1)
  }
})

test('a contradiction is logged again after an hour', () => {
  let nowMs = 0
  const lines: string[] = []
  const log = { info: () => undefined, error: () => undefined, warn: (message: string) => void lines.push(message) }
  let count = 0
  const meter = {
    assumptionContradicted: () => {
      count += 1
    },
  }
  const report = createContradictionReport({ log, meter, now: () => nowMs })
  for (const atMs of [0, 1, 3_599_999, 3_600_000]) {
    nowMs = atMs
    report('list-order')
  }
  assert.deepEqual([count, lines.length], [4, 2])
})
