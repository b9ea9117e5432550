import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openSqliteStore } from '../../src/audit/sqlite.ts'
import { intentOf, outcomeOf } from '../helpers/audit-events.ts'
import { openConsole, tableRows, waitForResults } from '../helpers/console.ts'
import { asAuditor, asOperator, CANARIES, eventually, type Started } from '../helpers/gateway.ts'
import { requires } from '../helpers/requirements.ts'
import { apiKeysWith, asCaller } from '../helpers/restricted-callers.ts'

const DAY_MS = 86_400_000
const NOON = Date.parse('2026-03-10T12:00:00+08:00')
const LASTING = { executingMs: 1e12 }

const addTasks = ({ upstream }: Started, count: number): void => {
  for (let index = 0; index < count; index += 1) {
    upstream.addTask({ taskNo: `task-${index}`, domains: ['a.com', 'b.com'], createdAt: NOON + index * DAY_MS })
  }
}

const firstCells = async (page: Parameters<typeof tableRows>[0]): Promise<(string | undefined)[]> =>
  (await tableRows(page)).map(([first]) => first)

test('where types restrict a caller no totals are shown, since there are none to tell', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page } = await openConsole(t, {
    env: { API_KEYS: apiKeysWith({ name: 'types', scopes: ['tasks:read'], taskTypes: ['CHG_DNS'] }) },
    prepare: ({ upstream }) => [upstream.addTask(), upstream.addTask({ taskType: 'ORDER_RENEW' })],
    key: asCaller('types')['x-api-key'],
  })
  await waitForResults(page)
  assert.equal((await tableRows(page)).length, 1)
  assert.equal(await page.locator('.pages span').textContent(), 'Page 1')
})

test('the list shows the tasks of upstream, newest first, and sends requests only to the gateway', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page, complaints, foreign } = await openConsole(t, {
    key: CANARIES.operatorKey,
    sandbox: LASTING,
    prepare: async (started) => {
      addTasks(started, 2)
      await started.api.delete('/tasks/task-0').set(asOperator)
    },
  })
  await page.locator('table').waitFor()
  const shown = (await tableRows(page)).map((cells) => [...cells.slice(0, 5), cells[6]])
  assert.deepEqual(shown, [
    ['task-1', '修改DNS CHG_DNS', 'Executing', 'Not cancelled', '2', 'Cancel task…'],
    ['task-0', '修改DNS CHG_DNS', 'Executing', 'Being cancelled', '2', '–'],
  ])
  assert.deepEqual([complaints(), foreign()], [[], []])
})

test('pages follow one another, and the browser goes back through them', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page } = await openConsole(t, { key: CANARIES.operatorKey, prepare: (started) => addTasks(started, 12) })
  await page.locator('#pageSize').selectOption('10')
  await page.locator('#apply').click()
  await page.locator('.pages', { hasText: '1–10 of 12' }).waitFor()
  await page.locator('#next').click()
  await page.locator('.pages', { hasText: '11–12 of 12' }).waitFor()
  assert.deepEqual(await firstCells(page), ['task-1', 'task-0'])
  assert.equal(await page.locator('#next').count(), 0)
  await page.goBack()
  await page.locator('.pages', { hasText: '1–10 of 12' }).waitFor()
  assert.equal((await firstCells(page)).length, 10)
})

test('days limit the list, and an impossible range is explained', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page } = await openConsole(t, { key: CANARIES.operatorKey, prepare: (started) => addTasks(started, 5) })
  await page.locator('#createdFrom').fill('2026-03-11')
  await page.locator('#createdTo').fill('2026-03-12')
  await page.locator('#apply').click()
  await page.locator('.pages', { hasText: '1–2 of 2' }).waitFor()
  assert.deepEqual(await firstCells(page), ['task-2', 'task-1'])
  await page.locator('#createdTo').fill('2026-03-01')
  await page.locator('#apply').click()
  await page.locator('.problem', { hasText: 'createdTo must not be before createdFrom' }).waitFor()
  assert.equal(await page.locator('#createdFrom').inputValue(), '2026-03-11')
})

test('a list without tasks says so', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page } = await openConsole(t, { key: CANARIES.operatorKey })
  await page.getByRole('heading', { name: 'No tasks' }).waitFor()
})

test('a list that cannot be had says why, and looks again when told to', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page } = await openConsole(t, {
    key: CANARIES.operatorKey,
    env: { UPSTREAM_MAX_ATTEMPTS: '1' },
    prepare: (started) => {
      addTasks(started, 1)
      started.upstream.fault('QueryTaskList', { reply: { status: 400, code: 'Throttling.User' } })
    },
  })
  const problem = page.locator('.problem')
  await problem.waitFor()
  const text = await problem.textContent()
  for (const part of ['Alibaba Cloud is throttling', 'Yes, in ', 'upstream-throttled', 'Throttling.User']) {
    assert.ok(text?.includes(part), part)
  }
  assert.match(text ?? '', /Gateway request id[0-9a-f-]{36}/)
  assert.doesNotMatch(text ?? '', /Was anything cancelled/)
  await page.locator('#retry').click()
  await page.locator('table').waitFor()
})

test('a problem leads to the page that explains it, in the language of the console', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page, origin } = await openConsole(t, { key: CANARIES.operatorKey, hash: '#/tasks/nowhere' })
  const link = page.getByRole('link', { name: 'Explanation' })
  await link.waitFor()
  assert.equal(await link.getAttribute('href'), `${origin}/problems/task-not-found?lang=en`)
  assert.equal(await link.getAttribute('target'), '_blank')
})

test('a user without access to the list is informed, and opens a task by its number', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page } = await openConsole(t, { key: CANARIES.auditorKey, prepare: (started) => addTasks(started, 1) })
  await page.getByRole('heading', { name: 'You may not see the list of tasks' }).waitFor()
  await page.locator('#taskNo').fill('task-0')
  await page.locator('#go').click()
  await page.locator('#cancel').waitFor()
  assert.equal(new URL(page.url()).hash, '#/tasks/task-0')
})

test('a task has an address of its own, and shows its details for each domain', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page, complaints } = await openConsole(t, {
    key: CANARIES.operatorKey,
    hash: '#/tasks/big',
    sandbox: LASTING,
    prepare: ({ upstream }) =>
      upstream.addTask({ taskNo: 'big', domains: Array.from({ length: 52 }, (_, index) => `d${index}.com`) }),
  })
  await page.locator('.pages', { hasText: '1–50 of 52' }).waitFor()
  assert.match((await page.locator('.card').textContent()) ?? '', /big.*CHG_DNS.*Domains52/)
  await page.locator('#next').click()
  await page.locator('.pages', { hasText: '51–52 of 52' }).waitFor()
  assert.deepEqual(await firstCells(page), ['d50.com', 'd51.com'])
  assert.deepEqual(complaints(), [])
})

test('a task in the list that is being cancelled is seen to become cancelled', async (t) => {
  if (!requires(t, 'chromium')) return
  let nowMs = NOON
  const { page, sent } = await openConsole(t, {
    key: CANARIES.operatorKey,
    sandbox: { ...LASTING, now: () => nowMs, cancellingMs: 1000 },
    prepare: async (started) => {
      started.upstream.setClockOffset(Date.now() - NOON)
      addTasks(started, 2)
      await started.api.delete('/tasks/task-1').set(asOperator)
    },
  })
  await page.locator('tbody .badge', { hasText: 'Being cancelled' }).waitFor()
  nowMs += 1000
  await page.locator('tbody .badge', { hasText: /^Cancelled$/ }).waitFor()
  const looks = sent.filter(({ line }) => line === 'GET /tasks/task-1')
  assert.equal(looks[0]?.headers['if-none-match'], undefined)
  assert.equal(sent.filter(({ line }) => line === 'GET /tasks/task-0').length, 0)
})

test('a hidden page sends no requests, and unchanged responses are not sent again', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page, sent } = await openConsole(t, {
    key: CANARIES.operatorKey,
    prepare: async (started) => {
      addTasks(started, 1)
      await started.api.delete('/tasks/task-0').set(asOperator)
    },
    sandbox: LASTING,
  })
  const looks = () => sent.filter(({ line }) => line === 'GET /tasks/task-0')
  await page.locator('tbody .badge', { hasText: 'Being cancelled' }).waitFor()
  await page.evaluate("Object.defineProperty(document, 'visibilityState', { value: 'hidden', configurable: true })")
  await page.clock.install()
  await page.locator('#refresh').click()
  await waitForResults(page)
  const before = looks().length
  await page.clock.runFor(120_000)
  assert.equal(looks().length, before)
  await page.evaluate(
    "Object.defineProperty(document, 'visibilityState', { value: 'visible' }); document.dispatchEvent(new Event('visibilitychange'))",
  )
  await eventually(() => (looks().length > before ? true : undefined))
  await page.clock.runFor(30_000)
  await eventually(() => looks().find(({ headers }) => headers['if-none-match'] !== undefined))
})

test('the history shows the outcome of each request, by outcome, task and page', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page, record } = await openConsole(t, {
    key: CANARIES.auditorKey,
    hash: '#/history',
    prepare: async (started) => {
      addTasks(started, 22)
      for (let index = 0; index < 22; index += 1) await started.api.delete(`/tasks/task-${index}`).set(asAuditor)
      await started.api.delete('/tasks/nowhere').set(asAuditor)
    },
    sandbox: LASTING,
  })
  await page.locator('table').waitFor()
  const taskNos = async () => (await tableRows(page)).map(([, taskNo]) => taskNo)
  assert.deepEqual((await taskNos()).slice(0, 2), ['nowhere', 'task-21'])
  await page.locator('#next').click()
  await page.locator('#previous').waitFor()
  assert.deepEqual(await taskNos(), ['task-2', 'task-1', 'task-0'])
  await page.locator('#outcome').selectOption('rejected')
  await page.locator('#apply').click()
  await page.locator('#results:not([aria-busy]) tbody .bad').waitFor()
  assert.deepEqual(await taskNos(), ['nowhere'])
  await page.locator('summary').click()
  const { id, gatewayRequestId } = await record('nowhere')
  const more = await page.locator('tbody details').textContent()
  for (const part of [id, gatewayRequestId, 'TaskNotExist']) assert.ok(more?.includes(String(part)), String(part))
  await page.locator('#outcome').selectOption('')
  await page.locator('#taskNo').fill('task-7')
  await page.locator('#apply').click()
  await page.locator('#results:not([aria-busy]) td:has-text("task-7")').waitFor()
  assert.deepEqual(await taskNos(), ['task-7'])
})

test('the history tells an entry that counts refusals from one that counts attempts', async (t) => {
  if (!requires(t, 'chromium')) return
  const requestedAtMs = Date.now()
  const sum = intentOf({ taskNo: 'many', requestedAtMs })
  const single = intentOf({ taskNo: 'one', requestedAtMs })
  const refused = { outcome: 'refused', requestId: null } as const
  const openStore = async (path: string) => {
    const store = await openSqliteStore(path)
    const outcomes = [outcomeOf(sum, { ...refused, attempts: 41 }), outcomeOf(single, { ...refused, attempts: 0 })]
    await store.append([sum, single], outcomes)
    return store
  }
  const { page } = await openConsole(t, { key: CANARIES.auditorKey, hash: '#/history', overrides: { openStore } })
  await page.locator('table').waitFor()
  const [one = '', many = ''] = await page.locator('tbody details').allTextContents()
  assert.match(many, /Refused requests in this record\s*41/)
  assert.match(one, /Attempts\s*0/)
})

test('a user without access to the history gets no link to it', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page } = await openConsole(t, { key: CANARIES.operatorKey })
  assert.deepEqual(await page.getByRole('navigation').first().getByRole('link').allTextContents(), ['Tasks'])
})
