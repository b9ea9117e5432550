import { createServer, type ServerResponse } from 'node:http'
import type { TestContext } from 'node:test'
import { type CryptoKey, exportJWK, generateKeyPair, type JWK, type JWTPayload, SignJWT } from 'jose'
import type { Env } from '../../src/config.ts'
import { listenOn } from './ports.ts'

/** How an issuer responds to requests for its keys. */
export type IssuerReply =
  | 'keys'
  | 'down'
  | 'slow'
  | 'slow-body'
  | 'huge'
  | 'redirect'
  | 'not-json'
  | 'no-key-set'
  | 'error'

export interface IssuerKey {
  readonly kid: string
  readonly alg: string
  readonly privateKey: CryptoKey
  readonly publicJwk: JWK
}

/** Claims of a token; undefined claims are omitted. */
export type Claims = Readonly<Record<string, unknown>>

export interface Issuer {
  readonly url: string
  /** Settings of a gateway that trusts this issuer. */
  readonly env: Env
  /** Every requested path. */
  readonly requests: readonly string[]
  readonly key: IssuerKey
  /** The claims of a valid token, with changes. */
  claims(changes?: Claims): JWTPayload
  token(changes?: Claims): Promise<string>
  /** The header that carries such a token. */
  bearer(changes?: Claims): Promise<{ readonly authorization: string }>
  answerWith(reply: IssuerReply): void
  /** Responds to requests for that path with this text. */
  setResponse(path: string, text: string): void
  /** Replaces the keys; the first key signs. */
  rotate(...keys: readonly IssuerKey[]): void
}

export const AUDIENCE = 'gateway'

let made = 0

export const createIssuerKey = async (alg = 'ES256'): Promise<IssuerKey> => {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true })
  made += 1
  const kid = `key-${made}`
  return { kid, alg, privateKey, publicJwk: { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' } }
}

export const sign = ({ kid, alg, privateKey }: IssuerKey, claims: JWTPayload, header = {}): Promise<string> =>
  new SignJWT(claims).setProtectedHeader({ alg, kid, ...header }).sign(privateKey)

export const secondsFromNow = (seconds: number): number => Math.floor(Date.now() / 1000) + seconds

/** A token issuer that serves metadata and keys over HTTP, and signs tokens. */
export const startIssuer = async (t: TestContext, ...given: readonly IssuerKey[]): Promise<Issuer> => {
  let keys = given.length > 0 ? given : [await createIssuerKey()]
  let reply: IssuerReply = 'keys'
  const requests: string[] = []
  const said = new Map<string, string>()
  const server = createServer((req, res) => {
    const path = req.url ?? ''
    requests.push(path)
    const text = said.get(path)
    if (text !== undefined) res.setHeader('content-type', 'application/json').end(text)
    else if (path === '/.well-known/openid-configuration') json(res, { issuer: url, jwks_uri: `${url}/jwks` })
    else if (path === '/elsewhere') json(res, keySet())
    else REPLIES[reply](res, keySet())
  })
  const keySet = () => ({ keys: keys.map(({ publicJwk }) => publicJwk) })
  const url = `http://127.0.0.1:${await listenOn(t, server)}`
  const signer = (): IssuerKey => {
    const [first] = keys
    if (first === undefined) throw new Error('there is no key')
    return first
  }
  const claims = (changes: Claims = {}): JWTPayload => ({
    iss: url,
    aud: AUDIENCE,
    sub: 'shop',
    scope: 'tasks:cancel tasks:read',
    iat: secondsFromNow(0),
    exp: secondsFromNow(600),
    ...changes,
  })
  const token = (changes?: Claims): Promise<string> => sign(signer(), claims(changes))
  return {
    url,
    env: { JWT_ISSUER: url, JWT_AUDIENCE: AUDIENCE },
    requests,
    get key() {
      return signer()
    },
    claims,
    token,
    bearer: async (changes) => ({ authorization: `Bearer ${await token(changes)}` }),
    answerWith: (next) => {
      reply = next
    },
    setResponse: (path, text) => void said.set(path, text),
    rotate: (...next) => {
      keys = next
    },
  }
}

const json = (res: ServerResponse, body: unknown): void =>
  void res.setHeader('content-type', 'application/json').end(JSON.stringify(body))

type Answer = (res: ServerResponse, keySet: unknown) => void

const REPLIES: Readonly<Record<IssuerReply, Answer>> = {
  keys: json,
  down: (res) => void res.destroy(),
  slow: () => undefined,
  'slow-body': (res) => void res.writeHead(200).write('{"keys":['),
  huge: (res, keySet) => json(res, { ...Object(keySet), padding: 'x'.repeat(300_000) }),
  redirect: (res) => void res.writeHead(302, { location: '/elsewhere' }).end(),
  'not-json': (res) => void res.end('<html>'),
  'no-key-set': (res) => json(res, { keys: {} }),
  error: (res, keySet) => void res.writeHead(500).end(JSON.stringify(keySet)),
}
