import type { TestContext } from 'node:test'
import type { BrowserContextOptions, Page } from 'playwright-core'
import { openBrowser } from './browser.ts'
import { type Started, type StartOptions, startGateway } from './gateway.ts'

interface ConsoleOptions extends StartOptions {
  readonly browser?: BrowserContextOptions
  /** The key to sign in with; without one the page is left as it opens. */
  readonly key?: string
  /** Where on the page to begin. */
  readonly hash?: string
  /** Makes tasks before anybody looks. */
  readonly prepare?: (started: Started) => unknown
}

export interface OpenConsole extends Started {
  readonly page: Page
  readonly origin: string
  /** What the page complained of, but for the question who is there before anybody has signed in. */
  complaints(): readonly string[]
  /** Addresses asked for elsewhere than at the gateway. */
  foreign(): readonly string[]
  /** Every request since the page was opened: method and path, and the headers that the page set. */
  readonly sent: readonly SentRequest[]
}

interface SentRequest {
  readonly line: string
  readonly headers: Readonly<Record<string, string>>
}

/** The gateway with its console, and a browser that looks at it. */
export const openConsole = async (t: TestContext, options: ConsoleOptions = {}): Promise<OpenConsole> => {
  const started = await startGateway(t, { ...options, env: { CONSOLE_ENABLED: 'true', ...options.env } })
  await options.prepare?.(started)
  const visit = await openBrowser(t, started, options.browser)
  const isAnonymous = options.env?.ALLOW_ANONYMOUS === 'true'
  const { page } = visit
  // Where anybody may call, only names of the machine itself are answered.
  const origin = isAnonymous ? started.url : visit.origin
  const sent: SentRequest[] = []
  page.on('request', (request) => {
    const { pathname, search } = new URL(request.url())
    sent.push({ line: `${request.method()} ${pathname}${search}`, headers: request.headers() })
  })
  await page.goto(`${origin}/console${options.hash ?? ''}`)
  if (options.key !== undefined) await signIn(page, options.key)
  return {
    ...started,
    page,
    origin,
    sent,
    complaints: () => visit.complaints.filter((text) => !/ 401 /.test(text)),
    foreign: () => visit.requested.filter((address) => !address.startsWith(`${origin}/`)),
  }
}

export const signIn = async (page: Page, key: string): Promise<void> => {
  await page.locator('#key').fill(key)
  await page.locator('#key').press('Enter')
  await page.locator('#who').waitFor()
}

/** What the rows of the shown table say, cell by cell. */
export const tableRows = (page: Page): Promise<string[][]> =>
  page
    .locator('#results:not([aria-busy]) tbody tr')
    .evaluateAll((rows) => rows.map((row) => [...row.children].map((cell) => cell.textContent ?? '')))

/** Resolves once the view has shown what it was asked for. */
export const waitForResults = (page: Page): Promise<void> => page.locator('#results:not([aria-busy])').waitFor()
