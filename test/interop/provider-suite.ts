import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { decodeJwt, decodeProtectedHeader } from 'jose'
import type { Env } from '../../src/config.ts'
import { runDoctor } from '../../src/doctor/doctor.ts'
import type { Finding } from '../../src/doctor/finding.ts'
import { baseEnv, cancelCalls, startGateway } from '../helpers/gateway.ts'
import { closedPort } from '../helpers/ports.ts'
import { createVisitor } from '../helpers/provider.ts'
import { SESSION_SECRET } from '../helpers/session.ts'
import { CLIENT_ID, DOMAINS_CLAIM, SCOPES, SERVICE, type StartProvider } from './identity-provider.ts'

/** `-` and `_` need no escape in Basic, and providers read them as they are. */
const PLAIN_SECRET = 'canary-_secret-_of-_the-_client'
/** Characters that Basic escapes (RFC 6749, section 2.3.1), and that forms escape too. */
const ESCAPED_SECRET = 'canary -_+%&=:/?~ secret'

export interface StartOptions {
  readonly clientSecret?: string
  readonly env?: Env
}

const jsonOf = async (response: Response): Promise<Readonly<Record<string, unknown>>> => Object(await response.json())

/** A provider, a gateway that uses it, and a browser. */
export const startBoth = async (t: TestContext, startProvider: StartProvider, options: StartOptions = {}) => {
  const { clientSecret = PLAIN_SECRET } = options
  const gatewayUrl = `http://127.0.0.1:${await closedPort()}`
  const provider = await startProvider(t, { gatewayUrl, clientSecret })
  const env = {
    PORT: new URL(gatewayUrl).port,
    PUBLIC_URL: gatewayUrl,
    CONSOLE_ENABLED: 'true',
    OIDC_CLIENT_ID: CLIENT_ID,
    OIDC_CLIENT_SECRET: clientSecret,
    SESSION_SECRET,
    ...provider.env,
    ...options.env,
  }
  const gateway = await startGateway(t, { env, overrides: { timings: { keySet: { cooldownMs: 0 } } } })
  const visitor = createVisitor()

  const signIn = async (): Promise<Response> => {
    const login = await visitor.visit(`${gatewayUrl}/auth/login`)
    const authorization = new URL(login.headers.get('location') ?? '')
    return visitor.visit(await provider.authenticate(visitor, authorization))
  }
  const me = async () => jsonOf(await visitor.visit(`${gatewayUrl}/me`))
  const change = (method: string, path: string): Promise<Response> =>
    visitor.visit(`${gatewayUrl}${path}`, { method, headers: { 'x-csrf': '1', origin: gatewayUrl } })
  return { provider, gateway, gatewayUrl, env, visitor, signIn, me, change }
}

export type Started = Awaited<ReturnType<typeof startBoth>>

/** Differences between providers. */
export interface Expected {
  /** Display name of the user. */
  readonly userName: string
  readonly sub: RegExp
  /** Of the access token of a service. */
  readonly serviceToken: {
    readonly typ: string
    readonly audience: (audience: string) => string | readonly string[]
  }
}

/** Registers the tests of what a gateway must be able to do with every provider. */
export const testProvider = (name: string, startProvider: StartProvider, expected: Expected): void => {
  const start = (t: TestContext, options?: StartOptions) => startBoth(t, startProvider, options)

  const assertSignedIn = async ({ signIn, me }: Started): Promise<void> => {
    const page = await signIn()
    assert.equal(page.status, 200, await page.text())
    const { name: sub, ...others } = await me()
    assert.match(String(sub), expected.sub)
    assert.deepEqual(others, { via: 'session', scopes: SCOPES, callerDisplayName: expected.userName })
  }

  for (const [method, clientSecret] of [
    ['client_secret_basic', PLAIN_SECRET],
    ['client_secret_post', ESCAPED_SECRET],
  ] as const) {
    test(`${name}: a sign-in with ${method} gives a session with the name and scopes of the user`, async (t) => {
      await assertSignedIn(await start(t, { clientSecret, env: { OIDC_CLIENT_AUTH: method } }))
    })
  }

  // Neither provider decodes the credentials of Basic.
  test(`${name}: Basic with characters that need an escape is refused, and the log says so`, async (t) => {
    const { gateway, signIn } = await start(t, { clientSecret: ESCAPED_SECRET })
    assert.equal((await signIn()).status, 400)
    assert.match(gateway.logLines.join(''), /the identity provider rejected the gateway as a client/)
  })

  test(`${name}: after a key rotation a new sign-in works, and an earlier session stays`, async (t) => {
    const started = await start(t)
    await assertSignedIn(started)
    await started.provider.rotateKey()
    assert.equal((await started.me()).via, 'session')
    await assertSignedIn(started)
  })

  test(`${name}: the claim of domains restricts a session`, async (t) => {
    const { gateway, signIn, change } = await start(t, { env: { DOMAINS_CLAIM } })
    assert.equal((await signIn()).status, 200)
    const { upstream } = gateway
    const [inside, outside] = ['www.example.com', 'www.example.org'].map((domain) =>
      upstream.addTask({ domains: [domain] }),
    )
    const answers = [await change('DELETE', `/tasks/${outside}`), await change('DELETE', `/tasks/${inside}`)]
    assert.deepEqual([answers.map(({ status }) => status), cancelCalls(upstream).length], [[403, 202], 1])
  })

  test(`${name}: a token of a service cancels a task`, async (t) => {
    const { provider, gateway, gatewayUrl } = await start(t)
    const token = await provider.serviceToken()
    const { aud, sub, scope } = decodeJwt(token)
    assert.deepEqual(
      { typ: decodeProtectedHeader(token).typ, aud, sub, scope },
      {
        typ: expected.serviceToken.typ,
        aud: expected.serviceToken.audience(String(provider.env.JWT_AUDIENCE)),
        sub: SERVICE.id,
        scope: SCOPES.join(' '),
      },
    )
    const headers = { authorization: `Bearer ${token}` }
    const me = await jsonOf(await fetch(`${gatewayUrl}/me`, { headers }))
    assert.deepEqual(me, { name: SERVICE.id, via: 'jwt', scopes: SCOPES, callerDisplayName: null })
    const taskNo = gateway.upstream.addTask()
    assert.equal((await fetch(`${gatewayUrl}/tasks/${taskNo}`, { method: 'DELETE', headers })).status, 202)
  })

  test(`${name}: after a key rotation new tokens are accepted, and those of the removed key are not`, async (t) => {
    const { provider, gatewayUrl } = await start(t)
    const statusOf = async (token: string): Promise<number> =>
      (await fetch(`${gatewayUrl}/me`, { headers: { authorization: `Bearer ${token}` } })).status
    const before = await provider.serviceToken()
    assert.equal(await statusOf(before), 200)
    await provider.rotateKey()
    assert.equal(await statusOf(await provider.serviceToken()), 200)
    assert.equal(await statusOf(before), 401)
  })

  test(`${name}: the doctor reads its metadata and its keys`, async (t) => {
    const { gateway, env } = await start(t)
    const findings = new Map<string, Finding>()
    await runDoctor({
      env: { ...baseEnv(gateway.upstream.url, gateway.auditPath), ...env },
      execArgv: [],
      readFile: () => '',
      isCancelProbed: false,
      onFinding: (check, finding) => void findings.set(check, finding),
    })
    const statuses = ['settings', 'issuer', 'identity provider'].map((check) => findings.get(check)?.status)
    assert.deepEqual(statuses, ['ok', 'ok', 'ok'])
  })
}

/** Signs in and out at the gateway, and returns the address at which the provider's session ends. */
export const signOut = async ({ signIn, change, me }: Started): Promise<URL> => {
  assert.equal((await signIn()).status, 200)
  const { logoutUrl } = await jsonOf(await change('POST', '/auth/logout'))
  assert.equal((await me()).code, 'unauthenticated')
  return new URL(String(logoutUrl))
}
