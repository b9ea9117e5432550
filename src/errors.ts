/** Every failure that is reported to callers. http/presentation/problems.ts maps each to a status and texts. */
export type ErrorCode =
  | 'audit-unavailable'
  | 'bad-request'
  | 'content-too-large'
  | 'credentials-ambiguous'
  | 'csrf-rejected'
  | 'expectation-failed'
  | 'forbidden'
  | 'gateway-busy'
  | 'headers-too-large'
  | 'identity-provider-unavailable'
  | 'internal'
  | 'method-not-allowed'
  | 'misdirected'
  | 'not-found'
  | 'outcome-unknown'
  | 'query-invalid'
  | 'request-timeout'
  | 'shutting-down'
  | 'sign-in-failed'
  | 'task-no-invalid'
  | 'task-not-cancellable'
  | 'task-not-found'
  | 'too-many-requests'
  | 'unauthenticated'
  | 'upstream-bad-response'
  | 'upstream-credentials-rejected'
  | 'upstream-forbidden'
  | 'upstream-misconfigured'
  | 'upstream-throttled'
  | 'upstream-timeout'
  | 'upstream-unavailable'

/** Languages that problems are written in and that upstream answers in. */
export type Lang = 'en' | 'zh'

/** A cause of a problem that has texts of its own. */
export type ErrorReason = 'consent-denied' | 'key-invalid' | 'session-ended' | 'token-invalid'

/** The details of a problem besides its code. No secret may be among them: all of it reaches the caller. */
export interface ErrorFacts {
  /** The HTTP status, where the route decides it and not the code. */
  readonly status?: number
  readonly reason?: ErrorReason
  /** Name of the faulty input, and the rule it broke. */
  readonly field?: string
  readonly rule?: Readonly<Record<Lang, string>>
  readonly upstreamCode?: string | null
  /** Upstream's RequestId. */
  readonly requestId?: string | null
  readonly outcome?: 'not-cancelled' | 'unknown'
  readonly cancellationId?: string | null
  readonly retryAfterMs?: number | null
  /** Methods that the route knows, for `Allow`. */
  readonly allow?: string
  /** The scope that was lacking, for the challenge. */
  readonly scope?: string
}

/** The details of a failed upstream call that its problem shows. */
type UpstreamFacts = Required<Pick<ErrorFacts, 'upstreamCode' | 'requestId' | 'retryAfterMs'>>

export const upstreamFacts = ({ upstreamCode, requestId, retryAfterMs }: UpstreamFacts): ErrorFacts => ({
  upstreamCode,
  requestId,
  retryAfterMs,
})

/** The one error that crosses module borders. Its message is its code: texts for people are made at the edge. */
export class GatewayError extends Error {
  readonly code: ErrorCode
  readonly facts: ErrorFacts

  constructor(code: ErrorCode, facts: ErrorFacts = {}) {
    super(code)
    this.name = 'GatewayError'
    this.code = code
    this.facts = facts
  }
}

/** The start can't go on. Names every faulty setting with the rule it breaks, never with its value. */
export class ConfigError extends Error {
  readonly faults: readonly string[]

  constructor(faults: readonly string[]) {
    super(`Faulty settings:\n${faults.map((fault) => `  ${fault}`).join('\n')}`)
    this.name = 'ConfigError'
    this.faults = faults
  }
}

/** The result of work, or null where it throws. */
export const nullOnError = <T>(work: () => T): T | null => {
  try {
    return work()
  } catch {
    return null
  }
}
