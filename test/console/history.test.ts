import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import type { Page } from 'playwright-core'
import { openSqliteStore } from '../../src/audit/sqlite.ts'
import { intentOf, outcomeOf } from '../helpers/audit-events.ts'
import { openConsole, tableRows } from '../helpers/console.ts'
import { asAuditor, CANARIES, type Started } from '../helpers/gateway.ts'
import { requires } from '../helpers/requirements.ts'
import { apiKeysWith, asCaller } from '../helpers/restricted-callers.ts'

const NOON = Date.parse('2026-03-10T12:00:00+08:00')
const LASTING = { executingMs: 1e12 }
const API_KEYS = apiKeysWith({ name: 'reviewer', scopes: ['audit:read', 'tasks:read'] })
const REVIEWER_KEY = asCaller('reviewer')['x-api-key']

const addTasks = ({ upstream }: Started, count: number): void => {
  for (let index = 0; index < count; index += 1) {
    upstream.addTask({ taskNo: `task-${index}`, domains: ['a.com', 'b.com'], createdAt: NOON + index * 1000 })
  }
}

const numbers = (page: Page) => page.locator('tbody .number code').allTextContents()

/** A store with records that no request of the test would make. */
const storeWith =
  (...records: readonly Parameters<typeof intentOf>[0][]) =>
  async (path: string) => {
    const store = await openSqliteStore(path)
    const intents = records.map((record) => intentOf(record))
    await store.append(
      intents,
      intents.map((intent) => outcomeOf(intent, { outcome: 'too-late' })),
    )
    return store
  }

test('the history shows each request with its domain, and older ones below', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page, record } = await openConsole(t, {
    key: REVIEWER_KEY,
    env: { API_KEYS },
    hash: '#/history',
    prepare: async (started) => {
      addTasks(started, 22)
      for (let index = 0; index < 22; index += 1) await started.api.delete(`/tasks/task-${index}`).set(asAuditor)
      await started.api.delete('/tasks/nowhere').set(asAuditor)
    },
    sandbox: LASTING,
  })
  await page.locator('tbody a', { hasText: 'a.com' }).nth(18).waitFor()
  const [first, second] = await tableRows(page)
  assert.equal(first?.[1], 'Task nowhere ')
  assert.deepEqual(second?.slice(1, 4), ['a.com + 1 more', 'Accepted', 'auditor (key)'])
  await page.locator('#more').click()
  await page.locator('#count', { hasText: '23' }).waitFor()
  assert.deepEqual((await numbers(page)).slice(-3), ['task-2', 'task-1', 'task-0'])
  assert.equal(await page.locator('#more').isVisible(), false)

  await page.locator('#outcome').selectOption('rejected')
  await page.locator('#apply').click()
  await page.locator('#results:not([aria-busy]) #count', { hasText: 'Requests: 1' }).waitFor()
  await page.locator('tbody .details').click()
  const { id, gatewayRequestId } = await record('nowhere')
  const drawer = await page.locator('dialog.drawer').textContent()
  for (const part of [id, gatewayRequestId, 'TaskNotExist']) assert.ok(drawer?.includes(String(part)), String(part))
  await page.keyboard.press('Escape')
  assert.equal(await page.evaluate('document.activeElement.textContent'), 'Details')
})

test('filters by caller and by day of the browser’s time zone, and how a request ended', async (t) => {
  if (!requires(t, 'chromium')) return
  const openStore = storeWith(
    { taskNo: 'early', caller: 'ann', requestedAtMs: Date.parse('2026-03-09T23:59:59+08:00') },
    { taskNo: 'late', caller: 'ann', callerDisplayName: 'Ann Lee', requestedAtMs: NOON },
    { taskNo: 'other', caller: 'bob', requestedAtMs: NOON },
  )
  const { page } = await openConsole(t, {
    key: CANARIES.auditorKey,
    env: { AUDIT_RETENTION_DAYS: '3650' },
    hash: '#/history',
    browser: { timezoneId: 'Asia/Shanghai' },
    overrides: { openStore },
  })
  await page.locator('#count', { hasText: 'Requests: 3' }).waitFor()
  await page.getByText('Days in your time zone (GMT+8)').waitFor()
  await page.locator('#caller').fill('ann')
  await page.locator('#from').fill('2026-03-10')
  await page.locator('#to').fill('2026-03-10')
  await page.locator('#apply').click()
  await page.locator('#count', { hasText: 'Requests: 1' }).waitFor()
  assert.deepEqual(
    (await tableRows(page)).map((cells) => cells.slice(1, 4)),
    [['Task late ', 'Too late to cancel', 'ann (key) “Ann Lee”']],
  )
  await page.locator('tbody .details').click()
  await page.locator('dialog').getByText('the task was complete before it could be cancelled').waitFor()
})

test('the rows that are shown are exported, and no cell is a formula', async (t) => {
  if (!requires(t, 'chromium')) return
  const openStore = storeWith({ taskNo: 'a', requestedAtMs: Date.now(), caller: '=1+1', userAgent: 'say "hi", now' })
  const { page } = await openConsole(t, { key: CANARIES.auditorKey, hash: '#/history', overrides: { openStore } })
  await page.locator('#csv').waitFor()
  const saved = async (button: string) => {
    const downloading = page.waitForEvent('download')
    await page.locator(button).click()
    const download = await downloading
    return { name: download.suggestedFilename(), text: await readFile(await download.path(), 'utf8') }
  }
  const csv = await saved('#csv')
  assert.equal(csv.name, 'cancellations.csv')
  const [header = '', row = '', ...rest] = csv.text.split('\r\n')
  assert.match(header, /^\ufeffrequestedAt,domains,taskNo,outcome,caller,/)
  assert.match(row, /,a,too-late,'=1\+1,.*"say ""hi"", now"/)
  assert.deepEqual(rest, [''])
  const lines = await saved('#jsonl')
  assert.equal(lines.name, 'cancellations.jsonl')
  const [record, ...others] = lines.text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
  assert.deepEqual([record.caller, record.outcome, record.domains, others], ['=1+1', 'too-late', null, []])
})
