import type { TestContext } from 'node:test'
import type { BrowserContextOptions, Page } from 'playwright-core'
import { openBrowser } from './browser.ts'
import { type Started, type StartOptions, startGateway } from './gateway.ts'

interface ConsoleOptions extends StartOptions {
  readonly browser?: BrowserContextOptions
  /** The API key to sign in with; without it the page stays signed out. */
  readonly key?: string
  /** The hash of the URL. */
  readonly hash?: string
  /** Runs before the page opens, for example to add tasks. */
  readonly prepare?: (started: Started) => unknown
}

export interface OpenConsole extends Started {
  readonly page: Page
  readonly origin: string
  /** Errors and warnings of the page, except for the 401 of the session request before the sign-in. */
  complaints(): readonly string[]
  /** Requested URLs of other origins than the gateway. */
  foreign(): readonly string[]
  /** Every request since the page was opened: method and path, and the headers that the page set. */
  readonly sent: readonly SentRequest[]
}

interface SentRequest {
  readonly line: string
  readonly headers: Readonly<Record<string, string>>
}

/** Starts a gateway with its console, and opens the console in a browser. */
export const openConsole = async (t: TestContext, options: ConsoleOptions = {}): Promise<OpenConsole> => {
  const started = await startGateway(t, { ...options, env: { CONSOLE_ENABLED: 'true', ...options.env } })
  await options.prepare?.(started)
  const visit = await openBrowser(t, started, options.browser)
  const isAnonymous = options.env?.ALLOW_ANONYMOUS === 'true'
  const { page } = visit
  // With anonymous access the gateway accepts only loopback host names.
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

/** The texts of the displayed table, by row and cell. */
export const tableRows = (page: Page): Promise<string[][]> =>
  page
    .locator('#results:not([aria-busy]) tbody tr')
    .evaluateAll((rows) => rows.map((row) => [...row.children].map((cell) => cell.textContent ?? '')))

/** Resolves once the view has displayed its results. */
export const waitForResults = (page: Page): Promise<void> => page.locator('#results:not([aria-busy])').waitFor()
