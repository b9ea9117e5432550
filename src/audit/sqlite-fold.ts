import type { SQLInputValue } from 'node:sqlite'
import type { AuditFilter } from './trail.ts'

export type FoldFilter = AuditFilter & { readonly id?: string | undefined }

// However late each was written: a definitive outcome supersedes `unknown`, and what was seen to be cancelled stays so.
// Among others the newest counts.
const FOLD = `
  SELECT intents.*, outcomes.outcome, attempts, request_id, upstream_code, finished_at, settled_by
  FROM intents LEFT JOIN outcomes ON outcomes.seq = (
    SELECT seq FROM outcomes WHERE cancellation_id = intents.id
    ORDER BY outcome = 'unknown', outcome <> 'cancelled', seq DESC LIMIT 1)
`

/** The SQL for the records that a filter asks for, newest first. */
export const foldQuery = (filter: FoldFilter): { sql: string; values: SQLInputValue[] } => {
  const conditions: readonly (readonly [string, SQLInputValue | null | undefined])[] = [
    ['intents.id = ?', filter.id],
    ['task_no = ?', filter.taskNo],
    ['caller = ?', filter.caller],
    ['caller = ?', filter.owner?.caller],
    ['via = ?', filter.owner?.via],
    [`coalesce(issuer, '') = ?`, filter.owner && (filter.owner.issuer ?? '')],
    [`coalesce(outcomes.outcome, 'pending') = ?`, filter.outcome],
    ['requested_at >= ?', filter.fromMs],
    ['requested_at < ?', filter.toMs],
    ['intents.seq < ?', filter.before],
  ]
  const asked = conditions.flatMap(([sql, value]) => (value === undefined || value === null ? [] : [{ sql, value }]))
  const where = asked.length === 0 ? '' : `WHERE ${asked.map(({ sql }) => sql).join(' AND ')}`
  return {
    sql: `${FOLD} ${where} ORDER BY intents.seq DESC LIMIT ?`,
    values: [...asked.map(({ value }) => value), filter.limit],
  }
}
