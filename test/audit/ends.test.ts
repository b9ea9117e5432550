import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { FinalFilter, OpenedStore, Outcome, OutcomeEvent } from '../../src/audit/store.ts'
import { intentOf, outcomeOf } from '../helpers/audit-events.ts'
import { waitForBlockedStatement } from '../helpers/postgres.ts'
import { requires } from '../helpers/requirements.ts'
import { openTestStore, postgresLocation, useStores, WITHOUT_ENDS } from '../helpers/stores.ts'

const { server, testEach } = useStores()

const DAY_MS = 86_400_000

/** Events as text: an outcome, `reading` for one that a reading showed, `end` for the end of the follow-up. */
const HISTORIES: readonly (readonly [events: readonly string[], shown: Outcome | 'pending', isFinal: boolean])[] = [
  [[], 'pending', false],
  [['accepted'], 'accepted', false],
  [['unknown'], 'unknown', false],
  [['unknown', 'accepted reading'], 'accepted', false],
  ...(['refused', 'rejected', 'failed'] as const).map((outcome) => [[outcome], outcome, true] as const),
  [['accepted', 'cancelled reading'], 'cancelled', true],
  [['accepted', 'too-late reading'], 'too-late', true],
  [['accepted', 'too-late reading', 'cancelled reading'], 'cancelled', true],
  [['unknown', 'failed reading'], 'failed', true],
  [['rejected', 'too-late reading'], 'rejected', true],
  [['accepted', 'accepted end'], 'accepted', true],
  [['unknown', 'unknown end'], 'unknown', true],
  [['unknown', 'unknown end', 'accepted'], 'accepted', true],
  [['unknown', 'unknown end', 'rejected'], 'rejected', true],
]

testEach('an outcome is final once its events say so, and stays final', async (t, place) => {
  const store = await openTestStore(t, place)
  for (const [events, shown, isFinal] of HISTORIES) {
    const intent = intentOf()
    await store.append([intent], [])
    for (const [at, text] of events.entries()) {
      const [outcome, kind] = text.split(' ')
      const finishedAtMs = intent.requestedAtMs + (kind === 'end' ? DAY_MS : at + 1)
      const event = { ...outcomeOf(intent, { finishedAtMs, settledBy: kind === undefined ? null : 'query' }), outcome }
      await store.append([], [event as OutcomeEvent])
    }
    const found = await store.find(intent.id)
    assert.deepEqual([found?.outcome, found?.isFinal], [shown, isFinal], events.join(', '))
    const [listed] = (await store.list({ limit: 1, before: null, outcome: shown })).records
    assert.deepEqual([listed?.id, listed?.isFinal], [intent.id, isFinal], events.join(', '))
  }
})

testEach('the same end that two readings show is one event', async (t, place) => {
  const store = await openTestStore(t, place)
  for (const outcome of ['cancelled', 'too-late', 'failed'] as const) {
    const intent = intentOf()
    await store.append([intent], [outcomeOf(intent)])
    const before = await place.outcomes()
    for (const finishedAtMs of [3000, 3001]) {
      await store.append([], [outcomeOf(intent, { outcome, finishedAtMs, settledBy: 'query' })])
    }
    assert.equal(await place.outcomes(), before + 1, outcome)
  }
})

test('PostgreSQL: of the same end that two replicas write at one moment one event remains', async (t) => {
  if (!requires(t, 'postgres')) return
  const database = await (await server(t)).database()
  const place = await postgresLocation({ database: async () => database })
  const store = await openTestStore(t, place)
  const intent = intentOf()
  await store.append([intent], [outcomeOf(intent)])
  const other = await database.session(t)
  await other('SET search_path = audit; BEGIN')
  await other(`INSERT INTO outcomes (cancellation_id, outcome, finished_at, settled_by)
    VALUES ('${intent.id}', 'too-late', 3000, 'query')`)
  const written = store.append([], [outcomeOf(intent, { outcome: 'too-late', finishedAtMs: 3001, settledBy: 'query' })])
  await waitForBlockedStatement(database)
  await other('COMMIT')
  await written
  assert.equal(await place.outcomes(), 2)
  assert.equal((await store.find(intent.id))?.outcome, 'too-late')
})

testEach(
  'cancellations of the last day are open after an upgrade, and older ones are final',
  async (t, place, engine) => {
    const before = await openTestStore(t, place)
    const [young, old, ended] = [
      intentOf({ requestedAtMs: Date.now() - DAY_MS / 2 }),
      intentOf({ requestedAtMs: Date.now() - 2 * DAY_MS }),
      intentOf({ requestedAtMs: Date.now() - DAY_MS / 2 }),
    ]
    const events = [outcomeOf(young), outcomeOf(old), outcomeOf(ended, { outcome: 'rejected' })]
    await before.append([young, old, ended], events)
    await before.close()
    await place.execute(WITHOUT_ENDS[engine] ?? '')
    const store = await openTestStore(t, place)
    for (const [intent, isFinal] of [
      [young, false],
      [old, true],
      [ended, true],
    ] as const) {
      assert.equal((await store.find(intent.id))?.isFinal, isFinal)
    }
  },
)

testEach('an entry that is removed is removed from the tables of ends too', async (t, place) => {
  const store = await openTestStore(t, place)
  const [open, ended] = [intentOf({ requestedAtMs: 1 }), intentOf({ requestedAtMs: 2 })]
  await store.append([open, ended], [outcomeOf(open), outcomeOf(ended, { outcome: 'failed' })])
  for (let more = true; more; ) more = (await store.prune?.(DAY_MS)) === true
  await place.execute('CREATE TABLE left_over AS SELECT intent_seq FROM open_cancellations')
  await place.execute('INSERT INTO left_over SELECT intent_seq FROM final_outcomes')
  await place.execute('CREATE UNIQUE INDEX none_is_left ON left_over ((0))')
  await place.execute('INSERT INTO left_over VALUES (0)')
})

/** Reads the order of ends to its end, a few at a time. */
const readAll = async (store: OpenedStore, from: number, filter: Partial<FinalFilter> = {}) => {
  const ids: string[] = []
  for (let after = from; ; ) {
    const { records, next } = await store.listFinal({ limit: 3, ...filter, after })
    ids.push(...records.map(({ id }) => id))
    if (next === after) return { ids, next }
    after = next
  }
}

testEach('ends are listed in their order, with each filter, and a late answer is listed again', async (t, place) => {
  const store = await openTestStore(t, place)
  const intents = Array.from({ length: 8 }, (_, at) =>
    intentOf({ caller: at % 2 === 0 ? 'even' : 'odd', requestedAtMs: 1000 + at }),
  )
  await store.append(
    intents,
    intents.map((intent) => outcomeOf(intent, { outcome: 'unknown' })),
  )
  assert.deepEqual(await readAll(store, 0), { ids: [], next: 0 })
  for (const intent of intents.toReversed()) {
    await store.append([], [outcomeOf(intent, { outcome: 'cancelled', settledBy: 'query' })])
  }
  const backwards = intents.toReversed().map(({ id }) => id)
  const { ids, next } = await readAll(store, 0)
  assert.deepEqual([ids, next], [backwards, await store.lastFinal()])
  const owner = { via: 'api-key', issuer: null, caller: 'odd' }
  assert.deepEqual(
    (await readAll(store, 0, { owner })).ids,
    backwards.filter((_, at) => at % 2 === 0),
  )
  assert.deepEqual((await readAll(store, 0, { outcome: 'failed' })).ids, [])
  const [first] = intents
  assert.ok(first)
  await store.append([], [outcomeOf(first, { outcome: 'rejected' })])
  assert.deepEqual((await readAll(store, next)).ids, [first.id])
  assert.equal((await readAll(store, 0)).ids.length, 8)
})

test('PostgreSQL: a reader passes no end whose transaction commits later', async (t) => {
  if (!requires(t, 'postgres')) return
  const database = await (await server(t)).database()
  const store = await openTestStore(t, await postgresLocation({ database: async () => database }))
  const [slow, quick] = [intentOf(), intentOf()]
  await store.append([slow, quick], [outcomeOf(slow), outcomeOf(quick)])
  const other = await database.session(t)
  await other('SET search_path = audit; BEGIN')
  await other(`INSERT INTO outcomes (cancellation_id, outcome, finished_at, settled_by)
    VALUES ('${slow.id}', 'cancelled', 3000, 'query')`)
  const written = store.append([], [outcomeOf(quick, { outcome: 'cancelled', settledBy: 'query' })])
  await waitForBlockedStatement(database)
  const early = await readAll(store, 0)
  await other('COMMIT')
  await written
  assert.deepEqual([...early.ids, ...(await readAll(store, early.next)).ids], [slow.id, quick.id])
})

testEach('the newest reading of a task is kept with its cancellation', async (t, place) => {
  const store = await openTestStore(t, place)
  const intent = intentOf()
  await store.append([intent], [outcomeOf(intent)])
  assert.equal(await store.lastSighting(intent.id), null)
  const seen = { taskStatus: 'complete', taskCancelStatus: 'none', taskSeenAtMs: 5000 }
  await store.append([], [outcomeOf(intent, { outcome: 'too-late', settledBy: 'query', ...seen })])
  assert.deepEqual(await store.lastSighting(intent.id), { status: 'complete', cancelStatus: 'none', seenAtMs: 5000 })
})

test('PostgreSQL: replicas know each other while they tell that they are at work', async (t) => {
  if (!requires(t, 'postgres')) return
  const place = await postgresLocation(await server(t))
  const store = await openTestStore(t, place)
  assert.deepEqual(await store.liveReplicas('a'), ['a'])
  assert.deepEqual(await store.liveReplicas('b'), ['a', 'b'])
  await place.execute("UPDATE replicas SET seen_at = seen_at - 31000 WHERE instance_id = 'a'")
  assert.deepEqual(await store.liveReplicas('b'), ['b'])
})
