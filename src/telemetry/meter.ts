import type { ErrorCode } from '../errors.ts'

/** Counts events when they happen. Durations are milliseconds; every label has few values. */
export interface Meter {
  /** An answer, or none where the caller left. The route is a pattern; null where there is none. */
  request(request: {
    readonly method: string
    readonly route: string | null
    readonly status: number | null
    readonly code: ErrorCode | null
    readonly durationMs: number
    /** Whether the response was delayed because the caller asked for it (`Prefer: wait`). */
    readonly hasWaited: boolean
  }): void
  /** The outcome of a cancellation, each time that it becomes known. */
  cancellation(outcome: string): void
  /** One attempt of an upstream call: its number, and how its response was classified. */
  attempt(attempt: {
    readonly action: string
    readonly attempt: number
    readonly result: string
    readonly durationMs: number
  }): void
  /** An append to the record. */
  auditWrite(write: { readonly isDone: boolean; readonly durationMs: number }): void
  /** A request was over that limit. */
  rateLimited(limit: string): void
  /** A connection was closed for one of the limits that connections have. */
  connectionClosed(closed: { readonly port: 'public' | 'admin'; readonly reason: string }): void
  /** A response of the upstream contradicted an assumption of that label. */
  assumptionContradicted(assumption: string): void
  /** Spans that the trace collector accepted, that it did not, and that had no place in the queue. */
  spans(result: 'exported' | 'failed' | 'dropped', count: number): void
}

export const NO_METER: Meter = {
  request: () => undefined,
  cancellation: () => undefined,
  attempt: () => undefined,
  auditWrite: () => undefined,
  rateLimited: () => undefined,
  connectionClosed: () => undefined,
  assumptionContradicted: () => undefined,
  spans: () => undefined,
}
