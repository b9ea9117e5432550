import { once } from 'node:events'
import { createServer } from 'node:http'
import type { TestContext } from 'node:test'
import { exportJWK, generateKeyPair, type JWK } from 'jose'
import Provider from 'oidc-provider'
import type { Env } from '../../src/config.ts'
import { closedPort } from './ports.ts'
import { SESSION_SECRET } from './session.ts'

/** Claims of the ID token besides `sub`. */
export type UserClaims = Readonly<Record<string, unknown>>

export interface IdentityProvider {
  /** On `localhost`, which is another site than the gateway's `127.0.0.1`. */
  readonly url: string
  /** Settings of a gateway at `gatewayUrl` that uses this provider. */
  readonly env: Env
  readonly gatewayUrl: string
  /** Method and path of every request. */
  readonly requests: readonly string[]
  /** While unavailable, the provider closes connections without a response. */
  setUnavailable(isUnavailable: boolean): void
  /** Sets the claims of a user for later sign-ins. */
  describe(name: string, claims: UserClaims): void
}

export const CLIENT_SECRET = 'canary-client-secret'

const CLIENT_ID = 'gateway'

let usualKey: Promise<JWK> | undefined

/** One key for the providers of a test file: the generation of an RSA key takes longer than a sign-in. */
const signingKey = (): Promise<JWK> => {
  usualKey ??= generateKeyPair('RS256', { extractable: true })
    .then(({ privateKey }) => exportJWK(privateKey))
    .then((jwk) => ({ ...jwk, alg: 'RS256', use: 'sig' }))
  return usualKey
}

export interface ProviderOptions {
  readonly clientSecret?: string
  readonly clientAuthentication?: 'client_secret_basic' | 'client_secret_post'
}

/** A certified OpenID provider that accepts any user name. */
export const startProvider = async (
  t: TestContext,
  { clientSecret = CLIENT_SECRET, clientAuthentication = 'client_secret_basic' }: ProviderOptions = {},
): Promise<IdentityProvider> => {
  const gatewayUrl = `http://127.0.0.1:${await closedPort()}`
  const people = new Map<string, UserClaims>()
  const requests: string[] = []
  let isUnavailable = false
  const server = createServer()
  server.listen(0, 'localhost')
  await once(server, 'listening')
  t.after(() => server.close().closeAllConnections())
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the provider does not listen on a port')
  const url = `http://localhost:${address.port}`
  // The provider prints warnings that it is not configured for production.
  for (const method of ['warn', 'info'] as const) t.mock.method(console, method, () => {})
  const provider = new Provider(url, {
    clients: [
      {
        client_id: CLIENT_ID,
        client_secret: clientSecret,
        token_endpoint_auth_method: clientAuthentication,
        redirect_uris: [`${gatewayUrl}/auth/callback`],
        post_logout_redirect_uris: [`${gatewayUrl}/console`],
      },
    ],
    cookies: { keys: ['a key of the provider’s own'] },
    jwks: { keys: [await signingKey()] },
    conformIdTokenClaims: false,
    claims: { openid: ['sub', 'scope', 'domains', 'types'], profile: ['name'] },
    findAccount: (_ctx, sub) => ({ accountId: sub, claims: () => ({ sub, ...people.get(sub) }) }),
    features: { devInteractions: { enabled: true }, rpInitiatedLogout: { enabled: true } },
    pkce: { required: () => true },
    // Consent is granted in advance, so that the sign-in form asks only for the name.
    loadExistingGrant: async ({ oidc: { client, session } }) => {
      const grant = new provider.Grant({ clientId: client?.clientId, accountId: session?.accountId })
      grant.addOIDCScope('openid profile')
      await grant.save()
      return grant
    },
  })
  const answer = provider.callback()
  server.on('request', (req, res) => {
    requests.push(`${req.method} ${req.url?.split('?')[0]}`)
    if (isUnavailable) res.destroy()
    else answer(req, res)
  })
  const env = {
    PORT: new URL(gatewayUrl).port,
    PUBLIC_URL: gatewayUrl,
    OIDC_ISSUER: url,
    OIDC_CLIENT_ID: CLIENT_ID,
    OIDC_CLIENT_SECRET: clientSecret,
    OIDC_CLIENT_AUTH: clientAuthentication,
    SESSION_SECRET,
  }
  return {
    url,
    env,
    gatewayUrl,
    requests,
    setUnavailable: (next) => {
      isUnavailable = next
    },
    describe: (name, claims) => void people.set(name, claims),
  }
}

/** A user agent that stores cookies by host and follows redirects. */
export const createVisitor = () => {
  const jars = new Map<string, Map<string, string>>()
  const jarOf = (url: URL): Map<string, string> => {
    const jar = jars.get(url.hostname) ?? new Map<string, string>()
    jars.set(url.hostname, jar)
    return jar
  }

  const cookieHeader = (url: string | URL): string =>
    [...jarOf(new URL(url))].map(([name, value]) => `${name}=${value}`).join('; ')

  const keep = (jar: Map<string, string>, line: string): void => {
    const [pair = ''] = line.split(';')
    const [name = ''] = pair.split('=')
    const isGone = /expires=Thu, 01 Jan 1970/i.test(line)
    if (isGone) jar.delete(name)
    else jar.set(name, pair.slice(name.length + 1))
  }

  const visit = async (target: string | URL, init: RequestInit = {}): Promise<Response> => {
    const url = new URL(target)
    const jar = jarOf(url)
    const cookie = cookieHeader(url)
    const headers = new Headers(init.headers)
    if (cookie !== '') headers.set('cookie', cookie)
    const response = await fetch(url, { ...init, headers, redirect: 'manual' })
    for (const line of response.headers.getSetCookie()) keep(jar, line)
    return response
  }

  /** Follows redirects until a response without one, or until `isEnd`. */
  const follow = async (target: string | URL, isEnd: (url: URL) => boolean = () => false): Promise<Response | URL> => {
    const url = new URL(target)
    if (isEnd(url)) return url
    const response = await visit(url)
    const location = response.headers.get('location')
    if (location === null) return response
    await response.body?.cancel()
    return follow(new URL(location, url), isEnd)
  }

  const isCallback = (url: URL): boolean => url.pathname === '/auth/callback'

  /** Signs in at the provider, and returns the callback URL without a request to it. */
  const authenticate = async (gatewayUrl: string, name: string, query = ''): Promise<URL> => {
    const form = await follow(`${gatewayUrl}/auth/login${query}`, isCallback)
    if (form instanceof URL) return form
    const action = /action="([^"]+)"/.exec(await form.text())?.[1]
    if (action === undefined) throw new Error('the provider shows no form')
    const body = new URLSearchParams({ prompt: 'login', login: name, password: 'any' })
    const sent = await visit(new URL(action, form.url), { method: 'POST', body })
    const back = await follow(new URL(sent.headers.get('location') ?? '', form.url), isCallback)
    if (!(back instanceof URL)) throw new Error('the provider does not send the browser back')
    return back
  }

  /** Signs in, including the callback. */
  const signIn = async (gatewayUrl: string, name: string, query = ''): Promise<Response> =>
    visit(await authenticate(gatewayUrl, name, query))

  /** Cookies of pending and completed sign-ins, in the order in which the gateway set them. */
  const signInCookies = (url: string): readonly (readonly [name: string, value: string])[] =>
    [...jarOf(new URL(url))].filter(([name]) => name.startsWith('__Host-sign-in-'))

  return {
    visit,
    follow,
    authenticate,
    signInCookies,
    signIn,
    cookieHeader,
    cookie: (url: string, name: string) => jarOf(new URL(url)).get(name),
    setCookie: (url: string, name: string, value: string) => jarOf(new URL(url)).set(name, value),
    forget: (url: string, name: string) => jarOf(new URL(url)).delete(name),
  }
}
