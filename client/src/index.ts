import createClient, { type Client } from 'openapi-fetch'
import { type CancelAndWait, createCancelAndWait } from './cancel-and-wait.ts'
import type { components, paths } from './schema.ts'

export type { CancelAndWait, CancelAndWaitOptions, CancelOutcome, CancelResult } from './cancel-and-wait.ts'
export { isProblem, type Problem, type ProblemCode } from './problem.ts'

type Schemas = components['schemas']

export type Task = Schemas['Task']
export type TaskDetail = Schemas['TaskDetail']
export type Cancellation = Schemas['Cancellation']

export type GatewayClient = Client<paths> & { readonly cancelAndWait: CancelAndWait }

type HeaderValues = Readonly<Record<string, string>>

export interface GatewayClientOptions {
  /** The address of the gateway, such as `https://gateway.example.com`; empty for a page that the gateway serves. */
  readonly baseUrl: string
  /** Sent with every request, such as the credential. A function is called for each request: tokens expire. */
  readonly headers?: HeaderValues | (() => HeaderValues | Promise<HeaderValues>)
  /** Whether the browser sends cookies; `include` by default with `session`. */
  readonly credentials?: 'include' | 'omit' | 'same-origin'
  /** The caller is a browser session: requests that change state carry `X-CSRF: 1`. */
  readonly session?: boolean
  /** Replaces the platform's `fetch`, for traces or tests. */
  readonly fetch?: (request: Request) => Promise<Response>
}

const SAFE_METHODS: readonly string[] = ['GET', 'HEAD']

/** A client whose paths, parameters and responses are those of the OpenAPI document of the gateway. */
export const createGatewayClient = (options: GatewayClientOptions): GatewayClient => {
  const { baseUrl, headers = {}, session = false, credentials = session ? 'include' : undefined } = options
  const fetch = options.fetch ?? ((request) => globalThis.fetch(request))
  const client = createClient<paths>({ baseUrl, fetch, ...(credentials === undefined ? {} : { credentials }) })
  client.use({
    onRequest: async ({ request }) => {
      const values = typeof headers === 'function' ? await headers() : headers
      // Headers of a single request take precedence.
      for (const [name, value] of Object.entries(values)) {
        if (!request.headers.has(name)) request.headers.set(name, value)
      }
      if (session && !SAFE_METHODS.includes(request.method)) request.headers.set('X-CSRF', '1')
      return request
    },
  })
  return Object.assign(client, { cancelAndWait: createCancelAndWait(client, fetch) })
}
