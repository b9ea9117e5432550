import type { Request, RequestHandler } from 'express'
import { z } from 'zod'
import { GatewayError } from '../../errors.ts'
import type { Cancellations, CancelRequest } from '../../tasks/cancel.ts'
import { callerIn } from '../middleware/authenticate.ts'
import { waitSeconds } from './prefer.ts'
import { langParameter, parseQuery } from './query.ts'
import { taskNoOf } from './task-no.ts'

export interface CancelRoute {
  /** Stands where a scope check would: a refused cancel goes on record. */
  readonly requireCancelScope: RequestHandler
  readonly cancelTask: RequestHandler
}

// Not strict, as a read's is: what is unknown here changes nothing of what is cancelled.
const cancelQuery = z.object({ lang: langParameter })

export const createCancelRoute = (cancellations: Cancellations, publicUrl: string | undefined): CancelRoute => ({
  requireCancelScope: async function cancelScopeGuard(req, _res, next) {
    if (callerIn(req).scopes.includes('tasks:cancel')) return next()
    const cancellationId = await cancellations.refuse(cancelRequest(req))
    throw new GatewayError('forbidden', { cancellationId, outcome: 'not-cancelled', scope: 'tasks:cancel' })
  },

  cancelTask: async function cancelTask(req, res) {
    parseQuery(cancelQuery, req.query)
    const taskNo = taskNoOf(req)
    const { waitedMs, ...cancelled } = await cancellations.cancel(cancelRequest(req))
    const waitedSeconds = Math.round(waitedMs / 1000)
    if (waitedSeconds > 0) res.set('Preference-Applied', `wait=${waitedSeconds}`)
    res
      .status(cancelled.cancelStatus === 'cancelled' ? 200 : 202)
      .location(`${publicUrl ?? ''}/tasks/${taskNo}`)
      .json({ taskNo, ...cancelled })
  },
})

const cancelRequest = (req: Request): CancelRequest => ({
  taskNo: taskNoOf(req),
  caller: callerIn(req),
  clientIp: req.context.clientIp,
  peerIp: req.context.peerIp,
  userAgent: req.get('user-agent') ?? null,
  lang: req.context.lang,
  gatewayRequestId: req.context.requestId,
  deadline: req.context.deadline,
  signal: req.context.signal,
  waitMs: (waitSeconds(req.get('prefer')) ?? 0) * 1000,
})
