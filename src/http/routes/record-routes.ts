import type { RequestHandler } from 'express'
import { z } from 'zod'
import type { AuditTrail } from '../../audit/audit-trail.ts'
import { recordToJson } from '../../audit/record-json.ts'
import { type AuditRecord, OUTCOMES, type Position } from '../../audit/store.ts'
import type { Caller } from '../../callers/caller.ts'
import { isRestricted } from '../../callers/policy.ts'
import { GatewayError } from '../../errors.ts'
import { callerIn } from '../middleware/authenticate.ts'
import { countParameter, langParameter, momentParameter, parseQuery, rule, textParameter } from './query.ts'

const LIMIT_MAX = 200
const LIMIT_DEFAULT = 50

const cursor = z
  .string(rule('cursor'))
  .transform((encoded) => Buffer.from(encoded, 'base64url').toString('latin1'))
  .pipe(z.string().regex(/^\d{1,15}\.\d{1,15}$/, rule('cursor')))
  .transform((text) => {
    const [requestedAtMs = 0, seq = 0] = text.split('.').map(Number)
    return { requestedAtMs, seq }
  })
  .optional()

// Strict: without it, a mistyped filter would return all records as if they matched.
const listQuery = z.strictObject({
  taskNo: textParameter,
  caller: textParameter,
  outcome: z.enum([...OUTCOMES, 'pending'], rule('outcome')).optional(),
  from: momentParameter,
  to: momentParameter,
  limit: countParameter('limit', LIMIT_MAX).default(LIMIT_DEFAULT),
  cursor,
  lang: langParameter,
})

/** The form of ids. Other texts are no ids, and databases refuse some of them. */
const ID = /^[0-9a-f-]{36}$/

export const createRecordRoutes = (trail: AuditTrail) =>
  ({
    listCancellations: async function listCancellations(req, res) {
      const query = parseQuery(listQuery, req.query)
      const { records, next } = await trail.list(
        {
          ...query,
          fromMs: query.from,
          toMs: query.to,
          before: query.cursor ?? null,
          owner: maySeeAll(callerIn(req)) ? undefined : ownerOf(callerIn(req)),
        },
        req.context.deadline,
        req.context.signal,
      )
      res.json({ items: records.map(recordToJson), nextCursor: next === null ? null : encodeCursor(next) })
    },

    findCancellation: async function findCancellation(req, res) {
      const id = String(req.params.id)
      const record = ID.test(id) ? await trail.find(id, req.context.deadline, req.context.signal) : null
      // A record of another caller and an unknown id get the same response, so that ids cannot be probed.
      if (record === null || !maySee(callerIn(req), record)) throw new GatewayError('not-found')
      res.json(recordToJson(record))
    },
  }) satisfies Record<string, RequestHandler>

/** Records name tasks that restrictions hide from a caller, so a restricted caller sees its own records only. */
const maySeeAll = (caller: Caller): boolean => caller.scopes.includes('audit:read') && !isRestricted(caller)

const ownerOf = ({ via, issuer, name }: Caller) => ({ via, issuer, caller: name })

const maySee = (caller: Caller, record: AuditRecord): boolean =>
  maySeeAll(caller) || (record.via === caller.via && record.issuer === caller.issuer && record.caller === caller.name)

const encodeCursor = ({ requestedAtMs, seq }: Position): string =>
  Buffer.from(`${requestedAtMs}.${seq}`, 'latin1').toString('base64url')
