import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { type TestContext, test } from 'node:test'
import { APP_HOST, openBrowser, UNTRUSTED_HOST } from '../helpers/browser.ts'
import { cancelCalls, startGateway } from '../helpers/gateway.ts'
import { startIssuer } from '../helpers/issuer.ts'
import { listenOn } from '../helpers/ports.ts'
import { requires } from '../helpers/requirements.ts'

interface Init {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly credentials?: 'include'
}

/** A page of that host in a browser, and a gateway that lists the app's origin alone. */
const visit = async (t: TestContext, host: string) => {
  const pages = createServer((_req, res) => res.setHeader('content-type', 'text/html').end('<!doctype html><title>App'))
  const port = await listenOn(t, pages)
  const issuer = await startIssuer(t)
  const env = { ...issuer.env, CORS_ORIGINS: `http://${APP_HOST}:${port}` }
  const started = await startGateway(t, { env })
  const browser = await openBrowser(t, started)
  await browser.page.goto(`http://${host}:${port}/`)

  /** The part of a response that a script of the page can read; the name of the error where it can read nothing. */
  const ask = (path: string, init: Init = {}) =>
    browser.page.evaluate(
      async ([url, options]) => {
        try {
          const answer = await fetch(url, options)
          return { status: answer.status, headers: Object.fromEntries(answer.headers), body: await answer.text() }
        } catch (error) {
          return String(error)
        }
      },
      [`${browser.origin}${path}`, init] as const,
    )
  const read = async (path: string, init?: Init) => {
    const answer = await ask(path, init)
    if (typeof answer === 'string') throw new Error(answer)
    return { ...answer, body: answer.body === '' ? null : JSON.parse(answer.body) }
  }
  return { ...started, ...browser, issuer, ask, read }
}

const UNREADABLE = 'TypeError: Failed to fetch'

test('a page of a listed origin lists tasks, cancels one and waits for it, with a token', async (t) => {
  if (!requires(t, 'chromium')) return
  const { upstream, issuer, read } = await visit(t, APP_HOST)
  const [headers, taskNo] = [await issuer.bearer(), upstream.addTask()]

  const list = await read('/tasks', { headers })
  assert.deepEqual([list.status, list.body.items[0].taskNo], [200, taskNo])
  assert.match(list.headers.ratelimit ?? '', /^"reads"; r=\d+/)

  const cancel = await read(`/tasks/${taskNo}`, { method: 'DELETE', headers: { ...headers, Prefer: 'wait=1' } })
  assert.deepEqual([cancel.status, cancel.body.cancelStatus], [202, 'cancelling'])
  assert.equal(cancel.headers.location, `/tasks/${taskNo}`)
  assert.equal(cancel.headers['preference-applied'], 'wait=1')
  assert.match(cancel.headers['x-request-id'] ?? '', /^[0-9a-f-]{36}$/)
  assert.equal(cancelCalls(upstream).length, 1)

  const seen = await read(`/tasks/${taskNo}`, { headers })
  const again = await read(`/tasks/${taskNo}`, { headers: { ...headers, 'If-None-Match': seen.headers.etag ?? '' } })
  assert.deepEqual([seen.status, again.status, again.body], [200, 304, null])
})

test('a page of a listed origin may send the headers of tracing and of its libraries', async (t) => {
  if (!requires(t, 'chromium')) return
  const { issuer, read } = await visit(t, APP_HOST)
  const headers = {
    ...(await issuer.bearer()),
    traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
    tracestate: 'vendor=1',
    baggage: 'user=1',
    'Content-Type': 'application/json',
    'X-Request-Id': 'page-1',
    'Accept-Language': 'zh',
  }
  for (const init of [{ headers }, { method: 'DELETE', headers }]) {
    assert.equal((await read('/tasks/nobody-s', init)).status, 404)
  }
})

test('a page of a listed origin reads problems, and what is told beside them', async (t) => {
  if (!requires(t, 'chromium')) return
  const { issuer, read } = await visit(t, APP_HOST)
  const problem = await read('/tasks/nobody-s', { method: 'DELETE', headers: await issuer.bearer() })
  assert.deepEqual([problem.status, problem.body.code], [404, 'task-not-found'])
  assert.equal(problem.body.instance, `urn:uuid:${problem.headers['x-request-id']}`)
  const unknown = await read('/me')
  assert.deepEqual(
    [unknown.status, unknown.body.code, unknown.headers['www-authenticate']],
    [401, 'unauthenticated', 'Bearer realm="gateway"'],
  )
})

test('a page of a listed origin can use no key', async (t) => {
  if (!requires(t, 'chromium')) return
  const { upstream, ask } = await visit(t, APP_HOST)
  assert.equal(await ask('/tasks/x', { method: 'DELETE', headers: { 'X-API-Key': 'x' } }), UNREADABLE)
  assert.equal(upstream.calls.length, 0)
})

test('a page of any other origin learns nothing, and cancels nothing', async (t) => {
  if (!requires(t, 'chromium')) return
  const { upstream, issuer, ask, complaints } = await visit(t, UNTRUSTED_HOST)
  const [headers, taskNo] = [await issuer.bearer(), upstream.addTask()]
  for (const [path, init] of [
    ['/livez', {}],
    ['/me', {}],
    ['/nowhere', {}],
    ['/tasks', { headers }],
    [`/tasks/${taskNo}`, { method: 'DELETE' }],
    [`/tasks/${taskNo}`, { method: 'DELETE', headers }],
    [`/tasks/${taskNo}`, { method: 'DELETE', headers: { ...headers, Prefer: 'wait=1' }, credentials: 'include' }],
  ] as const) {
    assert.equal(await ask(path, init), UNREADABLE, path)
  }
  assert.match(complaints.join('\n'), /blocked by CORS policy/)
  assert.equal(upstream.calls.length, 0)
})
