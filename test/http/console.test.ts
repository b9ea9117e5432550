import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { type StartOptions, startGateway } from '../helpers/gateway.ts'
import { ROOT } from '../helpers/process.ts'
import { sendLine, statusAndCode } from '../helpers/raw-http.ts'

const WITH_CONSOLE: StartOptions = {
  env: { CONSOLE_ENABLED: 'true', RATE_LIMIT_READ_MAX: '1', RATE_LIMIT_UNKNOWN_MAX: '1' },
}
const PUBLIC = join(ROOT, 'public')
const FILES = readdirSync(PUBLIC).filter((name) => name !== 'index.html')
const ASSETS = FILES.map((name) => `/console/${name}`)
const PATHS = ['/console', ...ASSETS]

test('the console needs no credential, and no limit counts it', async (t) => {
  const { api } = await startGateway(t, WITH_CONSOLE)
  for (const path of [...PATHS, ...PATHS]) {
    const { status, headers } = await api.get(path)
    assert.deepEqual([status, headers.ratelimit], [200, undefined], path)
  }
})

test('everything that the page loads is served as it stands in the repository', async (t) => {
  const { api } = await startGateway(t, WITH_CONSOLE)
  for (const name of FILES) {
    const { body, text } = await api.get(`/console/${name}`)
    assert.equal(text ?? String(body), readFileSync(join(PUBLIC, name), 'utf8'), name)
  }
})

const POLICY =
  "default-src 'none';base-uri 'none';form-action 'none';frame-ancestors 'none';script-src 'self';style-src 'self';" +
  "img-src 'self';connect-src 'self';require-trusted-types-for 'script';trusted-types 'none'"

test('the page may load from the gateway alone, and make no code of texts', async (t) => {
  const { api } = await startGateway(t, WITH_CONSOLE)
  for (const path of PATHS) assert.equal((await api.get(path)).headers['content-security-policy'], POLICY, path)
})

test('no code and no style stands in the page', async (t) => {
  const { api } = await startGateway(t, WITH_CONSOLE)
  const { text } = await api.get('/console')
  assert.doesNotMatch(text, /<style|\sstyle=|\son\w+=|<script>|<script[^>]*>[^<]/)
  assert.doesNotMatch(text, /\/\//)
})

test('what the page loads is asked for each time, and sent where it has changed', async (t) => {
  const { api } = await startGateway(t, WITH_CONSOLE)
  const { headers } = await api.get('/console/console.js')
  const again = await api.get('/console/console.js').set('if-none-match', String(headers.etag))
  assert.deepEqual([headers['cache-control'], again.status, again.text], ['no-cache', 304, ''])
  assert.equal((await api.get('/console')).headers['cache-control'], 'no-store')
})

test('the root leads to the console, where there is one', async (t) => {
  const { url } = await startGateway(t, WITH_CONSOLE)
  const { redirected, url: target, status } = await fetch(`${url}/`)
  assert.deepEqual([redirected, target, status], [true, `${url}/console`, 200])
  const without = await startGateway(t)
  assert.equal((await without.api.get('/')).status, 404)
})

for (const path of ['/console/index.html', '/console/..%2Fpackage.json', '/console/', '/console/x/y', '/Console']) {
  test(`${path} is not found even where there is a console`, async (t) => {
    const { url } = await startGateway(t, WITH_CONSOLE)
    assert.deepEqual(statusAndCode(await sendLine(url, `GET ${path}`)), [404, 'not-found'])
  })
}

test('the console can only be read', async (t) => {
  const { url } = await startGateway(t, WITH_CONSOLE)
  for (const path of PATHS) {
    const { status, headers } = await sendLine(url, `POST ${path}`)
    assert.deepEqual([status, headers.allow], [405, 'GET, HEAD'], path)
  }
})

test('without CONSOLE_ENABLED there is no console, whatever the method', async (t) => {
  const { url } = await startGateway(t)
  for (const path of PATHS) {
    for (const method of ['GET', 'POST']) {
      assert.deepEqual(statusAndCode(await sendLine(url, `${method} ${path}`)), [404, 'not-found'], path)
    }
  }
})
