import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { parse } from 'yaml'
import { openBrowser } from '../helpers/browser.ts'
import { CANARIES, type StartOptions, startGateway } from '../helpers/gateway.ts'
import { ROOT } from '../helpers/process.ts'
import { sendLine, statusAndCode } from '../helpers/raw-http.ts'
import { requires } from '../helpers/requirements.ts'
import { SIGN_IN_ENV, sessionCookie } from '../helpers/session.ts'

const WITH_DOCS: StartOptions = { env: { DOCS_ENABLED: 'true', RATE_LIMIT_READ_MAX: '1', RATE_LIMIT_UNKNOWN_MAX: '1' } }
const ASSETS = ['/docs/swagger-ui.css', '/docs/swagger-ui-bundle.js', '/docs/start.js'] as const
const PATHS = ['/openapi.json', '/docs', ...ASSETS] as const

const document = parse(readFileSync(join(ROOT, 'openapi.yaml'), 'utf8'))
const operationIds = Object.values<object>(document.paths)
  .flatMap((path) => Object.values(path))
  .flatMap((operation) => operation.operationId ?? [])

test('the page shows every operation, asks nobody but the gateway, and nothing goes wrong', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page, origin, complaints, requested } = await openBrowser(t, await startGateway(t, WITH_DOCS))
  await page.goto(`${origin}/docs`)
  await page.locator('.opblock').first().waitFor()
  const shown = await page.locator('.opblock').evaluateAll((blocks) => blocks.map(({ id }) => id.split('-').at(-1)))
  assert.deepEqual(shown.sort(), operationIds.sort())
  assert.deepEqual(complaints, [])
  assert.deepEqual(requested.map((address) => address.replace(origin, '')).sort(), [...PATHS].sort())
})

test('what the page tries out is answered', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page, origin, complaints } = await openBrowser(t, await startGateway(t, WITH_DOCS))
  await page.goto(`${origin}/docs`)
  await page.getByRole('button', { name: 'Authorize' }).click()
  const keyForm = page.locator('.auth-container').first()
  await keyForm.locator('input').fill(CANARIES.operatorKey)
  await keyForm.getByRole('button', { name: 'Apply credentials' }).click()
  await keyForm.getByRole('button', { name: 'Close' }).click()
  const operation = page.locator('#operations-Caller-getCaller')
  await operation.locator('.opblock-summary-control').click()
  await operation.getByRole('button', { name: 'Try it out' }).click()
  await operation.getByRole('button', { name: 'Execute' }).click()
  assert.match((await operation.locator('.live-responses-table pre').first().textContent()) ?? '', /"operator"/)
  assert.deepEqual(complaints, [])
})

test('what the page tries out with a key goes without the session of the browser, and without a key with it', async (t) => {
  if (!requires(t, 'chromium')) return
  const gateway = await startGateway(t, { env: { ...SIGN_IN_ENV, DOCS_ENABLED: 'true' } })
  const { page, origin } = await openBrowser(t, gateway)
  const { cookie } = await sessionCookie({}, undefined, 'ann')
  const [name = '', value = ''] = cookie.split('=')
  const own = { domain: new URL(origin).hostname, path: '/', secure: true, httpOnly: true, sameSite: 'Strict' } as const
  await page.context().addCookies([{ name, value, ...own }])
  await page.goto(`${origin}/docs`)
  const operation = page.locator('#operations-Caller-getCaller')
  await operation.locator('.opblock-summary-control').click()
  await operation.getByRole('button', { name: 'Try it out' }).click()
  const execute = async () => {
    const answered = page.waitForResponse((response) => response.url().endsWith('/me'))
    await operation.getByRole('button', { name: 'Execute' }).click()
    const answer = await answered
    return [answer.status(), Object(await answer.json()).name]
  }
  assert.deepEqual(await execute(), [200, 'ann'])
  await page.getByRole('button', { name: 'Authorize' }).click()
  const keyForm = page.locator('.auth-container').first()
  await keyForm.locator('input').fill(CANARIES.operatorKey)
  await keyForm.getByRole('button', { name: 'Apply credentials' }).click()
  await keyForm.getByRole('button', { name: 'Close' }).click()
  assert.deepEqual(await execute(), [200, 'operator'])
})

test('the description is served as it stands in the repository', async (t) => {
  const { api } = await startGateway(t, WITH_DOCS)
  const { body, headers } = await api.get('/openapi.json')
  assert.deepEqual(body, document)
  assert.equal(headers['cache-control'], 'no-store')
})

test('the description has the version of the package', () => {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
  assert.equal(document.info.version, version)
})

test('the documents need no credential, and no limit counts them', async (t) => {
  const { api } = await startGateway(t, WITH_DOCS)
  for (const path of [...PATHS, ...PATHS]) {
    const { status, headers } = await api.get(path)
    assert.deepEqual([status, headers.ratelimit], [200, undefined], path)
  }
})

const LOADS_ITSELF =
  "default-src 'none';base-uri 'none';form-action 'none';frame-ancestors 'none';" +
  "script-src 'self';style-src 'self';img-src 'self' data:;connect-src 'self'"
const LOADS_NOTHING = "default-src 'none';base-uri 'none';form-action 'none';frame-ancestors 'none'"

test('the page may load from the gateway alone, and nothing else that is served may load anything', async (t) => {
  const { api } = await startGateway(t, WITH_DOCS)
  for (const path of [...PATHS, '/livez', '/nowhere']) {
    const { headers } = await api.get(path)
    const expected = path.startsWith('/docs') ? LOADS_ITSELF : LOADS_NOTHING
    assert.equal(headers['content-security-policy'], expected, path)
  }
})

test('what the page loads may be kept for a while, the page itself not', async (t) => {
  const { api } = await startGateway(t, WITH_DOCS)
  for (const path of ASSETS) assert.equal((await api.get(path)).headers['cache-control'], 'public, max-age=3600', path)
  assert.equal((await api.get('/docs')).headers['cache-control'], 'no-store')
})

test('no code and no style stands in the page', async (t) => {
  const { api } = await startGateway(t, WITH_DOCS)
  const { text } = await api.get('/docs')
  assert.doesNotMatch(text, /<style|\sstyle=|\son\w+=|<script>|<script[^>]*>[^<]/)
  assert.doesNotMatch(text, /\/\//)
})

for (const path of ['/docs/package.json', '/docs/..%2Fpackage.json', '/docs/', '/docs/x/y', '/openapi.yaml', '/Docs']) {
  test(`${path} is not found even where documents are served`, async (t) => {
    const { url } = await startGateway(t, WITH_DOCS)
    assert.deepEqual(statusAndCode(await sendLine(url, `GET ${path}`)), [404, 'not-found'])
  })
}

test('documents can only be read', async (t) => {
  const { url } = await startGateway(t, WITH_DOCS)
  for (const path of PATHS) {
    const { status, headers } = await sendLine(url, `POST ${path}`)
    assert.deepEqual([status, headers.allow], [405, 'GET, HEAD'], path)
  }
})

test('without DOCS_ENABLED there are no documents, whatever the method', async (t) => {
  const { url } = await startGateway(t)
  for (const path of PATHS) {
    for (const method of ['GET', 'POST']) {
      assert.deepEqual(statusAndCode(await sendLine(url, `${method} ${path}`)), [404, 'not-found'], path)
    }
  }
})
