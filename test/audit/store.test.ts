import assert from 'node:assert/strict'
import { createAuditTrail } from '../../src/audit/audit-trail.ts'
import { type AuditFilter, type AuditPage, type Intent, OUTCOMES, type Outcome } from '../../src/audit/store.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { NO_METER } from '../../src/telemetry/meter.ts'
import { deadlineIn } from '../../src/time.ts'
import { intentOf, outcomeOf } from '../helpers/audit-events.ts'
import { openTestStore, useStores, WITHOUT_ENDS } from '../helpers/stores.ts'

// Behaviour of every store, on each engine.

const { testEach } = useStores()

testEach('an intent reads back as it was written, and as pending', async (t, place) => {
  const store = await openTestStore(t, place)
  const intent = intentOf({ issuer: 'https://issuer.example.com', userAgent: null, clientIp: '2001:db8::1' })
  await store.append([intent], [])
  const { instanceId: _, deadlineAtMs: __, ...kept } = intent
  const open = { outcome: 'pending', attempts: null, requestId: null, upstreamCode: null, finishedAtMs: null }
  assert.deepEqual(await store.find(intent.id), { ...kept, ...open, settledBy: null, isFinal: false })
})

testEach(
  'a record of the version before has no display name, also once that version goes on beside this one',
  async (t, place, engine) => {
    const first = await place.open()
    await first.close()
    const isSqlite = 'path' in place
    const older = isSqlite ? '' : 'DELETE FROM audit.schema_version WHERE version > 2;'
    await place.execute(`${WITHOUT_ENDS[engine]} ALTER TABLE intents DROP COLUMN caller_display_name; ${older}`)
    // The statement of that version, on its own connection.
    const append = (id: string) =>
      place.execute(`INSERT INTO intents (id, task_no, caller, via, issuer, client_ip, peer_ip, user_agent, requested_at,
      instance_id, deadline_at, gateway_request_id)
      VALUES ('${id}', 't', 'ann', 'jwt', NULL, NULL, NULL, NULL, 1000, 'i', 2000, 'g')`)
    await append('before')
    const store = await openTestStore(t, place)
    await append('beside')
    const named = intentOf({ callerDisplayName: 'Ann Lee' })
    await store.append([named], [])
    const names = await Promise.all(
      ['before', 'beside', named.id].map(async (id) => (await store.find(id))?.callerDisplayName),
    )
    assert.deepEqual(names, [null, null, 'Ann Lee'])
  },
)

testEach('an outcome completes its intent', async (t, place) => {
  const store = await openTestStore(t, place)
  const intent = intentOf()
  const event = outcomeOf(intent, { outcome: 'rejected', upstreamCode: 'TaskNotCancel' })
  await store.append([intent], [])
  await store.append([], [event])
  const { cancellationId: _, taskStatus: __, taskCancelStatus: ___, taskSeenAtMs: ____, ...outcome } = event
  const found = await store.find(intent.id)
  assert.deepEqual({ ...found, ...outcome }, found)
})

testEach('an intent and its outcome can come in one append', async (t, place) => {
  const store = await openTestStore(t, place)
  const intent = intentOf()
  await store.append([intent], [outcomeOf(intent, { outcome: 'refused' })])
  assert.equal((await store.find(intent.id))?.outcome, 'refused')
})

testEach('what was never written is not found', async (t, place) => {
  const store = await openTestStore(t, place)
  assert.equal(await store.find('nothing'), null)
  assert.deepEqual(await store.list({ limit: 10, before: null }), { records: [], next: null })
})

const FOLDS: readonly (readonly [string, readonly (Outcome | `${Outcome} by a look`)[], Outcome])[] = [
  ['a definitive outcome supersedes unknown', ['unknown', 'accepted'], 'accepted'],
  ['unknown does not supersede a definitive outcome', ['accepted', 'unknown'], 'accepted'],
  ['the newest definitive outcome wins', ['failed', 'accepted'], 'accepted'],
  ['what was accepted can be seen to be cancelled', ['accepted', 'cancelled'], 'cancelled'],
  [
    'what was seen to be cancelled stays so, however late anything else is written',
    ['cancelled', 'accepted'],
    'cancelled',
  ],
  [
    'the newest definitive outcome wins, whatever lies between',
    ['failed', 'unknown', 'accepted', 'unknown'],
    'accepted',
  ],
  ['two that are unknown stay unknown', ['unknown', 'unknown'], 'unknown'],
  ['a look can find what nobody was told', ['unknown', 'cancelled by a look'], 'cancelled'],
  ['an acceptance can be seen to have led to its end', ['accepted', 'cancelled by a look'], 'cancelled'],
  ['an answer that comes late supersedes a look', ['failed by a look', 'accepted'], 'accepted'],
  ['a look supersedes no answer, however late it is written', ['accepted', 'failed by a look'], 'accepted'],
  ['a look takes no denial back', ['unknown', 'rejected', 'accepted by a look', 'cancelled by a look'], 'rejected'],
]

for (const [name, outcomes, expected] of FOLDS) {
  testEach(name, async (t, place) => {
    const store = await openTestStore(t, place)
    const intent = intentOf()
    await store.append([intent], [])
    for (const [index, event] of outcomes.entries()) {
      const outcome = OUTCOMES.find((one) => event.startsWith(one)) ?? 'unknown'
      const settledBy = event === outcome ? null : 'query'
      await store.append([], [outcomeOf(intent, { outcome, settledBy, finishedAtMs: 2000 + index })])
    }
    const { records } = await store.list({ limit: 10, before: null })
    assert.deepEqual(
      records.map(({ outcome }) => outcome),
      [expected],
    )
    assert.equal((await store.find(intent.id))?.outcome, expected)
  })
}

testEach('an outcome that is written again, since nobody knows whether it was, is one', async (t, place) => {
  const store = await openTestStore(t, place)
  const intent = intentOf()
  await store.append([intent], [outcomeOf(intent)])
  await store.append([], [outcomeOf(intent)])
  assert.equal((await store.taskNos({})).length, 1)
  assert.equal(await place.outcomes(), 1)
})

/** Four records: the caller, the time and the outcome of each tell it from the others. */
const FOUR: readonly (readonly [Intent, Outcome | null])[] = [
  [intentOf({ taskNo: 't-1', caller: 'a', requestedAtMs: 1000 }), 'accepted'],
  [intentOf({ taskNo: 't-2', caller: 'b', requestedAtMs: 2000 }), 'unknown'],
  [intentOf({ taskNo: 't-3', caller: 'a', requestedAtMs: 3000 }), null],
  [intentOf({ taskNo: 't-4', caller: 'b', requestedAtMs: 4000 }), 'refused'],
]

const FILTERS: readonly (readonly [string, Partial<AuditFilter>, readonly string[]])[] = [
  ['no filter', {}, ['t-4', 't-3', 't-2', 't-1']],
  ['a task', { taskNo: 't-2' }, ['t-2']],
  ['a caller', { caller: 'a' }, ['t-3', 't-1']],
  ['an outcome', { outcome: 'refused' }, ['t-4']],
  ['what is pending', { outcome: 'pending' }, ['t-3']],
  ['a time from which on', { fromMs: 3000 }, ['t-4', 't-3']],
  ['a time before which', { toMs: 3000 }, ['t-2', 't-1']],
  ['everything at once', { caller: 'b', outcome: 'unknown', fromMs: 2000, toMs: 2001, taskNo: 't-2' }, ['t-2']],
  ['an owner', { owner: { via: 'api-key', issuer: null, caller: 'b' } }, ['t-4', 't-2']],
  ['an owner who proves it otherwise', { owner: { via: 'jwt', issuer: null, caller: 'b' } }, []],
  ['an owner of an issuer', { owner: { via: 'api-key', issuer: 'i', caller: 'b' } }, []],
  ['an owner and another caller', { caller: 'a', owner: { via: 'api-key', issuer: null, caller: 'b' } }, []],
  ['what contradicts itself', { caller: 'a', taskNo: 't-2' }, []],
  ['text that is SQL', { caller: "a' OR '1'='1" }, []],
  ['a limit', { limit: 2 }, ['t-4', 't-3']],
]

testEach('the list is newest first and holds what the filter asks for', async (t, place) => {
  const store = await openTestStore(t, place)
  for (const [intent, outcome] of FOUR) {
    await store.append([intent], outcome === null ? [] : [outcomeOf(intent, { outcome })])
  }
  for (const [name, filter, expected] of FILTERS) assert.deepEqual(await store.taskNos(filter), expected, name)
})

/** Every task number that turning the pages shows, with something done after each page. */
const turnPages = async (list: (filter: AuditFilter) => Promise<AuditPage>, meanwhile: () => Promise<void>) => {
  const seen: string[] = []
  for (let before: AuditPage['next'] = null, page = 0; page === 0 || before !== null; page += 1) {
    const { records, next }: AuditPage = await list({ limit: 2, before })
    seen.push(...records.map(({ taskNo }) => taskNo))
    await meanwhile()
    before = next
  }
  return seen
}

testEach('pages continue where they stopped although rows arrive meanwhile, and end', async (t, place) => {
  const store = await openTestStore(t, place)
  // Written in another order than asked for, as by several gateways; two at the same moment.
  const times: readonly (readonly [string, number])[] = [
    ['t-2', 2000],
    ['t-5', 4000],
    ['t-1', 1000],
    ['t-3', 3000],
    ['t-4', 3000],
  ]
  for (const [taskNo, requestedAtMs] of times) await store.append([intentOf({ taskNo, requestedAtMs })], [])
  const late = () => store.append([intentOf({ taskNo: 'late', requestedAtMs: 9000 })], [])
  assert.deepEqual(await turnPages(store.list, late), ['t-5', 't-4', 't-3', 't-2', 't-1'])
})

testEach('what is written late moves nothing that was there', async (t, place) => {
  const store = await openTestStore(t, place)
  for (const at of [1, 2, 3, 4, 5, 6])
    await store.append([intentOf({ taskNo: `t-${at}`, requestedAtMs: at * 1000 })], [])
  // Between the shown records and the following ones.
  let requestedAtMs = 4999
  const late = () => store.append([intentOf({ taskNo: 'late', requestedAtMs: requestedAtMs-- })], [])
  const seen = await turnPages(store.list, late)
  assert.deepEqual(
    seen.filter((taskNo) => taskNo !== 'late'),
    ['t-6', 't-5', 't-4', 't-3', 't-2', 't-1'],
  )
})

testEach('an append is all or nothing', async (t, place) => {
  const store = await openTestStore(t, place)
  const [intent, orphan] = [intentOf(), intentOf()]
  await assert.rejects(store.append([intent], [outcomeOf(orphan)]))
  assert.equal(await store.find(intent.id), null)
})

testEach('an append that fails does not spoil those that came with it', async (t, place) => {
  const store = await openTestStore(t, place)
  const intent = intentOf()
  const orphan = outcomeOf(intentOf())
  const appended = [store.append([intent], []), store.append([], [orphan]), store.append([intentOf()], [])]
  const ends = await Promise.allSettled(appended)
  assert.deepEqual(
    ends.map(({ status }) => status),
    ['fulfilled', 'rejected', 'fulfilled'],
  )
  assert.equal((await store.taskNos({})).length, 2)
})

testEach('an intent that is there already is not doubled, and its outcome is taken', async (t, place) => {
  const store = await openTestStore(t, place)
  const intent = intentOf()
  await store.append([intent], [])
  await store.append([intent], [outcomeOf(intent)])
  assert.deepEqual(await place.ids(), [intent.id])
  assert.equal((await store.find(intent.id))?.outcome, 'accepted')
})

testEach('a durable append is seen by another at once', async (t, place) => {
  const store = await openTestStore(t, place)
  const intent = intentOf()
  await store.append([intent], [])
  assert.deepEqual(await place.ids(), [intent.id])
})

testEach('many appends at once share few commits', async (t, place) => {
  const store = await openTestStore(t, place)
  const before = await place.commits()
  await Promise.all(Array.from({ length: 100 }, () => store.append([intentOf()], [])))
  const commits = (await place.commits()) - before
  assert.ok(commits >= 1 && commits <= 25, `${commits} commits`)
})

testEach('a single append is a single commit', async (t, place) => {
  const store = await openTestStore(t, place)
  const before = await place.commits()
  await store.append([intentOf()], [])
  assert.equal((await place.commits()) - before, 1)
})

testEach('an event can be changed by nobody', async (t, place) => {
  const store = await openTestStore(t, place)
  const intent = intentOf()
  await store.append([intent], [outcomeOf(intent)])
  for (const change of ["UPDATE intents SET caller = 'x'", "UPDATE outcomes SET outcome = 'failed'"]) {
    await assert.rejects(place.execute(change), /events are never updated/, change)
  }
})

testEach('probing writes, and leaves no event', async (t, place) => {
  const store = await openTestStore(t, place)
  const before = await place.commits()
  await store.probe()
  assert.equal((await place.commits()) - before, 1)
  assert.deepEqual(await store.taskNos({}), [])
})

const overdue = (fields: Partial<Intent> = {}) => intentOf({ ...fields, deadlineAtMs: Date.now() - 60_000 })

testEach('what a crash left pending is unknown at the next start, and the settled stays', async (t, place) => {
  const left = await openTestStore(t, place)
  const [pending, settled] = [overdue({ taskNo: 't-1' }), overdue({ taskNo: 't-2' })]
  await left.append([pending, settled], [outcomeOf(settled)])
  const before = await left.find(settled.id)
  await left.close()

  const store = await openTestStore(t, place)

  assert.deepEqual([left.recovered, store.recovered], [0, 1])
  const recovered = await store.find(pending.id)
  assert.deepEqual([recovered?.outcome, recovered?.attempts, recovered?.requestId], ['unknown', null, null])
  assert.notEqual(recovered?.finishedAtMs, null)
  assert.deepEqual(await store.find(settled.id), before)
})

testEach('what was recovered once is not recovered again', async (t, place) => {
  const left = await openTestStore(t, place)
  await left.append([overdue()], [])
  await left.close()
  await (await openTestStore(t, place)).close()
  assert.equal((await openTestStore(t, place)).recovered, 0)
})

testEach('a row that cannot be understood makes its record unavailable, with an alarm', async (t, place) => {
  const store = await openTestStore(t, place)
  const intent = intentOf()
  await store.append([intent], [])
  await place.execute(
    `INSERT INTO outcomes (cancellation_id, outcome, finished_at, settled_by)
      VALUES ('${intent.id}', 'accepted', 0, 'canary')`,
  )
  const lines: string[] = []
  const trail = createAuditTrail({
    store,
    meter: NO_METER,
    log: createLog({ level: 'info', destination: { write: (line) => void lines.push(line) } }),
  })
  await assert.rejects(trail.find(intent.id, deadlineIn(5000)), { code: 'audit-unavailable' })
  assert.match(lines.join(), /"level":"error".*"msg":"the audit trail could not be read"/)
  assert.doesNotMatch(lines.join(), /canary/)
})

testEach(
  'an outcome of a later version is shown as unknown, with a warning that does not quote it',
  async (t, place) => {
    const store = await openTestStore(t, place)
    const intent = intentOf()
    await store.append([intent], [])
    await place.execute(
      `INSERT INTO outcomes (cancellation_id, outcome, finished_at) VALUES ('${intent.id}', 'canary', 0)`,
    )
    const lines: string[] = []
    const trail = createAuditTrail({
      store,
      meter: NO_METER,
      log: createLog({ level: 'info', destination: { write: (line) => void lines.push(line) } }),
    })
    assert.equal((await trail.find(intent.id, deadlineIn(5000)))?.outcome, 'unknown')
    const { records } = await trail.list({ limit: 10, before: null }, deadlineIn(5000))
    assert.deepEqual(
      records.map(({ outcome }) => outcome),
      ['unknown'],
    )
    const warnings = lines.filter((line) => line.includes('an outcome that this version does not know'))
    assert.equal(warnings.length, 2)
    for (const line of warnings) assert.match(line, new RegExp(`"level":"warn".*"cancellationId":"${intent.id}"`))
    assert.doesNotMatch(lines.join(), /canary/)
  },
)
