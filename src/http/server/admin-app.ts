import type { Express, RequestHandler } from 'express'
import { limitBody } from '../middleware/body-limit.ts'
import { assignContext, type ContextOptions } from '../middleware/context.ts'
import { checkHost, isPrivateName } from '../middleware/host.ts'
import { allowOnly, handleProblems, notFound } from '../middleware/problem-handler.ts'
import type { StoreInUse } from '../middleware/redis-store.ts'
import { securityHeaders } from '../middleware/security-headers.ts'
import { createReadyz, livez, type Readiness } from '../routes/health.ts'
import { createExpress } from './express-app.ts'

/** Metrics in the text format of a monitoring system. */
interface MetricsSource {
  readonly contentType: string
  text(): Promise<string>
}

export interface AdminAppParts extends ContextOptions {
  /** The address or name that the port is bound to. */
  readonly host: string
  readonly publicUrl: string | undefined
  readonly metrics: MetricsSource
  readonly readiness: Readiness
  readonly rateLimitStore: () => StoreInUse | undefined
}

/**
 * The way of a request to the admin port: metrics and probes, without credentials. Its order is its security policy.
 */
export const createAdminApp = (parts: AdminAppParts): Express => {
  const app = createExpress()
  app.use(assignContext(parts), securityHeaders(), checkHost(isPrivateName(parts.host)), limitBody)
  app.route('/metrics').get(sendMetrics(parts.metrics)).all(allowOnly('GET, HEAD'))
  app.route('/livez').get(livez).all(allowOnly('GET, HEAD'))
  app.route('/readyz').get(createReadyz(parts.readiness, parts.rateLimitStore)).all(allowOnly('GET, HEAD'))
  app.use(notFound)
  app.use(handleProblems({ ...parts, acceptsTokens: false }))
  return app
}

const sendMetrics = ({ contentType, text }: MetricsSource): RequestHandler =>
  async function metricsSender(_req, res) {
    const body = await text()
    // Express would put the parameters of the type into an order of its own.
    res.writeHead(200, { 'Content-Type': contentType, 'Content-Length': Buffer.byteLength(body) }).end(body)
  }
