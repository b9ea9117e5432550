import { isIP } from 'node:net'
import type { Request, RequestHandler } from 'express'
import helmet from 'helmet'
import { GatewayError } from '../../errors.ts'
import { withDeadline } from '../../time.ts'
import type { Lifecycle } from '../routes/health.ts'

const BODY_LIMIT_BYTES = 8192

/** Nothing may be loaded; a page brings a policy of its own. Helmet's allows inline styles and upgrades requests. */
export const securityHeaders = (): RequestHandler =>
  helmet({
    contentSecurityPolicy: {
      useDefaults: false,
      directives: { defaultSrc: ["'none'"], baseUri: ["'none'"], formAction: ["'none'"], frameAncestors: ["'none'"] },
    },
    xFrameOptions: { action: 'deny' },
  })

/**
 * No route takes a body; a small one is read and ignored, so that the connection can be used again. Express's own
 * parsers read a body that is too large to its end before they refuse it.
 */
export const limitBody: RequestHandler = async function bodyGuard(req, res, next) {
  const { 'content-length': length, 'transfer-encoding': coding } = req.headers
  if (length === undefined && coding === undefined) return next()
  const tooLong = Number(length ?? 0) > BODY_LIMIT_BYTES
  const fault = tooLong
    ? 'content-too-large'
    : await withDeadline(req.context.deadline, faultOfBody(req), 'request-timeout')
  if (fault === null) return next()
  res.set('Connection', 'close')
  throw new GatewayError(fault)
}

const faultOfBody = async (req: Request): Promise<'content-too-large' | 'bad-request' | null> => {
  let bytes = 0
  try {
    for await (const chunk of req.iterator({ destroyOnReturn: false })) {
      bytes += chunk.length
      if (bytes > BODY_LIMIT_BYTES) return 'content-too-large'
    }
    return null
  } catch {
    // The connection ended first; nobody reads the answer.
    return 'bad-request'
  }
}

/**
 * A path with escapes that can't be read is taken to the letter, percent signs included. No route knows such a value, and
 * each refuses it in its own order; Express would before it looks at the method.
 */
export const keepUnreadableEscapes: RequestHandler = function escapeKeeper(req, _res, next) {
  const [path = '', ...query] = req.url.split('?')
  if (!isDecodable(path)) req.url = [path.replaceAll('%', '%25'), ...query].join('?')
  next()
}

const isDecodable = (path: string): boolean => {
  try {
    decodeURIComponent(path)
    return true
  } catch {
    return false
  }
}

/**
 * `isAllowed`: a page on the web can point a name of its own at any address (DNS rebinding), so where callers need no
 * credentials, requests must use a name that no such page can have. Null: every name is allowed.
 */
export const checkHost = (isAllowed: ((hostname: string) => boolean) | null): RequestHandler =>
  function hostGuard(req, _res, next) {
    const hosts = req.headersDistinct.host ?? []
    if (hosts.length > 1 || (hosts.length === 0 && req.httpVersion !== '1.0')) throw new GatewayError('bad-request')
    if (isAllowed !== null && !isAllowed(hostnameOf(req.url, hosts[0]))) throw new GatewayError('misdirected')
    next()
  }

/**
 * Names of the machine itself, of its addresses, of containers and of services in a cluster, and the configured one. None
 * of them can be a name that a page on the web was loaded from: public names have a dot, and `internal` and
 * `cluster.local` are in no public DNS. A dot at the end leaves a name the same. Empty: a client of HTTP/1.0 that sends no
 * Host, so no browser.
 */
export const isPrivateName =
  (ownName: string) =>
  (hostname: string): boolean => {
    const name = hostname.toLowerCase().replace(/^\[(.*)\]$/, '$1')
    if (name === '' || name === ownName.toLowerCase() || isIP(name) !== 0) return true
    return /^[a-z0-9_-]+$|^([a-z0-9_-]+\.)+(localhost|internal|svc|cluster\.local)\.?$/.test(name)
  }

/** Of a target in absolute form, its own host counts (RFC 9112, 3.2.2). */
const hostnameOf = (target: string, host = ''): string =>
  /^https?:/i.test(target) ? (URL.parse(target)?.hostname ?? '') : host.replace(/:\d*$/, '')

/** On the way out: answers on connections that are still open, and asks for no more of them. */
export const refuseWhenDraining = (lifecycle: Lifecycle): RequestHandler =>
  function drainGuard(_req, res, next) {
    if (lifecycle.phase === 'serving') return next()
    res.set('Connection', 'close')
    if (lifecycle.phase === 'draining') throw new GatewayError('shutting-down')
    next()
  }
