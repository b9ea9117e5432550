import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { type TestContext, test } from 'node:test'
import type { Page } from 'playwright-core'
import { openBrowser } from '../helpers/browser.ts'
import { asAuditor, cancelCalls, type StartOptions, startGateway } from '../helpers/gateway.ts'
import { listenOn } from '../helpers/ports.ts'
import { startProvider } from '../helpers/provider.ts'
import { requires } from '../helpers/requirements.ts'

// A person, a real browser and a real identity provider on another site.

const TASK_NO = 'the-task'

const open = async (t: TestContext, options: StartOptions = {}) => {
  const provider = await startProvider(t)
  provider.describe('ann', { scope: 'tasks:cancel tasks:read audit:read' })
  const env = { ...provider.env, CONSOLE_ENABLED: 'true', ...options.env }
  const gateway = await startGateway(t, { ...options, env })
  gateway.upstream.addTask({ taskNo: TASK_NO, domains: ['one.com', 'two.com'] })
  // The cookie’s rules hold on loopback addresses as anywhere, and no certificate is needed there.
  const visit = await openBrowser(t, { url: gateway.url })
  const ofPolicies = () => visit.complaints.filter((text) => /Content.Security.Policy|Refused to/i.test(text))
  return { ...gateway, provider, page: visit.page, ofPolicies }
}

const signIn = async (page: Page, gatewayUrl: string, hash = ''): Promise<void> => {
  await page.goto(`${gatewayUrl}/console${hash}`)
  await page.getByRole('link', { name: /Sign in/ }).click()
  await page.locator('input[name=login]').fill('ann')
  await page.locator('input[name=password]').fill('any')
  await page.locator('button[type=submit]').click()
  await page.locator('#who').waitFor()
}

test('a user signs in, reads, cancels, watches, and signs out', async (t) => {
  if (!requires(t, 'chromium')) return
  const { url, page, provider, record, ofPolicies } = await open(t, { sandbox: { cancellingMs: 300 } })
  await signIn(page, url)
  assert.equal(page.url(), `${url}/console`)
  assert.match((await page.locator('#who').textContent()) ?? '', /^ann/)

  await page.locator('tbody a', { hasText: 'one.com' }).click()
  await page.locator('#cancel').click()
  await page.locator('dialog .danger').click()
  await page.locator('dialog').getByRole('heading', { name: 'The task is cancelled' }).waitFor()
  const { via, caller, outcome } = await record(TASK_NO)
  assert.deepEqual([via, caller, outcome], ['session', 'ann', 'cancelled'])
  await page.locator('dialog').getByRole('button', { name: 'Close' }).click()

  await page.getByRole('button', { name: 'Sign out' }).click()
  await page.getByRole('button', { name: 'Yes, sign me out' }).click()
  await page.getByRole('heading', { name: 'Sign in', exact: true }).waitFor()
  assert.ok(provider.requests.includes('GET /session/end'))
  assert.deepEqual(ofPolicies(), [])
})

test('the name of a person is shown after the subject, as text, in the header and in the history', async (t) => {
  if (!requires(t, 'chromium')) return
  const { url, page, provider, ofPolicies } = await open(t, { env: { OIDC_SCOPES: 'openid profile' } })
  provider.describe('ann', { scope: 'tasks:cancel audit:read', name: 'Ann <b>Lee</b>' })
  await signIn(page, url)
  const shown = 'ann (signed in) “Ann <b>Lee</b>”'
  assert.equal(await page.locator('#who').textContent(), shown)
  await page.evaluate(`fetch('/tasks/${TASK_NO}', { method: 'DELETE', headers: { 'x-csrf': '1' } })`)
  await page.goto(`${url}/console#/history`)
  await page.locator('tbody tr').waitFor()
  assert.equal(await page.locator('tbody td').nth(3).textContent(), shown)
  assert.deepEqual(ofPolicies(), [])
})

test('signing in leads back to the previous page', async (t) => {
  if (!requires(t, 'chromium')) return
  const { url, page } = await open(t)
  await signIn(page, url, `#/tasks/${TASK_NO}`)
  await page.locator('#cancel').waitFor()
})

test('scripts see nothing of a session, and a new window of the browser has it', async (t) => {
  if (!requires(t, 'chromium')) return
  const { url, page } = await open(t)
  await signIn(page, url)
  const all = await page.context().cookies(url)
  // A completed sign-in leaves a marker for a short time.
  const cookies = all.filter(({ name }) => !name.startsWith('__Host-sign-in-'))
  assert.ok(all.every(({ httpOnly, secure, path }) => httpOnly && secure && path === '/'))
  const [session, ...others] = cookies.map(({ name, httpOnly, secure, sameSite, path }) => ({
    ...{ name, httpOnly, secure, sameSite, path },
  }))
  const expected = { name: '__Host-session', httpOnly: true, secure: true, sameSite: 'Strict', path: '/' }
  assert.deepEqual([session, others], [expected, []])
  assert.equal(await page.evaluate('document.cookie'), '')
  const other = await page.context().newPage()
  await other.goto(`${url}/console`)
  await other.locator('#who').waitFor()
})

test('a session that has ended is told, and a new one begins where the last one was', async (t) => {
  if (!requires(t, 'chromium')) return
  let shiftMs = 0
  const { url, page } = await open(t, { overrides: { now: () => Date.now() + shiftMs } })
  await signIn(page, url, `#/tasks/${TASK_NO}`)
  await page.locator('#refresh').waitFor()
  // And the tolerance for clocks of replicas.
  shiftMs += 900_000 + 5000
  await page.locator('#refresh').click()
  await page.getByText('You are no longer signed in').waitFor()
  await page.getByRole('link', { name: /Sign in/ }).click()
  await page.locator('#cancel').waitFor()
})

/** A page of another origin, in the browser of a user with a session. */
const visitWith = async (t: TestContext, host: string, isListed: boolean) => {
  const pages = createServer((_req, res) => res.setHeader('content-type', 'text/html').end('<!doctype html><title>App'))
  const port = await listenOn(t, pages)
  const origin = `http://${host}:${port}`
  const opened = await open(t, isListed ? { env: { CORS_ORIGINS: origin } } : {})
  const { page, url } = opened
  await signIn(page, url)
  await page.goto(origin)
  const ask = (method: string, path: string, headers = {}) =>
    page.evaluate(
      async ([target, init]) => {
        const answer = await fetch(target, init).catch(() => null)
        return answer === null ? 'nothing' : `${answer.status} ${Object(await answer.json()).code ?? ''}`.trim()
      },
      [`${url}${path}`, { method, headers, credentials: 'include' }] as const,
    )
  return { ...opened, ask }
}

const FLAG = { 'X-CSRF': '1' }

test('a sibling on the same site, if it is not listed, gets nothing out of a session', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page, url, upstream, ask, api } = await visitWith(t, '127.0.0.1', false)
  const answers = [await ask('GET', '/tasks'), await ask('DELETE', `/tasks/${TASK_NO}`, FLAG)]
  assert.deepEqual(answers, ['nothing', 'nothing'])
  await page.setContent(
    `<form method="post" action="${url}/tasks/${TASK_NO}?_method=DELETE"><button>Win</button></form>`,
  )
  const navigated = page.waitForResponse(/the-task/)
  await page.getByRole('button').click()
  assert.equal((await navigated).status(), 405)
  assert.equal(cancelCalls(upstream).length, 0)
  const { body } = await api.get('/cancellations').set(asAuditor)
  assert.deepEqual(body.items, [])
})

test('a sibling that is listed uses a session as the gateway’s own pages do', async (t) => {
  if (!requires(t, 'chromium')) return
  const { upstream, ask } = await visitWith(t, '127.0.0.1', true)
  assert.equal(await ask('GET', '/tasks'), '200')
  assert.equal(await ask('DELETE', `/tasks/${TASK_NO}`), '403 csrf-rejected')
  assert.equal(await ask('DELETE', `/tasks/${TASK_NO}`, FLAG), '202')
  assert.equal(cancelCalls(upstream).length, 1)
})

test('a page of another site has no session, even where it is listed', async (t) => {
  if (!requires(t, 'chromium')) return
  const { upstream, ask } = await visitWith(t, 'localhost', true)
  assert.equal(await ask('GET', '/tasks'), '401 unauthenticated')
  assert.equal(await ask('DELETE', `/tasks/${TASK_NO}`, FLAG), '401 unauthenticated')
  assert.equal(cancelCalls(upstream).length, 0)
})
