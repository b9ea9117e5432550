import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { SESSION_COOKIE } from '../../src/http/middleware/cookies.ts'
import { eventually, type Started, type StartOptions, startGateway } from '../helpers/gateway.ts'
import { CLIENT_SECRET, createVisitor, type IdentityProvider, startProvider } from '../helpers/provider.ts'
import { sendLine } from '../helpers/raw-http.ts'
import { SESSION_SECRET } from '../helpers/session.ts'

const MINUTE_MS = 60_000

/** A gateway whose browsers sign in at a real provider on another site, and one of them. */
const start = async (t: TestContext, options: StartOptions = {}) => {
  const provider = await startProvider(t)
  const gateway = await startGateway(t, { ...options, env: { ...provider.env, ...options.env } })
  return { provider, gateway, visitor: createVisitor() }
}

const jsonOf = async (response: Response): Promise<Readonly<Record<string, unknown>>> => Object(await response.json())

const codeOf = async (response: Response): Promise<readonly [number, unknown]> => [
  response.status,
  (await jsonOf(response)).code,
]

const SIGN_IN_PREFIX = '__Host-sign-in-'

const setCookieOf = (response: Response, name: string): string | undefined =>
  response.headers.getSetCookie().find((line) => line.startsWith(`${name}=`))

/** The line that sets or removes a cookie of a sign-in. */
const setSignInOf = (response: Response): string | undefined =>
  response.headers.getSetCookie().find((line) => line.startsWith(SIGN_IN_PREFIX))

/** The cookie of the sign-in that a browser began last. */
const lastSignIn = (visitor: ReturnType<typeof createVisitor>, url: string): readonly [string, string] => {
  const last = visitor.signInCookies(url).at(-1)
  if (last === undefined) throw new Error('the browser has begun no sign-in')
  return last
}

test('who signs in at the provider is known by the name and the scopes that it tells', async (t) => {
  const { provider, gateway, visitor } = await start(t)
  provider.describe('ann', { scope: 'tasks:read audit:read other' })
  const page = await visitor.signIn(gateway.url, 'ann')
  assert.equal(page.status, 200)
  const me = await jsonOf(await visitor.visit(`${gateway.url}/me`))
  assert.deepEqual(me, {
    ...{ name: 'ann', via: 'session', scopes: ['tasks:read', 'audit:read'] },
    callerDisplayName: null,
  })
})

test('the code is asked for with PKCE, a state and a nonce, and for an identity alone', async (t) => {
  const { gateway, provider, visitor } = await start(t)
  const { status, headers } = await visitor.visit(`${gateway.url}/auth/login`)
  const location = new URL(headers.get('location') ?? '')
  const { state = '', nonce = '', code_challenge = '', ...others } = Object.fromEntries(location.searchParams)
  assert.deepEqual([status, location.origin], [302, provider.url])
  for (const random of [state, nonce, code_challenge]) assert.ok(random.length >= 43, location.search)
  assert.deepEqual(others, {
    client_id: 'gateway',
    code_challenge_method: 'S256',
    redirect_uri: `${gateway.url}/auth/callback`,
    response_type: 'code',
    scope: 'openid',
  })
})

test('both cookies are for this host alone, over TLS alone, and out of reach of scripts', async (t) => {
  const { gateway, visitor } = await start(t)
  const login = await visitor.visit(`${gateway.url}/auth/login`)
  assert.match(
    setSignInOf(login) ?? '',
    /^__Host-sign-in-[\w-]{18}=[\w.-]+; Max-Age=600; Path=\/; Expires=[^;]+; HttpOnly; Secure; SameSite=Lax$/,
  )
  const page = await visitor.signIn(gateway.url, 'ann')
  assert.match(
    setCookieOf(page, SESSION_COOKIE.name) ?? '',
    /^__Host-session=[\w.-]+; Path=\/; HttpOnly; Secure; SameSite=Strict$/,
  )
})

test('after the sign-in a page of the gateway’s own leads on, since a redirect would carry no Strict cookie', async (t) => {
  const { gateway, visitor } = await start(t)
  const page = await visitor.signIn(gateway.url, 'ann', '?returnTo=/me?a=%26%22%23x')
  assert.deepEqual([page.status, page.headers.get('location')], [200, null])
  const text = await page.text()
  const target = `${gateway.url}/me?a=&amp;%22#x`
  assert.ok(text.includes(`<meta http-equiv="refresh" content="0;url=${target}">`), text)
  assert.ok(text.includes(`<a href="${target}">Continue to ${new URL(gateway.url).host}</a>`), text)
})

const APP = 'https://app.example.com'
const LOCAL_APP = 'http://localhost:5173'
const CORS = { CORS_ORIGINS: `${APP},${LOCAL_APP},http://plain.example.com` }

test('returnTo leads to a page of an origin in CORS_ORIGINS, and the page before names its host', async (t) => {
  const { gateway, visitor } = await start(t, { env: CORS })
  for (const [returnTo, target] of [
    [`${APP}/tasks?a=b#c`, `${APP}/tasks?a=b#c`],
    [APP, `${APP}/`],
    ['HTTPS://APP.example.com:443/@a:b', `${APP}/@a:b`],
    [`${LOCAL_APP}/`, `${LOCAL_APP}/`],
    [`${APP}/安`, `${APP}/%E5%AE%89`],
  ] as const) {
    const back = await visitor.authenticate(gateway.url, 'ann', `?returnTo=${encodeURIComponent(returnTo)}`)
    for (const page of [await visitor.visit(back), await visitor.visit(back)]) {
      const text = await page.text()
      assert.ok(text.includes(`content="0;url=${target}">`), text)
      assert.ok(text.includes(`<a href="${target}">Continue to ${new URL(target).host}</a>`), text)
    }
  }
})

test('returnTo leads to no other URL, however it is written', async (t) => {
  const { gateway, visitor } = await start(t, { env: CORS })
  for (const returnTo of [
    ...['https://example.com/', 'https://app.example.com.evil.example/', 'https://app.example.com:8443/'],
    ...['http://app.example.com/', 'http://plain.example.com/', 'http://localhost:5174/', 'http://127.0.0.1:5173/'],
    ...['https://ann@app.example.com/', 'https://@app.example.com/', 'https://ann:x@app.example.com/'],
    ...['https://app.example.com\\@evil.example/', 'https:\\\\app.example.com/', 'https://app.example.com/\\a'],
    ...['https://app.example.com/\t', '\thttps://app.example.com/', 'https://app.example.com/\u0000', `${APP}/\u202e`],
    ...['https:app.example.com', 'https:/app.example.com', 'https:///app.example.com', '//app.example.com/'],
    ...['https://app.example.com@evil.example/', 'https://evil.example/https://app.example.com/', `${APP},${APP}`],
    ...['javascript:alert(1)//https://app.example.com', 'data:text/html,x', `${APP}/${'a'.repeat(1000)}`],
  ]) {
    const refused = await visitor.visit(`${gateway.url}/auth/login?returnTo=${encodeURIComponent(returnTo)}`)
    assert.deepEqual(await codeOf(refused), [400, 'query-invalid'], returnTo)
  }
  const twice = `returnTo=${encodeURIComponent(APP)}`
  assert.equal((await visitor.visit(`${gateway.url}/auth/login?${twice}&${twice}`)).status, 400)
})

test('only a top-level navigation starts a sign-in, where the browser tells', async (t) => {
  const { gateway } = await start(t)
  for (const [mode, destination, status, site] of [
    ['navigate', 'document', 302],
    [undefined, undefined, 302],
    ['navigate', undefined, 302],
    [undefined, 'document', 302],
    ['navigate', 'iframe', 400],
    ['navigate', 'frame', 400],
    ['navigate', 'object', 400],
    ['no-cors', 'image', 400],
    ['no-cors', undefined, 400],
    ['cors', 'empty', 400],
    ['cors', undefined, 302],
    ['cors', undefined, 400, 'cross-site'],
    ['cors', undefined, 400, 'same-origin'],
    ['same-origin', 'empty', 400],
    [undefined, 'image', 400],
  ] as const) {
    const headers = { 'sec-fetch-mode': mode, 'sec-fetch-dest': destination, 'sec-fetch-site': site }
    const sent = Object.entries(headers).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]]))
    const { body, ...response } = await gateway.api.get('/auth/login').redirects(0).set(Object.fromEntries(sent))
    assert.deepEqual([response.status, body.code], [status, status === 400 ? 'sign-in-failed' : undefined], `${sent}`)
    assert.equal(response.headers['set-cookie'] === undefined, status === 400)
  }
})

test('returnTo leads to that path of this site', async (t) => {
  const { gateway, visitor } = await start(t)
  for (const [returnTo, path] of [
    ['/console', '/console'],
    ['/.//example.com', '//example.com'],
    ['/a%2f%2fb?c=d#e', '/a%2f%2fb?c=d#e'],
    ['/@example.com', '/@example.com'],
  ] as const) {
    const page = await visitor.signIn(gateway.url, 'ann', `?returnTo=${encodeURIComponent(returnTo)}`)
    assert.ok((await page.text()).includes(`url=${gateway.url}${path}">`), returnTo)
  }
})

test('returnTo leads nowhere else', async (t) => {
  const { gateway, visitor } = await start(t)
  for (const returnTo of [
    '//example.com',
    '/\\example.com',
    '/\t/example.com',
    '\\\\example.com',
    'https://example.com/',
    'https:/example.com/',
    'javascript:alert(1)',
    'console',
    ' ',
  ]) {
    const refused = await visitor.visit(`${gateway.url}/auth/login?returnTo=${encodeURIComponent(returnTo)}`)
    assert.deepEqual(await codeOf(refused), [400, 'query-invalid'], returnTo)
  }
})

test('no token and no secret of a sign-in reaches the browser, the log or the record', async (t) => {
  const { gateway, provider, visitor } = await start(t)
  provider.describe('ann', { scope: 'audit:read' })
  const back = await visitor.authenticate(gateway.url, 'ann')
  const page = await visitor.visit(back)
  const me = await visitor.visit(`${gateway.url}/me`)
  const told = [await page.text(), await me.text(), ...gateway.logLines].join('\n')
  const cookie = visitor.cookie(gateway.url, SESSION_COOKIE.name) ?? ''
  const secrets = [CLIENT_SECRET, SESSION_SECRET, cookie, ...back.searchParams.values()].filter(
    (it) => it !== provider.url,
  )
  assert.deepEqual(
    secrets.filter((secret) => told.includes(secret)),
    [],
  )
  assert.doesNotMatch(`${told}${[...page.headers]}`, /id_token|access_token|refresh_token|eyJ[^\n]*\.eyJ/)
})

type Tamper = (back: URL, visitor: ReturnType<typeof createVisitor>, gateway: Started) => Promise<void> | void

/** Not at the end, where some bits count for nothing. */
const change = (text: string): string => `${text.slice(0, -9)}${text.at(-9) === 'A' ? 'B' : 'A'}${text.slice(-8)}`

const TAMPERED: Readonly<Record<string, Tamper>> = {
  'two states': (back) => back.searchParams.append('state', 'x'),
  'a code that was never given': (back) => back.searchParams.set('code', 'x'.repeat(43)),
  'no code': (back) => back.searchParams.delete('code'),
  'another issuer': (back) => back.searchParams.set('iss', 'https://id.example.com'),
  'no issuer, where the provider names it': (back) => back.searchParams.delete('iss'),
  'the refusal of a person': (back) => {
    back.searchParams.delete('code')
    back.searchParams.set('error', 'access_denied')
  },
  'a cookie that was changed': (_back, visitor, { url }) => {
    const [name, value] = lastSignIn(visitor, url)
    visitor.setCookie(url, name, change(value))
  },
  'two cookies': (_back, visitor, { url }) => {
    const [name, value] = lastSignIn(visitor, url)
    visitor.setCookie(url, name, `${value}; ${name}=${value}`)
  },
}

/** Requests that leave a sign-in that was begun as it is: they prove nothing about it. */
const UNRELATED: Readonly<Record<string, Tamper>> = {
  'a state of another sign-in': (back) => back.searchParams.set('state', 'x'.repeat(52)),
  'a state that nobody gave': (back) => back.searchParams.set('state', '\0; Path=/'),
  'no state': (back) => back.searchParams.delete('state'),
  'no state, and a refusal': (back) => {
    back.search = 'error=access_denied'
  },
}

for (const [name, tamper] of Object.entries(UNRELATED)) {
  test(`a sign-in with ${name} fails, begins no session, and ends none that is pending`, async (t) => {
    const { gateway, visitor } = await start(t)
    const back = await visitor.authenticate(gateway.url, 'ann')
    const forged = new URL(back)
    await tamper(forged, visitor, gateway)
    const answer = await visitor.visit(forged)
    assert.deepEqual(await codeOf(answer), [400, 'sign-in-failed'])
    assert.deepEqual(answer.headers.getSetCookie(), [])
    assert.equal((await visitor.visit(back)).status, 200)
  })
}

test('a sign-in that another browser began fails, and begins no session', async (t) => {
  const { gateway, visitor } = await start(t)
  const back = await visitor.authenticate(gateway.url, 'ann')
  const other = createVisitor()
  await other.visit(`${gateway.url}/auth/login`)
  assert.deepEqual(await codeOf(await other.visit(back)), [400, 'sign-in-failed'])
  const [[, foreign], [own]] = [lastSignIn(other, gateway.url), lastSignIn(visitor, gateway.url)]
  visitor.setCookie(gateway.url, own, foreign)
  assert.deepEqual(await codeOf(await visitor.visit(back)), [400, 'sign-in-failed'])
  assert.equal(visitor.cookie(gateway.url, SESSION_COOKIE.name), undefined)
})

for (const [name, tamper] of Object.entries(TAMPERED)) {
  test(`a sign-in with ${name} fails, begins no session, and is used up`, async (t) => {
    const { gateway, visitor } = await start(t)
    const back = await visitor.authenticate(gateway.url, 'ann')
    await tamper(back, visitor, gateway)
    const answer = await visitor.visit(back)
    assert.deepEqual(await codeOf(answer), [400, 'sign-in-failed'])
    assert.equal(setCookieOf(answer, SESSION_COOKIE.name), undefined)
    assert.match(setSignInOf(answer) ?? '', /^__Host-sign-in-[\w-]{18}=; .*Expires=Thu, 01 Jan 1970/)
  })
}

test('a sign-in that took longer than ten minutes fails', async (t) => {
  let shiftMs = 0
  const { gateway, visitor } = await start(t, { overrides: { now: () => Date.now() + shiftMs } })
  const back = await visitor.authenticate(gateway.url, 'ann')
  shiftMs += 10 * MINUTE_MS
  assert.deepEqual(await codeOf(await visitor.visit(back)), [400, 'sign-in-failed'])
})

test('who replays a callback with its cookie gets no second session: the code is spent', async (t) => {
  const { gateway, visitor } = await start(t)
  const back = await visitor.authenticate(gateway.url, 'ann')
  const [name, value] = lastSignIn(visitor, gateway.url)
  assert.equal((await visitor.visit(back)).status, 200)
  visitor.setCookie(gateway.url, name, value)
  assert.deepEqual(await codeOf(await visitor.visit(back)), [400, 'sign-in-failed'])
})

test('a person who did not allow the sign-in reads that on the page', async (t) => {
  const { gateway, visitor } = await start(t)
  for (const [lang, title] of [
    ['en', 'You did not allow the sign-in'],
    ['zh', '您未同意登录授权'],
  ] as const) {
    const back = await visitor.authenticate(gateway.url, 'ann')
    await TAMPERED['the refusal of a person']?.(back, visitor, gateway)
    const page = await visitor.visit(back, { headers: { accept: 'text/html', 'accept-language': lang } })
    assert.equal(page.status, 400)
    assert.ok((await page.text()).includes(`<h1>${title}</h1>`))
  }
})

test('a person is shown a page where the sign-in failed, and a way on', async (t) => {
  const { gateway, visitor } = await start(t)
  const headers = { accept: 'text/html,application/xhtml+xml,*/*;q=0.8', 'accept-language': 'zh' }
  const page = await visitor.visit(`${gateway.url}/auth/callback?error=x`, { headers })
  const text = await page.text()
  assert.deepEqual([page.status, page.headers.get('content-type')], [400, 'text/html; charset=utf-8'])
  assert.match(text, /<h1>登录失败<\/h1>.*<a class="button" href="login">重新登录<\/a>/s)
  assert.doesNotMatch(text, /取消/)
  assert.ok(gateway.logLines.some((line) => /"code":"sign-in-failed"/.test(line)))
})

test('a grant that no cookie can hold lets nobody in, and the log says why', async (t) => {
  const { gateway, provider, visitor } = await start(t, { env: { DOMAINS_CLAIM: 'domains' } })
  const domains = Array.from({ length: 300 }, (_, index) => `*.customer-${index}.example.com`)
  provider.describe('ann', { scope: 'tasks:read', domains })
  assert.deepEqual(await codeOf(await visitor.signIn(gateway.url, 'ann')), [400, 'sign-in-failed'])
  assert.ok(gateway.logLines.some((line) => line.includes('do not fit into a session cookie')))
})

test('a provider that does not know the gateway is the operator’s affair', async (t) => {
  const { gateway, visitor } = await start(t, { env: { OIDC_CLIENT_SECRET: 'wrong' } })
  assert.deepEqual(await codeOf(await visitor.signIn(gateway.url, 'ann')), [400, 'sign-in-failed'])
  const [line = ''] = gateway.logLines.filter((it) => it.includes('OIDC_CLIENT_SECRET'))
  assert.match(line, /"level":"error".*the identity provider rejected the gateway as a client/)
  assert.doesNotMatch(gateway.logLines.join(), /wrong/)
})

for (const clientAuthentication of ['client_secret_basic', 'client_secret_post'] as const) {
  test(`a certified provider accepts any client secret by ${clientAuthentication}`, async (t) => {
    for (const clientSecret of ['a-b_c.d~e', "~!*'() %+/=:&?#"]) {
      const provider = await startProvider(t, { clientSecret, clientAuthentication })
      const gateway = await startGateway(t, { env: provider.env })
      assert.equal((await createVisitor().signIn(gateway.url, 'ann')).status, 200, clientSecret)
    }
  })
}

test('a returnTo that is too long for a cookie is refused', async (t) => {
  const { gateway, visitor } = await start(t)
  const refused = await visitor.visit(`${gateway.url}/auth/login?returnTo=/${'x'.repeat(1000)}`)
  assert.deepEqual(await codeOf(refused), [400, 'query-invalid'])
})

test('a provider that is away is told apart from a sign-in that failed', async (t) => {
  const { gateway, provider, visitor } = await start(t)
  const back = await visitor.authenticate(gateway.url, 'ann')
  provider.setUnavailable(true)
  assert.deepEqual(await codeOf(await visitor.visit(back)), [503, 'identity-provider-unavailable'])
})

test('a provider that was never reached is asked again after a pause', async (t) => {
  const pause = { timings: { keySet: { cooldownMs: 0 } } }
  const { gateway, provider, visitor } = await start(t, { overrides: pause })
  provider.setUnavailable(true)
  assert.deepEqual(await codeOf(await visitor.visit(`${gateway.url}/auth/login`)), [
    503,
    'identity-provider-unavailable',
  ])
  provider.setUnavailable(false)
  assert.equal((await visitor.visit(`${gateway.url}/auth/login`)).status, 302)
})

test('however many want to sign in while the provider is away, it is asked once in a while, and so does the log say', async (t) => {
  const { gateway, provider, visitor } = await start(t)
  provider.setUnavailable(true)
  for (let time = 0; time < 5; time += 1) {
    const answer = await visitor.visit(`${gateway.url}/auth/login`)
    assert.deepEqual(await codeOf(answer), [503, 'identity-provider-unavailable'])
  }
  assert.equal(provider.requests.length, 1)
  assert.equal(gateway.logLines.filter((line) => line.includes('OIDC_ISSUER')).length, 1)
})

test('what the provider said of itself holds while it is away, and is read again after an hour', async (t) => {
  let shiftMs = 0
  const { gateway, provider, visitor } = await start(t, { overrides: { now: () => Date.now() + shiftMs } })
  const readings = () => provider.requests.filter((line) => line.endsWith('openid-configuration')).length
  const login = async () => (await visitor.visit(`${gateway.url}/auth/login`)).status
  assert.deepEqual([await login(), await login(), readings()], [302, 302, 1])
  shiftMs += 60 * MINUTE_MS
  provider.setUnavailable(true)
  assert.equal(await login(), 302)
  await eventually(() => (readings() === 2 ? true : undefined))
  assert.equal(await login(), 302)
})

test('sign-ins that come to nothing are limited by address, those that succeed are not', async (t) => {
  const { gateway, visitor } = await start(t, { env: { RATE_LIMIT_UNKNOWN_MAX: '2' } })
  for (const name of ['ann', 'bob', 'eve']) assert.equal((await visitor.signIn(gateway.url, name)).status, 200, name)
  const answers = []
  for (const _ of [1, 2, 3]) answers.push(await codeOf(await visitor.visit(`${gateway.url}/auth/callback`)))
  assert.deepEqual(answers, [
    [400, 'sign-in-failed'],
    [400, 'sign-in-failed'],
    [429, 'too-many-requests'],
  ])
})

test('sign-ins that are begun and not completed are limited by address, those that are completed are not', async (t) => {
  const { gateway, visitor } = await start(t, { env: { RATE_LIMIT_UNKNOWN_MAX: '1' } })
  for (const name of ['ann', 'bob', 'eve']) assert.equal((await visitor.signIn(gateway.url, name)).status, 200, name)
  const begin = () => visitor.visit(`${gateway.url}/auth/login`)
  assert.equal((await begin()).status, 302)
  const refused = await begin()
  assert.match(refused.headers.get('retry-after') ?? '', /^([1-9]|[1-5]\d|60)$/)
  assert.deepEqual(await codeOf(refused), [429, 'too-many-requests'])
  assert.equal(setSignInOf(refused), undefined)
})

test('completed sign-ins are limited by caller', async (t) => {
  const { gateway, visitor } = await start(t, { env: { RATE_LIMIT_MAX: '2' } })
  const signIn = async (name: string) => (await createVisitor().signIn(gateway.url, name)).status
  assert.deepEqual([await signIn('ann'), await signIn('ann'), await signIn('bob')], [200, 200, 200])
  const refused = await visitor.signIn(gateway.url, 'ann')
  assert.deepEqual(await codeOf(refused), [429, 'too-many-requests'])
  assert.equal(setCookieOf(refused, SESSION_COOKIE.name), undefined)
})

test('a sign-out over the limit of its address ends the session all the same', async (t) => {
  const { gateway, visitor } = await start(t, { env: { RATE_LIMIT_UNKNOWN_MAX: '1' } })
  const init = { method: 'POST', headers: { 'x-csrf': '1', origin: gateway.url } }
  const out = () => visitor.visit(`${gateway.url}/auth/logout`, init)
  assert.equal((await out()).status, 200)
  await visitor.signIn(gateway.url, 'ann')
  const session = visitor.cookie(gateway.url, SESSION_COOKIE.name) ?? ''
  const refused = await out()
  assert.match(setCookieOf(refused, SESSION_COOKIE.name) ?? '', /^__Host-session=; .*Expires=Thu, 01 Jan 1970/)
  assert.deepEqual(await codeOf(refused), [429, 'too-many-requests'])
  visitor.setCookie(gateway.url, SESSION_COOKIE.name, session)
  assert.deepEqual(await codeOf(await visitor.visit(`${gateway.url}/me`)), [401, 'unauthenticated'])
})

/** Returns from the provider with those cookies, byte by byte; the result is the name of the session's person. */
const comeBack = async ({ url }: Started, back: URL, ...cookies: readonly string[]) => {
  const answer = await sendLine(url, `GET ${back.pathname}${back.search}`, `Cookie: ${cookies.join('; ')}`)
  const [session] = /__Host-session=[^;]+/.exec(answer.headers['set-cookie'] ?? '') ?? []
  if (session === undefined) return answer.status
  return JSON.parse((await sendLine(url, 'GET /me', `Cookie: ${session}`)).body).name
}

test('a sign-in completes whatever other cookies were planted, and nobody is signed in as another', async (t) => {
  const { gateway } = await start(t)
  const begin = async (name: string) => {
    const visitor = createVisitor()
    const back = await visitor.authenticate(gateway.url, name)
    const [cookieName, value] = lastSignIn(visitor, gateway.url)
    return { back, name: cookieName, cookie: `${cookieName}=${value}` }
  }
  const attacker = await begin('eve')
  for (const odd of ['\xa0', '\xef\xbb\xbf', '\x85', '"', '=']) {
    assert.equal(await comeBack(gateway, attacker.back, `${odd}${attacker.cookie}`), 400, JSON.stringify(odd))
  }
  const attackerValue = attacker.cookie.slice(attacker.name.length + 1)
  /** Under any name, and under the name of the sign-in itself, as if it could be known. */
  const plants: readonly ((name: string) => string)[] = [
    () => attacker.cookie,
    () => `\xa0${attacker.cookie}`,
    (name) => `${name}=x`,
    (name) => `${name}=${attackerValue}`,
    (name) => `${name}=done.${attackerValue}`,
    (name) => Array<string>(300).fill(`${name}=`).join('; '),
    () => Array.from({ length: 100 }, (_, at) => `${SIGN_IN_PREFIX}${String(at).padStart(18, '0')}=${at}`).join('; '),
  ]
  for (const plant of plants) {
    const before = await begin('ann')
    assert.equal(await comeBack(gateway, before.back, plant(before.name), before.cookie), 'ann')
    const after = await begin('ann')
    assert.equal(await comeBack(gateway, after.back, after.cookie, plant(after.name)), 'ann')
  }
})

const signOut = { method: 'POST', headers: { 'x-csrf': '1' } }

test('who signs out has no session here, and is told where the provider’s own one ends', async (t) => {
  const { gateway, provider, visitor } = await start(t)
  await visitor.signIn(gateway.url, 'ann')
  const headers = { ...signOut.headers, origin: gateway.url }
  const answer = await visitor.visit(`${gateway.url}/auth/logout`, { ...signOut, headers })
  const { logoutUrl } = await jsonOf(answer)
  assert.match(setCookieOf(answer, SESSION_COOKIE.name) ?? '', /^__Host-session=; .*Expires=Thu, 01 Jan 1970/)
  assert.deepEqual(await codeOf(await visitor.visit(`${gateway.url}/me`)), [401, 'unauthenticated'])
  const ending = new URL(String(logoutUrl))
  assert.deepEqual([ending.origin, ending.searchParams.get('client_id')], [provider.url, 'gateway'])
  assert.equal((await visitor.visit(ending)).status, 200)
})

test('signing out works while the provider is away', async (t) => {
  const { gateway, provider, visitor } = await start(t)
  provider.setUnavailable(true)
  const headers = { ...signOut.headers, origin: gateway.url }
  const answer = await visitor.visit(`${gateway.url}/auth/logout`, { ...signOut, headers })
  assert.deepEqual([answer.status, await jsonOf(answer)], [200, { logoutUrl: null }])
})

test('another page can’t sign anybody out', async (t) => {
  const { gateway, visitor } = await start(t)
  await visitor.signIn(gateway.url, 'ann')
  const answer = await visitor.visit(`${gateway.url}/auth/logout`, { method: 'POST' })
  assert.deepEqual(await codeOf(answer), [403, 'csrf-rejected'])
  assert.equal((await visitor.visit(`${gateway.url}/me`)).status, 200)
})

test('where grants stand in a file, they count and not what the provider says, from one moment to the next', async (t) => {
  const provider: IdentityProvider = await startProvider(t)
  provider.describe('ann', { scope: 'audit:read' })
  const grants = [{ issuer: provider.url, sub: 'ann', scopes: ['tasks:read'] }]
  const env = { ...provider.env, GRANTS_FILE: '/grants' }
  const { url } = await startGateway(t, { env, readFile: () => JSON.stringify(grants) })
  const visitor = createVisitor()
  await visitor.signIn(url, 'ann')
  assert.deepEqual((await jsonOf(await visitor.visit(`${url}/me`))).scopes, ['tasks:read'])
})

for (const path of ['/auth/login', '/auth/callback', '/auth/logout']) {
  test(`${path} is not there where nobody can sign in`, async (t) => {
    const { api } = await startGateway(t)
    const { status, body } = await api.get(path)
    assert.deepEqual([status, body.code], [404, 'not-found'])
  })
}
