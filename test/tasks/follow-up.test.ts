import assert from 'node:assert/strict'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import type { Fault } from '../../sandbox/src/server.ts'
import type { Task, TaskDetail } from '../../src/alibaba/task-schemas.ts'
import { openSqliteStore } from '../../src/audit/sqlite.ts'
import type { AuditRecord, OpenRecord, Outcome, OutcomeEvent } from '../../src/audit/store.ts'
import { outcomeEvent } from '../../src/audit/store.ts'
import { createFollowUp, followUpCallEveryMs } from '../../src/tasks/follow-up.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { NO_METER } from '../../src/telemetry/meter.ts'
import { intentOf, recordOf } from '../helpers/audit-events.ts'
import {
  asOperator,
  eventually,
  type Started,
  type StartOptions,
  startGateway,
  startSandbox,
  temporaryFolder,
} from '../helpers/gateway.ts'
import { heapUsed } from '../helpers/heap.ts'
import { taskOf } from '../helpers/task.ts'

// More in the long form: npm run scale.
const OPEN = Number(process.env.OPEN ?? 2000)

const MINUTE_MS = 60_000
const DAY_MS = 1440 * MINUTE_MS

const AT_ONCE = { timings: { lookupTtlMs: 0, settlementPauseMs: () => 5 } }

const RESET: Fault = { reply: 'reset' }
const RESET_AFTER_EFFECT: Fault = { reply: 'reset', effect: true }
const DOWN: Fault = { reply: { status: 500, code: 'InternalError' } }

/** A gateway with one cancel of unknown outcome: the call failed, and the task could not be read either. */
const startUnknown = async (t: TestContext, fault: Fault, options: StartOptions = {}) => {
  const env = { UPSTREAM_MAX_ATTEMPTS: '1', ...options.env }
  const started = await startGateway(t, { ...options, env })
  const taskNo = started.upstream.addTask()
  started.upstream.fault('CancelTask', fault)
  started.upstream.fault('QueryTaskList', DOWN, 100_000)
  const { body } = await started.api.delete(`/tasks/${taskNo}`).set(asOperator)
  assert.equal(body.outcome, 'unknown')
  return { ...started, taskNo }
}

const settled = ({ record }: Started, taskNo: string) =>
  eventually(async () => {
    const found = await record(taskNo)
    return found.outcome === 'unknown' ? undefined : found
  })

for (const [cancellingMs, outcome] of [
  [0, 'cancelled'],
  [DAY_MS, 'accepted'],
] as const) {
  test(`an unknown outcome is ${outcome} once the task shows it, without a request of a caller`, async (t) => {
    const started = await startUnknown(t, RESET_AFTER_EFFECT, { sandbox: { cancellingMs }, overrides: AT_ONCE })
    assert.equal((await started.record(started.taskNo)).outcome, 'unknown')
    started.upstream.clearFaults()
    const found = await settled(started, started.taskNo)
    assert.deepEqual([found.outcome, found.settledBy, found.requestId], [outcome, 'query', null])
    assert.equal(found.attempts, 1)
  })
}

test('an unknown outcome of an earlier process is settled after the next start', async (t) => {
  const first = await startUnknown(t, RESET_AFTER_EFFECT, {
    overrides: { timings: { settlementPauseMs: () => DAY_MS } },
  })
  await first.stop()
  first.upstream.clearFaults()
  const env = { AUDIT_URL: `sqlite:${first.auditPath}`, UPSTREAM_URL: first.upstream.url }
  const second = await startGateway(t, { env, overrides: AT_ONCE })
  const found = await settled(second, first.taskNo)
  assert.deepEqual([found.outcome, found.settledBy], ['accepted', 'query'])
})

test('a task that is not cancelled proves nothing, however often it is polled', async (t) => {
  const started = await startUnknown(t, RESET, { overrides: AT_ONCE })
  started.upstream.clearFaults()
  for (let polls = 0; polls < 5; polls += 1) await started.upstream.nextCall('QueryTaskList')
  assert.equal((await started.record(started.taskNo)).outcome, 'unknown')
})

const START_MS = 20_000 * DAY_MS

/** A clock that stands still while anything runs, and jumps to the end of the next pause. */
const createTestClock = () => {
  let nowMs = START_MS
  const sleepers = new Set<{ readonly atMs: number; readonly wake: () => void }>()
  const sleep = (ms: number, signal: AbortSignal): Promise<void> =>
    new Promise((resolve) => {
      sleepers.add({ atMs: nowMs + Math.max(0, ms), wake: resolve })
      signal.addEventListener('abort', () => resolve(), { once: true })
    })
  return {
    now: () => nowMs,
    sleep,
    advance: async (ms: number): Promise<void> => {
      const endMs = nowMs + ms
      for (;;) {
        await setImmediate()
        const [next] = [...sleepers].sort((a, b) => a.atMs - b.atMs)
        if (next === undefined || next.atMs > endMs) break
        sleepers.delete(next)
        nowMs = Math.max(nowMs, next.atMs)
        next.wake()
      }
      nowMs = endMs
      await setImmediate()
    },
  }
}

type Behaviour = (ageMs: number) => Partial<Task> | null

/** The follow-up alone: upstream and audit trail are tables, and the clock jumps. */
const simulate = (t: TestContext, options: { readonly max?: number; readonly maxPerSecond?: number } = {}) => {
  const clock = createTestClock()
  const tasks = new Map<string, { readonly behaviour: Behaviour; readonly createdAtMs: number }>()
  const days = new Map<number, string[]>()
  const records = new Map<string, AuditRecord>()
  const open: OpenRecord[] = []
  const written: (OutcomeEvent & { readonly atMs: number })[] = []
  const calls: number[] = []
  const contradictions: unknown[] = []
  const state = { isDown: false, replicas: ['self'] as readonly string[] }

  const call = (): void => {
    calls.push(clock.now())
    if (state.isDown) throw new Error('down')
  }
  const rowOf = (taskNo: string): Task | null => {
    const task = tasks.get(taskNo)
    const shown = task?.behaviour(clock.now() - START_MS) ?? null
    return task === undefined || shown === null ? null : taskOf({ taskNo, createdAtMs: task.createdAtMs, ...shown })
  }
  const pageOf = <T>(all: readonly T[], page: number, pageSize: number) => {
    const items = all.slice((page - 1) * pageSize, page * pageSize)
    const [totalItems, totalPages] = [all.length, Math.ceil(all.length / pageSize)]
    return { items, page, pageSize, totalItems, totalPages, hasNext: page < totalPages, requestId: 'r' }
  }
  const followUp = createFollowUp({
    trail: {
      find: async (id) => records.get(id) ?? null,
      recordOutcome: async (event) => {
        const record = records.get(event.cancellationId)
        assert.ok(record)
        const isFinal = event.outcome !== 'accepted' || event.finishedAtMs >= record.requestedAtMs + DAY_MS
        written.push({ ...event, atMs: clock.now() - START_MS })
        records.set(event.cancellationId, { ...record, outcome: event.outcome, isFinal })
      },
    },
    store: {
      listOpen: async () => ({ records: open.filter(({ id }) => records.get(id)?.isFinal === false), next: null }),
      liveReplicas: async () => state.replicas,
    },
    queries: {
      list: async ({ page, pageSize, createdFromMs }) => {
        call()
        const listed = createdFromMs === undefined ? [...tasks.keys()] : (days.get(dayOf(createdFromMs)) ?? [])
        const { items, ...rest } = pageOf(listed, page, pageSize)
        return { ...rest, items: items.flatMap((taskNo) => rowOf(taskNo) ?? []) }
      },
      details: async ({ taskNo }) => {
        call()
        const row = rowOf(taskNo)
        return pageOf(row === null ? [] : [{ ...DETAIL, taskNo, createdAtMs: row.createdAtMs }], 1, 1)
      },
    },
    log: createLog({ level: 'silent', destination: { write: () => {} } }),
    meter: NO_METER,
    onContradiction: (label, fields) => void contradictions.push([label, fields]),
    instanceId: 'self',
    lookupLimit: 200,
    callEveryMs: followUpCallEveryMs(options.maxPerSecond),
    ...(options.max === undefined ? {} : { max: options.max }),
    now: clock.now,
    monotonic: clock.now,
    sleep: clock.sleep,
  })
  t.after(followUp.close)

  const addTask = (taskNo: string, behaviour: Behaviour, createdAtMs = START_MS): void => {
    tasks.set(taskNo, { behaviour, createdAtMs })
    const day = days.get(dayOf(createdAtMs)) ?? []
    days.set(dayOf(createdAtMs), day)
    day.push(taskNo)
  }
  const addRecord = (id: string, taskNo: string, outcome: 'accepted' | 'unknown', instanceId = 'self'): void => {
    const requestedAtMs = clock.now()
    records.set(id, { ...RECORD, id, taskNo, requestedAtMs, outcome })
    open.push({ id, taskNo, requestedAtMs, outcome, instanceId, seq: open.length })
  }
  const cancel = (id: string, taskNo: string, outcome: 'accepted' | 'unknown' = 'accepted'): void => {
    addRecord(id, taskNo, outcome)
    followUp.track({ taskNo, requestedAtMs: clock.now() }, outcomeEvent(id, outcome, clock.now(), { attempts: 1 }))
  }
  const outcomes = () => written.map(({ outcome }) => outcome)
  const views = { written, outcomes, calls, contradictions, state, records }
  return { ...{ addTask, addRecord, cancel, clock, followUp }, ...views }
}

const DETAIL: TaskDetail = {
  ...{ detailNo: null, taskNo: 't', type: null, typeDescription: null, status: 'unknown', domain: null },
  ...{ instanceId: null, createdAtMs: null, updatedAtMs: null, attempts: null, message: null, result: null },
}

const dayOf = (atMs: number): number => Math.floor((atMs + 8 * 3_600_000) / DAY_MS)

const RECORD: AuditRecord = recordOf({ requestedAtMs: START_MS, outcome: 'unknown', finishedAtMs: START_MS })

const CANCELLING: Partial<Task> = { cancelStatus: 'cancelling' }
const CANCELLED: Partial<Task> = { status: 'complete', cancelStatus: 'cancelled' }
const COMPLETE: Partial<Task> = { status: 'complete', cancelStatus: 'none' }
const SECOND_MS = 1000
const HOUR_MS = 60 * MINUTE_MS

const BEHAVIOURS: readonly (readonly [string, Behaviour, accepted: readonly Outcome[], unknown: readonly Outcome[]])[] =
  [
    [
      'is cancelled soon',
      (age) => (age < 5 * SECOND_MS ? CANCELLING : CANCELLED),
      ['cancelled'],
      ['accepted', 'cancelled'],
    ],
    ['is cancelled late', (age) => (age < 10 * HOUR_MS ? {} : CANCELLED), ['cancelled'], ['cancelled']],
    ['is never cancelled', () => CANCELLING, ['accepted'], ['accepted', 'accepted']],
    ['completes first', (age) => (age < 30 * SECOND_MS ? {} : COMPLETE), ['too-late'], ['failed']],
    [
      'shows complete for one reading',
      (age) => (age < 3 * SECOND_MS ? COMPLETE : CANCELLING),
      ['accepted'],
      ['accepted', 'accepted'],
    ],
    [
      'shows complete, and is cancelled then',
      (age) => (age < 40 * SECOND_MS ? COMPLETE : CANCELLED),
      ['cancelled'],
      ['cancelled'],
    ],
    [
      'shows complete twice with another state between, and is cancelled then',
      (age) =>
        age < 3 * SECOND_MS || (age >= 120 * SECOND_MS && age < 170 * SECOND_MS)
          ? COMPLETE
          : age < 170 * SECOND_MS
            ? CANCELLING
            : CANCELLED,
      ['cancelled'],
      ['accepted', 'cancelled'],
    ],
    ['disappears from the list', (age) => (age < 3 * SECOND_MS ? COMPLETE : null), ['accepted'], ['unknown']],
    ['is never in the list', () => null, ['accepted'], ['unknown']],
    ['has no known cancel status', () => ({ status: 'complete', cancelStatus: 'unknown' }), ['accepted'], ['unknown']],
    [
      'is complete and being cancelled',
      () => ({ status: 'complete', cancelStatus: 'cancelling' }),
      ['accepted'],
      ['accepted', 'accepted'],
    ],
    [
      'shows no date',
      (age) => ({ createdAtMs: null, ...(age < HOUR_MS ? CANCELLING : CANCELLED) }),
      ['cancelled'],
      ['accepted', 'cancelled'],
    ],
  ]

for (const [behaviour, task, accepted, unknown] of BEHAVIOURS) {
  test(`a task that ${behaviour}: ${accepted.join(', ')}; after an unknown outcome ${unknown.join(', ')}`, async (t) => {
    for (const [start, expected] of [
      ['accepted', accepted],
      ['unknown', unknown],
    ] as const) {
      const { addTask, cancel, clock, outcomes, calls, records, followUp } = simulate(t)
      addTask('t', task)
      cancel('c', 't', start)
      await clock.advance(DAY_MS + HOUR_MS)
      assert.deepEqual(outcomes(), expected, start)
      assert.equal(records.get('c')?.isFinal, true)
      const before = calls.length
      await clock.advance(DAY_MS)
      assert.deepEqual([calls.length, followUp.sizes().open], [before, 0])
    }
  })
}

test('two readings a minute apart prove that a task completed without being cancelled', async (t) => {
  const { addTask, cancel, clock, written } = simulate(t)
  addTask('t', () => COMPLETE)
  cancel('c', 't')
  await clock.advance(MINUTE_MS + SECOND_MS)
  assert.equal(written.length, 0)
  await clock.advance(3 * SECOND_MS)
  const [event] = written.slice()
  assert.deepEqual(
    [event?.outcome, event?.settledBy, event?.taskStatus, event?.taskCancelStatus],
    ['too-late', 'query', 'complete', 'none'],
  )
})

const CONTRADICTION_CASES = [
  ['that a reading for another cancellation shows cancelled later', false, CANCELLED, 1],
  ['that stays complete', false, COMPLETE, 0],
  ['that is cancelled after a later request', true, CANCELLED, 0],
] as const

for (const [name, isRequestedLater, later, expected] of CONTRADICTION_CASES) {
  test(`a task ${name} after too-late is a contradiction ${expected} times`, async (t) => {
    const { addTask, cancel, clock, outcomes, contradictions } = simulate(t)
    addTask('t', (age) => (age < 10 * MINUTE_MS ? COMPLETE : later))
    addTask('other', () => CANCELLING)
    cancel('c', 't')
    cancel('d', 'other')
    await clock.advance(5 * MINUTE_MS)
    assert.deepEqual(outcomes(), ['too-late'])
    await clock.advance(5 * MINUTE_MS - SECOND_MS)
    if (isRequestedLater) cancel('e', 't')
    await clock.advance(HOUR_MS)
    assert.deepEqual(contradictions, Array(expected).fill(['completed-task', { cancellationId: 'c' }]))
  })
}

test('a follow-up that ends without a proof repeats the outcome, a day after the request', async (t) => {
  const { addTask, cancel, clock, written } = simulate(t)
  addTask('t', () => CANCELLING)
  cancel('c', 't')
  await clock.advance(DAY_MS + HOUR_MS)
  assert.deepEqual(
    written.map(({ outcome, finishedAtMs, settledBy, taskCancelStatus }) => [
      outcome,
      finishedAtMs,
      settledBy,
      taskCancelStatus,
    ]),
    [['accepted', START_MS + DAY_MS, 'query', 'cancelling']],
  )
})

test('a list that cannot be read for an hour delays the end, and proves nothing', async (t) => {
  const { addTask, cancel, clock, outcomes, state } = simulate(t)
  addTask('t', () => COMPLETE)
  cancel('c', 't')
  await clock.advance(3 * SECOND_MS)
  state.isDown = true
  await clock.advance(HOUR_MS)
  assert.deepEqual(outcomes(), [])
  state.isDown = false
  await clock.advance(HOUR_MS)
  assert.deepEqual(outcomes(), ['too-late'])
})

test('an end that is in the record by then is kept', async (t) => {
  const { addTask, cancel, clock, outcomes, records, followUp } = simulate(t)
  addTask('t', () => CANCELLED)
  cancel('c', 't')
  records.set('c', { ...RECORD, outcome: 'rejected', isFinal: true })
  await clock.advance(HOUR_MS)
  assert.deepEqual([outcomes(), followUp.sizes().open], [[], 0])
})

test('a response that denies the cancel ends its follow-up', async (t) => {
  const { addTask, cancel, clock, outcomes, calls, followUp } = simulate(t)
  addTask('t', () => CANCELLED)
  cancel('c', 't', 'unknown')
  followUp.track({ taskNo: 't', requestedAtMs: START_MS }, outcomeEvent('c', 'rejected', START_MS))
  await clock.advance(HOUR_MS)
  assert.deepEqual([outcomes(), calls.length], [[], 0])
})

test('one reading serves every open cancellation of a page', async (t) => {
  const { addTask, cancel, clock, outcomes, calls } = simulate(t)
  for (let at = 0; at < 100; at += 1) {
    addTask(`t-${at}`, () => CANCELLED)
    cancel(`c-${at}`, `t-${at}`)
    cancel(`d-${at}`, `t-${at}`)
  }
  await clock.advance(10 * SECOND_MS)
  assert.deepEqual([outcomes().length, calls.length], [200, 1])
})

for (const [maxPerSecond, everyMs] of [
  [undefined, 1000],
  [100, 1000],
  [5, 2000],
  [1, 10_000],
] as const) {
  test(`with ${maxPerSecond ?? 'any number of'} calls a second the follow-up makes one in ${everyMs} ms at most`, () => {
    assert.equal(followUpCallEveryMs(maxPerSecond), everyMs)
  })
}

test('10,000 open cancellations on three days: the bound on calls holds, and each end is read', async (t) => {
  const { addTask, cancel, clock, outcomes, calls, followUp } = simulate(t)
  for (let at = 0; at < 10_000; at += 1) {
    addTask(`t-${at}`, (age) => (age < 20 * MINUTE_MS ? CANCELLING : CANCELLED), START_MS - (at % 3) * DAY_MS)
    cancel(`c-${at}`, `t-${at}`)
  }
  await clock.advance(10 * MINUTE_MS)
  assert.deepEqual([followUp.sizes().open, outcomes().length], [10_000, 0])
  await clock.advance(80 * MINUTE_MS)
  assert.equal(outcomes().length, 10_000)
  const gaps = calls.slice(1).map((atMs, at) => atMs - (calls[at] ?? 0))
  assert.ok(Math.min(...gaps) >= 1000, `${Math.min(...gaps)} ms`)
})

test('many open cancellations need the same memory after four hours as after one', async (t) => {
  const { addTask, cancel, clock, followUp, calls } = simulate(t)
  for (let at = 0; at < OPEN; at += 1) {
    addTask(`t-${at}`, () => CANCELLING, START_MS - (at % 3) * DAY_MS)
    cancel(`c-${at}`, `t-${at}`)
  }
  await clock.advance(HOUR_MS)
  const early = heapUsed()
  const callsBefore = calls.length
  await clock.advance(3 * HOUR_MS)
  const ratio = heapUsed() / early
  t.diagnostic(`${calls.length - callsBefore} calls, ${ratio.toFixed(3)} times the memory`)
  assert.equal(followUp.sizes().open, OPEN)
  assert.ok(ratio < 1.1, `${ratio} times the memory`)
})

const SHOWN = { pageSize: 7 }

test('open cancellations leave calls for callers as they are, and their own calls within the bound', async (t) => {
  const everyMs = 100
  const upstream = await startSandbox(t)
  const auditPath = join(await temporaryFolder(t), 'audit.db')
  const store = await openSqliteStore(auditPath)
  const intents = Array.from({ length: OPEN }, () =>
    intentOf({ taskNo: upstream.addTask(), requestedAtMs: Date.now() - HOUR_MS }),
  )
  await store.append(intents, [])
  await store.append(
    [],
    intents.map((intent) => outcomeEvent(intent.id, 'accepted', Date.now())),
  )
  await store.close()
  const env = { AUDIT_URL: `sqlite:${auditPath}`, UPSTREAM_URL: upstream.url }
  const timings = { settlementPauseMs: () => 1, followUpCallEveryMs: everyMs }
  const { api, adminUrl } = await startGateway(t, { env, overrides: { timings } })
  const open = async () =>
    /^gateway_follow_up_open (\d+)$/m.exec(await (await fetch(`${adminUrl}/metrics`)).text())?.[1]
  await eventually(async () => (await open()) === String(OPEN) || undefined)

  const [startedAtMs, before] = [performance.now(), upstream.calls.length]
  for (let count = 0; count < 30; count += 1) {
    await api.delete(`/tasks/${upstream.addTask()}`).set(asOperator).expect(202)
    await api.get('/tasks').query(SHOWN).set(asOperator).expect(200)
  }
  const elapsedMs = performance.now() - startedAtMs
  const since = upstream.calls.slice(before)
  const isOfCaller = (call: (typeof since)[number]) =>
    call.action === 'CancelTask' || call.params.PageSize === String(SHOWN.pageSize)
  const own = since.filter((call) => !isOfCaller(call)).length
  t.diagnostic(`${own} calls of the follow-up in ${Math.round(elapsedMs)} ms`)
  assert.equal(since.length - own, 60)
  assert.ok(own > 0 && own <= elapsedMs / everyMs + 1, `${own} calls in ${elapsedMs} ms`)
})

test('cancellations beyond the limit of memory are read in turns, and counted', async (t) => {
  const { addTask, cancel, clock, outcomes, followUp } = simulate(t, { max: 100 })
  for (let at = 0; at < 150; at += 1) {
    addTask(`t-${at}`, (age) => (age < 2 * HOUR_MS ? CANCELLING : CANCELLED))
    cancel(`c-${at}`, `t-${at}`)
  }
  assert.deepEqual(followUp.sizes(), { open: 100, unknown: 0, deferred: 50 })
  followUp.resume()
  await clock.advance(HOUR_MS)
  assert.deepEqual([followUp.sizes().open, outcomes().length], [100, 0])
  await clock.advance(12 * HOUR_MS)
  assert.equal(outcomes().length, 150)
})

test('the cancellation that was added first makes room, unless a request waits for it', async (t) => {
  const { addTask, cancel, clock, followUp, records } = simulate(t, { max: 2 })
  /** Those that are followed: the task of each is read within some seconds. */
  const followed = async (): Promise<readonly string[]> => {
    await clock.advance(10 * SECOND_MS)
    return [...records.keys()].filter((id) => followUp.seen(id) !== null)
  }
  const add = (id: string): void => {
    addTask(`t-${id}`, () => CANCELLING)
    cancel(id, `t-${id}`)
  }
  const hurry = (id: string): (() => void) => {
    const record = records.get(id)
    assert.ok(record)
    return followUp.hurry(record)
  }
  for (const id of ['a', 'b']) add(id)
  const leave = hurry('a')
  add('c')
  assert.deepEqual(await followed(), ['a', 'c'])
  hurry('c')
  add('d')
  hurry('d')
  assert.deepEqual(await followed(), ['a', 'c', 'd'])
  leave()
  add('e')
  assert.deepEqual(await followed(), ['c', 'd', 'e'])
  assert.equal(followUp.sizes().deferred, 2)
})

test('a replica leaves the cancellations of another one alone until that one has stopped', async (t) => {
  const { addTask, addRecord, clock, outcomes, calls, followUp, state } = simulate(t)
  addTask('t', () => CANCELLED)
  addRecord('c', 't', 'accepted', 'other')
  state.replicas = ['other', 'self']
  await clock.advance(SECOND_MS)
  followUp.resume()
  await clock.advance(HOUR_MS)
  assert.deepEqual([outcomes(), calls.length], [[], 0])
  state.replicas = ['self']
  await clock.advance(MINUTE_MS)
  assert.deepEqual(outcomes(), ['cancelled'])
})

test('a request that waits moves its task to the front, within the bound on calls', async (t) => {
  const { addTask, cancel, clock, outcomes, calls, followUp, records } = simulate(t)
  addTask('t', (age) => (age < 10 * MINUTE_MS ? CANCELLING : CANCELLED))
  cancel('c', 't')
  await clock.advance(9 * MINUTE_MS)
  const record = records.get('c')
  assert.ok(record)
  const before = calls.length
  const leave = followUp.hurry(record)
  await clock.advance(MINUTE_MS + 2 * SECOND_MS)
  assert.deepEqual(outcomes(), ['cancelled'])
  assert.ok(calls.length - before <= 63, `${calls.length - before} calls`)
  leave()
})

test('requests that wait hold up no other cancellation, however many there are', async (t) => {
  const { addTask, cancel, clock, outcomes, followUp, records } = simulate(t, { maxPerSecond: 1 })
  for (let at = 0; at < 5; at += 1) {
    addTask(`t-${at}`, () => CANCELLING, START_MS - at * DAY_MS)
    cancel(`c-${at}`, `t-${at}`)
  }
  addTask('other', (age) => (age < HOUR_MS ? CANCELLING : CANCELLED), START_MS - 9 * DAY_MS)
  cancel('d', 'other')
  await clock.advance(HOUR_MS)
  const leave = [...records.values()].filter(({ id }) => id !== 'd').map(followUp.hurry)
  await clock.advance(HOUR_MS)
  assert.deepEqual(outcomes(), ['cancelled'])
  for (const each of leave) each()
})
