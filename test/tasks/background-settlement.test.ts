import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import type { Fault } from '../../sandbox/src/server.ts'
import type { Task } from '../../src/alibaba/task-schemas.ts'
import type { AuditFilter, AuditRecord, Outcome, OutcomeEvent } from '../../src/audit/store.ts'
import { createBackgroundSettlement, outcomeShownBy } from '../../src/tasks/background-settlement.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { NO_METER } from '../../src/telemetry/meter.ts'
import { asOperator, eventually, type Started, type StartOptions, startGateway } from '../helpers/gateway.ts'
import { taskOf } from '../helpers/task.ts'

const MINUTE_MS = 60_000
const DAY_MS = 1440 * MINUTE_MS

describe('the outcome that a task proves', () => {
  for (const [status, cancelStatus, ageMs, outcome] of [
    ['executing', 'cancelled', 0, 'cancelled'],
    ['complete', 'cancelled', 0, 'cancelled'],
    ['executing', 'cancelling', 0, 'accepted'],
    ['complete', 'cancelling', 0, 'accepted'],
    ['waiting', 'none', DAY_MS, null],
    ['executing', 'none', DAY_MS, null],
    ['complete', 'none', MINUTE_MS - 1, null],
    ['complete', 'none', MINUTE_MS, 'failed'],
    ['unknown', 'none', DAY_MS, null],
    ['complete', 'unknown', DAY_MS, null],
  ] as const) {
    test(`${status}, cancelled: ${cancelStatus}, after ${ageMs} ms: ${outcome ?? 'nothing'}`, () => {
      assert.equal(outcomeShownBy({ status, cancelStatus }, ageMs), outcome)
    })
  }
})

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

const LOAD_EVERY_MS = 20

/** Background settlement alone, on a clock that the test advances. */
const startSettlement = (
  t: TestContext,
  find: () => Promise<Task | null>,
  {
    records = [],
    pauseMs = () => 0,
    known = 'unknown',
  }: { records?: readonly AuditRecord[]; pauseMs?: (ageMs: number) => number; known?: Outcome } = {},
) => {
  let nowMs = DAY_MS
  const written: OutcomeEvent[] = []
  const polls: string[] = []
  const filters: AuditFilter[] = []
  const settlement = createBackgroundSettlement({
    trail: {
      find: async () => ({ ...RECORD, outcome: known }),
      list: async (filter) => {
        filters.push(filter)
        return { records, next: null }
      },
      recordOutcome: async (outcome) => void written.push(outcome),
    },
    lookup: {
      find: (taskNo) => {
        polls.push(taskNo)
        return find()
      },
    },
    log: createLog({ level: 'silent', destination: { write: () => {} } }),
    meter: NO_METER,
    now: () => nowMs,
    monotonic: () => nowMs,
    loadEveryMs: LOAD_EVERY_MS,
    pauseMs,
  })
  t.after(settlement.close)
  const track = (outcome: Outcome, taskNo = 't') =>
    settlement.track({ taskNo, requestedAtMs: nowMs }, { ...EVENT, cancellationId: taskNo, outcome })
  const polled = (count: number, taskNo = 't') =>
    eventually(() => polls.filter((it) => it === taskNo).length >= count || undefined)
  const advance = (ms: number): void => {
    nowMs += ms
  }
  return { track, resume: settlement.resume, written, polls, polled, filters, advance }
}

const EVENT: OutcomeEvent = {
  cancellationId: 'c',
  outcome: 'unknown',
  attempts: 1,
  requestId: null,
  upstreamCode: null,
  finishedAtMs: 0,
  settledBy: null,
  taskStatus: null,
  taskCancelStatus: null,
  taskSeenAtMs: null,
}

test('a cancellation whose task was complete and not cancelled for a minute has failed', async (t) => {
  const { track, written, polled, advance } = startSettlement(t, async () =>
    taskOf({ status: 'complete', cancelStatus: 'none' }),
  )
  track('unknown')
  await polled(3)
  assert.deepEqual(written, [])
  advance(MINUTE_MS)
  assert.equal((await eventually<OutcomeEvent>(() => written[0])).outcome, 'failed')
})

test('a late response ends the polls, even while one is in flight', async (t) => {
  const poll = Promise.withResolvers<Task>()
  const { track, written, polls, polled } = startSettlement(t, () => poll.promise)
  track('unknown')
  await polled(1)
  track('accepted')
  track('unknown', 'another')
  poll.resolve(taskOf({ status: 'executing', cancelStatus: 'cancelling' }))
  await eventually<OutcomeEvent>(() => written[0])
  assert.deepEqual([written.map(({ cancellationId }) => cancellationId), polls], [['another'], ['t', 'another']])
})

test('polling ends after a day', async (t) => {
  const { track, written, polls, polled, advance } = startSettlement(t, async () => null)
  track('unknown')
  await polled(1)
  advance(DAY_MS)
  track('unknown', 'another')
  await polled(2, 'another')
  const before = polls.filter((taskNo) => taskNo === 't').length
  await polled(4, 'another')
  assert.deepEqual([written, polls.filter((taskNo) => taskNo === 't').length], [[], before])
})

test('a poll that fails proves nothing, and another follows', async (t) => {
  const { track, written, polls } = startSettlement(t, async () => {
    if (polls.length < 3) throw new Error('down')
    return taskOf({ status: 'executing', cancelStatus: 'cancelled' })
  })
  track('unknown')
  assert.equal((await eventually<OutcomeEvent>(() => written[0])).outcome, 'cancelled')
})

const RECORD: AuditRecord = {
  id: 'c',
  taskNo: 'old',
  via: 'api-key',
  issuer: null,
  caller: 'operator',
  callerDisplayName: null,
  clientIp: null,
  peerIp: null,
  userAgent: null,
  requestedAtMs: DAY_MS / 2,
  gatewayRequestId: 'g',
  outcome: 'unknown',
  attempts: 1,
  requestId: null,
  upstreamCode: null,
  finishedAtMs: DAY_MS / 2,
  settledBy: null,
  isFinal: false,
}

test('unknown outcomes that are loaded after a start are polled without delay, at any age', async (t) => {
  const pauseMs = (ageMs: number) => (ageMs === 0 ? 0 : DAY_MS)
  const { resume, written } = startSettlement(t, async () => taskOf({ cancelStatus: 'cancelled' }), {
    records: [RECORD],
    pauseMs,
  })
  resume()
  assert.equal((await eventually<OutcomeEvent>(() => written[0])).outcome, 'cancelled')
})

test('only cancellations from before the start and at most a day old are loaded, and later those of stopped replicas', async (t) => {
  const { resume, filters, advance } = startSettlement(t, async () => null)
  advance(MINUTE_MS)
  resume()
  const asked = await eventually(() => (filters.length >= 2 ? filters : undefined))
  assert.deepEqual(
    asked.slice(0, 2).map(({ outcome, fromMs, toMs }) => [outcome, fromMs, toMs]),
    [
      ['unknown', MINUTE_MS, DAY_MS],
      ['unknown', MINUTE_MS, DAY_MS + MINUTE_MS - LOAD_EVERY_MS],
    ],
  )
})

test('an outcome that was recorded in the meantime is kept, even if another replica recorded it', async (t) => {
  const { track, written, polled } = startSettlement(t, async () => taskOf({ cancelStatus: 'cancelled' }), {
    known: 'rejected',
  })
  track('unknown')
  await polled(1)
  track('unknown', 'another')
  await polled(1, 'another')
  assert.deepEqual(written, [])
})
