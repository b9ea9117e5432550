import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { SESSION_COOKIE } from '../../src/http/middleware/cookies.ts'
import { createSecret } from '../../src/settings/secret-strength.ts'
import { API_KEYS, asOperator, cancelCalls, type StartOptions, startGateway } from '../helpers/gateway.ts'
import { createVisitor, startProvider } from '../helpers/provider.ts'
import { SESSION_SECRET, SIGN_IN_ENV, sessionCookie, sessionCookies } from '../helpers/session.ts'

const IDLE_MS = 900_000
const MAX_MS = 3_600_000
/** Clocks of replicas may differ by so much. */
const TOLERANCE_MS = 5000
const SCOPES = { scope: 'tasks:cancel tasks:read audit:read' }

/** A gateway, and the cookie of a person that has signed in there. */
const start = async (t: TestContext, options: StartOptions = {}) => {
  let frozenMs: number | null = null
  const provider = await startProvider(t)
  provider.describe('ann', SCOPES)
  const overrides = { ...options.overrides, now: () => frozenMs ?? Date.now() }
  const gateway = await startGateway(t, { ...options, overrides, env: { ...provider.env, ...options.env } })
  const visitor = createVisitor()
  const back = await visitor.authenticate(gateway.url, 'ann')
  // The identity provider has the real time, and issues its token now.
  let nowMs = Date.now()
  frozenMs = nowMs
  await visitor.visit(back)
  const cookie = visitor.cookie(gateway.url, SESSION_COOKIE.name) ?? ''
  const own = { origin: gateway.url, 'x-csrf': '1' }
  const later = (ms: number): void => {
    nowMs += ms
    frozenMs = nowMs
  }
  return { provider, gateway, visitor, cookie, own, later }
}

const cookieHeader = (value: string, name: string = SESSION_COOKIE.name) => ({ cookie: `${name}=${value}` })

const renewed = (headers: Readonly<Record<string, unknown>>): string | undefined =>
  /__Host-session=([^;]+)/.exec(String(headers['set-cookie'] ?? ''))?.[1]

const NEW_SECRET = createSecret()

test('a session ends after its idle time, however often a page has polled meanwhile', async (t) => {
  const { gateway, cookie, later } = await start(t)
  for (const _ of [1, 2, 3]) {
    later(IDLE_MS / 3 - 1)
    const { status, headers } = await gateway.api.get('/me').set(cookieHeader(cookie))
    assert.deepEqual([status, headers['set-cookie']], [200, undefined])
  }
  later(3 + TOLERANCE_MS)
  const { status, body } = await gateway.api.get('/me').set(cookieHeader(cookie))
  assert.deepEqual([status, body.code], [401, 'unauthenticated'])
})

test('what somebody does keeps a session alive, up to its end and not beyond', async (t) => {
  const { gateway, cookie, own, later } = await start(t)
  let current = cookie
  // The last time shortly before the end, so that another idle time would lead beyond it.
  for (let agedMs = 0; agedMs < MAX_MS; agedMs += IDLE_MS / 2) {
    const { status, headers } = await gateway.api.get('/me').set({ ...own, ...cookieHeader(current) })
    assert.equal(status, 200)
    current = renewed(headers) ?? ''
    later(IDLE_MS / 2)
  }
  later(TOLERANCE_MS)
  assert.equal((await gateway.api.get('/me').set(cookieHeader(current))).status, 401)
})

test('a clock that was ahead makes no session last longer', async (t) => {
  const { gateway, cookie, later } = await start(t)
  later(-TOLERANCE_MS - 1)
  assert.equal((await gateway.api.get('/me').set(cookieHeader(cookie))).status, 401)
})

test('who has signed out is not let in by a renewal that was under way, nor by a copy', async (t) => {
  const { gateway, cookie, own } = await start(t)
  const { headers } = await gateway.api.get('/me').set({ ...own, ...cookieHeader(cookie) })
  await gateway.api.post('/auth/logout').set({ ...own, ...cookieHeader(cookie) })
  for (const value of [cookie, renewed(headers) ?? '']) {
    assert.equal((await gateway.api.get('/me').set(cookieHeader(value))).status, 401)
  }
})

test('who signs in anew after signing out is let in', async (t) => {
  const { gateway, visitor, cookie, own } = await start(t)
  await gateway.api.post('/auth/logout').set({ ...own, ...cookieHeader(cookie) })
  await visitor.signIn(gateway.url, 'ann')
  assert.equal((await visitor.visit(`${gateway.url}/me`)).status, 200)
})

test('a cookie that was taken works until its own idle time is over, whatever its owner does', async (t) => {
  const { gateway, cookie, own, later } = await start(t)
  later(IDLE_MS - 1)
  const { headers } = await gateway.api.get('/me').set({ ...own, ...cookieHeader(cookie) })
  later(1 + TOLERANCE_MS)
  assert.equal((await gateway.api.get('/me').set(cookieHeader(cookie))).status, 401)
  assert.equal((await gateway.api.get('/me').set(cookieHeader(renewed(headers) ?? ''))).status, 200)
})

test('a sign-out is not forgotten, however many follow it', async (t) => {
  const { api, url } = await startGateway(t, { env: SIGN_IN_ENV })
  const own = { origin: SIGN_IN_ENV.PUBLIC_URL ?? '', 'x-csrf': '1' }
  const signOut = (cookie: string) => fetch(`${url}/auth/logout`, { method: 'POST', headers: { ...own, cookie } })
  const { cookie } = await sessionCookie()
  assert.equal((await signOut(cookie)).status, 200)
  // Three cookies with each request: all of them are signed out.
  const others = await sessionCookies(10_050)
  const requests = Array.from({ length: others.length / 3 }, (_, index) => others.slice(3 * index, 3 * index + 3))
  for (let first = 0; first < requests.length; first += 50) {
    const answers = await Promise.all(requests.slice(first, first + 50).map((three) => signOut(three.join('; '))))
    assert.ok(answers.every(({ status }) => status === 200))
  }
  assert.equal((await api.get('/me').set({ cookie })).status, 401)
})

/** Sealed by an earlier version on 2026-01-01: its identifier is a UUID. */
const FORMER =
  'eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..5X_OqN5ZdO9Dg27Z.C9Ki-GGpWTiMtAbQWb5DKaV_7ugtdv_a55hLxF0qfx5EXmvlKLYss_oAvitq4xffVIcFM1fFKKeUDRZlWU6jXZtDvzkmODiqK65beU_Vwp4sm1BJJANWXye8UVAL_dRy2H4G6KnSS99qLBL7FJ5JZJ4cnzA2Faug-2YHDkUGsbhvfyyuDW0Fr41i-im6xDnerq092XvYBocQantVlnkBVu6fTVPH2Xb8tDjV0NI.br9eSCAQse5ib6rQrrAYmw'

test('a session of an earlier version goes on, and can be signed out', async (t) => {
  const { api } = await startGateway(t, { env: SIGN_IN_ENV, overrides: { now: () => Date.UTC(2026, 0, 1) } })
  const own = { origin: SIGN_IN_ENV.PUBLIC_URL ?? '', 'x-csrf': '1' }
  const { status, headers } = await api.get('/me').set({ ...own, ...cookieHeader(FORMER) })
  assert.equal(status, 200)
  await api.post('/auth/logout').set({ ...own, ...cookieHeader(FORMER) })
  for (const value of [FORMER, renewed(headers) ?? '']) {
    assert.equal((await api.get('/me').set(cookieHeader(value))).status, 401)
  }
})

const flip = (text: string, at: number): string =>
  `${text.slice(0, at)}${text.at(at) === 'A' ? 'B' : 'A'}${text.slice(at + 1)}`

test('a cookie that was changed anywhere is nobody’s', async (t) => {
  const { gateway, cookie } = await start(t)
  const parts = cookie.split('.')
  const starts = parts.map((_, index) => parts.slice(0, index).join('.').length + 1)
  const changed = [
    ...starts.filter((at) => cookie.at(at) !== '.').map((at) => flip(cookie, at)),
    cookie.slice(0, -4),
    `${cookie}A`,
    cookie.toLowerCase(),
    '',
    'null',
    '{}',
  ]
  for (const value of changed) {
    const { status } = await gateway.api.get('/me').set(cookieHeader(value))
    assert.equal(status, 401, value)
  }
})

test('the cookie of another purpose, secret, client or rule is nobody’s', async (t) => {
  const { gateway, visitor, provider, cookie } = await start(t)
  await visitor.visit(`${gateway.url}/auth/login`)
  const [[, signIn] = []] = visitor.signInCookies(gateway.url).slice(-1)
  assert.equal((await gateway.api.get('/me').set(cookieHeader(signIn ?? ''))).status, 401)
  for (const changes of [
    { SESSION_SECRET: NEW_SECRET },
    { DOMAINS_CLAIM: 'domains' },
    { OIDC_CLIENT_ID: 'other' },
    { OIDC_ISSUER: 'https://b.example' },
  ]) {
    const other = await startGateway(t, { env: { ...provider.env, PORT: '0', ...changes } })
    const { status } = await other.api.get('/me').set(cookieHeader(cookie))
    assert.equal(status, 401, JSON.stringify(changes))
  }
})

test('a new secret takes over, and the old one still opens what it sealed', async (t) => {
  const { provider, cookie, own } = await start(t)
  const secrets = `${NEW_SECRET}, ${SESSION_SECRET}`
  const env = { ...provider.env, PORT: '0' }
  const rotating = await startGateway(t, { env: { ...env, SESSION_SECRET: secrets } })
  const { status, headers } = await rotating.api.get('/me').set({ ...own, ...cookieHeader(cookie) })
  assert.equal(status, 200)
  const rotated = await startGateway(t, { env: { ...env, SESSION_SECRET: NEW_SECRET } })
  assert.equal((await rotated.api.get('/me').set(cookieHeader(cookie))).status, 401)
  assert.equal((await rotated.api.get('/me').set(cookieHeader(renewed(headers) ?? ''))).status, 200)
})

test('a session and any other credential at once are ambiguous', async (t) => {
  const { gateway, cookie } = await start(t)
  for (const extra of [
    asOperator,
    { authorization: 'Bearer x' },
    cookieHeader(`${cookie}; __Host-session=${cookie}`),
  ]) {
    const { status, body } = await gateway.api.get('/me').set({ ...cookieHeader(cookie), ...extra })
    assert.deepEqual([status, body.code], [400, 'credentials-ambiguous'])
  }
})

test('where nobody signs in, a cookie of that name is another program’s', async (t) => {
  const { api } = await startGateway(t)
  assert.equal((await api.get('/me').set({ ...asOperator, ...cookieHeader('x') })).status, 200)
})

test('a known session passes the limit on failed authentication', async (t) => {
  const { gateway, cookie } = await start(t, { env: { RATE_LIMIT_UNKNOWN_MAX: '1' } })
  await gateway.api.get('/me')
  assert.equal((await gateway.api.get('/me').set(cookieHeader('x'))).status, 429)
  assert.equal((await gateway.api.get('/me').set(cookieHeader(cookie))).status, 200)
})

test('the record tells that it was a session, and whose', async (t) => {
  const { gateway, cookie, own } = await start(t)
  const taskNo = gateway.upstream.addTask()
  const { status } = await gateway.api.delete(`/tasks/${taskNo}`).set({ ...own, ...cookieHeader(cookie) })
  const { via, caller, outcome } = await recordOf(gateway.api, cookie)
  assert.deepEqual([status, via, caller, outcome], [202, 'session', 'ann', 'accepted'])
})

const recordOf = async (api: Awaited<ReturnType<typeof startGateway>>['api'], cookie: string) => {
  const { body } = await api.get('/cancellations').set(cookieHeader(cookie))
  return body.items[0]
}

type Headers = Readonly<Record<string, string | readonly string[]>>

/** Headers of a DELETE with a session, by its sender. The gateway’s own origin is `own`. */
const SENDERS: Readonly<Record<string, readonly [own: boolean, headers: (own: string) => Headers]>> = {
  'a script of the gateway’s own': [true, (own) => ({ origin: own, 'x-csrf': '1' })],
  'a script without the header': [false, (own) => ({ origin: own })],
  'a script with another value': [false, (own) => ({ origin: own, 'x-csrf': 'true' })],
  'a script with the header twice': [false, (own) => ({ origin: own, 'x-csrf': ['1', '1'] })],
  'a program that names no origin': [false, () => ({ 'x-csrf': '1' })],
  'a script of a sibling on the same site': [false, (own) => ({ origin: `${own}0`, 'x-csrf': '1' })],
  'a script of an origin that begins alike': [false, (own) => ({ origin: `${own}.example.com`, 'x-csrf': '1' })],
  'a script over another scheme': [false, (own) => ({ origin: own.replace('http:', 'https:'), 'x-csrf': '1' })],
  'a page in a sandbox': [false, () => ({ origin: 'null', 'x-csrf': '1' })],
  'a script of two origins': [false, (own) => ({ origin: [own, own], 'x-csrf': '1' })],
  'a form of another site': [false, () => ({ origin: 'https://evil.example', 'content-type': 'text/plain' })],
}

test('with a session, only a script of a trusted origin cancels anything', async (t) => {
  const { gateway, cookie } = await start(t)
  for (const [sender, [isOwn, headers]] of Object.entries(SENDERS)) {
    const taskNo = gateway.upstream.addTask()
    const before = cancelCalls(gateway.upstream).length
    const answer = await fetch(`${gateway.url}/tasks/${taskNo}`, {
      method: 'DELETE',
      headers: Object.entries({ ...headers(gateway.url), ...cookieHeader(cookie) }).flatMap(([name, values]) =>
        [values].flat().map((value): [string, string] => [name, value]),
      ),
    })
    const body = Object(await answer.json())
    const expected = isOwn ? [202, undefined, undefined, 1] : [403, 'csrf-rejected', 'not-cancelled', 0]
    const sent = cancelCalls(gateway.upstream).length - before
    assert.deepEqual([answer.status, body.code, body.outcome, sent], expected, sender)
  }
  const { body } = await gateway.api.get('/cancellations').set(cookieHeader(cookie))
  assert.equal(body.items.length, 1)
})

test('reading needs neither the header nor an origin', async (t) => {
  const { gateway, cookie } = await start(t)
  for (const path of ['/me', '/tasks', '/cancellations']) {
    assert.equal((await gateway.api.get(path).set(cookieHeader(cookie))).status, 200, path)
  }
})

test('callers with a key or a token need no such header', async (t) => {
  const { gateway } = await start(t, { env: { API_KEYS } })
  const { status } = await gateway.api.delete(`/tasks/${gateway.upstream.addTask()}`).set(asOperator)
  assert.equal(status, 202)
})
