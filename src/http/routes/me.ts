import type { RequestHandler } from 'express'
import { visible } from '../../visible-text.ts'
import { callerIn } from '../middleware/authenticate.ts'

/** Tells callers their identity and scopes. */
export const me: RequestHandler = function me(req, res) {
  const { name, via, scopes, displayName } = callerIn(req)
  res.json({ name: visible(name), via, scopes, callerDisplayName: displayName })
}
