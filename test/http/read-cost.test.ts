import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import type { Response } from 'supertest'
import type { Env } from '../../src/config.ts'
import { asOperator, eventually, type Started, startGateway, startSandbox } from '../helpers/gateway.ts'
import { startGet } from '../helpers/raw-http.ts'
import { useRedis } from '../helpers/redis.ts'
import { requires } from '../helpers/requirements.ts'
import { apiKeysWith, asCaller } from '../helpers/restricted-callers.ts'
import { startResponseHoldingProxy } from '../helpers/upstream-proxy.ts'

// The cost of reads: 1 for each call to the upstream that a read starts, and at least 1.

const redisOf = useRedis()

const DAY_MS = 86_400_000
const LIMIT = 100
/** However slow the machine is, a cached read serves for the whole test. */
const LASTING = { timings: { lookupTtlMs: 600_000 } }

const API_KEYS = apiKeysWith(
  { name: 'other', scopes: ['tasks:read'] },
  { name: 'shop', scopes: ['tasks:cancel', 'tasks:read'], domains: ['*.a.example'] },
)

type Headers = Readonly<Record<string, string>>

const manyDomains = (count: number): readonly string[] =>
  Array.from({ length: count }, (_, index) => `${index}.a.example`)

/** An account with tasks on the first two pages of its list, and an old one on the third page of its day. */
const fill = ({ addTask }: Pick<Started['upstream'], 'addTask'>) => {
  const oldAtMs = Date.now() - 5 * DAY_MS
  const old = addTask({ createdAt: oldAtMs, domains: manyDomains(1001) })
  for (let index = 0; index < 250; index += 1) addTask({ createdAt: oldAtMs })
  const second = addTask()
  for (let index = 0; index < 120; index += 1) addTask()
  return { old, second, newest: addTask(), large: addTask({ domains: manyDomains(2500) }) }
}

const start = async (t: TestContext, env: Env = {}) => {
  const started = await startGateway(t, {
    env: { API_KEYS, TASK_LOOKUP_LIMIT: '150', RATE_LIMIT_READ_MAX: String(LIMIT), ...env },
    overrides: LASTING,
  })
  return { ...started, tasks: fill(started.upstream) }
}

/** The same, with upstream's answers kept back until they are released. */
const startHeld = async (t: TestContext, env: Env = {}) => {
  const sandbox = await startSandbox(t)
  const tasks = fill(sandbox)
  const proxy = await startResponseHoldingProxy(t, sandbox.url)
  const started = await startGateway(t, {
    env: { API_KEYS, TASK_LOOKUP_LIMIT: '150', RATE_LIMIT_READ_MAX: '10', UPSTREAM_URL: proxy.url, ...env },
    overrides: LASTING,
  })
  return { ...started, upstream: sandbox, release: proxy.release, tasks }
}

type Asking = Pick<Started, 'api' | 'upstream'>

const leftIn = ({ headers }: Response): number => {
  const [, left] = /^"reads"; r=(\d+); t=\d+$/.exec(String(headers.ratelimit)) ?? []
  return Number(left)
}

/** The allowance that is left after a read that costs 1. */
const left = async ({ api }: Asking, headers: Headers): Promise<number> => leftIn(await api.get('/me').set(headers))

/** Uses a caller's allowance up to so much. */
const spend = async (started: Asking, headers: Headers, until: number): Promise<void> => {
  while ((await left(started, headers)) > until);
}

const read = async ({ api, upstream }: Asking, path: string, headers: Headers, method: 'get' | 'head' = 'get') => {
  const before = upstream.calls.length
  const answer = await api[method](path).set(headers)
  return { answer, calls: upstream.calls.length - before }
}

type Tasks = Awaited<ReturnType<typeof start>>['tasks']

/** Reads, each by a gateway that has read nothing yet, and how many calls to upstream they need. */
const READS: readonly (readonly [string, (tasks: Tasks) => string, Headers, calls: number])[] = [
  ['one of the newest tasks', ({ newest }) => `/tasks/${newest}`, asOperator, 1],
  ['a task of the second page', ({ second }) => `/tasks/${second}`, asOperator, 2],
  ['an old task', ({ old }) => `/tasks/${old}`, asOperator, 6],
  ['a number that leads nowhere', () => '/tasks/nowhere', asOperator, 3],
  ['the details of a task', ({ newest }) => `/tasks/${newest}/details`, asOperator, 1],
  ['details that a filter leaves empty', ({ old }) => `/tasks/${old}/details?domain=x`, asOperator, 7],
  ['details of a number that leads nowhere', () => '/tasks/nowhere/details', asOperator, 4],
  ['a list', () => '/tasks', asOperator, 1],
  ['a task by a restricted caller', ({ large }) => `/tasks/${large}`, asCaller('shop'), 4],
  ['details by a restricted caller', ({ large }) => `/tasks/${large}/details`, asCaller('shop'), 4],
  ['a task that is none of its caller’s', ({ newest }) => `/tasks/${newest}`, asCaller('shop'), 1],
  ['a request without a call', () => '/me', asOperator, 0],
]

describe('a read costs 1 for each call that it starts, and at least 1', () => {
  for (const [name, pathOf, headers, expected] of READS) {
    test(name, async (t) => {
      const started = await start(t)
      const path = pathOf(started.tasks)
      const { answer, calls } = await read(started, path, headers)
      assert.deepEqual([calls, LIMIT - leftIn(answer)], [expected, Math.max(1, expected)])
      assert.equal(await left(started, headers), LIMIT - Math.max(1, expected) - 1)
      assert.match(String(answer.headers['ratelimit-policy']), /^"reads"; q=100; w=60; pk=:\S+:$/)
    })
  }

  test('HEAD costs as GET does', async (t) => {
    const started = await start(t)
    const { answer, calls } = await read(started, `/tasks/${started.tasks.old}`, asOperator, 'head')
    assert.deepEqual([answer.status, calls, LIMIT - leftIn(answer)], [200, 6, 6])
  })

  test('an attempt that is made again costs no more', async (t) => {
    const started = await start(t)
    started.upstream.fault('QueryTaskList', { reply: 'reset' })
    const { answer, calls } = await read(started, '/tasks', asOperator)
    assert.deepEqual([answer.status, calls, LIMIT - leftIn(answer)], [200, 2, 1])
  })

  test('a call that fails costs as one that does not', async (t) => {
    const started = await start(t)
    started.upstream.fault('QueryTaskDetailList', { reply: { status: 403, code: 'Forbidden.RAM' } })
    const { answer, calls } = await read(started, `/tasks/${started.tasks.old}`, asOperator)
    assert.deepEqual([answer.body.code, calls, LIMIT - leftIn(answer)], ['upstream-forbidden', 3, 3])
  })
})

describe('a cached read costs 1', () => {
  for (const [name, pathOf] of [
    ['an old task', ({ old }) => `/tasks/${old}`],
    ['a number that leads nowhere', () => '/tasks/nowhere'],
    ['a task that is not modified', ({ newest }) => `/tasks/${newest}`],
  ] satisfies readonly (readonly [string, (tasks: Tasks) => string])[]) {
    test(name, async (t) => {
      const started = await start(t)
      const path = pathOf(started.tasks)
      const { answer: first } = await read(started, path, asOperator)
      const { headers } = first
      const condition = headers.etag === undefined ? {} : { 'if-none-match': String(headers.etag) }
      const { answer, calls } = await read(started, path, { ...asOperator, ...condition })
      assert.deepEqual([calls, leftIn(first) - leftIn(answer)], [0, 1])
      const { answer: others } = await read(started, path, asCaller('other'))
      assert.equal(leftIn(others), LIMIT - 1)
    })
  }
})

for (const [callers, headersOf] of [
  ['the same caller', () => asOperator],
  ['two callers', (index) => (index % 2 === 0 ? asOperator : asCaller('other'))],
] satisfies readonly (readonly [string, (index: number) => Headers])[]) {
  test(`equal reads at the same moment by ${callers} cost 1 each, and each call is paid once`, async (t) => {
    const started = await start(t)
    const ask = (_: unknown, index: number) => started.api.get(`/tasks/${started.tasks.old}`).set(headersOf(index))
    const answers = await Promise.all(Array.from({ length: 10 }, ask))
    assert.ok(answers.every(({ status }) => status === 200))
    const calls = started.upstream.calls.length
    const spent = 2 * LIMIT - (await left(started, asOperator)) - (await left(started, asCaller('other'))) - 2
    // Different requests may have started the calls, and the first call of each is in its 1.
    assert.equal(calls, 6)
    assert.ok(spent >= 10 && spent <= 9 + calls, String(spent))
  })
}

/** The reads again that need more than one call, and allowances that end before them. */
const CUT_SHORT = READS.flatMap(([name, pathOf, headers, calls]) =>
  Array.from({ length: Math.max(0, calls - 1) }, (_, index) => [name, pathOf, headers, index + 1] as const),
)

describe('if the allowance ends in the middle of a read, no further call is sent', () => {
  for (const [name, pathOf, headers, allowance] of CUT_SHORT) {
    test(`${name}, after ${allowance}`, async (t) => {
      const started = await start(t, { RATE_LIMIT_READ_MAX: String(allowance) })
      const { answer, calls } = await read(started, pathOf(started.tasks), headers)
      assert.deepEqual([answer.status, answer.body.code, answer.body.retryable], [429, 'too-many-requests', true])
      assert.deepEqual([calls, leftIn(answer)], [allowance, 0])
      assert.match(String(answer.headers['retry-after']), /^([1-9]|[1-5]\d|60)$/)
      const next = await read(started, pathOf(started.tasks), headers)
      assert.deepEqual([next.answer.status, next.calls], [429, 0])
    })
  }

  test('and the pages that were read until then serve other callers, who pay for the rest', async (t) => {
    const started = await start(t, { RATE_LIMIT_READ_MAX: '4' })
    const path = `/tasks/${started.tasks.old}`
    const first = await read(started, path, asOperator)
    assert.deepEqual([first.answer.status, first.calls], [429, 4])
    const second = await read(started, path, asCaller('other'))
    assert.deepEqual([second.answer.status, second.calls, leftIn(second.answer)], [200, 2, 2])
  })

  for (const [name, pathOf, headers, calls] of [
    ['a lookup', ({ old }) => `/tasks/${old}`, asCaller('other'), 4],
    [
      'the details that a restricted caller is checked against',
      ({ large }) => `/tasks/${large}`,
      asCaller('shop-too'),
      4,
    ],
  ] satisfies readonly (readonly [string, (tasks: Tasks) => string, Headers, number])[]) {
    test(`and a request that joined the read continues it at its own cost: ${name}`, async (t) => {
      const restricted = { scopes: ['tasks:read'], domains: ['*.a.example'] } as const
      const started = await startHeld(t, {
        API_KEYS: apiKeysWith(
          { name: 'other', scopes: ['tasks:read'] },
          { name: 'shop', ...restricted },
          { name: 'shop-too', ...restricted },
        ),
      })
      const path = pathOf(started.tasks)
      const payer = name === 'a lookup' ? asOperator : asCaller('shop')
      await spend(started, payer, 2)
      const sent = started.upstream.nextCall(name === 'a lookup' ? 'QueryTaskList' : 'QueryTaskDetailList')
      const paid = read(started, path, payer)
      await sent
      const joined = read(started, path, headers)
      started.release()
      assert.deepEqual([(await paid).answer.status, (await joined).answer.status], [429, 200])
      assert.equal(10 - leftIn((await joined).answer), calls)
    })
  }
})

test('a read whose caller has gone away starts no further call, and another caller continues it', async (t) => {
  const started = await startHeld(t)
  const path = `/tasks/${started.tasks.old}`
  const sent = started.upstream.nextCall('QueryTaskList')
  const leaving = startGet(started.url, path, asOperator)
  await sent
  leaving.destroy()
  await eventually(() => started.logLines.find((line) => line.includes('"msg":"request"')))
  started.release()
  const { answer } = await read(started, path, asCaller('other'))
  assert.deepEqual([answer.status, started.upstream.calls.length, 10 - leftIn(answer)], [200, 6, 5])
  assert.equal(await left(started, asOperator), 10 - 1 - 1)
})

describe('the reads that belong to a cancel cost nothing', () => {
  const cancel = async (started: Started, taskNo: string, headers: Headers) =>
    (await started.api.delete(`/tasks/${taskNo}`).set(headers)).status

  /** Leaves one read to a caller, has it cancel, and looks whether that one is left. */
  const costs = async (started: Started, taskNo: string, headers: Headers) => {
    await spend(started, headers, 1)
    const status = await cancel(started, taskNo, headers)
    const queries = started.upstream.calls.filter(({ action }) => action !== 'CancelTask').length
    return [status, queries, await left(started, headers)]
  }

  test('those of the policy check', async (t) => {
    const started = await start(t, { RATE_LIMIT_READ_MAX: '2' })
    assert.deepEqual(await costs(started, started.tasks.large, asCaller('shop')), [202, 3, 0])
  })

  test('those that settle an outcome', async (t) => {
    const started = await start(t, { RATE_LIMIT_READ_MAX: '2' })
    started.upstream.fault('CancelTask', { reply: 'reset', effect: true })
    assert.deepEqual(await costs(started, started.tasks.second, asOperator), [202, 2, 0])
  })

  test('the polls of Prefer: wait', async (t) => {
    const started = await start(t, { RATE_LIMIT_READ_MAX: '2' })
    const waiting = { ...asOperator, prefer: 'wait=1' }
    const [status, queries, one] = await costs(started, started.tasks.second, waiting)
    assert.deepEqual([status, one], [202, 0])
    assert.ok(Number(queries) >= 2)
  })

  test('and a read that they serve costs 1', async (t) => {
    const started = await startHeld(t)
    started.release()
    started.upstream.fault('CancelTask', { reply: 'reset', effect: true })
    const { second } = started.tasks
    assert.equal(await cancel(started, second, asOperator), 202)
    const { answer, calls } = await read(started, `/tasks/${second}`, asOperator)
    assert.deepEqual([answer.status, calls, leftIn(answer)], [200, 0, 9])
  })
})

describe('with limits in Redis', () => {
  const countsTiming = { answerMs: 2000, connectMs: 5000, retryEveryMs: 20 }

  test('replicas share the allowance', async (t) => {
    if (!requires(t, 'redis')) return
    const { url } = await redisOf(t)
    const env = { REDIS_URL: url, RATE_LIMIT_READ_MAX: '10', TASK_LOOKUP_LIMIT: '150' }
    const one = await startGateway(t, {
      env,
      overrides: { timings: { ...LASTING.timings, sharedStore: countsTiming } },
    })
    const other = await startGateway(t, {
      env,
      overrides: { timings: { ...LASTING.timings, sharedStore: countsTiming } },
    })
    const { answer, calls } = await read(one, `/tasks/${fill(one.upstream).old}`, asOperator)
    assert.deepEqual([answer.status, calls, leftIn(answer)], [200, 6, 4])
    const cut = await read(other, `/tasks/${fill(other.upstream).old}`, asOperator)
    assert.deepEqual([cut.answer.status, cut.calls, leftIn(cut.answer)], [429, 4, 0])
  })

  for (const [failure, status, calls] of [
    ['local', 200, 6],
    ['deny', 429, 1],
  ] as const) {
    test(`Redis goes away in the middle of a read: ${failure}`, async (t) => {
      if (!requires(t, 'redis')) return
      const redis = await redisOf(t)
      const sandbox = await startSandbox(t)
      const { old } = fill(sandbox)
      const proxy = await startResponseHoldingProxy(t, sandbox.url)
      const env = { REDIS_URL: redis.url, RATE_LIMIT_STORE_FAILURE: failure, RATE_LIMIT_READ_MAX: '10' }
      const { api } = await startGateway(t, {
        env: { ...env, TASK_LOOKUP_LIMIT: '150', UPSTREAM_URL: proxy.url },
        overrides: { timings: { ...LASTING.timings, sharedStore: { ...countsTiming, retryEveryMs: 600_000 } } },
      })
      const sent = sandbox.nextCall('QueryTaskList')
      const reading = read({ api, upstream: sandbox }, `/tasks/${old}`, asOperator)
      await sent
      await redis.stop()
      proxy.release()
      assert.deepEqual([(await reading).answer.status, sandbox.calls.length], [status, calls])
    })
  }
})
