import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, test } from 'node:test'
import {
  asAuditor,
  asOperator,
  baseEnv,
  eventually,
  startGateway,
  startSandbox,
  temporaryFolder,
} from '../helpers/gateway.ts'
import { killRepeatedly } from '../helpers/kill-nine.ts'
import { usePostgres } from '../helpers/postgres.ts'
import { prepare, type RunningGateway, startProcess } from '../helpers/process.ts'
import { writeFigures } from '../helpers/reliability-doc.ts'
import { requires } from '../helpers/requirements.ts'

// On demand with more kills and another seed: npm run kills.

const KILLS = Number(process.env.KILLS ?? 3)
const SEED = Number(process.env.SEED ?? 7)

/** Requests end soon. */
const TIMES = { UPSTREAM_TIMEOUT_MS: '1000', REQUEST_TIMEOUT_MS: '4500' }

const servers = usePostgres()

const figures: Record<string, string | number>[] = []
after(() => writeFigures('kills', figures))

for (const engine of ['SQLite', 'PostgreSQL'] as const) {
  test(`killed at random moments, a gateway with its record on ${engine} loses nothing and claims nothing`, async (t) => {
    if (engine === 'PostgreSQL' && !requires(t, 'postgres')) return
    const { sandbox, env } = await prepare(t)
    const database = engine === 'PostgreSQL' ? await (await servers(t)).database() : null
    const places =
      database === null ? {} : { AUDIT_URL: database.url('gateway'), AUDIT_ADMIN_URL: database.url('record_owner') }
    // Another gateway with the same audit trail, which must not touch the requests in flight of the killed one.
    if (database !== null) await startGateway(t, { env: places, overrides: { timings: { maintenanceEveryMs: 100 } } })
    const report = await killRepeatedly(t, {
      kills: KILLS,
      seed: SEED,
      sandbox,
      env: { ...env, ...TIMES, ...places },
      onRestart: (kill) => (kill % 10 === 0 ? t.diagnostic(`${kill} of ${KILLS} kills on ${engine}`) : undefined),
    })
    const { requests, responses, cancelled, byOutcome, contradictions } = report
    const { accepted = 0, unknown = 0, pending = 0 } = byOutcome
    const other = Object.values(byOutcome).reduce((sum, count) => sum + count, 0) - accepted - unknown - pending
    const row = {
      Database: engine,
      Kills: KILLS,
      Cancels: requests,
      Answered: responses,
      'Carried out': cancelled,
      'Outcome: accepted': accepted,
      'not cancelled': other,
      unknown,
      pending,
      Contradictions: contradictions.length,
    }
    t.diagnostic(`seed ${SEED}: ${JSON.stringify(row)}`)
    figures.push(row)
    assert.deepEqual(contradictions, [])
    assert.ok(responses > 0 && responses < requests)
    if (engine === 'SQLite') assert.equal(sandbox.violations, 0)
  })
}

/** Cancels a task and returns the path of its record. */
const cancelAt = async ({ api }: RunningGateway, taskNo: string): Promise<string> => {
  const { body } = await api.delete(`/tasks/${taskNo}`).set(asOperator).expect(202)
  return `/cancellations/${body.cancellationId}`
}

/** For each of two cancellations of a gateway that was killed: record, feed and upstream name the same end. */
const followAfterKill = async (survivor: RunningGateway, paths: readonly string[]): Promise<void> => {
  const [waited = '', polled = ''] = paths
  const { body } = await survivor.api.get(waited).set({ ...asOperator, prefer: 'wait=10' })
  assert.deepEqual([body.outcome, body.isFinal, body.settledBy], ['cancelled', true, 'query'])
  const end = await eventually(async () => {
    const record = (await survivor.api.get(polled).set(asOperator)).body
    return record.isFinal ? record : undefined
  })
  assert.deepEqual([end.outcome, end.task.cancelStatus], ['cancelled', 'cancelled'])
  const feed = (await survivor.api.get('/cancellations?sort=finished').set(asAuditor)).body.items
  assert.deepEqual(
    feed.map(({ id }: { id: string }) => `/cancellations/${id}`),
    paths,
  )
}

test('cancellations of a killed gateway are followed to their end by the next process', async (t) => {
  const sandbox = await startSandbox(t, { cancellingMs: 0 })
  const env = baseEnv(sandbox.url, join(await temporaryFolder(t), 'audit.db'))
  const killed = await startProcess(t, env)
  const paths = [await cancelAt(killed, sandbox.addTask()), await cancelAt(killed, sandbox.addTask())]
  killed.kill('SIGKILL')
  await killed.ended
  await followAfterKill(await startProcess(t, env), paths)
})

test('cancellations of a killed replica are followed to their end by another one', async (t) => {
  if (!requires(t, 'postgres')) return
  const database = await (await servers(t)).database()
  const sandbox = await startSandbox(t, { cancellingMs: 0 })
  const places = { AUDIT_URL: database.url('gateway'), AUDIT_ADMIN_URL: database.url('record_owner') }
  const env = { ...baseEnv(sandbox.url, ''), ...places }
  const [killed, survivor] = [await startProcess(t, env), await startProcess(t, env)]
  // Both are known to each other before one is killed.
  await eventually(async () => ((await database.query('SELECT * FROM audit.replicas')).length === 2 ? true : undefined))
  const paths = [await cancelAt(killed, sandbox.addTask()), await cancelAt(killed, sandbox.addTask())]
  killed.kill('SIGKILL')
  await killed.ended
  // A replica counts as stopped after 30 seconds.
  const { instanceId } = await killed.line('listening')
  await database.query(`UPDATE audit.replicas SET seen_at = seen_at - 31000 WHERE instance_id = '${instanceId}'`)
  await followAfterKill(survivor, paths)
})
