import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { KEYS, signedCall, startKeyedSandbox } from '../helpers/signed-call.ts'

const SCHEMA = `
  PRAGMA journal_mode = WAL;
  CREATE TABLE intents (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, task_no TEXT);
  CREATE TABLE outcomes (seq INTEGER PRIMARY KEY AUTOINCREMENT, cancellation_id TEXT, outcome TEXT);`

const createPath = (t: TestContext): string => {
  const folder = mkdtempSync(join(tmpdir(), 'sandbox-audit-'))
  t.after(() => rmSync(folder, { recursive: true }))
  return join(folder, 'audit.db')
}

const createStore = (t: TestContext, path: string): DatabaseSync => {
  const store = new DatabaseSync(path)
  t.after(() => store.close())
  store.exec(SCHEMA)
  return store
}

/** A sandbox that watches a store with the schema of the gateway, and one task in it. */
const startWatched = async (t: TestContext) => {
  const path = createPath(t)
  const store = createStore(t, path)
  const sandbox = await startKeyedSandbox(t, { auditPath: path })
  sandbox.addTask({ taskNo: 't-1' })
  const cancel = () => signedCall(sandbox, 'CancelTask', { TaskNo: 't-1' })
  return { store, sandbox, cancel }
}

const INTENT = "INSERT INTO intents (id, task_no) VALUES ('c-1', 't-1')"
const OTHER_INTENT = "INSERT INTO intents (id, task_no) VALUES ('c-2', 't-2')"
const OUTCOME = "INSERT INTO outcomes (cancellation_id, outcome) VALUES ('c-1', 'accepted')"

test('a cancellation whose intent is committed is no violation', async (t) => {
  const { store, sandbox, cancel } = await startWatched(t)
  store.exec(INTENT)
  await cancel()
  assert.equal(sandbox.violations, 0)
})

test('a cancellation without an intent is a violation', async (t) => {
  const { store, sandbox, cancel } = await startWatched(t)
  store.exec(OTHER_INTENT)
  await cancel()
  assert.equal(sandbox.violations, 1)
})

test('an intent that is not committed does not count', async (t) => {
  const { store, sandbox, cancel } = await startWatched(t)
  store.exec(`BEGIN; ${INTENT}`)
  await cancel()
  store.exec('ROLLBACK')
  assert.equal(sandbox.violations, 1)
})

test('an intent that has its outcome does not count', async (t) => {
  const { store, sandbox, cancel } = await startWatched(t)
  store.exec(INTENT)
  store.exec(OUTCOME)
  await cancel()
  assert.equal(sandbox.violations, 1)
})

test('a second intent is open although the first has its outcome', async (t) => {
  const { store, sandbox, cancel } = await startWatched(t)
  store.exec(`${INTENT}; ${OUTCOME}; INSERT INTO intents (id, task_no) VALUES ('c-3', 't-1')`)
  await cancel()
  assert.equal(sandbox.violations, 0)
})

test('what is committed while the sandbox runs is seen', async (t) => {
  const { store, sandbox, cancel } = await startWatched(t)
  await cancel()
  store.exec(INTENT)
  await cancel()
  assert.equal(sandbox.violations, 1)
})

test('a cancellation is looked at before its signature is', async (t) => {
  const { sandbox } = await startWatched(t)
  await signedCall(sandbox, 'CancelTask', { TaskNo: 't-1' }, { keys: { ...KEYS, accessKeySecret: 'wrong' } })
  assert.equal(sandbox.violations, 1)
})

test('queries need no intent', async (t) => {
  const { sandbox } = await startWatched(t)
  await signedCall(sandbox, 'QueryTaskList', { PageNum: '1', PageSize: '1' })
  assert.equal(sandbox.violations, 0)
})

test('a missing file is a violation until the store is there', async (t) => {
  const path = createPath(t)
  const sandbox = await startKeyedSandbox(t, { auditPath: path })
  await signedCall(sandbox, 'CancelTask', { TaskNo: 't-1' })
  createStore(t, path).exec(INTENT)
  await signedCall(sandbox, 'CancelTask', { TaskNo: 't-1' })
  assert.equal(sandbox.violations, 1)
})

test('a store without the tables is a violation', async (t) => {
  const path = createPath(t)
  new DatabaseSync(path).close()
  const sandbox = await startKeyedSandbox(t, { auditPath: path })
  await signedCall(sandbox, 'CancelTask', { TaskNo: 't-1' })
  assert.equal(sandbox.violations, 1)
})

test('a store that goes away is a violation', async (t) => {
  const { store, sandbox, cancel } = await startWatched(t)
  store.exec(INTENT)
  await cancel()
  store.exec('DROP TABLE intents')
  await cancel()
  assert.equal(sandbox.violations, 1)
})

test('nothing is a violation where no store is named', async (t) => {
  const sandbox = await startKeyedSandbox(t)
  await signedCall(sandbox, 'CancelTask', { TaskNo: 't-1' })
  assert.equal(sandbox.violations, 0)
})
