import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { BrowserContextOptions, Page } from 'playwright-core'
import { sha256 } from '../src/callers/api-keys.ts'
import { openBrowser } from './helpers/browser.ts'
import { type StartOptions, startGateway } from './helpers/gateway.ts'
import { ROOT } from './helpers/process.ts'

// Pictures of the console for the documents: npm run screenshots. They need a Chinese font (Debian: fonts-wqy-zenhei).

const KEY = 'key-of-the-pictures'
const DAY_MS = 86_400_000
/** Of the sandbox: some tasks have been finished for long, others last. */
const LIFECYCLE = { waitingMs: 0, executingMs: DAY_MS, cancellingMs: 3_600_000 }

const DESKTOP = { viewport: { width: 1280, height: 720 } }
const PHONE = { viewport: { width: 390, height: 844 } }

const options: StartOptions = {
  env: {
    CONSOLE_ENABLED: 'true',
    API_KEYS: JSON.stringify([
      {
        name: 'operations',
        sha256: sha256(KEY).toString('hex'),
        scopes: ['tasks:cancel', 'tasks:read', 'audit:read'],
      },
    ]),
  },
  sandbox: LIFECYCLE,
}

const TYPES = ['CHG_DNS', 'ORDER_RENEW', 'CREATE_DNSHOST'] as const

const open = async (t: TestContext, look: BrowserContextOptions) => {
  const started = await startGateway(t, options)
  const taskNos = Array.from({ length: 9 }, (_, index) =>
    started.upstream.addTask({
      taskType: TYPES[index % TYPES.length],
      domains: Array.from({ length: 1 + ((index * 2) % 5) }, (_, nth) => `example-${index + 1}${nth}.com`),
      createdAt: Date.now() - (9 - index) * 5 * 3_600_000,
    }),
  )
  const [newest = '', second = ''] = taskNos.toReversed()
  await started.api.delete(`/tasks/${second}`).set('x-api-key', KEY)
  const { page, origin } = await openBrowser(t, started, look)
  await page.goto(`${origin}/console`)
  await page.locator('#key').fill(KEY)
  await page.locator('#key').press('Enter')
  await page.locator('tbody a', { hasText: 'example' }).first().waitFor()
  return { page, upstream: started.upstream, newest }
}

const shoot = (page: Page, name: string) =>
  page.screenshot({ path: join(ROOT, 'docs', `console-${name}.png`), animations: 'disabled' })

const confirm = (page: Page) => page.locator('dialog .danger')

const openTask = async (page: Page, taskNo: string): Promise<void> => {
  await page.goto(`${page.url().split('#')[0]}#/tasks/${taskNo}`)
  await page.locator('#cancel').waitFor()
}

test('the list, light, on a desktop', async (t) => {
  const { page } = await open(t, DESKTOP)
  await shoot(page, 'list')
})

test('the list, in Chinese, dark, on a phone', async (t) => {
  const { page } = await open(t, { ...PHONE, locale: 'zh-CN', colorScheme: 'dark' })
  await shoot(page, 'list-zh')
})

test('the question before a cancellation, dark, on a desktop', async (t) => {
  const { page, newest } = await open(t, { ...DESKTOP, colorScheme: 'dark' })
  await openTask(page, newest)
  await page.locator('#cancel').click()
  await confirm(page).waitFor()
  await shoot(page, 'confirm')
})

test('the question before several cancellations, and their results', async (t) => {
  const { page, upstream } = await open(t, DESKTOP)
  for (const box of await page.locator('tbody [type=checkbox]:enabled').all()) await box.check()
  await page.locator('#cancel-selected').click()
  await confirm(page).waitFor()
  await shoot(page, 'several')
  upstream.fault('CancelTask', { reply: { status: 400, code: 'TaskIsDone' } })
  await confirm(page).click()
  await page.locator('dialog .actions button', { hasText: 'Close' }).waitFor()
  await shoot(page, 'results')
})

test('a task, and a cancellation under way, on a phone', async (t) => {
  const { page, newest } = await open(t, PHONE)
  await openTask(page, newest)
  await shoot(page, 'task')
  await page.locator('#cancel').click()
  await confirm(page).click()
  await page.locator('dialog [role=timer]', { hasText: '4' }).waitFor()
  await shoot(page, 'wait')
})

test('a refusal, on a desktop', async (t) => {
  const { page, upstream, newest } = await open(t, DESKTOP)
  upstream.fault('CancelTask', { reply: { status: 400, code: 'TaskIsDone' } })
  await openTask(page, newest)
  await page.locator('#cancel').click()
  await confirm(page).click()
  await page.locator('.problem').waitFor()
  await shoot(page, 'problem')
})

test('an unknown outcome, in Chinese, on a phone', async (t) => {
  const { page, upstream, newest } = await open(t, { ...PHONE, locale: 'zh-CN' })
  upstream.fault('CancelTask', { reply: 'reset' })
  await openTask(page, newest)
  await page.locator('#cancel').click()
  await confirm(page).click()
  await page.locator('dialog .more-facts').waitFor()
  await shoot(page, 'unknown-zh')
})

test('the history and a record, in Chinese', async (t) => {
  const { page } = await open(t, { ...DESKTOP, locale: 'zh-CN' })
  await page.locator('#nav-history').click()
  await page.locator('tbody a', { hasText: 'example' }).first().waitFor()
  await page.locator('tbody .details').first().click()
  await page.locator('dialog').waitFor()
  await shoot(page, 'history-zh')
})
