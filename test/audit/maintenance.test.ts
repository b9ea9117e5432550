import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { createMaintenance } from '../../src/audit/maintenance.ts'
import type { AbandonedIntent, OpenedStore } from '../../src/audit/store.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { intentOf, outcomeOf } from '../helpers/audit-events.ts'
import { eventually } from '../helpers/gateway.ts'
import { openTestStore, sqliteLocation } from '../helpers/stores.ts'

const DAY_MS = 24 * 3_600_000

const start = (t: TestContext, store: Pick<OpenedStore, 'recover' | 'backfill' | 'prune'>, everyMs = 1) => {
  const lines: string[] = []
  const lost: AbandonedIntent[] = []
  const log = createLog({ level: 'info', destination: { write: (line) => void lines.push(line) } })
  const onAbandoned = (intent: AbandonedIntent['intent'], outcome: AbandonedIntent['outcome']) =>
    void lost.push({ intent, outcome })
  const maintenance = createMaintenance({ store, retentionDays: 365, onAbandoned, log, everyMs })
  t.after(() => maintenance.close())
  maintenance.start()
  return { lines, lost, maintenance }
}

const NOTHING = {
  recover: async () => [],
  backfill: async () => false,
  prune: null,
}

test('records beyond the days that they are kept are removed, however many, and no other', async (t) => {
  const store = await openTestStore(t, await sqliteLocation(t))
  const nowMs = Date.now()
  const before = (ageMs: number) => intentOf({ requestedAtMs: nowMs - ageMs })
  const old = Array.from({ length: 450 }, () => before(366 * DAY_MS))
  await store.append(
    old,
    old.map((intent) => outcomeOf(intent)),
  )
  // An hour is given on top.
  const kept = [before(365 * DAY_MS + 3_000_000), before(0)]
  await store.append(kept, [])
  start(t, store)
  await eventually(async () =>
    (await store.taskNos({ toMs: nowMs - 365.5 * DAY_MS })).length === 0 ? true : undefined,
  )
  assert.equal((await store.taskNos({})).length, 2)
})

test('what is lost is told, with a warning that names it', async (t) => {
  const intent = intentOf()
  const outcome = outcomeOf(intent, { outcome: 'unknown' })
  const found: AbandonedIntent[][] = [[], [{ intent, outcome }]]
  const { lost, lines } = start(t, { ...NOTHING, recover: async () => found.shift() ?? [] })
  await eventually(() => lost[0])
  assert.deepEqual(lost, [{ intent, outcome }])
  assert.match(lines.join(), new RegExp(`"level":"warn".*"cancellationId":"${intent.id}"`))
})

test('what fails is an alarm and tried again, and neither half keeps the other', async (t) => {
  let attempts = 0
  const failing = async (): Promise<never> => {
    attempts += 1
    throw new Error('down')
  }
  const { lines } = start(t, { recover: failing, backfill: failing, prune: failing })
  await eventually(() => (attempts >= 6 ? true : undefined))
  assert.match(lines.join(), /"level":"error".*maintenance of the audit trail failed/)
})

test('once closed it does nothing more', async (t) => {
  const counted = () => {
    let rounds = 0
    const recover = async () => {
      rounds += 1
      return []
    }
    const { maintenance } = start(t, { ...NOTHING, recover })
    return { maintenance, rounds: () => rounds }
  }
  const [closed, other] = [counted(), counted()]
  closed.maintenance.close()
  const before = closed.rounds()
  await eventually(() => (other.rounds() > before + 3 ? true : undefined))
  assert.equal(closed.rounds(), before)
})

test('work that is under way when it is closed, and fails since the record is closed too, is no alarm', async (t) => {
  const [begun, ended] = [Promise.withResolvers<void>(), Promise.withResolvers<never>()]
  const recover = () => {
    begun.resolve()
    return ended.promise
  }
  const { maintenance, lines } = start(t, { ...NOTHING, recover })
  await begun.promise
  maintenance.close()
  ended.reject(new Error('the audit store is closed'))
  await ended.promise.catch(() => undefined)
  await new Promise(setImmediate)
  assert.deepEqual(lines, [])
})

test('entries that the projection lacks are added batch by batch, until none is left', async (t) => {
  let left = 3
  const backfill = async (): Promise<boolean> => {
    left -= 1
    return left > 0
  }
  start(t, { ...NOTHING, backfill }, DAY_MS)
  await eventually(() => (left === 0 ? true : undefined))
})
