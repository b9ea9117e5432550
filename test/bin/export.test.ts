import assert from 'node:assert/strict'
import { once } from 'node:events'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { type TestContext, test } from 'node:test'
import type { Env } from '../../src/config.ts'
import { intentOf, outcomeOf } from '../helpers/audit-events.ts'
import { asAuditor, asOperator, startGateway } from '../helpers/gateway.ts'
import { PASSWORDS, usePostgres } from '../helpers/postgres.ts'
import { startCommand } from '../helpers/process.ts'
import { requires } from '../helpers/requirements.ts'
import { openTestStore, postgresLocation, sqliteLocation, WITHOUT_ENDS } from '../helpers/stores.ts'

const COMMAND = join(import.meta.dirname, '../../src/bin/export.ts')

const servers = usePostgres()

const start = (t: TestContext, env: Env, ...args: readonly string[]) => startCommand(t, COMMAND, env, ...args)

/** Its output, line by line, and its end. */
const run = async (t: TestContext, env: Env, ...args: readonly string[]) => {
  const { child, ended } = await start(t, env, ...args)
  const stdout = await text(child.stdout)
  const lines = stdout.split('\n')
  assert.equal(lines.pop(), '')
  return { ...(await ended), items: lines.map((line) => JSON.parse(line)) }
}

const PLACES = {
  SQLite: async (t: TestContext) => {
    const place = await sqliteLocation(t)
    return { place, env: { AUDIT_URL: `sqlite:${place.path}` } }
  },
  PostgreSQL: async (t: TestContext) => {
    const server = await servers(t)
    const place = await postgresLocation(server)
    return { place, env: { AUDIT_URL: place.url } }
  },
} as const

for (const [engine, makePlace] of Object.entries(PLACES)) {
  test(`${engine}: every record is exported once, beside whoever writes, however many there are`, async (t) => {
    if (engine === 'PostgreSQL' && !requires(t, 'postgres')) return
    const { place, env } = await makePlace(t)
    const store = await openTestStore(t, place)
    const intents = Array.from({ length: 2500 }, (_, index) =>
      intentOf({ requestedAtMs: 1000 + Math.floor(index / 3) }),
    )
    await store.append(
      intents,
      intents.slice(0, 1200).map((intent) => outcomeOf(intent)),
    )

    const exporting = run(t, env)
    for (let index = 0; index < 50; index += 1) await store.append([intentOf({ requestedAtMs: Date.now() })], [])
    const { code, stderr, items } = await exporting

    assert.deepEqual([code, stderr], [0, ''])
    const ids = items.map(({ id }) => id)
    const known = new Set(intents.map(({ id }) => id))
    assert.equal(new Set(ids).size, ids.length)
    assert.equal(ids.filter((id) => known.has(id)).length, 2500)
    assert.equal(items.filter(({ outcome }) => outcome === 'accepted').length, 1200)
    // Cancellations in flight are left alone.
    assert.ok(items.every(({ outcome }) => outcome === 'accepted' || outcome === 'pending'))
    const times = items.map(({ requestedAt }) => Date.parse(requestedAt))
    assert.deepEqual(
      times,
      times.toSorted((a, b) => b - a),
    )
  })
}

test('a line is what GET /cancellations shows', async (t) => {
  const { api, upstream, auditPath } = await startGateway(t)
  upstream.fault('CancelTask', { reply: { status: 400, code: 'InvalidParameter' } })
  for (let count = 0; count < 3; count += 1) await api.delete(`/tasks/${upstream.addTask()}`).set(asOperator)
  const { body } = await api.get('/cancellations').set(asAuditor)
  const env = { AUDIT_URL: `sqlite:${auditPath}` }
  assert.deepEqual((await run(t, env)).items, body.items)
  const [, second] = body.items
  const { items } = await run(t, env, '--from', second.requestedAt)
  assert.ok(items.some(({ id }) => id === second.id))
  assert.deepEqual((await run(t, env, '--to', '2020-01-01')).items, [])
})

test('a file of an earlier version is told, and exported once a gateway has opened it', async (t) => {
  const { place, env } = await PLACES.SQLite(t)
  const before = await openTestStore(t, place)
  await before.append([intentOf()], [])
  await before.close()
  await place.execute(WITHOUT_ENDS.SQLite ?? '')
  const { child, ended } = await start(t, env)
  assert.equal(await text(child.stdout), '')
  const { code, stderr } = await ended
  assert.equal(code, 1)
  assert.match(stderr, /AUDIT_URL names a file without the tables of this version: the next start of the gateway/)
  await openTestStore(t, place)
  assert.equal((await run(t, env)).items.length, 1)
})

test('whoever reads no further ends it without a word', async (t) => {
  const { place, env } = await PLACES.SQLite(t)
  const store = await openTestStore(t, place)
  await store.append(
    Array.from({ length: 5000 }, () => intentOf()),
    [],
  )
  const { child, ended } = await start(t, env)
  await once(child.stdout, 'data')
  child.stdout.destroy()
  assert.deepEqual(await ended, { code: 0, stderr: '' })
})

for (const [name, env, args, code, said] of [
  ['no record', { AUDIT_URL: 'sqlite:./none.db' }, [], 1, /AUDIT_URL must name a record that can be read/],
  ['a faulty setting', { AUDIT_URL: 'mysql://x:canary@y/z' }, [], 1, /AUDIT_URL must be sqlite:<path of a file>/],
  ['an unreachable server', { AUDIT_URL: 'postgres://x:canary@127.0.0.1:1/z' }, [], 1, /AUDIT_URL/],
  ['an unknown option', {}, ['--form', '2020-01-01'], 2, /Usage/],
  ['a date that is none', {}, ['--from', 'yesterday'], 2, /--from must be a date/],
  ['a day that no month has', {}, ['--to', '2026-02-30'], 2, /--to must be a date/],
  ['a time without a zone', {}, ['--from', '2026-01-01T00:00:00'], 2, /--from must be a date/],
] as const) {
  test(`${name} is told, without a secret`, async (t) => {
    const { child, ended } = await start(t, env, ...args)
    assert.equal(await text(child.stdout), '')
    const { code: found, stderr } = await ended
    assert.equal(found, code)
    assert.match(stderr, said)
    assert.doesNotMatch(stderr, /canary| {4}at /)
    for (const password of Object.values(PASSWORDS)) assert.ok(!stderr.includes(password))
  })
}

test('invisible characters of old records are escaped in the export', async (t) => {
  const place = await sqliteLocation(t)
  const store = await openTestStore(t, place)
  await store.append([intentOf({ userAgent: 'a\u202e\x9bb', caller: 'ops\u2028' })], [])
  const { items, code } = await run(t, { AUDIT_URL: `sqlite:${place.path}` })
  assert.deepEqual([items[0].userAgent, items[0].caller, code], ['a\\u202e\\u009bb', 'ops\\u2028', 0])
})
