import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openSqliteReader, openSqliteStore } from '../../src/audit/sqlite.ts'
import type { AuditRecord } from '../../src/audit/store.ts'
import type { Env } from '../../src/config.ts'
import { createRefusals } from '../../src/tasks/refusals.ts'
import { intentOf } from '../helpers/audit-events.ts'
import { asOperator, asReader, cancelCalls, eventually, type Started, startGateway } from '../helpers/gateway.ts'
import { apiKeysWith, asCaller } from '../helpers/restricted-callers.ts'

const SHOP = { name: 'shop', scopes: ['tasks:cancel'], domains: ['*.a.example'] } as const
const LONG: Env = { RATE_LIMIT_MAX: '30', API_KEYS: apiKeysWith(SHOP) }

type Headers = Readonly<Record<string, string>>

/** Cancels this many tasks, one after the other, and returns the bodies of the responses. */
const cancelAll = async ({ api }: Started, taskNos: readonly string[], headers: Headers) => {
  const bodies = []
  for (const taskNo of taskNos) bodies.push((await api.delete(`/tasks/${taskNo}`).set(headers)).body)
  return bodies
}

const recordsOf = async (path: string): Promise<readonly AuditRecord[]> => {
  const reader = await openSqliteReader(path)
  const { records } = await reader.list({ limit: 1000, before: null })
  await reader.close()
  return records
}

/** The records after the gateway has stopped, which include the counted refusals. */
const recordsAfter = async ({ stop, auditPath }: Started): Promise<readonly AuditRecord[]> => {
  await stop()
  return recordsOf(auditPath)
}

const outcomesOf = (records: readonly AuditRecord[]) => records.map(({ outcome, attempts }) => `${outcome} ${attempts}`)

/** A caller without the scope, and one whose restrictions exclude the task. */
const REFUSED: Readonly<Record<string, (started: Started) => { headers: Headers; taskNos: readonly string[] }>> = {
  'without the scope': () => ({ headers: asReader, taskNos: Array.from({ length: 10 }, (_, index) => `t-${index}`) }),
  'restricted to other domains': ({ upstream }) => ({
    headers: asCaller('shop'),
    taskNos: Array.from({ length: 10 }, () => upstream.addTask({ domains: ['b.example'] })),
  }),
}

for (const [kind, prepare] of Object.entries(REFUSED)) {
  test(`a tenth of the limit of a caller ${kind} is recorded one by one, and the rest in one entry`, async (t) => {
    const started = await startGateway(t, { env: LONG })
    const { headers, taskNos } = prepare(started)

    const bodies = await cancelAll(started, taskNos, headers)
    const records = await recordsAfter(started)

    assert.deepEqual(
      bodies.map(({ status, code, outcome }) => [status, code, outcome]),
      Array(10).fill([403, 'forbidden', 'not-cancelled']),
    )
    const ids = bodies.map(({ cancellationId }) => cancellationId)
    assert.deepEqual(ids.slice(3), Array(7).fill(undefined))
    assert.deepEqual(outcomesOf(records), ['refused 7', 'refused 0', 'refused 0', 'refused 0'])
    assert.deepEqual(
      records.slice(1).map(({ id }) => id),
      ids.slice(0, 3).reverse(),
    )
    const [further] = records
    assert.deepEqual([further?.taskNo, further?.requestId, further?.settledBy], [taskNos[3], null, null])
    assert.equal(cancelCalls(started.upstream).length, 0)
  })
}

test('at the end of each window the further refusals are recorded, and the next window begins anew', async (t) => {
  const started = await startGateway(t, { env: { RATE_LIMIT_MAX: '10', RATE_LIMIT_WINDOW_MS: '1000' } })
  const total = async (count: number) =>
    eventually(async () => {
      const records = await recordsOf(started.auditPath)
      return records.reduce((sum, { attempts }) => sum + (attempts || 1), 0) === count ? records : undefined
    })
  const taskNos = Array.from({ length: 5 }, (_, index) => `t-${index}`)

  // Concurrently, so that they belong to one window.
  const refuseAll = () => Promise.all(taskNos.map((taskNo) => cancelAll(started, [taskNo], asReader)))
  await refuseAll()
  const first = await total(5)
  await refuseAll()
  const second = await total(10)

  for (const records of [first, second.slice(0, -first.length)]) {
    assert.ok(records.some(({ attempts }) => attempts === 0))
    assert.ok(records.some(({ attempts }) => Number(attempts) > 0))
  }
})

for (const [max, alone] of [
  ['5', 1],
  ['19', 1],
  ['20', 2],
] as const) {
  test(`with RATE_LIMIT_MAX=${max} so many refusals as ${alone} are recorded one by one`, async (t) => {
    const started = await startGateway(t, { env: { RATE_LIMIT_MAX: max } })
    await cancelAll(started, ['a', 'b', 'c', 'd'], asReader)
    const records = outcomesOf(await recordsAfter(started))
    assert.equal(records.filter((record) => record === 'refused 0').length, alone)
  })
}

test('a caller over the limit of refusals can still cancel its tasks, and so can others', async (t) => {
  const started = await startGateway(t, { env: LONG })
  const [inside, outside] = [['1.a.example'], ['b.example']]
  const add = (domains: readonly string[]) => started.upstream.addTask({ domains })
  const refused = await cancelAll(
    started,
    Array.from({ length: 9 }, () => add(outside)),
    asCaller('shop'),
  )
  assert.equal(refused.at(-1)?.cancellationId, undefined)

  const [own] = await cancelAll(started, [add(inside)], asCaller('shop'))
  const [foreign] = await cancelAll(started, [add(outside)], asOperator)

  assert.deepEqual([own?.cancelStatus, foreign?.cancelStatus], ['accepted', 'accepted'])
  const records = await recordsAfter(started)
  for (const body of [own, foreign]) {
    assert.equal(records.find(({ id }) => id === body?.cancellationId)?.outcome, 'accepted')
  }
})

test('refusals of one caller use up nothing of another', async (t) => {
  const started = await startGateway(t, { env: LONG })
  await cancelAll(started, Array(9).fill('t-1'), asReader)
  const [body] = await cancelAll(started, [started.upstream.addTask({ domains: ['b.example'] })], asCaller('shop'))
  assert.match(body?.cancellationId, /^[0-9a-f-]{36}$/)
})

test('a policy that cannot be checked is no refusal, and each is recorded', async (t) => {
  const started = await startGateway(t, { env: { ...LONG, RATE_LIMIT_MAX: '10', UPSTREAM_MAX_ATTEMPTS: '1' } })
  started.upstream.fault('QueryTaskDetailList', { reply: { status: 400, code: 'InvalidAccessKeyId.NotFound' } }, 4)
  const taskNos = Array.from({ length: 4 }, () => started.upstream.addTask({ domains: ['b.example'] }))
  const bodies = await cancelAll(started, taskNos, asCaller('shop'))
  const records = await recordsAfter(started)
  assert.deepEqual(
    bodies.map(({ cancellationId }) => cancellationId).reverse(),
    records.map(({ id }) => id),
  )
  assert.deepEqual(
    records.map(({ outcome }) => outcome),
    Array(4).fill('failed'),
  )
})

test('further refusals that cannot be recorded are refusals all the same, with an alarm', async (t) => {
  const openStore = async (path: string) => ({
    ...(await openSqliteStore(path)),
    append: () => Promise.reject(new Error('disk full')),
  })
  const started = await startGateway(t, { env: { RATE_LIMIT_MAX: '10' }, overrides: { openStore } })
  const bodies = await cancelAll(started, ['a', 'b', 'c'], asReader)
  await started.stop()
  assert.deepEqual(
    bodies.map(({ status }) => status),
    [403, 403, 403],
  )
  const alarms = started.logLines.filter((line) => /"level":"error".*a refused cancel could not be recorded/.test(line))
  assert.equal(alarms.length, 2)
})

test('the metrics count every refusal, and those that are not recorded one by one apart', async (t) => {
  const started = await startGateway(t, { env: LONG })
  await cancelAll(started, Array(10).fill('t-1'), asReader)
  const text = await (await fetch(`${started.adminUrl}/metrics`)).text()
  assert.match(text, /^gateway_cancellations_total\{outcome="refused"\} 10$/m)
  assert.match(text, /^gateway_rate_limited_total\{limit="refusals"\} 7$/m)
})

test('the number of callers whose refusals are counted is limited, and no refusal is lost', async () => {
  const recorded: number[] = []
  const refusals = createRefusals({
    max: 1,
    windowMs: 60_000,
    record: async (_first, count) => void recorded.push(count),
  })
  const callers = Array.from({ length: 10_002 }, (_, index) => `caller-${index}`)
  for (const caller of callers) {
    assert.equal(refusals.isRecordedAlone(intentOf({ caller })), true)
    assert.equal(refusals.isRecordedAlone(intentOf({ caller })), false)
  }
  assert.deepEqual(recorded, [1, 1])
  await refusals.flush()
  assert.equal(recorded.length, callers.length)
})

test('callers with the same name are distinguished by how they were authenticated', async () => {
  const refusals = createRefusals({ max: 1, windowMs: 60_000, record: async () => undefined })
  const asked = [intentOf({}), intentOf({ via: 'jwt' }), intentOf({ via: 'jwt', issuer: 'https://id.example.com' })]
  assert.deepEqual(asked.map(refusals.isRecordedAlone), [true, true, true])
  await refusals.flush()
})
