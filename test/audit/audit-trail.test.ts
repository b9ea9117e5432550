import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createAuditTrail } from '../../src/audit/audit-trail.ts'
import {
  AppendError,
  type AuditRecord,
  type AuditStore,
  type Intent,
  type OutcomeEvent,
  StoreError,
} from '../../src/audit/store.ts'
import { GatewayError } from '../../src/errors.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { NO_METER } from '../../src/telemetry/meter.ts'
import { deadlineIn } from '../../src/time.ts'
import { intentOf, outcomeOf } from '../helpers/audit-events.ts'
import { eventually } from '../helpers/gateway.ts'

const FULL = () => Promise.reject(new Error('canary of the disk'))
const WITH_REASON = () => Promise.reject(new StoreError('SQLITE_FULL'))
const NEVER = () => new Promise<never>(() => {})
const LONG = () => deadlineIn(60_000)

/** A trail on a store in memory, whose next writes can be scripted: each takes the first of `faults`. */
const start = (store: Partial<AuditStore> = {}) => {
  const intents: Intent[] = []
  const outcomes: OutcomeEvent[] = []
  const faults: (() => Promise<void>)[] = []
  const lines: string[] = []
  let closed = false
  const memory: AuditStore = {
    append: async (...[newIntents, newOutcomes]) => {
      await faults.shift()?.()
      intents.push(...newIntents)
      outcomes.push(...newOutcomes)
    },
    find: async () => null,
    list: async () => ({ records: [], next: null }),
    lastSighting: async () => null,
    listFinal: async ({ after }) => ({ records: [], next: after }),
    lastFinal: async () => 0,
    probe: async () => undefined,
    close: async () => {
      closed = true
    },
    ...store,
  }
  const trail = createAuditTrail({
    store: memory,
    meter: NO_METER,
    log: createLog({ level: 'info', destination: { write: (line) => void lines.push(line) } }),
  })
  const written = (intent: Intent) =>
    outcomes.filter(({ cancellationId }) => cancellationId === intent.id).map(({ outcome }) => outcome)
  return { trail, intents, outcomes, faults, lines, written, isClosed: () => closed }
}

const isUnavailable = (error: unknown): boolean =>
  error instanceof GatewayError && error.code === 'audit-unavailable' && error.facts.outcome === 'not-cancelled'

test('an intent is durable when beginning resolves', async () => {
  const { trail, intents } = start()
  const intent = intentOf()
  await trail.recordIntent(intent, LONG())
  assert.deepEqual(intents, [intent])
})

test('an intent that cannot be written stops the cancellation, and is an alarm that quotes no error', async () => {
  const { trail, faults, lines, outcomes } = start()
  faults.push(FULL)
  const intent = intentOf()
  await assert.rejects(trail.recordIntent(intent, LONG()), isUnavailable)
  assert.equal(outcomes.length, 0)
  assert.match(lines.join(), new RegExp(`"level":"error".*"cancellationId":"${intent.id}"`))
  assert.doesNotMatch(lines.join(), /canary/)
})

test('an intent that becomes durable too late stops the cancellation, and ends as failed', async () => {
  const { trail, faults, intents, outcomes } = start()
  const disk = Promise.withResolvers<void>()
  faults.push(() => disk.promise)
  const intent = intentOf()
  await assert.rejects(trail.recordIntent(intent, deadlineIn(10)), isUnavailable)
  assert.equal(intents.length, 0)

  disk.resolve()
  const outcome = await eventually(() => outcomes[0])

  assert.deepEqual([outcome.cancellationId, outcome.outcome, outcome.attempts], [intent.id, 'failed', 0])
})

test('an intent that nobody knows to be written ends as failed, whether it was or not', async () => {
  const { trail, faults, intents, written } = start()
  faults.push(
    () => Promise.reject(new AppendError('indeterminate', 'ECONNRESET')),
    () => Promise.reject(new AppendError('invalid', '23503')),
  )
  const intent = intentOf()
  await assert.rejects(trail.recordIntent(intent, LONG()), isUnavailable)
  await trail.close(LONG())
  assert.deepEqual([intents, written(intent)], [[intent], ['failed']])
})

test('an outcome whose intent is gone takes it along', async () => {
  const { trail, faults, intents, written } = start()
  const intent = intentOf()
  await trail.recordIntent(intent, LONG())
  faults.push(() => Promise.reject(new AppendError('invalid', '23503')))
  await trail.recordOutcome(outcomeOf(intent), LONG())
  assert.deepEqual([intents, written(intent)], [[intent, intent], ['accepted']])
})

test('an outcome that can never be written is given up, with an alarm', async () => {
  const { trail, lines } = start({ append: () => Promise.reject(new AppendError('invalid', '23503')) })
  const intent = intentOf()
  await trail.recordOutcome(outcomeOf(intent), LONG())
  const end = new RegExp(`"level":"error".*"cancellationId":"${intent.id}","reason":"23503".*never written`)
  assert.match(lines.at(-1) ?? '', end)
})

test('an intent whose late write fails leaves no outcome behind', async () => {
  const { trail, faults, intents, outcomes } = start()
  const disk = Promise.withResolvers<void>()
  faults.push(() => disk.promise)
  await assert.rejects(trail.recordIntent(intentOf(), deadlineIn(10)), isUnavailable)
  disk.reject(new Error('full'))
  await trail.close(LONG())
  assert.deepEqual([intents, outcomes], [[], []])
})

test('finishing resolves once the outcome is durable', async () => {
  const { trail, outcomes } = start()
  const outcome = outcomeOf(intentOf())
  await trail.recordOutcome(outcome, LONG())
  assert.deepEqual(outcomes, [outcome])
})

test('an outcome that cannot be written is tried again until it can, each failure an alarm', async () => {
  const { trail, faults, lines, written } = start()
  faults.push(FULL, FULL)
  const intent = intentOf()
  await trail.recordOutcome(outcomeOf(intent), LONG())
  assert.deepEqual(written(intent), ['accepted'])
  assert.deepEqual(
    lines.map((line) => JSON.parse(line)).map(({ level, waitMs }) => [level, waitMs]),
    [
      ['error', 100],
      ['error', 200],
    ],
  )
})

test('finishing waits no longer than its deadline, and the writing goes on', async () => {
  const { trail, faults, outcomes, written } = start()
  faults.push(FULL)
  const intent = intentOf()
  await trail.recordOutcome(outcomeOf(intent), deadlineIn(0))
  assert.deepEqual(written(intent), [])
  await eventually(() => outcomes[0])
  assert.deepEqual(written(intent), ['accepted'])
})

test('finishing waits no longer than a second, since the answer need not', async () => {
  const { trail, faults } = start()
  faults.push(NEVER)
  const startedAt = performance.now()
  await trail.recordOutcome(outcomeOf(intentOf()), LONG())
  const waitedMs = performance.now() - startedAt
  assert.ok(waitedMs > 900 && waitedMs < 10_000, `${waitedMs} ms`)
})

test('a refusal is written with its intent, in one append', async () => {
  let appended: Parameters<AuditStore['append']> | undefined
  const { trail } = start({
    append: async (...events) => {
      appended = events
    },
  })
  const intent = intentOf()
  await trail.recordUnsent(intent, outcomeOf(intent, { outcome: 'refused' }), LONG())
  const [intents, [refusal, ...more] = []] = appended ?? []
  assert.deepEqual(intents, [intent])
  assert.deepEqual([refusal?.cancellationId, refusal?.outcome, more.length], [intent.id, 'refused', 0])
})

test('a refusal that cannot be written is an alarm and nothing else', async () => {
  const { trail, faults, lines } = start()
  faults.push(FULL)
  const intent = intentOf()
  await trail.recordUnsent(intent, outcomeOf(intent, { outcome: 'refused' }), LONG())
  assert.match(lines.join(), new RegExp(`"level":"error".*"cancellationId":"${intent.id}"`))
})

test('a refusal is not waited for beyond its deadline', async () => {
  const { trail, faults } = start()
  faults.push(NEVER)
  const intent = intentOf()
  await trail.recordUnsent(intent, outcomeOf(intent, { outcome: 'refused' }), deadlineIn(10))
})

test('closing waits for outcomes that are still being tried, then closes the store', async () => {
  const { trail, faults, written, isClosed } = start()
  faults.push(FULL, FULL)
  const intent = intentOf()
  await trail.recordOutcome(outcomeOf(intent), deadlineIn(0))
  await trail.close(LONG())
  assert.deepEqual(written(intent), ['accepted'])
  assert.equal(isClosed(), true)
})

test('closing waits for the outcome that a late intent brings, though it takes more than one try', async () => {
  const { trail, faults, written } = start()
  const disk = Promise.withResolvers<void>()
  faults.push(() => disk.promise, FULL)
  const intent = intentOf()
  await assert.rejects(trail.recordIntent(intent, deadlineIn(0)), isUnavailable)
  const closed = trail.close(LONG())
  disk.resolve()
  await closed
  assert.deepEqual(written(intent), ['failed'])
})

test('closing gives up at its deadline what still cannot be written, with an alarm that names it', async () => {
  const { trail, lines, isClosed } = start({ append: FULL })
  const intent = intentOf()
  await trail.recordOutcome(outcomeOf(intent), deadlineIn(0))
  await trail.close(deadlineIn(10))
  assert.match(lines.at(-1) ?? '', new RegExp(`"level":"error".*"cancellationId":"${intent.id}".*never written`))
  assert.equal(isClosed(), true)
})

test('closing ends soon after its deadline although the store never answers', { timeout: 10_000 }, async () => {
  const { trail, isClosed } = start({ append: NEVER })
  await trail.recordOutcome(outcomeOf(intentOf()), deadlineIn(0))
  await trail.close(deadlineIn(10))
  assert.equal(isClosed(), true)
})

/** The messages that name the reason, and that reason. */
const reasonsIn = (lines: readonly string[]) =>
  lines
    .map((line) => JSON.parse(line))
    .filter(({ reason }) => reason !== undefined)
    .map(({ level, msg, reason }) => `${level} ${msg}: ${reason}`)

test('each failure of the store is logged with its reason', async () => {
  const { trail, faults, lines } = start({ find: WITH_REASON, list: WITH_REASON, probe: WITH_REASON })
  const intent = intentOf()
  faults.push(WITH_REASON)
  await assert.rejects(trail.recordIntent(intent, LONG()))
  faults.push(WITH_REASON)
  await trail.recordUnsent(intent, outcomeOf(intent), LONG())
  faults.push(WITH_REASON)
  await trail.recordOutcome(outcomeOf(intent), LONG())
  await assert.rejects(trail.find(intent.id, LONG()))
  await assert.rejects(trail.list({ limit: 1, before: null }, LONG()))
  await trail.isWritable()
  assert.deepEqual(reasonsIn(lines), [
    'error the intent of a cancellation could not be written: SQLITE_FULL',
    'error a refused cancel could not be recorded: SQLITE_FULL',
    'error the outcome of a cancellation could not be written; the write is retried: SQLITE_FULL',
    'error the audit trail could not be read: SQLITE_FULL',
    'error the audit trail could not be read: SQLITE_FULL',
    'error the audit trail is not writable; the gateway is not ready: SQLITE_FULL',
  ])
})

test('a store that does not answer in time is logged as such', async () => {
  const { trail, lines } = start({ append: NEVER, list: NEVER })
  await assert.rejects(trail.recordIntent(intentOf(), deadlineIn(10)))
  await assert.rejects(trail.list({ limit: 1, before: null }, deadlineIn(10)))
  assert.deepEqual(reasonsIn(lines), [
    'error the intent of a cancellation could not be written: TIMEOUT',
    'error the audit trail could not be read: TIMEOUT',
  ])
})

test('a record that can not be written is reported once, and once more when it can', async () => {
  let isFull = true
  const { trail, lines } = start({ probe: () => (isFull ? WITH_REASON() : Promise.resolve()) })
  for (let count = 0; count < 3; count += 1) assert.equal(await trail.isWritable(), false)
  isFull = false
  for (let count = 0; count < 3; count += 1) assert.equal(await trail.isWritable(), true)
  assert.deepEqual(
    lines.map((line) => JSON.parse(line)).map(({ level, msg }) => `${level} ${msg}`),
    ['error the audit trail is not writable; the gateway is not ready', 'info the audit trail is writable again'],
  )
})

test('the record is writable as long as probing it works', async () => {
  assert.equal(await start().trail.isWritable(), true)
  assert.equal(await start({ probe: FULL }).trail.isWritable(), false)
})

test('a store that does not answer a probe is not writable', async () => {
  assert.equal(await start({ probe: NEVER }).trail.isWritable(), false)
})

test('records are read from the store', async () => {
  const { instanceId: _, deadlineAtMs: __, ...kept } = intentOf()
  const { cancellationId: ___, ...outcome } = outcomeOf(intentOf())
  const record: AuditRecord = { ...kept, ...outcome, isFinal: false }
  const page = { records: [record], next: { requestedAtMs: 1000, seq: 7 } }
  const { trail } = start({ find: async () => record, list: async () => page })
  assert.equal(await trail.find(record.id, deadlineIn(5000)), record)
  assert.equal(await trail.list({ limit: 1, before: null }, deadlineIn(5000)), page)
})

test('nobody waits for a store that does not answer for longer than there is time', async () => {
  const { trail } = start({ find: NEVER, list: NEVER })
  const ended: string[] = []
  const end = (name: string) => () => void ended.push(name)
  const patient = trail.find('c-1', deadlineIn(1000)).catch(end('patient'))
  const hurried = [trail.find('c-1', deadlineIn(10)), trail.list({ limit: 1, before: null }, deadlineIn(10))]
  for (const reading of hurried) await assert.rejects(reading, { code: 'audit-unavailable' })
  assert.deepEqual(ended, [])
  await patient
})

test('a store that cannot be read is reported as such, not as a bug', async () => {
  const { trail } = start({ find: FULL, list: FULL })
  await assert.rejects(trail.find('c-1', deadlineIn(5000)), { code: 'audit-unavailable' })
  await assert.rejects(trail.list({ limit: 1, before: null }, deadlineIn(5000)), { code: 'audit-unavailable' })
})
