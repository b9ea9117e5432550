import type { RequestHandler } from 'express'
import { callerIn } from './authenticate.ts'

/** Tells callers who the gateway takes them for. */
export const me: RequestHandler = function me(req, res) {
  const { name, via, scopes } = callerIn(req)
  res.json({ name, via, scopes })
}
