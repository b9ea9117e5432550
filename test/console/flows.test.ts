import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Page } from 'playwright-core'
import { sha256 } from '../../src/callers/api-keys.ts'
import { openBrowser } from '../helpers/browser.ts'
import { cancelCalls, startGateway } from '../helpers/gateway.ts'
import { requires } from '../helpers/requirements.ts'

// The whole way through the console: by keyboard alone and by pointer, at both widths, in both languages.

const KEY = 'key-of-the-flows'
const SCOPES = ['tasks:cancel', 'tasks:read', 'audit:read']
const WORDS = {
  'en-GB': { one: 'The task is cancelled', several: 'Results' },
  'zh-CN': { one: '任务已取消', several: '结果' },
} as const
const SIZES = { desktop: { width: 1280, height: 720 }, phone: { width: 390, height: 844 } } as const

/** How a user activates an element. */
type Use = (selector: string, key?: 'Enter' | 'Space') => Promise<void>

const byPointer =
  (page: Page): Use =>
  (selector) =>
    page.locator(selector).first().click()

/** Moves the focus from its place to the element, and presses a key. */
const byKeyboard =
  (page: Page): Use =>
  async (selector, key = 'Enter') => {
    await page.locator(selector).first().waitFor()
    const isFocused = () =>
      page.evaluate<boolean>(`document.activeElement === document.querySelector(${JSON.stringify(selector)})`)
    for (let steps = 0; !(await isFocused()); steps += 1) {
      assert.ok(steps < 100, `${selector} is out of reach`)
      await page.keyboard.press('Tab')
    }
    await page.keyboard.press(key)
  }

const CASES = Object.entries({ keyboard: byKeyboard, pointer: byPointer }).flatMap(([tool, use]) =>
  Object.entries(SIZES).flatMap(([size, viewport]) =>
    Object.entries(WORDS).map(([locale, words]) => ({ tool, use, size, viewport, locale, words })),
  ),
)

test('every flow works', async (t) => {
  if (!requires(t, 'chromium')) return
  const API_KEYS = JSON.stringify([{ name: 'operations', sha256: sha256(KEY).toString('hex'), scopes: SCOPES }])
  const started = await startGateway(t, {
    env: { CONSOLE_ENABLED: 'true', API_KEYS },
    sandbox: { cancellingMs: 0 },
  })
  const { upstream } = started
  for (const { tool, use: useOf, size, viewport, locale, words } of CASES) {
    await t.test(`by ${tool}, ${size}, ${locale}`, async (t) => {
      const sentBefore = cancelCalls(upstream).length
      for (const name of ['c', 'b', 'a']) upstream.addTask({ domains: [`${name}.com`, 'other.com'] })
      const { page, origin, complaints } = await openBrowser(t, started, { viewport, locale })
      const use = useOf(page)
      await page.goto(`${origin}/console`)

      await use('#key')
      await page.keyboard.type(KEY)
      await page.keyboard.press('Enter')
      await page.locator('tbody a', { hasText: 'a.com' }).first().waitFor()
      if (size === 'phone') await use('#filters summary')
      await use('#search')
      await page.keyboard.type('a.com')
      await page.locator('tbody tr:visible a', { hasText: /^b\.com/ }).waitFor({ state: 'detached' })
      await use('tbody tr:not([hidden]) a')

      await use('#cancel')
      await use('dialog .danger')
      await page.locator('dialog').getByRole('heading', { name: words.one }).waitFor()
      await page.keyboard.press('Escape')
      await use('a[href="#/tasks"]:not(nav a)')

      await page.locator('tbody a', { hasText: 'c.com' }).first().waitFor()
      await use('#select-all', 'Space')
      await use('#cancel-selected')
      await use('dialog .danger')
      await page.locator('dialog').getByRole('heading', { name: words.several }).waitFor()
      await page.keyboard.press('Escape')

      await use('#nav-history')
      await use('tbody .details')
      await page.locator('dialog.drawer dl').first().waitFor()
      await page.keyboard.press('Escape')
      await page.locator('dialog').waitFor({ state: 'detached' })
      assert.equal(cancelCalls(upstream).length - sentBefore, 3)
      assert.deepEqual(
        complaints.filter((text) => !/ 401 /.test(text)),
        [],
      )
    })
  }
})
