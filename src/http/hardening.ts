import express, { type RequestHandler } from 'express'
import helmet from 'helmet'
import { GatewayError } from '../errors.ts'
import { isLoopback } from '../loopback.ts'
import type { Lifecycle } from './health.ts'

const BODY_LIMIT_BYTES = 8192

/** Nothing here is a page, so nothing may be loaded. Helmet's own policy allows inline styles and upgrades requests. */
export const securityHeaders = (): RequestHandler =>
  helmet({
    contentSecurityPolicy: {
      useDefaults: false,
      directives: { defaultSrc: ["'none'"], baseUri: ["'none'"], formAction: ["'none'"], frameAncestors: ["'none'"] },
    },
    xFrameOptions: { action: 'deny' },
  })

/** No route takes a body; a small one is read and ignored, so that the connection can be used again. */
export const limitBody = (): RequestHandler => express.raw({ type: () => true, limit: BODY_LIMIT_BYTES })

/**
 * `requireLoopback`: a page on the web can point a name of its own at 127.0.0.1 (DNS rebinding), so where callers need
 * no credentials, requests must name the machine itself.
 */
export const checkHost = (requireLoopback: boolean): RequestHandler =>
  function hostGuard(req, _res, next) {
    const host = req.headers.host
    if (host === undefined && req.httpVersion !== '1.0') throw new GatewayError('bad-request')
    if (requireLoopback && !isLoopback((host ?? '').replace(/:\d*$/, ''))) throw new GatewayError('misdirected')
    next()
  }

/** On the way out: answers on connections that are still open, and asks for no more of them. */
export const refuseWhenDraining = (lifecycle: Lifecycle): RequestHandler =>
  function drainGuard(_req, res, next) {
    if (lifecycle.phase === 'serving') return next()
    res.set('Connection', 'close')
    if (lifecycle.phase === 'draining') throw new GatewayError('shutting-down')
    next()
  }
