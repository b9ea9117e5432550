import type { Request, RequestHandler, Response } from 'express'
import * as z from 'zod'
import type { AuditTrail } from '../../audit/audit-trail.ts'
import { recordToJson } from '../../audit/record-json.ts'
import { type AuditFilter, type AuditRecord, type FinalPage, OUTCOMES, type Position } from '../../audit/store.ts'
import type { Caller } from '../../callers/caller.ts'
import { isRestricted } from '../../callers/policy.ts'
import { GatewayError } from '../../errors.ts'
import type { Ends } from '../../tasks/ends.ts'
import type { FollowUp } from '../../tasks/follow-up.ts'
import { deadlineIn, isoTime, RECORD_RESERVE_MS } from '../../time.ts'
import { callerIn } from '../middleware/authenticate.ts'
import { waitSeconds } from './prefer.ts'
import { countParameter, langParameter, momentParameter, parseQuery, rule, textParameter } from './query.ts'
import { sendTaggedJson } from './tagged-json.ts'

const LIMIT_MAX = 200
const LIMIT_DEFAULT = 50

const decoded = z.string(rule('cursor')).transform((encoded) => Buffer.from(encoded, 'base64url').toString('latin1'))

const cursor = decoded
  .pipe(z.string().regex(/^\d{1,15}\.\d{1,15}$/, rule('cursor')))
  .transform((text) => {
    const [requestedAtMs = 0, seq = 0] = text.split('.').map(Number)
    return { requestedAtMs, seq }
  })
  .optional()

/** Of the order of ends: a cursor of one order is invalid in the other. */
const finalCursor = decoded
  .pipe(z.string().regex(/^final-\d{1,15}$/, rule('cursor')))
  .transform((text) => Number(text.slice('final-'.length)))
  .optional()

// Strict: without it, a mistyped filter would return all records as if they matched.
const filters = {
  taskNo: textParameter,
  caller: textParameter,
  outcome: z.enum([...OUTCOMES, 'pending'], rule('outcome')).optional(),
  from: momentParameter,
  to: momentParameter,
  limit: countParameter('limit', LIMIT_MAX).default(LIMIT_DEFAULT),
  lang: langParameter,
}
const listQuery = z.strictObject({ ...filters, cursor })
const finalQuery = z.strictObject({ ...filters, cursor: finalCursor, sort: z.literal('finished', rule('sort')) })

/** The form of ids. Other texts are no ids, and databases refuse some of them. */
const ID = /^[0-9a-f-]{36}$/

export interface RecordRouteOptions {
  readonly trail: AuditTrail
  readonly ends: Ends
  readonly followUp: Pick<FollowUp, 'hurry' | 'seen'>
}

export const createRecordRoutes = ({ trail, ends, followUp }: RecordRouteOptions) => {
  /** A record of another caller and an unknown id get the same response, so that ids cannot be probed. */
  const find = async (req: Request): Promise<AuditRecord> => {
    const id = String(req.params.id)
    const record = ID.test(id) ? await trail.find(id, req.context.deadline, req.context.signal) : null
    if (record === null || !maySee(callerIn(req), record)) throw new GatewayError('not-found')
    return record
  }

  /** The record once it is final, or when the time is over; at once where too many requests wait. */
  const findFinal = async (req: Request, res: Response): Promise<AuditRecord> => {
    const waitMs = waitMsOf(req)
    const until = deadlineIn(waitMs)
    const record = await find(req)
    if (record.isFinal || waitMs === 0) {
      setApplied(res, waitMs)
      return record
    }
    const waiter = await ends.open(({ id }) => id === record.id)
    if (waiter === null) return record
    const leave = followUp.hurry(record)
    try {
      const current = await find(req)
      if (!current.isFinal) await waiter.wait(until, req.context.signal)
      setApplied(res, waitMs)
      return current.isFinal ? current : await find(req)
    } finally {
      leave()
      waiter.close()
    }
  }

  /** The task as it was last seen; null for a cancel that was not sent. */
  const readTask = async (req: Request, { id, outcome, attempts, isFinal }: AuditRecord) => {
    if (outcome === 'pending' || outcome === 'refused' || attempts === 0) return null
    // A final record is the same at each replica.
    const seenHere = isFinal ? null : followUp.seen(id)
    const seen = seenHere ?? (await trail.lastSighting(id, req.context.deadline, req.context.signal))
    return {
      status: seen?.status ?? 'unknown',
      cancelStatus: seen?.cancelStatus ?? 'unknown',
      seenAt: isoTime(seen?.seenAtMs ?? null),
    }
  }

  const listFinal = async (req: Request, res: Response): Promise<void> => {
    const { cursor: after = 0, ...query } = parseQuery(finalQuery, req.query)
    const waitMs = waitMsOf(req)
    const until = deadlineIn(waitMs)
    const caller = callerIn(req)
    const filter = { ...filterOf(req, query), limit: query.limit }
    let page: FinalPage = { records: [], next: after }
    for (let isOver = false; !isOver && page.records.length === 0; ) {
      const waiter = waitMs === 0 ? null : await ends.open((record) => maySee(caller, record))
      const before: number = page.next
      page = await trail.listFinal({ ...filter, after: before }, req.context.deadline, req.context.signal)
      isOver = waiter === null || until.remainingMs() <= 0 || req.context.signal.aborted
      if (page.records.length === 0 && page.next === before) await waiter?.wait(until, req.context.signal)
      waiter?.close()
      if (waiter !== null) setApplied(res, waitMs)
    }
    const nextCursor = Buffer.from(`final-${page.next}`, 'latin1').toString('base64url')
    res.json({ items: page.records.map(recordToJson), nextCursor })
  }

  return {
    listCancellations: async function listCancellations(req, res) {
      if (req.query.sort !== undefined) return listFinal(req, res)
      const query = parseQuery(listQuery, req.query)
      const { records, next } = await trail.list(
        { ...filterOf(req, query), limit: query.limit, before: query.cursor ?? null },
        req.context.deadline,
        req.context.signal,
      )
      res.json({ items: records.map(recordToJson), nextCursor: next === null ? null : encodeCursor(next) })
    },

    findCancellation: async function findCancellation(req, res) {
      const record = await findFinal(req, res)
      sendTaggedJson(req, res, { ...recordToJson(record), task: await readTask(req, record) })
    },
  } satisfies Record<string, RequestHandler>
}

/** For how long the request may wait: as it prefers, within its deadline. */
const waitMsOf = (req: Request): number => {
  const leftMs = req.context.deadline.minus(RECORD_RESERVE_MS).remainingMs()
  return Math.max(0, Math.min((waitSeconds(req.get('prefer')) ?? 0) * 1000, leftMs))
}

const setApplied = (res: Response, waitMs: number): void => {
  const seconds = Math.round(waitMs / 1000)
  if (seconds > 0) res.set('Preference-Applied', `wait=${seconds}`)
}

type Filters = Pick<AuditFilter, 'taskNo' | 'caller' | 'outcome'> & {
  readonly from?: number | undefined
  readonly to?: number | undefined
}

const filterOf = (req: Request, { taskNo, caller, outcome, from, to }: Filters) => ({
  ...{ taskNo, caller, outcome, fromMs: from, toMs: to },
  owner: maySeeAll(callerIn(req)) ? undefined : ownerOf(callerIn(req)),
})

/** Records name tasks that restrictions hide from a caller, so a restricted caller sees its own records only. */
const maySeeAll = (caller: Caller): boolean => caller.scopes.includes('audit:read') && !isRestricted(caller)

const ownerOf = ({ via, issuer, name }: Caller) => ({ via, issuer, caller: name })

const maySee = (caller: Caller, record: AuditRecord): boolean =>
  maySeeAll(caller) || (record.via === caller.via && record.issuer === caller.issuer && record.caller === caller.name)

const encodeCursor = ({ requestedAtMs, seq }: Position): string =>
  Buffer.from(`${requestedAtMs}.${seq}`, 'latin1').toString('base64url')
