import assert from 'node:assert/strict'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { asAuditor, asOperator, baseEnv, eventually, startGateway, startSandbox } from '../helpers/gateway.ts'
import { startPgbouncer } from '../helpers/pgbouncer.ts'
import { type Database, startCuttingProxy, usePostgres } from '../helpers/postgres.ts'
import { addTasks, cancel, prepare, spawnGateway, startProcess, waitForCancels } from '../helpers/process.ts'
import { requires } from '../helpers/requirements.ts'
import { startResponseHoldingProxy } from '../helpers/upstream-proxy.ts'

// Several gateways on one record.

const servers = usePostgres()

const envFor = (database: Database) => ({
  AUDIT_URL: database.url('gateway'),
  AUDIT_ADMIN_URL: database.url('record_owner'),
})

const prepareDatabase = async (t: TestContext): Promise<Database | null> =>
  requires(t, 'postgres') ? (await servers(t)).database() : null

test('two gateways show the cancellations of both', async (t) => {
  const database = await prepareDatabase(t)
  if (database === null) return
  const gateways = [
    await startGateway(t, { env: envFor(database) }),
    await startGateway(t, { env: envFor(database) }),
  ] as const
  const taskNos: string[] = []
  for (const { api, upstream } of gateways) {
    const taskNo = upstream.addTask()
    taskNos.unshift(taskNo)
    await api.delete(`/tasks/${taskNo}`).set(asOperator).expect(202)
  }
  for (const { api } of gateways) {
    const { body } = await api.get('/cancellations').set(asAuditor).expect(200)
    assert.deepEqual(
      body.items.map(({ taskNo, outcome }: { taskNo: string; outcome: string }) => [taskNo, outcome]),
      taskNos.map((taskNo) => [taskNo, 'accepted']),
    )
    const first = await api.get('/cancellations?limit=1').set(asAuditor).expect(200)
    const second = await api.get('/cancellations').query({ limit: 1, cursor: first.body.nextCursor }).set(asAuditor)
    assert.deepEqual([first.body.items[0].taskNo, second.body.items[0].taskNo], taskNos)
    assert.equal(second.body.nextCursor, null)
  }
})

test('a pending record of a killed gateway stays so until its deadline, and is settled by another one afterwards', async (t) => {
  const database = await prepareDatabase(t)
  if (database === null) return
  const { sandbox, env } = await prepare(t)
  const [taskNo = ''] = addTasks(sandbox, 1)
  // The sandbox holds its answer back for good.
  const held = await startResponseHoldingProxy(t, sandbox.url)
  const killed = await startProcess(t, { ...env, ...envFor(database), UPSTREAM_URL: held.url })
  const asked = cancel(killed.url, taskNo).catch(() => undefined)
  await waitForCancels(sandbox, 1)

  const overrides = { timings: { maintenanceEveryMs: 1, settlementPauseMs: () => 0 } }
  const other = await startGateway(t, {
    env: { ...envFor(database), UPSTREAM_URL: sandbox.url },
    overrides,
  })
  killed.kill('SIGKILL')
  await asked
  assert.equal((await other.record(taskNo)).outcome, 'pending')

  // Its time passes.
  await database.query(
    'SET session_replication_role = replica; UPDATE audit.intents SET deadline_at = deadline_at - 3600000',
  )
  const line = await eventually(() => other.logLines.find((text) => text.includes('pending cancellation of another')))
  assert.match(line, /"level":"warn"/)
  const settled = await eventually(async () => {
    const record = await other.record(taskNo)
    return record.outcome === 'accepted' ? record : undefined
  })
  assert.equal(settled.settledBy, 'query')
})

test('gateways share a record through PgBouncer in session mode, which passes no parameter through', async (t) => {
  if (!requires(t, 'pgbouncer')) return
  const database = await prepareDatabase(t)
  if (database === null) return
  const port = await startPgbouncer(t, database)
  const env = { AUDIT_URL: database.url('gateway', port), AUDIT_ADMIN_URL: database.url('record_owner', port) }
  const gateways = [await startGateway(t, { env }), await startGateway(t, { env })] as const
  for (const { api, upstream, record } of gateways) {
    await api.get('/readyz').expect(200)
    const taskNo = upstream.addTask()
    await api.delete(`/tasks/${taskNo}`).set(asOperator).expect(202)
    assert.equal((await record(taskNo)).outcome, 'accepted')
  }
  assert.equal((await database.query('SELECT * FROM audit.outcomes')).length, 2)
})

test('a record that is away makes a gateway not ready, sends nothing, and comes back by itself', async (t) => {
  if (!requires(t, 'postgres')) return
  const server = await servers(t)
  const database = await server.database()
  const { api, upstream } = await startGateway(t, { env: envFor(database) })
  const taskNo = upstream.addTask()
  await server.stop()
  await api.get('/readyz').expect(503)
  const { body } = await api.delete(`/tasks/${taskNo}`).set(asOperator).expect(503)
  assert.equal(body.code, 'audit-unavailable')
  assert.equal(upstream.calls.length, 0)
  await server.start()
  await eventually(async () => ((await api.get('/readyz')).status === 200 ? true : undefined))
  await api.delete(`/tasks/${taskNo}`).set(asOperator).expect(202)
})

test('an intent whose commit is not answered is not sent, and ends as failed', async (t) => {
  const database = await prepareDatabase(t)
  if (database === null) return
  const cutter = await startCuttingProxy(t, database)
  const { api, upstream, record } = await startGateway(t, {
    env: { ...envFor(database), AUDIT_URL: database.url('gateway', cutter.port) },
  })
  const taskNo = upstream.addTask()
  await cutter.cutDuring(async () => {
    const { body } = await api.delete(`/tasks/${taskNo}`).set(asOperator).expect(503)
    assert.deepEqual([body.code, body.outcome], ['audit-unavailable', 'not-cancelled'])
  })
  assert.equal(upstream.calls.length, 0)
  const { outcome, attempts } = await eventually(async () => {
    const found = await record(taskNo)
    return found.outcome === 'pending' ? undefined : found
  })
  assert.deepEqual([outcome, attempts], ['failed', 0])
})

test('a gateway goes on while the next version adds to the tables, and so does one that starts then', async (t) => {
  const database = await prepareDatabase(t)
  if (database === null) return
  const old = await startGateway(t, { env: envFor(database) })
  await old.api.delete(`/tasks/${old.upstream.addTask()}`).set(asOperator).expect(202)
  for (const sql of [
    'ALTER TABLE audit.intents ADD COLUMN tenant text',
    "ALTER TABLE audit.outcomes ADD COLUMN note text NOT NULL DEFAULT ''",
    'CREATE TABLE audit.tenants (id text PRIMARY KEY)',
    'CREATE INDEX intents_by_tenant ON audit.intents (tenant)',
    'INSERT INTO audit.schema_version (version) SELECT max(version) + 1 FROM audit.schema_version',
  ]) {
    await database.query(sql)
  }
  const late = await startGateway(t, { env: envFor(database) })
  for (const { api, upstream, record } of [old, late]) {
    const taskNo = upstream.addTask()
    await api.delete(`/tasks/${taskNo}`).set(asOperator).expect(202)
    assert.equal((await record(taskNo)).outcome, 'accepted')
  }
})

test('a start that the record refuses says why, and no password', async (t) => {
  const database = await prepareDatabase(t)
  if (database === null) return
  const { env } = await prepare(t)
  const started = await spawnGateway(t, { ...env, AUDIT_URL: database.url('stranger') })
  const { code, stdout, stderr } = await started.ended
  assert.equal(code, 1)
  assert.match(stderr, /AUDIT_URL names a database without the tables of this version: AUDIT_ADMIN_URL makes them/)
  assert.doesNotMatch(stdout + stderr, /canary/)
})

const QUICK = { settlementPauseMs: () => 20, beatEveryMs: 20, lookupTtlMs: 0 }

test('a replica follows the cancellations of another one once that one has stopped', async (t) => {
  const database = await prepareDatabase(t)
  if (database === null) return
  const sandbox = { cancellingMs: 0 }
  const first = await startGateway(t, { env: envFor(database), sandbox, overrides: { timings: { beatEveryMs: 20 } } })
  const taskNo = first.upstream.addTask()
  const { body } = await first.api.delete(`/tasks/${taskNo}`).set(asOperator).expect(202)
  await first.stop()
  const env = { ...envFor(database), UPSTREAM_URL: first.upstream.url }
  const second = await startGateway(t, { env, overrides: { timings: QUICK } })
  await database.query('UPDATE audit.replicas SET seen_at = seen_at - 31000')
  const path = `/cancellations/${body.cancellationId}`
  const ended = await eventually(async () => {
    const record = (await second.api.get(path).set(asOperator)).body
    return record.isFinal ? record : undefined
  })
  assert.deepEqual([ended.outcome, ended.settledBy], ['cancelled', 'query'])
})

/** The statements of the version without `too-late`, which knows neither the columns nor the tables of ends. */
const OLD_APPEND = `
  INSERT INTO audit.intents (id, task_no, via, caller, requested_at, gateway_request_id, instance_id, deadline_at)
    VALUES ('$id', '$task', 'api-key', 'operator', $now, '$id', 'old', $now + 60000);
  INSERT INTO audit.outcomes (cancellation_id, outcome, attempts, request_id, upstream_code, finished_at, settled_by)
    VALUES ('$id', 'accepted', 1, 'r', NULL, $now, NULL)`

test('a version without too-late goes on beside this one, and its cancellations are followed too', async (t) => {
  const database = await prepareDatabase(t)
  if (database === null) return
  const timings = { ...QUICK, followUpQuietMs: 100 }
  const { api, upstream } = await startGateway(t, {
    env: envFor(database),
    sandbox: { waitingMs: 0, executingMs: 0 },
    overrides: { timings },
  })
  const taskNo = upstream.addTask()
  const id = '00000000-0000-7000-8000-000000000001'
  const values = { $id: id, $task: taskNo, $now: String(Date.now()) }
  await database.query(
    OLD_APPEND.replaceAll(/\$(id|task|now)/g, (name) => values[name as keyof typeof values]),
    'gateway',
  )
  const ended = await api
    .get(`/cancellations/${id}`)
    .set({ ...asAuditor, prefer: 'wait=10' })
    .expect(200)
  assert.deepEqual([ended.body.outcome, ended.body.isFinal], ['too-late', true])
  const [current] = await database.query('SELECT outcome FROM audit.current_outcomes', 'gateway')
  assert.equal(current?.outcome, 'too-late')
})

/** A checkout of a version without `too-late`, with its packages. On demand: docs/reliability.md has the command. */
const { OLD_BUILD } = process.env

if (OLD_BUILD !== undefined) {
  test('an old build as a process serves before, during and after the ends that this version records', async (t) => {
    const database = await prepareDatabase(t)
    if (database === null) return
    const lifecycle = { waitingMs: 0, executingMs: 5000 }
    const timings = { ...QUICK, followUpQuietMs: 100 }
    const sandbox = await startSandbox(t, lifecycle)
    const env = { ...baseEnv(sandbox.url, ''), ...envFor(database) }
    const options = { entry: join(OLD_BUILD, 'src/server.ts') }
    const old = await startProcess(t, env, options)
    const taskNos: string[] = []
    const cancelAt = async ({ url }: { readonly url: string }): Promise<void> => {
      sandbox.fault('CancelTask', { reply: 'envelope', effect: false })
      const taskNo = sandbox.addTask()
      assert.equal(await cancel(url, taskNo), 202)
      taskNos.push(taskNo)
    }
    await cancelAt(old)
    const current = await startGateway(t, {
      env: { ...envFor(database), UPSTREAM_URL: sandbox.url },
      overrides: { timings },
    })
    for (const gateway of [old, current, old]) await cancelAt(gateway)
    // Without a request that waits, the follow-up finds cancellations of an old build at its next load.
    const endOf = async (taskNo: string) => {
      const { id } = await current.record(taskNo)
      const waited = await current.api.get(`/cancellations/${id}`).set({ ...asAuditor, prefer: 'wait=10' })
      return waited.body.outcome
    }
    for (const taskNo of taskNos) assert.equal(await endOf(taskNo), 'too-late')
    const restarted = await startProcess(t, env, options)
    for (const gateway of [old, restarted]) {
      // The shared assertions of `api` are those of this version.
      const read = async (path: string) => {
        const response = await fetch(`${gateway.url}${path}`, { headers: asAuditor })
        assert.equal(response.status, 200)
        return Object(await response.json())
      }
      await read('/readyz')
      const { items } = await read('/cancellations')
      const shown = items.map(({ taskNo, outcome }: Record<string, string>) => [taskNo, outcome])
      assert.deepEqual(
        shown.toReversed(),
        taskNos.map((taskNo) => [taskNo, 'unknown']),
      )
      assert.equal((await read(`/cancellations/${items[0].id}`)).outcome, 'unknown')
      await gateway.line('an audit record has an outcome that this version does not know')
    }
    for (const gateway of [old, restarted]) await cancelAt(gateway)
    for (const taskNo of taskNos) assert.equal(await endOf(taskNo), 'too-late')
    for (const gateway of [old, restarted]) {
      gateway.kill('SIGTERM')
      assert.equal((await gateway.ended).code, 0)
    }
  })
}
