import assert from 'node:assert/strict'
import { test } from 'node:test'
import { asOperator, eventually, type Started, startGateway } from '../helpers/gateway.ts'
import { sendLine } from '../helpers/raw-http.ts'

type Line = Readonly<Record<string, unknown>>

const requestLine = ({ logLines }: Started, id: string | undefined): Promise<Line> =>
  eventually(() =>
    logLines.map((line) => JSON.parse(line)).find(({ msg, requestId }) => msg === 'request' && requestId === id),
  )

test('each request gets an id of ours, whatever it brings along', async (t) => {
  const { api } = await startGateway(t)
  const inbound = '11111111-1111-4111-8111-111111111111'
  const ids = [
    (await api.get('/livez')).get('x-request-id'),
    (await api.get('/livez').set('x-request-id', inbound)).get('x-request-id'),
  ]
  assert.equal(new Set([...ids, inbound]).size, 3)
})

/** Inbound ids, and whether they are logged. */
const INBOUND: readonly (readonly [string, boolean])[] = [
  ['abc-123_x.y', true],
  ['a'.repeat(64), true],
  ['a'.repeat(65), false],
  ['a b', false],
  ['a"b', false],
  ['{"level":"error"}', false],
  ['Ã¤', false],
  ['a, b', false],
]

for (const [inbound, isLogged] of INBOUND) {
  test(`the inbound id ${inbound.slice(0, 20)} is ${isLogged ? 'logged and not' : 'neither logged nor'} answered`, async (t) => {
    const started = await startGateway(t)
    const answer = await started.api.get('/me').set({ ...asOperator, 'x-request-id': inbound })
    const line = await requestLine(started, answer.get('x-request-id'))
    assert.equal(line.correlationId, isLogged ? inbound : undefined)
    assert.equal(JSON.stringify(answer.headers).includes(inbound), false)
  })
}

test('two inbound ids are none', async (t) => {
  const started = await startGateway(t)
  const { headers } = await sendLine(started.url, 'GET /livez', 'X-Request-Id: a', 'X-Request-Id: b')
  assert.equal((await requestLine(started, headers['x-request-id'])).correlationId, undefined)
})

/** Path, `Accept-Language`, and the language of the problem. */
const LANGUAGES: readonly (readonly [string, string | undefined, string])[] = [
  ['/me', undefined, 'en'],
  ['/me', '', 'en'],
  ['/me', 'zh', 'zh'],
  ['/me', 'zh-CN', 'zh'],
  ['/me', 'zh-Hant-TW,zh;q=0.9', 'zh'],
  ['/me', 'en', 'en'],
  ['/me', 'fr', 'en'],
  ['/me', 'fr, zh;q=0.5', 'zh'],
  ['/me', 'zh;q=0.5, en', 'en'],
  ['/me', 'en;q=0.1, zh;q=0.2', 'zh'],
  ['/me', 'zh;q=0', 'en'],
  ['/me', '*', 'en'],
  ['/me?lang=zh', 'en', 'zh'],
  ['/me?lang=en', 'zh', 'en'],
  ['/me?lang=fr', 'zh', 'zh'],
  ['/me?lang=zh&lang=en', 'zh', 'zh'],
  ['/me?lang=zh', undefined, 'zh'],
]

test('the language is the one that was asked for', async (t) => {
  const { url } = await startGateway(t)
  for (const [path, header, lang] of LANGUAGES) {
    await t.test(`${path} with ${header} is answered in ${lang}`, async () => {
      const lines = header === undefined ? [] : [`Accept-Language: ${header}`]
      const { headers } = await sendLine(url, `GET ${path}`, ...lines)
      assert.equal(headers['content-language'], lang)
    })
  }
})

test('upstream is asked in the language of the caller', async (t) => {
  const { api, upstream } = await startGateway(t)
  for (const [query, header] of [
    ['', 'zh'],
    ['?lang=en', 'zh'],
    ['?lang=zh', 'en'],
    ['', 'fr'],
  ] as const) {
    await api.delete(`/tasks/${upstream.addTask()}${query}`).set({ ...asOperator, 'accept-language': header })
  }
  assert.deepEqual(
    upstream.calls.map(({ params }) => params.Lang),
    ['zh', 'en', 'zh', 'en'],
  )
})

test('a request is one line, with the pattern of its route in place of its path', async (t) => {
  const started = await startGateway(t)
  const answer = await started.api.delete('/tasks/secret-task?token=hidden').set(asOperator)
  const { time, durationMs, ...line } = await requestLine(started, answer.get('x-request-id'))
  assert.deepEqual(line, {
    level: 'info',
    caller: 'operator',
    clientIp: '127.0.0.1',
    code: 'task-not-found',
    method: 'DELETE',
    requestId: answer.get('x-request-id'),
    route: '/tasks/:taskNo',
    status: 404,
    via: 'api-key',
    msg: 'request',
  })
  assert.match(String(time), /^\d{4}-\d\d-\d\dT/)
  assert.ok(Number(durationMs) >= 0)
})

test('a path without a route is not logged', async (t) => {
  const started = await startGateway(t)
  const answer = await started.api.get('/secret-path?token=hidden')
  await requestLine(started, answer.get('x-request-id'))
  assert.doesNotMatch(started.logLines.join(''), /secret-path|hidden/)
})
