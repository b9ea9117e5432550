import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { text } from 'node:stream/consumers'
import { type TestContext, test } from 'node:test'
import { beginSignIn, type FakeProvider, startFakeProvider } from '../helpers/fake-provider.ts'
import { type StartOptions, startGateway } from '../helpers/gateway.ts'
import { createIssuerKey } from '../helpers/issuer.ts'
import { closedPort } from '../helpers/ports.ts'
import { createVisitor } from '../helpers/provider.ts'

// Behaviour of providers that differs from the certified one, and must not make a sign-in fail.

const COOLDOWN_MS = 200

const start = async (
  t: TestContext,
  options: StartOptions = {},
  prepare: (provider: FakeProvider) => void = () => {},
) => {
  const provider = await startFakeProvider(t)
  prepare(provider)
  const gateway = await startGateway(t, {
    ...options,
    env: { ...provider.env, ...options.env },
    overrides: { ...options.overrides, timings: { keySet: { cooldownMs: 0 }, ...options.overrides?.timings } },
  })
  const visitor = createVisitor()
  const begin = (query?: string) => beginSignIn(provider, visitor, gateway.url, query)
  const signIn = async () => visitor.visit(await begin())
  const keyReadings = () => provider.paths.filter((path) => path === '/jwks').length
  return { provider, gateway, visitor, begin, signIn, keyReadings }
}

const codeOf = async (response: Response): Promise<readonly [number, unknown]> => [
  response.status,
  Object(await response.json()).code,
]

test('after the provider has replaced its keys, a sign-in has the set read once, and succeeds', async (t) => {
  const { provider, signIn, keyReadings } = await start(t)
  assert.equal((await signIn()).status, 200)
  const before = keyReadings()
  provider.keys = [await createIssuerKey('RS256')]
  assert.equal((await signIn()).status, 200)
  assert.deepEqual([keyReadings() - before, provider.tokenRequests.length], [1, 2])
})

test('ID tokens without a kid are verified by each key that fits', async (t) => {
  const { provider, signIn } = await start(t)
  provider.header = { kid: undefined }
  const [first, second] = [await createIssuerKey('RS256'), await createIssuerKey('RS256')]
  provider.keys = [first, second]
  provider.published = [second, first]
  assert.equal((await signIn()).status, 200)
})

for (const cooldownMs of [0, COOLDOWN_MS]) {
  test(`ID tokens without a kid have new keys read, with a pause of ${cooldownMs} ms`, async (t) => {
    const { provider, signIn, keyReadings } = await start(t, { overrides: { timings: { keySet: { cooldownMs } } } })
    provider.header = { kid: undefined }
    assert.equal((await signIn()).status, 200)
    const before = keyReadings()
    provider.keys = [await createIssuerKey('RS256')]
    assert.equal((await signIn()).status, 200)
    assert.equal(keyReadings() - before, 1)
  })
}

test('an unusable key of a provider lets nobody in, with the reason in the log', async (t) => {
  const { provider, gateway, signIn } = await start(t)
  const [bad, good] = [await createIssuerKey('RS256'), await createIssuerKey('RS256')]
  provider.keys = [bad]
  provider.published = [{ ...bad, publicJwk: { kty: 'RSA', kid: bad.kid, x5c: ['AAAA'] } }, good]
  assert.deepEqual(await codeOf(await signIn()), [400, 'sign-in-failed'])
  assert.match(gateway.logLines.join(''), /its key lacks a member/)
})

test('keys that are replaced at the moment of the sign-in do not cost it', async (t) => {
  const { provider, begin, visitor } = await start(t)
  const back = await begin()
  const next = await createIssuerKey('RS256')
  provider.onToken = () => {
    provider.keys = [next]
  }
  assert.equal((await visitor.visit(back)).status, 200)
  assert.equal(provider.tokenRequests.length, 1)
})

test('where the set was read too short a time ago to be read again, the sign-in waits and succeeds', async (t) => {
  const timing = { overrides: { timings: { keySet: { cooldownMs: COOLDOWN_MS } } } }
  const { provider, signIn, keyReadings } = await start(t, timing)
  assert.equal((await signIn()).status, 200)
  const before = keyReadings()
  provider.keys = [await createIssuerKey('RS256')]
  const [one, other] = await Promise.all([signIn(), signIn()])
  assert.deepEqual([one.status, other.status], [200, 200])
  assert.equal(keyReadings() - before, 1)
})

test('a key that no reading of the set brings lets nobody in, after one reading', async (t) => {
  const { provider, signIn, keyReadings } = await start(t)
  assert.equal((await signIn()).status, 200)
  const before = keyReadings()
  provider.published = provider.keys
  provider.keys = [await createIssuerKey('RS256')]
  assert.deepEqual(await codeOf(await signIn()), [400, 'sign-in-failed'])
  assert.equal(keyReadings() - before, 1)
})

test('without keys no code is sent, and the same callback succeeds once they are there', async (t) => {
  const { provider, begin, visitor } = await start(t, {}, (it) => {
    it.failing = ['/jwks']
  })
  const back = await begin()
  assert.deepEqual(await codeOf(await visitor.visit(back)), [503, 'identity-provider-unavailable'])
  assert.equal(provider.tokenRequests.length, 0)
  provider.failing = []
  assert.equal((await visitor.visit(back)).status, 200)
  assert.equal(provider.tokenRequests.length, 1)
})

test('where new keys can not be read after the code was sent, the same callback succeeds later, without the code', async (t) => {
  const { provider, begin, visitor, signIn } = await start(t)
  assert.equal((await signIn()).status, 200)
  provider.keys = [await createIssuerKey('RS256')]
  provider.failing = ['/jwks']
  const back = await begin()
  assert.deepEqual(await codeOf(await visitor.visit(back)), [503, 'identity-provider-unavailable'])
  provider.failing = []
  assert.equal((await visitor.visit(back)).status, 200)
  assert.equal(provider.tokenRequests.length, 2)
})

test('a code that did not reach the provider is sent later, by the same callback', async (t) => {
  const port = await closedPort()
  const { provider, begin, visitor } = await start(t, {}, (it) => {
    it.metadata = { token_endpoint: `http://127.0.0.1:${port}/token` }
  })
  const back = await begin()
  assert.deepEqual(await codeOf(await visitor.visit(back)), [503, 'identity-provider-unavailable'])
  const forwarding = createServer(async (req, res) => {
    const headers = { authorization: req.headers.authorization ?? '' }
    const answer = await fetch(`${provider.url}/token`, { method: 'POST', headers, body: await text(req) })
    res.setHeader('content-type', 'application/json').end(await answer.text())
  })
  forwarding.listen(port, '127.0.0.1')
  t.after(() => void forwarding.close().closeAllConnections())
  assert.equal((await visitor.visit(back)).status, 200)
})

test('a code whose request broke is not sent again, and the person can begin anew', async (t) => {
  const { provider, begin, visitor, signIn } = await start(t)
  const back = await begin()
  const [name = '', value = ''] = visitor.signInCookies(back.origin).at(-1) ?? []
  provider.failing = ['/token']
  assert.deepEqual(await codeOf(await visitor.visit(back)), [503, 'identity-provider-unavailable'])
  provider.failing = []
  assert.deepEqual(visitor.signInCookies(back.origin), [])
  visitor.setCookie(back.origin, name, value)
  assert.equal((await visitor.visit(back)).status, 503)
  assert.equal(provider.paths.filter((path) => path === '/token').length, 1)
  assert.equal((await signIn()).status, 200)
})

const UNUSED: readonly Readonly<Record<string, unknown>>[] = [
  { refresh_token: '' },
  { refresh_token: null },
  { refresh_token: 1 },
  { expires_in: null },
  { expires_in: '' },
  { expires_in: 'soon' },
  { expires_in: -1 },
  { scope: null },
  { scope: ['openid'] },
  { token_type: 'none' },
  { token_type: null },
  { access_token: '' },
  { access_token: undefined },
  { not_before_policy: 0, session_state: {} },
]

for (const tokens of UNUSED) {
  const [[name, value] = []] = Object.entries(tokens)
  test(`a response with tokens in which ${name} is ${JSON.stringify(value)} completes a sign-in`, async (t) => {
    const { provider, signIn } = await start(t)
    provider.tokens = tokens
    assert.equal((await signIn()).status, 200)
  })
}

for (const idToken of ['', null, undefined, 1, 'x', 'x.y.z', {}]) {
  test(`an ID token that is ${JSON.stringify(idToken)} lets nobody in`, async (t) => {
    const { provider, signIn } = await start(t)
    provider.tokens = { id_token: idToken }
    assert.deepEqual(await codeOf(await signIn()), [400, 'sign-in-failed'])
  })
}

for (const [status, body] of [
  [401, ''],
  [403, ''],
  [403, '<h1>Forbidden</h1>'],
  [401, '{"message":"no"}'],
] as const) {
  test(`a token endpoint that responds with ${status} ${body} has rejected the gateway, and the log says so`, async (t) => {
    const { provider, gateway, signIn } = await start(t)
    provider.rejection = { status, body }
    assert.deepEqual(await codeOf(await signIn()), [400, 'sign-in-failed'])
    const [line = ''] = gateway.logLines.filter((it) => it.includes('rejected the gateway as a client'))
    assert.match(line, new RegExp(`"level":"error".*"reason":"answered ${status} without an error code"`))
  })
}

test('a token endpoint that responds with 403 and rejects the code has not rejected the gateway', async (t) => {
  const { provider, gateway, signIn } = await start(t)
  provider.rejection = { status: 403, body: '{"error":"invalid_grant"}' }
  assert.deepEqual(await codeOf(await signIn()), [400, 'sign-in-failed'])
  assert.match(gateway.logLines.join(''), /"reason":"invalid_grant","msg":"a sign-in was refused"/)
})

const LOGOUT_PAGES: readonly unknown[] = [
  null,
  '',
  ' ',
  'logout',
  '/logout',
  'http://id.example.com/logout',
  'javascript:x',
  `https://id.example.com/${'x'.repeat(3000)}`,
  1,
  {},
]

for (const page of LOGOUT_PAGES) {
  test(`an end_session_endpoint that is ${JSON.stringify(page).slice(0, 60)} matters at no sign-in, and leads nowhere at a sign-out`, async (t) => {
    const { gateway, visitor, signIn } = await start(t, {}, (it) => {
      it.metadata = { end_session_endpoint: page }
    })
    assert.equal((await signIn()).status, 200)
    const headers = { 'x-csrf': '1', origin: 'https://gateway.example.com' }
    const out = await visitor.visit(`${gateway.url}/auth/logout`, { method: 'POST', headers })
    assert.deepEqual([out.status, await out.json()], [200, { logoutUrl: null }])
  })
}

test('an end_session_endpoint that can be used is told at a sign-out', async (t) => {
  const { gateway, visitor, signIn } = await start(t, {}, (it) => {
    it.metadata = { end_session_endpoint: 'https://id.example.com/logout?a=b' }
  })
  await signIn()
  const headers = { 'x-csrf': '1', origin: 'https://gateway.example.com' }
  const out = await visitor.visit(`${gateway.url}/auth/logout`, { method: 'POST', headers })
  assert.deepEqual(await out.json(), { logoutUrl: 'https://id.example.com/logout?a=b&client_id=gateway' })
})

for (const name of ['authorization_endpoint', 'token_endpoint', 'jwks_uri']) {
  for (const address of ['http://id.example.com/x', 'x', null, '']) {
    test(`a provider whose ${name} is ${JSON.stringify(address)} sends no browser on its way`, async (t) => {
      const { gateway, visitor } = await start(t, {}, (it) => {
        it.metadata = { [name]: address }
      })
      const login = await visitor.visit(`${gateway.url}/auth/login`)
      assert.deepEqual(await codeOf(login), [503, 'identity-provider-unavailable'])
      assert.deepEqual(visitor.signInCookies(gateway.url), [])
    })
  }
}

const basicIn = (authorization: string | undefined): string =>
  Buffer.from(authorization?.replace(/^Basic /, '') ?? '', 'base64').toString()

const SECRETS = ['plain', 'a-b_c.d~e', "all!of*these'(stay)", 'a b', 'per%cent', 'co:lon', 'plus+slash/equals=']

for (const secret of SECRETS) {
  test(`the client’s secret ${secret} reaches the provider by Basic`, async (t) => {
    const { provider, signIn } = await start(t, { env: { OIDC_CLIENT_SECRET: secret } })
    await signIn()
    const [id = '', sent = '', ...more] = basicIn(provider.tokenRequests[0]?.authorization).split(':')
    assert.deepEqual([id, decodeURIComponent(sent), more], ['gateway', secret, []])
    // Providers differ in which escapes they decode, so only characters that need an escape have one.
    if (/^[\w.~!*'()-]+$/.test(secret)) assert.equal(sent, secret)
  })

  test(`the client’s secret ${secret} reaches the provider in the body where OIDC_CLIENT_AUTH says so`, async (t) => {
    const env = { OIDC_CLIENT_SECRET: secret, OIDC_CLIENT_AUTH: 'client_secret_post' }
    const { provider, signIn } = await start(t, { env })
    assert.equal((await signIn()).status, 200)
    const [{ authorization, body } = { authorization: 'none', body: new URLSearchParams() }] = provider.tokenRequests
    assert.deepEqual([authorization, body.get('client_id'), body.get('client_secret')], [undefined, 'gateway', secret])
  })
}
