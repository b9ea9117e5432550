import { existsSync } from 'node:fs'
import { after, type TestContext } from 'node:test'
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core'

const CHROMIUM_PATHS = [
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
] as const

/** Where Chromium is on this machine. */
export const chromiumPath = (): string | undefined => CHROMIUM_PATHS.find((path) => existsSync(path))

/** Names that the browser takes for this machine, since pages can behave otherwise on a loopback address. No other leads anywhere. */
const HOST = 'gateway.example.com'
/** Of an app that may be told of the gateway's answers, and of one that is nobody's. */
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
  // Without TLS it would complain of headers that only work with it.
  '--unsafely-treat-insecure-origin-as-secure=*.example.com',
] as const

let launched: Promise<Browser> | undefined

/** One for all tests of a file: each has windows of its own, which know nothing of others. */
const launch = (): Promise<Browser> => {
  launched ??= chromium.launch({ executablePath: chromiumPath() ?? 'chromium', args: [...ARGS] })
  return launched
}

after(async () => (await launched)?.close())

/** A page of a browser of its own, and what a visitor would rather not see there. */
export interface BrowserPage {
  readonly page: Page
  /** The gateway, by a name that is not loopback. */
  readonly origin: string
  /** Errors of scripts, and all that the browser complains of: a policy that was broken, a file that was not there. */
  readonly complaints: readonly string[]
  /** Every address that was asked for. */
  readonly requested: readonly string[]
}

/** Opens a window that knows nothing from before, for a gateway on this machine; it is gone after the test. */
export const openBrowser = async (
  t: TestContext,
  { url }: { readonly url: string },
  options: BrowserContextOptions = {},
): Promise<BrowserPage> => {
  const origin = url.replace('127.0.0.1', HOST)
  const context = await (await launch()).newContext(options)
  t.after(() => context.close())
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
