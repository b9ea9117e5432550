import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { asAuditor, asOperator, asReader, CANARIES, type StartOptions, startGateway } from '../helpers/gateway.ts'
import { sendLine, sendRaw, statusAndCode } from '../helpers/raw-http.ts'

const OPERATOR = `X-API-Key: ${CANARIES.operatorKey}`
const LONGEST = 'a'.repeat(64)

/** Paths as they are sent, and the result of a cancel there. */
const PATHS: readonly (readonly [string, number, string])[] = [
  ['/TASKS/x', 404, 'not-found'],
  ['/Tasks/x', 404, 'not-found'],
  ['/tasks/x/', 404, 'not-found'],
  ['//tasks/x', 404, 'not-found'],
  ['/tasks//x', 404, 'not-found'],
  ['/tasks/', 404, 'not-found'],
  ['/tasks', 405, 'method-not-allowed'],
  ['/tasks/x/details', 405, 'method-not-allowed'],
  ['/tasks/../tasks/x', 404, 'not-found'],
  ['/tasks/x/y', 404, 'not-found'],
  ['/', 404, 'not-found'],
  ['/tasks/%zz', 400, 'task-no-invalid'],
  ['/tasks/%', 400, 'task-no-invalid'],
  ['/tasks/%C3%28', 400, 'task-no-invalid'],
  ['/tasks/%2F', 400, 'task-no-invalid'],
  ['/tasks/a%2Fb', 400, 'task-no-invalid'],
  ['/tasks/a%20b', 400, 'task-no-invalid'],
  ['/tasks/a%0Ab', 400, 'task-no-invalid'],
  ['/tasks/x%0A', 400, 'task-no-invalid'],
  ['/tasks/a%00', 400, 'task-no-invalid'],
  ['/tasks/%C3%A4', 400, 'task-no-invalid'],
  ['/tasks/..', 400, 'task-no-invalid'],
  ['/tasks/a.b', 400, 'task-no-invalid'],
  ['/tasks/a;b', 400, 'task-no-invalid'],
  [`/tasks/${LONGEST}a`, 400, 'task-no-invalid'],
  [`/tasks/${LONGEST}`, 404, 'task-not-found'],
  ['/tasks/a_B-9', 404, 'task-not-found'],
  ['/tasks/%61', 404, 'task-not-found'],
  ['/tasks/x?', 404, 'task-not-found'],
]

test('paths are taken to the letter', async (t) => {
  const { url, upstream } = await startGateway(t)
  for (const [path, status, code] of PATHS) {
    await t.test(`DELETE ${path.slice(0, 30)} is ${code}`, async () => {
      const before = upstream.calls.length
      assert.deepEqual(statusAndCode(await sendLine(url, `DELETE ${path}`, OPERATOR)), [status, code])
      assert.equal(upstream.calls.length > before, code === 'task-not-found')
    })
  }
})

test('a method that is not known goes before an escape that can not be read', async (t) => {
  const { url } = await startGateway(t)
  for (const line of ['PUT /tasks/%', 'PATCH /tasks/%zz', 'POST /tasks/%c0%af/details', 'DELETE /tasks/%/details']) {
    assert.deepEqual(statusAndCode(await sendLine(url, line, OPERATOR)), [405, 'method-not-allowed'], line)
  }
})

test('a task number that is not valid says which rule it breaks, in both languages', async (t) => {
  const { api } = await startGateway(t)
  const [en, zh] = [await api.delete('/tasks/a.b'), await api.delete('/tasks/a.b?lang=zh')]
  assert.equal(en.body.detail, 'taskNo must be 1 to 64 letters, digits, hyphens or underscores')
  assert.match(zh.body.detail, /^taskNo 必须/)
})

const OTHER_PATHS = [
  '/tasks/',
  '/TASKS',
  '/tasks/x/',
  '/tasks/x/details/',
  '/tasks/x/Details',
  '/me/',
  '/ME',
  '/livez/',
  '/Livez',
  '/cancellations/',
  '/Cancellations',
  '/metrics',
  '/problems/',
  '/problems/not-found/',
  '/Problems/not-found',
  '/problems/Not-Found',
] as const

test('what is nearly a path is none', async (t) => {
  const { url } = await startGateway(t)
  for (const path of OTHER_PATHS) {
    await t.test(`${path} is not there`, async () => {
      assert.deepEqual(statusAndCode(await sendLine(url, `GET ${path}`, OPERATOR)), [404, 'not-found'])
    })
  }
})

/** The response of each path to a method that it does not support. */
const METHODS: readonly (readonly [string, string, string])[] = [
  ['POST', '/tasks/x', 'DELETE, GET, HEAD'],
  ['OPTIONS', '/tasks/x', 'DELETE, GET, HEAD'],
  ['PROPFIND', '/tasks/x', 'DELETE, GET, HEAD'],
  ['DELETE', '/tasks', 'GET, HEAD'],
  ['DELETE', '/tasks/x/details', 'GET, HEAD'],
  ['DELETE', '/cancellations', 'GET, HEAD'],
  ['POST', '/cancellations/x', 'GET, HEAD'],
  ['OPTIONS', '/me', 'GET, HEAD'],
  ['PUT', '/livez', 'GET, HEAD'],
  ['DELETE', '/readyz', 'GET, HEAD'],
  ['POST', '/problems/not-found', 'GET, HEAD'],
  ['DELETE', '/problems/nothing', 'GET, HEAD'],
]

test('methods are taken to the letter', async (t) => {
  const { url } = await startGateway(t)
  for (const [method, path, allow] of METHODS) {
    await t.test(`${method} ${path} is told what is allowed: ${allow}`, async () => {
      const { status, headers } = await sendLine(url, `${method} ${path}`)
      assert.deepEqual([status, headers.allow], [405, allow])
    })
  }
})

for (const path of ['/me', '/cancellations', '/livez', '/readyz', '/problems/not-found']) {
  test(`HEAD ${path} is GET without the body`, async (t) => {
    const { url } = await startGateway(t)
    const credential = path === '/cancellations' ? `X-API-Key: ${CANARIES.auditorKey}` : OPERATOR
    const [head, get] = [
      await sendLine(url, `HEAD ${path}`, credential),
      await sendLine(url, `GET ${path}`, credential),
    ]
    assert.deepEqual([head.status, head.body, head.headers['content-length']], [200, '', get.headers['content-length']])
  })
}

type Headers = Readonly<Record<string, string>>

/** A request with two faults, and the one that must be told. */
const ORDER: readonly (readonly [string, string, string, Headers, StartOptions['env'], string])[] = [
  ['the route comes before the method', 'put', '/nowhere', {}, {}, 'not-found'],
  ['the method comes before the task number', 'put', '/tasks/a.b', {}, {}, 'method-not-allowed'],
  ['the method comes before credentials', 'put', '/tasks/x', {}, {}, 'method-not-allowed'],
  ['the task number comes before credentials', 'delete', '/tasks/a.b', {}, {}, 'task-no-invalid'],
  ['the task number of a read comes before credentials', 'get', '/tasks/a.b', {}, {}, 'task-no-invalid'],
  ['the task number of details comes before credentials', 'get', '/tasks/a.b/details', {}, {}, 'task-no-invalid'],
  ['credentials come before the scope of a read', 'get', '/tasks', {}, {}, 'unauthenticated'],
  ['the scope of a list comes before its query', 'get', '/tasks?page=0', asAuditor, {}, 'forbidden'],
  ['the query of a task comes before upstream', 'get', '/tasks/x?page=1', asOperator, {}, 'query-invalid'],
  ['the query of details comes before upstream', 'get', '/tasks/x/details?page=0', asOperator, {}, 'query-invalid'],
  ['credentials come before the query', 'delete', '/tasks/x?lang=fr', {}, {}, 'unauthenticated'],
  ['the scope comes before the query', 'delete', '/tasks/x?lang=fr', asReader, {}, 'forbidden'],
  ['the scope comes before the query of a read', 'get', '/cancellations?x=1', asOperator, {}, 'forbidden'],
  ['the query comes before upstream', 'delete', '/tasks/x?lang=fr', asOperator, {}, 'query-invalid'],
  ['the host comes before the route', 'get', '/nowhere', { host: 'evil' }, { ALLOW_ANONYMOUS: 'true' }, 'misdirected'],
]

const ask = async (t: TestContext, method: string, path: string, headers: Headers, env: StartOptions['env'] = {}) => {
  const { url, upstream } = await startGateway(t, { env })
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`)
  const hosted = lines.some((line) => line.startsWith('host')) ? lines : ['Host: 127.0.0.1', ...lines]
  const start = `${method.toUpperCase()} ${path} HTTP/1.1`
  const answer = await sendRaw(url, [start, ...hosted, 'Connection: close', '', ''].join('\r\n'))
  return { answer, upstream }
}

for (const [name, method, path, headers, env, code] of ORDER) {
  test(name, async (t) => {
    const { answer, upstream } = await ask(t, method, path, headers, env)
    assert.equal(statusAndCode(answer)[1], code)
    assert.equal(upstream.calls.length, 0)
  })
}

test('the limit of unknown addresses comes after the task number and before credentials', async (t) => {
  const { api } = await startGateway(t, { env: { RATE_LIMIT_UNKNOWN_MAX: '1' } })
  const codes = []
  for (const path of ['/tasks/a.b', '/tasks/x', '/tasks/x', '/tasks/a.b']) {
    codes.push((await api.delete(path)).body.code)
  }
  assert.deepEqual(codes, ['task-no-invalid', 'unauthenticated', 'too-many-requests', 'task-no-invalid'])
})

test('the limit of a caller comes before the scope, and what it refuses is not on record', async (t) => {
  const { api, record } = await startGateway(t, { env: { RATE_LIMIT_MAX: '1' } })
  const answers = [await api.delete('/tasks/x').set(asReader), await api.delete('/tasks/y').set(asReader)]
  assert.deepEqual(
    answers.map(({ body }) => body.code),
    ['forbidden', 'too-many-requests'],
  )
  assert.deepEqual([(await record('x')).outcome, await record('y')], ['refused', undefined])
})

test('a query that is refused is not on record', async (t) => {
  const { api, record } = await startGateway(t)
  await api.delete('/tasks/x?lang=fr').set(asOperator)
  assert.equal(await record('x'), undefined)
})

test('every answer carries the headers that keep browsers from doing anything with it', async (t) => {
  const { api } = await startGateway(t)
  for (const path of ['/livez', '/nowhere', '/me']) {
    const { headers } = await api.get(path)
    assert.match(headers['content-security-policy'] ?? '', /default-src 'none'.*frame-ancestors 'none'/)
    assert.deepEqual([headers['x-content-type-options'], headers['x-frame-options']], ['nosniff', 'DENY'])
    assert.deepEqual([headers['x-powered-by'], headers.etag, headers.server], [undefined, undefined, undefined])
  }
})
