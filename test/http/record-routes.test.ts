import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { openSqliteStore } from '../../src/audit/sqlite.ts'
import { sha256 } from '../../src/callers/api-keys.ts'
import {
  asAuditor,
  asOperator,
  asReader,
  CANARIES,
  type Started,
  type StartOptions,
  startGateway,
} from '../helpers/gateway.ts'

type Item = Readonly<Record<string, unknown>>
type Query = Readonly<Record<string, string>>

const cancel = async ({ api, upstream }: Started, headers: Query = asOperator, taskNo = upstream.addTask()) => {
  const { body } = await api.delete(`/tasks/${taskNo}`).set(headers)
  return { taskNo, id: String(body.cancellationId) }
}

/**
 * A gateway with one record of each kind: accepted, accepted for another caller, refused, rejected, failed, unknown.
 */
const startWithRecords = async (t: TestContext, options: StartOptions = {}) => {
  const started = await startGateway(t, options)
  const accepted = await cancel(started)
  const others = await cancel(started, asAuditor)
  const refused = await cancel(started, asReader)
  const rejected = await cancel(started, asOperator, 'nobody-s')
  started.upstream.fault('CancelTask', { reply: { status: 403, code: 'Forbidden.RAM' } })
  const failed = await cancel(started)
  started.upstream.fault('CancelTask', { reply: 'reset' })
  const unknown = await cancel(started)
  return { ...started, ids: { accepted, others, refused, rejected, failed, unknown } }
}

const list = async ({ api }: Started, query: Query = {}) => {
  const { status, body } = await api.get('/cancellations').query(query).set(asAuditor)
  return { status, items: body.items as readonly Item[], nextCursor: body.nextCursor as string | null, body }
}

const idsOf = (items: readonly Item[]): readonly unknown[] => items.map(({ id }) => id)

test('the record is shown newest first', async (t) => {
  const started = await startWithRecords(t)
  const { accepted, others, refused, rejected, failed, unknown } = started.ids
  const { status, items, nextCursor } = await list(started)
  assert.deepEqual([status, nextCursor], [200, null])
  assert.deepEqual(
    idsOf(items),
    [unknown, failed, rejected, refused, others, accepted].map(({ id }) => id),
  )
})

test('an item has just these members', async (t) => {
  const started = await startGateway(t)
  await cancel(started)
  const { items } = await list(started)
  assert.deepEqual(Object.keys(items[0] ?? {}), [
    'id',
    'taskNo',
    'caller',
    'callerDisplayName',
    'via',
    'clientIp',
    'peerIp',
    'userAgent',
    'requestedAt',
    'outcome',
    'attempts',
    'requestId',
    'upstreamCode',
    'finishedAt',
    'gatewayRequestId',
    'settledBy',
    'isFinal',
  ])
})

type Kind = 'accepted' | 'others' | 'refused' | 'rejected' | 'failed' | 'unknown'

/** The records that each filter leaves, newest first. */
const FILTERS: readonly (readonly [Query, readonly Kind[]])[] = [
  [{ outcome: 'accepted' }, ['others', 'accepted']],
  [{ outcome: 'refused' }, ['refused']],
  [{ outcome: 'rejected' }, ['rejected']],
  [{ outcome: 'failed' }, ['failed']],
  [{ outcome: 'unknown' }, ['unknown']],
  [{ outcome: 'cancelled' }, []],
  [{ outcome: 'pending' }, []],
  [{ caller: 'auditor' }, ['others']],
  [{ caller: 'operator' }, ['unknown', 'failed', 'rejected', 'refused', 'accepted']],
  [{ caller: 'Auditor' }, []],
  [{ caller: '%' }, []],
  [{ caller: "' OR 1=1 --" }, []],
  [{ taskNo: 'nobody-s' }, ['rejected']],
  [{ taskNo: 'nobody' }, []],
  [{ caller: 'operator', outcome: 'accepted' }, ['accepted']],
  [{ from: '2000-01-01' }, ['unknown', 'failed', 'rejected', 'refused', 'others', 'accepted']],
  [{ from: '2100-01-01T00:00:00Z' }, []],
  [{ to: '2000-01-01' }, []],
  [{ to: '2100-01-01T00:00:00+08:00', outcome: 'failed' }, ['failed']],
  [{ limit: '2' }, ['unknown', 'failed']],
  [{ limit: '1', outcome: 'accepted' }, ['others']],
]

test('filters leave what they name', async (t) => {
  const started = await startWithRecords(t)
  for (const [query, kinds] of FILTERS) {
    await t.test(new URLSearchParams(query).toString(), async () => {
      const { items } = await list(started, query)
      assert.deepEqual(
        idsOf(items),
        kinds.map((kind) => started.ids[kind].id),
      )
    })
  }
})

test('times are filtered to the millisecond, the first included and the last not', async (t) => {
  const started = await startGateway(t)
  const { id } = await cancel(started)
  const { items } = await list(started)
  const at = String(items[0]?.requestedAt)
  const next = new Date(Date.parse(at) + 1).toISOString()
  assert.deepEqual(idsOf((await list(started, { from: at, to: next })).items), [id])
  assert.deepEqual((await list(started, { to: at })).items, [])
  assert.deepEqual((await list(started, { from: next })).items, [])
})

test('pages follow each other without a gap or a double, while new rows arrive', async (t) => {
  const started = await startGateway(t)
  const ids = []
  for (let row = 0; row < 5; row += 1) ids.unshift((await cancel(started)).id)
  const seen: unknown[] = []
  let cursor: string | null = null
  do {
    const page = await list(started, { limit: '2', ...(cursor !== null && { cursor }) })
    seen.push(...idsOf(page.items))
    cursor = page.nextCursor
    await cancel(started)
  } while (cursor !== null)
  assert.deepEqual(seen, ids)
})

test('the last page says so, even where it is full', async (t) => {
  const started = await startGateway(t)
  for (let row = 0; row < 2; row += 1) await cancel(started)
  const { items, nextCursor } = await list(started, { limit: '2' })
  assert.deepEqual([items.length, nextCursor], [2, null])
})

test('a cursor goes on within the same filter', async (t) => {
  const started = await startWithRecords(t)
  const first = await list(started, { outcome: 'accepted', limit: '1' })
  const second = await list(started, { outcome: 'accepted', limit: '1', cursor: first.nextCursor ?? '' })
  assert.deepEqual([idsOf(second.items), second.nextCursor], [[started.ids.accepted.id], null])
})

/** Queries that are refused, and the parameter that the answer names. */
const INVALID: readonly (readonly [string, string])[] = [
  ['limit=0', 'limit'],
  ['limit=201', 'limit'],
  ['limit=-1', 'limit'],
  ['limit=1.5', 'limit'],
  ['limit=1e2', 'limit'],
  ['limit=', 'limit'],
  ['limit=1&limit=2', 'limit'],
  ['outcome=Accepted', 'outcome'],
  ['outcome=', 'outcome'],
  ['outcome=accepted&outcome=failed', 'outcome'],
  ['from=yesterday', 'from'],
  ['from=2026-02-30', 'from'],
  ['from=2026-01-01T00:00:00', 'from'],
  ['from=1700000000000', 'from'],
  ['to=2026-13-01', 'to'],
  ['to=', 'to'],
  ['cursor=', 'cursor'],
  ['cursor=abc', 'cursor'],
  ['cursor=MQ', 'cursor'],
  ['cursor=MS4x&cursor=MS4x', 'cursor'],
  [`cursor=${Buffer.from('-1').toString('base64url')}`, 'cursor'],
  [`cursor=${Buffer.from('1 OR 1').toString('base64url')}`, 'cursor'],
  ['taskNo=', 'taskNo'],
  ['taskNo=%00', 'taskNo'],
  ['caller=a%00', 'caller'],
  ['taskNo=a&taskNo=b', 'taskNo'],
  ['caller=', 'caller'],
  [`caller=${'a'.repeat(254)}`, 'caller'],
  ['lang=fr', 'lang'],
  ['Limit=1', 'Limit'],
  ['task=x', 'task'],
  ['limit[]=1', 'query'],
  ['__proto__=x', '__proto__'],
  ['constructor=x', 'constructor'],
  ['%0d%0aSet-Cookie:%20a=b', 'query'],
]

test('a query that is not valid is refused, naming the parameter', async (t) => {
  const { api } = await startGateway(t)
  for (const [query, field] of INVALID) {
    await t.test(query.slice(0, 40), async () => {
      const { status, body } = await api.get(`/cancellations?${query}`).set(asAuditor)
      assert.deepEqual([status, body.code], [400, 'query-invalid'])
      assert.ok(String(body.detail).startsWith(`${field} `), body.detail)
    })
  }
})

test('the broken rule is told in Chinese too', async (t) => {
  const { api } = await startGateway(t)
  const { body } = await api.get('/cancellations?limit=0&lang=zh').set(asAuditor)
  assert.equal(body.detail, 'limit 必须为 1 到 200 的整数')
})

const BOUNDS = [
  'limit=1',
  'limit=200',
  `caller=${'a'.repeat(253)}`,
  'lang=en',
  'from=2024-02-29',
  'cursor=MS4x',
] as const

test('a query at its bounds is answered', async (t) => {
  const { api } = await startGateway(t)
  for (const query of BOUNDS) {
    const { status } = await api.get(`/cancellations?${query}`).set(asAuditor)
    assert.equal(status, 200, query)
  }
})

const ACCESS: readonly (readonly [string, Query, number, number])[] = [
  ['nobody', {}, 401, 401],
  ['the caller of it', asOperator, 403, 200],
  ['a key of that name without the scope', asReader, 403, 403],
  ['an auditor', asAuditor, 200, 200],
]

for (const [who, headers, listed, found] of ACCESS) {
  test(`${who} is answered ${listed} to the list and ${found} to one record`, async (t) => {
    const started = await startGateway(t)
    const { id } = await cancel(started)
    const statuses = [
      await started.api.get('/cancellations').set(headers),
      await started.api.get(`/cancellations/${id}`).set(headers),
    ]
    assert.deepEqual(
      statuses.map(({ status }) => status),
      [listed, found],
    )
  })
}

test('one record is the same as in the list', async (t) => {
  const started = await startGateway(t)
  const { id } = await cancel(started)
  const { body } = await started.api.get(`/cancellations/${id}`).set(asOperator)
  const { task, ...record } = body
  assert.deepEqual(record, (await list(started)).items[0])
  assert.deepEqual(task, { status: 'unknown', cancelStatus: 'unknown', seenAt: null })
})

test('another’s record looks just like none', async (t) => {
  const started = await startGateway(t)
  const { id } = await cancel(started, asAuditor)
  const paths = [
    `/cancellations/${id}`,
    '/cancellations/00000000-0000-4000-8000-000000000000',
    '/cancellations/x',
    '/cancellations/%00',
  ]
  const answers = []
  for (const path of paths) answers.push(await started.api.get(path).set(asOperator))
  const told = answers.map(({ status, body: { instance: _, ...body } }) => ({ status, body }))
  assert.equal(told[0]?.status, 404)
  assert.deepEqual(told, Array(paths.length).fill(told[0]))
})

test('a caller of the same name by another way does not own the record', async (t) => {
  const entry = { name: 'anonymous', sha256: sha256('key').toString('hex'), scopes: ['tasks:cancel'] }
  const auditor = { name: 'a', sha256: sha256(CANARIES.auditorKey).toString('hex'), scopes: ['audit:read'] }
  const started = await startGateway(t, {
    env: { ALLOW_ANONYMOUS: 'true', API_KEYS: JSON.stringify([entry, auditor]) },
  })
  const { body } = await started.api.delete(`/tasks/${started.upstream.addTask()}`).set('x-api-key', 'key')
  const path = `/cancellations/${body.cancellationId}`
  const statuses = [await started.api.get(path), await started.api.get(path).set('x-api-key', 'key')]
  assert.deepEqual(
    statuses.map(({ status }) => status),
    [404, 200],
  )
})

test('a store that can not be read is told as such', async (t) => {
  const broken = () => Promise.reject(new Error('disk gone, password hunter2'))
  const openStore = async (path: string) => ({ ...(await openSqliteStore(path)), list: broken, find: broken })
  const { api, logLines } = await startGateway(t, { overrides: { openStore } })
  for (const path of ['/cancellations', '/cancellations/00000000-0000-4000-8000-000000000000']) {
    const { status, text, body } = await api.get(path).set(asAuditor)
    assert.deepEqual([status, body.code], [503, 'audit-unavailable'])
    assert.doesNotMatch(text + logLines.join(''), /hunter2/)
  }
})
