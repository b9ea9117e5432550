import type { Express } from 'express'
import { isLoopback, type Subnets } from './addresses.ts'
import type { TaskQueries } from './alibaba/task-queries.ts'
import type { AuditTrail } from './audit/audit-trail.ts'
import type { ApiKeys } from './callers/api-keys.ts'
import type { Tokens } from './callers/jwt.ts'
import { identify, requireCaller, requireScope, verifyToken } from './http/middleware/authenticate.ts'
import { limitBody } from './http/middleware/body-limit.ts'
import { assignContext, startDeadline } from './http/middleware/context.ts'
import { allowOrigins, answerPreflights } from './http/middleware/cors.ts'
import { checkHost } from './http/middleware/host.ts'
import { allowOnly, handleProblems, notFound } from './http/middleware/problem-handler.ts'
import { createRateLimits, type RateLimitOptions } from './http/middleware/rate-limit.ts'
import type { StoreInUse } from './http/middleware/redis-store.ts'
import { securityHeaders } from './http/middleware/security-headers.ts'
import { guardSession, refuseSignedOut, requireCsrf } from './http/middleware/session-guard.ts'
import { traceRequests } from './http/middleware/trace.ts'
import { type AuthRouteOptions, createAuthRoutes, showAuthProblem } from './http/routes/auth-routes.ts'
import type { Console } from './http/routes/console.ts'
import type { Docs } from './http/routes/docs.ts'
import { createReadyz, type Lifecycle, livez, type Readiness, refuseWhenDraining } from './http/routes/health.ts'
import { me } from './http/routes/me.ts'
import { problemPage } from './http/routes/problem-pages.ts'
import { createRecordRoutes } from './http/routes/record-routes.ts'
import { checkTaskNo, createTaskRoutes } from './http/routes/task-routes.ts'
import { createExpress, keepUnreadableEscapes } from './http/server/express-app.ts'
import type { Cancellations } from './tasks/cancel.ts'
import type { Lookup } from './tasks/lookup.ts'
import type { Permissions } from './tasks/permission.ts'
import type { Log } from './telemetry/log.ts'
import type { Meter } from './telemetry/meter.ts'
import type { Tracing } from './telemetry/tracing.ts'

/** Parts that the app needs. The whole Config and secrets are not among them. */
export interface AppParts {
  readonly apiKeys: ApiKeys
  /** Null where no tokens are accepted. */
  readonly tokens: Tokens | null
  /** Null where sign-in is not configured. */
  readonly auth: Omit<AuthRouteOptions, 'onSignedIn' | 'corsOrigins'> | null
  readonly allowAnonymous: boolean
  readonly publicUrl: string | undefined
  /** Origins of pages that may read responses and use sessions. */
  readonly corsOrigins: readonly string[]
  readonly trustProxy: Subnets
  readonly requestTimeoutMs: number
  readonly rateLimit: Omit<RateLimitOptions, 'meter'>
  /** Undefined where replicas share no limits. */
  readonly rateLimitStore: () => StoreInUse | undefined
  readonly queries: TaskQueries
  readonly lookup: Lookup
  readonly permissions: Permissions
  readonly cancellations: Cancellations
  readonly trail: AuditTrail
  readonly lifecycle: Lifecycle
  readonly readiness: Readiness
  readonly log: Log
  readonly meter: Meter
  /** Null where requests are not traced. */
  readonly tracing: Tracing | null
  /** Null where they are switched off. */
  readonly docs: Docs | null
  readonly console: Console | null
}

/** The request pipeline. The order of its middleware is the security policy. */
export const createApp = (parts: AppParts): Express => {
  const { apiKeys, tokens, allowAnonymous, publicUrl, corsOrigins, trustProxy, requestTimeoutMs, log, meter } = parts
  const { queries, lookup, permissions, cancellations } = parts
  const trustedOrigins = [...corsOrigins, ...(publicUrl === undefined ? [] : [publicUrl])]
  const limits = createRateLimits({ ...parts.rateLimit, meter })
  const authenticated = [
    identify({ apiKeys, tokens, sessions: parts.auth?.sessions ?? null, allowAnonymous }),
    limits.unauthenticated,
    verifyToken(tokens, limits.refund),
    requireCaller,
    guardSession(trustedOrigins),
  ]
  const tasks = createTaskRoutes({ cancellations, queries, lookup, permissions, publicUrl })
  const records = createRecordRoutes(parts.trail)

  const app = createExpress()
  app.use(assignContext({ trustProxy, requestTimeoutMs, log, meter }))
  if (parts.tracing !== null) app.use(traceRequests(parts.tracing))
  app.use(securityHeaders(), allowOrigins({ corsOrigins, publicUrl, log }), refuseWhenDraining(parts.lifecycle))
  app.use(
    checkHost(allowAnonymous ? isLoopback : null),
    limitBody,
    startDeadline(requestTimeoutMs),
    keepUnreadableEscapes,
    answerPreflights,
  )

  const authenticatedRead = [...authenticated, limits.reads, refuseSignedOut]
  const taskRead = [...authenticatedRead, requireScope('tasks:read')]
  app.route('/tasks').get(taskRead, tasks.listTasks).all(allowOnly('GET, HEAD'))
  app
    .route('/tasks/:taskNo')
    .delete(checkTaskNo, authenticated, limits.cancels, refuseSignedOut, tasks.requireCancelScope, tasks.cancelTask)
    .get(checkTaskNo, taskRead, tasks.findTask)
    .all(allowOnly('DELETE, GET, HEAD'))
  app.route('/tasks/:taskNo/details').get(checkTaskNo, taskRead, tasks.listDetails).all(allowOnly('GET, HEAD'))
  app
    .route('/cancellations')
    .get(authenticatedRead, requireScope('audit:read'), records.listCancellations)
    .all(allowOnly('GET, HEAD'))
  app
    .route('/cancellations/:id')
    .get(authenticatedRead, requireScope('audit:read', 'tasks:cancel'), records.findCancellation)
    .all(allowOnly('GET, HEAD'))
  app.route('/me').get(authenticatedRead, me).all(allowOnly('GET, HEAD'))
  app.route('/problems/:code').get(problemPage).all(allowOnly('GET, HEAD'))
  app.route('/livez').get(livez).all(allowOnly('GET, HEAD'))
  const readyz = createReadyz(parts.readiness, parts.rateLimitStore)
  app.route('/readyz').get(readyz).all(allowOnly('GET, HEAD'))

  if (parts.auth !== null) {
    const auth = createAuthRoutes({ ...parts.auth, corsOrigins, onSignedIn: limits.refundSignInStart })
    app
      .route('/auth/login')
      .get(auth.previewLogin, limits.signInStarts, auth.login, showAuthProblem)
      .all(allowOnly('GET, HEAD'))
    app
      .route('/auth/callback')
      .get(auth.refusePreview, limits.signIns, auth.completeSignIn, limits.sessions, auth.callback, showAuthProblem)
      .all(allowOnly('GET, HEAD'))
    app
      .route('/auth/logout')
      .post(requireCsrf(trustedOrigins), auth.endSession, limits.signOuts, auth.logout)
      .all(allowOnly('POST'))
  }

  if (parts.docs !== null) {
    app.route('/openapi.json').get(parts.docs.openapi).all(allowOnly('GET, HEAD'))
    app.route('/docs').get(parts.docs.page).all(allowOnly('GET, HEAD'))
    app.route('/docs/:file').get(parts.docs.asset).all(allowOnly('GET, HEAD'))
  }
  if (parts.console !== null) {
    app.route('/console').get(parts.console.page).all(allowOnly('GET, HEAD'))
    app.route('/console/:file').get(parts.console.asset).all(allowOnly('GET, HEAD'))
  }

  app.use(notFound)
  app.use(handleProblems({ publicUrl, acceptsTokens: tokens !== null, log }))
  return app
}
