import createClient, { type Client } from 'openapi-fetch'
import type { components, paths } from './schema.ts'

type Schemas = components['schemas']

export type Task = Schemas['Task']
export type TaskDetail = Schemas['TaskDetail']
export type Cancellation = Schemas['Cancellation']
export type Problem = Schemas['Problem']
export type ProblemCode = Schemas['ProblemCode']

export type GatewayClient = Client<paths>

export interface GatewayClientOptions {
  /** Where the gateway is, such as `https://gateway.example.com`; empty for a page that the gateway itself serves. */
  readonly baseUrl: string
  /** Sent with every request: the caller's credential above all. */
  readonly headers?: Readonly<Record<string, string>>
  /** In place of the platform's own `fetch`, for retries, traces or tests. */
  readonly fetch?: (request: Request) => Promise<Response>
}

/** A client whose paths, parameters and answers are those of the gateway's OpenAPI document. */
export const createGatewayClient = (options: GatewayClientOptions): GatewayClient => createClient<paths>(options)

/**
 * Whether an `error` is a problem of the gateway's, and of one of those codes where any are named. What is none comes
 * from something in between, such as a load balancer, whatever its type says.
 */
export const isProblem = <Code extends ProblemCode>(
  error: unknown,
  ...codes: readonly Code[]
): error is Problem & { readonly code: Code } =>
  typeof error === 'object' &&
  error !== null &&
  'code' in error &&
  'retryable' in error &&
  (codes.length === 0 || codes.some((code) => code === error.code))
