import type { Request, RequestHandler, Response } from 'express'
import type { RequestSpan, Tracing } from '../../telemetry/tracing.ts'
import { routeOf } from './context.ts'

/**
 * Has everything that a request causes recorded as one trace. A cancel is recorded with any sampling flag in
 * its `traceparent`: a caller decides that for its own reads, but hides no cancel from the operator.
 */
export const traceRequests = (tracing: Tracing): RequestHandler =>
  function requestTracer(req, res, next) {
    const span = tracing.request(req.headers, req.context.isCancel)
    req.context.traceId = span.traceId
    res.once('close', () => endSpan(span, req, res))
    span.run(next)
  }

const endSpan = (span: RequestSpan, req: Request, res: Response): void => {
  const route = routeOf(req)
  const { code, requestId } = req.context
  span.set({ 'http.request.method': req.method, 'gateway.request.id': requestId })
  if (route !== null) span.set({ 'http.route': route })
  if (res.writableFinished) span.set({ 'http.response.status_code': res.statusCode })
  if (code !== null) span.set({ 'gateway.problem.code': code })
  if (!res.writableFinished) span.fail('aborted')
  else if (res.statusCode >= 500) span.fail(code ?? String(res.statusCode))
  span.end(route === null ? req.method : `${req.method} ${route}`)
}
