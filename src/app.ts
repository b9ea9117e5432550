import type { Express } from 'express'
import { isLoopback } from './addresses.ts'
import type { AuditTrail } from './audit/audit-trail.ts'
import {
  type AuthenticationOptions,
  identify,
  requireCaller,
  requireScope,
  verifyToken,
} from './http/middleware/authenticate.ts'
import { limitBody } from './http/middleware/body-limit.ts'
import { assignContext, type ContextOptions, startDeadline } from './http/middleware/context.ts'
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
import { checkTaskNo, createTaskRoutes, type TaskRouteOptions } from './http/routes/task-routes.ts'
import { createExpress, keepUnreadableEscapes } from './http/server/express-app.ts'
import type { Tracing } from './telemetry/tracing.ts'

export interface AppParts extends Omit<AuthenticationOptions, 'sessions'>, ContextOptions, TaskRouteOptions {
  readonly rateLimit: Omit<RateLimitOptions, 'meter'>
  readonly publicUrl: string | undefined
  /** Of pages that may read answers and use sessions. */
  readonly corsOrigins: readonly string[]
  /** Null where nobody signs in. */
  readonly auth: Omit<AuthRouteOptions, 'onSignedIn'> | null
  /** Null where nothing is traced. */
  readonly tracing: Tracing | null
  readonly lifecycle: Lifecycle
  readonly readiness: Readiness
  /** Undefined where replicas share no limits. */
  readonly rateLimitStore: () => StoreInUse | undefined
  readonly trail: AuditTrail
  /** Null where they are switched off. */
  readonly docs: Docs | null
  readonly console: Console | null
}

/** The way of a request. The order of these lines is the security policy. */
export const createApp = (parts: AppParts): Express => {
  const trustedOrigins = [...parts.corsOrigins, ...(parts.publicUrl === undefined ? [] : [parts.publicUrl])]
  const limits = createRateLimits({ ...parts.rateLimit, meter: parts.meter })
  const known = [
    identify({ ...parts, sessions: parts.auth?.sessions ?? null }),
    limits.unauthenticated,
    verifyToken(parts.tokens, limits.refund),
    requireCaller,
    guardSession(trustedOrigins),
  ]
  const { listTasks, findTask, listDetails, requireCancelScope, cancelTask } = createTaskRoutes(parts)
  const { listCancellations, findCancellation } = createRecordRoutes(parts.trail)

  const app = createExpress()
  app.use(assignContext(parts))
  if (parts.tracing !== null) app.use(traceRequests(parts.tracing))
  app.use(securityHeaders(), allowOrigins(parts), refuseWhenDraining(parts.lifecycle))
  app.use(
    checkHost(parts.allowAnonymous ? isLoopback : null),
    limitBody,
    startDeadline(parts),
    keepUnreadableEscapes,
    answerPreflights,
  )

  const knownToRead = [...known, limits.reads, refuseSignedOut]
  const mayRead = [...knownToRead, requireScope('tasks:read')]
  app.route('/tasks').get(mayRead, listTasks).all(allowOnly('GET, HEAD'))
  app
    .route('/tasks/:taskNo')
    .delete(checkTaskNo, known, limits.cancels, refuseSignedOut, requireCancelScope, cancelTask)
    .get(checkTaskNo, mayRead, findTask)
    .all(allowOnly('DELETE, GET, HEAD'))
  app.route('/tasks/:taskNo/details').get(checkTaskNo, mayRead, listDetails).all(allowOnly('GET, HEAD'))
  app
    .route('/cancellations')
    .get(knownToRead, requireScope('audit:read'), listCancellations)
    .all(allowOnly('GET, HEAD'))
  app
    .route('/cancellations/:id')
    .get(knownToRead, requireScope('audit:read', 'tasks:cancel'), findCancellation)
    .all(allowOnly('GET, HEAD'))
  app.route('/me').get(knownToRead, me).all(allowOnly('GET, HEAD'))
  app.route('/problems/:code').get(problemPage).all(allowOnly('GET, HEAD'))
  app.route('/livez').get(livez).all(allowOnly('GET, HEAD'))
  const readyz = createReadyz(parts.readiness, parts.rateLimitStore)
  app.route('/readyz').get(readyz).all(allowOnly('GET, HEAD'))

  if (parts.auth !== null) {
    const auth = createAuthRoutes({ ...parts.auth, onSignedIn: limits.refundSignInStart })
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
  app.use(handleProblems({ ...parts, acceptsTokens: parts.tokens !== null }))
  return app
}
