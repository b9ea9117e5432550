import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import type { FaultReply } from '../../sandbox/src/server.ts'
import type { Env } from '../../src/config.ts'
import { asOperator, asReader, cancelCalls, eventually, type Started, startGateway } from '../helpers/gateway.ts'
import { apiKeysWith, asCaller } from '../helpers/restricted-callers.ts'

// Callers' reads must not delay the cancels of others: not by failing, not by being slow, and not by being many.

const QUERIES = ['QueryTaskList', 'QueryTaskDetailList'] as const

const KEYS = apiKeysWith({ name: 'restricted', scopes: ['tasks:cancel'], domains: ['*.example.com'] })

const start = (t: TestContext, env: Env, { cancellingMs }: Partial<Kind> = {}): Promise<Started> =>
  startGateway(t, {
    env: { API_KEYS: KEYS, UPSTREAM_MAX_ATTEMPTS: '1', ...env },
    sandbox: cancellingMs === undefined ? {} : { cancellingMs },
  })

/** The kinds of cancels, each with reads of its own or none, and the expected result. */
interface Kind {
  readonly name: string
  /** The query that belongs to it, which a caller's reads in the way must not be. */
  readonly query: (typeof QUERIES)[number] | null
  cancel(started: Started): Promise<{ readonly status: number; readonly body: Readonly<Record<string, unknown>> }>
  readonly expected: readonly [status: number, cancelStatus: string]
  /** How long the upstream takes for it; longer than the test if undefined. */
  readonly cancellingMs?: number
}

const newTask = ({ upstream }: Started): string => upstream.addTask({ domains: ['shop.example.com'] })

const KINDS: readonly Kind[] = [
  {
    name: 'a cancel',
    query: null,
    cancel: async (started) => started.api.delete(`/tasks/${newTask(started)}`).set(asOperator),
    expected: [202, 'accepted'],
  },
  {
    name: 'a cancel of a restricted caller',
    query: 'QueryTaskDetailList',
    cancel: async (started) => started.api.delete(`/tasks/${newTask(started)}`).set(asCaller('restricted')),
    expected: [202, 'accepted'],
  },
  {
    name: 'a cancel whose response is lost',
    query: 'QueryTaskList',
    cancel: async (started) => {
      started.upstream.fault('CancelTask', { reply: 'reset', effect: true })
      return started.api.delete(`/tasks/${newTask(started)}`).set(asOperator)
    },
    expected: [202, 'cancelling'],
  },
  {
    name: 'a cancel of a task that is being cancelled',
    query: 'QueryTaskList',
    cancel: async (started) => {
      started.upstream.fault('CancelTask', { reply: { status: 400, code: 'TaskAlreadyCancelled' }, effect: true })
      return started.api.delete(`/tasks/${newTask(started)}`).set(asOperator)
    },
    expected: [202, 'cancelling'],
  },
  {
    name: 'a cancel that waits',
    query: 'QueryTaskList',
    cancel: async (started) =>
      started.api
        .delete(`/tasks/${newTask(started)}`)
        .set(asOperator)
        .set('prefer', 'wait=8'),
    expected: [200, 'cancelled'],
    cancellingMs: 100,
  },
]

const assertCancelled = ({ expected }: Kind, { status, body }: Awaited<ReturnType<Kind['cancel']>>): void =>
  assert.deepEqual([status, body.cancelStatus], expected, JSON.stringify(body))

/** A path each read of which costs a call of that query. */
const pathOf = (query: string, taskNo: string): string =>
  query === 'QueryTaskList' ? '/tasks' : `/tasks/${taskNo}/details`

const FAILURES: readonly FaultReply[] = [
  { status: 500, code: 'InternalError' },
  { status: 503, code: 'ServiceUnavailable' },
  { status: 502, code: 'Odd' },
  'reset',
  'truncate',
  'stall',
]

for (const reply of FAILURES) {
  test(`after reads that failed with ${JSON.stringify(reply)} cancels of every kind are sent`, async (t) => {
    const started = await start(t, { UPSTREAM_TIMEOUT_MS: '2000' })
    const { api, upstream } = started
    for (const query of QUERIES) upstream.fault(query, { reply }, 6)
    const paths = QUERIES.map((query) => pathOf(query, upstream.addTask()))
    const reads = [...paths, ...paths, ...paths, ...paths, ...paths, ...paths]
    await Promise.all(reads.map((path) => api.get(path).set(asReader)))
    const read = await api.get('/tasks').set(asReader)
    assert.deepEqual([read.status, read.body.code], [503, 'upstream-unavailable'])
    upstream.clearFaults()
    for (const kind of KINDS.filter(({ cancellingMs }) => cancellingMs === undefined)) {
      assertCancelled(kind, await kind.cancel(started))
    }
    const waiting = await api
      .delete(`/tasks/${newTask(started)}`)
      .set(asOperator)
      .set('prefer', 'wait=1')
    assert.deepEqual([waiting.status, waiting.body.cancelStatus], [202, 'cancelling'])
  })
}

test('while every query fails, cancels of unrestricted callers are sent', async (t) => {
  const started = await start(t, {})
  const { api, upstream } = started
  for (const query of QUERIES) upstream.fault(query, { reply: { status: 500, code: 'InternalError' } }, 1e6)
  for (let round = 0; round < 12; round += 1) {
    await api.get('/tasks').set(asReader)
    const restricted = await api.delete(`/tasks/${newTask(started)}`).set(asCaller('restricted'))
    assert.notEqual(restricted.status, 202)
  }
  const { status } = await api.delete(`/tasks/${newTask(started)}`).set(asOperator)
  assert.equal(status, 202)
})

/** Reads that do not end before the upstream does fill all the places that reads can have. */
const fill = async (t: TestContext, { api, upstream }: Started, query: string, reads: number): Promise<void> => {
  upstream.fault(query, { reply: 'stall' }, 1e6)
  const path = pathOf(query, upstream.addTask())
  const answers = Array.from({ length: reads }, () =>
    api
      .get(path)
      .set(asReader)
      .then(({ status }) => status),
  )
  await eventually(() => (upstream.calls.some(({ action }) => action === query) ? true : undefined))
  for (let turn = 0; turn < 50; turn += 1) await setImmediate()
  t.after(() => Promise.all(answers))
}

for (const kind of KINDS) {
  for (const concurrency of [1, 2, 3, 16]) {
    test(`with UPSTREAM_MAX_CONCURRENCY=${concurrency} slow reads hold up no place that ${kind.name} needs`, async (t) => {
      const started = await start(t, { UPSTREAM_MAX_CONCURRENCY: String(concurrency) }, kind)
      const query = kind.query === 'QueryTaskList' ? 'QueryTaskDetailList' : 'QueryTaskList'
      await fill(t, started, query, concurrency + 4)
      assertCancelled(kind, await kind.cancel(started))
    })
  }
}

test('a read that gave up its place is sent again, and answers', async (t) => {
  const started = await start(t, { UPSTREAM_MAX_CONCURRENCY: '1' })
  const { api, upstream } = started
  upstream.fault('QueryTaskDetailList', { reply: 'stall' })
  const stalled = upstream.nextCall('QueryTaskDetailList')
  const read = api
    .get(`/tasks/${newTask(started)}/details`)
    .set(asReader)
    .then(({ status }) => status)
  await stalled
  const cancelled = await api.delete(`/tasks/${newTask(started)}`).set(asOperator)
  assert.deepEqual([cancelled.status, await read], [202, 200])
  assert.deepEqual(
    upstream.calls.map(({ action }) => action),
    ['QueryTaskDetailList', 'CancelTask', 'QueryTaskDetailList'],
  )
})

for (const concurrency of [1, 2, 8]) {
  test(`with UPSTREAM_MAX_CONCURRENCY=${concurrency} slow reads of other cancels hold up no cancel`, async (t) => {
    const started = await start(t, { UPSTREAM_MAX_CONCURRENCY: String(concurrency) })
    const { api, upstream } = started
    for (const query of QUERIES) upstream.fault(query, { reply: 'stall' }, 1e6)
    const cancel = (headers: Readonly<Record<string, string>>) => api.delete(`/tasks/${newTask(started)}`).set(headers)
    const checked = Array.from({ length: concurrency + 2 }, () => cancel(asCaller('restricted')))
    const watched = Array.from({ length: 3 }, () => cancel({ ...asOperator, prefer: 'wait=3' }))
    const answers = [...checked, ...watched].map((asked) => asked.then(({ status }) => status))
    t.after(() => Promise.all(answers))
    await eventually(() => (cancelCalls(upstream).length === watched.length ? true : undefined))
    await eventually(() => (upstream.calls.some(({ action }) => action === 'QueryTaskDetailList') ? true : undefined))
    const { status, body } = await cancel(asOperator)
    assert.deepEqual([status, body.cancelStatus], [202, 'accepted'])
  })
}

/** Reads without end, each of which costs an upstream call of its own, until it is told to stop. */
const storm = ({ api, upstream }: Started) => {
  let isOver = false
  const readOn = async (path: string): Promise<void> => {
    while (!isOver) await api.get(path).set(asReader)
  }
  const paths = QUERIES.map((query) => pathOf(query, upstream.addTask()))
  const loops = [...paths, ...paths, ...paths, ...paths].map(readOn)
  return async (): Promise<void> => {
    isOver = true
    await Promise.all(loops)
  }
}

for (const kind of KINDS) {
  for (const perSecond of [1, 4]) {
    test(`with UPSTREAM_MAX_RPS=${perSecond} a storm of reads does not refuse ${kind.name}`, async (t) => {
      const started = await start(t, { UPSTREAM_MAX_RPS: String(perSecond) }, kind)
      const { upstream } = started
      const stop = storm(started)
      t.after(stop)
      await eventually(() => (upstream.calls.length >= 2 ? true : undefined))
      assertCancelled(kind, await kind.cancel(started))
      await stop()
    })
  }
}

test('reads go on while cancels are sent now and then', async (t) => {
  const started = await start(t, { UPSTREAM_MAX_RPS: '10' })
  const { api, upstream } = started
  const stop = storm(started)
  t.after(stop)
  for (let round = 0; round < 5; round += 1) {
    const { status } = await api.delete(`/tasks/${newTask(started)}`).set(asOperator)
    assert.equal(status, 202)
  }
  const before = upstream.calls.length
  await eventually(() => (upstream.calls.length >= before + 5 ? true : undefined))
  await stop()
  assert.equal(cancelCalls(upstream).length, 5)
})

for (const { part, newer, action, before } of [
  { part: 'the newest tasks', newer: 0, action: 'QueryTaskList', before: 0 },
  { part: 'a later page', newer: 120, action: 'QueryTaskList', before: 1 },
  { part: 'the details of an old task', newer: 250, action: 'QueryTaskDetailList', before: 0 },
  { part: 'the day of an old task', newer: 250, action: 'QueryTaskList', before: 3 },
] as const) {
  test(`a cancel does not wait for ${part} that a caller began to read before it`, async (t) => {
    const started = await start(t, { UPSTREAM_TIMEOUT_MS: '4000' })
    const { api, upstream } = started
    const taskNo = newTask(started)
    for (let index = 0; index < newer; index += 1) upstream.addTask()
    if (before > 0) upstream.fault(action, { reply: 'right' }, before)
    upstream.fault(action, { reply: 'stall' })
    const read = api
      .get(`/tasks/${taskNo}`)
      .set(asReader)
      .then(({ status }) => status)
    t.after(() => read)
    const asked = () => upstream.calls.filter((call) => call.action === action).length
    await eventually(() => (asked() > before ? true : undefined))
    upstream.fault('CancelTask', { reply: 'reset', effect: true })
    const { status, body } = await api.delete(`/tasks/${taskNo}`).set(asOperator)
    assert.deepEqual([status, body.cancelStatus], [202, 'cancelling'])
  })
}

test('waiting cancels share one reading, and callers that read the same task share it too', async (t) => {
  const started = await start(t, {})
  const { api, upstream } = started
  const taskNos = Array.from({ length: 10 }, () => newTask(started))
  const asked = taskNos.map((taskNo) => api.delete(`/tasks/${taskNo}`).set(asOperator).set('prefer', 'wait=2'))
  const answers = await Promise.all(asked)
  assert.ok(answers.every(({ status, body }) => status === 202 && body.cancelStatus === 'cancelling'))
  const before = upstream.calls.length
  for (const taskNo of taskNos) assert.equal((await api.get(`/tasks/${taskNo}`).set(asReader)).status, 200)
  assert.ok(upstream.calls.length - before <= 2, String(upstream.calls.length - before))
  const reads = upstream.calls.filter(({ action }) => action === 'QueryTaskList').length
  assert.ok(reads <= 8, String(reads))
})

test('throttling concerns the account: a throttled read holds back cancels too', async (t) => {
  for (const reply of [
    { status: 400, code: 'Throttling.User', headers: { 'x-acs-retry-after': '30000' } },
    { status: 429, code: 'Odd', headers: { 'x-acs-retry-after': '30000' } },
    { status: 503, code: 'ServiceUnavailable', headers: { 'x-acs-retry-after': '30000' } },
  ]) {
    const started = await start(t, {})
    const { api, upstream } = started
    upstream.fault('QueryTaskList', { reply })
    await api.get('/tasks').set(asReader)
    const { status, body } = await api.delete(`/tasks/${newTask(started)}`).set(asOperator)
    assert.deepEqual([status, body.code, body.outcome], [503, 'upstream-throttled', 'not-cancelled'], reply.code)
    assert.equal(cancelCalls(upstream).length, 0)
  }
})
