import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { openPostgresStore } from '../../src/audit/postgres.ts'
import type { Env } from '../../src/config.ts'
import { Secret } from '../../src/secret.ts'
import { intentOf, outcomeOf } from '../helpers/audit-events.ts'
import { asOperator, temporaryFolder } from '../helpers/gateway.ts'
import { type Database, PASSWORDS, usePostgres } from '../helpers/postgres.ts'
import { prepare, ROOT, runCommand, spawnGateway, startProcess } from '../helpers/process.ts'
import { requires } from '../helpers/requirements.ts'

const servers = usePostgres()

/** A test on a database of its own. */
const testOn = (name: string, run: (t: TestContext, database: Database) => Promise<void>): void => {
  test(name, async (t) => {
    if (!requires(t, 'postgres')) return
    await run(t, await (await servers(t)).database())
  })
}

const run = async (t: TestContext, command: 'migrate' | 'prune', env: Env, ...args: readonly string[]) => {
  const entry = join(ROOT, `src/bin/${command}.ts`)
  const { code, stdout, stderr } = await runCommand(t, entry, env, ...args)
  for (const password of Object.values(PASSWORDS)) assert.ok(!(stdout + stderr).includes(password))
  return { code, stdout, stderr }
}

const adminOf = (database: Database): Env => ({ AUDIT_ADMIN_URL: database.url('record_owner') })

testOn('tables that were migrated with AUDIT_ADMIN_URL alone serve a gateway without it', async (t, database) => {
  const { sandbox, env } = await prepare(t)
  const own = { ...env, AUDIT_URL: database.url('gateway') }
  const before = await (await spawnGateway(t, own)).ended
  assert.equal(before.code, 1)
  assert.match(before.stderr, /AUDIT_URL names a database without the tables of this version/)

  const { code, stdout, stderr } = await run(t, 'migrate', adminOf(database))
  assert.deepEqual([code, stderr], [0, ''])
  assert.match(stdout, /Roles that may read and append: gateway$/m)

  const gateway = await startProcess(t, own)
  assert.equal((await gateway.api.delete(`/tasks/${sandbox.addTask()}`).set(asOperator)).status, 202)
})

testOn('migrating twice, and at once, changes nothing more', async (t, database) => {
  const runs = await Promise.all([1, 2].map(() => run(t, 'migrate', adminOf(database))))
  assert.deepEqual(
    [...runs, await run(t, 'migrate', adminOf(database))].map(({ code }) => code),
    [0, 0, 0],
  )
})

testOn('the role that is named is granted what a gateway needs, and no other', async (t, database) => {
  assert.equal((await run(t, 'migrate', adminOf(database), '--role', 'stranger')).code, 0)
  await (await openPostgresStore({ url: new Secret(database.url('stranger')), adminUrl: undefined })).close()
  await assert.rejects(database.query('SELECT * FROM audit.intents', 'gateway'), /permission denied/)
  // Later versions grant to those that have been granted before.
  assert.match((await run(t, 'migrate', adminOf(database))).stdout, /append: stranger$/m)
})

testOn('a role that is not there, and one that may not migrate, are refused by a rule', async (t, database) => {
  const unknown = await run(t, 'migrate', adminOf(database), '--role', 'nobody"; DROP SCHEMA audit')
  assert.deepEqual([unknown.code, unknown.stdout], [1, ''])
  assert.match(unknown.stderr, /AUDIT_ADMIN_URL names a server without the role/)
  const weak = await run(t, 'migrate', { AUDIT_ADMIN_URL: database.url('stranger') })
  assert.equal(weak.code, 1)
  assert.match(weak.stderr, /AUDIT_ADMIN_URL needs a role that owns the record/)
})

testOn('records older than the retention are removed with AUDIT_ADMIN_URL alone, others stay', async (t, database) => {
  await run(t, 'migrate', adminOf(database))
  const store = await openPostgresStore({ url: new Secret(database.url('gateway')), adminUrl: undefined })
  t.after(store.close)
  const day = 24 * 3_600_000
  const intents = [1, 29, 31, 400].map((age) =>
    intentOf({ requestedAtMs: Date.now() - age * day, deadlineAtMs: Date.now() - age * day + 15_000 }),
  )
  await store.append(
    intents,
    intents.map((intent) => outcomeOf(intent)),
  )
  await database.query(`ALTER TABLE audit.intents DISABLE TRIGGER ALL;
    UPDATE audit.intents SET deadline_at = requested_at + 15000; ALTER TABLE audit.intents ENABLE TRIGGER ALL`)
  const ids = async () => (await store.list({ limit: 10, before: null })).records.map(({ id }) => id)

  const { code, stderr } = await run(t, 'prune', { ...adminOf(database), AUDIT_RETENTION_DAYS: '30' })

  assert.deepEqual([code, stderr], [0, ''])
  assert.deepEqual(await ids(), [intents[0]?.id, intents[1]?.id])
  const [projected, kept] = await Promise.all([
    database.query('SELECT intent_seq AS seq FROM audit.current_outcomes ORDER BY seq'),
    database.query('SELECT seq FROM audit.intents ORDER BY seq'),
  ])
  assert.deepEqual(projected, kept)
})

testOn('the role of the gateway can neither migrate nor remove', async (t, database) => {
  await run(t, 'migrate', adminOf(database))
  const { code, stderr } = await run(t, 'prune', { AUDIT_ADMIN_URL: database.url('gateway') })
  assert.deepEqual([code, stderr], [1, 'Old records were not removed.\n'])
})

for (const command of ['migrate', 'prune'] as const) {
  test(`${command} names the faulty setting, and never its value`, async (t) => {
    for (const [env, rule] of [
      [{}, /AUDIT_ADMIN_URL must be set/],
      [{ AUDIT_ADMIN_URL: 'sqlite:canary' }, /AUDIT_ADMIN_URL must be postgres:/],
      [{ AUDIT_ADMIN_URL_FILE: '/canary' }, /AUDIT_ADMIN_URL_FILE must name a file that can be read/],
      [{ AUDIT_ADMIN_URL: 'postgres://a:b@127.0.0.1/x', NODE_TLS_REJECT_UNAUTHORIZED: '0' }, /NODE_TLS_REJECT/],
    ] as const) {
      const { code, stdout, stderr } = await run(t, command, env)
      assert.deepEqual([code, stdout], [1, ''])
      assert.match(stderr, rule)
      assert.doesNotMatch(stderr, /canary/)
    }
  })
}

testOn('the URL can come from a file', async (t, database) => {
  const file = join(await temporaryFolder(t), 'url')
  await writeFile(file, `${database.url('record_owner')}\n`)
  // As in the image, which names a file of its own.
  const { code } = await run(t, 'migrate', { AUDIT_ADMIN_URL_FILE: file, AUDIT_URL: 'sqlite:/data/audit.db' })
  assert.equal(code, 0)
})
