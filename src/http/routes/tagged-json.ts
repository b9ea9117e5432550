import type { Request, Response } from 'express'
import { trimOws } from '../middleware/ows.ts'
import { etagOf } from './assets.ts'

/**
 * Sends JSON with an `ETag`, or 304 where `If-None-Match` names it. The tag is made of the body for this caller: two
 * callers can see the same thing differently.
 */
export const sendTaggedJson = (req: Request, res: Response, value: unknown): void => {
  const body = JSON.stringify(value)
  const etag = etagOf(body)
  res.set({ 'Cache-Control': 'private, no-cache', ETag: etag })
  if (matches(req.get('if-none-match'), etag)) res.status(304).end()
  else res.type('application/json').send(body)
}

/**
 * Whether `If-None-Match` names that tag (RFC 9110, 13.1.2). Express looks no further where a request says `no-cache`,
 * which is meant for caches, and which `fetch` adds whenever a script sets the condition.
 */
const matches = (ifNoneMatch = '', etag: string): boolean =>
  ifNoneMatch.split(',').some((tag) => ['*', etag, `W/${etag}`].includes(trimOws(tag)))
