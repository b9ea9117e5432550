import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import type { Response } from 'supertest'
import { startWatchedGateway } from '../helpers/consistency.ts'
import { asAuditor, asOperator, type Started, type StartOptions, startGateway } from '../helpers/gateway.ts'
import { closedPort } from '../helpers/ports.ts'
import { apiKeysWith, asCaller } from '../helpers/restricted-callers.ts'
import { startRewritingProxy } from '../helpers/upstream-proxy.ts'

// Reads of a caller that is restricted to domains or types of tasks.

const scopes = ['tasks:cancel', 'tasks:read', 'audit:read'] as const

const API_KEYS = apiKeysWith(
  { name: 'domains', scopes, domains: ['*.a.example'] },
  { name: 'domains-too', scopes, domains: ['*.a.example'] },
  { name: 'types', scopes, taskTypes: ['CHG_DNS'] },
  { name: 'both', scopes, domains: ['*.a.example'], taskTypes: ['CHG_DNS'] },
  { name: 'nothing', scopes, domains: [], taskTypes: [] },
)

const INSIDE = { domains: ['www.a.example', 'WWW2.A.example.'] } as const

const start = (t: TestContext, { env, ...options }: StartOptions = {}): Promise<Started> =>
  startGateway(t, { ...options, env: { API_KEYS, UPSTREAM_MAX_ATTEMPTS: '1', POLICY_DETAILS_LIMIT: '3', ...env } })

const detailReads = ({ upstream }: Started): number =>
  upstream.calls.filter(({ action }) => action === 'QueryTaskDetailList').length

/** A response without the members that differ between any two responses. */
const toldBy = ({ status, body, headers }: Response) => {
  const { instance, ...members } = body
  const { date, 'x-request-id': requestId, ratelimit, 'content-length': length, ...others } = headers
  return { status, members, headers: others, length }
}

const PATHS = ['', '/details', '/details?pageSize=1&status=waiting&domain=www.a.example'] as const

describe('a task inside is seen', () => {
  for (const caller of ['domains', 'types', 'both']) {
    test(`by one restricted to ${caller}`, async (t) => {
      const { api, upstream } = await start(t)
      const taskNo = upstream.addTask(INSIDE)
      for (const path of PATHS) {
        assert.equal((await api.get(`/tasks/${taskNo}${path}`).set(asCaller(caller))).status, 200, path)
      }
    })
  }
})

/** Tasks, and the faults that their details meet, that are none of the caller's. */
const OUTSIDE: Readonly<Record<string, (started: Started) => string>> = {
  'a task of another domain': ({ upstream }) => upstream.addTask({ domains: ['www.a.example', 'b.example'] }),
  'a task of another type': ({ upstream }) => upstream.addTask({ ...INSIDE, taskType: 'ORDER_RENEW' }),
  'a task without domains': ({ upstream }) => upstream.addTask({ domains: [] }),
  'a task with a detail without a domain': ({ upstream }) => upstream.addTask({ domains: ['www.a.example', ''] }),
  'a task of more details than are looked at': ({ upstream }) =>
    upstream.addTask({ domains: ['1', '2', '3', '4'].map((label) => `${label}.a.example`) }),
  'a task with a detail less than it should have': ({ upstream }) => {
    upstream.fault('QueryTaskDetailList', { reply: 'wrong-total' }, Infinity)
    return upstream.addTask(INSIDE)
  },
  'a task whose details can not be read': ({ upstream }) => {
    upstream.fault('QueryTaskDetailList', { reply: 'not-json' }, 3)
    return upstream.addTask(INSIDE)
  },
  'a task that upstream denies': ({ upstream }) => {
    upstream.fault('QueryTaskDetailList', { reply: { status: 404, code: 'TaskNotExist' } }, 3)
    return upstream.addTask(INSIDE)
  },
}

test('what one caller was shown a moment ago is not shown to one with other restrictions', async (t) => {
  const { api, upstream } = await start(t, { overrides: { timings: { lookupTtlMs: 3_600_000 } } })
  const [ofDomain, ofType] = [
    upstream.addTask({ domains: ['b.example'] }),
    upstream.addTask({ ...INSIDE, taskType: 'X' }),
  ]
  const seen = async (caller: string, taskNo: string) =>
    (await api.get(`/tasks/${taskNo}`).set(asCaller(caller))).status
  assert.deepEqual([await seen('types', ofDomain), await seen('both', ofDomain)], [200, 404])
  assert.deepEqual([await seen('domains', ofType), await seen('both', ofType)], [200, 404])
})

test('a task that is outside by its first page is read no further, and what fails later says nothing', async (t) => {
  const started = await start(t, { env: { POLICY_DETAILS_LIMIT: '5000' } })
  const domains = Array.from({ length: 1001 }, (_, index) => `${index}.b.example`)
  const taskNo = started.upstream.addTask({ domains })
  const { status } = await started.api.get(`/tasks/${taskNo}`).set(asCaller('domains'))
  assert.deepEqual([status, detailReads(started)], [404, 1])
})

for (const pageSize of [1, 7]) {
  test(`an upstream that serves ${pageSize} rows of each page is not asked for more pages than full ones would be`, async (t) => {
    const short = (text: string): string => {
      const body = JSON.parse(text)
      if (body.Data?.TaskDetail !== undefined) body.Data.TaskDetail.length = pageSize
      return JSON.stringify(body)
    }
    const started = await startWatchedGateway(t, {
      env: { API_KEYS, POLICY_DETAILS_LIMIT: '5000' },
      proxy: (t, upstream) => startRewritingProxy(t, upstream.url, short),
    })
    const domains = Array.from({ length: 2500 }, (_, index) => `${index}.a.example`)
    const taskNo = started.upstream.addTask({ domains })
    const { status, body } = await started.api.delete(`/tasks/${taskNo}`).set(asCaller('domains'))
    assert.deepEqual([status, body.code, detailReads(started)], [403, 'forbidden', 3])
  })
}

describe('what is outside looks the same as what there is not', () => {
  for (const [name, prepare] of Object.entries(OUTSIDE)) {
    test(name, async (t) => {
      const started = await start(t, { overrides: { timings: { lookupTtlMs: 0 } } })
      const missing = await Promise.all(
        PATHS.map((path) => started.api.get(`/tasks/nowhere${path}`).set(asCaller('both'))),
      )
      const taskNo = prepare(started)
      for (const [index, path] of PATHS.entries()) {
        const outside = await started.api.get(`/tasks/${taskNo}${path}`).set(asCaller('both'))
        assert.deepEqual([outside.status, outside.body.code], [404, 'task-not-found'])
        const expected = missing[index]
        assert.ok(expected)
        assert.deepEqual(toldBy(outside), toldBy(expected))
      }
    })
  }

  test('nor does a condition tell that there is one', async (t) => {
    const { api, upstream } = await start(t)
    const path = `/tasks/${upstream.addTask({ domains: ['b.example'] })}`
    const { headers } = await api.get(path).set(asOperator)
    const answer = await api.get(path).set({ ...asCaller('domains'), 'if-none-match': String(headers.etag) })
    assert.equal(answer.status, 404)
  })

  test('nothing at all is seen by one who is left nothing', async (t) => {
    const { api, upstream } = await start(t)
    const taskNo = upstream.addTask(INSIDE)
    for (const path of PATHS) {
      assert.equal((await api.get(`/tasks/${taskNo}${path}`).set(asCaller('nothing'))).status, 404, path)
    }
  })
})

for (const [code, status, prepare] of [
  ['upstream-throttled', 503, { reply: { status: 400, code: 'Throttling.User' } }],
  ['upstream-forbidden', 502, { reply: { status: 403, code: 'Forbidden.RAM' } }],
  ['upstream-unavailable', 503, { reply: 'reset' }],
  ['upstream-unavailable', 503, { reply: { status: 500, code: 'InternalError' } }],
] as const) {
  test(`an ill upstream stays upstream's trouble: ${code} after ${JSON.stringify(prepare.reply)}`, async (t) => {
    const { api, upstream } = await start(t)
    const taskNo = upstream.addTask(INSIDE)
    upstream.fault('QueryTaskDetailList', prepare)
    const { body } = await api.get(`/tasks/${taskNo}`).set(asCaller('domains'))
    assert.deepEqual([body.status, body.code], [status, code])
  })
}

test('an upstream that is not there stays its own trouble', async (t) => {
  const { api } = await start(t, { env: { UPSTREAM_URL: `http://127.0.0.1:${await closedPort()}` } })
  assert.equal((await api.get('/tasks/x').set(asCaller('domains'))).body.code, 'upstream-unavailable')
})

test('a task whose details break off in the middle is not found', async (t) => {
  const { api, upstream } = await start(t, { env: { POLICY_DETAILS_LIMIT: '1001' } })
  const domains = Array.from({ length: 1001 }, (_, index) => `${index}.a.example`)
  const taskNo = upstream.addTask({ domains })
  upstream.fault('QueryTaskDetailList', { reply: 'right' })
  upstream.fault('QueryTaskDetailList', { reply: 'reset' })
  assert.equal((await api.get(`/tasks/${taskNo}`).set(asCaller('domains'))).body.code, 'task-not-found')
})

test('an upstream that does not answer is not waited for beyond the deadline', async (t) => {
  const env = { UPSTREAM_TIMEOUT_MS: '50', REQUEST_TIMEOUT_MS: '3050' }
  const { api, upstream } = await start(t, { env })
  upstream.fault('QueryTaskDetailList', { reply: 'stall' })
  assert.equal((await api.get('/tasks/x').set(asCaller('domains'))).body.code, 'upstream-timeout')
})

test('however many look at a task at one moment, its details are read once for the same restrictions', async (t) => {
  const started = await start(t, { overrides: { timings: { lookupTtlMs: 60_000 } } })
  const taskNo = started.upstream.addTask(INSIDE)
  const look = (caller: string) => started.api.get(`/tasks/${taskNo}`).set(asCaller(caller))
  const callers = Array.from({ length: 10 }, () => ['domains', 'domains-too']).flat()
  const answers = await Promise.all(callers.map(look))
  assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([200]))
  assert.equal(detailReads(started), 1)
  await look('types')
  assert.equal(detailReads(started), 2)
  // One list of tasks for them all.
  assert.equal(started.upstream.calls.length, 3)
})

test('what is not there is asked for once as well', async (t) => {
  const started = await start(t, { overrides: { timings: { lookupTtlMs: 60_000 } } })
  for (let time = 1; time <= 3; time += 1) await started.api.get('/tasks/nowhere').set(asCaller('domains'))
  assert.deepEqual([detailReads(started), started.upstream.calls.length], [1, 1])
})

test('a look of another moment reads anew', async (t) => {
  const started = await start(t, { overrides: { timings: { lookupTtlMs: 0 } } })
  const taskNo = started.upstream.addTask(INSIDE)
  for (let time = 1; time <= 2; time += 1) await started.api.get(`/tasks/${taskNo}`).set(asCaller('domains'))
  assert.equal(detailReads(started), 2)
})

test('who is not restricted costs no reading of details', async (t) => {
  const started = await start(t)
  const taskNo = started.upstream.addTask(INSIDE)
  assert.equal((await started.api.get(`/tasks/${taskNo}`).set(asOperator)).status, 200)
  assert.equal(detailReads(started), 0)
})

// The list.

for (const caller of ['domains', 'both', 'nothing']) {
  test(`the list is forbidden to one restricted to ${caller}, and upstream is not asked`, async (t) => {
    const { api, upstream } = await start(t)
    const { status, body } = await api.get('/tasks').set(asCaller(caller))
    assert.deepEqual([status, body.code, upstream.calls.length], [403, 'forbidden', 0])
    assert.equal((await api.get('/tasks?page=0').set(asCaller(caller))).body.code, 'query-invalid')
  })
}

test('the list shows tasks of its types to one restricted to types, and counts no others', async (t) => {
  const { api, upstream } = await start(t)
  const types = ['CHG_DNS', 'ORDER_RENEW', 'ORDER_RENEW', 'CHG_DNS', 'chg_dns']
  const [first, , , fourth] = types.map((taskType, age) =>
    upstream.addTask({ taskType, createdAt: Date.now() - age * 1000 }),
  )
  const page = async (number: number) => {
    const { body, headers } = await api.get(`/tasks?pageSize=2&page=${number}`).set(asCaller('types'))
    const { items, requestId: _, ...paging } = body
    return [items.map(({ taskNo }: { taskNo: string }) => taskNo), paging, headers.link]
  }
  const pageOf = (number: number, hasNext: boolean) => ({
    ...{ page: number, pageSize: 2, totalItems: null, totalPages: null, hasNext },
  })
  const link = (number: number, rel: string): string => `</tasks?pageSize=2&page=${number}>; rel="${rel}"`
  assert.deepEqual(await page(1), [[first], pageOf(1, true), link(2, 'next')])
  assert.deepEqual(await page(2), [[fourth], pageOf(2, true), `${link(3, 'next')}, ${link(1, 'prev')}`])
  assert.deepEqual(await page(3), [[], pageOf(3, false), link(2, 'prev')])
  assert.deepEqual(await page(9), [[], pageOf(9, false), link(8, 'prev')])
})

// The record.

const cancel = async ({ api, upstream }: Started, headers: Readonly<Record<string, string>>): Promise<string> =>
  (await api.delete(`/tasks/${upstream.addTask(INSIDE)}`).set(headers)).body.cancellationId

/** The cancellations of all callers, paged and filtered, as that caller sees them. */
const recordOf = async ({ api }: Started, caller: string, query = {}) => {
  const ids: string[] = []
  let cursor: string | null = null
  do {
    const asked: object = { limit: 1, ...query, ...(cursor === null ? {} : { cursor }) }
    const { body }: Response = await api.get('/cancellations').query(asked).set(asCaller(caller))
    ids.push(...body.items.map(({ id }: { id: string }) => id))
    cursor = body.nextCursor
  } while (cursor !== null)
  return ids
}

test('of the record, one who is restricted sees its own, page by page, whatever is asked for', async (t) => {
  const started = await start(t)
  const own = await cancel(started, asCaller('domains'))
  await cancel(started, asOperator)
  await cancel(started, asCaller('types'))
  const later = await cancel(started, asCaller('domains'))
  await cancel(started, asAuditor)
  assert.deepEqual(await recordOf(started, 'domains'), [later, own])
  assert.deepEqual(await recordOf(started, 'domains', { outcome: 'accepted' }), [later, own])
  assert.deepEqual(await recordOf(started, 'domains', { caller: 'operator' }), [])
  assert.deepEqual(await recordOf(started, 'nothing'), [])
})

test("of the record, another's entry is none for one who is restricted", async (t) => {
  const started = await start(t)
  const [own, others] = [await cancel(started, asCaller('types')), await cancel(started, asOperator)]
  const find = (id: string) => started.api.get(`/cancellations/${id}`).set(asCaller('types'))
  assert.equal((await find(own)).status, 200)
  const [foreign, missing] = [await find(others), await find('nowhere')]
  assert.deepEqual([foreign.status, foreign.body.code], [404, 'not-found'])
  assert.deepEqual(toldBy(foreign), toldBy(missing))
})
