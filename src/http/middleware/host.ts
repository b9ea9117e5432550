import { isIP } from 'node:net'
import type { RequestHandler } from 'express'
import { GatewayError } from '../../errors.ts'

/**
 * Requires exactly one Host header, and one that `isAllowed` accepts (null: every name). A page on the web can point a
 * name of its own at any address (DNS rebinding), so where callers need no credentials, requests must use a name that
 * no such page can have. @throws bad-request, misdirected
 */
export const checkHost = (isAllowed: ((hostname: string) => boolean) | null): RequestHandler =>
  function hostGuard(req, _res, next) {
    const hosts = req.headersDistinct.host ?? []
    if (hosts.length > 1 || (hosts.length === 0 && req.httpVersion !== '1.0')) throw new GatewayError('bad-request')
    if (isAllowed !== null && !isAllowed(hostnameOf(req.url, hosts[0]))) throw new GatewayError('misdirected')
    next()
  }

/**
 * Names of the machine itself, of its addresses, of containers and of services in a cluster, and the configured name. A
 * page on the web cannot be loaded from any of them: public names have a dot, and `internal` and `cluster.local` are in
 * no public DNS. A dot at the end does not change a name. An empty name is that of an HTTP/1.0 client without a Host
 * header, which is no browser.
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
