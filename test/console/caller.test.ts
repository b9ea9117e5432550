import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Page } from 'playwright-core'
import { openConsole, signIn, waitForResults } from '../helpers/console.ts'
import { asOperator, CANARIES, type StartOptions } from '../helpers/gateway.ts'
import { requires } from '../helpers/requirements.ts'

const ANONYMOUS: StartOptions = { env: { ALLOW_ANONYMOUS: 'true', API_KEYS: '' } }

const signInHeading = (page: Page) => page.getByRole('heading', { name: 'Sign in', exact: true })

/** All that a page can leave behind. */
const traces = async (page: Page): Promise<string> => {
  const inPage: string = await page.evaluate(`
    JSON.stringify([
      document.documentElement.outerHTML, location.href, document.cookie, document.title, history.state,
      { ...localStorage }, { ...sessionStorage },
      [...document.querySelectorAll('input')].map((input) => input.value),
    ])
  `)
  return inPage + JSON.stringify(await page.context().storageState())
}

test('a key is kept in memory alone, and forgotten on signing out', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page, sent } = await openConsole(t, { key: CANARIES.operatorKey })
  await waitForResults(page)
  assert.equal(await page.locator('#who').textContent(), 'operator (key)')
  assert.ok(!(await traces(page)).includes(CANARIES.operatorKey))
  assert.equal(sent.find(({ line }) => line === 'GET /tasks')?.headers['x-api-key'], CANARIES.operatorKey)
  assert.ok(sent.every(({ line }) => !line.includes(CANARIES.operatorKey)))
  await page.getByRole('button', { name: 'Sign out' }).click()
  await signInHeading(page).waitFor()
  await page.reload()
  await signInHeading(page).waitFor()
  assert.equal(sent.at(-1)?.headers['x-api-key'], undefined)
})

test('a key goes without cookies, and without the sign of a session', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page, origin } = await openConsole(t)
  await page.context().addCookies([{ name: 'session', value: 'x', url: origin }])
  const asked = page.waitForRequest(/\/tasks$/)
  await signIn(page, CANARIES.operatorKey)
  const headers = await (await asked).allHeaders()
  assert.deepEqual([headers.cookie, headers['x-csrf']], [undefined, undefined])
})

test('a key that is none is told so, and forgotten', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page } = await openConsole(t)
  await page.locator('#key').fill('no-such-key')
  await page.locator('#key').press('Enter')
  await page.getByRole('heading', { name: 'This key is not valid' }).waitFor()
  assert.ok(!(await traces(page)).includes('no-such-key'))
})

test('without sign-in through the gateway none is offered', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page } = await openConsole(t)
  await signInHeading(page).waitFor()
  assert.equal(await page.locator('a[href^="auth/"]').count(), 0)
})

test('without authentication the console offers no sign-in', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page } = await openConsole(t, ANONYMOUS)
  await waitForResults(page)
  assert.match((await page.locator('#who').textContent()) ?? '', /no sign-in needed/)
  assert.equal(await page.getByRole('button', { name: 'Sign out' }).count(), 0)
})

test('without a key, requests caused by user activity are marked as such, and polls are not', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page, sent } = await openConsole(t, {
    ...ANONYMOUS,
    prepare: async ({ upstream, api }) => void (await api.delete(`/tasks/${upstream.addTask({ taskNo: 'a' })}`)),
  })
  await page.locator('tbody .badge', { hasText: 'Being cancelled' }).waitFor()
  await page.waitForResponse(/\/tasks\/a$/)
  await page.locator('#taskNo').fill('a')
  await page.locator('#go').click()
  await page.locator('.card dd', { hasText: 'Being cancelled' }).waitFor()
  const signs = (path: string) => sent.filter(({ line }) => line === path).map(({ headers }) => headers['x-csrf'])
  assert.deepEqual(signs('GET /me'), ['1'])
  assert.deepEqual(signs('GET /tasks'), ['1'])
  assert.deepEqual([...new Set(signs('GET /tasks/a'))].sort(), ['1', undefined])
  assert.deepEqual(signs('GET /tasks/a/details?pageSize=50'), ['1'])
})

/** A problem of the gateway's, to the next request. */
const NO_LONGER_KNOWN = {
  code: 'unauthenticated',
  title: 'Gone',
  detail: 'x',
  type: '/problems/unauthenticated',
  retryable: false,
}

test('a user whose session has ended signs in again and returns to the same page', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page } = await openConsole(t, {
    key: CANARIES.operatorKey,
    hash: '#/tasks/a',
    prepare: ({ upstream }) => upstream.addTask({ taskNo: 'a' }),
  })
  await page.locator('#cancel').waitFor()
  await page.route('**/tasks/a', (route) => route.fulfill({ status: 401, json: NO_LONGER_KNOWN }))
  await page.locator('#refresh').click()
  await signInHeading(page).waitFor()
  assert.match((await page.locator('main').textContent()) ?? '', /You are no longer signed in.*Gone/)
  assert.equal(await page.getByText('Gone', { exact: true }).isVisible(), false)
  await page.unroute('**/tasks/a')
  await signIn(page, CANARIES.operatorKey)
  await page.locator('#cancel').waitFor()
})

test('a dialog stays when its caller is no longer known, until it is closed', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page } = await openConsole(t, {
    key: CANARIES.operatorKey,
    hash: '#/tasks/a',
    prepare: ({ upstream }) => upstream.addTask({ taskNo: 'a' }),
  })
  await page.locator('#cancel').click()
  await page.locator('dialog .danger').waitFor()
  await page.route('**/tasks/a', (route) =>
    route.fulfill({ status: 401, json: { ...NO_LONGER_KNOWN, outcome: 'not-cancelled' } }),
  )
  await page.locator('dialog .danger').click()
  await page.locator('dialog .problem', { hasText: 'This request cancelled nothing' }).waitFor()
  await page.locator('dialog').getByRole('button', { name: 'Close' }).click()
  await signInHeading(page).waitFor()
  assert.equal(await page.evaluate('document.activeElement.textContent'), 'Sign in')
})

test('the page speaks Chinese to browsers that do, and so does the gateway', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page, sent } = await openConsole(t, {
    key: CANARIES.operatorKey,
    hash: '#/tasks/nowhere',
    browser: { locale: 'zh-CN' },
  })
  await page.locator('.problem', { hasText: '任务不存在' }).waitFor()
  assert.equal(await page.locator('html').getAttribute('lang'), 'zh-CN')
  assert.equal(sent.find(({ line }) => line === 'GET /tasks/nowhere')?.headers['accept-language'], 'zh')
})

test('the language can be chosen, and the choice is kept', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page } = await openConsole(t)
  await page.getByRole('button', { name: '中文' }).click()
  await page.getByRole('heading', { name: '登录' }).waitFor()
  await page.reload()
  await page.getByRole('heading', { name: '登录' }).waitFor()
  await page.getByRole('button', { name: 'English' }).click()
  await signInHeading(page).waitFor()
})

test('a gateway that cannot be reached is told, and asked again when told to', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page } = await openConsole(t, { ...ANONYMOUS })
  await waitForResults(page)
  await page.route('**/me', (route) => route.abort())
  await page.reload()
  await page.getByRole('heading', { name: 'The server cannot be reached' }).waitFor()
  await page.unroute('**/me')
  await page.getByRole('button', { name: 'Try again' }).click()
  await page.getByRole('heading', { name: 'Tasks', exact: true }).waitFor()
})

test('all values from upstream are shown as text', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page, complaints } = await openConsole(t, {
    key: CANARIES.operatorKey,
    prepare: async ({ upstream, api }) => {
      upstream.addTask({ taskNo: 'a', taskType: '<img src=x onerror=alert(1)>', domains: ['<b>bold</b>'] })
      await api.get('/tasks').set(asOperator)
    },
  })
  await page.locator('tbody td', { hasText: '<img src=x' }).waitFor()
  await page.locator('#cancel-a').click()
  await page.locator('dialog li', { hasText: '<b>bold</b>' }).waitFor()
  assert.equal(await page.locator('img, dialog b').count(), 0)
  assert.deepEqual(complaints(), [])
})
