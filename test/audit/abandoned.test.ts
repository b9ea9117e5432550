import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createAuditTrail } from '../../src/audit/audit-trail.ts'
import { openPostgresStore } from '../../src/audit/postgres.ts'
import { openSqliteStore } from '../../src/audit/sqlite.ts'
import type { AuditFilter } from '../../src/audit/store.ts'
import { Secret } from '../../src/secret.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { NO_METER } from '../../src/telemetry/meter.ts'
import { deadlineIn } from '../../src/time.ts'
import { intentOf, outcomeOf } from '../helpers/audit-events.ts'
import { BUSY_TASK } from '../helpers/audit-sample.ts'
import { asAuditor, eventually, startGateway } from '../helpers/gateway.ts'
import { usePostgres, waitForBlockedStatement } from '../helpers/postgres.ts'
import { requires } from '../helpers/requirements.ts'
import { openTestStore, sqliteLocation } from '../helpers/stores.ts'

// A reading ends with the caller that waits for it, and delays no other caller.

const servers = usePostgres()

/** Compares each entry of the task, and finds none. */
const LONG: AuditFilter = { taskNo: BUSY_TASK, caller: 'nobody', limit: 50, before: null }

test('SQLite: a long search takes turns with the readings of other callers, and ends with its own caller', async (t) => {
  const store = await openTestStore(t, await sqliteLocation(t))
  const intents = Array.from({ length: 20_000 }, (_, at) => intentOf({ taskNo: BUSY_TASK, requestedAtMs: at }))
  await store.append(intents, [])
  const order: string[] = []
  const search = store.list(LONG).then(() => order.push('search'))
  const readSeveral = async (): Promise<void> => {
    for (const { id } of intents.slice(0, 10)) await store.find(id)
  }
  const other = readSeveral().then(() => order.push('other'))
  await Promise.all([search, other])
  assert.deepEqual(order, ['other', 'search'])

  const gone = new AbortController()
  const abandoned = assert
    .rejects(store.list(LONG, gone.signal), { name: 'AbortError' })
    .then(() => order.push('abandoned'))
  const complete = store.list(LONG).then(() => order.push('complete'))
  gone.abort()
  await Promise.all([abandoned, complete])
  assert.deepEqual(order, ['other', 'search', 'abandoned', 'complete'])
})

/** No limit of the server ends a statement in the time of the test. */
const PATIENT = { lockMs: 60_000, statementMs: 60_000 }

test('PostgreSQL: a reading whose caller has left is cancelled on the server, and the next one is served', async (t) => {
  if (!requires(t, 'postgres')) return
  const database = await (await servers(t)).database()
  const urls = { url: new Secret(database.url('gateway')), adminUrl: new Secret(database.url('record_owner')) }
  const store = await openPostgresStore({ ...urls, timing: PATIENT })
  t.after(() => store.close())
  const intent = intentOf()
  await store.append([intent], [outcomeOf(intent)])
  const holding = await database.session(t)
  await holding('BEGIN; LOCK audit.outcomes IN ACCESS EXCLUSIVE MODE')
  const gone = new AbortController()
  // More than there are connections, so that some wait for one.
  const readings = [1, 2, 3, 4].map(() => assert.rejects(store.find(intent.id, gone.signal)))
  await waitForBlockedStatement(database)
  gone.abort()
  await Promise.all(readings)
  const waiting = await database.query('SELECT pid FROM pg_locks WHERE NOT granted')
  assert.deepEqual(waiting, [])
  await holding('ROLLBACK')
  assert.equal((await store.find(intent.id))?.outcome, 'accepted')
})

test('a caller that disconnects, and a deadline that ends, abandon the reading in the store', async (t) => {
  const signals: (AbortSignal | undefined)[] = []
  const never = (_: unknown, signal?: AbortSignal): Promise<never> => {
    signals.push(signal)
    return new Promise(() => {})
  }
  const openStore = async (path: string) => ({ ...(await openSqliteStore(path)), list: never, find: never })
  const gateway = await startGateway(t, { overrides: { openStore } })
  for (const path of ['/cancellations', `/cancellations/${intentOf().id}`]) {
    // One that came before has the earlier deadline, and goes on.
    const staying = new AbortController()
    const other = assert.rejects(fetch(`${gateway.url}${path}`, { headers: asAuditor, signal: staying.signal }))
    const before = await eventually(() => signals.pop())
    const gone = new AbortController()
    const reading = assert.rejects(fetch(`${gateway.url}${path}`, { headers: asAuditor, signal: gone.signal }))
    const signal = await eventually(() => signals.pop())
    assert.equal(signal.aborted, false)
    gone.abort()
    await reading
    await eventually(() => signal.aborted || undefined)
    assert.equal(before.aborted, false)
    staying.abort()
    await other
  }
  assert.doesNotMatch(gateway.logLines.join(), /the audit trail could not be read/)

  const trail = createAuditTrail({
    store: await openStore(`${gateway.auditPath}-other`),
    meter: NO_METER,
    log: createLog({ level: 'silent' }),
  })
  t.after(() => trail.close(deadlineIn(5000)))
  await assert.rejects(trail.list({ limit: 1, before: null }, deadlineIn(10)), { code: 'audit-unavailable' })
  assert.equal(signals.pop()?.aborted, true)
})
