import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { SESSION_COOKIE } from '../../src/http/middleware/cookies.ts'
import { beginSignIn, startFakeProvider } from '../helpers/fake-provider.ts'
import { eventually, type StartOptions, startGateway } from '../helpers/gateway.ts'
import { createVisitor } from '../helpers/provider.ts'

// One browser that signs in from several windows, loads pages again, and loads some before a person asks for them.

const MINUTE_MS = 60_000
const COOKIES_MAX_BYTES = 4096

const start = async (t: TestContext, options: StartOptions = {}) => {
  // The identity provider has the real time: a clock that stands still would differ from it more and more.
  let shiftMs = 0
  const provider = await startFakeProvider(t)
  const gateway = await startGateway(t, {
    ...options,
    env: { ...provider.env, ...options.env },
    overrides: { now: () => Date.now() + shiftMs, ...options.overrides },
  })
  const visitor = createVisitor()
  /** A moment after the one before. */
  const begin = async (query?: string) => {
    const back = await beginSignIn(provider, visitor, gateway.url, query)
    shiftMs += 1
    return back
  }
  const later = (ms: number): void => {
    shiftMs += ms
  }
  const session = () => visitor.cookie(gateway.url, SESSION_COOKIE.name)
  return { provider, gateway, visitor, begin, later, session }
}

const HTML = { headers: { accept: 'text/html' } }

const statusesOf = (responses: readonly Response[]): readonly number[] => responses.map(({ status }) => status)

test('of two windows that sign in at the same time both succeed, in either order', async (t) => {
  const { visitor, begin, session } = await start(t)
  const [first, second] = [await begin(), await begin()]
  assert.equal((await visitor.visit(first)).status, 200)
  assert.equal((await visitor.visit(second)).status, 200)
  const [third, fourth] = [await begin(), await begin()]
  assert.equal((await visitor.visit(fourth)).status, 200)
  assert.equal((await visitor.visit(third)).status, 200)
  assert.ok(session())
})

test('four sign-ins can be pending, and a fifth takes the place of the oldest', async (t) => {
  const { visitor, begin, gateway } = await start(t)
  const [oldest, ...others] = [await begin(), await begin(), await begin(), await begin(), await begin()]
  assert.equal(visitor.signInCookies(gateway.url).length, 4)
  const page = await visitor.visit(oldest ?? '', HTML)
  assert.equal(page.status, 400)
  assert.match(await page.text(), /<a class="button" href="login">/)
  for (const back of others) assert.equal((await visitor.visit(back)).status, 200)
})

test('what is complete makes room before what is pending', async (t) => {
  const { visitor, begin } = await start(t)
  const pending = [await begin()]
  for (const _ of [1, 2, 3, 4]) assert.equal((await visitor.visit(await begin())).status, 200)
  pending.push(await begin(), await begin(), await begin())
  const pages: Response[] = []
  for (const back of pending) pages.push(await visitor.visit(back))
  assert.deepEqual(statusesOf(pages), [200, 200, 200, 200])
})

test('a pending sign-in ends after ten minutes, whatever others do', async (t) => {
  const { visitor, begin, later } = await start(t)
  const first = await begin()
  later(5 * MINUTE_MS)
  const second = await begin()
  later(5 * MINUTE_MS)
  assert.equal((await visitor.visit(first)).status, 400)
  assert.equal((await visitor.visit(second)).status, 200)
})

const bytesOf = (visitor: ReturnType<typeof createVisitor>, url: string): number => visitor.cookieHeader(url).length

for (const length of [1, 200, 400, 700, 1000]) {
  test(`cookies stay under 4 KiB with a returnTo of ${length} characters, and the newest sign-in succeeds`, async (t) => {
    const { visitor, begin, gateway } = await start(t)
    const query = `?returnTo=/${'x'.repeat(length - 1)}`
    for (let time = 0; time < 7; time += 1) {
      const back = await begin(query)
      assert.ok(bytesOf(visitor, gateway.url) < COOKIES_MAX_BYTES, `${bytesOf(visitor, gateway.url)} bytes`)
      if (time % 3 === 2) assert.equal((await visitor.visit(back)).status, 200)
      assert.ok(bytesOf(visitor, gateway.url) < COOKIES_MAX_BYTES, `${bytesOf(visitor, gateway.url)} bytes`)
    }
    assert.equal((await visitor.visit(await begin(query))).status, 200)
  })
}

for (const count of [0, 40, 70, 75]) {
  test(`cookies stay under 4 KiB after a sign-in with ${count} domains beside pending ones`, async (t) => {
    const { provider, visitor, begin, gateway } = await start(t, { env: { DOMAINS_CLAIM: 'domains' } })
    provider.claims = { domains: Array.from({ length: count }, (_, at) => `domain-number-${at}.example.com`) }
    const query = `?returnTo=/${'x'.repeat(200)}`
    for (const _ of [1, 2, 3]) await begin(query)
    assert.equal((await visitor.visit(await begin(query))).status, 200)
    assert.ok(bytesOf(visitor, gateway.url) < COOKIES_MAX_BYTES, `${bytesOf(visitor, gateway.url)} bytes`)
  })
}

for (const [name, count, status] of [
  ['that fit', 110, 302],
  ['that are too long for a cookie once they are escaped', 112, 400],
] as const) {
  test(`a returnTo of characters ${name} is answered with ${status}`, async (t) => {
    const { gateway, visitor, provider } = await start(t)
    const path = `/${'域'.repeat(count)}`
    const login = await visitor.visit(`${gateway.url}/auth/login?returnTo=${encodeURIComponent(path)}`)
    assert.equal(login.status, status)
    if (status !== 302) return
    const page = await visitor.visit(provider.callbackOf(login))
    assert.ok((await page.text()).includes(encodeURI(path)))
  })
}

test('a callback that is loaded again shows its page, begins no session and asks the provider nothing', async (t) => {
  const { provider, gateway, visitor, begin } = await start(t)
  const back = await begin('?returnTo=/me?a=b')
  const first = await (await visitor.visit(back)).text()
  const before = provider.paths.length
  for (const _ of [1, 2]) {
    const again = await visitor.visit(back)
    assert.deepEqual([again.status, again.headers.getSetCookie()], [200, []])
    assert.equal(await again.text(), first)
  }
  assert.equal(provider.paths.length, before)
  // After signing out as well.
  const headers = { 'x-csrf': '1', origin: 'https://gateway.example.com' }
  assert.equal((await visitor.visit(`${gateway.url}/auth/logout`, { method: 'POST', headers })).status, 200)
  assert.deepEqual((await visitor.visit(back)).headers.getSetCookie(), [])
  assert.equal((await visitor.visit(`${gateway.url}/me`)).status, 401)
})

test('a callback that is loaded again counts against no limit', async (t) => {
  const { visitor, begin } = await start(t, { env: { RATE_LIMIT_UNKNOWN_MAX: '1', RATE_LIMIT_MAX: '1' } })
  const back = await begin()
  for (const _ of [1, 2, 3, 4]) assert.equal((await visitor.visit(back)).status, 200)
})

test('a completed sign-in is remembered for a short time, and shows nothing of another', async (t) => {
  const { visitor, begin, later, gateway } = await start(t)
  const back = await begin()
  await visitor.visit(back)
  const [, marker = ''] = visitor.signInCookies(gateway.url).at(-1) ?? []
  const other = await begin('?returnTo=/tasks')
  const [name = ''] = visitor.signInCookies(gateway.url).at(-1) ?? []
  visitor.setCookie(gateway.url, name, marker)
  assert.equal((await visitor.visit(other)).status, 400)
  later(5 * MINUTE_MS)
  const late = await visitor.visit(back, HTML)
  assert.deepEqual([late.status, /<a class="button" href="login">/.test(await late.text())], [400, true])
})

test('of two callbacks at the same time one sends the code, both have the session, and one sign-out ends it', async (t) => {
  const { provider, gateway, visitor, begin } = await start(t)
  const back = await begin()
  const cookie = visitor.cookieHeader(gateway.url)
  const { promise: released, resolve: release } = Promise.withResolvers<void>()
  provider.onToken = () => released
  const decrypt = t.mock.method(crypto.subtle, 'decrypt')
  const both = [1, 2, 3].map(() => fetch(back, { headers: { cookie } }))
  // Each opens the cookie, and then waits for the provider.
  await eventually(() => (decrypt.mock.callCount() >= both.length && provider.tokenRequests.length > 0) || undefined)
  for (const _ of both) await fetch(`${gateway.url}/livez`)
  release()
  const pages = await Promise.all(both)
  assert.deepEqual(statusesOf(pages), [200, 200, 200])
  assert.equal(provider.tokenRequests.length, 1)
  const sessions = pages.map((page) => /__Host-session=[^;]+/.exec(page.headers.getSetCookie().join('\n'))?.[0] ?? '')
  const me = async (session: string) => (await fetch(`${gateway.url}/me`, { headers: { cookie: session } })).status
  assert.deepEqual(await Promise.all(sessions.map(me)), [200, 200, 200])
  const [first = ''] = sessions
  const headers = { 'x-csrf': '1', origin: 'https://gateway.example.com', cookie: first }
  await fetch(`${gateway.url}/auth/logout`, { method: 'POST', headers })
  assert.deepEqual(await Promise.all(sessions.map(me)), [401, 401, 401])
})

test('a code is sent once, whether it was of use or not', async (t) => {
  const { provider, gateway, visitor, begin } = await start(t)
  for (const tokens of [{}, { id_token: 'x' }]) {
    provider.tokens = tokens
    const back = await begin()
    const cookie = visitor.cookieHeader(gateway.url)
    const before = provider.tokenRequests.length
    await visitor.visit(back)
    for (const _ of [1, 2, 3]) assert.equal((await fetch(back, { headers: { cookie } })).status, 400)
    assert.equal(provider.tokenRequests.length - before, 1)
  }
})

for (const [name, query, path] of [
  ['parameters of a sign-in that a third party begins', '?iss=https://id.example.com&login_hint=ann', '/me'],
  ['target_link_uri', '?target_link_uri=https://evil.example/', '/me'],
  ['parameters that nobody knows, twice', '?utm_source=x&utm_source=y&__proto__=x&constructor=1', '/me'],
  ['an empty returnTo', '?returnTo=', '/me'],
  ['a returnTo beside other parameters', '?x=1&returnTo=/tasks&prompt=login', '/tasks'],
] as const) {
  test(`a sign-in with ${name} leads to ${path}`, async (t) => {
    const { visitor, begin } = await start(t)
    const page = await visitor.visit(await begin(query))
    assert.ok((await page.text()).includes(`url=https://gateway.example.com${path}">`))
  })
}

/** Requests that a browser or a program sends before or without a person. */
const PREVIEWS: readonly RequestInit[] = [
  { method: 'HEAD' },
  ...['sec-purpose', 'purpose', 'x-moz'].map((name) => ({ headers: { [name]: 'prefetch' } })),
  { headers: { 'sec-purpose': 'prefetch;prerender' } },
  { headers: { 'sec-purpose': 'prefetch;anonymous-client-ip' } },
  { headers: { 'x-purpose': 'preview' } },
  { method: 'HEAD', headers: { purpose: 'prefetch' } },
]

test('the answer to a prefetch is documented', async (t) => {
  const { gateway } = await start(t)
  for (const path of ['/auth/login', '/auth/callback']) {
    const { status, body } = await gateway.api.get(path).set({ 'sec-purpose': 'prefetch' })
    assert.deepEqual([status, body.code], [400, 'sign-in-failed'])
  }
})

for (const init of PREVIEWS) {
  test(`${JSON.stringify(init)} begins no sign-in, counts as none, and completes none`, async (t) => {
    const { gateway, visitor, begin, provider } = await start(t, { env: { RATE_LIMIT_UNKNOWN_MAX: '1' } })
    for (const _ of [1, 2]) {
      const preview = await visitor.visit(`${gateway.url}/auth/login`, init)
      assert.deepEqual(preview.headers.getSetCookie(), [])
      assert.notEqual(preview.status, 429)
    }
    const back = await begin()
    for (const _ of [1, 2]) {
      const preview = await visitor.visit(back, init)
      assert.deepEqual([preview.status, preview.headers.getSetCookie()], [400, []])
    }
    assert.equal(provider.tokenRequests.length, 0)
    assert.equal((await visitor.visit(back)).status, 200)
  })
}

test('a HEAD of the sign-in tells where a GET would lead', async (t) => {
  const { gateway, visitor, provider } = await start(t)
  const { status, headers } = await visitor.visit(`${gateway.url}/auth/login`, { method: 'HEAD' })
  assert.equal(status, 302)
  assert.match(headers.get('location') ?? '', new RegExp(`^${provider.url}/authorize\\?`))
})

for (const skewMs of [-5000, -500, 500, 5000]) {
  test(`a sign-in that another replica began is completed at a clock that differs by ${skewMs} ms`, async (t) => {
    const { provider, visitor, begin } = await start(t)
    const other = await startGateway(t, { env: provider.env, overrides: { now: () => Date.now() + skewMs } })
    const back = await begin()
    assert.equal((await visitor.visit(`${other.url}${back.pathname}${back.search}`)).status, 200)
  })
}
