import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { FaultReply } from '../../sandbox/src/server.ts'
import { sha256 } from '../../src/callers/api-keys.ts'
import { startWatchedGateway } from '../helpers/consistency.ts'
import {
  API_KEYS,
  asAuditor,
  asReader,
  eventually,
  type Started,
  type StartOptions,
  startGateway,
} from '../helpers/gateway.ts'
import { closedPort } from '../helpers/ports.ts'
import { openSocket } from '../helpers/raw-http.ts'
import { startRewritingProxy } from '../helpers/upstream-proxy.ts'

type Fields = Readonly<Record<string, unknown>>
type Headers = Readonly<Record<string, string>>

const HOUR_MS = 3_600_000

/** Reads tasks and the record, and so sees addresses. */
const asInspector = { 'x-api-key': 'key-of-inspector' } as const

const INSPECTOR = {
  name: 'inspector',
  sha256: sha256(asInspector['x-api-key']).toString('hex'),
  scopes: ['tasks:read', 'audit:read'],
} as const

const ENV = { API_KEYS: JSON.stringify([...JSON.parse(API_KEYS), INSPECTOR]) } as const

const start = (t: TestContext, { env, ...options }: StartOptions = {}): Promise<Started> =>
  startGateway(t, { ...options, env: { ...ENV, ...env } })

/** A gateway whose upstream sends responses that the real one never sends. */
const startRewritten = (t: TestContext, rewrite: (answer: string) => string): Promise<Started> =>
  startWatchedGateway(t, { env: ENV, proxy: (t, upstream) => startRewritingProxy(t, upstream.url, rewrite) })

const get = async ({ api }: Pick<Started, 'api'>, path: string, headers: Headers = {}) => {
  const answer = await api.get(path).set({ ...asReader, ...headers })
  const items: readonly Fields[] = answer.body.items ?? []
  const { status, text, body, headers: fields } = answer
  return { status, text, body, headers: fields, etag: fields.etag ?? '', items }
}

const column = (items: readonly Fields[], name: string): readonly unknown[] => items.map((item) => item[name])

/** Addresses of a page's neighbours. */
const linksOf = ({ headers }: { readonly headers: Headers }): Headers =>
  Object.fromEntries(
    [...(headers.link ?? '').matchAll(/<([^>]*)>; rel="(\w+)"/g)].map(([, address = '', rel = '']) => [rel, address]),
  )

/** Tasks of growing age; the numbers are returned newest first, as upstream lists them. */
const addTasks = ({ upstream }: Started, count: number): readonly string[] =>
  Array.from({ length: count }, (_, age) => upstream.addTask({ createdAt: Date.now() - age * 1000 }))

// The list.

test('a list shows the newest tasks first, twenty of them where nothing is asked', async (t) => {
  const started = await start(t)
  const taskNos = addTasks(started, 25)
  const { status, body, items } = await get(started, '/tasks')
  assert.equal(status, 200)
  assert.deepEqual(column(items, 'taskNo'), taskNos.slice(0, 20))
  const { items: _, requestId, ...paging } = body
  assert.deepEqual(paging, { page: 1, pageSize: 20, totalItems: 25, totalPages: 2, hasNext: true })
  assert.match(requestId, /^[0-9A-F-]{36}$/)
})

test('an account without tasks has an empty page, and no other', async (t) => {
  const answer = await get(await start(t), '/tasks')
  const { requestId: _, ...page } = answer.body
  assert.deepEqual(page, { items: [], page: 1, pageSize: 20, totalItems: 0, totalPages: 0, hasNext: false })
  assert.deepEqual(linksOf(answer), {})
})

test('a task in the list has just these members', async (t) => {
  const started = await start(t)
  const createdAt = Date.UTC(2026, 0, 5, 20, 30, 40)
  const taskNo = started.upstream.addTask({ createdAt, domains: ['a.example', 'b.example'] })
  const { items } = await get(started, '/tasks')
  assert.deepEqual(items, [
    {
      taskNo,
      type: 'CHG_DNS',
      typeDescription: '修改DNS',
      status: 'complete',
      cancelStatus: 'none',
      domainCount: 2,
      createdAt: '2026-01-05T20:30:40.000Z',
      clientIp: null,
    },
  ])
})

test('statuses of tasks are told in words of ours', async (t) => {
  const started = await start(t, { sandbox: { waitingMs: HOUR_MS, executingMs: HOUR_MS, cancellingMs: HOUR_MS } })
  const ages = [0.5, 1.5, 3].map((hours) => Date.now() - hours * HOUR_MS)
  const [waiting = ''] = ages.map((createdAt) => started.upstream.addTask({ createdAt }))
  await started.api.delete(`/tasks/${waiting}`).set(asAuditor)
  const { items } = await get(started, '/tasks')
  assert.deepEqual(column(items, 'status'), ['waiting', 'executing', 'complete'])
  assert.deepEqual(column(items, 'cancelStatus'), ['cancelling', 'none', 'none'])
})

/** Follows the links of one kind from an address to the end. */
const follow = async (started: Started, rel: 'next' | 'prev', from: string) => {
  const pages = []
  for (let address: string | undefined = from; address !== undefined && pages.length < 10; ) {
    const answer = await get(started, address)
    pages.push({ address, taskNos: column(answer.items, 'taskNo') })
    address = linksOf(answer)[rel]
  }
  return pages
}

test('links lead through the list and back, past every task once', async (t) => {
  const started = await start(t)
  const taskNos = addTasks(started, 7)
  const there = await follow(started, 'next', '/tasks?pageSize=3')
  assert.deepEqual(
    there.map(({ taskNos }) => taskNos.length),
    [3, 3, 1],
  )
  assert.deepEqual(
    there.flatMap(({ taskNos }) => taskNos),
    taskNos,
  )
  const back = await follow(started, 'prev', there.at(-1)?.address ?? '')
  assert.deepEqual(
    back.map(({ taskNos }) => taskNos),
    there.map(({ taskNos }) => taskNos).reverse(),
  )
})

test('links keep every other parameter', async (t) => {
  const started = await start(t)
  addTasks(started, 3)
  const query = { pageSize: '1', createdFrom: '2020-01-01T00:00:00+08:00', createdTo: '2100-01-01', lang: 'zh' }
  const answer = await get(started, `/tasks?${new URLSearchParams({ page: '2', ...query })}`)
  const asked = Object.entries(linksOf(answer)).map(([rel, address]) => {
    const { pathname, searchParams } = new URL(address, started.url)
    return [rel, pathname, Object.fromEntries(searchParams)]
  })
  assert.deepEqual(asked, [
    ['next', '/tasks', { page: '3', ...query }],
    ['prev', '/tasks', { page: '1', ...query }],
  ])
})

test('a page past the last is empty and leads back to the last', async (t) => {
  const started = await start(t)
  addTasks(started, 2)
  const answer = await get(started, '/tasks?page=4&pageSize=1')
  assert.deepEqual([answer.status, answer.items, answer.body.totalItems, answer.body.hasNext], [200, [], 2, false])
  assert.deepEqual(linksOf(answer), { prev: '/tasks?page=2&pageSize=1' })
})

/** Moments around the day of 5 January in UTC+8, the vendor's. */
const MOMENTS = {
  before: '2026-01-04T15:59:59Z',
  first: '2026-01-04T16:00:00Z',
  last: '2026-01-05T15:59:59Z',
  after: '2026-01-05T16:00:00Z',
} as const

const DAYS: readonly (readonly [Headers, readonly (keyof typeof MOMENTS)[]])[] = [
  [{ createdFrom: '2026-01-05', createdTo: '2026-01-05' }, ['last', 'first']],
  [{ createdFrom: '2026-01-05' }, ['after', 'last', 'first']],
  [{ createdTo: '2026-01-05' }, ['last', 'first', 'before']],
  [{ createdFrom: '2026-01-05T23:00:00+08:00' }, ['after', 'last', 'first']],
  [{ createdTo: '2026-01-04T16:00:00Z' }, ['last', 'first', 'before']],
  [{ createdTo: '2026-01-04T15:59:59Z' }, ['before']],
  [{ createdFrom: '2026-01-06', createdTo: '2026-01-07' }, ['after']],
  [{ createdFrom: '2026-01-07' }, []],
  // Earlier than any moment that upstream has a number for.
  [{ createdFrom: '1960-01-01' }, ['after', 'last', 'first', 'before']],
  [{ createdFrom: '0001-01-01', createdTo: '9999-12-31' }, ['after', 'last', 'first', 'before']],
  [{ createdTo: '1960-01-01' }, []],
]

test('a list is narrowed to whole days of the vendor’s', async (t) => {
  const started = await start(t)
  for (const [taskNo, at] of Object.entries(MOMENTS)) started.upstream.addTask({ taskNo, createdAt: Date.parse(at) })
  for (const [query, expected] of DAYS) {
    await t.test(JSON.stringify(query), async () => {
      const { status, items } = await get(started, `/tasks?${new URLSearchParams(query)}`)
      assert.deepEqual([status, column(items, 'taskNo')], [200, expected])
    })
  }
})

// Faulty queries.

const RULES = {
  page: ['must be a whole number from 1 to 1000000', '必须为 1 到 1000000 的整数'],
  size: ['must be a whole number from 1 to 100', '必须为 1 到 100 的整数'],
  detailSize: ['must be a whole number from 1 to 1000', '必须为 1 到 1000 的整数'],
  date: [
    'must be an ISO 8601 date, or a date and time with a time zone',
    '必须为 ISO 8601 格式的日期，或带时区的日期和时间',
  ],
  order: ['must not be before createdFrom', '不得早于 createdFrom'],
  status: ['must be one of waiting, executing, succeeded, failed', '必须为 waiting、executing、succeeded 或 failed'],
  text: ['must occur once and have 1 to 253 characters', '只能指定一次，且长度必须为 1 到 253 个字符'],
  lang: ['must be en or zh', '必须为 en 或 zh'],
  unknown: ['is not a parameter of this route', '不是该接口的参数'],
} as const

/** Queries that are refused, the parameter that the answer names, and the rule. */
const INVALID: readonly (readonly [string, string, keyof typeof RULES])[] = [
  ...['0', '-1', '1.5', '1e2', 'x', '', '1000001', '1&page=2'].map(
    (v) => [`/tasks?page=${v}`, 'page', 'page'] as const,
  ),
  ...['0', '101', 'all', ''].map((v) => [`/tasks?pageSize=${v}`, 'pageSize', 'size'] as const),
  ...['2026-02-30', 'yesterday', '2026-01-05T10:00:00', '1767571200000', ''].map(
    (v) => [`/tasks?createdFrom=${v}`, 'createdFrom', 'date'] as const,
  ),
  ['/tasks?createdTo=2026-13-01', 'createdTo', 'date'],
  ['/tasks?createdFrom=2026-01-06&createdTo=2026-01-05', 'createdTo', 'order'],
  ['/tasks?lang=fr', 'lang', 'lang'],
  ['/tasks?status=waiting', 'status', 'unknown'],
  ['/tasks?Page=1', 'Page', 'unknown'],
  ['/tasks?__proto__=1', '__proto__', 'unknown'],
  ['/tasks?page[]=1', 'query', 'unknown'],
  ['/tasks/t-1?page=1', 'page', 'unknown'],
  ['/tasks/t-1?lang=fr', 'lang', 'lang'],
  ['/tasks/t-1/details?page=0', 'page', 'page'],
  ...['0', '1001'].map((v) => [`/tasks/t-1/details?pageSize=${v}`, 'pageSize', 'detailSize'] as const),
  ...['Waiting', 'complete', '0', '', 'failed&status=failed'].map(
    (v) => [`/tasks/t-1/details?status=${v}`, 'status', 'status'] as const,
  ),
  ...['', 'a&domain=b', 'a'.repeat(254)].map((v) => [`/tasks/t-1/details?domain=${v}`, 'domain', 'text'] as const),
  ['/tasks/t-1/details?createdFrom=2026-01-05', 'createdFrom', 'unknown'],
]

test('a query that breaks a rule is refused by the name of both, and nothing is asked', async (t) => {
  const started = await start(t)
  for (const [path, field, rule] of INVALID) {
    for (const [index, lang] of (['en', 'zh'] as const).entries()) {
      await t.test(`${path} in ${lang}`, async () => {
        const { status, body } = await get(started, path, { 'accept-language': lang })
        assert.deepEqual([status, body.code, body.detail], [400, 'query-invalid', `${field} ${RULES[rule][index]}`])
      })
    }
  }
  assert.equal(started.upstream.calls.length, 0)
})

const ALLOWED = [
  '/tasks?page=1000000&pageSize=100',
  '/tasks?createdFrom=2026-01-05T00:00:00Z&createdTo=2026-01-05T00:00:00Z&lang=en',
  '/tasks/t-1?lang=zh',
  '/tasks/t-1/details?page=1&pageSize=1000&status=failed&domain=x&lang=zh',
] as const

test('what stands at the bounds is allowed', async (t) => {
  const started = await start(t)
  started.upstream.addTask({ taskNo: 't-1' })
  for (const path of ALLOWED) assert.equal((await get(started, path)).status, 200, path)
})

// Permissions.

const PATHS = ['/tasks', '/tasks/t-1', '/tasks/t-1/details'] as const

for (const path of PATHS) {
  test(`${path} is for those who may read tasks, whatever else they ask wrong`, async (t) => {
    const { api, upstream } = await start(t)
    upstream.addTask({ taskNo: 't-1' })
    const nobody = await api.get(`${path}?nonsense`)
    const auditor = await api.get(`${path}?nonsense`).set(asAuditor)
    assert.deepEqual([nobody.body.code, auditor.body.code], ['unauthenticated', 'forbidden'])
    assert.equal(upstream.calls.length, 0)
    const seen = [await api.get(path).set(asReader), await api.get(path).set(asInspector)]
    assert.deepEqual(
      seen.map(({ status }) => status),
      [200, 200],
    )
  })
}

test('addresses are shown to those alone who may read the record', async (t) => {
  const started = await start(t)
  const path = `/tasks/${started.upstream.addTask()}`
  const seen = []
  for (const who of [asReader, asInspector]) {
    seen.push((await get(started, '/tasks', who)).items[0]?.clientIp, (await get(started, path, who)).body.clientIp)
  }
  assert.deepEqual(seen, [null, null, '127.0.0.1', '127.0.0.1'])
})

const ASKED_BY: Headers = { 'x-forwarded-for': '203.0.113.9', 'accept-language': 'zh-CN,zh' }

test('upstream learns whose list and details they are, and in which language', async (t) => {
  const started = await start(t, { env: { TRUST_PROXY: '127.0.0.1' } })
  const taskNo = started.upstream.addTask()
  await get(started, '/tasks', ASKED_BY)
  await get(started, `/tasks/${taskNo}/details?lang=en`, ASKED_BY)
  const told = started.upstream.calls.map(({ action, params: { UserClientIp, Lang } }) => [action, UserClientIp, Lang])
  assert.deepEqual(told, [
    ['QueryTaskList', '203.0.113.9', 'zh'],
    ['QueryTaskDetailList', '203.0.113.9', 'en'],
  ])
})

test('what many share is asked in nobody’s name', async (t) => {
  const started = await start(t, { env: { TRUST_PROXY: '127.0.0.1' } })
  await get(started, `/tasks/${started.upstream.addTask()}`, ASKED_BY)
  const { UserClientIp, Lang } = started.upstream.calls[0]?.params ?? {}
  assert.deepEqual([UserClientIp, Lang], [undefined, undefined])
})

// One task.

test('one task is the same as in the list', async (t) => {
  const started = await start(t)
  const [, taskNo] = addTasks(started, 3)
  const { status, body } = await get(started, `/tasks/${taskNo}`)
  const { items } = await get(started, '/tasks')
  assert.deepEqual([status, body], [200, items[1]])
})

test('a task that nobody knows is not found', async (t) => {
  const started = await start(t)
  addTasks(started, 2)
  for (const path of ['/tasks/nobody-s', '/tasks/nobody-s/details', '/tasks/nobody-s/details?status=failed']) {
    const { status, body, headers } = await get(started, path)
    assert.deepEqual([status, body.code, body.outcome], [404, 'task-not-found', undefined], path)
    assert.equal(headers['cache-control'], 'no-store')
  }
})

test('one task may be kept by its caller, who asks each time whether it has changed', async (t) => {
  const started = await start(t)
  const path = `/tasks/${started.upstream.addTask()}`
  const { etag } = await get(started, path)
  assert.match(etag, /^"[\w-]{43}"$/)
  for (const tag of [etag, `W/${etag}`, `"other", ${etag}`]) {
    const { status, text, headers, etag: again } = await get(started, path, { 'if-none-match': tag })
    assert.deepEqual([status, text, again, headers['cache-control']], [304, '', etag, 'private, no-cache'])
  }
  // Only space and tab stand around a tag: other bytes are a part of it.
  for (const tag of ['"other"', `\u00a0${etag}`, `${etag}\u00a0`, `"other",\u00a0${etag}`]) {
    assert.equal((await get(started, path, { 'if-none-match': tag })).status, 200, tag)
  }
})

test('a task that has changed has another tag', async (t) => {
  const started = await start(t, { sandbox: { cancellingMs: HOUR_MS } })
  const path = `/tasks/${started.upstream.addTask()}`
  const { etag } = await get(started, path)
  await started.api.delete(path).set(asAuditor)
  const changed = await eventually(async () => {
    const answer = await get(started, path, { 'if-none-match': etag })
    return answer.status === 304 ? undefined : answer
  })
  assert.equal(changed.body.cancelStatus, 'cancelling')
  assert.notEqual(changed.etag, etag)
})

test('a tag is of what its caller may see', async (t) => {
  const started = await start(t)
  const path = `/tasks/${started.upstream.addTask()}`
  const { etag } = await get(started, path)
  const { status, body } = await get(started, path, { ...asInspector, 'if-none-match': etag })
  assert.deepEqual([status, body.clientIp], [200, '127.0.0.1'])
})

test('lists are not kept anywhere', async (t) => {
  const started = await start(t)
  const taskNo = started.upstream.addTask()
  for (const path of ['/tasks', `/tasks/${taskNo}/details`]) {
    const { headers } = await get(started, path)
    assert.deepEqual([headers['cache-control'], headers.etag], ['no-store', undefined])
  }
})

test('HEAD is answered like GET, without the body', async (t) => {
  const started = await start(t)
  const [taskNo] = addTasks(started, 2)
  for (const path of ['/tasks?pageSize=1', `/tasks/${taskNo}`, `/tasks/${taskNo}/details`]) {
    const { status, headers, text } = await started.api.head(path).set(asReader)
    const { headers: expected } = await get(started, path)
    const names = ['link', 'etag', 'cache-control', 'content-type', 'content-length', 'vary']
    assert.deepEqual(
      [status, text, ...names.map((name) => headers[name])],
      [200, undefined, ...names.map((name) => expected[name])],
    )
  }
})

// Details.

test('a detail has just these members', async (t) => {
  const started = await start(t)
  const createdAt = Date.UTC(2026, 0, 5, 20, 30, 40)
  const taskNo = started.upstream.addTask({ createdAt })
  const { items } = await get(started, `/tasks/${taskNo}/details`)
  const { detailNo, instanceId, updatedAt, ...detail } = items[0] ?? {}
  assert.match(`${detailNo} ${instanceId} ${updatedAt}`, /^[0-9a-f]{32} S[0-9A-F]{16} \d{4}-\d\d-\d\dT[\d:.]+Z$/)
  assert.deepEqual(detail, {
    taskNo,
    type: 'CHG_DNS',
    typeDescription: '修改DNS',
    status: 'succeeded',
    domain: 'example.com',
    createdAt: '2026-01-05T20:30:40.000Z',
    attempts: 1,
    message: null,
    result: null,
  })
})

const domainsOf = (count: number): readonly string[] => Array.from({ length: count }, (_, n) => `d${n}.example`)

test('details come in pages of a hundred where nothing is asked', async (t) => {
  const started = await start(t)
  const taskNo = started.upstream.addTask({ domains: domainsOf(101) })
  const answer = await get(started, `/tasks/${taskNo}/details`)
  const { items, requestId, ...paging } = answer.body
  assert.deepEqual(
    [items.length, paging],
    [100, { page: 1, pageSize: 100, totalItems: 101, totalPages: 2, hasNext: true }],
  )
  assert.match(requestId, /^[0-9A-F-]{36}$/)
  assert.deepEqual(linksOf(answer), { next: `/tasks/${taskNo}/details?page=2` })
})

test('links lead through the details, past every domain once, and keep the filters', async (t) => {
  const started = await start(t)
  const taskNo = started.upstream.addTask({ domains: domainsOf(5), createdAt: 0 })
  const seen: unknown[] = []
  let address: string | undefined = `/tasks/${taskNo}/details?pageSize=2&status=succeeded`
  while (address !== undefined && seen.length < 10) {
    const answer = await get(started, address)
    seen.push(...column(answer.items, 'domain'))
    address = linksOf(answer).next
  }
  assert.deepEqual(seen, domainsOf(5))
  assert.deepEqual([...new Set(started.upstream.calls.map(({ params }) => params.TaskStatus))], ['2'])
})

test('details are filtered by domain', async (t) => {
  const started = await start(t)
  const taskNo = started.upstream.addTask({ domains: ['a.example', '例子.example'] })
  for (const domain of ['a.example', '例子.example']) {
    const { items } = await get(started, `/tasks/${taskNo}/details?${new URLSearchParams({ domain })}`)
    assert.deepEqual(column(items, 'domain'), [domain])
  }
})

const DETAIL_STATUSES = ['waiting', 'executing', 'succeeded', 'failed'] as const

test('details are filtered by status, and a filter may leave nothing of a known task', async (t) => {
  const started = await start(t, { sandbox: { waitingMs: HOUR_MS, executingMs: HOUR_MS, cancellingMs: 0 } })
  const cancelled = started.upstream.addTask({ taskNo: 'failed' })
  await started.api.delete(`/tasks/${cancelled}`).set(asAuditor)
  const ages = { waiting: 0.5, executing: 1.5, succeeded: 3 } as const
  for (const [taskNo, hours] of Object.entries(ages)) {
    started.upstream.addTask({ taskNo, createdAt: Date.now() - hours * HOUR_MS })
  }
  for (const taskNo of DETAIL_STATUSES) {
    for (const asked of DETAIL_STATUSES) {
      const { status, items } = await get(started, `/tasks/${taskNo}/details?status=${asked}`)
      assert.deepEqual([status, column(items, 'status')], [200, taskNo === asked ? [asked] : []], `${taskNo} ${asked}`)
    }
  }
})

test('a page of details past the last is empty', async (t) => {
  const started = await start(t)
  const { status, items, body } = await get(started, `/tasks/${started.upstream.addTask()}/details?page=9`)
  assert.deepEqual([status, items, body.totalItems, body.totalPages], [200, [], 1, 1])
})

// Unexpected responses of the upstream.

test('a type that nobody has heard of is passed on', async (t) => {
  const started = await start(t)
  const taskNo = started.upstream.addTask({ taskType: 'TELEPORT' })
  for (const path of ['/tasks', `/tasks/${taskNo}/details`]) {
    assert.deepEqual(column((await get(started, path)).items, 'type'), ['TELEPORT'])
  }
})

const reportsOf = ({ logLines }: Started): readonly unknown[] =>
  logLines
    .map((line) => JSON.parse(line))
    .filter(({ msg }) => msg === 'the upstream sent an unknown value')
    .map(({ level, field, value }) => [level, field, value])

test('a status that nobody has heard of is unknown, and logged once', async (t) => {
  const started = await startRewritten(t, (text) => text.replace(/Status":"[A-Z_]+"/g, 'Status":"PAUSED"'))
  const [taskNo] = addTasks(started, 2)
  for (let time = 0; time < 2; time += 1) {
    const { items } = await get(started, '/tasks')
    assert.deepEqual([...column(items, 'status'), ...column(items, 'cancelStatus')], Array(4).fill('unknown'))
    assert.deepEqual(column((await get(started, `/tasks/${taskNo}/details`)).items, 'status'), ['unknown'])
    assert.equal((await get(started, `/tasks/${taskNo}`)).body.status, 'unknown')
  }
  assert.deepEqual(reportsOf(started), [
    ['warn', 'TaskStatus', 'PAUSED'],
    ['warn', 'TaskCancelStatus', 'PAUSED'],
    ['warn', 'TaskStatus of a detail', 'PAUSED'],
  ])
})

test('a status that does not look like one is logged once for all, without its text', async (t) => {
  let count = 0
  const started = await startRewritten(t, (text) =>
    text.replace(/"TaskStatus":"[A-Z_]+"/g, () => `"TaskStatus":"Signature=${count++}"`),
  )
  addTasks(started, 3)
  const { items, text } = await get(started, '/tasks')
  assert.deepEqual(column(items, 'status'), ['unknown', 'unknown', 'unknown'])
  assert.deepEqual(reportsOf(started), [['warn', 'TaskStatus', undefined]])
  assert.doesNotMatch(text + started.logLines.join(''), /Signature=/)
})

test('a time that can not be read is null, and logged once for each field', async (t) => {
  const started = await startRewritten(t, (text) => text.replace(/Time":"[^"]+"/g, 'Time":"yesterday"'))
  const [taskNo] = addTasks(started, 2)
  for (let time = 0; time < 2; time += 1) {
    assert.equal((await get(started, '/tasks')).items[0]?.createdAt, null)
    const { createdAt, updatedAt } = (await get(started, `/tasks/${taskNo}/details`)).items[0] ?? {}
    assert.deepEqual([createdAt, updatedAt], [null, null])
  }
  assert.deepEqual(reportsOf(started), [
    ['warn', 'CreateTime', undefined],
    ['warn', 'CreateTime of a detail', undefined],
    ['warn', 'UpdateTime of a detail', undefined],
  ])
})

for (const [form, expected] of [
  ['"Dec 26, 2017, 11:00:54\u202fAM"', '2017-12-26T03:00:54.000Z'],
  ['"2017-12-26T03:00:54Z"', '2017-12-26T03:00:54.000Z'],
  ['1514257254000', '2017-12-26T03:00:54.000Z'],
] as const) {
  test(`a time in the form ${form} is read`, async (t) => {
    const started = await startRewritten(t, (text) => text.replace(/Time":"[^"]+"/g, `Time":${form}`))
    const taskNo = started.upstream.addTask()
    assert.equal((await get(started, '/tasks')).items[0]?.createdAt, expected)
    const { createdAt, updatedAt } = (await get(started, `/tasks/${taskNo}/details`)).items[0] ?? {}
    assert.deepEqual([createdAt, updatedAt, reportsOf(started)], [expected, expected, []])
  })
}

for (const taskNo of ['9007199254740992', '9007199254740993', '12345678901234567000']) {
  test(`the number ${taskNo} of a task, above 2^53, keeps its digits`, async (t) => {
    const numbered = (text: string): string => text.replace(/"Task(Detail)?No":"[^"]*"/g, `"Task$1No":${taskNo}`)
    const started = await startRewritten(t, numbered)
    started.upstream.addTask({ taskNo })
    assert.deepEqual(column((await get(started, '/tasks')).items, 'taskNo'), [taskNo])
    assert.equal((await get(started, `/tasks/${taskNo}`)).body.taskNo, taskNo)
    const [detail] = (await get(started, `/tasks/${taskNo}/details`)).items
    assert.deepEqual([detail?.taskNo, detail?.detailNo], [taskNo, taskNo])
  })
}

/** Adds undocumented members to every object of a JSON text. */
const stuffed = (text: string): string =>
  text.replaceAll('{"', '{"url":"http://127.0.0.1/?AccessKeyId=LTAI&Signature=c2lnbmVk","Secret":"c2VjcmV0","')

test('nothing of upstream’s answer leaves but what is documented', async (t) => {
  const started = await startRewritten(t, stuffed)
  const path = `/tasks/${started.upstream.addTask()}`
  const plain = await start(t)
  const plainPath = `/tasks/${plain.upstream.addTask()}`
  const pairs = [
    ['/tasks', '/tasks'],
    [path, plainPath],
    [`${path}/details`, `${plainPath}/details`],
    ['/tasks?page=1000000', '/tasks?page=1000000'],
  ] as const
  for (const [here, there] of pairs) {
    const { text, body, items } = await get(started, here, asInspector)
    const expected = await get(plain, there, asInspector)
    assert.deepEqual(
      [Object.keys(body), Object.keys(items[0] ?? {})],
      [Object.keys(expected.body), Object.keys(expected.items[0] ?? {})],
    )
    assert.doesNotMatch(text + started.logLines.join(''), /Signature|LTAI|c2VjcmV0/)
  }
})

test('the requestId is upstream’s', async (t) => {
  const started = await startRewritten(t, (text) => text.replace(/"RequestId":"[^"]+"/, '"RequestId":"R-42"'))
  const taskNo = started.upstream.addTask()
  for (const path of ['/tasks', `/tasks/${taskNo}/details`]) {
    assert.equal((await get(started, path)).body.requestId, 'R-42')
  }
})

test('a list that is no list is an unreadable answer', async (t) => {
  const started = await startRewritten(t, (text) => text.replace(/"Data":\{.*\}\}/, '"Data":{}}'))
  const taskNo = started.upstream.addTask()
  for (const path of ['/tasks', `/tasks/${taskNo}`, `/tasks/${taskNo}/details`]) {
    const { status, body } = await get(started, path)
    assert.deepEqual([status, body.code, body.retryable], [502, 'upstream-bad-response', false])
    assert.match(body.requestId, /^[0-9A-F-]{36}$/)
  }
})

// Failures.

const coded = (status: number, code: string): FaultReply => ({ status, code })

/** The behaviour of the upstream, and the response to a read. */
const FAILURES: readonly (readonly [FaultReply, number, string, boolean])[] = [
  ['reset', 503, 'upstream-unavailable', true],
  ['truncate', 503, 'upstream-unavailable', true],
  ['stall', 504, 'upstream-timeout', true],
  ['not-json', 502, 'upstream-bad-response', false],
  ['redirect', 502, 'upstream-bad-response', false],
  ['no-request-id', 502, 'upstream-bad-response', false],
  ['huge', 502, 'upstream-bad-response', false],
  // Documented for CancelTask alone.
  ['envelope', 502, 'upstream-bad-response', false],
  [coded(500, 'InternalError'), 503, 'upstream-unavailable', true],
  [coded(400, 'SignatureNonceUsed'), 503, 'upstream-unavailable', true],
  [coded(400, 'Throttling.User'), 503, 'upstream-throttled', true],
  [coded(403, 'Forbidden.RAM'), 502, 'upstream-forbidden', false],
  [coded(404, 'InvalidAccessKeyId.NotFound'), 502, 'upstream-credentials-rejected', false],
  [coded(400, 'SignatureDoesNotMatch'), 502, 'upstream-credentials-rejected', false],
  [coded(400, 'InvalidTimeStamp.Expired'), 502, 'upstream-misconfigured', false],
  [coded(404, 'InvalidAction.NotFound'), 502, 'upstream-misconfigured', false],
  [coded(400, 'MissingPageNum'), 500, 'internal', false],
  [coded(400, 'InvalidParameter'), 502, 'upstream-bad-response', false],
  [coded(400, 'NeverHeardOf'), 502, 'upstream-bad-response', false],
]

const ROUTES = [
  ['/tasks', 'QueryTaskList'],
  ['/tasks/t-1', 'QueryTaskList'],
  ['/tasks/t-1/details', 'QueryTaskDetailList'],
] as const

const ONE_ATTEMPT = { UPSTREAM_MAX_ATTEMPTS: '1' } as const

for (const [reply, status, code, retryable] of FAILURES) {
  const name = typeof reply === 'string' ? reply : reply.code

  test(`reads that meet ${name} are answered ${status} ${code}`, async (t) => {
    const timeout = reply === 'stall' ? { UPSTREAM_TIMEOUT_MS: '300' } : {}
    const started = await start(t, { env: { ...ONE_ATTEMPT, ...timeout } })
    started.upstream.addTask({ taskNo: 't-1' })
    for (const [path, action] of ROUTES) {
      started.upstream.fault(action, { reply })
      const { body, headers, ...answer } = await get(started, path)
      assert.deepEqual([answer.status, body.code, body.retryable, 'outcome' in body], [status, code, retryable, false])
      assert.equal(headers['retry-after'] !== undefined, code === 'upstream-throttled')
      assert.equal(headers['cache-control'], 'no-store')
    }
  })
}

for (const [path, action] of ROUTES) {
  test(`${path} of an upstream that knows no such task is ${action === 'QueryTaskList' ? 'unreadable' : 'not found'}`, async (t) => {
    const started = await start(t)
    started.upstream.addTask({ taskNo: 't-1' })
    started.upstream.fault(action, { reply: coded(404, 'TaskNo.NotFound') })
    const { status, body } = await get(started, path)
    const expected = action === 'QueryTaskList' ? [502, 'upstream-bad-response'] : [404, 'task-not-found']
    assert.deepEqual([status, body.code, body.upstreamCode], [...expected, 'TaskNo.NotFound'])
  })

  test(`${path} of an upstream that can not be reached may be asked again`, async (t) => {
    const UPSTREAM_URL = `http://127.0.0.1:${await closedPort()}`
    const { status, body } = await get(await start(t, { env: { UPSTREAM_URL } }), path)
    assert.deepEqual([status, body.code, body.retryable], [503, 'upstream-unavailable', true])
  })

  test(`${path} is asked for again after a failure that passes`, async (t) => {
    const started = await start(t)
    started.upstream.addTask({ taskNo: 't-1' })
    started.upstream.fault(action, { reply: 'reset' }, 2)
    assert.equal((await get(started, path)).status, 200)
  })

  test(`a caller of ${path} may go while upstream is being asked`, async (t) => {
    const started = await start(t)
    const { upstream, logLines } = started
    upstream.fault(action, { reply: 'stall' })
    const asked = upstream.nextCall(action)
    const socket = openSocket(started.url)
    socket.write(`GET ${path} HTTP/1.1\r\nHost: a\r\nX-API-Key: ${asReader['x-api-key']}\r\n\r\n`)
    await asked
    socket.destroy()
    await eventually(() => logLines.find((line) => line.includes('"msg":"request"')))
    await upstream.close()
    await eventually(() => logLines.find((line) => line.includes('an upstream call failed')))
    assert.equal((await get(started, '/livez')).status, 200)
    assert.doesNotMatch(logLines.join(''), /internal error/)
  })
}

test('a script in a browser is told that nothing has changed, although it sends no-cache with the condition', async (t) => {
  const { url, upstream } = await start(t)
  const address = `${url}/tasks/${upstream.addTask()}`
  const first = await fetch(address, { headers: asInspector })
  const headers = { ...asInspector, 'if-none-match': first.headers.get('etag') ?? '' }
  assert.deepEqual([first.status, (await fetch(address, { headers })).status], [200, 304])
})
