import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { cancelDuringFault } from '../helpers/consistency.ts'
import { asOperator, cancelCalls, eventually, startGateway } from '../helpers/gateway.ts'
import { type Database, PASSWORDS, usePostgres } from '../helpers/postgres.ts'
import { addTasks, cancel, prepare, startProcess, waitForCancels } from '../helpers/process.ts'
import { checkTable, type FaultRow } from '../helpers/reliability-doc.ts'
import { requires } from '../helpers/requirements.ts'
import { startResponseHoldingProxy } from '../helpers/upstream-proxy.ts'

// The real process with faults of its audit trail on PostgreSQL.

const servers = usePostgres()

const TIMES = { UPSTREAM_TIMEOUT_MS: '5000', REQUEST_TIMEOUT_MS: '8000' }

const start = async (t: TestContext) => {
  const server = await servers(t)
  const database = await server.database()
  const { sandbox, env } = await prepare(t)
  const proxy = await startResponseHoldingProxy(t, sandbox.url)
  proxy.release()
  const places = { AUDIT_URL: database.url('gateway'), AUDIT_ADMIN_URL: database.url('record_owner') }
  const gateway = await startProcess(t, { ...env, ...TIMES, ...places, UPSTREAM_URL: proxy.url })
  const readiness = async (expected: 200 | 503): Promise<void> => {
    await eventually(async () => ((await gateway.api.get('/readyz')).status === expected ? true : undefined))
  }
  const isReady = () => readiness(200)
  return { server, database, sandbox, proxy, gateway, readiness, isReady, places }
}

type Broken = Pick<Awaited<ReturnType<typeof start>>, 'server' | 'database'>

/** Ends the sessions of the role, so that new ones have its changed privileges. */
const change = async (database: Database, ...statements: readonly string[]): Promise<void> => {
  for (const sql of statements) await database.query(sql)
  await database.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'gateway'")
}

interface RecordFault {
  readonly name: string
  begin(broken: Broken): Promise<void>
  end(broken: Broken): Promise<void>
}

const FAULTS: readonly RecordFault[] = [
  { name: 'stopped', begin: ({ server }) => server.stop(), end: ({ server }) => server.start() },
  { name: 'frozen', begin: async ({ server }) => server.freeze(), end: async ({ server }) => server.thaw() },
  {
    name: 'read-only',
    begin: ({ database }) => change(database, 'ALTER ROLE gateway SET default_transaction_read_only = on'),
    end: ({ database }) => change(database, 'ALTER ROLE gateway RESET default_transaction_read_only'),
  },
  {
    name: 'without a table',
    begin: ({ database }) => change(database, 'ALTER TABLE audit.outcomes RENAME TO lost'),
    end: ({ database }) => change(database, 'ALTER TABLE audit.lost RENAME TO outcomes'),
  },
  {
    name: 'without the right to append',
    begin: ({ database }) => change(database, 'REVOKE INSERT ON audit.outcomes FROM gateway'),
    end: ({ database }) => change(database, 'GRANT INSERT ON audit.outcomes TO gateway'),
  },
  {
    name: 'out of connections',
    begin: ({ database }) => change(database, 'ALTER ROLE gateway CONNECTION LIMIT 0'),
    end: ({ database }) => change(database, 'ALTER ROLE gateway CONNECTION LIMIT -1'),
  },
]

test('with any fault of PostgreSQL nothing is sent without a record, and no response is wrong', async (t) => {
  if (!requires(t, 'postgres')) return
  const route = await start(t)
  const { server, sandbox, proxy, gateway, readiness, isReady } = route
  const rows: FaultRow[] = []

  const isWell = async (): Promise<void> => {
    const { answer, record } = await cancelDuringFault(route, 'none')
    assert.deepEqual([answer, record], ['202 accepted', 'accepted'])
  }

  const isWritten = (taskNo: string) =>
    eventually(async () => {
      const [record] = await gateway.records({ taskNo })
      return record?.outcome === 'pending' ? undefined : true
    })

  for (const fault of FAULTS) {
    await fault.begin(route)
    const heal = async (taskNo: string): Promise<void> => {
      await fault.end(route)
      await isReady()
      await isWritten(taskNo)
    }
    // An intent that is sent on a connection that ends at that moment may have been written.
    if (fault.name !== 'frozen') await readiness(503)
    rows.push(await cancelDuringFault(route, `${fault.name} before the intent`, heal))
    await isWell()
  }

  for (const fault of FAULTS) {
    const sent = cancelCalls(sandbox).length + 1
    proxy.hold()
    const row = cancelDuringFault(route, `${fault.name} before the outcome`, async (taskNo) => {
      await gateway.line('the outcome of a cancellation could not be written; the write is retried')
      await fault.end(route)
      await isReady()
      await isWritten(taskNo)
    })
    await waitForCancels(sandbox, sent)
    await fault.begin(route)
    proxy.release()
    rows.push(await row)
    await isWell()
  }

  await server.stop()
  await server.start()
  rows.push(await cancelDuringFault(route, 'restarted a moment ago', isReady))

  gateway.kill('SIGTERM')
  const { code, stdout, stderr } = await gateway.ended
  assert.equal(code, 0)
  for (const password of Object.values(PASSWORDS)) assert.ok(!(stdout + stderr).includes(password))
  checkTable('record', rows)
})

test('a third gateway that starts leaves alone what two others have under way', async (t) => {
  if (!requires(t, 'postgres')) return
  const { sandbox, proxy, gateway, places } = await start(t)
  const env = { ...places, UPSTREAM_URL: proxy.url }
  const second = await startGateway(t, { env })
  proxy.hold()
  const [one = '', two = ''] = addTasks(sandbox, 2)
  const answers = [
    cancel(gateway.url, one),
    second.api
      .delete(`/tasks/${two}`)
      .set(asOperator)
      .then(({ status }) => status),
  ]
  await waitForCancels(sandbox, 2)

  const third = await startGateway(t, { env, overrides: { timings: { maintenanceEveryMs: 1 } } })
  for (const taskNo of [one, two]) assert.equal((await third.record(taskNo)).outcome, 'pending')
  proxy.release()

  assert.deepEqual(await Promise.all(answers), [202, 202])
  for (const taskNo of [one, two]) assert.equal((await third.record(taskNo)).outcome, 'accepted')
  assert.ok(!third.logLines.some((line) => line.includes('pending cancellation of another')))
})
