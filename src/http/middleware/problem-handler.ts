import type { ErrorRequestHandler, RequestHandler } from 'express'
import { GatewayError } from '../../errors.ts'
import { describeError, type Log } from '../../telemetry/log.ts'
import { problemBody, retryAfterSeconds, statusOf } from '../presentation/problem.ts'
import { challengeOf } from './authenticate.ts'

export interface ProblemOptions {
  readonly publicUrl: string | undefined
  readonly acceptsTokens: boolean
  readonly log: Log
}

export const notFound: RequestHandler = function notFound() {
  throw new GatewayError('not-found')
}

/** Comes after the supported methods of a route. @throws method-not-allowed */
export const allowOnly = (allow: string): RequestHandler =>
  function methodGuard() {
    throw new GatewayError('method-not-allowed', { allow })
  }

/**
 * Comes last: turns every error into a problem (RFC 9457). Details of other errors than GatewayError go to the log
 * only.
 */
export const handleProblems = ({ publicUrl, acceptsTokens, log }: ProblemOptions): ErrorRequestHandler =>
  function problemHandler(error, req, res, _next) {
    const problem = toGatewayError(error)
    const { requestId, traceId, lang, isCancel } = req.context
    req.context.code = problem.code
    if (problem.code === 'internal') log.error('internal error', { requestId, ...describeError(error) })
    if (res.headersSent || res.destroyed) {
      res.destroy()
      return
    }
    const { allow } = problem.facts
    const retryAfter = retryAfterSeconds(problem.facts)
    if (allow !== undefined) res.set('Allow', allow)
    if (retryAfter !== null) res.set('Retry-After', String(retryAfter))
    const challenge = challengeOf(problem, req, acceptsTokens)
    if (challenge !== null) res.set('WWW-Authenticate', challenge)
    res.status(statusOf(problem)).set('Content-Language', lang).type('application/problem+json')
    res.send(JSON.stringify(problemBody(problem, { requestId, traceId, lang, isCancel, publicUrl })))
  }

/** Errors of Express with a 4xx `status` are the caller's; every other error is a bug. */
const toGatewayError = (error: unknown): GatewayError => {
  if (error instanceof GatewayError) return error
  const status = error instanceof Error && 'status' in error ? Number(error.status) : 500
  return new GatewayError(status >= 400 && status < 500 ? 'bad-request' : 'internal')
}
