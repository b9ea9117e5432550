import type { NextFunction, Request, Response } from 'express'
import { type IncrementResponse, rateLimit, type Store } from 'express-rate-limit'
import type { ChargeCall } from '../../alibaba/task-queries.ts'
import { callerKey } from '../../callers/caller.ts'
import { GatewayError } from '../../errors.ts'
import type { Meter } from '../../telemetry/meter.ts'
import { callerIn } from './authenticate.ts'
import { networkOf } from './client-ip.ts'
import { createMemoryStore } from './memory-store.ts'

export interface RateLimitOptions {
  readonly max: number
  readonly readMax: number
  readonly unknownMax: number
  readonly windowMs: number
  readonly meter: Meter
  /** Where each limit counts: in memory, unless replicas share the counts. */
  readonly storeFor?: ((limit: string) => Store) | undefined
}

export const createRateLimits = (options: RateLimitOptions) => {
  const { max, readMax, unknownMax, windowMs, meter, storeFor = () => createMemoryStore(windowMs) } = options
  const limiter = (identifier: string, limit: number, keyGenerator: (req: Request) => string) =>
    ({
      identifier,
      store: storeFor(identifier),
      limit,
      windowMs,
      keyGenerator,
      standardHeaders: 'draft-8',
      legacyHeaders: false,
      // The library's checks assume addresses from Express; these come from the request's context.
      validate: false,
      handler: (_req: Request, res: Response): never => {
        // At the very end of a window the value would be 0.
        if (res.get('Retry-After') === '0') res.set('Retry-After', '1')
        meter.rateLimited(identifier)
        throw new GatewayError('too-many-requests')
      },
    }) as const
  const failures = limiter('unknown', unknownMax, addressOf)
  const starts = limiter('sign-in-starts', unknownMax, addressOf)
  const reads = limiter('reads', readMax, byCaller)
  const countRead = rateLimit(reads)
  return {
    /** Failed authentication, by address. Known callers pass without being counted. */
    unauthenticated: rateLimit({ ...failures, skip: (req) => req.context.caller !== null }),
    /** Takes back the count of `unauthenticated` for a caller that is verified after it. */
    refund: async (req: Request, res: Response): Promise<void> => {
      await failures.store.decrement(addressOf(req))
      // The next limit would append its own values to these headers.
      res.removeHeader('RateLimit')
      res.removeHeader('RateLimit-Policy')
    },
    /** Sign-ins that were begun and not completed, by address. */
    signInStarts: rateLimit(starts),
    /** Takes back the count of `signInStarts` for a sign-in that was completed. */
    refundSignInStart: async (req: Request): Promise<void> => void (await starts.store.decrement(addressOf(req))),
    /** Failed sign-ins, by address: each can cost a call to the identity provider. */
    signIns: rateLimit({ ...limiter('sign-ins', unknownMax, addressOf), skipSuccessfulRequests: true }),
    /** Completed sign-ins, by caller: each can be signed out, and a sign-out is kept until the end of the session. */
    sessions: rateLimit(limiter('sessions', max, byCaller)),
    /** Sign-outs, by address. */
    signOuts: rateLimit(limiter('sign-outs', unknownMax, addressOf)),
    cancels: rateLimit(limiter('cancels', max, byCaller)),
    /** Counts a read as 1, and adds to its context the function that charges its further calls to the upstream. */
    reads: function readLimiter(req: Request, res: Response, next: NextFunction) {
      req.context.chargeCall = createChargeCall(reads, req, res)
      return countRead(req, res, next)
    },
  }
}

interface Limiter {
  readonly identifier: string
  readonly store: Store
  readonly limit: number
  keyGenerator(req: Request): string
  handler(req: Request, res: Response): never
}

/**
 * A read costs 1 for each call that it starts, and at least 1. The count of the request itself pays for its first call.
 * A request that has ended starts no further call; requests that joined it start the call themselves.
 */
const createChargeCall = (limiter: Limiter, req: Request, res: Response): ChargeCall => {
  const { identifier, store, limit, keyGenerator, handler } = limiter
  let calls = 0
  return async () => {
    const { deadline, signal } = req.context
    if (signal.aborted || deadline.remainingMs() <= 0) throw new GatewayError('upstream-timeout')
    calls += 1
    if (calls === 1) return
    const count = await store.increment(keyGenerator(req))
    // The request may have ended at its deadline in the meantime.
    if (!res.headersSent) showCount(res, identifier, limit, count)
    if (count.totalHits > limit) handler(req, res)
  }
}

/** Replaces the header of express-rate-limit, in the same format. */
const showCount = (
  res: Response,
  identifier: string,
  limit: number,
  { totalHits, resetTime }: IncrementResponse,
): void => {
  const seconds = Math.max(0, Math.ceil(((resetTime?.getTime() ?? Date.now()) - Date.now()) / 1000))
  res.set('RateLimit', `"${identifier}"; r=${Math.max(0, limit - totalHits)}; t=${seconds}`)
  if (totalHits > limit) res.set('Retry-After', String(seconds))
}

const byCaller = (req: Request): string => callerKey(callerIn(req))

const addressOf = (req: Request): string => networkOf(req.context.clientIp ?? '')
