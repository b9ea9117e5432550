import { existsSync } from 'node:fs'
import { after, type TestContext } from 'node:test'
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core'

const CHROMIUM_PATHS = [
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
] as const

export const chromiumPath = (): string | undefined => CHROMIUM_PATHS.find((path) => existsSync(path))

/** The browser resolves only these names, to loopback. Pages can behave differently on a loopback address. */
const HOST = 'gateway.example.com'
/** Hosts of an app in `CORS_ORIGINS`, and of one that is not. */
export const APP_HOST = 'app.example.com'
export const UNTRUSTED_HOST = 'stranger.example.com'

const RULES = [
  ...[HOST, APP_HOST, UNTRUSTED_HOST].map((host) => `MAP ${host} 127.0.0.1`),
  'MAP * ~NOTFOUND',
  ...['127.0.0.1', 'localhost'].map((host) => `EXCLUDE ${host}`),
]

const ARGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  `--host-resolver-rules=${RULES.join()}`,
  // Without it, the browser warns about headers that require TLS.
  '--unsafely-treat-insecure-origin-as-secure=*.example.com',
] as const

let launched: Promise<Browser> | undefined

/** One browser for all tests of a file; each test has its own browser context. */
const launch = (): Promise<Browser> => {
  launched ??= chromium.launch({ executablePath: chromiumPath() ?? 'chromium', args: [...ARGS] })
  return launched
}

after(async () => (await launched)?.close())

/** A page in its own browser context. */
export interface BrowserPage {
  readonly page: Page
  /** The origin of the gateway, with a name that is not loopback. */
  readonly origin: string
  /** Script errors and console warnings: a violated policy, a missing file. */
  readonly complaints: readonly string[]
  /** Every requested URL. */
  readonly requested: readonly string[]
}

/** Opens a page in a new browser context, which closes after the test. */
export const openBrowser = async (
  t: TestContext,
  { url }: { readonly url: string },
  options: BrowserContextOptions = {},
): Promise<BrowserPage> => {
  const origin = url.replace('127.0.0.1', HOST)
  const context = await (await launch()).newContext(options)
  t.after(() => context.close())
  // Less than the timeout of a test: a busy machine takes long to load a page.
  context.setDefaultTimeout(90_000)
  const page = await context.newPage()
  const complaints: string[] = []
  const requested: string[] = []
  page.on('pageerror', (error) => complaints.push(error.message))
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(message.text())
  })
  page.on('request', (request) => requested.push(request.url()))
  return { page, origin, complaints, requested }
}
