import assert from 'node:assert/strict'
import { connect, createServer, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import type { Env } from '../../src/config.ts'
import { asReader, eventually, type Started, startGateway } from '../helpers/gateway.ts'
import { listenOn } from '../helpers/ports.ts'
import { useRedis } from '../helpers/redis.ts'
import { requires } from '../helpers/requirements.ts'
import { SIGN_IN_ENV, sessionCookie } from '../helpers/session.ts'

const redisOf = useRedis()

/** Soon enough for a test, and long enough for a busy machine. */
const countsTiming = { answerMs: 2000, connectMs: 5000, retryEveryMs: 20 }

const start = (t: TestContext, url: string, env: Env = {}): Promise<Started> =>
  startGateway(t, {
    env: { ...SIGN_IN_ENV, REDIS_URL: url, ...env },
    overrides: { timings: { sharedStore: countsTiming } },
  })

type Headers = Readonly<Record<string, string>>

const OWN_PAGE = { origin: SIGN_IN_ENV.PUBLIC_URL ?? '', 'x-csrf': '1' }

const read = async ({ api }: Started, headers: Headers): Promise<number> => (await api.get('/me').set(headers)).status

const signOut = ({ api }: Started, session: Headers) => api.post('/auth/logout').set({ ...OWN_PAGE, ...session })

const becomes = (started: Started, store: string) =>
  eventually(async () => ((await started.api.get('/readyz')).body.rateLimitStore === store ? true : undefined))

const unshared = async ({ adminUrl }: Started): Promise<string | undefined> =>
  /^gateway_sign_outs_unshared (\d+)$/m.exec(await (await fetch(`${adminUrl}/metrics`)).text())?.[1]

const renewalOf = async ({ api }: Started, session: Headers): Promise<Headers> => {
  const { headers } = await api.get('/me').set({ ...OWN_PAGE, ...session })
  return { cookie: String(headers['set-cookie']).split(';')[0] ?? '' }
}

/** Between one replica and Redis: it can be cut, while other replicas reach Redis. */
const startWire = async (t: TestContext, url: string) => {
  const sockets = new Set<Socket>()
  let isCut = false
  const port = await listenOn(
    t,
    createServer((near) => {
      const far = connect(Number(new URL(url).port), '127.0.0.1')
      for (const [socket, other] of [
        [near, far],
        [far, near],
      ] as const) {
        sockets.add(socket)
        socket.on('error', () => {}).on('close', () => other.destroy())
        socket.pipe(other)
      }
      if (isCut) near.destroy()
    }),
  )
  return {
    url: url.replace(/:\d+$/, `:${port}`),
    cut: () => {
      isCut = true
      for (const socket of sockets) socket.destroy()
    },
    mend: () => {
      isCut = false
    },
  }
}

test('who signs out at one replica is signed out at each, with every copy and renewal', async (t) => {
  if (!requires(t, 'redis')) return
  const { url } = await redisOf(t)
  const [one, other] = [await start(t, url), await start(t, url)]
  const [session, untouched] = [await sessionCookie(), await sessionCookie()]
  const renewal = await renewalOf(other, session)
  await signOut(one, session).expect(200)
  for (const replica of [one, other]) {
    assert.deepEqual([await read(replica, session), await read(replica, renewal)], [401, 401])
    assert.equal(await read(replica, untouched), 200)
    assert.doesNotMatch(replica.logLines.join(''), /Redis/)
  }
})

test('a cancel with a session that was signed out at another replica sends nothing', async (t) => {
  if (!requires(t, 'redis')) return
  const { url } = await redisOf(t)
  const [one, other] = [await start(t, url), await start(t, url)]
  const session = await sessionCookie({ scopes: ['tasks:cancel'] })
  await signOut(one, session).expect(200)
  const { body, headers } = await other.api
    .delete(`/tasks/${other.upstream.addTask()}`)
    .set({ ...OWN_PAGE, ...session })
  assert.deepEqual([body.code, headers['set-cookie'], other.upstream.calls.length], ['unauthenticated', undefined, 0])
})

test('a replica that starts later knows of sign-outs before', async (t) => {
  if (!requires(t, 'redis')) return
  const { url } = await redisOf(t)
  const session = await sessionCookie()
  await signOut(await start(t, url), session).expect(200)
  assert.equal(await read(await start(t, url), session), 401)
})

test('many sign-outs are all known to a replica that starts later', async (t) => {
  if (!requires(t, 'redis')) return
  const { url } = await redisOf(t)
  const one = await start(t, url)
  const sessions = await Promise.all(Array.from({ length: 1500 }, () => sessionCookie()))
  for (let first = 0; first < sessions.length; first += 3) {
    const three = sessions.slice(first, first + 3).map(({ cookie }) => cookie)
    await signOut(one, { cookie: three.join('; ') }).expect(200)
  }
  const later = await start(t, url)
  const statuses = new Set<number>()
  for (const session of sessions.filter((_, index) => index % 50 === 0)) statuses.add(await read(later, session))
  assert.deepEqual([...statuses], [401])
})

test('a replica that was cut off learns of sign-outs that it missed', async (t) => {
  if (!requires(t, 'redis')) return
  const { url } = await redisOf(t)
  const wire = await startWire(t, url)
  const [one, other] = [await start(t, url), await start(t, wire.url)]
  const session = await sessionCookie()
  wire.cut()
  await becomes(other, 'local')
  await signOut(one, session).expect(200)
  assert.equal(await read(other, session), 200)
  assert.ok(other.logLines.some((line) => /"level":"warn".*sign-outs/.test(line)))
  wire.mend()
  await becomes(other, 'redis')
  assert.equal(await read(other, session), 401)
})

test('a replica that was cut off tells the others of its sign-outs', async (t) => {
  if (!requires(t, 'redis')) return
  const { url } = await redisOf(t)
  const wire = await startWire(t, url)
  const [one, other] = [await start(t, url), await start(t, wire.url)]
  const session = await sessionCookie()
  assert.equal(await unshared(other), '0')
  wire.cut()
  await becomes(other, 'local')
  await signOut(other, session).expect(200)
  assert.deepEqual([await read(other, session), await read(one, session), await unshared(other)], [401, 200, '1'])
  wire.mend()
  await becomes(other, 'redis')
  await eventually(async () => ((await read(one, session)) === 401 ? true : undefined))
  await eventually(async () => ((await unshared(other)) === '0' ? true : undefined))
})

for (const [how, leave, comeBack] of [
  ['is frozen', 'freeze', 'thaw'],
  ['has lost all that it held', 'stop', 'start'],
] as const) {
  test(`a Redis that ${how} makes no replica forget a sign-out, and all know it afterwards`, async (t) => {
    if (!requires(t, 'redis')) return
    const redis = await redisOf(t)
    const [one, other] = [await start(t, redis.url), await start(t, redis.url)]
    const [before, meanwhile] = [await sessionCookie(), await sessionCookie()]
    await signOut(one, before).expect(200)
    assert.equal(await read(other, before), 401)
    await redis[leave]()
    await signOut(one, meanwhile).expect(200)
    for (const session of [before, meanwhile]) assert.equal(await read(one, session), 401)
    assert.equal(await read(other, before), 401)
    await redis[comeBack]()
    for (const replica of [one, other]) await becomes(replica, 'redis')
    await eventually(async () => ((await read(other, meanwhile)) === 401 ? true : undefined))
    const later = await start(t, redis.url)
    for (const session of [before, meanwhile]) assert.equal(await read(later, session), 401)
  })
}

test('where it is said so, no session passes while Redis is away, and signing out counts all the same', async (t) => {
  if (!requires(t, 'redis')) return
  const redis = await redisOf(t)
  const env = { RATE_LIMIT_STORE_FAILURE: 'deny' }
  const [one, other] = [await start(t, redis.url, env), await start(t, redis.url, env)]
  const session = await sessionCookie({ scopes: ['tasks:read'] })
  await redis.stop()
  const { status, headers } = await signOut(one, session)
  assert.equal(status, 429)
  assert.match(String(headers['set-cookie']), /^__Host-session=; .*Expires=Thu, 01 Jan 1970/)
  assert.deepEqual([await read(other, session), (await other.api.get('/tasks').set(session)).status], [429, 429])
  await redis.start()
  for (const replica of [one, other]) await becomes(replica, 'redis')
  await eventually(async () => ((await read(other, session)) === 401 ? true : undefined))
})

/** How often Redis was asked for each command, but for those that begin a connection or look at Redis itself. */
const commandsOf = (info: unknown): Readonly<Record<string, number>> => {
  const lines = String(info).matchAll(/cmdstat_([^:]+):calls=(\d+)/g)
  const counts = [...lines].map(([, name = '', calls]): [string, number] => [name, Number(calls)])
  return Object.fromEntries(counts.filter(([name]) => !/^(hello|auth|client|info|config|select)/.test(name)))
}

test('a session asks Redis for nothing but what its limit asks', async (t) => {
  if (!requires(t, 'redis')) return
  const redis = await redisOf(t)
  const started = await start(t, redis.url)
  const session = await sessionCookie()
  const commandsFor = async (headers: Headers) => {
    await read(started, headers)
    await redis.command('CONFIG', 'RESETSTAT')
    for (let count = 0; count < 5; count += 1) assert.equal(await read(started, headers), 200)
    return commandsOf(await redis.command('INFO', 'commandstats'))
  }
  assert.deepEqual(await commandsFor(session), await commandsFor(asReader))
})

test('only what is news is published', async (t) => {
  if (!requires(t, 'redis')) return
  const redis = await redisOf(t)
  const started = await start(t, redis.url)
  const session = await sessionCookie()
  const overrides = { timings: { sharedStore: countsTiming }, now: () => Date.now() + 7_200_000 }
  const later = await startGateway(t, { env: { ...SIGN_IN_ENV, REDIS_URL: redis.url }, overrides })
  await redis.command('CONFIG', 'RESETSTAT')
  for (const replica of [started, started, later]) await signOut(replica, session).expect(200)
  await signOut(later, await sessionCookie()).expect(200)
  assert.equal(commandsOf(await redis.command('INFO', 'commandstats')).publish, 1)
})

test('what Redis holds of others is no sign-out and does no harm', async (t) => {
  if (!requires(t, 'redis')) return
  const redis = await redisOf(t)
  const started = await start(t, redis.url)
  const session = await sessionCookie()
  const channel = 'domain-task-gateway:sign-outs'
  for (const message of ['', '{', '{}', '[["x"]]', '[[1,2]]', `[["x",1e300]]`, '[["x",null]]', 'x'.repeat(100_000)]) {
    await redis.command('PUBLISH', channel, message)
  }
  assert.equal(await read(started, session), 200)
  await signOut(started, session).expect(200)
  assert.equal(await read(started, session), 401)
})

test('what Redis holds of sign-outs ends with the sessions', async (t) => {
  if (!requires(t, 'redis')) return
  const redis = await redisOf(t)
  await signOut(await start(t, redis.url), await sessionCookie()).expect(200)
  const leftMs = Number(await redis.command('PTTL', 'domain-task-gateway:sign-outs'))
  assert.ok(leftMs > 3_600_000 && leftMs <= 7_200_000, String(leftMs))
})
