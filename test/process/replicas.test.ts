import assert from 'node:assert/strict'
import { request } from 'node:http'
import { text } from 'node:stream/consumers'
import { type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { Sandbox } from '../../sandbox/src/server.ts'
import { asOperator, asReader, cancelCalls, eventually, startGateway } from '../helpers/gateway.ts'
import { type CancelAttempt, compareAccounts, isPending } from '../helpers/kill-nine.ts'
import { startBalancer } from '../helpers/nginx.ts'
import { usePostgres } from '../helpers/postgres.ts'
import { allRecords, prepare, type RunningGateway, startProcess } from '../helpers/process.ts'
import { useRedis } from '../helpers/redis.ts'
import { writeFigures } from '../helpers/reliability-doc.ts'
import { requires } from '../helpers/requirements.ts'

// Three real processes behind nginx as deploy/ configures it, with PostgreSQL and Redis, while one thing after the
// other goes wrong under load.

const servers = usePostgres()
const redisOf = useRedis()

const REPLICAS = 3
const READS = 30
const EVERY_MS = Number(process.env.CANCEL_EVERY_MS ?? 50)
/** How long each phase is asked under. */
const PHASE_MS = 1500

const start = async (t: TestContext) => {
  const [server, redis] = [await servers(t), await redisOf(t)]
  const database = await server.database()
  const { sandbox, env } = await prepare(t)
  const places = { AUDIT_URL: database.url('gateway'), AUDIT_ADMIN_URL: database.url('record_owner') }
  const settings = {
    ...env,
    ...places,
    REDIS_URL: redis.url,
    RATE_LIMIT_READ_MAX: String(READS),
    TRUST_PROXY: '127.0.0.1',
    // Long enough for a busy machine; the requests of the killed replica are judged soon after.
    UPSTREAM_TIMEOUT_MS: '3000',
    REQUEST_TIMEOUT_MS: '8000',
    // Requests that nginx accepted before its list of replicas changed still arrive.
    SHUTDOWN_DELAY_MS: '500',
  }
  const launch = (): Promise<RunningGateway> => startProcess(t, settings)
  const replicas = await Promise.all(Array.from({ length: REPLICAS }, launch))
  const balancer = await startBalancer(
    t,
    replicas.map(({ url }) => url),
  )
  return { server, redis, sandbox, places, replicas, balancer, launch }
}

/**
 * The response to a cancel on a connection of its own; null where none was received. A kept connection is not used:
 * nginx, whose list of replicas changes in the meantime, could close it in the moment in which it is used again.
 */
const ask = (url: string, taskNo: string): Promise<CancelAttempt['answer']> =>
  new Promise((resolve) => {
    const outgoing = request(`${url}/tasks/${taskNo}`, { method: 'DELETE', headers: asOperator, agent: false })
    outgoing.on('error', () => resolve(null))
    outgoing.on('response', async (answer) => {
      const body = await text(answer).catch(() => null)
      if (body === null) return resolve(null)
      // An answer of nginx is none of ours.
      const isOurs = answer.headers['content-type']?.includes('json')
      resolve({ status: answer.statusCode ?? 0, outcome: isOurs ? JSON.parse(body).outcome : undefined })
    })
    outgoing.end()
  })

/** Cancels at that interval, each of a task of its own, in phases, the next of which begins when all are answered. */
const startLoad = (t: TestContext, url: string, sandbox: Sandbox) => {
  const asked: (CancelAttempt & { readonly phase: string })[] = []
  const during = async (phase: string, work: () => Promise<void>): Promise<void> => {
    const asking: Promise<void>[] = []
    const timer = setInterval(() => {
      const taskNo = sandbox.addTask()
      asking.push(ask(url, taskNo).then((answer) => void asked.push({ taskNo, answer, phase })))
    }, EVERY_MS)
    t.after(() => clearInterval(timer))
    await work()
    await delay(PHASE_MS)
    clearInterval(timer)
    await Promise.all(asking)
  }
  return { during, asked }
}

const isAccepted = ({ answer }: CancelAttempt): boolean => answer?.status === 202

/** Five phases with restarts of processes take two minutes on a machine that is ten times overloaded. */
const TIMEOUT_MS = 300_000

test('with a fault of any one part no cancel is lost, misreported or sent twice', {
  timeout: TIMEOUT_MS,
}, async (t) => {
  if (!requires(t, 'postgres') || !requires(t, 'redis') || !requires(t, 'nginx')) return
  const { server, redis, sandbox, places, replicas, balancer, launch } = await start(t)
  const load = startLoad(t, balancer.url, sandbox)

  await load.during('nothing', async () => {
    const reads = await Promise.all(
      Array.from({ length: 2 * READS }, () => fetch(`${balancer.url}/me`, { headers: asReader })),
    )
    assert.equal(reads.filter(({ status }) => status === 200).length, READS, 'limits count across replicas')
  })
  await load.during('a replica is killed in mid-request', async () => {
    const [first] = replicas
    assert.ok(first)
    sandbox.fault('CancelTask', { reply: 'slow' }, 20)
    await sandbox.nextCall('CancelTask')
    first.kill('SIGKILL')
    await first.ended
    replicas[0] = await launch()
    await balancer.use(replicas.map(({ url }) => url))
  })
  await load.during('Redis is frozen', async () => {
    redis.freeze()
    await delay(PHASE_MS)
    redis.thaw()
  })
  await load.during('PostgreSQL is stopped', async () => {
    await server.stop()
    await delay(PHASE_MS)
    await server.start()
    await eventually(async () => {
      const ready = await Promise.all(replicas.map(({ api }) => api.get('/readyz')))
      return ready.every(({ status }) => status === 200) || undefined
    })
  })
  await load.during('replicas are replaced, one after the other', async () => {
    for (const [at, replica] of replicas.entries()) {
      await balancer.use(replicas.filter((other) => other !== replica).map(({ url }) => url))
      replica.kill('SIGTERM')
      assert.equal((await replica.ended).code, 0)
      replicas[at] = await launch()
      await balancer.use(replicas.map(({ url }) => url))
    }
  })

  const { asked } = load
  // Another gateway, with its own limits, that recovers abandoned records more often; replicas do so twice a minute.
  const witness = await startGateway(t, { env: places, overrides: { timings: { maintenanceEveryMs: 100 } } })
  const records = await eventually(async () => {
    await delay(250)
    const all = await allRecords(witness)
    return all.some(isPending) ? undefined : all
  })
  const { contradictions } = compareAccounts(asked, sandbox, records)
  const sent = cancelCalls(sandbox).map(({ params }) => params.TaskNo)
  const rows = [...new Set(asked.map(({ phase }) => phase))].map((phase) => {
    const here = asked.filter((one) => one.phase === phase)
    const refused = here.filter(({ answer }) => answer?.outcome === 'not-cancelled')
    return {
      'What happens': phase,
      Cancels: here.length,
      Accepted: here.filter(isAccepted).length,
      'Refused, not sent': refused.length,
      'No answer': here.length - here.filter(isAccepted).length - refused.length,
    }
  })
  for (const row of rows) t.diagnostic(JSON.stringify(row))
  writeFigures('replicas', rows, 'docs/deployment.md')

  assert.deepEqual(contradictions, [])
  assert.equal(sent.length, new Set(sent).size, 'a cancel was sent twice')
  const [well, killed, frozen, stopped, replaced] = rows
  for (const row of [well, frozen, replaced]) assert.equal(row?.Accepted, row?.Cancels, row?.['What happens'])
  assert.ok(killed && killed.Accepted > 0 && killed['Refused, not sent'] === 0)
  assert.ok(stopped && stopped['Refused, not sent'] > 0 && stopped['No answer'] === 0)
})
