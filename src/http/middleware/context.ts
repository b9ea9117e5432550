import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Request, RequestHandler, Response } from 'express'
import type { Subnets } from '../../addresses.ts'
import type { ChargeCall } from '../../alibaba/task-queries.ts'
import type { Caller } from '../../callers/caller.ts'
import type { Session } from '../../callers/session.ts'
import type { SignInResult } from '../../callers/sign-in.ts'
import { type ErrorCode, GatewayError, type Lang } from '../../errors.ts'
import type { Log } from '../../telemetry/log.ts'
import type { Meter } from '../../telemetry/meter.ts'
import { type Deadline, deadlineIn, withDeadline } from '../../time.ts'
import { type Addresses, clientAddress } from './client-ip.ts'
import { createLogLimit } from './log-limit.ts'

/** A header or cookie by which a caller may be known; it is not verified yet. */
export interface Credential {
  readonly scheme: 'api-key' | 'authorization' | 'session'
  readonly value: string
}

/** Facts about a request. Middleware sets the fields that are not readonly. */
export interface Context extends Addresses {
  readonly requestId: string
  readonly correlationId: string | null
  /** Of the trace that this request belongs to; null where none is recorded. */
  traceId: string | null
  readonly lang: Lang
  /** On the monotonic clock. */
  readonly startedAtMs: number
  /** Counts until the body is read; then `startDeadline` sets the one for the work. */
  deadline: Deadline
  /** Aborts when the caller goes away before the answer is complete. */
  readonly signal: AbortSignal
  readonly isCancel: boolean
  credentials: readonly Credential[]
  caller: Caller | null
  /** Where the caller has signed in. */
  session: Session | null
  /** Of a browser that comes back from the identity provider. */
  signInResult: SignInResult | null
  /** Charges the caller for a call to the upstream; undefined unless the request is a read that was counted. */
  chargeCall: ChargeCall | undefined
  code: ErrorCode | null
}

declare global {
  namespace Express {
    interface Request {
      context: Context
    }
  }
}

export interface ContextOptions {
  readonly trustProxy: Subnets
  readonly requestTimeoutMs: number
  readonly log: Log
  readonly meter: Meter
}

const SAFE_ID = /^[A-Za-z0-9._-]{1,64}$/

/** Comes first: gives the request its id, address and language; at its end logs one line, and counts it. */
export const assignContext = ({ trustProxy, requestTimeoutMs, log, meter }: ContextOptions): RequestHandler => {
  const mayLog = createLogLimit()
  return function contextAssigner(req, res, next) {
    const gone = new AbortController()
    const forwardedFor = req.headersDistinct['x-forwarded-for'] ?? []
    const addresses = clientAddress(req.socket.remoteAddress, forwardedFor, trustProxy)
    const { peerIp } = addresses
    if (forwardedFor.length > 0 && peerIp !== null && !trustProxy.has(peerIp) && mayLog(peerIp)) {
      log.warn('X-Forwarded-For of an untrusted peer was ignored', { peerIp, setting: 'TRUST_PROXY' })
    }
    req.context = {
      requestId: randomUUID(),
      correlationId: correlationIdOf(req),
      traceId: null,
      ...addresses,
      lang: languageOf(req),
      startedAtMs: performance.now(),
      deadline: deadlineIn(requestTimeoutMs),
      signal: gone.signal,
      isCancel: isCancel(req),
      credentials: [],
      caller: null,
      session: null,
      signInResult: null,
      chargeCall: undefined,
      code: null,
    }
    res.set({ 'X-Request-Id': req.context.requestId, Vary: 'Accept-Language, Origin', 'Cache-Control': 'no-store' })
    res.once('close', () => {
      if (!res.writableFinished) gone.abort()
      logRequest(log, meter, req, res)
    })
    next()
  }
}

/** A caller that is slow to send a body uses up its own time, not that of the upstream and the record. */
export const startDeadline = (requestTimeoutMs: number): RequestHandler =>
  function deadlineStarter(req, _res, next) {
    req.context.deadline = deadlineIn(requestTimeoutMs)
    next()
  }

/**
 * By the bare request, since some are refused before there is a route, or an Express. The scheme of a target in
 * absolute form has no case (RFC 3986, 3.1); the path has.
 */
export const isCancel = ({ method, url = '' }: IncomingMessage): boolean =>
  method === 'DELETE' && /^\/tasks([/?]|$)/.test(url.replace(/^https?:\/\/[^/?]*/i, ''))

/** `?lang=` has precedence over the header; the default is English. */
const languageOf = (req: Request): Lang => {
  const { lang } = req.query
  if (lang === 'zh' || lang === 'en') return lang
  if (req.headers['accept-language'] === undefined) return 'en'
  return req.acceptsLanguages('en', 'zh') === 'zh' ? 'zh' : 'en'
}

const correlationIdOf = (req: Request): string | null => {
  const id = req.get('x-request-id')
  return id !== undefined && SAFE_ID.test(id) ? id : null
}

/** The route's pattern, never the path: a path can hold anything. Null where there is no such route. */
export const routeOf = (req: Request): string | null => (typeof req.route?.path === 'string' ? req.route.path : null)

const logRequest = (log: Log, meter: Meter, req: Request, res: Response): void => {
  const { requestId, correlationId, traceId, clientIp, caller, code, startedAtMs } = req.context
  const { method } = req
  const route = routeOf(req)
  const status = res.writableFinished ? res.statusCode : null
  const durationMs = performance.now() - startedAtMs
  log.info('request', {
    requestId,
    correlationId,
    traceId,
    method,
    route,
    status,
    code,
    caller: caller?.name,
    via: caller?.via,
    clientIp,
    durationMs: Math.round(durationMs),
  })
  meter.request({ method, route, status, code, durationMs, hasWaited: res.hasHeader('Preference-Applied') })
}

const LATE = Symbol('late')

/** Waits for a promise until the deadline of the request. @throws the given code after the deadline */
export const withinRequestDeadline = async <T>(req: Request, awaited: Promise<T>, code: ErrorCode): Promise<T> => {
  const outcome = await withDeadline(req.context.deadline, awaited, LATE)
  if (outcome === LATE) throw new GatewayError(code)
  return outcome
}
