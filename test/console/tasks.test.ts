import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openSqliteStore } from '../../src/audit/sqlite.ts'
import { intentOf, outcomeOf } from '../helpers/audit-events.ts'
import { openConsole, signIn, tableRows, waitForResults } from '../helpers/console.ts'
import { asOperator, CANARIES, eventually, type Started } from '../helpers/gateway.ts'
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
  assert.equal(await page.locator('#count').textContent(), 'Tasks: 1')
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
  await page.locator('tbody a', { hasText: 'a.com' }).first().waitFor()
  const shown = (await tableRows(page)).map((cells) => cells.slice(1, 4))
  assert.deepEqual(shown, [
    ['a.com + 1 more', 'Change DNS servers CHG_DNS', 'Executing'],
    ['a.com + 1 more', 'Change DNS servers CHG_DNS', 'Being cancelled'],
  ])
  assert.deepEqual(await page.locator('.number code').allTextContents(), ['task-1', 'task-0'])
  assert.equal(await page.locator('tbody button:visible', { hasText: 'Cancel…' }).count(), 1)
  assert.deepEqual([complaints(), foreign()], [[], []])
})

test('the list is there before the domains, which then move nothing', async (t) => {
  if (!requires(t, 'chromium')) return
  const held = Promise.withResolvers<void>()
  const long = `${'x'.repeat(60)}.${'y'.repeat(60)}.com`
  const { page } = await openConsole(t, {
    browser: { viewport: { width: 1280, height: 720 } },
    prepare: (started) => {
      addTasks(started, 2)
      started.upstream.addTask({ domains: [long, 'b.com'] })
    },
  })
  await page.route(/include=domains/, async (route) => {
    await held.promise
    await route.continue()
  })
  await signIn(page, CANARIES.operatorKey)
  const names = page.locator('.name')
  await names.first().waitFor()
  assert.deepEqual(await names.allTextContents(), Array(3).fill('Loading… + 1 more'))
  const places = () =>
    page.locator('tr, td, th, footer').evaluateAll((cells) =>
      cells.map((cell) => {
        const { x, y, width, height } = cell.getBoundingClientRect()
        return [x, y, width, height].map(Math.round).join()
      }),
    )
  const before = await places()
  held.resolve()
  await page.locator('tbody a', { hasText: 'a.com' }).first().waitFor()
  assert.deepEqual(await names.allTextContents(), [`${long} + 1 more`, 'a.com + 1 more', 'a.com + 1 more'])
  assert.deepEqual(await places(), before)
})

test('a row whose domains are not available says so, and is not searched by them', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page } = await openConsole(t, {
    key: CANARIES.operatorKey,
    env: { UPSTREAM_MAX_ATTEMPTS: '1' },
    prepare: (started) => {
      addTasks(started, 1)
      started.upstream.fault('QueryTaskDetailList', { reply: { status: 403, code: 'Forbidden.RAM' } })
    },
  })
  await page.locator('tbody a', { hasText: 'Domain not available now' }).waitFor()
  await page.locator('#search').fill('a.com')
  await page.getByRole('heading', { name: 'No loaded task matches' }).waitFor()
})

test('rows are filtered by domain, type, number and status, and hidden rows are not selected', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page } = await openConsole(t, {
    key: CANARIES.operatorKey,
    sandbox: LASTING,
    prepare: async ({ upstream, api }) => {
      upstream.addTask({ taskNo: 'first', domains: ['one.com', 'two.com'], createdAt: NOON })
      upstream.addTask({ taskNo: 'second', taskType: 'ORDER_RENEW', domains: ['three.com'], createdAt: NOON + 1000 })
      await api.delete('/tasks/first').set(asOperator)
    },
  })
  await page.locator('tbody a', { hasText: 'one.com' }).waitFor()
  const shown = () => page.locator('tbody tr:visible .number code').allTextContents()
  await page.locator('#select-all').check()
  assert.match((await page.locator('#cancel-selected').textContent()) ?? '', /\(1\)/)
  for (const [text, expected] of [
    ['TWO.COM', ['first']],
    ['renew', ['second']],
    ['order_', ['second']],
    ['sec', ['second']],
    ['nothing', []],
    ['', ['second', 'first']],
  ] as const) {
    await page.locator('#search').fill(text)
    assert.deepEqual(await shown(), expected, text)
  }
  assert.equal(await page.locator('#cancel-selected').isDisabled(), true)
  await page.locator('#state').selectOption('cancelling')
  assert.deepEqual(await shown(), ['first'])
  assert.equal(await page.locator('#count').textContent(), '1 of 2 loaded tasks')
})

test('more tasks are loaded below those that are there', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page } = await openConsole(t, { key: CANARIES.operatorKey, prepare: (started) => addTasks(started, 45) })
  await page.locator('#count', { hasText: '20 of 45 tasks' }).waitFor()
  await page.locator('#more').click()
  await page.locator('#count', { hasText: '40 of 45 tasks' }).waitFor()
  await page.locator('#more').click()
  await page.locator('#count', { hasText: '45 of 45 tasks' }).waitFor()
  const numbers = await page.locator('.number code').allTextContents()
  assert.deepEqual(
    numbers,
    Array.from({ length: 45 }, (_, index) => `task-${44 - index}`),
  )
  assert.equal(await page.locator('#more').isVisible(), false)
  assert.equal(await page.evaluate('document.activeElement.href.split("/").at(-1)'), 'task-4')
})

test('while the page is visible, rows change where they are, and new tasks wait for the user', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page, upstream, api } = await openConsole(t, {
    browser: { viewport: { width: 1280, height: 720 } },
    prepare: (started) => addTasks(started, 2),
    sandbox: LASTING,
  })
  await page.clock.install()
  await signIn(page, CANARIES.operatorKey)
  await page.locator('tbody a', { hasText: 'a.com' }).first().waitFor()
  const place = () => page.locator('#cancel-task-1').boundingBox()
  const before = await place()
  upstream.addTask({ taskNo: 'new', createdAt: Date.now() })
  await api.delete('/tasks/task-0').set(asOperator)
  await page.clock.runFor(30_000)
  await page.getByRole('button', { name: 'Show new tasks (1)' }).waitFor()
  await page.locator('tbody .badge', { hasText: 'Being cancelled' }).waitFor()
  assert.deepEqual(await place(), before)
  assert.equal(await page.locator('tbody tr').count(), 2)
  await page.locator('#newer').click()
  assert.equal(await page.locator('.number code').first().textContent(), 'new')
})

test('the age has the complete time with its zone on hover and on focus, and the number can be copied', async (t) => {
  if (!requires(t, 'chromium')) return
  const number = '7f217ae0-61f5-42e2-a1c3-42bad0124aaa'
  const { page } = await openConsole(t, {
    key: CANARIES.operatorKey,
    browser: { timezoneId: 'Asia/Shanghai', permissions: ['clipboard-read', 'clipboard-write'] },
    prepare: ({ upstream }) => upstream.addTask({ taskNo: number, createdAt: Date.now() - 3 * 60_000 }),
  })
  const time = page.locator('tbody time')
  await time.waitFor()
  assert.match((await time.textContent()) ?? '', /^[34] min ago/)
  const tip = time.locator('.tip')
  assert.equal(await tip.isVisible(), false)
  await time.hover()
  assert.equal(await tip.isVisible(), true)
  await page.mouse.move(0, 0)
  await time.focus()
  assert.equal(await tip.isVisible(), true)
  assert.match((await tip.textContent()) ?? '', /GMT\+8$/)
  assert.equal(await page.locator('.number code').textContent(), '7f217ae0…')
  await page.getByRole('button', { name: `Copy number ${number}` }).click()
  await page
    .getByRole('button', { name: `Copy number ${number}` })
    .getByText('Copied')
    .waitFor()
  assert.equal(await page.evaluate('navigator.clipboard.readText()'), number)
})

test('a throttled page repeats the request once it is allowed, if the user asks for it before', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page, sent } = await openConsole(t, { prepare: (started) => addTasks(started, 1) })
  const json = { type: '/problems/too-many-requests', code: 'too-many-requests', title: 'Slow', detail: 'x' }
  await page.clock.install()
  await page.route(/\/tasks$/, (route) =>
    route.fulfill({ status: 429, headers: { 'retry-after': '5' }, json: { ...json, retryable: true } }),
  )
  await signIn(page, CANARIES.operatorKey)
  const requests = () => sent.filter(({ line }) => line === 'GET /tasks').length
  await page.getByRole('button', { name: 'Try again in 5 s' }).click()
  await page.unroute(/\/tasks$/)
  await page.getByRole('button', { name: 'Trying again in 5 s…' }).waitFor()
  await page.clock.runFor(4000)
  assert.equal(requests(), 1)
  await page.clock.runFor(1000)
  await page.locator('table').waitFor()
  assert.equal(requests(), 2)
})

test('the tab names the task, and the Back button closes a dialog unless a request is in progress', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page, upstream } = await openConsole(t, {
    key: CANARIES.operatorKey,
    sandbox: LASTING,
    prepare: (started) => addTasks(started, 1),
  })
  await page.locator('tbody a').click()
  await page.locator('#cancel').click()
  assert.equal(await page.title(), 'a.com + 1 more · Domain tasks')
  await page.locator('dialog .danger').waitFor()
  await page.goBack()
  await page.locator('dialog').waitFor({ state: 'detached' })
  await page.getByRole('heading', { name: 'Tasks', exact: true }).waitFor()
  await page.locator('tbody a').click()
  upstream.fault('CancelTask', { reply: 'stall' })
  await page.locator('#cancel').click()
  await page.locator('dialog .danger').click()
  await page.locator('dialog [role=timer]').waitFor()
  await page.goBack()
  await page.getByText('A request is in progress').waitFor()
  assert.match(page.url(), /#\/tasks\/task-0$/)
  await page.getByRole('button', { name: 'Stop waiting' }).click()
  await page.getByRole('heading', { name: 'You stopped waiting' }).waitFor()
})

test('a caller without permissions gets a page with the name for the operator', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page } = await openConsole(t, {
    env: { API_KEYS: apiKeysWith({ name: 'new-person', scopes: [] }) },
    key: asCaller('new-person')['x-api-key'],
  })
  await page.getByRole('heading', { name: 'You have no permissions yet' }).waitFor()
  assert.equal(await page.locator('.no-permissions code').textContent(), 'new-person')
  assert.equal(await page.locator('header nav a').count(), 0)
})

test('days limit the list, and an impossible range is explained', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page } = await openConsole(t, { key: CANARIES.operatorKey, prepare: (started) => addTasks(started, 5) })
  await page.locator('#createdFrom').fill('2026-03-11')
  await page.locator('#createdTo').fill('2026-03-12')
  await page.locator('#apply').click()
  await page.locator('#count', { hasText: '2 of 2 tasks' }).waitFor()
  assert.deepEqual(await page.locator('.number code').allTextContents(), ['task-2', 'task-1'])
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
  const { page, upstream } = await openConsole(t, {
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
  for (const part of ['Alibaba Cloud is throttling', 'Try again in ', 'upstream-throttled', 'Throttling.User']) {
    assert.ok(text?.includes(part), part)
  }
  assert.match(text ?? '', /Request id[0-9a-f-]{36}/)
  assert.doesNotMatch(text ?? '', /cancelled nothing/)
  await page.locator('#retry').click()
  await page.locator('table').waitFor()

  upstream.fault('QueryTaskList', { reply: { status: 400, code: 'Throttling.User' } })
  await page.locator('#refresh').click()
  await problem.getByRole('button').click()
  await problem.waitFor({ state: 'detached' })
  assert.equal(await page.evaluate('document.activeElement.id'), 'refresh')
})

test('a problem leads to the page that explains it, in the language of the console', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page, origin } = await openConsole(t, { key: CANARIES.operatorKey, hash: '#/tasks/nowhere' })
  await page.locator('.problem summary').click()
  const link = page.getByRole('link', { name: 'Explanation' })
  await link.waitFor()
  assert.equal(await link.getAttribute('href'), `${origin}/problems/task-not-found?lang=en`)
  assert.equal(await link.getAttribute('target'), '_blank')
})

test('a user without access to the list is informed, and opens a task by its number, also on a phone', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page } = await openConsole(t, {
    browser: { viewport: { width: 390, height: 844 } },
    key: CANARIES.auditorKey,
    prepare: (started) => addTasks(started, 1),
  })
  await page.getByRole('heading', { name: 'You may not view the list of tasks' }).waitFor()
  assert.equal(await page.getByRole('search').isVisible(), false)
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
  assert.match((await page.locator('.card').textContent()) ?? '', /CHG_DNS.*Domains52.*big/)
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
  const drawer = async (row: number) => {
    await page.locator('tbody .details').nth(row).click()
    const text = await page.locator('dialog').textContent()
    await page.keyboard.press('Escape')
    return text ?? ''
  }
  assert.match(await drawer(0), /Attempts\s*0/)
  assert.match(await drawer(1), /Refused requests in this record\s*41/)
})

test('a user without access to the history gets no link to it', async (t) => {
  if (!requires(t, 'chromium')) return
  const { page } = await openConsole(t, { key: CANARIES.operatorKey })
  assert.deepEqual(await page.getByRole('navigation').first().getByRole('link').allTextContents(), ['Tasks'])
})
