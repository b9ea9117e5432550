import type { RequestHandler } from 'express'
import helmet from 'helmet'
import { csp } from '../presentation/csp.ts'

const POLICY = csp()

/** The policy allows nothing to be loaded; a page replaces it. Helmet's allows inline styles and upgrades requests. */
export const securityHeaders = (): RequestHandler[] => [
  helmet({ contentSecurityPolicy: false, xFrameOptions: { action: 'deny' } }),
  function policySetter(_req, res, next) {
    res.set('Content-Security-Policy', POLICY)
    next()
  },
]
