import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { openPostgresStore, type PostgresOptions } from '../../src/audit/postgres.ts'
import { AppendError, type OpenedStore } from '../../src/audit/trail.ts'
import { ConfigError } from '../../src/errors.ts'
import { Secret } from '../../src/secret.ts'
import { intentOf, outcomeOf } from '../helpers/audit-events.ts'
import { eventually } from '../helpers/gateway.ts'
import { closedPort } from '../helpers/ports.ts'
import { type Database, PASSWORDS, type Server, startCutter, usePostgres } from '../helpers/postgres.ts'
import { requires } from '../helpers/requirements.ts'

const servers = usePostgres()

/** A test on a database of its own. */
const testOn = (name: string, run: (t: TestContext, database: Database, server: Server) => Promise<void>): void => {
  test(name, async (t) => {
    if (!requires(t, 'postgres')) return
    const server = await servers(t)
    await run(t, await server.database(), server)
  })
}

const open = async (t: TestContext, options: Partial<PostgresOptions> & Pick<PostgresOptions, 'url'>) => {
  const store = await openPostgresStore({ adminUrl: undefined, ...options })
  let closed: Promise<void> | undefined
  const close = (): Promise<void> => {
    closed ??= store.close()
    return closed
  }
  t.after(close)
  return { ...store, close }
}

const urlsOf = (database: Database, port?: number) => ({
  url: new Secret(database.url('gateway', port)),
  adminUrl: new Secret(database.url('record_owner')),
})

/** Makes the tables. */
const migrate = async (database: Database): Promise<void> => {
  await (await openPostgresStore(urlsOf(database))).close()
}

const isRefused = (rule: RegExp) => (error: unknown) => {
  assert.ok(error instanceof ConfigError, String(error))
  assert.match(error.message, rule)
  for (const password of Object.values(PASSWORDS)) assert.ok(!error.message.includes(password), error.message)
  return true
}

const MINUTE_MS = 60_000
const lasting = () => intentOf({ requestedAtMs: Date.now(), deadlineAtMs: Date.now() + MINUTE_MS })

testOn('the role of the gateway reads and appends, and can do nothing else', async (t, database) => {
  const store = await open(t, urlsOf(database))
  const intent = intentOf()
  await store.append([intent], [outcomeOf(intent)])
  const refused = [
    ...["UPDATE audit.intents SET caller = 'x'", 'DELETE FROM audit.outcomes', 'TRUNCATE audit.intents CASCADE'],
    ...["UPDATE audit.outcomes SET outcome = 'failed'", 'DELETE FROM audit.intents', 'DROP TABLE audit.outcomes'],
    ...['ALTER TABLE audit.intents DISABLE TRIGGER ALL', 'CREATE TABLE audit.more ()', 'DROP SCHEMA audit CASCADE'],
    'INSERT INTO audit.schema_version (version) VALUES (99)',
  ]
  for (const sql of refused)
    await assert.rejects(database.query(sql, 'gateway'), /permission denied|must be owner/, sql)
})

testOn('the owner of the tables does not change or remove events by mistake', async (t, database) => {
  await open(t, urlsOf(database))
  for (const sql of ['UPDATE audit.intents SET via = via', 'DELETE FROM audit.outcomes', 'TRUNCATE audit.outcomes']) {
    await assert.rejects(database.query(sql, 'record_owner'), /events are never updated/, sql)
  }
})

testOn('an append is durable when it is answered, whatever is set for the database', async (t, database) => {
  await migrate(database)
  await database.query(`
    ALTER ROLE gateway SET synchronous_commit = off;
    CREATE TABLE seen (setting text);
    CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
      $$ BEGIN INSERT INTO public.seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$;
    CREATE TRIGGER seeing AFTER INSERT ON audit.intents EXECUTE FUNCTION see()`)
  t.after(() => database.query('ALTER ROLE gateway RESET synchronous_commit'))
  const store = await open(t, { url: new Secret(database.url('gateway')) })
  await store.append([intentOf()], [])
  assert.deepEqual(await database.query('SELECT DISTINCT setting FROM seen'), [{ setting: 'on' }])
})

testOn('several that start at once make the tables once, and all can write', async (t, database) => {
  const stores = await Promise.all([1, 2, 3].map(() => open(t, urlsOf(database))))
  for (const store of stores) await store.append([intentOf()], [])
  assert.deepEqual(await database.query('SELECT version FROM audit.schema_version'), [{ version: 1 }])
  assert.equal((await stores[0]?.list({ limit: 10, before: null }))?.records.length, 3)
})

testOn('a start that has nothing to migrate waits for no look at the record', async (t, database) => {
  await migrate(database)
  const other = await open(t, urlsOf(database))
  await other.append([intentOf()], [])
  const looking = await database.session(t)
  await looking('BEGIN; SELECT * FROM audit.intents, audit.outcomes')
  await (await openPostgresStore({ ...urlsOf(database), timing: { lockMs: 500 } })).close()
})

testOn('tables that are missing or old stop a start that may not make them', async (t, database) => {
  const url = new Secret(database.url('gateway'))
  await assert.rejects(open(t, { url }), isRefused(/AUDIT_URL names a database without the tables of this version/))
  await migrate(database)
  await database.query('DELETE FROM audit.schema_version')
  await assert.rejects(open(t, { url }), isRefused(/AUDIT_URL names a database without the tables of this version/))
})

testOn('tables of a later version are used as they are', async (t, database) => {
  await migrate(database)
  await database.query('INSERT INTO audit.schema_version (version) VALUES (99)')
  await (await open(t, urlsOf(database))).append([intentOf()], [])
})

const REFUSED: Readonly<Record<string, (database: Database) => Promise<{ url: string; rule: RegExp }>>> = {
  'a role without rights': async (database) => ({
    url: database.url('stranger'),
    rule: /AUDIT_URL needs a role that may read and append the record/,
  }),
  'a role that may only read': async (database) => {
    await database.query(
      'GRANT USAGE ON SCHEMA audit TO stranger; GRANT SELECT ON ALL TABLES IN SCHEMA audit TO stranger',
    )
    return { url: database.url('stranger'), rule: /AUDIT_URL needs a role that may read and append the record/ }
  },
  'a role that may not append intents': async (database) => {
    await database.query(`GRANT USAGE ON SCHEMA audit TO stranger; GRANT SELECT ON ALL TABLES IN SCHEMA audit TO stranger;
      GRANT INSERT ON audit.outcomes TO stranger`)
    return { url: database.url('stranger'), rule: /AUDIT_URL needs a role that may read and append the record/ }
  },
  'a wrong password': async (database) => ({
    url: database.url('gateway').replace(PASSWORDS.gateway, 'canary-password-of-nobody'),
    rule: /AUDIT_URL names a database, a role or a password that the server does not accept/,
  }),
  'a database that is not there': async (database) => ({
    url: `${database.url('gateway')}-not`,
    rule: /AUDIT_URL names a database, a role or a password that the server does not accept/,
  }),
  'a server that is not there': async (database) => ({
    url: database.url('gateway', await closedPort()),
    rule: /AUDIT_URL must name a PostgreSQL server that can be reached/,
  }),
}

for (const [name, prepare] of Object.entries(REFUSED)) {
  testOn(`${name} stops the start, and no password is told`, async (t, database) => {
    await migrate(database)
    const { url, rule } = await prepare(database)
    await assert.rejects(open(t, { url: new Secret(url) }), isRefused(rule))
  })
}

testOn('an administrator without the right to make tables stops the start', async (t, database) => {
  const adminUrl = new Secret(database.url('stranger'))
  const refused = isRefused(/AUDIT_ADMIN_URL needs a role that owns the record/)
  await assert.rejects(open(t, { ...urlsOf(database), adminUrl }), refused)
})

testOn('what is at work is not judged by others, and what is overdue is', async (t, database) => {
  const [one, other] = [await open(t, urlsOf(database)), await open(t, urlsOf(database))]
  const [working, late] = [lasting(), intentOf({ taskNo: 't-late', deadlineAtMs: Date.now() - MINUTE_MS })]
  const settled = intentOf({ deadlineAtMs: Date.now() - MINUTE_MS })
  await one.append([working, late, settled], [outcomeOf(settled)])

  const lost = await other.recover()

  assert.deepEqual(
    lost.map(({ intent, outcome }) => [intent, outcome.cancellationId, outcome.outcome]),
    [[{ taskNo: 't-late', requestedAtMs: 1000 }, late.id, 'unknown']],
  )
  assert.equal((await one.find(late.id))?.outcome, 'unknown')
  assert.equal((await one.find(working.id))?.outcome, 'pending')
  assert.equal((await one.find(settled.id))?.outcome, 'accepted')
  // The margin: its deadline is over, but its outcome may be on its way.
  const justOver = intentOf({ deadlineAtMs: Date.now() })
  await one.append([justOver], [])
  assert.deepEqual(await other.recover(), [])
})

testOn('what was lost long ago is found after the start', async (t, database) => {
  const DAYS_MS = 24 * 60 * MINUTE_MS
  const lost = [31, 59, 61, 400].map((days) => intentOf({ deadlineAtMs: Date.now() - days * DAYS_MS }))
  const before = await open(t, urlsOf(database))
  await before.append(lost, [])
  const store = await open(t, urlsOf(database))
  assert.equal(store.recovered, 0)
  const found = (await store.recover()).map(({ outcome }) => outcome.cancellationId)
  assert.deepEqual(found.sort(), lost.map(({ id }) => id).sort())
  assert.deepEqual(await store.recover(), [])
})

testOn('what is at work is never removed, however old the clock of a gateway makes it', async (t, database) => {
  const store = await open(t, urlsOf(database))
  const intent = lasting()
  await store.append([intent], [])
  t.mock.timers.enable({ apis: ['Date'], now: Date.now() + 400 * 24 * 60 * MINUTE_MS })
  assert.equal(await store.prune?.(24 * 60 * MINUTE_MS), false)
  assert.equal(await store.prune?.(0), false)
})

testOn('the clock of a gateway counts for nothing', async (t, database) => {
  const store = await open(t, urlsOf(database))
  t.mock.timers.enable({ apis: ['Date'], now: Date.now() - 24 * 60 * MINUTE_MS })
  await store.append([lasting()], [])
  assert.deepEqual(await store.recover(), [])
})

/** Resolves once somebody waits for a lock. */
const someoneWaits = (database: Database): Promise<true> =>
  eventually(async () => {
    const [row] = await database.query('SELECT count(*)::int AS count FROM pg_locks WHERE NOT granted')
    return Number(row?.count) > 0 || undefined
  })

testOn('of two that recover at the same moment only one tells, and each is written once', async (t, database) => {
  const store = await open(t, urlsOf(database))
  await store.append([intentOf({ deadlineAtMs: Date.now() - MINUTE_MS })], [])
  // The other has judged and not yet committed.
  const other = await database.session(t)
  await other(`BEGIN; INSERT INTO audit.outcomes (cancellation_id, outcome, finished_at)
    SELECT id, 'unknown', deadline_at FROM audit.intents`)
  const recovered = store.recover()
  await someoneWaits(database)
  await other('COMMIT')
  assert.deepEqual(await recovered, [])
  assert.equal((await database.query('SELECT * FROM audit.outcomes')).length, 1)
})

testOn('a definitive outcome that comes after the judgement supersedes it', async (t, database) => {
  const store = await open(t, urlsOf(database))
  const intent = intentOf({ deadlineAtMs: Date.now() - MINUTE_MS })
  await store.append([intent], [])
  await store.recover()
  await store.append([], [outcomeOf(intent)])
  assert.equal((await store.find(intent.id))?.outcome, 'accepted')
})

testOn('old records are removed by the administrator, and by nobody else', async (t, database) => {
  const store = await open(t, urlsOf(database))
  const old = intentOf({ requestedAtMs: Date.now() - 90 * MINUTE_MS })
  const young = intentOf({ requestedAtMs: Date.now() - 30 * MINUTE_MS })
  await store.append([old, young], [outcomeOf(old), outcomeOf(young)])
  assert.deepEqual([await store.prune?.(60 * MINUTE_MS), await store.prune?.(60 * MINUTE_MS)], [true, false])
  assert.equal(await store.find(old.id), null)
  assert.equal((await store.find(young.id))?.outcome, 'accepted')
  assert.equal((await open(t, { url: new Secret(database.url('gateway')) })).prune, null)
})

const QUICK = { connectMs: 500, lockMs: 500, statementMs: 500 }

const isWritable = async (store: OpenedStore): Promise<true | undefined> =>
  store.probe().then(
    () => true as const,
    () => undefined,
  )

testOn('a server that stopped is told at once and used again when it is back', async (t, database, server) => {
  const store = await open(t, { ...urlsOf(database), timing: QUICK })
  const [before, after] = [intentOf(), intentOf()]
  await store.append([before], [])
  await server.stop()
  for (const attempt of [() => store.append([intentOf()], []), () => store.probe(), () => store.find(before.id)]) {
    await assert.rejects(attempt(), /^(Append)?Error: the audit store could not do it \(\w+\)$/)
  }
  await server.start()
  await store.append([after], [])
  assert.deepEqual([(await store.find(before.id))?.id, (await store.find(after.id))?.id], [before.id, after.id])
})

testOn('a frozen server is given up in time, and used again when it moves', async (t, database, server) => {
  const store = await open(t, { ...urlsOf(database), timing: QUICK })
  await store.append([intentOf()], [])
  server.freeze()
  try {
    // The connection at hand, then new ones; and closing waits for none.
    const other = await Promise.allSettled([store.append([intentOf()], []), store.find('x'), store.probe()])
    assert.deepEqual(
      other.map(({ status }) => status),
      ['rejected', 'rejected', 'rejected'],
    )
    await assert.rejects(store.append([intentOf()], []))
  } finally {
    server.thaw()
  }
  await eventually(() => isWritable(store))
  await store.append([intentOf()], [])
})

testOn('a store of a frozen server can be closed, and nothing of it keeps the process', async (t, database, server) => {
  const sockets = () => process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap').length
  await eventually(() => sockets() === 0 || undefined)
  const store = await open(t, { ...urlsOf(database), timing: { statementMs: MINUTE_MS } })
  await store.find('x')
  server.freeze()
  try {
    const read = store.find('x').catch(() => undefined)
    await setImmediate()
    await store.close()
    await read
    await eventually(() => sockets() === 0 || undefined)
  } finally {
    server.thaw()
  }
})

testOn('a lock that somebody holds is not waited for long', async (t, database) => {
  const store = await open(t, { ...urlsOf(database), timing: { lockMs: 100 } })
  const holding = await database.session(t)
  await holding('BEGIN; LOCK audit.intents')
  await assert.rejects(store.append([intentOf()], []), /55P03/)
  await holding('ROLLBACK')
  await store.append([intentOf()], [])
})

const isUnsure = (error: unknown): boolean => error instanceof AppendError && error.kind === 'unsure'

testOn('an intent whose commit is not answered counts as not written, though it may be there', async (t, database) => {
  const cutter = await startCutter(t, database)
  const store = await open(t, { ...urlsOf(database, cutter.port), timing: QUICK })
  const intent = lasting()
  await cutter.cut(() => assert.rejects(store.append([intent], []), isUnsure))
  assert.equal((await store.find(intent.id))?.outcome, 'pending')
})

testOn('an outcome whose commit is not answered is tried again, and is there once', async (t, database) => {
  const cutter = await startCutter(t, database)
  const store = await open(t, { ...urlsOf(database, cutter.port), timing: QUICK })
  const intent = lasting()
  await store.append([intent], [])
  await cutter.cut(() => assert.rejects(store.append([], [outcomeOf(intent)]), isUnsure))
  assert.equal((await database.query('SELECT * FROM audit.outcomes')).length, 1)
  await store.append([], [outcomeOf(intent)])
  assert.equal((await database.query('SELECT * FROM audit.outcomes')).length, 1)
  assert.equal((await store.find(intent.id))?.outcome, 'accepted')
})

testOn('an administrator whose connection is cut midway stops the start and nothing else', async (t, database) => {
  const cutter = await startCutter(t, database)
  const holding = await database.session(t)
  await holding('SELECT pg_advisory_lock(7240019)')
  const adminUrl = new Secret(database.url('record_owner', cutter.port))
  const refused = isRefused(/AUDIT_ADMIN_URL must name a PostgreSQL server that can be reached/)
  const opened = assert.rejects(open(t, { ...urlsOf(database), adminUrl }), refused)
  await someoneWaits(database)
  await cutter.cut(async () => {
    await holding('SELECT pg_advisory_unlock(7240019)')
    await opened
  })
})
