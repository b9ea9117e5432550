import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { type IncomingHttpHeaders, type IncomingMessage, request } from 'node:http'
import { text } from 'node:stream/consumers'
import type { TestContext } from 'node:test'
import { createSandbox, type Sandbox, type SandboxOptions } from '../../sandbox/src/server.ts'
import { signRpcV1 } from '../../src/alibaba/rpc-v1.ts'
import type { Credentials, Sign, SignedRequest } from '../../src/alibaba/signing.ts'

/** Credentials that the sandbox of `startKeyedSandbox` accepts. */
export const KEYS = { accessKeyId: 'key-id', accessKeySecret: 'key-secret' } as const

export const startKeyedSandbox = async (t: TestContext, options: Partial<SandboxOptions> = {}): Promise<Sandbox> => {
  const sandbox = await createSandbox({ ...KEYS, ...options })
  t.after(() => sandbox.close())
  return sandbox
}

export interface CallOptions {
  readonly sign?: Sign
  readonly keys?: Credentials
  readonly at?: Date
  readonly nonce?: string
  /** Changes the request after it was signed. */
  readonly tamper?: (signed: SignedRequest) => Partial<Omit<SignedRequest, 'method'>> & { readonly method?: string }
}

export interface CallAnswer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: Readonly<Record<string, unknown>>
}

type Params = Readonly<Record<string, string>>

/** Sends one signed call on its own connection; resolves when the head of the response arrives. */
export const openSignedCall = async (
  { url }: Sandbox,
  action: string,
  params: Params,
  { sign = signRpcV1, keys = KEYS, at = new Date(), nonce = randomUUID(), tamper = () => ({}) }: CallOptions = {},
): Promise<IncomingMessage> => {
  const signed = sign({ action, params, host: new URL(url).host }, keys, { at, nonce })
  const { method, path, headers, body } = { ...signed, ...tamper(signed) }
  const sent = request(url, { method, path, headers: { ...headers }, agent: false }).end(body)
  const [answer]: IncomingMessage[] = await once(sent, 'response')
  if (answer === undefined) throw new Error('no answer')
  return answer
}

/** Sends one signed call; resolves with the whole response. */
export const signedCall = async (...args: Parameters<typeof openSignedCall>): Promise<CallAnswer> => {
  const answer = await openSignedCall(...args)
  return { status: answer.statusCode ?? 0, headers: answer.headers, body: parseObject(await text(answer)) }
}

export const parseObject = (json: string): Readonly<Record<string, unknown>> => {
  const value: unknown = JSON.parse(json)
  if (!isObject(value)) throw new Error(`not an object: ${json}`)
  return value
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null
