import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { Page } from 'playwright-core'
import { openBrowser } from '../helpers/browser.ts'
import { startGateway } from '../helpers/gateway.ts'
import { startBalancer } from '../helpers/nginx.ts'
import { startProvider } from '../helpers/provider.ts'
import { requires } from '../helpers/requirements.ts'

// A real browser and a certified provider on another site: windows, reloads, the back button, replicas.

const open = async (t: TestContext, env: Readonly<Record<string, string>> = {}) => {
  const provider = await startProvider(t)
  provider.describe('ann', { scope: 'tasks:read' })
  const gateway = await startGateway(t, { env: { ...provider.env, ...env } })
  const { page } = await openBrowser(t, { url: gateway.url })
  const tokenRequests = () => provider.requests.filter((line) => line === 'POST /token').length
  return { provider, url: gateway.url, page, tokenRequests }
}

/** Up to the form of the provider. */
const begin = async (page: Page, url: string): Promise<void> => {
  await page.goto(`${url}/auth/login?returnTo=/me`)
  await page.locator('input[name=login]').waitFor()
}

/** From the form to where the sign-in leads: the name of the caller there. */
const complete = async (page: Page, url: string): Promise<unknown> => {
  await page.locator('input[name=login]').fill('ann')
  await page.locator('input[name=password]').fill('any')
  await page.locator('button[type=submit]').click()
  await page.waitForURL(`${url}/me`)
  return callerOn(page)
}

const callerOn = async (page: Page): Promise<unknown> =>
  JSON.parse((await page.locator('body').textContent()) ?? '').name

for (const order of ['first begun, first completed', 'first begun, last completed']) {
  test(`two windows of a browser sign in, ${order}`, async (t) => {
    if (!requires(t, 'chromium')) return
    const { url, page, tokenRequests } = await open(t)
    const other = await page.context().newPage()
    const windows = [page, other]
    for (const window of windows) await begin(window, url)
    for (const window of order.endsWith('last completed') ? windows.toReversed() : windows) {
      assert.equal(await complete(window, url), 'ann')
    }
    assert.equal(tokenRequests(), 2)
  })
}

test('the back button and a reload of the callback lead on as before, and ask the provider nothing', async (t) => {
  if (!requires(t, 'chromium')) return
  const { url, page, tokenRequests } = await open(t)
  const callbacks: string[] = []
  page.on('request', (request) => {
    if (request.url().startsWith(`${url}/auth/callback`)) callbacks.push(request.url())
  })
  await begin(page, url)
  assert.equal(await complete(page, url), 'ann')
  const [callback = ''] = callbacks
  const before = (await page.context().cookies(url)).find(({ name }) => name === '__Host-session')?.value

  await page.goto(callback, { waitUntil: 'commit' })
  await page.waitForURL(`${url}/me`)
  await page.goto(`${url}/livez`)
  await page.goBack({ waitUntil: 'commit' })
  await page.waitForURL(`${url}/me`)

  assert.ok(callbacks.length >= 2, callbacks.join('\n'))
  assert.equal(await callerOn(page), 'ann')
  assert.equal(tokenRequests(), 1)
  const after = (await page.context().cookies(url)).find(({ name }) => name === '__Host-session')?.value
  assert.equal(after, before)
})

test('behind nginx, of a browser’s requests to replicas whose clocks differ none ends at the sign-in page', async (t) => {
  if (!requires(t, 'chromium') || !requires(t, 'nginx')) return
  const provider = await startProvider(t)
  provider.describe('ann', { scope: 'tasks:read' })
  const replica = (skewMs: number) =>
    startGateway(t, { env: { ...provider.env, PORT: '0' }, overrides: { now: () => Date.now() + skewMs } })
  const replicas = [await replica(-250), await replica(250), await replica(4000)]
  const balancer = await startBalancer(
    t,
    replicas.map(({ url }) => url),
    Number(new URL(provider.gatewayUrl).port),
  )
  const { page } = await openBrowser(t, balancer)
  const url = balancer.url
  await begin(page, url)
  assert.equal(await complete(page, url), 'ann')
  const statuses: number[] = []
  for (let time = 0; time < 10; time += 1) {
    const navigation = await page.goto(`${url}/me`)
    // Activity of the user, which has the replica renew the cookie.
    const activity = await page.context().request.get(`${url}/me`, { headers: { 'X-CSRF': '1' } })
    statuses.push(navigation?.status() ?? 0, activity.status())
  }
  assert.deepEqual(statuses, Array(20).fill(200))
})
