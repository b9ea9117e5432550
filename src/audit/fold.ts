import { z } from 'zod'
import { type AuditFilter, type AuditPage, type AuditRecord, OUTCOMES } from './trail.ts'

// What is shown of the events: both databases keep them in the same tables and understand the same question.

type FoldFilter = AuditFilter & { readonly id?: string | undefined }

/** SQL with a question mark for each value. */
export interface FoldQuery {
  readonly sql: string
  readonly values: readonly Value[]
}

// However late each was written: a definitive outcome supersedes `unknown`; after an answer that denies, a look at the task
// counts for nothing, since somebody else may have cancelled it; what was seen to be cancelled stays so. Among others an
// answer supersedes a look, and else the newest counts.
const FOLD = `
  SELECT intents.*, outcomes.outcome, attempts, request_id, upstream_code, finished_at, settled_by
  FROM intents LEFT JOIN outcomes ON outcomes.seq = (
    SELECT seq FROM outcomes WHERE cancellation_id = intents.id
    ORDER BY outcome = 'unknown',
      settled_by IS NOT NULL AND EXISTS (
        SELECT seq FROM outcomes AS denials WHERE cancellation_id = intents.id
        AND settled_by IS NULL AND outcome IN ('refused', 'rejected', 'failed')),
      outcome <> 'cancelled', settled_by IS NOT NULL, seq DESC LIMIT 1)
`

// By the time that is shown, and by number among equals. What arrives while somebody turns pages can come to lie before
// or behind them, but moves nothing that was there: it is neither skipped nor repeated.
const NEWEST_FIRST = 'ORDER BY requested_at DESC, intents.seq DESC'

type Value = string | number

/** Asks for the records that fit a filter, newest first. */
const foldQuery = (filter: FoldFilter): FoldQuery => {
  const { owner, before } = filter
  const conditions: readonly (readonly [string, ...(Value | null | undefined)[]])[] = [
    ['intents.id = ?', filter.id],
    ['task_no = ?', filter.taskNo],
    ['caller = ?', filter.caller],
    ['caller = ?', owner?.caller],
    ['via = ?', owner?.via],
    [`coalesce(issuer, '') = ?`, owner && (owner.issuer ?? '')],
    [`coalesce(outcomes.outcome, 'pending') = ?`, filter.outcome],
    ['requested_at >= ?', filter.fromMs],
    ['requested_at < ?', filter.toMs],
    ['(requested_at, intents.seq) < (?, ?)', before?.requestedAtMs, before?.seq],
  ]
  const asked = conditions.flatMap(([sql, ...given]) => {
    const values = given.filter((value) => value !== undefined && value !== null)
    return values.length === 0 ? [] : [{ sql, values }]
  })
  const where = asked.length === 0 ? '' : `WHERE ${asked.map(({ sql }) => sql).join(' AND ')}`
  return {
    sql: `${FOLD} ${where} ${NEWEST_FIRST} LIMIT ?`,
    values: [...asked.flatMap(({ values }) => values), filter.limit],
  }
}

/** Answers both questions of a store from its rows. */
export const createFold = (read: (query: FoldQuery) => Promise<unknown>) => {
  const rows = async (filter: FoldFilter) => z.array(rowSchema).parse(await read(foldQuery(filter)))
  return {
    find: async (id: string): Promise<AuditRecord | null> => {
      const [row] = await rows({ id, limit: 1, before: null })
      return row === undefined ? null : toRecord(row)
    },

    list: async (filter: AuditFilter): Promise<AuditPage> => {
      // One more than asked tells whether there is a next page.
      const found = await rows({ ...filter, limit: filter.limit + 1 })
      const page = found.slice(0, filter.limit)
      const last = found.length > page.length ? page.at(-1) : undefined
      const next = last === undefined ? null : { requestedAtMs: last.requested_at, seq: last.seq }
      return { records: page.map(toRecord), next }
    },
  }
}

const rowSchema = z.object({
  seq: z.number(),
  id: z.string(),
  task_no: z.string(),
  via: z.string(),
  issuer: z.string().nullable(),
  caller: z.string(),
  client_ip: z.string().nullable(),
  peer_ip: z.string().nullable(),
  user_agent: z.string().nullable(),
  requested_at: z.number(),
  gateway_request_id: z.string(),
  outcome: z.enum(OUTCOMES).nullable(),
  attempts: z.number().nullable(),
  request_id: z.string().nullable(),
  upstream_code: z.string().nullable(),
  finished_at: z.number().nullable(),
  settled_by: z.literal('query').nullable(),
})

const toRecord = (row: z.output<typeof rowSchema>): AuditRecord => ({
  id: row.id,
  taskNo: row.task_no,
  via: row.via,
  issuer: row.issuer,
  caller: row.caller,
  clientIp: row.client_ip,
  peerIp: row.peer_ip,
  userAgent: row.user_agent,
  requestedAtMs: row.requested_at,
  gatewayRequestId: row.gateway_request_id,
  outcome: row.outcome ?? 'pending',
  attempts: row.attempts,
  requestId: row.request_id,
  upstreamCode: row.upstream_code,
  finishedAtMs: row.finished_at,
  settledBy: row.settled_by,
})
