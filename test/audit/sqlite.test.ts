import assert from 'node:assert/strict'
import { readFileSync, statSync } from 'node:fs'
import { readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { openSqliteStore } from '../../src/audit/sqlite.ts'
import { type AuditFilter, createTrail, type Intent, type Outcome } from '../../src/audit/trail.ts'
import { ConfigError } from '../../src/errors.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { intentOf, outcomeOf } from '../helpers/audit-events.ts'
import { temporaryFolder } from '../helpers/gateway.ts'

/** A store that can be closed and opened again; it is closed when the test is over. */
const openStore = async (t: TestContext, path?: string) => {
  const file = path ?? join(await temporaryFolder(t), 'audit.db')
  const store = await openSqliteStore(file)
  let closed: Promise<void> | undefined
  const close = (): Promise<void> => {
    closed ??= store.close()
    return closed
  }
  t.after(close)
  const taskNos = async (filter: Partial<AuditFilter>) => {
    const { records } = await store.list({ limit: 100, before: null, ...filter })
    return records.map(({ taskNo }) => taskNo)
  }
  return { ...store, close, path: file, taskNos }
}

/** Another connection to the same file. */
const openBeside = (t: TestContext, path: string, readOnly = true): DatabaseSync => {
  const database = new DatabaseSync(path, { readOnly })
  t.after(() => database.close())
  return database
}

/** Commits in the write-ahead log: frames that carry the size of the database. https://www.sqlite.org/fileformat2.html#walformat */
const commitsIn = (path: string): number => {
  const log = readFileSync(`${path}-wal`)
  const salt = log.subarray(16, 24)
  const frameBytes = 24 + log.readUInt32BE(8)
  let commits = 0
  for (let at = 32; at + frameBytes <= log.length; at += frameBytes) {
    if (log.subarray(at + 8, at + 16).equals(salt) && log.readUInt32BE(at + 4) > 0) commits += 1
  }
  return commits
}

test('an intent reads back as it was written, and as pending', async (t) => {
  const store = await openStore(t)
  const intent = intentOf({ issuer: 'https://issuer.example.com', userAgent: null, clientIp: '2001:db8::1' })
  await store.append([intent], [])
  const { instanceId: _, deadlineAtMs: __, ...kept } = intent
  const open = { outcome: 'pending', attempts: null, requestId: null, upstreamCode: null, finishedAtMs: null }
  assert.deepEqual(await store.find(intent.id), { ...kept, ...open, settledBy: null })
})

test('an outcome completes its intent', async (t) => {
  const store = await openStore(t)
  const intent = intentOf()
  const { cancellationId: _, ...outcome } = outcomeOf(intent, { outcome: 'rejected', upstreamCode: 'TaskNotCancel' })
  await store.append([intent], [])
  await store.append([], [{ ...outcome, cancellationId: intent.id }])
  const found = await store.find(intent.id)
  assert.deepEqual({ ...found, ...outcome }, found)
})

test('what was never written is not found', async (t) => {
  const store = await openStore(t)
  assert.equal(await store.find('nothing'), null)
  assert.deepEqual(await store.list({ limit: 10, before: null }), { records: [], next: null })
})

const FOLDS: readonly (readonly [string, readonly Outcome[], Outcome])[] = [
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
]

for (const [name, outcomes, expected] of FOLDS) {
  test(name, async (t) => {
    const store = await openStore(t)
    const intent = intentOf()
    await store.append([intent], [])
    for (const outcome of outcomes) await store.append([], [outcomeOf(intent, { outcome })])
    const { records } = await store.list({ limit: 10, before: null })
    assert.deepEqual(
      records.map(({ outcome }) => outcome),
      [expected],
    )
    assert.equal((await store.find(intent.id))?.outcome, expected)
  })
}

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

test('the list is newest first and holds what the filter asks for', async (t) => {
  const store = await openStore(t)
  for (const [intent, outcome] of FOUR) {
    await store.append([intent], outcome === null ? [] : [outcomeOf(intent, { outcome })])
  }
  for (const [name, filter, expected] of FILTERS) assert.deepEqual(await store.taskNos(filter), expected, name)
})

test('pages continue where they stopped although rows arrive meanwhile, and end', async (t) => {
  const store = await openStore(t)
  for (const taskNo of ['t-1', 't-2', 't-3', 't-4']) await store.append([intentOf({ taskNo })], [])
  const seen: string[] = []
  for (let before: number | null = null, page = 0; page === 0 || before !== null; page += 1) {
    const { records, next }: Awaited<ReturnType<typeof store.list>> = await store.list({ limit: 2, before })
    seen.push(...records.map(({ taskNo }) => taskNo))
    await store.append([intentOf({ taskNo: 'late' })], [])
    before = next
  }
  assert.deepEqual(seen, ['t-4', 't-3', 't-2', 't-1'])
})

test('an append is all or nothing', async (t) => {
  const store = await openStore(t)
  const [intent, orphan] = [intentOf(), intentOf()]
  await assert.rejects(store.append([intent], [outcomeOf(orphan)]))
  assert.equal(await store.find(intent.id), null)
})

test('an append that fails does not spoil those that came with it', async (t) => {
  const store = await openStore(t)
  const intent = intentOf()
  const appended = [store.append([intent], []), store.append([intent], []), store.append([intentOf()], [])]
  const ends = await Promise.allSettled(appended)
  assert.deepEqual(
    ends.map(({ status }) => status),
    ['fulfilled', 'rejected', 'fulfilled'],
  )
  assert.equal((await store.taskNos({})).length, 2)
})

test('a durable append is seen by another process at once', async (t) => {
  const store = await openStore(t)
  const intent = intentOf()
  await store.append([intent], [])
  const row = openBeside(t, store.path).prepare('SELECT id FROM intents').get()
  assert.deepEqual({ ...row }, { id: intent.id })
})

test('many appends at once share few commits', async (t) => {
  const store = await openStore(t)
  const before = commitsIn(store.path)
  await Promise.all(Array.from({ length: 100 }, () => store.append([intentOf()], [])))
  const commits = commitsIn(store.path) - before
  assert.ok(commits >= 1 && commits <= 25, `${commits} commits`)
})

test('a single append is a single commit', async (t) => {
  const store = await openStore(t)
  const before = commitsIn(store.path)
  await store.append([intentOf()], [])
  assert.equal(commitsIn(store.path) - before, 1)
})

test('an event can be changed by nobody', async (t) => {
  const store = await openStore(t)
  const intent = intentOf()
  await store.append([intent], [outcomeOf(intent)])
  const database = openBeside(t, store.path, false)
  for (const change of ["UPDATE intents SET caller = 'x'", "UPDATE outcomes SET outcome = 'failed'"]) {
    assert.throws(() => database.exec(change), /events are never updated/, change)
  }
})

test('every file of the record is for its owner only', async (t) => {
  const store = await openStore(t)
  await store.append([intentOf()], [])
  const folder = join(store.path, '..')
  const names = await readdir(folder)
  for (const name of ['audit.db', 'audit.db-wal', 'audit.db-shm']) assert.ok(names.includes(name), name)
  assert.deepEqual(
    names.filter((name) => (statSync(join(folder, name)).mode & 0o777) !== 0o600),
    [],
  )
})

test('probing writes, and leaves no event', async (t) => {
  const store = await openStore(t)
  const before = commitsIn(store.path)
  await store.probe()
  assert.equal(commitsIn(store.path) - before, 1)
  assert.deepEqual(await store.taskNos({}), [])
})

test('what was pending when the store was left is unknown when it opens again, and the settled stays', async (t) => {
  const left = await openStore(t)
  const [pending, settled] = [intentOf({ taskNo: 't-1' }), intentOf({ taskNo: 't-2' })]
  await left.append([pending, settled], [outcomeOf(settled)])
  const before = await left.find(settled.id)
  await left.close()

  const store = await openStore(t, left.path)

  assert.deepEqual([left.recovered, store.recovered], [0, 1])
  const recovered = await store.find(pending.id)
  assert.deepEqual([recovered?.outcome, recovered?.attempts, recovered?.requestId], ['unknown', null, null])
  assert.ok(Math.abs((recovered?.finishedAtMs ?? 0) - Date.now()) < 60_000)
  assert.deepEqual(await store.find(settled.id), before)
})

test('what was recovered once is not recovered again', async (t) => {
  const left = await openStore(t)
  await left.append([intentOf()], [])
  await left.close()
  await (await openStore(t, left.path)).close()
  assert.equal((await openStore(t, left.path)).recovered, 0)
})

test('a record in use is refused as a fault of the setting, and free once it is closed', async (t) => {
  const first = await openStore(t)
  const intent = intentOf()
  await first.append([intent], [])
  await assert.rejects(openSqliteStore(first.path), (error) => {
    assert.ok(error instanceof ConfigError)
    assert.match(error.message, /AUDIT_URL is in use by another gateway/)
    return true
  })
  assert.equal((await first.find(intent.id))?.outcome, 'pending')
  await first.close()
  assert.equal((await (await openStore(t, first.path)).find(intent.id))?.id, intent.id)
})

test('a record whose reader cannot start can be closed meanwhile, and opened again', async (t) => {
  const store = await openStore(t)
  await rm(store.path)
  const reading = store.find('nothing')
  const closed = store.close()
  await assert.rejects(reading)
  await closed
  await (await openStore(t, store.path)).append([intentOf()], [])
})

test('under a foreign lock many appends fail with one wait for it, and work again when it is gone', async (t) => {
  const store = await openStore(t)
  const other = openBeside(t, store.path, false)
  const append = () => store.append([intentOf()], [])
  other.exec('BEGIN IMMEDIATE')
  const startedAt = performance.now()
  const waits = await Promise.all(
    Array.from({ length: 8 }, () => assert.rejects(append()).then(() => performance.now() - startedAt)),
  )
  // What arrives after the first wait has begun shares a second one.
  assert.ok(Math.max(...waits) < 3 * Math.min(...waits), waits.join())
  other.exec('ROLLBACK')
  await append()
  assert.equal((await store.taskNos({})).length, 1)
})

test('a row that cannot be understood makes its record unavailable, with an alarm', async (t) => {
  const store = await openStore(t)
  const intent = intentOf()
  await store.append([intent], [])
  openBeside(t, store.path, false)
    .prepare("INSERT INTO outcomes (cancellation_id, outcome, finished_at) VALUES (?, 'canary', 0)")
    .run(intent.id)
  const lines: string[] = []
  const trail = createTrail({ store, log: createLog('info', { write: (line) => void lines.push(line) }) })
  await assert.rejects(trail.find(intent.id), { code: 'audit-unavailable' })
  assert.match(lines.join(), /"level":"error".*"msg":"the record could not be read"/)
  assert.doesNotMatch(lines.join(), /canary/)
})

test('a folder that is missing is made', async (t) => {
  const store = await openStore(t, join(await temporaryFolder(t), 'data', 'audit.db'))
  await store.append([intentOf()], [])
  assert.equal((await store.taskNos({})).length, 1)
})

for (const [name, path] of Object.entries({
  'a folder in the place of the file': '.',
  'a path below a file': 'file/audit.db',
  'a file that is no database': 'file',
})) {
  test(`${name} is refused as a fault of the setting`, async (t) => {
    const folder = await temporaryFolder(t)
    await writeFile(join(folder, 'file'), 'this is no database, and long enough to be seen as none\n'.repeat(20))
    await assert.rejects(openSqliteStore(join(folder, path)), (error) => {
      assert.ok(error instanceof ConfigError)
      assert.match(error.message, /AUDIT_URL must name a file/)
      return true
    })
  })
}
