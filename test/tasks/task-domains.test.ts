import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { asOperator, asReader, type Started, type StartOptions, startGateway } from '../helpers/gateway.ts'
import { apiKeysWith, asCaller } from '../helpers/restricted-callers.ts'

// `GET /tasks?include=domains`: the calls that it makes, and what they cost.

type Headers = Readonly<Record<string, string>>
type Item = { readonly taskNo: string; readonly domains?: readonly string[] | null }

const LIST = '/tasks?include=domains'

const scopes = ['tasks:read'] as const
const API_KEYS = apiKeysWith(
  { name: 'types', scopes, taskTypes: ['CHG_DNS'] },
  { name: 'domains', scopes, domains: ['*.a.example'] },
)

const start = (t: TestContext, { env, ...options }: StartOptions = {}): Promise<Started> =>
  startGateway(t, { ...options, env: { API_KEYS, ...env } })

const addTasks = ({ upstream }: Started, count: number): readonly string[] =>
  Array.from({ length: count }, (_, age) =>
    upstream.addTask({ taskNo: `task-${age}`, domains: [`${age}.example`], createdAt: Date.now() - age * 1000 }),
  )

const detailCalls = ({ upstream }: Started): number =>
  upstream.calls.filter(({ action }) => action === 'QueryTaskDetailList').length

const ask = async (started: Started, path: string = LIST, headers: Headers = asReader) => {
  const before = detailCalls(started)
  const answer = await started.api.get(path).set(headers)
  const items: readonly Item[] = answer.body.items ?? []
  return { answer, domains: items.map(({ domains }) => domains), calls: detailCalls(started) - before }
}

test('a row has up to three names, each once, and rows of the plain list have none', async (t) => {
  const started = await start(t)
  started.upstream.addTask({ domains: ['a.example', 'a.example', 'b.example'], createdAt: Date.now() - 2000 })
  started.upstream.addTask({ domains: ['1.example', '2.example', '3.example', '4.example'] })
  const { domains } = await ask(started)
  assert.deepEqual(domains, [
    ['1.example', '2.example', '3.example'],
    ['a.example', 'b.example'],
  ])
  assert.deepEqual((await ask(started, '/tasks')).domains, [undefined, undefined])
  assert.equal((await ask(started, '/tasks?include=status')).answer.body.code, 'query-invalid')
})

test('a thousand tasks cost one call each, and none on a second visit', async (t) => {
  const started = await start(t)
  const names = Array.from({ length: 1000 }, (_, index) => `${index}.example`)
  for (let index = 0; index < 1000; index += 1) {
    const size = index % 25 === 0 ? 1000 : 1 + (index % 25)
    started.upstream.addTask({ domains: names.slice(0, size), createdAt: Date.now() - index * 1000 })
  }
  const visit = async (include: string) => {
    let calls = 0
    let named = 0
    for (let page = 1; page <= 10; page += 1) {
      const visited = await ask(started, `/tasks?pageSize=100&page=${page}${include}`)
      calls += visited.calls
      named += visited.domains.filter((domains) => domains && domains.length > 0).length
    }
    return { calls, named }
  }
  assert.deepEqual(await visit(''), { calls: 0, named: 0 })
  assert.deepEqual(await visit('&include=domains'), { calls: 1000, named: 1000 })
  assert.deepEqual(await visit('&include=domains'), { calls: 0, named: 1000 })
})

test('equal requests at the same moment share the calls', async (t) => {
  const started = await start(t)
  addTasks(started, 10)
  await Promise.all([asReader, asOperator, asCaller('types')].map((headers) => ask(started, LIST, headers)))
  assert.equal(detailCalls(started), 10)
})

test('no more than four calls are in flight for a list', async (t) => {
  const started = await start(t, { overrides: { timings: { domainsWaitMs: 200 } } })
  addTasks(started, 20)
  started.upstream.fault('QueryTaskDetailList', { reply: 'stall' }, 20)
  const { answer, domains, calls } = await ask(started)
  assert.deepEqual([answer.status, calls], [200, 4])
  assert.deepEqual([...new Set(domains)], [null])
})

test('each call costs 1, and rows beyond the allowance have no names', async (t) => {
  const started = await start(t, { env: { RATE_LIMIT_READ_MAX: '4' } })
  addTasks(started, 10)
  const { answer, domains, calls } = await ask(started)
  assert.deepEqual([answer.status, calls, domains.filter((names) => names !== null).length], [200, 3, 3])
  assert.match(String(answer.headers.ratelimit), /^"reads"; r=0; t=\d+$/)
  assert.equal(answer.headers['retry-after'], undefined)
  const next = await ask(started)
  assert.deepEqual([next.answer.status, next.calls], [429, 0])
  const other = await ask(started, LIST, asCaller('types'))
  assert.deepEqual([other.calls, other.domains.filter((names) => names !== null).length], [3, 6])
})

test('after a failure no further call follows, and a later request gets the names', async (t) => {
  const started = await start(t, {
    env: { UPSTREAM_MAX_ATTEMPTS: '1' },
    overrides: { timings: { lookupTtlMs: 1 } },
  })
  addTasks(started, 10)
  started.upstream.fault('QueryTaskDetailList', { reply: { status: 403, code: 'Forbidden.RAM' } }, 4)
  const { answer, domains, calls } = await ask(started)
  assert.deepEqual([answer.status, calls, domains[0]], [200, 4, null])
  const later = await ask(started)
  assert.ok(later.domains.every((names) => names !== null))
})

test('a task that upstream does not know leaves the other rows their names', async (t) => {
  const started = await start(t)
  addTasks(started, 6)
  started.upstream.fault('QueryTaskDetailList', { reply: { status: 400, code: 'TaskNotExist' } })
  const { domains } = await ask(started)
  assert.equal(domains.filter((names) => names === null).length, 1)
})

test('a caller restricted to domains is refused, before any call', async (t) => {
  const started = await start(t)
  addTasks(started, 2)
  const { answer } = await ask(started, LIST, asCaller('domains'))
  assert.deepEqual([answer.body.code, started.upstream.calls.length], ['forbidden', 0])
})

test('a caller restricted to types causes no call for tasks of other types', async (t) => {
  const started = await start(t)
  started.upstream.addTask({ taskType: 'ORDER_RENEW', domains: ['hidden.example'] })
  started.upstream.addTask({ domains: ['shown.example'] })
  const { domains, calls } = await ask(started, LIST, asCaller('types'))
  assert.deepEqual([domains, calls], [[['shown.example']], 1])
})
