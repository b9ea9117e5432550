import type { IncomingMessage } from 'node:http'
import type { RequestHandler } from 'express'
import type { Log } from '../../telemetry/log.ts'
import { createLogLimit } from './log-limit.ts'

// X-API-Key is not among them: keys are for services, and no page should hold one.
const PREFLIGHT = {
  'Access-Control-Allow-Methods': 'GET, HEAD, DELETE, POST',
  'Access-Control-Allow-Headers':
    'Authorization, Prefer, X-CSRF, If-None-Match, traceparent, tracestate, baggage, Accept-Language, Content-Type, X-Request-Id',
  // The longest that Chromium keeps one.
  'Access-Control-Max-Age': '7200',
} as const

const EXPOSED =
  'Location, Link, ETag, RateLimit, RateLimit-Policy, Retry-After, Preference-Applied, X-Request-Id, WWW-Authenticate'

/** Headers that let a page of a listed origin read the response; none for other origins. */
export const corsHeaders = (
  origins: readonly string[],
  { headers: { origin } }: IncomingMessage,
): Readonly<Record<string, string>> => {
  // Compared to the letter: browsers spell an origin in one way. Node joins several lines, which then match none.
  if (origin === undefined || !origins.includes(origin)) return {}
  return {
    'Access-Control-Allow-Origin': origin,
    'Access-Control-Allow-Credentials': 'true',
    'Access-Control-Expose-Headers': EXPOSED,
  }
}

export interface OriginOptions {
  /** Origins of pages that may read responses and use sessions. */
  readonly corsOrigins: readonly string[]
  readonly publicUrl: string | undefined
  readonly log: Log
}

/** Before anything that may refuse: a page must be able to read its problems too. */
export const allowOrigins = ({ corsOrigins, publicUrl, log }: OriginOptions): RequestHandler => {
  const mayLog = createLogLimit()
  return function originGuard(req, res, next) {
    const headers = corsHeaders(corsOrigins, req)
    res.set(headers)
    const { origin } = req.headers
    const isRefused = origin !== undefined && Object.keys(headers).length === 0 && !isOwn(origin, publicUrl, req)
    if (isRefused && mayLog(shown(origin))) {
      log.warn('a request came from an origin that is not listed; its pages cannot read responses', {
        origin: shown(origin),
        setting: 'CORS_ORIGINS',
      })
    }
    next()
  }
}

/** Pages of the gateway send their origin too, with each request that changes anything. */
const isOwn = (origin: string, publicUrl: string | undefined, { headers }: IncomingMessage): boolean =>
  origin === publicUrl || headers['sec-fetch-site'] === 'same-origin' || URL.parse(origin)?.host === headers.host

/** An origin in the form that browsers send (RFC 6454, section 6.1); any other text may be anything. */
const ORIGIN = /^(null|[a-z][a-z0-9+.-]{0,30}:\/\/([a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(:\d{1,5})?)$/

const shown = (origin: string): string => (ORIGIN.test(origin) ? origin : 'not valid')

/** Responds to preflight requests (Fetch, CORS protocol). They never carry credentials, and no limit counts them. */
export const answerPreflights: RequestHandler = function preflightAnswer(req, res, next) {
  const isPreflight = req.method === 'OPTIONS' && req.headers['access-control-request-method'] !== undefined
  if (!isPreflight || !res.hasHeader('Access-Control-Allow-Origin')) return next()
  res.status(204).set(PREFLIGHT).end()
}
