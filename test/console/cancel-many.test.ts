import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Page } from 'playwright-core'
import { type OpenConsole, openConsole } from '../helpers/console.ts'
import { CANARIES, cancelCalls, eventually, type StartOptions } from '../helpers/gateway.ts'
import { requires } from '../helpers/requirements.ts'

/** The list with that many tasks, all of them selected, and the dialog that asks before they are cancelled. */
const openQuestion = async (t: Parameters<typeof openConsole>[0], count: number, options: StartOptions = {}) => {
  const opened = await openConsole(t, {
    ...options,
    key: CANARIES.operatorKey,
    prepare: ({ upstream }) => {
      for (let index = 0; index < count; index += 1) {
        const domains = [`${index}.one.com`, `${index}.two.com`]
        upstream.addTask({ taskNo: `task-${index}`, domains, createdAt: Date.now() - index * 1000 })
      }
    },
  })
  await opened.page.locator('tbody a', { hasText: '.one.com' }).first().waitFor()
  await opened.page.locator('#select-all').check()
  await opened.page.locator('#cancel-selected').click()
  await opened.page.locator('dialog .danger').waitFor()
  return opened
}

const states = (page: Page) => page.locator('dialog .plan-heading .badge').allTextContents()
const deletes = ({ sent }: OpenConsole) => sent.filter(({ line }) => line.startsWith('DELETE')).map(({ line }) => line)
const close = (page: Page) => page.locator('dialog').getByRole('button', { name: 'Close' })

test('one dialog lists everything that several tasks affect, and nothing is sent before it is confirmed', async (t) => {
  if (!requires(t, 'chromium')) return
  const opened = await openQuestion(t, 3)
  const { page } = opened
  const text = (await page.locator('dialog').textContent()) ?? ''
  for (const part of ['Cancel these tasks (3)?', 'Affected domains: 6', '0.one.com', '1.two.com', '2.two.com']) {
    assert.ok(text.includes(part), part)
  }
  await page.getByRole('button', { name: 'Keep the tasks' }).click()
  await page.locator('dialog').waitFor({ state: 'detached' })
  assert.deepEqual(deletes(opened), [])
})

test('each task gets one request, and a result with its own state', async (t) => {
  if (!requires(t, 'chromium')) return
  const opened = await openQuestion(t, 4, {
    env: { UPSTREAM_TIMEOUT_MS: '2000', REQUEST_TIMEOUT_MS: '6000' },
    sandbox: { cancellingMs: 0 },
  })
  const { page, upstream } = opened
  upstream.fault('CancelTask', { reply: { status: 400, code: 'TaskIsDone' } })
  upstream.fault('CancelTask', { reply: 'reset' })
  await page.locator('dialog .danger').click()
  await page.getByRole('heading', { name: 'Results' }).waitFor()
  assert.deepEqual((await states(page)).sort(), ['Cancelled', 'Cancelled', 'Not cancelled', 'Unknown'])
  await page.getByText('Cancelled: 2. In progress: 0. Unknown: 1. Not cancelled: 1.').waitFor()
  await page.locator('dialog dt', { hasText: 'Task now' }).waitFor()
  assert.deepEqual(
    deletes(opened).sort(),
    [0, 1, 2, 3].map((index) => `DELETE /tasks/task-${index}`),
  )
  await close(page).click()
  await page
    .locator('tbody .badge', { hasText: /^Cancelled$/ })
    .first()
    .waitFor()
  assert.equal(deletes(opened).length, 4)
})

test('three requests are in flight at a time, and those that were not sent are named', async (t) => {
  if (!requires(t, 'chromium')) return
  const opened = await openQuestion(t, 5)
  const { page, upstream } = opened
  upstream.fault('CancelTask', { reply: 'stall' }, 5)
  await page.locator('dialog .danger').click()
  await eventually(() => (cancelCalls(upstream).length === 3 ? true : undefined))
  assert.equal((await states(page)).filter((state) => state === 'Cancelling…').length, 3)
  assert.equal(deletes(opened).length, 3)
  await page.keyboard.press('Escape')
  await page.keyboard.press('Escape')
  assert.equal(await page.locator('dialog').isVisible(), true)
  upstream.clearFaults()
  await page.getByRole('heading', { name: 'Results' }).waitFor()
  assert.equal((await states(page)).filter((state) => state === 'Not sent').length, 2)
  assert.equal(deletes(opened).length, 3)
})

test('a limit of the gateway ends the sending', async (t) => {
  if (!requires(t, 'chromium')) return
  const opened = await openQuestion(t, 6, { env: { RATE_LIMIT_MAX: '1' }, sandbox: { cancellingMs: 0 } })
  const { page } = opened
  await page.locator('dialog .danger').click()
  await page.getByRole('heading', { name: 'Results' }).waitFor()
  const found = await states(page)
  assert.equal(found.filter((state) => state === 'Cancelled').length, 1)
  assert.ok(found.includes('Not sent'), String(found))
  assert.ok(deletes(opened).length < 6)
})
