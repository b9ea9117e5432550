import type { IncomingMessage } from 'node:http'
import type { RequestHandler } from 'express'

// X-API-Key is not among them: keys are for services, and no page should hold one.
const PREFLIGHT = {
  'Access-Control-Allow-Methods': 'GET, HEAD, DELETE, POST',
  'Access-Control-Allow-Headers': 'Authorization, Prefer, X-CSRF, If-None-Match, traceparent, Accept-Language',
  // The longest that Chromium keeps one.
  'Access-Control-Max-Age': '7200',
} as const

const EXPOSED =
  'Location, Link, ETag, RateLimit, RateLimit-Policy, Retry-After, Preference-Applied, X-Request-Id, WWW-Authenticate'

/** What lets a page of a listed origin read the answer; nothing for anyone else. */
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

/** Before anything that may refuse: a page must be able to read its problems too. */
export const allowOrigins = (origins: readonly string[]): RequestHandler =>
  function originGuard(req, res, next) {
    res.set(corsHeaders(origins, req))
    next()
  }

/** What a browser asks before it sends what a form could not. It never carries credentials, and no limit counts it. */
export const answerPreflights: RequestHandler = function preflightAnswer(req, res, next) {
  const isPreflight = req.method === 'OPTIONS' && req.headers['access-control-request-method'] !== undefined
  if (!isPreflight || !res.hasHeader('Access-Control-Allow-Origin')) return next()
  res.status(204).set(PREFLIGHT).end()
}
