import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { type TestContext, test } from 'node:test'
import { type JWTPayload, SignJWT } from 'jose'
import { startGateway } from '../helpers/gateway.ts'
import { createIssuerKey, type IssuerKey, secondsFromNow } from '../helpers/issuer.ts'
import { listenOn } from '../helpers/ports.ts'
import { createVisitor } from '../helpers/provider.ts'
import { SIGN_IN_ENV } from '../helpers/session.ts'

// A provider that sends what a certified one never sends: each row is refused, and the log contains none of its texts.

interface Answer {
  readonly status?: number
  readonly body: Readonly<Record<string, unknown>>
}

/** The response of the token endpoint to a code, by the expected nonce. */
type Lie = (nonce: string, keys: { readonly own: IssuerKey; readonly other: IssuerKey }, url: string) => Promise<Answer>

const claimsOf = (nonce: string, url: string, changes: Readonly<Record<string, unknown>> = {}): JWTPayload => ({
  iss: url,
  aud: 'gateway',
  sub: 'ann',
  nonce,
  iat: secondsFromNow(0),
  exp: secondsFromNow(600),
  ...changes,
})

const tokens = (idToken: string): Answer => ({
  body: { access_token: 'canary-access-token', token_type: 'Bearer', id_token: idToken },
})

const sign = (key: IssuerKey, claims: JWTPayload, kid = key.kid): Promise<string> =>
  new SignJWT(claims).setProtectedHeader({ alg: key.alg, kid }).sign(key.privateKey)

const saying =
  (changes: Readonly<Record<string, unknown>>): Lie =>
  async (nonce, { own }, url) =>
    tokens(await sign(own, claimsOf(nonce, url, changes)))

const base64 = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')

const LIES: Readonly<Record<string, Lie>> = {
  'an ID token that another key signed under its name': async (nonce, { own, other }, url) =>
    tokens(await sign(other, claimsOf(nonce, url), own.kid)),
  'an ID token that nobody signed': async (nonce, _keys, url) =>
    tokens(`${base64({ alg: 'none' })}.${base64(claimsOf(nonce, url))}.`),
  'an ID token for another client': saying({ aud: 'canary-client' }),
  'an ID token of another issuer': saying({ iss: 'https://canary.example' }),
  'an ID token of another sign-in': saying({ nonce: 'canary-nonce' }),
  'an ID token that has expired': saying({ exp: secondsFromNow(-600) }),
  'a name that breaks lines': saying({ sub: 'ann\ncanary' }),
  'a name without end': saying({ sub: 'canary'.repeat(100) }),
  'no ID token': async () => ({ body: { access_token: 'canary-access-token', token_type: 'Bearer' } }),
  'an error of its own making': async () => ({ status: 400, body: { error: 'canary\n{"msg":"x"}' } }),
}

const start = async (t: TestContext, lie: Lie, more: Readonly<Record<string, unknown>> = {}) => {
  const keys = { own: await createIssuerKey('RS256'), other: await createIssuerKey('RS256') }
  let nonce = ''
  const server = createServer(async (req, res) => {
    const metadata = {
      issuer: url,
      authorization_endpoint: `${url}/authorize`,
      token_endpoint: `${url}/token`,
      jwks_uri: `${url}/jwks`,
      ...more,
    }
    const { status = 200, body } =
      req.url === '/token'
        ? await lie(nonce, keys, url)
        : { body: req.url === '/jwks' ? { keys: [keys.own.publicJwk] } : metadata }
    res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
  })
  const url = `http://127.0.0.1:${await listenOn(t, server)}`
  const gateway = await startGateway(t, { env: { ...SIGN_IN_ENV, OIDC_ISSUER: url } })
  const visitor = createVisitor()
  const login = await visitor.visit(`${gateway.url}/auth/login`)
  const asked = URL.parse(login.headers.get('location') ?? '')?.searchParams
  nonce = asked?.get('nonce') ?? ''
  const answer = await visitor.visit(`${gateway.url}/auth/callback?code=x&state=${asked?.get('state')}`)
  return { login, answer, logLines: gateway.logLines }
}

test('what a provider should say lets somebody in', async (t) => {
  const { answer } = await start(t, saying({}))
  assert.equal(answer.status, 200)
})

for (const [name, lie] of Object.entries(LIES)) {
  test(`${name} lets nobody in`, async (t) => {
    const { answer, logLines } = await start(t, lie)
    const { code } = Object(await answer.json())
    assert.deepEqual([answer.status, code], [400, 'sign-in-failed'])
    assert.ok(logLines.some((line) => line.includes('a sign-in was refused')))
    assert.doesNotMatch(logLines.join(''), /canary/)
  })
}

for (const endpoint of ['authorization_endpoint', 'token_endpoint', 'jwks_uri']) {
  test(`a provider whose ${endpoint} is longer than any in use is of no use, and no browser is sent there`, async (t) => {
    const metadata = { [endpoint]: `https://id.example.com/?${'canary&'.repeat(25_000)}` }
    const { login, logLines } = await start(t, saying({}), metadata)
    assert.deepEqual([login.status, Object(await login.json()).code], [503, 'identity-provider-unavailable'])
    assert.match(logLines.join(''), /names an address that is too long/)
    assert.doesNotMatch(logLines.join(''), /canary/)
  })
}
