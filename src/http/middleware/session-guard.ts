import type { Request, RequestHandler } from 'express'
import { GatewayError } from '../../errors.ts'
import { SESSION_COOKIE } from './cookies.ts'

const SAFE_METHODS: readonly string[] = ['GET', 'HEAD']

/**
 * Browsers add cookies to requests that other pages cause, so a session alone permits no change. Other callers pass.
 */
export const guardSession = (trustedOrigins: readonly string[]): RequestHandler =>
  async function sessionGuard(req, res, next) {
    const { session } = req.context
    if (session === null) return next()
    if (!SAFE_METHODS.includes(req.method)) checkCsrf(req, trustedOrigins)
    // User activity renews the session. Requests that a page sends by itself, such as polling, lack the header.
    if (hasCsrfHeader(req)) res.cookie(SESSION_COOKIE.name, await session.renew(), SESSION_COOKIE.options)
    next()
  }

/**
 * Comes after the limit of the caller. Redis replies to the limit's command after it has delivered earlier
 * publications, so a sign-out that another replica completed before this request is known without a further command.
 * @throws unauthenticated
 */
export const refuseSignedOut: RequestHandler = function signOutGuard(req, res, next) {
  if (req.context.session?.isSignedOut() !== true) return next()
  // A renewal of the session.
  res.removeHeader('Set-Cookie')
  throw new GatewayError('unauthenticated', { reason: 'session-ended' })
}

export const requireCsrf = (trustedOrigins: readonly string[]): RequestHandler =>
  function csrfGuard(req, _res, next) {
    checkCsrf(req, trustedOrigins)
    next()
  }

/**
 * Only a script of a trusted origin can set that header and come from there: forms can't, and the browser asks first
 * whether a script of another origin may. @throws csrf-rejected
 */
const checkCsrf = (req: Request, trustedOrigins: readonly string[]): void => {
  const [origin = '', ...more] = req.headersDistinct.origin ?? []
  const isOwn = more.length === 0 && trustedOrigins.includes(origin)
  if (!isOwn || !hasCsrfHeader(req)) throw new GatewayError('csrf-rejected')
}

const hasCsrfHeader = ({ headersDistinct }: Request): boolean => headersDistinct['x-csrf']?.join() === '1'
