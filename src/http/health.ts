import type { RequestHandler } from 'express'
import { GatewayError } from '../errors.ts'
import type { StoreInUse } from './shared-counts.ts'

/** Where the process stands: `leaving` still serves, but wants no new connections; `draining` takes nothing new. */
export type Phase = 'serving' | 'leaving' | 'draining'

export interface Lifecycle {
  phase: Phase
}

export const livez: RequestHandler = function livez(_req, res) {
  res.json({ status: 'ok' })
}

/**
 * Ready: not on the way out, with keys to sign with, and able to write the record. An ill upstream does not make a
 * replica unready; without keys it is as good as out of reach.
 */
export const createReadyz = (
  lifecycle: Lifecycle,
  hasKeys: () => boolean,
  isAuditWritable: () => Promise<boolean>,
  rateLimitStore: () => StoreInUse | undefined,
): RequestHandler => {
  const check = shareFor(READY_CACHE_MS, isAuditWritable)
  return async function readyz(_req, res) {
    if (lifecycle.phase !== 'serving') throw new GatewayError('shutting-down')
    if (!hasKeys()) throw new GatewayError('upstream-unavailable')
    if (!(await check())) throw new GatewayError('audit-unavailable')
    res.json({ status: 'ready', rateLimitStore: rateLimitStore() })
  }
}

/** Anyone may ask, and each check writes to disk: so one check serves all who ask within its time. */
const shareFor = <T>(ms: number, ask: () => Promise<T>): (() => Promise<T>) => {
  let shared: { readonly answer: Promise<T>; readonly until: number } | undefined
  return () => {
    if (shared === undefined || performance.now() >= shared.until) {
      shared = { answer: ask(), until: performance.now() + ms }
    }
    return shared.answer
  }
}

const READY_CACHE_MS = 1000
