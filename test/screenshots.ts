import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, type TestContext, test } from 'node:test'
import type { BrowserContextOptions, Page } from 'playwright-core'
import { dashboardJson } from '../docs/dashboard.ts'
import { openSqliteStore } from '../src/audit/sqlite.ts'
import { sha256 } from '../src/callers/api-keys.ts'
import { type Html, html } from '../src/http/presentation/html.ts'
import { intentOf, outcomeOf } from './helpers/audit-events.ts'
import { AXE, seriousFaults } from './helpers/axe.ts'
import { openBrowser } from './helpers/browser.ts'
import { signIn } from './helpers/console.ts'
import { type Started, type StartOptions, startGateway } from './helpers/gateway.ts'
import { ROOT } from './helpers/process.ts'
import { startProvider } from './helpers/provider.ts'

// Pictures of each state of the pages for people: npm run screenshots. All of them go to screenshots/ (not committed),
// with an overview, index.html. Those of the documents are copied to docs/. Each state is also checked for
// accessibility, and for content that is wider than the screen.

const FOLDER = join(ROOT, 'screenshots')

/** Copies of pictures for the documents. */
const DOCUMENTS: Readonly<Record<string, readonly [look: string, state: string]>> = {
  list: ['desktop-en', 'list'],
  several: ['desktop-en', 'several'],
  results: ['desktop-en', 'several-results'],
  problem: ['desktop-en', 'refused'],
  confirm: ['desktop-zh', 'confirm'],
  'history-zh': ['desktop-zh', 'history-drawer'],
  task: ['phone-en', 'task'],
  wait: ['phone-en', 'waiting'],
  'list-zh': ['phone-zh', 'list'],
  'unknown-zh': ['phone-zh', 'unknown'],
}

const DESKTOP = { width: 1280, height: 720 }
const PHONE = { width: 390, height: 844 }
const COMMON = { timezoneId: 'Asia/Shanghai', reducedMotion: 'reduce', bypassCSP: true } as const

/** Each width, language and colour scheme with each other. */
const LOOKS: Readonly<Record<string, BrowserContextOptions>> = {
  'desktop-en': { ...COMMON, viewport: DESKTOP, locale: 'en-GB' },
  'desktop-zh': { ...COMMON, viewport: DESKTOP, locale: 'zh-CN', colorScheme: 'dark' },
  'phone-en': { ...COMMON, viewport: PHONE, locale: 'en-GB', colorScheme: 'dark' },
  'phone-zh': { ...COMMON, viewport: PHONE, locale: 'zh-CN' },
}

const HOUR_MS = 3_600_000
/** Of the sandbox: some tasks have been finished for long, others last. */
const LIFECYCLE = { waitingMs: 0, executingMs: 24 * HOUR_MS, cancellingMs: HOUR_MS }

const KEYS = { operations: 'key-of-operations', canceller: 'key-of-canceller', newcomer: 'key-of-newcomer' } as const
const SCOPES: Readonly<Record<keyof typeof KEYS, readonly string[]>> = {
  operations: ['tasks:cancel', 'tasks:read', 'audit:read'],
  canceller: ['tasks:cancel'],
  newcomer: [],
}

const ENV = {
  CONSOLE_ENABLED: 'true',
  UPSTREAM_MAX_ATTEMPTS: '1',
  API_KEYS: JSON.stringify(
    Object.entries(KEYS).map(([name, key]) => ({
      name,
      sha256: sha256(key).toString('hex'),
      scopes: Object.entries(SCOPES).find(([owner]) => owner === name)?.[1],
    })),
  ),
}

const THROTTLED = { reply: { status: 400, code: 'Throttling.User' } }
const TYPES = ['CHG_DNS', 'ORDER_RENEW', 'CREATE_DNSHOST', 'UPDATE_REGISTRANT_CONTACT', 'VENDOR_TYPE_OF_TOMORROW']
const LONG_NAME = 'international-conference-on-distributed-systems-2026.example-university.edu.cn'
const TOO_LATE = '3f0c3cf4-92a5-4b3f-8d5e-5b6c2a60f001'
const MANY = 'b5a1f0de-06f5-4a7e-8d43-0f3a7f5f0002'

const addTasks = ({ upstream }: Started): readonly string[] =>
  Array.from({ length: 9 }, (_, index) =>
    upstream.addTask({
      ...(index === 0 ? { taskNo: TOO_LATE } : {}),
      taskType: TYPES[index % TYPES.length],
      domains: [
        ...(index === 5 ? [LONG_NAME] : []),
        ...Array.from({ length: 1 + ((index * 2) % 5) }, (_, nth) => `example-${index + 1}${nth}.com`),
      ],
      createdAt: Date.now() - (9 - index) * 5 * HOUR_MS,
    }),
  ).toReversed()

/** A store with a record that ended too late, of a person with a display name. */
const openStore = async (path: string) => {
  const store = await openSqliteStore(path)
  const person = { caller: '248289761001', callerDisplayName: 'Ann Lee', via: 'session', issuer: 'https://id' } as const
  const requestedAtMs = Date.now() - 2 * HOUR_MS
  const intent = intentOf({ ...person, taskNo: TOO_LATE, requestedAtMs, userAgent: 'Mozilla/5.0 (X11; Linux x86_64)' })
  const end = { outcome: 'too-late', finishedAtMs: requestedAtMs + 60_000, settledBy: 'query' } as const
  await store.append([intent], [outcomeOf(intent, end)])
  return store
}

interface Camera {
  readonly page: Page
  readonly isPhone: boolean
  /** Takes a picture, and checks the page in that state. */
  readonly shoot: (state: string, isWholePage?: 'whole') => Promise<void>
}

interface Stage extends Camera, Started {
  readonly origin: string
  /** `Prefer: wait` of each cancel, in seconds; null: without the header. */
  waitS: number | null
  readonly taskNos: readonly string[]
}

/** A page in a browser context of its own, whose faults in any state fail the test. */
const createCamera = async (t: TestContext, look: string, started: { readonly url: string }) => {
  const { page, origin } = await openBrowser(t, started, LOOKS[look])
  await page.addInitScript({ path: AXE })
  const found: string[] = []
  t.after(() => assert.deepEqual(found, []))
  const isPhone = page.viewportSize()?.width === PHONE.width
  const overhang = () => page.evaluate<number>('document.documentElement.scrollWidth - innerWidth')
  const shoot: Camera['shoot'] = async (state, isWholePage) => {
    const path = join(FOLDER, `${state}.${look}.png`)
    await page.mouse.move(0, 0)
    await page.screenshot({ path, animations: 'disabled', fullPage: isWholePage !== undefined })
    const where = `${state}, ${look}`
    if ((await overhang()) > 0) found.push(`${where}: wider than the screen`)
    if (isPhone) {
      await page.setViewportSize({ width: 320, height: 640 })
      if ((await overhang()) > 0) found.push(`${where}: wider than 320 px`)
      await page.setViewportSize(PHONE)
    }
    found.push(...(await seriousFaults(page, where)))
  }
  return { page, origin, isPhone, shoot }
}

const goTo = (page: Page, hash: string) => page.evaluate(`location.hash = ${JSON.stringify(hash)}`)

const confirm = (page: Page) => page.locator('dialog .danger')

/** Waits for the end of a step in the dialog, which has a single button then. */
const outcome = (page: Page) => page.locator('dialog:not(:has([role=timer]), :has(.danger)) .actions button')

const closeDialog = async (page: Page) => {
  await page.keyboard.press('Escape')
  await page.locator('dialog').waitFor({ state: 'detached' })
}

const signOut = (page: Page) => page.locator('.identity button').click()

const showSignIn = async ({ page, shoot, taskNos }: Stage) => {
  await page.locator('#key').waitFor()
  await shoot('sign-in')
  await page.locator('#key').fill('no-such-key')
  await page.locator('#key').press('Enter')
  await page.locator('.problem').waitFor()
  await shoot('sign-in-invalid-key')
  await signIn(page, KEYS.newcomer)
  await page.locator('.no-permissions').waitFor()
  await shoot('no-permissions')
  await signOut(page)

  await signIn(page, KEYS.canceller)
  await page.locator('#results .notice').waitFor()
  await shoot('list-forbidden')
  await goTo(page, `#/tasks/${taskNos[0]}`)
  await page.locator('#cancel').click()
  await confirm(page).waitFor()
  await shoot('confirm-not-readable')
  await closeDialog(page)
  await shoot('task-not-readable')
  await signOut(page)
  await goTo(page, '#/tasks')
}

const showList = async ({ page, shoot, isPhone, upstream }: Stage) => {
  const [list, names] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  await page.route(/\/tasks$/, (route) => list.promise.then(() => route.continue()))
  await page.route(/include=domains/, (route) => names.promise.then(() => route.continue()))
  await signIn(page, KEYS.operations)
  await page.locator('.loading').waitFor()
  await shoot('list-loading')
  list.resolve()
  await page.locator('tbody .name').first().waitFor()
  await shoot('list-loading-names')
  upstream.fault('QueryTaskDetailList', { reply: { status: 403, code: 'Forbidden.RAM' } }, Infinity)
  names.resolve()
  await page
    .locator('tbody a', { hasText: /not available now|无法获取/ })
    .first()
    .waitFor()
  await shoot('list-names-unavailable')
  upstream.clearFaults()
  await page.unrouteAll({ behavior: 'wait' })
  await page.locator('#refresh').click()
  await page.locator('tbody a', { hasText: 'example' }).nth(8).waitFor()
  await page.locator('h1').focus()
  await shoot('list')
  await shoot('list-whole', 'whole')
  await page.locator('time').nth(1).focus()
  await shoot('list-time')
  if (isPhone) await page.locator('#filters summary').click()
  await page.locator('#search').fill('nothing')
  await shoot('list-no-match')
  await page.locator('#search').fill('')
  if (isPhone) await page.locator('#filters summary').click()
  // The page refreshes the list by itself, too.
  upstream.fault('QueryTaskList', THROTTLED, Infinity)
  await page.locator('#refresh').click()
  await page.locator('.problem').waitFor()
  await shoot('list-refresh-failed')
  upstream.clearFaults()
  await goTo(page, '#/tasks?createdFrom=2020-01-01&createdTo=2020-01-02')
  await page.locator('#results .notice:visible').waitFor()
  await shoot('list-empty')
  upstream.fault('QueryTaskList', THROTTLED, Infinity)
  await goTo(page, '#/tasks')
  await page.locator('#retry').waitFor()
  await shoot('throttled')
  upstream.clearFaults()
  await page.locator('#retry').click()
  await page.locator('tbody a', { hasText: 'example' }).first().waitFor()
}

const showTask = async ({ page, shoot, upstream, taskNos }: Stage) => {
  await goTo(page, `#/tasks/${taskNos[0]}`)
  await page.locator('#cancel').waitFor()
  await shoot('task')
  await page.locator('#cancel').click()
  await confirm(page).waitFor()
  await shoot('confirm')
  await closeDialog(page)
  upstream.addTask({ taskNo: MANY, domains: Array.from({ length: 120 }, (_, nth) => `shop-${nth + 1}.example.cn`) })
  await goTo(page, `#/tasks/${MANY}`)
  await page.locator('#cancel').waitFor()
  await shoot('task-many-domains', 'whole')
  await page.locator('#cancel').click()
  await confirm(page).waitFor()
  await shoot('confirm-many-domains')
  await closeDialog(page)
  await goTo(page, '#/tasks/no-such-task')
  await page.locator('.problem').waitFor()
  await shoot('task-not-found')
  await page.route(/\/tasks\//, (route) => route.abort())
  await goTo(page, `#/tasks/${taskNos[1]}`)
  await page.locator('.problem', { hasText: /server|服务器/ }).waitFor()
  await shoot('unreachable')
  await page.unrouteAll()
  upstream.removeTask(MANY)
}

/** Opens a new task and confirms its cancellation. */
const cancelNew = async ({ page, upstream }: Stage, ...domains: readonly string[]) => {
  await goTo(page, `#/tasks/${upstream.addTask({ domains })}`)
  await page.locator('h1', { hasText: domains[0] ?? '' }).waitFor()
  await page.locator('#cancel').click()
  await confirm(page).click()
}

const showOutcomes = async (stage: Stage) => {
  const { page, shoot, upstream, api } = stage
  upstream.fault('CancelTask', { reply: { status: 400, code: 'TaskIsDone' } })
  await cancelNew(stage, 'refused.example.com', 'example.net')
  await outcome(page).waitFor()
  await shoot('refused')
  await page.locator('dialog summary').click()
  await shoot('refused-details')
  await closeDialog(page)

  upstream.fault('CancelTask', { reply: 'reset' })
  await cancelNew(stage, 'unknown.example.com', 'example.org')
  await page.locator('dialog .more-facts').waitFor()
  await shoot('unknown')
  await page.locator('dialog summary').click()
  await shoot('unknown-details')
  await closeDialog(page)

  stage.waitS = 10
  await cancelNew(stage, 'stopped.example.com')
  await page.locator('dialog [role=timer]', { hasText: '3' }).waitFor()
  await shoot('waiting')
  await page.goBack()
  await page.locator('dialog .hint:not(:empty)').waitFor()
  await shoot('waiting-blocked')
  await page.locator('dialog .actions button').click()
  await outcome(page).waitFor()
  await shoot('stopped')
  await closeDialog(page)

  stage.waitS = null
  await cancelNew(stage, 'accepted.example.com')
  await outcome(page).waitFor()
  await shoot('accepted')
  await closeDialog(page)

  stage.waitS = 1
  await cancelNew(stage, 'cancelling.example.com')
  await outcome(page).waitFor()
  await shoot('cancelling')
  await closeDialog(page)

  await page.route(/\/tasks\/[\w-]+$/, async (route) => {
    if (route.request().method() !== 'DELETE') return route.fallback()
    const { pathname } = new URL(route.request().url())
    const { body } = await api.delete(pathname).set('x-api-key', KEYS.operations)
    await route.fulfill({ json: { ...body, cancelStatus: 'cancelled' } })
  })
  await cancelNew(stage, 'cancelled.example.com')
  await outcome(page).waitFor()
  await shoot('cancelled')
  await closeDialog(page)
}

const showSeveral = async ({ page, shoot, upstream }: Stage) => {
  await goTo(page, '#/tasks')
  await page.locator('tbody a', { hasText: 'example' }).nth(8).waitFor()
  await page.locator('#select-all').check()
  await shoot('list-selected')
  await page.locator('#cancel-selected').click()
  await confirm(page).waitFor()
  await shoot('several')
  upstream.fault('CancelTask', { reply: { status: 400, code: 'TaskIsDone' } })
  upstream.fault('CancelTask', { reply: 'reset' })
  await confirm(page).click()
  await page.locator('dialog .badge.busy').first().waitFor()
  await shoot('several-sending')
  await page.locator('dialog:not(:has(.progress)) .actions button').waitFor()
  await shoot('several-results')
  await closeDialog(page)
}

const showHistory = async ({ page, shoot, isPhone }: Stage) => {
  await page.locator('#nav-history').click()
  await page.locator('tbody a', { hasText: 'example' }).first().waitFor()
  await shoot('history')
  await shoot('history-whole', 'whole')
  if (isPhone) {
    await page.locator('#filters summary').click()
    await shoot('history-filters')
  }
  await page.locator('tbody .details').first().click()
  await page.locator('dialog').waitFor()
  await shoot('history-drawer')
  await page.locator('dialog summary').click()
  await shoot('history-drawer-details')
  await closeDialog(page)
  await goTo(page, '#/history?outcome=too-late')
  await page.locator('#results:not([aria-busy]) tbody tr').waitFor()
  await page.locator('tbody .details').click()
  await shoot('history-too-late')
  await closeDialog(page)
  await goTo(page, '#/history?caller=nobody')
  await page.locator('#results .notice').waitFor()
  await shoot('history-empty')
}

const showProblemPages = async ({ page, shoot, origin }: Stage) => {
  await page.goto(`${origin}/problems`)
  await shoot('problem-index', 'whole')
  await page.goto(`${origin}/problems/outcome-unknown`)
  await shoot('problem-page')
  await page.locator('summary').click()
  await shoot('problem-page-details')
}

/** People at an identity provider. */
const showPeople = async (t: TestContext, look: string) => {
  const provider = await startProvider(t)
  const name = 'Maximiliane von Habsburg-Lothringen'
  provider.describe('maximiliane.habsburg@example.com', { scope: 'tasks:cancel tasks:read audit:read', name })
  let shiftMs = 0
  const started = await startGateway(t, {
    env: { ...provider.env, ...ENV, OIDC_SCOPES: 'openid profile' },
    overrides: { now: () => Date.now() + shiftMs },
    sandbox: LIFECYCLE,
  })
  const [taskNo] = addTasks(started)
  const { page, shoot } = await createCamera(t, look, started)
  await page.goto(`${started.url}/console#/tasks/${taskNo}`)
  await page.locator('.provider').waitFor()
  await shoot('sign-in-provider')

  await page.locator('.provider .button').click()
  await page.locator('a[href$="/abort"]').click()
  await page.locator('main .button').waitFor()
  await shoot('consent-declined')

  await page.goto(`${started.url}/console#/tasks/${taskNo}`)
  await page.locator('.provider .button').click()
  await page.locator('input[name=login]').fill('maximiliane.habsburg@example.com')
  await page.locator('input[name=password]').fill('any')
  await page.locator('button[type=submit]').click()
  await page.locator('#refresh').waitFor()
  await shoot('signed-in')
  shiftMs = HOUR_MS
  await page.locator('#refresh').click()
  await page.locator('.sign-in').waitFor()
  await shoot('session-ended')
}

const preferOf = (waitS: number | null): Record<string, string> => (waitS === null ? {} : { prefer: `wait=${waitS}` })

const openStage = async (t: TestContext, look: string): Promise<Stage> => {
  const options: StartOptions = { env: ENV, sandbox: LIFECYCLE, overrides: { openStore } }
  const started = await startGateway(t, options)
  const taskNos = addTasks(started)
  await started.api.delete(`/tasks/${taskNos[1]}`).set('x-api-key', KEYS.operations)
  const camera = await createCamera(t, look, started)
  const stage: Stage = { ...started, ...camera, taskNos, waitS: 1 }
  await camera.page.context().route(/\/tasks\/[\w-]+$/, (route) => {
    const { prefer: _prefer, ...headers } = route.request().headers()
    const isCancel = route.request().method() === 'DELETE'
    return route.continue(isCancel ? { headers: { ...headers, ...preferOf(stage.waitS) } } : {})
  })
  await camera.page.goto(`${camera.origin}/console`)
  return stage
}

if (!spawnSync('fc-list', [':lang=zh'], { encoding: 'utf8' }).stdout?.trim()) {
  throw new Error('the pictures need a Chinese font (Debian: apt-get install fontconfig fonts-wqy-zenhei)')
}

rmSync(FOLDER, { recursive: true, force: true })
mkdirSync(FOLDER)

for (const look of Object.keys(LOOKS)) {
  test(`every state, ${look}`, async (t) => {
    const stage = await openStage(t, look)
    await showSignIn(stage)
    await showList(stage)
    await showTask(stage)
    await showSeveral(stage)
    await showOutcomes(stage)
    await showHistory(stage)
    await showProblemPages(stage)
  })

  test(`people, ${look}`, (t) => showPeople(t, look))
}

interface Panel {
  readonly title: string
  readonly description: string
  readonly gridPos: { readonly w: number }
  readonly fieldConfig: { readonly defaults: { readonly unit: string; readonly thresholds?: Thresholds } }
}

interface Thresholds {
  readonly steps: readonly { readonly value: number | null; readonly color: string }[]
}

const LAYOUT_STYLE = `body{margin:8px;display:grid;grid-template-columns:repeat(24,1fr);gap:8px;background:#f4f6f9}
section{padding:6px 8px;background:#fff;color:#17202b;font:12px/1.35 system-ui,sans-serif}
h2{margin:0 0 2px;font-size:13px}p{margin:0}p+p{color:#4f5b69;margin-top:3px}`

/** The panels come row by row. */
const drawPanel = ({ title, description, gridPos, fieldConfig: { defaults } }: Panel): Html => {
  const steps = (defaults.thresholds?.steps ?? []).map(({ value, color }) => `${color}${value ? ` from ${value}` : ''}`)
  const facts = [`unit: ${defaults.unit}`, ...(steps.length > 1 ? [steps.join(', ')] : [])].join(' · ')
  return html`<section style="grid-column:span ${gridPos.w}"><h2>${title}</h2><p>${description}</p><p>${facts}</p></section>`
}

test('the layout of the dashboard', async (t) => {
  const { panels }: { readonly panels: readonly Panel[] } = JSON.parse(dashboardJson())
  const { page } = await openBrowser(t, { url: '' }, { viewport: { width: 1280, height: 100 } })
  await page.setContent(html`<style>${{ markup: LAYOUT_STYLE }}</style>${panels.map(drawPanel)}`.markup)
  await page.screenshot({ path: join(ROOT, 'docs', 'dashboard-layout.png'), fullPage: true })
})

after(() => {
  const names = readdirSync(FOLDER).filter((name) => name.endsWith('.png'))
  const figures = names.map((name) => `<figure><figcaption>${name}</figcaption><img src="${name}" alt=""></figure>\n`)
  const style = 'body{display:flex;flex-wrap:wrap;gap:1rem}figure{margin:0}img{width:24rem;border:1px solid}'
  writeFileSync(
    join(FOLDER, 'index.html'),
    `<!doctype html><title>States</title><style>${style}</style>${figures.join('')}`,
  )
  for (const [name, [look, state]] of Object.entries(DOCUMENTS)) {
    const picture = `${state}.${look}.png`
    if (names.includes(picture)) copyFileSync(join(FOLDER, picture), join(ROOT, 'docs', `console-${name}.png`))
  }
})
