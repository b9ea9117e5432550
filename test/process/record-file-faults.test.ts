import assert from 'node:assert/strict'
import { copyFileSync, openSync, readFileSync, renameSync, rmSync, symlinkSync, truncateSync, writeSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { backup, DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { openSqliteStore } from '../../src/audit/sqlite.ts'
import { intentOf, outcomeOf } from '../helpers/audit-events.ts'
import {
  asAuditor,
  asOperator,
  cancelCalls,
  eventually,
  type Started,
  startGateway,
  temporaryFolder,
} from '../helpers/gateway.ts'
import { allRecords, prepare, spawnGateway, startProcess, waitForCancels } from '../helpers/process.ts'
import { checkTable, type FaultRow } from '../helpers/reliability-doc.ts'
import { startResponseHoldingProxy } from '../helpers/upstream-proxy.ts'

// The files of the record on SQLite are deleted, replaced or damaged while a gateway has them open.

const SIDES = ['', '-wal', '-shm'] as const

/** Paths of one record; the folder holds nothing else. */
const placesIn = (path: string) => ({ path, folder: dirname(path), elsewhere: `${dirname(path)}-elsewhere` })
type Places = ReturnType<typeof placesIn>

interface FileFault {
  readonly name: string
  readonly begin: (places: Places) => void | Promise<void>
  /** Words that the log can have for it. A program that opens the record makes a side file that was deleted anew. */
  readonly reasons: readonly string[]
  /** Where it can be undone without a new start. */
  readonly end?: (places: Places) => void
}

const overwrite = (path: string, from: number, to: number): void => {
  const file = openSync(path, 'r+')
  writeSync(file, Buffer.alloc(to - from, 0xa5), 0, to - from, from)
}

const sizeOf = (path: string): number => readFileSync(path).length

const move = (from: string, to: string): void => renameSync(from, to)

const FAULTS: readonly FileFault[] = [
  {
    name: 'the audit file is deleted with its side files',
    begin: ({ path }) => {
      for (const side of SIDES) rmSync(path + side)
    },
    reasons: ['FILE_DELETED'],
  },
  { name: 'the audit file is deleted alone', begin: ({ path }) => rmSync(path), reasons: ['FILE_DELETED'] },
  {
    name: 'the audit file is moved away',
    begin: ({ path }) => move(path, `${path}.old`),
    reasons: ['FILE_DELETED'],
    end: ({ path }) => move(`${path}.old`, path),
  },
  {
    name: 'its folder is renamed',
    begin: ({ folder, elsewhere }) => move(folder, elsewhere),
    reasons: ['FILE_DELETED'],
    end: ({ folder, elsewhere }) => move(elsewhere, folder),
  },
  {
    name: 'its folder is deleted',
    begin: ({ folder }) => rmSync(folder, { recursive: true }),
    reasons: ['FILE_DELETED'],
  },
  {
    name: 'another file replaces it',
    begin: ({ path, folder }) => {
      copyFileSync(path, join(folder, 'copy'))
      move(join(folder, 'copy'), path)
    },
    reasons: ['FILE_REPLACED'],
  },
  {
    name: 'an empty file replaces it',
    begin: ({ path }) => {
      rmSync(path)
      openSync(path, 'w')
    },
    reasons: ['FILE_REPLACED'],
  },
  {
    name: 'its folder is replaced by a copy',
    begin: async ({ path, folder, elsewhere }) => {
      move(folder, elsewhere)
      await mkdir(folder)
      for (const side of SIDES) copyFileSync(path.replace(folder, elsewhere) + side, path + side)
    },
    reasons: ['FILE_REPLACED'],
  },
  {
    name: 'the write-ahead log is deleted',
    begin: ({ path }) => rmSync(`${path}-wal`),
    reasons: ['WAL_DELETED', 'WAL_REPLACED'],
  },
  {
    name: 'the write-ahead log is replaced',
    begin: ({ path }) => {
      copyFileSync(`${path}-wal`, `${path}-wal.copy`)
      move(`${path}-wal.copy`, `${path}-wal`)
    },
    reasons: ['WAL_REPLACED'],
  },
  {
    name: 'the write-ahead log is emptied',
    begin: ({ path }) => truncateSync(`${path}-wal`),
    reasons: ['WAL_TRUNCATED'],
  },
  {
    name: 'the write-ahead log is cut short',
    begin: ({ path }) => truncateSync(`${path}-wal`, sizeOf(`${path}-wal`) / 2),
    reasons: ['WAL_TRUNCATED'],
  },
  {
    name: 'the header of the write-ahead log is damaged',
    begin: ({ path }) => overwrite(`${path}-wal`, 0, 32),
    reasons: ['WAL_OVERWRITTEN'],
  },
  {
    name: 'a page in the write-ahead log is damaged',
    begin: ({ path }) => overwrite(`${path}-wal`, 1000, 2000),
    reasons: ['WAL_OVERWRITTEN'],
  },
  {
    name: 'the index of the log is deleted',
    begin: ({ path }) => rmSync(`${path}-shm`),
    reasons: ['SHM_DELETED', 'SHM_REPLACED'],
  },
  { name: 'the audit file is emptied', begin: ({ path }) => truncateSync(path), reasons: ['FILE_TRUNCATED'] },
  {
    name: 'it is cut short',
    begin: ({ path }) => truncateSync(path, sizeOf(path) / 2),
    reasons: ['FILE_TRUNCATED'],
  },
  { name: 'its header is damaged', begin: ({ path }) => overwrite(path, 0, 100), reasons: ['FILE_OVERWRITTEN'] },
  {
    name: 'pages in its middle are damaged',
    begin: ({ path }) => overwrite(path, 8192, sizeOf(path) - 8192),
    reasons: ['FILE_DAMAGED', 'SQLITE_CORRUPT'],
  },
  {
    name: 'all of it is damaged',
    begin: ({ path }) => overwrite(path, 0, sizeOf(path)),
    reasons: ['FILE_OVERWRITTEN'],
  },
  {
    name: 'an older copy is written over it',
    begin: ({ path }) => copyFileSync(`${path}.older`, path),
    reasons: ['FILE_TRUNCATED', 'FILE_OVERWRITTEN'],
  },
  {
    name: 'an older copy is restored into it',
    begin: async ({ path }) => {
      const older = new DatabaseSync(`${path}.older`)
      await backup(older, path)
      older.close()
    },
    reasons: ['EVENTS_MISSING', 'FILE_OVERWRITTEN'],
  },
]

const EVENTS = 300

/** A record that was used before, so that its pages are in the main file, and a copy of it from an earlier time. */
const fill = async (path: string): Promise<void> => {
  for (const copy of [`${path}.older`, null]) {
    const store = await openSqliteStore(path)
    const intents = Array.from({ length: EVENTS }, () => intentOf({ requestedAtMs: Date.now() }))
    await store.append(
      intents,
      intents.map((intent) => outcomeOf(intent)),
    )
    await store.close()
    if (copy !== null) copyFileSync(path, copy)
  }
}

const start = async (t: TestContext) => {
  const { sandbox, env, auditPath } = await prepare(t)
  const places = placesIn(join(dirname(auditPath), 'record', 'audit.db'))
  await mkdir(places.folder)
  await fill(places.path)
  const gateway = await startGateway(t, { env: { AUDIT_URL: `sqlite:${places.path}`, UPSTREAM_URL: sandbox.url } })
  return { gateway, sandbox, env, places }
}

const reasonsIn = ({ logLines }: Started): readonly string[] =>
  logLines.map((line) => JSON.parse(line)).flatMap(({ reason }) => (typeof reason === 'string' ? [reason] : []))

const writableIn = async ({ adminUrl }: Started) =>
  /^gateway_audit_writable (\d)$/m.exec(await (await fetch(`${adminUrl}/metrics`)).text())?.[1]

/** The result of a cancel during a fault, as a row of the table. */
const cancelAfter = async (t: TestContext, { name, begin, reasons, end }: FileFault): Promise<FaultRow> => {
  const { gateway, sandbox, places } = await start(t)
  const cancel = () => gateway.api.delete(`/tasks/${sandbox.addTask()}`).set(asOperator)
  assert.equal((await cancel()).status, 202)

  await begin(places)
  const { status, body } = await cancel()
  const notReady = await gateway.api.get('/readyz')

  assert.deepEqual([notReady.status, notReady.body.code], [503, 'audit-unavailable'])
  assert.equal(await writableIn(gateway), '0')
  const logged = reasonsIn(gateway)
  assert.ok(logged.length >= 2)
  for (const each of logged)
    assert.ok(
      reasons.some((reason) => each.startsWith(reason)),
      each,
    )
  const received = cancelCalls(sandbox).length - 1

  end?.(places)
  assert.equal((await cancel()).status, end === undefined ? 503 : 202)
  if (end !== undefined) {
    await eventually(async () => ((await gateway.api.get('/readyz')).status === 200 ? true : undefined))
    const { body } = await gateway.api.get('/cancellations?limit=2').set(asAuditor)
    assert.deepEqual(
      body.items.map(({ outcome }: { outcome: string }) => outcome),
      ['accepted', 'accepted'],
    )
  }
  return {
    fault: `${name} (\`${reasons.join('` or `')}\`)`,
    request: 'DELETE',
    answer: `${status} ${body.code} ${body.outcome}`,
    record: end === undefined ? '–' : '–, writable again once it is back',
    upstream: `${received} received`,
  }
}

test('with any fault of the files of the audit trail nothing is sent and the gateway is not ready', async (t) => {
  const rows: FaultRow[] = []
  for (const fault of FAULTS) {
    await t.test(fault.name, async (t) => {
      rows.push(await cancelAfter(t, fault))
    })
  }
  checkTable('files', rows)
})

test('nothing is sent after the symbolic link to the record leads elsewhere', async (t) => {
  const { sandbox, auditPath } = await prepare(t)
  const link = `${auditPath}.link`
  symlinkSync(auditPath, link)
  const gateway = await startGateway(t, { env: { AUDIT_URL: `sqlite:${link}`, UPSTREAM_URL: sandbox.url } })
  const cancel = async () => (await gateway.api.delete(`/tasks/${sandbox.addTask()}`).set(asOperator)).status
  assert.equal(await cancel(), 202)
  copyFileSync(auditPath, `${auditPath}.other`)
  rmSync(link)
  symlinkSync(`${auditPath}.other`, link)
  assert.equal(await cancel(), 503)
  assert.ok(reasonsIn(gateway).includes('FILE_REPLACED'))
  rmSync(link)
  symlinkSync(auditPath, link)
  assert.equal(await cancel(), 202)
})

test('an outcome that finds the record moved away is reported truthfully, and written once it is back', async (t) => {
  const { sandbox, env, auditPath } = await prepare(t)
  const proxy = await startResponseHoldingProxy(t, sandbox.url)
  const gateway = await startProcess(t, { ...env, UPSTREAM_URL: proxy.url })
  const answer = gateway.api.delete(`/tasks/${sandbox.addTask()}`).set(asOperator).then()
  await waitForCancels(sandbox, 1)
  move(auditPath, `${auditPath}.old`)
  proxy.release()
  assert.equal((await answer).status, 202)
  const { reason } = await gateway.line('the outcome of a cancellation could not be written; the write is retried')
  assert.equal(reason, 'FILE_DELETED')
  move(`${auditPath}.old`, auditPath)
  const [record] = await eventually(async () => {
    const records = await gateway.records({ outcome: 'accepted' })
    return records.length > 0 ? records : undefined
  })
  assert.equal(record?.outcome, 'accepted')
})

test('a damaged write-ahead log adds nothing to the audit trail, which keeps its earlier records', async (t) => {
  const path = join(await temporaryFolder(t), 'audit.db')
  const store = await openSqliteStore(path)
  const [kept, lost, refused] = [intentOf(), intentOf(), intentOf()]
  await store.append([kept], [])
  // Moved to the main file.
  const other = new DatabaseSync(path)
  other.exec('PRAGMA wal_checkpoint(TRUNCATE)')
  other.close()
  await store.append([lost], [])
  overwrite(`${path}-wal`, 0, sizeOf(`${path}-wal`))
  await assert.rejects(store.append([refused], []), { code: 'WAL_OVERWRITTEN' })
  await store.close()
  const restarted = await openSqliteStore(path)
  t.after(() => restarted.close())
  const { records } = await restarted.list({ limit: 10, before: null })
  assert.deepEqual(
    records.map(({ id }) => id),
    [kept.id],
  )
})

test('programs that write to the record, and move its write-ahead log, are no fault of it', async (t) => {
  const path = join(await temporaryFolder(t), 'audit.db')
  const store = await openSqliteStore(path)
  t.after(() => store.close())
  const other = new DatabaseSync(path, { timeout: 1000 })
  t.after(() => other.close())
  other.exec('CREATE TABLE notes (text TEXT)')
  for (const mode of ['PASSIVE', 'FULL', 'RESTART', 'TRUNCATE'])
    for (const moment of ['after', 'before']) {
      other.exec("INSERT INTO notes VALUES ('x')")
      if (moment === 'before') await store.append([intentOf()], [])
      other.exec(`PRAGMA wal_checkpoint(${mode})`)
      await store.append([intentOf()], [])
    }
  await store.probe()
})

test('VACUUM by another program, after which the record is smaller, is no fault of it', async (t) => {
  const path = join(await temporaryFolder(t), 'audit.db')
  const store = await openSqliteStore(path)
  t.after(() => store.close())
  const old = Array.from({ length: EVENTS }, () => intentOf({ requestedAtMs: 1000 }))
  await store.append(old, [])
  while (await store.prune?.(3_600_000)) await store.probe()
  const other = new DatabaseSync(path, { timeout: 1000 })
  t.after(() => other.close())
  other.exec('PRAGMA wal_checkpoint(TRUNCATE)')
  const before = sizeOf(path)
  await store.probe()
  other.exec('VACUUM')
  await store.append([intentOf()], [])
  other.exec('PRAGMA wal_checkpoint(TRUNCATE)')
  assert.ok(sizeOf(path) < before)
  await store.append([intentOf()], [])
  await store.probe()
  const { records } = await store.list({ limit: 10, before: null })
  assert.equal(records.length, 2)
})

test('the records of a deleted write-ahead log are in the audit trail after a crash', async (t) => {
  const { sandbox, env, auditPath } = await prepare(t)
  const first = await startProcess(t, env)
  for (let count = 0; count < 3; count += 1) {
    await first.api.delete(`/tasks/${sandbox.addTask()}`).set(asOperator).expect(202)
  }
  rmSync(`${auditPath}-wal`)
  await first.api.delete(`/tasks/${sandbox.addTask()}`).set(asOperator).expect(503)
  first.kill('SIGKILL')
  await first.ended
  const records = await allRecords(await startProcess(t, env))
  assert.deepEqual(
    records.map(({ outcome }) => outcome),
    ['accepted', 'accepted', 'accepted'],
  )
})

const LOCK_FAULTS: Readonly<Record<string, (lock: string) => void>> = {
  deleted: (lock) => rmSync(lock),
  replaced: (lock) => {
    openSync(`${lock}.new`, 'w')
    move(`${lock}.new`, lock)
  },
}

for (const [name, breakLock] of Object.entries(LOCK_FAULTS)) {
  test(`a second gateway does not start after the lock file is ${name}, and judges nothing`, async (t) => {
    const { sandbox, env, auditPath } = await prepare(t)
    const proxy = await startResponseHoldingProxy(t, sandbox.url)
    const first = await startProcess(t, { ...env, UPSTREAM_URL: proxy.url })
    const answer = first.api.delete(`/tasks/${sandbox.addTask()}`).set(asOperator).then()
    await waitForCancels(sandbox, 1)

    breakLock(`${auditPath}-lock`)
    const second = await (await spawnGateway(t, env)).ended
    const [meanwhile] = await first.records()
    proxy.release()

    assert.equal(second.code, 1)
    assert.match(
      second.stderr,
      /AUDIT_URL is open in another program, perhaps a gateway, and its lock file was removed/,
    )
    assert.equal(meanwhile?.outcome, 'pending')
    assert.equal((await answer).status, 202)
    assert.equal((await first.records())[0]?.outcome, 'accepted')

    first.kill('SIGKILL')
    await first.ended
    const third = await startProcess(t, env)
    assert.equal((await third.records())[0]?.outcome, 'accepted')
    await third.api.delete(`/tasks/${sandbox.addTask()}`).set(asOperator).expect(202)
  })
}

test('a gateway starts beside a program that reads the record', async (t) => {
  const { sandbox, env, auditPath } = await prepare(t)
  const first = await startProcess(t, env)
  const reader = new DatabaseSync(auditPath, { readOnly: true })
  t.after(() => reader.close())
  reader.prepare('SELECT * FROM intents').all()
  first.kill('SIGTERM')
  await first.ended
  const second = await startProcess(t, env)
  await second.api.delete(`/tasks/${sandbox.addTask()}`).set(asOperator).expect(202)
})
