import type { ErrorRequestHandler, Express, RequestHandler } from 'express'
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
import { allowOrigins, answerPreflights, type OriginOptions } from './http/middleware/cors.ts'
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
import { problemIndex, problemPage } from './http/routes/problem-pages.ts'
import { createRecordRoutes } from './http/routes/record-routes.ts'
import { checkTaskNo, createTaskRoutes, type TaskRouteOptions } from './http/routes/task-routes.ts'
import { createExpress, keepUnreadableEscapes } from './http/server/express-app.ts'
import type { Ends } from './tasks/ends.ts'
import type { FollowUp } from './tasks/follow-up.ts'
import type { Tracing } from './telemetry/tracing.ts'

/** Parts that the app needs. The whole Config and secrets are not among them. */
export interface AppParts
  extends ContextOptions,
    OriginOptions,
    TaskRouteOptions,
    Omit<AuthenticationOptions, 'sessions'> {
  /** Null where sign-in is not configured. */
  readonly auth: Omit<AuthRouteOptions, 'onSignedIn' | 'corsOrigins'> | null
  readonly rateLimit: Omit<RateLimitOptions, 'meter'>
  /** Undefined where replicas share no limits. */
  readonly rateLimitStore: () => StoreInUse | undefined
  readonly trail: AuditTrail
  readonly ends: Ends
  readonly followUp: FollowUp
  readonly lifecycle: Lifecycle
  readonly readiness: Readiness
  /** Null where requests are not traced. */
  readonly tracing: Tracing | null
  /** Null where they are switched off. */
  readonly docs: Docs | null
  readonly console: Console | null
}

/** The request pipeline. The order of its middleware is the security policy. */
export const createApp = (parts: AppParts): Express => {
  const { tokens, allowAnonymous, publicUrl, corsOrigins, requestTimeoutMs, meter } = parts
  const trustedOrigins = [...corsOrigins, ...(publicUrl === undefined ? [] : [publicUrl])]
  const limits = createRateLimits({ ...parts.rateLimit, meter })
  const authenticated = [
    identify({ ...parts, sessions: parts.auth?.sessions ?? null }),
    limits.unauthenticated,
    verifyToken(tokens, limits.refund),
    requireCaller,
    guardSession(trustedOrigins),
  ]
  const tasks = createTaskRoutes(parts)
  const records = createRecordRoutes(parts)

  const app = createExpress()
  app.use(assignContext(parts))
  if (parts.tracing !== null) app.use(traceRequests(parts.tracing))
  app.use(securityHeaders(), allowOrigins(parts), refuseWhenDraining(parts.lifecycle))
  app.use(
    checkHost(allowAnonymous ? isLoopback : null),
    limitBody,
    startDeadline(requestTimeoutMs),
    keepUnreadableEscapes,
    answerPreflights,
  )

  /** A route that is only read. */
  const get = (path: string, ...handlers: (RequestHandler | RequestHandler[] | ErrorRequestHandler)[]) =>
    app.route(path).get(handlers.flat()).all(allowOnly('GET, HEAD'))

  const authenticatedRead = [...authenticated, limits.reads, refuseSignedOut]
  const taskRead = [...authenticatedRead, requireScope('tasks:read')]
  get('/tasks', taskRead, tasks.listTasks)
  app
    .route('/tasks/:taskNo')
    .delete(checkTaskNo, authenticated, limits.cancels, refuseSignedOut, tasks.requireCancelScope, tasks.cancelTask)
    .get(checkTaskNo, taskRead, tasks.findTask)
    .all(allowOnly('DELETE, GET, HEAD'))
  get('/tasks/:taskNo/details', checkTaskNo, taskRead, tasks.listDetails)
  get('/cancellations', authenticatedRead, requireScope('audit:read'), records.listCancellations)
  get('/cancellations/:id', authenticatedRead, requireScope('audit:read', 'tasks:cancel'), records.findCancellation)
  get('/me', authenticatedRead, me)
  get('/problems', problemIndex)
  get('/problems/:code', problemPage)
  get('/livez', livez)
  get('/readyz', createReadyz(parts.readiness, parts.rateLimitStore))

  if (parts.auth !== null) {
    const auth = createAuthRoutes({ ...parts.auth, corsOrigins, onSignedIn: limits.refundSignInStart })
    get('/auth/login', auth.previewLogin, limits.signInStarts, auth.login, showAuthProblem)
    get(
      '/auth/callback',
      auth.refusePreview,
      limits.signIns,
      auth.completeSignIn,
      limits.sessions,
      auth.callback,
      showAuthProblem,
    )
    app
      .route('/auth/logout')
      .post(requireCsrf(trustedOrigins), auth.endSession, limits.signOuts, auth.logout)
      .all(allowOnly('POST'))
  }

  if (parts.docs !== null) {
    get('/openapi.json', parts.docs.openapi)
    get('/docs', parts.docs.page)
    get('/docs/:file', parts.docs.asset)
  }
  if (parts.console !== null) {
    get('/', parts.console.start)
    get('/console', parts.console.page)
    get('/console/:file', parts.console.asset)
  }

  app.use(notFound)
  app.use(handleProblems({ ...parts, acceptsTokens: tokens !== null }))
  return app
}
