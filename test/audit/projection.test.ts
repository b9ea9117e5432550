import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { array, assert as assertProperty, asyncProperty, constantFrom, record } from 'fast-check'
import { precedenceOrder } from '../../src/audit/precedence.ts'
import type { AuditFilter, Intent, OpenedStore } from '../../src/audit/store.ts'
import { intentOf, outcomeOf } from '../helpers/audit-events.ts'
import { type Database, type PostgresServer, waitForBlockedStatement } from '../helpers/postgres.ts'
import { requires } from '../helpers/requirements.ts'
import {
  openTestStore,
  postgresLocation,
  type StoreLocation,
  sqliteLocation,
  useStores,
  WITHOUT_ENDS,
} from '../helpers/stores.ts'

const { server, testEach } = useStores()

/** How the version before left a record: events, and no projection. */
const WITHOUT_PROJECTION: Readonly<Record<string, string>> = {
  SQLite: `
    DROP TRIGGER intents_are_projected; DROP TRIGGER outcomes_are_projected; DROP TRIGGER removed_intents_are_projected;
    DROP TABLE current_outcomes; DROP TABLE projection_progress; ${WITHOUT_ENDS.SQLite}`,
  PostgreSQL: `
    ${WITHOUT_ENDS.PostgreSQL}
    DROP TABLE audit.current_outcomes, audit.projection_progress;
    DROP FUNCTION audit.project(text), audit.project_intents(), audit.project_outcomes(), audit.project_removals(),
      audit.project_older(integer) CASCADE;
    ALTER TABLE audit.intents DROP COLUMN caller_display_name;
    DELETE FROM audit.schema_version WHERE version > 1`,
}

const OUTCOMES = ['cancelled', 'too-late', 'accepted', 'refused', 'rejected', 'failed', 'unknown', 'later'] as const

interface Event {
  readonly outcome: (typeof OUTCOMES)[number]
  readonly isReading: boolean
}

const FINAL = /^(cancelled|too-late|refused|rejected|failed)$/

/** Without readings that repeat a final outcome of an earlier reading: two replicas that read the same write it once. */
const withoutRepeats = (events: readonly Event[]): readonly Event[] =>
  events.filter(({ outcome, isReading }, at) => {
    const isKnown = events.slice(0, at).some((event) => event.isReading && event.outcome === outcome)
    return !(isReading && FINAL.test(outcome) && isKnown)
  })

/** The rules once more, in other words than those of the product. */
const currentOf = (all: readonly Event[]): string | null => {
  const events = withoutRepeats(all)
  const isDenied = events.some(({ outcome, isReading }) => !isReading && /^(refused|rejected|failed)$/.test(outcome))
  const counting = events.filter(({ isReading }) => !(isDenied && isReading))
  for (const outcome of ['cancelled', 'too-late'])
    if (counting.some((event) => event.outcome === outcome)) return outcome
  const definite = counting.filter(({ outcome }) => outcome !== 'unknown')
  const answers = definite.filter(({ isReading }) => !isReading)
  return (answers.at(-1) ?? definite.at(-1) ?? counting.at(-1))?.outcome ?? null
}

const insertOf = (intent: Intent, { outcome, isReading }: Event, finishedAtMs: number): string =>
  `INSERT INTO outcomes (cancellation_id, outcome, finished_at, settled_by)
    VALUES ('${intent.id}', '${outcome}', ${finishedAtMs}, ${isReading ? "'query'" : 'NULL'});`

/** Ids of the cancellations that a filter finds, on all pages. */
const idsOf = async (store: Pick<OpenedStore, 'list'>, filter: Partial<AuditFilter>): Promise<readonly string[]> => {
  const found: string[] = []
  for (let before: AuditFilter['before'] = null, more = true; more; more = before !== null) {
    const { records, next } = await store.list({ limit: 100, before, ...filter })
    found.push(...records.map(({ id }) => id))
    before = next
  }
  return found
}

testEach('of any events in any order the projection shows the outcome that their rules give', async (t, place) => {
  const store = await openTestStore(t, place)
  const event = record({ outcome: constantFrom(...OUTCOMES), isReading: constantFrom(true, false) })
  const histories = array(array(event, { maxLength: 6 }), { minLength: 4, maxLength: 8 })
  await assertProperty(
    asyncProperty(histories, async (all) => {
      const caller = randomUUID()
      const intents = all.map(() => intentOf({ caller }))
      await store.append(intents, [])
      const rounds = [0, 1, 2, 3, 4, 5].flatMap((at) =>
        all.flatMap((events, index) => {
          const [intent, event] = [intents[index], events[at]]
          return intent && event ? [insertOf(intent, event, at)] : []
        }),
      )
      await place.execute(rounds.join('\n'))
      for (const outcome of [...OUTCOMES.filter((one) => one !== 'later'), 'pending'] as const) {
        const expected = intents.filter((_, index) => (currentOf(all[index] ?? []) ?? 'pending') === outcome)
        const found = await idsOf(store, { caller, outcome })
        assert.deepEqual([...found].sort(), expected.map(({ id }) => id).sort(), outcome)
      }
      for (const [index, intent] of intents.entries()) {
        const expected = currentOf(all[index] ?? []) ?? 'pending'
        const shown = expected === 'later' ? 'unknown' : expected
        assert.equal((await store.find(intent.id))?.outcome, shown)
      }
    }),
    { numRuns: 30 },
  )
})

const compact = (text: string): string => text.replace(/\s+/g, ' ')

test('the triggers of both databases hold the precedence of the readers, to the letter', async (t) => {
  const sqlite = await sqliteLocation(t)
  await openTestStore(t, sqlite)
  const database = new DatabaseSync(sqlite.path)
  t.after(() => database.close())
  const trigger = database.prepare("SELECT sql FROM sqlite_master WHERE name = 'outcomes_are_projected'").get()
  assert.ok(compact(String(trigger?.sql)).includes(precedenceOrder('outcomes')))
  if (!requires(t, 'postgres')) return
  const postgres = await (await server(t)).database()
  await openTestStore(t, await placeOf(postgres))
  const [made] = await postgres.query("SELECT pg_get_functiondef('audit.project'::regproc) AS text")
  assert.ok(compact(String(made?.text)).includes(precedenceOrder('audit.outcomes')))
})

const placeOf = (database: Database): Promise<StoreLocation> =>
  postgresLocation({ database: async () => database } satisfies Pick<PostgresServer, 'database'>)

testEach(
  'a record of the version before is projected in batches, and each answer is right meanwhile',
  async (t, place, engine) => {
    const before = await openTestStore(t, place)
    const intents = Array.from({ length: 450 }, (_, at) =>
      intentOf({ requestedAtMs: 1000 + at, caller: at % 2 === 0 ? 'even' : 'odd', deadlineAtMs: Date.now() + 60_000 }),
    )
    const outcomes = intents.map((intent, at) => outcomeOf(intent, { outcome: at % 10 === 0 ? 'unknown' : 'accepted' }))
    await before.append(intents, outcomes)
    await before.close()
    await place.execute(WITHOUT_PROJECTION[engine] ?? '')
    const expected = intents.filter((_, at) => at % 10 === 0).map(({ id }) => id)
    const isRight = async (store: OpenedStore): Promise<void> => {
      assert.deepEqual([...(await idsOf(store, { outcome: 'unknown' }))].sort(), [...expected].sort())
      assert.equal((await idsOf(store, { outcome: 'accepted', caller: 'odd' })).length, 225)
      const owner = { via: 'api-key', issuer: null, caller: 'even' }
      assert.deepEqual([...(await idsOf(store, { outcome: 'unknown', owner }))].sort(), [...expected].sort())
    }

    const interrupted = await openTestStore(t, place)
    await isRight(interrupted)
    assert.equal(await interrupted.backfill(), true)
    await isRight(interrupted)
    await interrupted.close()
    const store = await openTestStore(t, place)
    // An event for a cancellation that is not projected yet, and a new cancellation.
    const [oldest] = intents
    assert.ok(oldest)
    await store.append([], [outcomeOf(oldest, { outcome: 'cancelled', finishedAtMs: 3000 })])
    expected.splice(expected.indexOf(oldest.id), 1)
    await isRight(store)
    let batches = 0
    while (await store.backfill()) {
      batches += 1
      await isRight(store)
    }
    assert.ok(batches > 1, `${batches} batches`)
    await isRight(await openAgain(t, place, store))
  },
)

const untilDone = async (batch: () => Promise<boolean>): Promise<void> => {
  for (let isThereMore = true; isThereMore; ) isThereMore = await batch()
}

const openAgain = async (t: TestContext, place: StoreLocation, store: { close(): Promise<void> }) => {
  await store.close()
  return openTestStore(t, place)
}

testEach('a projection that is wrong is made again from the events, while the record is used', async (t, place) => {
  const store = await openTestStore(t, place)
  const intents = Array.from({ length: 300 }, (_, at) => intentOf({ requestedAtMs: 1000 + at }))
  await store.append(
    intents,
    intents.map((intent) => outcomeOf(intent)),
  )
  assert.equal((await idsOf(store, { outcome: 'accepted' })).length, 300)
  await place.execute("UPDATE current_outcomes SET outcome = 'failed' WHERE requested_at < 1100")
  assert.equal((await idsOf(store, { outcome: 'failed' })).length, 100)

  await place.execute(
    'UPDATE projection_progress SET requested_at = (SELECT max(requested_at) + 1 FROM intents), seq = 0',
  )
  await untilDone(store.backfill)

  assert.equal((await idsOf(store, { outcome: 'accepted' })).length, 300)
  assert.equal((await idsOf(store, { outcome: 'failed' })).length, 0)
})

testEach('an intent that the version before left pending is unknown once it is projected', async (t, place, engine) => {
  const before = await openTestStore(t, place)
  const intent = intentOf({ deadlineAtMs: Date.now() - 60_000 })
  await before.append([intent], [])
  await before.close()
  await place.execute(WITHOUT_PROJECTION[engine] ?? '')
  const store = await openTestStore(t, place)
  await untilDone(store.backfill)
  await store.recover()
  assert.equal((await store.find(intent.id))?.outcome, 'unknown')
  assert.deepEqual(await idsOf(store, { outcome: 'unknown' }), [intent.id])
})

testEach('an entry that is removed is removed from the projection too', async (t, place) => {
  const store = await openTestStore(t, place)
  const old = intentOf({ requestedAtMs: Date.now() - 7_200_000 })
  const young = intentOf({ requestedAtMs: Date.now() })
  await store.append([old, young], [outcomeOf(old)])
  await untilDone(async () => (await store.prune?.(3_600_000)) === true)
  assert.deepEqual(await idsOf(store, { outcome: 'accepted' }), [])
  assert.equal(await place.projected(), 1)
  assert.deepEqual(await idsOf(store, { outcome: 'pending' }), [young.id])
})

const OWNERS = [
  { via: 'jwt', issuer: 'https://a.example', caller: 'alice' },
  { via: 'session', issuer: 'https://a.example', caller: 'alice' },
  { via: 'jwt', issuer: 'https://b.example', caller: 'alice' },
  { via: 'api-key', issuer: null, caller: 'alice' },
] as const

testEach('owners that share a name see their own entries, on all pages and with each filter', async (t, place) => {
  const store = await openTestStore(t, place)
  const outcomes = ['accepted', 'unknown', 'rejected', null] as const
  const all = Array.from({ length: 160 }, (_, at) => ({
    intent: intentOf({ ...OWNERS[at % 4], taskNo: `t-${at % 5}`, requestedAtMs: 1000 + (at % 40) }),
    outcome: outcomes[Math.floor(at / 4) % 4] ?? null,
  }))
  await store.append(
    all.map(({ intent }) => intent),
    all.flatMap(({ intent, outcome }) => (outcome === null ? [] : [outcomeOf(intent, { outcome })])),
  )
  for (const owner of OWNERS) {
    const own = all.filter(({ intent }) => intent.via === owner.via && intent.issuer === owner.issuer)
    for (const outcome of [undefined, 'accepted', 'pending'] as const) {
      for (const taskNo of [undefined, 't-3']) {
        const expected = own.filter(
          (one) =>
            (outcome === undefined || (one.outcome ?? 'pending') === outcome) &&
            (taskNo === undefined || one.intent.taskNo === taskNo),
        )
        const found = await idsOf(store, { owner, outcome, taskNo, limit: 3 })
        assert.deepEqual([...found].sort(), expected.map(({ intent }) => intent.id).sort())
      }
    }
  }
})

test('PostgreSQL: an entry that is removed while it is projected leaves nothing in the projection', async (t) => {
  if (!requires(t, 'postgres')) return
  const database = await (await server(t)).database()
  const place = await postgresLocation({ database: async () => database })
  const store = await openTestStore(t, place)
  await store.append([intentOf()], [])
  await place.execute(
    'DELETE FROM current_outcomes; UPDATE projection_progress SET requested_at = 9007199254740991, seq = 0',
  )
  const remover = await database.session(t)
  await remover("BEGIN; SET LOCAL audit.pruning = 'on'; DELETE FROM audit.intents")
  const filled = store.backfill()
  await Promise.race([filled, waitForBlockedStatement(database)])
  await remover('COMMIT')
  await filled
  assert.equal(await place.projected(), 0)
})

test('PostgreSQL: of two events that two gateways write at one moment both count', async (t) => {
  if (!requires(t, 'postgres')) return
  const database = await (await server(t)).database()
  const store = await openTestStore(t, await placeOf(database))
  const intent = intentOf()
  await store.append([intent], [outcomeOf(intent, { outcome: 'unknown' })])
  const first = await database.session(t)
  await first('SET search_path = audit; BEGIN')
  await first(insertOf(intent, { outcome: 'rejected', isReading: false }, 1))
  const second = store.append([], [outcomeOf(intent, { outcome: 'cancelled', settledBy: 'query' })])
  await waitForBlockedStatement(database)
  await first('COMMIT')
  await second
  assert.deepEqual(await idsOf(store, { outcome: 'rejected' }), [intent.id])
  assert.deepEqual(await idsOf(store, { outcome: 'cancelled' }), [])
})

test('PostgreSQL: events of the version before are projected with the rights of the owner alone', async (t) => {
  if (!requires(t, 'postgres')) return
  const database = await (await server(t)).database()
  const store = await openTestStore(t, await placeOf(database))
  const intent = intentOf()
  const values = `'${intent.id}', 't-1', 'api-key', 'operator', 1000, 'r', 'i', 1000`
  // Tables of the same names that come first in the search path of the role take nothing.
  await database.query(
    `CREATE TEMP TABLE current_outcomes (LIKE audit.current_outcomes); CREATE TEMP TABLE outcomes (LIKE audit.outcomes);
    CREATE TEMP TABLE intents (LIKE audit.intents); SET search_path = pg_temp, audit;
    INSERT INTO audit.intents
      (id, task_no, via, caller, requested_at, gateway_request_id, instance_id, deadline_at) VALUES (${values});
    INSERT INTO audit.outcomes (cancellation_id, outcome, finished_at) VALUES ('${intent.id}', 'rejected', 2000)`,
    'gateway',
  )
  assert.deepEqual(await idsOf(store, { outcome: 'rejected' }), [intent.id])
  const call = database.query('SELECT audit.project_older(1)', 'stranger')
  await assert.rejects(call, /permission denied/)
})
