import type { Request, RequestHandler, Response } from 'express'
import { rateLimit, type Store } from 'express-rate-limit'
import { callerKey } from '../callers/caller.ts'
import { GatewayError } from '../errors.ts'
import type { Meter } from '../telemetry/meter.ts'
import { callerIn } from './authenticate.ts'
import { networkOf } from './client-ip.ts'
import { createMemoryStore } from './memory-store.ts'

export interface RateLimitOptions {
  readonly max: number
  readonly readMax: number
  readonly unknownMax: number
  readonly windowMs: number
  /** Where each limit counts: here, unless replicas share that. */
  readonly meter: Meter
  readonly storeFor?: ((limit: string) => Store) | undefined
}

export interface RateLimits {
  /** Failed authentication, by address. Known callers pass without being counted. */
  readonly unknown: RequestHandler
  /** Takes back what `unknown` counted, for one who proved to be known after it. */
  readonly forgive: (req: Request, res: Response) => Promise<void>
  /** Sign-ins that were begun and not completed, by address. */
  readonly signInStarts: RequestHandler
  /** Takes back what `signInStarts` counted, for a sign-in that was completed. */
  readonly forgiveSignInStart: (req: Request) => Promise<void>
  /** Sign-ins that came to nothing, by address: each can cost a call to the identity provider. */
  readonly signIns: RequestHandler
  /** Completed sign-ins, by caller: each can be signed out, which is remembered until the session's end. */
  readonly sessions: RequestHandler
  /** Sign-outs, by address. */
  readonly signOuts: RequestHandler
  readonly cancels: RequestHandler
  readonly reads: RequestHandler
}

export const createRateLimits = (options: RateLimitOptions): RateLimits => {
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
      // Its checks are for apps that leave addresses to Express; ours come from the request's context.
      validate: false,
      handler: (_req: Request, res: Response) => {
        // In the last moment of a window it would be none at all.
        if (res.get('Retry-After') === '0') res.set('Retry-After', '1')
        meter.limited(identifier)
        throw new GatewayError('too-many-requests')
      },
    }) as const
  const failures = limiter('unknown', unknownMax, addressOf)
  const starts = limiter('sign-in-starts', unknownMax, addressOf)
  return {
    unknown: rateLimit({ ...failures, skip: (req) => req.context.caller !== null }),
    forgive: async (req, res) => {
      await failures.store.decrement(addressOf(req))
      // The next limit would add its own to what they say.
      res.removeHeader('RateLimit')
      res.removeHeader('RateLimit-Policy')
    },
    signInStarts: rateLimit(starts),
    forgiveSignInStart: async (req) => void (await starts.store.decrement(addressOf(req))),
    signIns: rateLimit({ ...limiter('sign-ins', unknownMax, addressOf), skipSuccessfulRequests: true }),
    sessions: rateLimit(limiter('sessions', max, byCaller)),
    signOuts: rateLimit(limiter('sign-outs', unknownMax, addressOf)),
    cancels: rateLimit(limiter('cancels', max, byCaller)),
    reads: rateLimit(limiter('reads', readMax, byCaller)),
  }
}

const byCaller = (req: Request): string => callerKey(callerIn(req))

const addressOf = (req: Request): string => networkOf(req.context.clientIp ?? '')
