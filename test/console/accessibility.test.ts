import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { BrowserContextOptions } from 'playwright-core'
import { sha256 } from '../../src/callers/api-keys.ts'
import { AXE, seriousFaults } from '../helpers/axe.ts'
import { openConsole } from '../helpers/console.ts'
import { asOperator, CANARIES } from '../helpers/gateway.ts'
import { requires } from '../helpers/requirements.ts'

const UNPRIVILEGED_KEY = 'key-of-a-new-person'
const EVERYTHING = JSON.stringify([
  { name: 'new-person', sha256: sha256(UNPRIVILEGED_KEY).toString('hex'), scopes: [] },
  {
    name: 'operator',
    sha256: sha256(CANARIES.operatorKey).toString('hex'),
    scopes: ['tasks:cancel', 'tasks:read', 'audit:read'],
  },
])

const LOOKS: Readonly<Record<string, BrowserContextOptions>> = {
  light: {},
  dark: { colorScheme: 'dark' },
  'on a phone': { viewport: { width: 390, height: 844 }, colorScheme: 'dark' },
}

for (const [name, look] of Object.entries(LOOKS)) {
  test(`every state is accessible, ${name}`, async (t) => {
    if (!requires(t, 'chromium')) return
    const { page, upstream } = await openConsole(t, {
      // The checker is a script that the page's policy keeps out.
      browser: { ...look, bypassCSP: true, reducedMotion: 'reduce' },
      prepare: async (started) => {
        for (const taskNo of ['a', 'b', 'c']) started.upstream.addTask({ taskNo, domains: ['one.com'] })
        await started.api.delete('/tasks/b').set(asOperator)
      },
      env: { API_KEYS: EVERYTHING },
    })
    await page.addScriptTag({ path: AXE })
    const found: string[] = []
    const check = async (where: string): Promise<void> => void found.push(...(await seriousFaults(page, where)))

    await page.locator('#key').waitFor()
    await check('sign-in')
    await page.locator('#key').fill('no-such-key')
    await page.locator('#key').press('Enter')
    await page.locator('.problem').waitFor()
    await check('invalid key')
    await page.locator('#key').fill(UNPRIVILEGED_KEY)
    await page.locator('#key').press('Enter')
    await page.locator('.no-permissions').waitFor()
    await check('no permissions')
    await page.getByRole('button', { name: 'Sign out' }).click()
    await page.locator('#key').fill(CANARIES.operatorKey)
    await page.locator('#key').press('Enter')
    await page.locator('table').waitFor()
    await page.locator('tbody a', { hasText: 'one.com' }).first().waitFor()
    await check('list')
    await page.locator('#select-all').check()
    await page.locator('#cancel-selected').click()
    await page.locator('dialog .danger').waitFor()
    await check('question about several')
    await page.keyboard.press('Escape')
    await page.locator('#nav-history').click()
    await page.locator('tbody .details').click()
    await check('drawer')
    await page.keyboard.press('Escape')
    await check('history')
    await page.goto(`${page.url().split('#')[0]}#/tasks/a`)
    await page.locator('#cancel').waitFor()
    await check('task')
    await page.locator('#cancel').click()
    await page.locator('dialog .danger').waitFor()
    await check('question')
    upstream.fault('CancelTask', { reply: { status: 400, code: 'TaskIsDone' } })
    await page.locator('dialog .danger').click()
    await page.locator('dialog .problem').waitFor()
    await check('problem')
    await page.locator('dialog').getByRole('button').click()
    await page.locator('dialog').waitFor({ state: 'detached' })
    await page.locator('#cancel').click()
    await page.locator('dialog .danger').click()
    await page.locator('dialog [role=timer]').waitFor()
    await check('wait')
    await page.locator('dialog').getByRole('button').click()
    await page.getByRole('heading', { name: 'You stopped waiting' }).waitFor()
    await check('stopped')
    await page.locator('dialog').getByRole('button').click()
    await page.goto(`${page.url().split('#')[0]}#/tasks/nowhere`)
    await page.locator('.problem').waitFor()
    await check('not found')
    assert.deepEqual(found, [])
  })
}

test('nothing is wider than 320 px, and the first task is on the first screen of a phone', async (t) => {
  if (!requires(t, 'chromium')) return
  const domain = `${'y'.repeat(63)}.com`
  const { page, api } = await openConsole(t, {
    browser: { viewport: { width: 390, height: 844 } },
    key: CANARIES.operatorKey,
    env: { API_KEYS: EVERYTHING },
    prepare: ({ upstream }) => upstream.addTask({ taskNo: 'x'.repeat(64), domains: [domain, 'b.com'] }),
  })
  const overhang = () => page.evaluate<number>('document.documentElement.scrollWidth - innerWidth')
  await page.locator('tbody a', { hasText: domain }).waitFor()
  const { y = 1000, height = 1000 } = (await page.locator('tbody tr').boundingBox()) ?? {}
  assert.ok(y + height < 844, String(y + height))
  await page.setViewportSize({ width: 320, height: 640 })
  await page.locator('#filters summary').click()
  assert.equal(await overhang(), 0)
  await page.locator('#select-all').check()
  await page.locator('#cancel-selected').click()
  await page.locator('dialog .danger').waitFor()
  assert.equal(await overhang(), 0)
  await page.keyboard.press('Escape')
  await page.locator('tbody a').click()
  await page.locator('#cancel').click()
  await page.locator('dialog .danger').waitFor()
  assert.equal(await overhang(), 0)
  await page.keyboard.press('Escape')
  await api.delete(`/tasks/${'x'.repeat(64)}`).set(asOperator)
  await page.locator('#nav-history').click()
  await page.locator('tbody .details').waitFor()
  assert.equal(await overhang(), 0)
  await page.locator('tbody .details').click()
  await page.locator('dialog summary').click()
  assert.equal(await overhang(), 0)
})
