import assert from 'node:assert/strict'
import { createServer, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { TLSSocket } from 'node:tls'
import { openPostgresStore, type PostgresOptions } from '../../src/audit/postgres.ts'
import { AppendError, type OpenedStore } from '../../src/audit/store.ts'
import { ConfigError } from '../../src/errors.ts'
import { Secret } from '../../src/secret.ts'
import { intentOf, outcomeOf } from '../helpers/audit-events.ts'
import { type Certificate, createCertificate } from '../helpers/certificate.ts'
import { asOperator, eventually, startGateway } from '../helpers/gateway.ts'
import { closedPort, listenOn } from '../helpers/ports.ts'
import {
  type Database,
  PASSWORDS,
  type PostgresServer,
  startCuttingProxy,
  usePostgres,
  waitForBlockedStatement,
} from '../helpers/postgres.ts'
import { requires } from '../helpers/requirements.ts'

const servers = usePostgres()

/** A test on a database of its own. */
const testOn = (
  name: string,
  run: (t: TestContext, database: Database, server: PostgresServer) => Promise<void>,
): void => {
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
    ...["UPDATE audit.current_outcomes SET outcome = 'failed'", 'DELETE FROM audit.current_outcomes'],
    ...['INSERT INTO audit.current_outcomes (intent_seq) VALUES (0)', 'TRUNCATE audit.current_outcomes'],
    ...['UPDATE audit.projection_progress SET requested_at = 0', "SELECT audit.project('x')"],
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
  const versions = (await database.query('SELECT version FROM audit.schema_version')).map(({ version }) => version)
  assert.deepEqual(versions, [1, 2, 3, 4])
  assert.equal((await stores[0]?.list({ limit: 10, before: null }))?.records.length, 3)
})

testOn('a start that has nothing to migrate waits for no look at the record', async (t, database) => {
  await migrate(database)
  const other = await open(t, urlsOf(database))
  await other.append([intentOf()], [])
  const looking = await database.session(t)
  await looking('BEGIN; SELECT * FROM audit.intents, audit.outcomes')
  await (await openPostgresStore({ ...urlsOf(database), timing: { lockMs: 5000 } })).close()
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

/** An ErrorResponse. https://www.postgresql.org/docs/current/protocol-message-formats.html */
const errorMessage = (code: string): Buffer => {
  const fields = Buffer.from(`SFATAL\0VFATAL\0C${code}\0Mcanary\0\0`)
  const length = Buffer.alloc(4)
  length.writeUInt32BE(4 + fields.length)
  return Buffer.concat([Buffer.from('E'), length, fields])
}

/** Agrees to TLS with that certificate. */
const secure =
  (certificate: Certificate) =>
  (socket: Socket): void => {
    socket.on('error', () => undefined)
    socket.once('data', () => {
      socket.write('S')
      new TLSSocket(socket, { ...certificate, isServer: true }).on('error', () => undefined)
    })
  }

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
    rule: /AUDIT_URL names a role or a password that the server does not accept \(28P01\)/,
  }),
  'a role without a password': async (database) => ({
    url: database.url('gateway').replace(`:${PASSWORDS.gateway}`, ''),
    rule: /AUDIT_URL names a role or a password that the server does not accept \(AUTHENTICATION_FAILED\)/,
  }),
  'a database that is not there': async (database) => ({
    url: `${database.url('gateway')}-not`,
    rule: /AUDIT_URL names a database that the server does not have \(3D000\)/,
  }),
  'a server that is not there': async (database) => ({
    url: database.url('gateway', await closedPort()),
    rule: /AUDIT_URL must name a PostgreSQL server that can be reached \(ECONNREFUSED\)/,
  }),
  'a server by a name that does not resolve': async (database) => ({
    url: database.url('gateway').replace('127.0.0.1', 'nowhere.invalid'),
    rule: /AUDIT_URL names a server by a name that does not resolve \((ENOTFOUND|EAI_AGAIN)\)/,
  }),
  'a server without TLS, where TLS is required': async (database) => ({
    url: `${database.url('gateway')}?sslmode=verify-full`,
    rule: /AUDIT_URL names a server that offers no TLS, which its sslmode requires \(NO_TLS\)/,
  }),
  'a role that has no connection left': async (database) => {
    await database.query(`CREATE ROLE crowded LOGIN CONNECTION LIMIT 0 PASSWORD '${PASSWORDS.stranger}'`)
    return {
      url: database.url('stranger').replace('stranger:', 'crowded:'),
      rule: /AUDIT_URL names a server that has no connection left for the role \(53300\)/,
    }
  },
  'a server that is a standby': async (database) => {
    await database.query(`CREATE ROLE standby LOGIN PASSWORD '${PASSWORDS.stranger}'`)
    await database.query('ALTER ROLE standby SET default_transaction_read_only = on')
    await database.query('GRANT USAGE ON SCHEMA audit TO standby')
    await database.query('GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA audit TO standby')
    const url = database.url('stranger').replace('stranger:', 'standby:')
    return { url, rule: /AUDIT_URL must name a server that can be written \(25006\)/ }
  },
}

for (const [name, prepare] of Object.entries(REFUSED)) {
  testOn(`${name} stops the start, and no password is told`, async (t, database) => {
    await migrate(database)
    const { url, rule } = await prepare(database)
    await assert.rejects(open(t, { url: new Secret(url) }), isRefused(rule))
  })
}

/** A server that only gets as far as this before it has said enough. */
const FAKES: Readonly<Record<string, { answer: (socket: Socket) => void; rule: RegExp; mode?: string }>> = {
  'is starting up': {
    answer: (socket) => socket.once('data', () => socket.end(errorMessage('57P03'))),
    rule: /AUDIT_URL names a server that is starting up or shutting down \(57P03\)/,
  },
  'refuses parameters, as a pooler does': {
    answer: (socket) => socket.once('data', () => socket.end(errorMessage('08P01'))),
    rule: /AUDIT_URL names a server, or a pooler before it, that does not accept the way to connect \(08P01\)/,
  },
  'never answers': {
    answer: (socket) => socket.resume(),
    rule: /AUDIT_URL names a server that does not answer in time \(TIMEOUT\)/,
  },
  'closes the connection': {
    answer: (socket) => socket.once('data', () => socket.end()),
    rule: /AUDIT_URL must name a PostgreSQL server that can be reached \((CONNECTION_LOST|ECONNRESET)\)/,
  },
  'has an expired certificate': {
    answer: secure(createCertificate('expired')),
    // Its own authority is not trusted either: Node reports whichever it finds first.
    rule: /AUDIT_URL names a server whose certificate (has expired \(CERT_HAS_EXPIRED\)|no trusted authority has signed)/,
    mode: 'verify-full',
  },
  'has a certificate that no authority has signed': {
    answer: secure(createCertificate()),
    rule: /AUDIT_URL names a server whose certificate no trusted authority has signed: see NODE_EXTRA_CA_CERTS \(\w+\)/,
    mode: 'verify-full',
  },
}

for (const [name, { answer, rule, mode }] of Object.entries(FAKES)) {
  test(`a server that ${name} stops the start, and the rule says so`, async (t) => {
    const port = await listenOn(t, createServer(answer))
    const query = mode === undefined ? '' : `?sslmode=${mode}`
    const url = new Secret(`postgres://gateway:${PASSWORDS.gateway}@127.0.0.1:${port}/record${query}`)
    const connectMs = name === 'never answers' ? 300 : 10_000
    await assert.rejects(open(t, { url, timing: { connectMs } }), isRefused(rule))
  })
}

const RUNTIME_FAULTS: Readonly<Record<string, { begin: string; end: string; reason: string }>> = {
  'a table is renamed': {
    begin: 'ALTER TABLE audit.outcomes RENAME TO lost',
    end: 'ALTER TABLE audit.lost RENAME TO outcomes',
    reason: '42P01',
  },
  'a column is renamed': {
    begin: 'ALTER TABLE audit.intents RENAME caller TO lost',
    end: 'ALTER TABLE audit.intents RENAME lost TO caller',
    reason: '42703',
  },
  'the schema is renamed': {
    begin: 'ALTER SCHEMA audit RENAME TO lost',
    end: 'ALTER SCHEMA lost RENAME TO audit',
    reason: '42P01',
  },
  'the right to append outcomes is revoked': {
    begin: 'REVOKE INSERT ON audit.outcomes FROM gateway',
    end: 'GRANT INSERT ON audit.outcomes TO gateway',
    reason: '42501',
  },
  'the right to append intents is revoked': {
    begin: 'REVOKE INSERT ON audit.intents FROM gateway',
    end: 'GRANT INSERT ON audit.intents TO gateway',
    reason: '42501',
  },
  'the database is read-only': {
    begin: 'ALTER SYSTEM SET default_transaction_read_only = on; SELECT pg_reload_conf()',
    end: 'SET transaction_read_only = off; ALTER SYSTEM RESET default_transaction_read_only; SELECT pg_reload_conf()',
    reason: '25006',
  },
}

for (const [name, { begin, end, reason }] of Object.entries(RUNTIME_FAULTS)) {
  testOn(`a gateway is not ready and cancels nothing while ${name}, and logs why`, async (t, database) => {
    const env = { AUDIT_URL: database.url('gateway'), AUDIT_ADMIN_URL: database.url('record_owner') }
    const { api, upstream, logLines } = await startGateway(t, { env })
    const cancel = async () => (await api.delete(`/tasks/${upstream.addTask()}`).set(asOperator)).status
    const execute = async (statements: string): Promise<void> => {
      const session = await database.session(t)
      for (const sql of statements.split('; ')) await session(sql)
    }
    const becomes = (status: number) =>
      eventually(async () => ((await api.get('/readyz')).status === status ? true : undefined))
    assert.equal(await cancel(), 202)

    await execute(begin)
    await becomes(503)
    assert.equal(await cancel(), 503)
    assert.equal(upstream.calls.filter(({ action }) => action === 'CancelTask').length, 1)
    await execute(end)
    await becomes(200)
    assert.equal(await cancel(), 202)

    const lines = logLines
      .map((line) => JSON.parse(line))
      .filter(({ level, reason }) => level === 'error' && reason !== undefined)
    assert.deepEqual([...new Set(lines.map(({ msg, reason }) => `${msg}: ${reason}`))].sort(), [
      `the audit trail is not writable; the gateway is not ready: ${reason}`,
      `the intent of a cancellation could not be written: ${reason}`,
    ])
    for (const password of Object.values(PASSWORDS)) assert.ok(!logLines.join().includes(password))
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

testOn('each start finds what was lost, however long ago', async (t, database) => {
  const DAYS_MS = 24 * 60 * MINUTE_MS
  const lost = [31, 59, 61, 400].map((days) => intentOf({ deadlineAtMs: Date.now() - days * DAYS_MS }))
  const before = await open(t, urlsOf(database))
  await before.append(lost, [])
  const store = await open(t, urlsOf(database))
  assert.equal(store.recovered, lost.length)
  for (const { id } of lost) assert.equal((await store.find(id))?.outcome, 'unknown')
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

testOn('of two that recover at the same moment only one tells, and each is written once', async (t, database) => {
  const store = await open(t, urlsOf(database))
  await store.append([intentOf({ deadlineAtMs: Date.now() - MINUTE_MS })], [])
  // The other has judged and not yet committed.
  const other = await database.session(t)
  await other(`BEGIN; INSERT INTO audit.outcomes (cancellation_id, outcome, finished_at)
    SELECT id, 'unknown', deadline_at FROM audit.intents`)
  const recovered = store.recover()
  await waitForBlockedStatement(database)
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

/** A busy machine responds within them. */
const QUICK = { connectMs: 3000, lockMs: 3000, statementMs: 3000 }

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
    await assert.rejects(attempt(), /^(Append|Store)Error: the audit store could not do it \(\w+\)$/)
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

const isUnsure = (error: unknown): boolean => error instanceof AppendError && error.kind === 'indeterminate'

testOn('an intent whose commit is not answered counts as not written, though it may be there', async (t, database) => {
  const cutter = await startCuttingProxy(t, database)
  const store = await open(t, { ...urlsOf(database, cutter.port), timing: QUICK })
  const intent = lasting()
  await cutter.cutDuring(() => assert.rejects(store.append([intent], []), isUnsure))
  assert.equal((await store.find(intent.id))?.outcome, 'pending')
})

testOn('an outcome whose commit is not answered is tried again, and is there once', async (t, database) => {
  const cutter = await startCuttingProxy(t, database)
  const store = await open(t, { ...urlsOf(database, cutter.port), timing: QUICK })
  const intent = lasting()
  await store.append([intent], [])
  await cutter.cutDuring(() => assert.rejects(store.append([], [outcomeOf(intent)]), isUnsure))
  assert.equal((await database.query('SELECT * FROM audit.outcomes')).length, 1)
  await store.append([], [outcomeOf(intent)])
  assert.equal((await database.query('SELECT * FROM audit.outcomes')).length, 1)
  assert.equal((await store.find(intent.id))?.outcome, 'accepted')
})

testOn('an administrator whose connection is cut midway stops the start and nothing else', async (t, database) => {
  const cutter = await startCuttingProxy(t, database)
  const holding = await database.session(t)
  await holding('SELECT pg_advisory_lock(7240019)')
  const adminUrl = new Secret(database.url('record_owner', cutter.port))
  const refused = isRefused(/AUDIT_ADMIN_URL must name a PostgreSQL server that can be reached/)
  const opened = assert.rejects(open(t, { ...urlsOf(database), adminUrl }), refused)
  await waitForBlockedStatement(database)
  await cutter.cutDuring(async () => {
    await holding('SELECT pg_advisory_unlock(7240019)')
    await opened
  })
})
