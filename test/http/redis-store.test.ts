import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { Env } from '../../src/config.ts'
import { asOperator, asReader, eventually, type Started, startGateway } from '../helpers/gateway.ts'
import { closedPort } from '../helpers/ports.ts'
import { createVisitor, startProvider } from '../helpers/provider.ts'
import { REDIS_PASSWORD, useRedis } from '../helpers/redis.ts'
import { requires } from '../helpers/requirements.ts'

const redisOf = useRedis()

/** Soon enough for a test, and long enough for a busy machine. */
const countsTiming = { answerMs: 2000, connectMs: 5000, retryEveryMs: 20 }

const start = (t: TestContext, url: string, env: Env = {}): Promise<Started> =>
  startGateway(t, {
    env: { REDIS_URL: url, RATE_LIMIT_READ_MAX: '3', ...env },
    overrides: { timings: { sharedStore: countsTiming } },
  })

const read = async ({ api }: Started): Promise<number> => (await api.get('/me').set(asReader)).status

const inUse = async ({ api }: Started): Promise<unknown> => (await api.get('/readyz').expect(200)).body.rateLimitStore

const becomes = (started: Started, store: string) =>
  eventually(async () => ((await inUse(started)) === store ? true : undefined))

test('replicas count a caller together', async (t) => {
  if (!requires(t, 'redis')) return
  const redis = await redisOf(t)
  const [one, other] = [await start(t, redis.url), await start(t, redis.url)]
  const statuses = [await read(one), await read(other), await read(one)]
  const refused = await other.api.get('/me').set(asReader)
  assert.deepEqual([...statuses, refused.status, await read(one)], [200, 200, 200, 429, 429])
  assert.match(refused.get('retry-after') ?? '', /^([1-9]|[1-5]\d|60)$/)
  assert.match(refused.get('ratelimit') ?? '', /^"reads"; r=0; t=\d+$/)
  assert.equal(await inUse(one), 'redis')
})

test('what one kind of request uses up is there for another', async (t) => {
  if (!requires(t, 'redis')) return
  const redis = await redisOf(t)
  const started = await start(t, redis.url, { RATE_LIMIT_MAX: '1' })
  const cancel = async () => (await started.api.delete(`/tasks/${started.upstream.addTask()}`).set(asOperator)).status
  assert.deepEqual([await cancel(), await cancel(), await read(started)], [202, 429, 200])
})

test('failures of one address count together, and those who prove to be known give theirs back', async (t) => {
  if (!requires(t, 'redis')) return
  const redis = await redisOf(t)
  const limit = { RATE_LIMIT_UNKNOWN_MAX: '2' }
  const [one, other] = [await start(t, redis.url, limit), await start(t, redis.url, limit)]
  const fail = async ({ api }: Started) => (await api.get('/me').set('x-api-key', 'wrong')).status
  assert.deepEqual([await fail(one), await fail(other), await fail(one), await read(one)], [401, 401, 429, 200])
})

test('a count is over when its window is', async (t) => {
  if (!requires(t, 'redis')) return
  const redis = await redisOf(t)
  const started = await start(t, redis.url, { RATE_LIMIT_READ_MAX: '1', RATE_LIMIT_WINDOW_MS: '1000' })
  assert.equal(await read(started), 200)
  await eventually(async () => ((await read(started)) === 200 ? true : undefined))
})

test('what is given back after its window leaves no count that never ends', async (t) => {
  if (!requires(t, 'redis')) return
  const redis = await redisOf(t)
  const provider = await startProvider(t)
  await start(t, redis.url, { ...provider.env, RATE_LIMIT_WINDOW_MS: '1000' })
  const visitor = createVisitor()
  const keys = async () => [await redis.command('KEYS', '*sign-in-starts*')].flat()
  const back = await visitor.authenticate(provider.gatewayUrl, 'ann')
  await eventually(async () => ((await keys()).length === 0 ? true : undefined))
  assert.equal((await visitor.visit(back)).status, 200)
  assert.deepEqual(await keys(), [])
})

/** How Redis can be away, and how it comes back. */
const ABSENCES = {
  stopped: ['stop', 'start'],
  frozen: ['freeze', 'thaw'],
} as const

for (const [how, [leave, comeBack]] of Object.entries(ABSENCES)) {
  test(`while Redis is ${how} a replica counts for itself, and afterwards with the others again`, async (t) => {
    if (!requires(t, 'redis')) return
    const redis = await redisOf(t)
    const started = await start(t, redis.url)
    assert.equal(await read(started), 200)
    await redis[leave]()
    const statuses = [await read(started), await read(started), await read(started), await read(started)]
    assert.deepEqual(statuses, [200, 200, 200, 429])
    assert.equal(await inUse(started), 'local')
    await redis[comeBack]()
    await becomes(started, 'redis')
    assert.equal(await read(started), 200)
    const said = started.logLines.filter((line) => line.includes('Redis')).map((line) => JSON.parse(line).msg)
    assert.deepEqual(said, [
      'Redis is not available; this replica counts limits by itself',
      'Redis is available again; replicas share the limits again',
    ])
  })
}

test('a Redis that takes no writes is away', async (t) => {
  if (!requires(t, 'redis')) return
  const redis = await redisOf(t)
  const started = await start(t, redis.url)
  await redis.command('CONFIG', 'SET', 'min-replicas-to-write', '1')
  assert.equal(await read(started), 200)
  assert.equal(await inUse(started), 'local')
  await redis.command('CONFIG', 'SET', 'min-replicas-to-write', '0')
  await becomes(started, 'redis')
})

test('where it is said so, nobody passes who would be counted while Redis is away', async (t) => {
  if (!requires(t, 'redis')) return
  const redis = await redisOf(t)
  const started = await start(t, redis.url, { RATE_LIMIT_STORE_FAILURE: 'deny' })
  await redis.stop()
  const taskNo = started.upstream.addTask()
  const { body, headers } = await started.api.delete(`/tasks/${taskNo}`).set(asOperator).expect(429)
  assert.deepEqual([body.code, body.outcome], ['too-many-requests', 'not-cancelled'])
  assert.equal(headers['retry-after'], '1')
  assert.equal(await read(started), 429)
  assert.equal(await inUse(started), 'deny')
  assert.equal(started.upstream.calls.length, 0)
  await redis.start()
  await becomes(started, 'redis')
  await started.api.delete(`/tasks/${taskNo}`).set(asOperator).expect(202)
})

test('a Redis that is not there holds up no start, and tells nobody its password', async (t) => {
  const port = await closedPort()
  const started = await start(t, `redis://gateway:${REDIS_PASSWORD}@127.0.0.1:${port}`)
  assert.deepEqual([await read(started), await inUse(started)], [200, 'local'])
  assert.match(started.logLines.join(''), /"level":"warn".*"setting":"REDIS_URL"/)
  assert.doesNotMatch(started.logLines.join(''), new RegExp(REDIS_PASSWORD))
})

test('a password that Redis refuses is told to nobody', async (t) => {
  if (!requires(t, 'redis')) return
  const redis = await redisOf(t)
  const started = await start(t, redis.url.replace(REDIS_PASSWORD, 'canary-wrong-password'))
  assert.deepEqual([await read(started), await inUse(started)], [200, 'local'])
  assert.doesNotMatch(started.logLines.join(''), /canary/)
})
