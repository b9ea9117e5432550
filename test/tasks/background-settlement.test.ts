import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import type { Fault } from '../../sandbox/src/server.ts'
import type { Task } from '../../src/alibaba/task-schemas.ts'
import type { AuditFilter, AuditRecord, Outcome, OutcomeEvent } from '../../src/audit/audit-trail.ts'
import { createBackgroundSettlement, outcomeShownBy } from '../../src/tasks/background-settlement.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { NO_METER } from '../../src/telemetry/meter.ts'
import { asOperator, eventually, type Started, type StartOptions, startGateway } from '../helpers/gateway.ts'
import { taskOf } from '../helpers/task.ts'

const MINUTE_MS = 60_000
const DAY_MS = 1440 * MINUTE_MS

describe('what a task proves about a request for its cancellation', () => {
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

/** A gateway whose one cancel ended as nobody knows how, since the task could not be asked either. */
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
  test(`an unknown outcome is ${outcome} once the task shows it, and nobody has to ask`, async (t) => {
    const started = await startUnknown(t, RESET_AFTER_EFFECT, { sandbox: { cancellingMs }, overrides: AT_ONCE })
    assert.equal((await started.record(started.taskNo)).outcome, 'unknown')
    started.upstream.clearFaults()
    const found = await settled(started, started.taskNo)
    assert.deepEqual([found.outcome, found.settledBy, found.requestId], [outcome, 'query', null])
    assert.equal(found.attempts, 1)
  })
}

test('what a process before left unknown is settled after the next start', async (t) => {
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

test('a task that is not cancelled proves nothing, however often it is looked at', async (t) => {
  const started = await startUnknown(t, RESET, { overrides: AT_ONCE })
  started.upstream.clearFaults()
  for (let looks = 0; looks < 5; looks += 1) await started.upstream.nextCall('QueryTaskList')
  assert.equal((await started.record(started.taskNo)).outcome, 'unknown')
})

const LOAD_EVERY_MS = 20

/** The looks alone, on a clock that moves when it is told to. */
const startLooks = (
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
  const looks: string[] = []
  const filters: AuditFilter[] = []
  const unsettled = createBackgroundSettlement({
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
        looks.push(taskNo)
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
  t.after(unsettled.close)
  const note = (outcome: Outcome, taskNo = 't') =>
    unsettled.track({ taskNo, requestedAtMs: nowMs }, { ...EVENT, cancellationId: taskNo, outcome })
  const looked = (count: number, taskNo = 't') =>
    eventually(() => looks.filter((it) => it === taskNo).length >= count || undefined)
  const advance = (ms: number): void => {
    nowMs += ms
  }
  return { note, resume: unsettled.resume, written, looks, looked, filters, advance }
}

const EVENT: OutcomeEvent = {
  cancellationId: 'c',
  outcome: 'unknown',
  attempts: 1,
  requestId: null,
  upstreamCode: null,
  finishedAtMs: 0,
  settledBy: null,
}

test('what was complete and not cancelled for a minute never took effect', async (t) => {
  const { note, written, looked, advance } = startLooks(t, async () =>
    taskOf({ status: 'complete', cancelStatus: 'none' }),
  )
  note('unknown')
  await looked(3)
  assert.deepEqual(written, [])
  advance(MINUTE_MS)
  assert.equal((await eventually<OutcomeEvent>(() => written[0])).outcome, 'failed')
})

test('an answer that comes late ends the looking, even while one is under way', async (t) => {
  const look = Promise.withResolvers<Task>()
  const { note, written, looks, looked } = startLooks(t, () => look.promise)
  note('unknown')
  await looked(1)
  note('accepted')
  note('unknown', 'another')
  look.resolve(taskOf({ status: 'executing', cancelStatus: 'cancelling' }))
  await eventually<OutcomeEvent>(() => written[0])
  assert.deepEqual([written.map(({ cancellationId }) => cancellationId), looks], [['another'], ['t', 'another']])
})

test('after a day nobody looks any more', async (t) => {
  const { note, written, looks, looked, advance } = startLooks(t, async () => null)
  note('unknown')
  await looked(1)
  advance(DAY_MS)
  note('unknown', 'another')
  await looked(2, 'another')
  const before = looks.filter((taskNo) => taskNo === 't').length
  await looked(4, 'another')
  assert.deepEqual([written, looks.filter((taskNo) => taskNo === 't').length], [[], before])
})

test('a look that fails is no finding, and another follows', async (t) => {
  const { note, written, looks } = startLooks(t, async () => {
    if (looks.length < 3) throw new Error('down')
    return taskOf({ status: 'executing', cancelStatus: 'cancelled' })
  })
  note('unknown')
  assert.equal((await eventually<OutcomeEvent>(() => written[0])).outcome, 'cancelled')
})

const RECORD: AuditRecord = {
  id: 'c',
  taskNo: 'old',
  via: 'api-key',
  issuer: null,
  caller: 'operator',
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
}

test('what is taken up after a start is looked at without delay, however old it is', async (t) => {
  const pauseMs = (ageMs: number) => (ageMs === 0 ? 0 : DAY_MS)
  const { resume, written } = startLooks(t, async () => taskOf({ cancelStatus: 'cancelled' }), {
    records: [RECORD],
    pauseMs,
  })
  resume()
  assert.equal((await eventually<OutcomeEvent>(() => written[0])).outcome, 'cancelled')
})

test('only what was asked before the start is taken up, no older than a day, and later what others may have left', async (t) => {
  const { resume, filters, advance } = startLooks(t, async () => null)
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

test('what the record has the answer of by now is left as it is, whoever wrote that', async (t) => {
  const { note, written, looked } = startLooks(t, async () => taskOf({ cancelStatus: 'cancelled' }), {
    known: 'rejected',
  })
  note('unknown')
  await looked(1)
  note('unknown', 'another')
  await looked(1, 'another')
  assert.deepEqual(written, [])
})
