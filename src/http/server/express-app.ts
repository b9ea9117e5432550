import express, { type Express, type RequestHandler } from 'express'
import { decodeEscapes } from '../../settings/text.ts'

/** An Express app with strict, case-sensitive routing that discloses nothing about itself. */
export const createExpress = (): Express => {
  const app = express()
  app.disable('x-powered-by').disable('etag').enable('strict routing').enable('case sensitive routing')
  // Express's own last resort shows a stack in any other environment.
  return app.set('query parser', 'simple').set('env', 'production')
}

/**
 * Takes a path whose escapes cannot be decoded to the letter, percent signs included. No route knows such a value, and
 * each refuses it in its own order. Express would refuse it before it looks at the method.
 */
export const keepUnreadableEscapes: RequestHandler = function escapeKeeper(req, _res, next) {
  const [path = '', ...query] = req.url.split('?')
  if (decodeEscapes(path) === null) req.url = [path.replaceAll('%', '%25'), ...query].join('?')
  next()
}
