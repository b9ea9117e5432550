import type { components } from './schema.ts'

type Schemas = components['schemas']

export type Problem = Schemas['Problem']
export type ProblemCode = Schemas['ProblemCode']

/**
 * Whether an `error` is a problem of the gateway, and has one of the codes if any are named. Other errors come from a
 * program in between, such as a load balancer, whatever their media type is.
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
