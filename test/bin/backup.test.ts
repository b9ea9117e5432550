import assert from 'node:assert/strict'
import {
  copyFileSync,
  existsSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { readdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { precedenceOrder } from '../../src/audit/precedence.ts'
import { openSqliteStore } from '../../src/audit/sqlite.ts'
import { backUp } from '../../src/audit/sqlite-backup.ts'
import type { Env } from '../../src/config.ts'
import { intentOf, outcomeOf } from '../helpers/audit-events.ts'
import { asOperator, startGateway, temporaryFolder } from '../helpers/gateway.ts'
import { PASSWORDS, runPostgresTool, usePostgres } from '../helpers/postgres.ts'
import {
  allRecords,
  type Line,
  prepare,
  type RunningGateway,
  runCommand,
  spawnGateway,
  startProcess,
} from '../helpers/process.ts'
import { mountTmpfs, requires } from '../helpers/requirements.ts'

const COMMAND = join(import.meta.dirname, '../../src/bin/backup.ts')

const servers = usePostgres()

const run = (t: TestContext, env: Env, ...args: readonly string[]) => runCommand(t, COMMAND, env, ...args)

const TABLES = ['intents', 'outcomes'] as const

/** Every row, with all of its columns. */
const rowsIn = (path: string): Readonly<Record<string, readonly string[]>> => {
  const db = new DatabaseSync(path, { readOnly: true })
  const entries = TABLES.map((table) => {
    const rows = db.prepare(`SELECT * FROM ${table} ORDER BY seq`).all()
    return [table, rows.map((row) => JSON.stringify(row))]
  })
  db.close()
  return Object.fromEntries(entries)
}

const PROJECTED_COLUMNS = 'requested_at, task_no, via, issuer, caller'

/** The rows of the projection, and the rows that the events beside them require. */
const projectionIn = (schema: '' | 'audit.') => [
  `SELECT intent_seq, ${PROJECTED_COLUMNS}, outcome, outcome_seq FROM ${schema}current_outcomes ORDER BY intent_seq`,
  `SELECT intents.seq AS intent_seq, ${PROJECTED_COLUMNS}, outcome, outcomes.seq AS outcome_seq
    FROM ${schema}intents AS intents LEFT JOIN ${schema}outcomes AS outcomes ON outcomes.seq = (
      SELECT seq FROM ${schema}outcomes AS events WHERE cancellation_id = intents.id
      ORDER BY ${precedenceOrder(`${schema}outcomes`)} LIMIT 1)
    ORDER BY intents.seq`,
]

/** Each cancellation is in the projection of the file, with the outcome that its events give. */
const assertProjected = (path: string): void => {
  const db = new DatabaseSync(path, { readOnly: true })
  db.exec('BEGIN')
  const [projected, expected] = projectionIn('').map((sql) => db.prepare(sql).all())
  db.close()
  assert.ok((projected?.length ?? 0) > 0)
  assert.deepEqual(projected, expected)
}

/** A record of some size. */
const fill = async (path: string, count: number): Promise<void> => {
  const store = await openSqliteStore(path)
  // Not so old that the gateway would remove them.
  const intents = Array.from({ length: count }, () => intentOf({ requestedAtMs: Date.now() }))
  await store.append(
    intents,
    intents.map((intent) => outcomeOf(intent)),
  )
  await store.close()
}

/** Cancels as long as something else is done. */
const cancelDuring = async <T>({ api }: Pick<RunningGateway, 'api'>, addTask: () => string, work: Promise<T>) => {
  let isOver = false
  const done = work.finally(() => {
    isOver = true
  })
  const statuses: number[] = []
  const callers = Array.from({ length: 4 }, async () => {
    while (!isOver) statuses.push((await api.delete(`/tasks/${addTask()}`).set(asOperator)).status)
  })
  const result = await done
  await Promise.all(callers)
  return { result, statuses }
}

const sortById = (records: readonly Line[]) => records.toSorted((a, b) => (String(a.id) < String(b.id) ? -1 : 1))

test('a copy beside a running gateway has every row of that moment, and can be started from', async (t) => {
  const { sandbox, env, auditPath } = await prepare(t)
  await fill(auditPath, 3000)
  const gateway = await startProcess(t, env)
  for (let count = 0; count < 5; count += 1) {
    await gateway.api.delete(`/tasks/${sandbox.addTask()}`).set(asOperator).expect(202)
  }
  const before = rowsIn(auditPath)
  const target = join(await temporaryFolder(t), 'copy.db')

  const { result, statuses } = await cancelDuring(gateway, sandbox.addTask, run(t, env, target))

  assert.deepEqual([result.code, result.stderr], [0, ''])
  assert.match(result.stdout, /^Copied 3\d{3} cancellations \(\d+\.\d MiB\) in \d+\.\d s\.\n$/)
  assert.deepEqual([...new Set(statuses)], [202])
  assert.equal(statSync(target).mode & 0o777, 0o600)
  assert.deepEqual(await readdir(dirname(target)), ['copy.db'])
  const [copied, after] = [rowsIn(target), rowsIn(auditPath)]
  for (const table of TABLES) {
    const [rows = [], first = []] = [copied[table], before[table]]
    assert.deepEqual(rows, after[table]?.slice(0, rows.length))
    assert.ok(rows.length >= first.length && first.length >= 3005)
  }
  assertProjected(target)
  const second = await (await spawnGateway(t, env)).ended
  assert.match(second.stderr, /AUDIT_URL is in use by another gateway/)

  const ids = new Set(copied.intents?.map((row) => JSON.parse(row).id))
  const original = (await allRecords(gateway)).filter(({ id }) => ids.has(id))
  gateway.kill('SIGTERM')
  await gateway.ended
  const restored = await startProcess(t, { ...env, AUDIT_URL: `sqlite:${target}` })
  const found = await allRecords(restored)
  // Cancellations in flight at that moment have no outcome.
  const isSettled = ({ id }: Line): boolean => found.find((record) => record.id === id)?.outcome !== 'unknown'
  assert.equal(found.length, ids.size)
  assert.deepEqual(sortById(found.filter(isSettled)), sortById(original.filter(isSettled)))
  assert.ok(found.filter(isSettled).length >= 3005)
  await restored.api.delete(`/tasks/${sandbox.addTask()}`).set(asOperator).expect(202)
  assertProjected(target)
})

test('a copy waits for no lock of a program that writes, and needs no gateway', async (t) => {
  const path = join(await temporaryFolder(t), 'audit.db')
  await fill(path, 10)
  const writer = new DatabaseSync(path)
  t.after(() => writer.close())
  writer.exec('BEGIN IMMEDIATE; DELETE FROM outcomes')
  const target = `${path}.copy`
  assert.equal((await run(t, { AUDIT_URL: `sqlite:${path}` }, target)).code, 0)
  assert.equal(rowsIn(target).outcomes?.length, 10)
})

test('a copy is restored by putting it in the place of the record', async (t) => {
  const { api, upstream, auditPath, stop } = await startGateway(t)
  const taskNo = upstream.addTask()
  await api.delete(`/tasks/${taskNo}`).set(asOperator).expect(202)
  const target = `${auditPath}.copy`
  assert.equal((await run(t, { AUDIT_URL: `sqlite:${auditPath}` }, target)).code, 0)
  await api.delete(`/tasks/${upstream.addTask()}`).set(asOperator).expect(202)
  await stop()
  const expected = rowsIn(target)
  renameSync(target, auditPath)
  const restored = await startGateway(t, { env: { AUDIT_URL: `sqlite:${auditPath}` } })
  assert.equal((await restored.record(taskNo)).outcome, 'accepted')
  assert.deepEqual(rowsIn(auditPath), expected)
  assertProjected(auditPath)
})

const damage = (path: string): void => {
  const [from, to] = [8192, statSync(path).size - 4096]
  writeSync(openSync(path, 'r+'), Buffer.alloc(to - from, 0xa5), 0, to - from, from)
}

interface Refusal {
  readonly said: RegExp
  readonly begin?: (paths: { path: string; target: string }) => void
  readonly env?: Env
}

const REFUSALS: Readonly<Record<string, Refusal>> = {
  'a target that exists': {
    begin: ({ target }) => writeFileSync(target, 'kept'),
    said: /^FILE exists already.*\(EEXIST\)\.\n$/,
  },
  'a target that is a link to nowhere': {
    begin: ({ target }) => symlinkSync(`${target}.nowhere`, target),
    said: /^FILE exists already/,
  },
  'a log of SQLite beside the target': {
    begin: ({ target }) => writeFileSync(`${target}-wal`, 'kept'),
    said: /^FILE exists already, or a file of SQLite beside it/,
  },
  'a record that is damaged': {
    begin: ({ path }) => damage(path),
    said: /^AUDIT_URL names a record that cannot be read/,
  },
  'a file that is no record': {
    begin: ({ path }) => writeFileSync(path, 'this is no database, and long enough to be seen as none\n'.repeat(20)),
    said: /^AUDIT_URL names a record that cannot be read.*\(SQLITE_NOTADB\)/,
  },
  'a database of another kind': {
    begin: ({ path }) => copyFileSync(`${path}.other`, path),
    said: /^AUDIT_URL names a record that cannot be read.*\(SQLITE_ERROR\)/,
  },
  'a record that does not exist': {
    env: { AUDIT_URL: 'sqlite:./none.db' },
    said: /^AUDIT_URL names a record that does not exist/,
  },
  'a setting that is missing': {
    env: {},
    said: /^AUDIT_URL names a record that does not exist\. Where it is not set, that is \.\/data\/audit\.db/,
  },
  'a record that is a folder': {
    env: { AUDIT_URL: 'sqlite:.' },
    said: /^AUDIT_URL names a record that does not exist/,
  },
  'a record on PostgreSQL': {
    env: { AUDIT_URL: 'postgres://gateway:canary@127.0.0.1:1/record' },
    said: /^AUDIT_URL names a record on PostgreSQL.*pg_dump/s,
  },
  'a faulty setting': { env: { AUDIT_URL: 'mysql://x:canary@y/z' }, said: /AUDIT_URL must be sqlite:<path of a file>/ },
}

for (const [name, { begin, env, said }] of Object.entries(REFUSALS)) {
  test(`${name} is refused, and nothing is left behind or changed`, async (t) => {
    const folder = await temporaryFolder(t)
    const paths = { path: join(folder, 'audit.db'), target: join(folder, 'copy.db') }
    await fill(paths.path, 300)
    new DatabaseSync(`${paths.path}.other`).close()
    begin?.(paths)
    const contents = async () => {
      const names = (await readdir(folder)).filter((each) => !/-(wal|shm)$/.test(each) || each.startsWith('copy'))
      return names.map((each) => [each, each === 'copy.db' ? statSync(folder).ino : null])
    }
    const before = await contents()
    const { code, stdout, stderr } = await run(t, env ?? { AUDIT_URL: `sqlite:${paths.path}` }, paths.target)
    assert.deepEqual([code, stdout], [1, ''])
    assert.match(stderr, said)
    assert.doesNotMatch(stderr, /canary| {4}at /)
    assert.deepEqual(await contents(), before)
    if (name === 'a target that exists') assert.equal(readFileSync(paths.target, 'utf8'), 'kept')
  })
}

test('a target in a folder that does not exist is refused', async (t) => {
  const path = join(await temporaryFolder(t), 'audit.db')
  await fill(path, 1)
  const { code, stderr } = await run(t, { AUDIT_URL: `sqlite:${path}` }, join(dirname(path), 'none', 'copy.db'))
  assert.equal(code, 1)
  assert.match(stderr, /^FILE cannot be written\. No copy was kept \(ENOENT\)\.\n$/)
})

/** Takes the error output as a terminal, and sends the signal once the first progress is shown there. */
const signalAtProgress = (signal: NodeJS.Signals): string => `
  import process from 'node:process'
  process.stderr.isTTY = true
  const { write } = process.stderr
  process.stderr.write = (...args) => {
    process.stderr.write = write
    process.kill(process.pid, '${signal}')
    return write.apply(process.stderr, args)
  }
`

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  test(`a copy that ${signal} interrupts leaves nothing behind`, async (t) => {
    const [folder, elsewhere] = [await temporaryFolder(t), await temporaryFolder(t)]
    const path = join(folder, 'audit.db')
    await fill(path, 8000)
    const preload = join(folder, 'signal.mjs')
    writeFileSync(preload, signalAtProgress(signal))
    const env = { AUDIT_URL: `sqlite:${path}`, NODE_OPTIONS: `--import=${preload}` }
    const { code } = await run(t, env, join(elsewhere, 'copy.db'))
    assert.deepEqual([code, await readdir(elsewhere)], [1, []])
  })
}

for (const suffix of ['-journal', '-wal', '-shm', '-lock']) {
  test(`a target with the name of the file that stands beside the record as ${suffix} is refused`, async (t) => {
    const path = join(await temporaryFolder(t), 'audit.db')
    await fill(path, 1)
    rmSync(path + suffix, { force: true })
    const { code, stderr } = await run(t, { AUDIT_URL: `sqlite:${path}` }, path + suffix)
    assert.equal(code, 1)
    assert.match(stderr, /^FILE has a name of a file beside a record .* \(EINVAL\)\.\n$/)
    assert.equal(existsSync(path + suffix), false)
  })
}

test('a target with the longest name that there is gets its copy, and a longer one is refused with the reason', async (t) => {
  const path = join(await temporaryFolder(t), 'audit.db')
  await fill(path, 1)
  // SQLite adds `-journal`, and looks for such a file.
  const [longest, longer] = [247, 256].map((length) => join(dirname(path), 'a'.repeat(length)))
  const copied = await run(t, { AUDIT_URL: `sqlite:${path}` }, longest ?? '')
  assert.deepEqual([copied.code, copied.stderr], [0, ''])
  const { code, stderr } = await run(t, { AUDIT_URL: `sqlite:${path}` }, longer ?? '')
  assert.equal(code, 1)
  assert.match(stderr, /^FILE cannot be written\. No copy was kept \(ENAMETOOLONG\)\.\n$/)
})

test('with any umask a copy is readable and writable to its user alone', async (t) => {
  const path = join(await temporaryFolder(t), 'audit.db')
  await fill(path, 1)
  for (const umask of [0o000, 0o277, 0o777]) {
    const target = `${path}.${umask}`
    const options = { path, target, onProgress: () => undefined, signal: new AbortController().signal }
    const before = process.umask(umask)
    const result = await backUp(options).finally(() => process.umask(before))
    assert.deepEqual([result.ok, statSync(target).mode & 0o777], [true, 0o600])
  }
})

test('a copy that finds the disk full is not kept', async (t) => {
  if (!requires(t, 'mount')) return
  const path = join(await temporaryFolder(t), 'audit.db')
  await fill(path, 3000)
  const folder = mountTmpfs(t, 'size=256k')
  const { code, stderr } = await run(t, { AUDIT_URL: `sqlite:${path}` }, join(folder, 'copy.db'))
  assert.equal(code, 1)
  assert.match(stderr, /^FILE cannot be written\. No copy was kept \(SQLITE_FULL\)\.\n$/)
  assert.deepEqual(await readdir(folder), [])
})

for (const [name, args] of [
  ['no file', []],
  ['two files', ['a', 'b']],
  ['an unknown option', ['--to', 'a']],
] as const) {
  test(`${name} on the command line shows the usage`, async (t) => {
    const { code, stderr } = await run(t, {}, ...args)
    assert.equal(code, 2)
    assert.match(stderr, /Usage: npm run backup -- FILE/)
  })
}

test('PostgreSQL: a dump beside a running gateway has every row, and restores tables, rights and triggers', async (t) => {
  if (!requires(t, 'postgres')) return
  const server = await servers(t)
  const [database, empty] = [await server.database(), await server.database()]
  const { sandbox, env } = await prepare(t)
  const places = { AUDIT_URL: database.url('gateway'), AUDIT_ADMIN_URL: database.url('record_owner') }
  const gateway = await startProcess(t, { ...env, ...places })
  await gateway.api.delete(`/tasks/${sandbox.addTask()}`).set(asOperator).expect(202)
  const file = join(await temporaryFolder(t), 'record.dump')

  const dump = runPostgresTool('pg_dump', '--format=custom', '--schema=audit', `--file=${file}`, places.AUDIT_ADMIN_URL)
  const { statuses } = await cancelDuring(gateway, sandbox.addTask, dump)
  await runPostgresTool(
    'pg_restore',
    ...['--exit-on-error', '--single-transaction', `--dbname=${empty.url('record_owner')}`, file],
  )

  assert.deepEqual([...new Set(statuses)], [202])
  for (const table of TABLES) {
    const rows = await empty.query(`SELECT * FROM audit.${table} ORDER BY seq`)
    const seqs = rows.map(({ seq }) => seq).join()
    assert.ok(rows.length > 0)
    assert.deepEqual(rows, await database.query(`SELECT * FROM audit.${table} WHERE seq IN (${seqs}) ORDER BY seq`))
  }
  const assertAllProjected = async (): Promise<void> => {
    // In one statement, so that no event comes in between.
    const [projected, expected] = projectionIn('audit.').map((sql) => `(SELECT json_agg(rows) FROM (${sql}) AS rows)`)
    const [both] = await empty.query(`SELECT ${projected} AS projected, ${expected} AS expected`)
    assert.ok(Array.isArray(both?.projected))
    assert.deepEqual(both.projected, both.expected)
  }
  await assertAllProjected()
  // Nothing was lost: each cancellation that was answered before is there.
  const ids = (await empty.query('SELECT id FROM audit.intents')).map(({ id }) => id)
  const [oldest] = (await allRecords(gateway)).toReversed()
  assert.ok(ids.includes(oldest?.id))
  // Without an administrator: the rights came along.
  const restored = await startProcess(t, { ...env, AUDIT_URL: empty.url('gateway') })
  await restored.api.get('/readyz').expect(200)
  await restored.api.delete(`/tasks/${sandbox.addTask()}`).set(asOperator).expect(202)
  assert.equal((await allRecords(restored)).length, ids.length + 1)
  await assertAllProjected()
  await assert.rejects(empty.query("UPDATE audit.intents SET caller = 'x'", 'gateway'), /permission denied/)
  for (const sql of ['UPDATE audit.intents SET via = via', 'DELETE FROM audit.outcomes']) {
    await assert.rejects(empty.query(sql, 'record_owner'), /events are never updated/)
  }
  for (const password of Object.values(PASSWORDS)) assert.ok(!readFileSync(file).includes(password))
})
