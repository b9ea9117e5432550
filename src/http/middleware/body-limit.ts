import type { Request, RequestHandler } from 'express'
import { GatewayError } from '../../errors.ts'
import { withDeadline } from '../../time.ts'

const BODY_LIMIT_BYTES = 8192

/**
 * No route takes a body. A small one is read and ignored, so that the connection can be used again. Express's own
 * parsers read a body that is too large to its end before they refuse it. @throws content-too-large, bad-request,
 * request-timeout
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
    // The connection has ended, so the response is not read.
    return 'bad-request'
  }
}
