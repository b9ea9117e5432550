import assert from 'node:assert/strict'
import { createServer } from 'node:net'
import { type TestContext, test } from 'node:test'
import { createServer as createTlsServer } from 'node:tls'
import type { Env } from '../../src/config.ts'
import { createCertificate } from '../helpers/certificate.ts'
import { asOperator, asReader, eventually, type Started, startGateway } from '../helpers/gateway.ts'
import { listenOn } from '../helpers/ports.ts'
import { REDIS_PASSWORD, type Redis, startOwnRedis, useRedis } from '../helpers/redis.ts'
import { requires } from '../helpers/requirements.ts'
import { SIGN_IN_ENV } from '../helpers/session.ts'

// Reasons why Redis is not in use, and cases that are no outage. The tests start each server.

const redisOf = useRedis()

const start = (t: TestContext, url: string, env: Env = {}, retryEveryMs = 20): Promise<Started> =>
  startGateway(t, {
    env: { REDIS_URL: url, RATE_LIMIT_MAX: '1000', ...env },
    overrides: { timings: { sharedStore: { retryEveryMs } } },
  })

const inUse = async ({ api }: Started): Promise<unknown> => (await api.get('/readyz').expect(200)).body.rateLimitStore

const cancel = async ({ api, upstream }: Started): Promise<number> =>
  (await api.delete(`/tasks/${upstream.addTask()}`).set(asOperator)).status

const warnings = ({ logLines }: Started) =>
  logLines.map((line) => JSON.parse(line)).filter(({ setting }) => setting === 'REDIS_URL')

/** Reasons that were logged, in order. */
const reasons = (started: Started) => warnings(started).map(({ reason }) => reason)

/** Numbers of the connections that Redis has, without the one that asks. */
const connectionIds = async (redis: Redis): Promise<readonly string[]> => {
  const list = String(await redis.command('CLIENT', 'LIST'))
  return list
    .split('\n')
    .filter((line) => line !== '' && !line.includes('cmd=client|list'))
    .map((line) => /^id=(\d+)/.exec(line)?.[1] ?? '')
}

test('a Redis that closes idle connections is in use all the time', async (t) => {
  if (!requires(t, 'redis')) return
  const redis = await startOwnRedis(t, { timeout: '1' })
  const started = await start(t, redis.url, { RATE_LIMIT_STORE_FAILURE: 'deny' }, 1000)
  for (let closed = 0; closed < 2; closed += 1) {
    const before = await connectionIds(redis)
    assert.deepEqual([before.length, await cancel(started)], [1, 202])
    await eventually(async () => {
      const ids = await connectionIds(redis)
      return ids.length === 1 && ids[0] !== before[0] ? true : undefined
    })
    assert.deepEqual([await cancel(started), await inUse(started)], [202, 'redis'])
  }
  assert.deepEqual(warnings(started), [])
})

test('a connection that ends while commands are on their way refuses no request', async (t) => {
  if (!requires(t, 'redis')) return
  const redis = await redisOf(t)
  const started = await start(t, redis.url, { RATE_LIMIT_STORE_FAILURE: 'deny' })
  for (let round = 0; round < 10; round += 1) {
    const kill = redis.command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
    const statuses = await Promise.all(Array.from({ length: 5 }, () => cancel(started)))
    await kill
    assert.deepEqual(statuses, [202, 202, 202, 202, 202])
  }
  assert.deepEqual(warnings(started), [])
})

test('a connection that is replaced leaves counts as they are', async (t) => {
  if (!requires(t, 'redis')) return
  const redis = await redisOf(t)
  const started = await start(t, redis.url, { RATE_LIMIT_READ_MAX: '2' })
  const read = async () => (await started.api.get('/me').set(asReader)).status
  const statuses = [await read()]
  const [before] = await connectionIds(redis)
  await redis.command('CLIENT', 'KILL', 'ID', before ?? '')
  await eventually(async () => ((await connectionIds(redis)).some((id) => id !== before) ? true : undefined))
  statuses.push(await read(), await read())
  assert.deepEqual(statuses, [200, 200, 429])
})

test('a Redis at an IPv6 address is in use', async (t) => {
  if (!requires(t, 'redis')) return
  const redis = await startOwnRedis(t, { bind: '127.0.0.1 ::1' })
  const started = await start(t, redis.url.replace('127.0.0.1', '[::1]'))
  assert.deepEqual([reasons(started), await inUse(started)], [[], 'redis'])
})

const PERMISSIONS = ['~domain-task-gateway:*', '&domain-task-gateway:*', '+@all'] as const
const USER = 'gateway'

const addUser = async (redis: Redis, ...rules: readonly string[]): Promise<string> => {
  await redis.command('ACL', 'SETUSER', USER, 'reset', 'on', '>100%/secret', ...rules)
  return redis.url.replace(`:${REDIS_PASSWORD}`, `${USER}:100%25%2Fsecret`)
}

test('a user, a percent-encoded password and the number of a database are used', async (t) => {
  if (!requires(t, 'redis')) return
  const redis = await startOwnRedis(t)
  const started = await start(t, `${await addUser(redis, ...PERMISSIONS)}/3`)
  assert.deepEqual([await cancel(started), await inUse(started)], [202, 'redis'])
  assert.match(String(await redis.command('INFO', 'keyspace')), /^db3:/m)
})

for (const [database, commands] of [
  ['', []],
  ['/3', ['select']],
] as const) {
  test(`the permissions that the documentation names are enough, with "${database}" as the database`, async (t) => {
    if (!requires(t, 'redis')) return
    const redis = await startOwnRedis(t)
    const counting = ['eval', 'evalsha', 'script|load', 'get', 'set', 'incr', 'decr', 'pttl']
    const signOuts = ['subscribe', 'publish', 'zscan', 'zadd', 'zremrangebyscore', 'pexpire']
    const rules = [...commands, ...counting, ...signOuts].map((command) => `+${command}`)
    const url = await addUser(redis, '~domain-task-gateway:*', '&domain-task-gateway:*', '-@all', ...rules)
    const started = await start(t, `${url}${database}`, SIGN_IN_ENV)
    assert.deepEqual([await cancel(started), await inUse(started), reasons(started)], [202, 'redis', []])
  })
}

/** Refusals of a real server: its settings, first commands, the address, and the reason in the log. */
const REFUSALS: Readonly<Record<string, Refusal>> = {
  'a wrong password': {
    url: ({ url }) => url.replace(REDIS_PASSWORD, 'canary-wrong-password'),
    reason: 'the password or the user name is not accepted',
  },
  'an unknown user': {
    url: ({ url }) => url.replace('redis://', 'redis://canary-user'),
    reason: 'the password or the user name is not accepted',
  },
  'no password': {
    url: ({ url }) => url.replace(`:${REDIS_PASSWORD}@`, ''),
    reason: 'the password or the user name is not accepted',
  },
  'a user without the keys': {
    url: (redis) => addUser(redis, '~other:*', '&*', '+@all'),
    reason: 'the user lacks a permission',
  },
  'a user without EVAL': {
    url: (redis) => addUser(redis, ...PERMISSIONS, '-eval'),
    reason: 'the user lacks a permission',
  },
  'a user without a command of a script': {
    url: (redis) => addUser(redis, ...PERMISSIONS, '-incr', '-set'),
    reason: 'the user lacks a permission',
  },
  'a user who may only read': {
    url: (redis) => addUser(redis, '~*', '&*', '+@read', '+@scripting', '+@connection'),
    reason: 'the user lacks a permission',
  },
  'a database that is not there': { url: ({ url }) => `${url}/999`, reason: 'it has no database of that number' },
  'a node of a cluster that serves no slot': {
    settings: { 'cluster-enabled': 'yes' },
    reason: 'it is a node of a cluster, and clusters are not supported',
  },
  'a node of a cluster that serves other slots': {
    settings: { 'cluster-enabled': 'yes', 'cluster-require-full-coverage': 'no' },
    prepare: [['CLUSTER', 'ADDSLOTS', '0']],
    reason: 'it is a node of a cluster, and clusters are not supported',
  },
  'full memory': { prepare: [['CONFIG', 'SET', 'maxmemory', '1']], reason: 'its memory is full' },
  'a replica': {
    // Read-only, and without its primary.
    prepare: [['REPLICAOF', '127.0.0.1', '1']],
    reason: 'it is a replica, which takes no writes',
  },
  'a replica without data of its primary': {
    prepare: [
      ['CONFIG', 'SET', 'replica-serve-stale-data', 'no'],
      ['REPLICAOF', '127.0.0.1', '1'],
    ],
    reason: 'it is a replica without its primary',
  },
  'too few replicas': {
    prepare: [['CONFIG', 'SET', 'min-replicas-to-write', '1']],
    reason: 'it has too few replicas, and takes no writes',
  },
  'TLS expected of a server without it': {
    url: ({ url }) => url.replace('redis:', 'rediss:'),
    reason: 'it does not begin TLS in time (a server without TLS needs redis:)',
    isAway: true,
  },
}

interface Refusal {
  readonly settings?: Readonly<Record<string, string>>
  readonly prepare?: readonly (readonly string[])[]
  readonly url?: (redis: Redis) => string | Promise<string>
  readonly reason: string
  readonly isAway?: boolean
}

const ownUrl = (redis: Redis): string => redis.url

for (const [what, { settings, prepare = [], url = ownUrl, reason, isAway = false }] of Object.entries(REFUSALS)) {
  test(`the log names the reason for which Redis is not in use: ${what}`, async (t) => {
    if (!requires(t, 'redis')) return
    const redis = await startOwnRedis(t, settings)
    for (const command of prepare) await redis.command(...command)
    const started = await start(t, await url(redis))
    assert.deepEqual([await cancel(started), await inUse(started)], [202, 'local'])
    assert.deepEqual(reasons(started), [reason])
    const [{ msg }] = warnings(started)
    assert.equal(msg.startsWith('Redis is not available'), isAway, msg)
    assert.doesNotMatch(started.logLines.join(''), /canary/)
  })
}

test('a Redis that refuses the gateway later is reported with the reason, once', async (t) => {
  if (!requires(t, 'redis')) return
  const redis = await startOwnRedis(t)
  const started = await start(t, await addUser(redis, ...PERMISSIONS))
  assert.equal(await inUse(started), 'redis')
  await redis.command('ACL', 'SETUSER', USER, '-evalsha')
  for (let round = 0; round < 5; round += 1) assert.equal(await cancel(started), 202)
  assert.deepEqual(reasons(started), ['the user lacks a permission'])
  await redis.command('ACL', 'SETUSER', USER, '+evalsha')
  await eventually(async () => ((await inUse(started)) === 'redis' ? true : undefined))
})

/** Replies to each connection, as Redis does in states that are hard to bring about. */
const REPLIES = {
  '-LOADING Redis is loading the dataset in memory': 'it still loads its data',
  '-MISCONF Redis is configured to save RDB snapshots': 'it cannot save its data, and takes no writes',
  '-BUSY Redis is busy running a script.': 'a script keeps it busy',
  '-DENIED Redis is running in protected mode': 'its protected mode refuses other machines',
  '-ERR max number of clients reached': 'it has too many connections',
  "-ERR unknown command 'HELLO'": 'it does not know a command (Redis 6 or later is needed)',
  '-MOVED 3999 canary.example:6381': 'it is a node of a cluster, and clusters are not supported',
  '-ASK 3999 canary.example:6381': 'it is a node of a cluster, and clusters are not supported',
  '-CANARY a reply that nobody knows': 'it refuses a command',
  'HTTP/1.1 400 canary': 'it does not speak the protocol of Redis, or expects TLS (rediss:)',
} as const

for (const [reply, reason] of Object.entries(REPLIES)) {
  test(`the log names the reason for which Redis is not in use, after the reply ${reply}`, async (t) => {
    const port = await listenOn(
      t,
      createServer((socket) => socket.on('error', () => undefined).once('data', () => socket.end(`${reply}\r\n`))),
    )
    const started = await start(t, `redis://127.0.0.1:${port}`)
    assert.deepEqual([await inUse(started), reasons(started)], ['local', [reason]])
    assert.doesNotMatch(started.logLines.join(''), /canary|nobody knows/)
  })
}

test('a server that expects TLS, and one whose certificate is not accepted, are reported as such', async (t) => {
  const port = await listenOn(t, createTlsServer(createCertificate()))
  const [plain, untrusted] = [await start(t, `redis://127.0.0.1:${port}`), await start(t, `rediss://127.0.0.1:${port}`)]
  assert.deepEqual(reasons(plain), [
    'it closed the connection before a reply, as a server does that expects TLS (rediss:)',
  ])
  assert.deepEqual(reasons(untrusted), ['its certificate is not accepted'])
})

test('a server that ends each connection at once is asked now and then, and reported as away', async (t) => {
  const reason = 'it closed the connection before a reply, as a server does that expects TLS (rediss:)'
  const server = createServer((socket) => socket.on('error', () => undefined).end())
  let connections = 0
  server.on('connection', () => {
    connections += 1
  })
  const started = await start(t, `redis://127.0.0.1:${await listenOn(t, server)}`, {}, 60_000)
  assert.deepEqual([await inUse(started), connections, reasons(started)], ['local', 1, [reason]])
})
