import type { RequestHandler } from 'express'
import { type ErrorCode, GatewayError } from '../../errors.ts'
import type { StoreInUse } from '../middleware/redis-store.ts'

export interface Lifecycle {
  /** `leaving` still serves, but closes connections after each response; `draining` refuses new requests. */
  phase: 'serving' | 'leaving' | 'draining'
}

export const livez: RequestHandler = function livez(_req, res) {
  res.json({ status: 'ok' })
}

/** The reason for not being ready, as a problem code; null if ready. */
export type Readiness = () => Promise<ErrorCode | null>

export interface ReadinessOptions {
  readonly lifecycle: Lifecycle
  readonly hasCredentials: () => boolean
  /** Since the start the upstream has rejected the credentials, and not accepted any. */
  readonly areCredentialsRejected: () => Promise<boolean>
  readonly isAuditWritable: () => Promise<boolean>
}

/**
 * Ready: serving, with credentials that the upstream did not reject at the start, and able to write audit records. An
 * unhealthy upstream does not make a replica unready. A replica without credentials cannot use the upstream, so it
 * reports the upstream as unavailable.
 */
export const createReadiness =
  ({ lifecycle, hasCredentials, areCredentialsRejected, isAuditWritable }: ReadinessOptions): Readiness =>
  async () => {
    if (lifecycle.phase !== 'serving') return 'shutting-down'
    if (!hasCredentials()) return 'upstream-unavailable'
    if (await areCredentialsRejected()) return 'upstream-credentials-rejected'
    return (await isAuditWritable()) ? null : 'audit-unavailable'
  }

const NOT_READY = 503

export const createReadyz = (readiness: Readiness, rateLimitStore: () => StoreInUse | undefined): RequestHandler =>
  async function readyz(_req, res) {
    const lacking = await readiness()
    if (lacking !== null) throw new GatewayError(lacking, { status: NOT_READY })
    res.json({ status: 'ready', rateLimitStore: rateLimitStore() })
  }

/** Probes need no credentials, and each check writes to disk, so all probes within a second share one check. */
export const createSharedCheck = <T>(ask: () => Promise<T>): (() => Promise<T>) => {
  let shared: { readonly answer: Promise<T>; readonly until: number } | undefined
  return () => {
    if (shared === undefined || performance.now() >= shared.until) {
      shared = { answer: ask(), until: performance.now() + SHARED_MS }
    }
    return shared.answer
  }
}

const SHARED_MS = 1000

/** During shutdown, closes connections with their responses; while draining, refuses requests. @throws shutting-down */
export const refuseWhenDraining = (lifecycle: Lifecycle): RequestHandler =>
  function drainGuard(_req, res, next) {
    if (lifecycle.phase === 'serving') return next()
    res.set('Connection', 'close')
    if (lifecycle.phase === 'draining') throw new GatewayError('shutting-down')
    next()
  }
