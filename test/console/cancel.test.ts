import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Page } from 'playwright-core'
import { type OpenConsole, openConsole } from '../helpers/console.ts'
import { asAuditor, asOperator, CANARIES, cancelCalls, eventually, type StartOptions } from '../helpers/gateway.ts'
import { requires } from '../helpers/requirements.ts'

const TASK_NO = 'the-task'

/** The page of a task, opened by a user with the scope to cancel it. */
const openTask = (
  t: Parameters<typeof openConsole>[0],
  options: StartOptions = {},
  key: string = CANARIES.operatorKey,
) =>
  openConsole(t, {
    ...options,
    key,
    hash: `#/tasks/${TASK_NO}`,
    prepare: ({ upstream }) => upstream.addTask({ taskNo: TASK_NO, domains: ['one.com', 'two.com'] }),
  })

const dialog = (page: Page) => page.locator('dialog')
const confirm = (page: Page) => page.locator('dialog .danger')
const heading = (page: Page, name: string) => dialog(page).getByRole('heading', { name, exact: true })

const cancel = async (page: Page): Promise<void> => {
  await page.locator('#cancel').click()
  await confirm(page).click()
}

const deletes = ({ sent }: OpenConsole) => sent.filter(({ line }) => line.startsWith('DELETE'))

test('the confirmation dialog lists the affected domains, and nothing is sent before it is confirmed', async (t) => {
  if (!requires(t, 'chromium')) return
  const opened = await openTask(t)
  const { page, upstream } = opened
  await page.locator('#cancel').click()
  await confirm(page).waitFor()
  const text = (await dialog(page).textContent()) ?? ''
  for (const part of [TASK_NO, 'CHG_DNS', 'Domains (2)', 'one.com', 'two.com']) assert.ok(text.includes(part), part)
  await page.getByRole('button', { name: 'Keep the task' }).click()
  await dialog(page).waitFor({ state: 'detached' })
  assert.deepEqual([deletes(opened).length, cancelCalls(upstream).length], [0, 0])
})

test('a cancellation is watched until the task is cancelled', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page, sent, record, complaints, foreign } = await openTask(t, { sandbox: { cancellingMs: 300 } })
  await cancel(page)
  await heading(page, 'The task is cancelled').waitFor()
  const { id, requestId } = await record(TASK_NO)
  const text = (await dialog(page).textContent()) ?? ''
  for (const part of [id, requestId]) assert.ok(text.includes(String(part)), String(part))
  assert.equal(sent.find(({ line }) => line.startsWith('DELETE'))?.headers.prefer, 'wait=10')
  await dialog(page).getByRole('button', { name: 'Close' }).click()
  await page.locator('.card .badge', { hasText: /^Cancelled$/ }).waitFor()
  assert.equal(await page.locator('#cancel').count(), 0)
  assert.deepEqual([complaints(), foreign()], [[], []])
})

test('while it waits the dialog shows the state of the task, and continues after the gateway has stopped waiting', async (t) => {
  if (!requires(t, 'chromium')) return
  let nowMs = Date.now()
  const { page } = await openTask(t, {
    env: { UPSTREAM_TIMEOUT_MS: '2000', REQUEST_TIMEOUT_MS: '6000' },
    sandbox: { now: () => nowMs, cancellingMs: 60_000, executingMs: 1e12 },
  })
  await cancel(page)
  await heading(page, 'Cancelling…').waitFor()
  await dialog(page).locator('.badge', { hasText: 'Being cancelled' }).waitFor()
  await heading(page, 'The task is being cancelled').waitFor()
  nowMs += 60_000
  await heading(page, 'The task is cancelled').waitFor()
})

test('a result is shown with the state that it states, before the task is read again', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page } = await openTask(t)
  const json = { taskNo: TASK_NO, cancellationId: 'c', requestId: 'r', cancelStatus: 'cancelling' }
  await page.locator('#cancel').click()
  await confirm(page).waitFor()
  await page.route('**/tasks/*', (route) =>
    route.request().method() === 'DELETE' ? route.fulfill({ status: 202, json }) : route.abort(),
  )
  await confirm(page).click()
  await heading(page, 'The task is being cancelled').waitFor()
  assert.equal(await dialog(page).locator('.badge').textContent(), 'Being cancelled')
})

test('a key that closes dialogs does not hide that something was sent', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page, upstream } = await openTask(t)
  upstream.fault('CancelTask', { reply: 'stall' })
  await cancel(page)
  await heading(page, 'Cancelling…').waitFor()
  await page.keyboard.press('Escape')
  await heading(page, 'You stopped waiting').waitFor()
})

test('a double click sends one request', async (t) => {
  if (!requires(t, 'chromium')) return
  const opened = await openTask(t, { sandbox: { cancellingMs: 0 } })
  const { page, upstream, api } = opened
  await page.locator('#cancel').click()
  await confirm(page).evaluate((button: { click(): void }) => {
    button.click()
    button.click()
  })
  await heading(page, 'The task is cancelled').waitFor()
  const { body } = await api.get('/cancellations').set(asAuditor)
  assert.deepEqual([deletes(opened).length, cancelCalls(upstream).length, body.items.length], [1, 1, 1])
})

test('a refusal says that nothing was cancelled, and why', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page, upstream, record } = await openTask(t)
  upstream.fault('CancelTask', { reply: { status: 400, code: 'TaskIsDone' } })
  await cancel(page)
  await heading(page, 'The task was not cancelled').waitFor()
  const text = (await page.locator('dialog .problem').textContent()) ?? ''
  const { id, gatewayRequestId } = await record(TASK_NO)
  const parts = [
    'The task cannot be cancelled',
    'This request cancelled nothing.',
    'Trying again without a change will not help.',
    'TaskIsDone',
  ]
  for (const part of [...parts, 'task-not-cancellable', id, gatewayRequestId])
    assert.ok(text.includes(String(part)), String(part))
})

test('an unknown outcome is shown as one that may have happened, with a look at the task', async (t) => {
  if (!requires(t, 'chromium')) return
  const opened = await openTask(t, {
    env: { UPSTREAM_TIMEOUT_MS: '2000', REQUEST_TIMEOUT_MS: '5000' },
    sandbox: { waitingMs: 0, executingMs: 1e12 },
  })
  const { page, upstream } = opened
  upstream.fault('CancelTask', { reply: 'reset' })
  await cancel(page)
  await heading(page, 'The cancellation may have happened').waitFor()
  const text = (await dialog(page).textContent()) ?? ''
  const parts = ['Task now', 'Executing', 'not known whether', 'Do not cancel again now', 'Details', 'outcome-unknown']
  const places = parts.map((part) => text.indexOf(part))
  assert.ok(!places.includes(-1), String(places))
  assert.deepEqual(
    places,
    places.toSorted((a, b) => a - b),
  )
  assert.equal(await dialog(page).getByText('outcome-unknown', { exact: true }).isVisible(), false)
  assert.deepEqual([deletes(opened).length, cancelCalls(upstream).length], [1, 1])
})

test('a request whose response is lost is reported as unknown and not repeated, and the task is read', async (t) => {
  if (!requires(t, 'chromium')) return
  const opened = await openTask(t)
  const { page, upstream, api } = opened
  await page.route('**/tasks/*', async (route) => {
    if (route.request().method() !== 'DELETE') return route.continue()
    await api.delete(`/tasks/${TASK_NO}`).set(asOperator)
    await route.abort()
  })
  await cancel(page)
  await heading(page, 'The cancellation may have happened').waitFor()
  assert.ok((await dialog(page).textContent())?.includes('The server cannot be reached'))
  await dialog(page).locator('.badge', { hasText: 'Being cancelled' }).waitFor()
  assert.deepEqual([deletes(opened).length, cancelCalls(upstream).length], [1, 1])
})

test('an answer by something between that cannot be read may have happened, too', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page } = await openTask(t)
  await page.route('**/tasks/*', (route) =>
    route.request().method() === 'DELETE'
      ? route.fulfill({ status: 502, body: '<html>Bad gateway' })
      : route.continue(),
  )
  await cancel(page)
  await heading(page, 'The cancellation may have happened').waitFor()
})

test('a user who stops waiting is informed that the request is not withdrawn', async (t) => {
  if (!requires(t, 'chromium')) return
  const opened = await openTask(t)
  const { page, upstream } = opened
  await cancel(page)
  // A request that was not sent by then is never sent.
  await eventually(() => (cancelCalls(upstream).length === 1 ? true : undefined))
  await page.getByRole('button', { name: 'Stop waiting' }).click()
  await heading(page, 'You stopped waiting').waitFor()
  assert.ok((await dialog(page).textContent())?.includes('the cancellation may have happened'))
  assert.equal(deletes(opened).length, 1)
  assert.equal(cancelCalls(upstream).length, 1)
})

test('a task that cannot be shown cannot be cancelled in the console before it can', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page, upstream } = await openTask(t, { env: { UPSTREAM_MAX_ATTEMPTS: '1' } })
  await page.locator('#cancel').waitFor()
  upstream.fault('QueryTaskDetailList', { reply: { status: 400, code: 'Throttling' } })
  await page.locator('#cancel').click()
  await page.locator('dialog .problem').waitFor()
  assert.equal(await confirm(page).count(), 0)
  await page.locator('dialog .problem').getByRole('button').click()
  await confirm(page).waitFor()
})

test('a throttled cancel can be confirmed again once that is allowed, and is not sent before', async (t) => {
  if (!requires(t, 'chromium')) return
  const opened = await openTask(t, { sandbox: { cancellingMs: 0 }, env: { UPSTREAM_MAX_ATTEMPTS: '1' } })
  const { page, upstream } = opened
  upstream.fault('CancelTask', { reply: { status: 400, code: 'Throttling.User' } })
  await cancel(page)
  await heading(page, 'The task was not cancelled').waitFor()
  await dialog(page).getByText('This request cancelled nothing').waitFor()
  await page.locator('dialog .problem').getByRole('button').click()
  await confirm(page).waitFor()
  assert.equal(deletes(opened).length, 1)
  await confirm(page).click()
  await heading(page, 'The task is cancelled').waitFor()
  assert.equal(deletes(opened).length, 2)
})

test('a user with the scope to cancel but not to read cancels by the task number alone', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page, upstream } = await openTask(t, { sandbox: { cancellingMs: 0 } }, CANARIES.auditorKey)
  await cancel(page)
  await heading(page, 'The task is cancelled').waitFor()
  assert.equal(cancelCalls(upstream).length, 1)
})

test('a user without the scope to cancel gets no button for it', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page } = await openTask(t, {}, CANARIES.readerKey)
  await page.getByText('one.com', { exact: true }).waitFor()
  assert.equal(await page.locator('#cancel').count(), 0)
})

test('a task is found and cancelled by the keyboard alone', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page, upstream } = await openConsole(t, {
    sandbox: { cancellingMs: 0 },
    prepare: ({ upstream }) => upstream.addTask({ taskNo: TASK_NO, domains: ['one.com'] }),
  })
  const { keyboard } = page
  const focused = () => page.evaluate<string>('document.activeElement.textContent || document.activeElement.id')
  const tabTo = async (text: string): Promise<void> => {
    for (let steps = 0; (await focused()) !== text; steps += 1) {
      assert.ok(steps < 60, `${text} is out of reach`)
      await keyboard.press('Tab')
    }
  }
  await page.locator('#key').waitFor()
  await tabTo('key')
  await keyboard.type(CANARIES.operatorKey)
  await keyboard.press('Enter')
  await page.locator('table').waitFor()
  assert.equal(await focused(), 'Tasks')
  await tabTo('one.com')
  await keyboard.press('Enter')
  await page.locator('#cancel').waitFor()
  assert.equal(await focused(), 'one.com')
  await tabTo('Cancel…')
  await keyboard.press('Enter')
  await confirm(page).waitFor()
  assert.equal(await focused(), 'Keep the task')
  await tabTo('Yes, cancel the task')
  await keyboard.press('Enter')
  await heading(page, 'The task is cancelled').waitFor()
  assert.equal(await focused(), 'The task is cancelled')
  await keyboard.press('Escape')
  await page.locator('.card .badge', { hasText: /^Cancelled$/ }).waitFor()
  assert.equal(await focused(), 'one.com')
  assert.equal(cancelCalls(upstream).length, 1)
})
