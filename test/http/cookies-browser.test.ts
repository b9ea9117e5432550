import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { test } from 'node:test'
import { APP_HOST, openBrowser } from '../helpers/browser.ts'
import { startGateway } from '../helpers/gateway.ts'
import { listenOn } from '../helpers/ports.ts'
import { requires } from '../helpers/requirements.ts'
import { SIGN_IN_ENV, sessionCookie } from '../helpers/session.ts'

const NAME = '__Host-session'

const cookieOf = async (sub: string): Promise<string> =>
  (await sessionCookie({}, undefined, sub)).cookie.slice(NAME.length + 1)

/** Names that a sibling tries; the empty one makes a browser send the value alone. */
const NAMES: readonly string[] = [
  ...['\u00a0', '\u0085', '\ufeff', '\u2000', '\u3000', '"', ',', ' ', '\t'].flatMap((odd) => [odd + NAME, NAME + odd]),
  NAME,
  '__host-session',
  '__HOST-SESSION',
  `"${NAME}"`,
  `=${NAME}`,
  ` = ${NAME}`,
  `a=b; ${NAME}`,
]

test('a sibling subdomain can neither end nor replace a session in a browser, whatever cookies it plants', async (t) => {
  if (!requires(t, 'chromium')) return
  const [victim, attacker] = [await cookieOf('victim'), await cookieOf('attacker')]
  const lines = NAMES.flatMap((name) =>
    ['/', '/me'].map((path) => `${name}=${attacker}; Domain=example.com; Path=${path}`),
  )
  const sibling = createServer((_req, res) => {
    // Latin-1 bytes of the header, so that the browser gets each name as UTF-8 and as single bytes.
    const inBytes = lines.map((line) => Buffer.from(line).toString('latin1'))
    const single = lines.filter((line) => /^[\0-\xff]*$/.test(line))
    res.setHeader('set-cookie', [...inBytes, ...single]).setHeader('content-type', 'text/html')
    res.end('<!doctype html><title>Sibling')
  })
  const port = await listenOn(t, sibling)
  const { page, origin } = await openBrowser(t, await startGateway(t, { env: SIGN_IN_ENV }))
  const context = page.context()
  const own = { domain: new URL(origin).hostname, path: '/', secure: true, httpOnly: true, sameSite: 'Strict' } as const
  await context.addCookies([{ name: NAME, value: victim, ...own }])

  await page.goto(`http://${APP_HOST}:${port}/`)
  await page.evaluate(`for (const line of ${JSON.stringify(lines)}) document.cookie = line`)

  const planted = (await context.cookies()).filter(({ value }) => value.includes(attacker))
  assert.ok(planted.length >= 10, `only ${planted.length} cookies were planted`)
  assert.deepEqual(
    planted.filter(({ name }) => name === NAME),
    [],
  )
  await page.goto(`${origin}/me`)
  assert.equal(JSON.parse((await page.locator('body').textContent()) ?? '').name, 'victim')
})
