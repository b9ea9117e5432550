import { createServer, type IncomingMessage } from 'node:http'
import { text } from 'node:stream/consumers'
import type { TestContext } from 'node:test'
import type { Env } from '../../src/config.ts'
import { createIssuerKey, type IssuerKey, secondsFromNow, sign } from './issuer.ts'
import { listenOn } from './ports.ts'
import type { createVisitor } from './provider.ts'
import { SIGN_IN_ENV } from './session.ts'

/** A request to the token endpoint. */
export interface TokenRequest {
  readonly authorization: string | undefined
  readonly body: URLSearchParams
}

export interface FakeProvider {
  readonly url: string
  readonly env: Env
  /** Paths of all requests, in order. */
  readonly paths: readonly string[]
  readonly tokenRequests: readonly TokenRequest[]
  /** Members of the metadata that are added or replaced. */
  metadata: Readonly<Record<string, unknown>>
  /** Members of the token response that are added or replaced. */
  tokens: Readonly<Record<string, unknown>>
  /** The first key signs. The JWKS contains `published`, or these keys if that is null. */
  keys: readonly [IssuerKey, ...IssuerKey[]]
  published: readonly IssuerKey[] | null
  /** Header parameters of the ID token that are added or replaced. */
  header: Readonly<Record<string, unknown>>
  /** Claims of the ID token that are added or replaced. */
  claims: Readonly<Record<string, unknown>>
  /** Paths that respond with 503. */
  failing: readonly string[]
  /** The response of the token endpoint, if it is not a token. */
  rejection: { readonly status: number; readonly body: string } | null
  /** Called before the token response is sent. */
  onToken: () => Promise<void> | void
  /** Signs a browser in, and returns the callback URL. */
  callbackOf(login: Response): URL
}

const CLIENT_ID = 'gateway'

let usualKey: Promise<IssuerKey> | undefined

/** One key for the providers of a test file: the generation of an RSA key takes longer than a sign-in. */
const providerKey = (): Promise<IssuerKey> => {
  usualKey ??= createIssuerKey('RS256')
  return usualKey
}

/** An OpenID provider without pages, which signs in every user as `ann`. Tests configure its responses. */
export const startFakeProvider = async (t: TestContext): Promise<FakeProvider> => {
  const paths: string[] = []
  const tokenRequests: TokenRequest[] = []
  const nonces = new Map<string, string>()

  const answer = async (req: IncomingMessage): Promise<unknown> => {
    if (req.url === '/jwks') return { keys: (provider.published ?? provider.keys).map(({ publicJwk }) => publicJwk) }
    if (req.url !== '/token') return { ...metadata(), ...provider.metadata }
    const body = new URLSearchParams(await text(req))
    tokenRequests.push({ authorization: req.headers.authorization, body })
    await provider.onToken()
    const times = { iat: secondsFromNow(0), exp: secondsFromNow(600) }
    const nonce = nonces.get(body.get('code') ?? '')
    const claims = { iss: url, aud: CLIENT_ID, sub: 'ann', nonce, ...times, ...provider.claims }
    const idToken = await sign(provider.keys[0], claims, provider.header)
    return { access_token: 'unused', token_type: 'Bearer', id_token: idToken, ...provider.tokens }
  }

  const server = createServer(async (req, res) => {
    const path = req.url ?? ''
    paths.push(path)
    if (path === '/token' && provider.rejection !== null) {
      const { status, body } = provider.rejection
      res.writeHead(status, { 'content-type': 'application/json' }).end(body)
      return
    }
    const isFailing = provider.failing.includes(path)
    const body = isFailing ? {} : await answer(req)
    res.writeHead(isFailing ? 503 : 200, { 'content-type': 'application/json' }).end(JSON.stringify(body))
  })
  const url = `http://127.0.0.1:${await listenOn(t, server)}`
  const metadata = () => ({
    issuer: url,
    authorization_endpoint: `${url}/authorize`,
    token_endpoint: `${url}/token`,
    jwks_uri: `${url}/jwks`,
  })
  const provider: FakeProvider = {
    url,
    env: { ...SIGN_IN_ENV, OIDC_ISSUER: url, OIDC_CLIENT_ID: CLIENT_ID },
    paths,
    tokenRequests,
    metadata: {},
    tokens: {},
    keys: [await providerKey()],
    published: null,
    header: {},
    claims: {},
    failing: [],
    rejection: null,
    onToken: () => undefined,
    callbackOf: (login) => {
      const asked = new URL(login.headers.get('location') ?? '').searchParams
      const code = `code-${nonces.size}`
      nonces.set(code, asked.get('nonce') ?? '')
      return new URL(`${new URL(login.url).origin}/auth/callback?code=${code}&state=${asked.get('state')}`)
    },
  }
  return provider
}

/** Starts a sign-in, and returns the callback URL. */
export const beginSignIn = async (
  provider: FakeProvider,
  visitor: ReturnType<typeof createVisitor>,
  gatewayUrl: string,
  query = '',
): Promise<URL> => provider.callbackOf(await visitor.visit(`${gatewayUrl}/auth/login${query}`))
