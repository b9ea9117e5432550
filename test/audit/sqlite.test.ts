import assert from 'node:assert/strict'
import { statSync } from 'node:fs'
import { chmod, cp, mkdir, open, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { openSqliteStore } from '../../src/audit/sqlite.ts'
import { ConfigError } from '../../src/errors.ts'
import { intentOf } from '../helpers/audit-events.ts'
import { temporaryFolder } from '../helpers/gateway.ts'
import { mountTmpfs, requires } from '../helpers/requirements.ts'
import { openTestStore } from '../helpers/stores.ts'

/** A store that can be closed and opened again; it is closed when the test is over. */
const openStore = async (t: TestContext, path?: string) => {
  const file = path ?? join(await temporaryFolder(t), 'audit.db')
  return { ...(await openTestStore(t, { open: () => openSqliteStore(file) })), path: file }
}

/** Another connection to the same file. */
const openBeside = (t: TestContext, path: string, readOnly = true): DatabaseSync => {
  const database = new DatabaseSync(path, { readOnly })
  t.after(() => database.close())
  return database
}

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

const modesIn = async (folder: string): Promise<readonly string[]> =>
  (await readdir(folder)).map((name) => `${name} ${(statSync(join(folder, name)).mode & 0o777).toString(8)}`).sort()

const PRIVATE = ['', '-lock', '-lock-journal', '-shm', '-wal'].map((suffix) => `audit.db${suffix} 600`)

for (const umask of [0o000, 0o022, 0o277, 0o777]) {
  test(`with the umask ${umask.toString(8)} a new folder and every file of the record are for their owner only`, async (t) => {
    const folder = join(await temporaryFolder(t), 'data')
    const before = process.umask(umask)
    const store = await openStore(t, join(folder, 'audit.db')).finally(() => process.umask(before))
    await store.append([intentOf()], [])
    assert.equal(statSync(folder).mode & 0o777, 0o700)
    assert.deepEqual(await modesIn(folder), PRIVATE)
  })
}

for (const mode of [0o644, 0o640, 0o604, 0o666, 0o777]) {
  test(`files of a record with mode ${mode.toString(8)} are for their owner only after a start, and hold what they held`, async (t) => {
    const { path, append } = await openStore(t)
    const intent = intentOf()
    await append([intent], [])
    // As a copy of the folder leaves them: the database with its side files.
    const folder = join(await temporaryFolder(t), 'copy')
    await cp(join(path, '..'), folder, { recursive: true, filter: (file) => !file.endsWith('-lock') })
    await writeFile(join(folder, 'audit.db-lock'), '')
    for (const name of await readdir(folder)) await chmod(join(folder, name), mode)

    const copy = await openStore(t, join(folder, 'audit.db'))
    await copy.append([intentOf()], [])

    assert.deepEqual(await modesIn(folder), PRIVATE)
    assert.equal((await copy.find(intent.id))?.id, intent.id)
  })
}

test('the folder of an operator keeps its mode', async (t) => {
  const folder = join(await temporaryFolder(t), 'data')
  await mkdir(folder)
  await chmod(folder, 0o755)
  await openStore(t, join(folder, 'audit.db'))
  assert.equal(statSync(folder).mode & 0o777, 0o755)
})

for (const name of ['audit.db-wal', 'audit.db-shm', 'audit.db-journal', 'audit.db-lock-journal']) {
  test(`a link in the place of ${name} is refused as a fault of the setting`, async (t) => {
    const folder = await temporaryFolder(t)
    await writeFile(join(folder, 'other'), '')
    await symlink(join(folder, 'other'), join(folder, name))
    await assert.rejects(openSqliteStore(join(folder, 'audit.db')), (error) => {
      assert.ok(error instanceof ConfigError)
      assert.match(error.message, /AUDIT_URL must name a regular file that only this user can read/)
      return true
    })
  })
}

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
  // In its turn the read starts the thread.
  await setImmediate()
  const closed = store.close()
  await assert.rejects(reading, { code: 'SQLITE_CANTOPEN' })
  await closed
  await (await openStore(t, store.path)).append([intentOf()], [])
})

test('a read after the close is rejected and starts no thread', async (t) => {
  const { path } = await openStore(t)
  const store = await openSqliteStore(`${path}-other`)
  await store.close()
  await rm(`${path}-other`)
  await assert.rejects(store.list({ limit: 1, before: null }), { code: 'CLOSED' })
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
  // Requests after the start of the first wait share a second one.
  assert.ok(Math.max(...waits) < 5 * Math.min(...waits), waits.join())
  other.exec('ROLLBACK')
  await append()
  assert.equal((await store.taskNos({})).length, 1)
})

test('a start succeeds on a disk that has room for the side files alone, and writes once there is more', async (t) => {
  if (!requires(t, 'mount')) return
  const folder = mountTmpfs(t, 'size=2m')
  const path = join(folder, 'audit.db')
  await (await openStore(t, path)).close()
  const filler = await open(join(folder, 'filler'), 'w')
  await filler.write(Buffer.alloc(2 ** 21)).catch(() => undefined)
  await filler.truncate((await filler.stat()).size - 10 * 4096)
  await filler.close()
  const store = await openStore(t, path)
  await assert.rejects(store.probe(), { code: 'SQLITE_FULL' })
  await rm(join(folder, 'filler'))
  await store.probe()
})

test('a folder that is missing is made', async (t) => {
  const store = await openStore(t, join(await temporaryFolder(t), 'data', 'audit.db'))
  await store.append([intentOf()], [])
  assert.equal((await store.taskNos({})).length, 1)
})

const DAMAGED: Readonly<Record<string, (path: string) => Promise<void>>> = {
  SQLITE_NOTADB: (path) => writeFile(path, 'this is no database, and long enough to be seen as none\n'.repeat(20)),
  SQLITE_CORRUPT: async (path) => {
    await (await openSqliteStore(path)).close()
    const file = await open(path, 'r+')
    await file.write(Buffer.alloc(20_000, 0xa5), 0, 20_000, 100)
    await file.close()
  },
}

for (const [code, damage] of Object.entries(DAMAGED)) {
  test(`a start on a damaged record names the reason: ${code}`, async (t) => {
    const path = join(await temporaryFolder(t), 'audit.db')
    await damage(path)
    await assert.rejects(openSqliteStore(path), (error) => {
      assert.ok(error instanceof ConfigError)
      assert.match(error.message, new RegExp(`AUDIT_URL must name a file that holds a sound record.*\\(${code}`))
      return true
    })
  })
}

for (const content of ['this is no database, and long enough to be seen as none\n'.repeat(20), '\xa5'.repeat(4096)]) {
  test(`a start whose lock file has the content ${content.slice(0, 8)}… names that file, not the record`, async (t) => {
    const path = join(await temporaryFolder(t), 'audit.db')
    await (await openSqliteStore(path)).close()
    await writeFile(`${path}-lock`, content)
    await assert.rejects(openSqliteStore(path), (error) => {
      assert.ok(error instanceof ConfigError)
      assert.match(error.message, /AUDIT_URL has a lock file \(-lock\).*\(LOCK_FILE_DAMAGED;/)
      return true
    })
    await rm(`${path}-lock`)
    await (await openSqliteStore(path)).close()
  })
}

for (const [name, path] of Object.entries({
  'a folder in the place of the file': '.',
  'a path below a file': 'file/audit.db',
  'a file that is no database': 'file',
})) {
  test(`${name} is refused as a fault of the setting, with the reason, the file and the user`, async (t) => {
    const folder = await temporaryFolder(t)
    await writeFile(join(folder, 'file'), 'this is no database, and long enough to be seen as none\n'.repeat(20))
    const file = join(folder, path)
    await assert.rejects(openSqliteStore(file), (error) => {
      assert.ok(error instanceof ConfigError)
      assert.match(error.message, /AUDIT_URL must name a file.* \([A-Z_]+; file/)
      assert.ok(error.message.endsWith(`; file ${file}, user ${userInfo().uid})`))
      return true
    })
  })
}
