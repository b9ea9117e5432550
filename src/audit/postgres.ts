import * as z from 'zod'
import { ConfigError } from '../errors.ts'
import type { Secret } from '../secret.ts'
import { properties, target, typedProperties } from './columns.ts'
import { createGroupCommit } from './group-commit.ts'
import {
  type Answer,
  type Connections,
  createConnections,
  type FailedAnswer,
  UNANSWERED,
} from './postgres-connections.ts'
import { checkSchema, migrate, roleOf, ruleOf } from './postgres-schema.ts'
import { createRecordReader } from './record-query.ts'
import {
  type AbandonedIntent,
  AppendError,
  type AuditReader,
  type Intent,
  type OpenedStore,
  type OutcomeEvent,
  outcomeEvent,
  StoreError,
} from './store.ts'

export interface PostgresOptions {
  readonly url: Secret
  /** The role that owns the tables; where absent they must be there already. */
  readonly adminUrl: Secret | undefined
  readonly timing?: Partial<Timing> | undefined
}

interface Timing {
  readonly connectMs: number
  readonly lockMs: number
  readonly statementMs: number
}

// A connection takes up to nine round trips, after addresses that do not respond.
const TIMING: Timing = { connectMs: 4000, lockMs: 2000, statementMs: 4000 }
/** Others may be at it, or the tables large. */
export const ADMIN_TIMING: Timing = { connectMs: 5000, lockMs: 30_000, statementMs: 60_000 }
const READERS = 2

/**
 * Opens the audit trail on PostgreSQL, which several gateways can share, and recovers intents that lost gateways left
 * pending.
 * @throws ConfigError where the server, the role or the tables can't be used
 */
export const openPostgresStore = async ({ url, adminUrl, timing }: PostgresOptions): Promise<OpenedStore> => {
  const times = { ...TIMING, ...timing }
  // Apart, so that long looks at the record hold up no cancellation.
  const writer = createConnections({ url, max: 1, ...times })
  const reader = createConnections({ url, max: READERS, ...times })
  const admin = adminUrl && createConnections({ url: adminUrl, max: 1, ...ADMIN_TIMING, ...timing })
  const close = async (): Promise<void> => {
    await Promise.all([writer, reader, admin].map((each) => each?.close()))
  }

  const prepare = async (): Promise<number> => {
    if (admin !== undefined) await migrate(admin, await roleOf(writer))
    await checkSchema(writer)
    // Both together need every right that there is to have.
    const probed = await writer.query(POSTGRES_STATEMENTS.probe, NO_EVENTS)
    const recovered = probed.ok ? await writer.query(POSTGRES_STATEMENTS.recover, [MARGIN_MS]) : probed
    if (!recovered.ok) throw new ConfigError([`AUDIT_URL ${ruleOf(recovered.reason)}`])
    return recovered.rows.length
  }

  const recovered = await prepare().catch(async (error: unknown) => {
    await close()
    throw error
  })
  const commit = createCommits(writer)
  const { isProjected: _, ...read } = recordReaderOn(reader)

  return {
    recovered,
    append: (intents, outcomes) => commit({ intents, outcomes }),
    ...read,
    recover: () => recover(reader),
    liveReplicas: (instanceId) => liveReplicas(reader, instanceId),
    backfill: () => backfill(reader),
    prune: admin === undefined ? null : (ageMs) => prune(admin, ageMs),
    probe: () => commit({ intents: [], outcomes: [] }),
    close,
  }
}

/**
 * Opens the record on PostgreSQL to read it, with the time that a long look takes.
 * @throws ConfigError where the server, the role or the tables can't be used
 */
export const openPostgresReader = async ({ url }: Pick<PostgresOptions, 'url'>): Promise<AuditReader> => {
  const reader = createConnections({ url, max: 1, ...ADMIN_TIMING })
  try {
    await checkSchema(reader)
  } catch (error) {
    await reader.close()
    throw error
  }
  return { list: recordReaderOn(reader).list, close: reader.close }
}

const recordReaderOn = (reader: Connections) =>
  createRecordReader('postgres', async ({ sql, values }, signal) =>
    rowsOf(await reader.query(numbered(sql), values, signal)),
  )

/** In milliseconds. Replicas have clocks of their own, so that times are compared by the database's. */
const NOW = '(extract(epoch FROM clock_timestamp()) * 1000)::bigint'
/** The same, but for the whole statement: no index serves a comparison with a value that changes from row to row. */
const STATEMENT_TIME = '(extract(epoch FROM statement_timestamp()) * 1000)::bigint'

// The deadline is set by the clock of the database, from the time that remains.
const APPEND_INTENTS = `
  INSERT INTO ${target('intents')}
  SELECT ${properties('intents').replace('"deadlineAtMs"', `${NOW} + "remainingMs"`)}
  FROM jsonb_to_recordset($1::jsonb) AS event (${typedProperties('intents')}, "remainingMs" bigint)
  ON CONFLICT (id) DO NOTHING
`

const APPEND_OUTCOMES = `
  INSERT INTO ${target('outcomes')} SELECT ${properties('outcomes')}
  FROM jsonb_to_recordset($2::jsonb) AS event (${typedProperties('outcomes')})
  ON CONFLICT DO NOTHING
`

// One statement, so that nothing is held while the network is waited for. Its answer is that of the commit.
const APPEND = `WITH appended AS (${APPEND_INTENTS}) ${APPEND_OUTCOMES}`

// An append of no events, so that it fails where an append would, and a note to the server's log that no table keeps,
// so that there is something to commit.
const PROBE = `
  WITH appended AS (${APPEND_INTENTS}), settled AS (${APPEND_OUTCOMES})
  SELECT pg_logical_emit_message(true, 'audit', 'probe')
`
const NO_EVENTS = ['[]', '[]'] as const

/** Time for a gateway to write its outcome after the deadline of the request. */
const MARGIN_MS = 10_000

/** So many at a time, those with the earliest deadlines, so that a statement takes no longer however many there are. */
const RECOVERED_ROWS = 1000

// Two processes that recover the same intent write the same event, so that it is stored once.
const RECOVER = `
  WITH pending AS (
    SELECT intent_seq, requested_at FROM current_outcomes
    WHERE outcome IS NULL ORDER BY deadline_at LIMIT ${RECOVERED_ROWS}
  ), lost AS (
    INSERT INTO outcomes (cancellation_id, outcome, finished_at)
    SELECT id, 'unknown', deadline_at
    FROM pending CROSS JOIN LATERAL (
      SELECT id, deadline_at FROM intents
      WHERE intents.requested_at = pending.requested_at AND intents.seq = pending.intent_seq LIMIT 1) AS intent
    WHERE deadline_at < ${STATEMENT_TIME} - $1::bigint
    ON CONFLICT DO NOTHING
    RETURNING cancellation_id, finished_at
  )
  SELECT cancellation_id AS id, task_no, requested_at, finished_at FROM lost CROSS JOIN LATERAL (
    SELECT task_no, requested_at FROM intents WHERE id = cancellation_id LIMIT 1) AS intent
`

const recover = async (reader: Connections): Promise<readonly AbandonedIntent[]> =>
  z.array(lostSchema).parse(rowsOf(await reader.query(POSTGRES_STATEMENTS.recover, [MARGIN_MS])))

const liveReplicas = async (reader: Connections, instanceId: string): Promise<readonly string[]> =>
  rowsOf(await reader.query(POSTGRES_STATEMENTS.beat, [instanceId])).map(({ id }) => String(id))

/** Few at a time, since each batch locks the rows that it projects. */
const BACKFILLED_ROWS = 200

const backfill = async (reader: Connections): Promise<boolean> =>
  rowsOf(await reader.query(POSTGRES_STATEMENTS.backfill, [BACKFILLED_ROWS]))[0]?.more === true

const lostSchema = z
  .object({ id: z.string(), task_no: z.string(), requested_at: z.number(), finished_at: z.number() })
  .transform(
    (row): AbandonedIntent => ({
      intent: { taskNo: row.task_no, requestedAtMs: row.requested_at },
      outcome: outcomeEvent(row.id, 'unknown', row.finished_at),
    }),
  )

// Few at a time, and one process at a time, so that both statements find the same. By the database's clock: that of a
// replica that is far ahead would remove everything for all.
const BEGUN = '(extract(epoch FROM now()) * 1000)::bigint'
const OLD = `
  SELECT id FROM intents WHERE requested_at < ${BEGUN} - $1::bigint AND deadline_at < ${BEGUN}
  ORDER BY requested_at, seq LIMIT 1000
`
const PRUNE_LOCK = 7_240_020
const PRUNE = [
  `DELETE FROM outcomes WHERE cancellation_id IN (${OLD})`,
  `DELETE FROM intents WHERE id IN (${OLD}) RETURNING id`,
] as const

/** Each statement of the gateway's role but for its readings. */
export const POSTGRES_STATEMENTS = {
  append: APPEND,
  probe: PROBE,
  recover: RECOVER,
  backfill: 'SELECT project_older($1) AS more',
  beat: 'SELECT live_replicas($1) AS id',
} as const

/** Removes a batch of the records that are older than that. Returns whether there were any. */
export const prune = async (admin: Connections, ageMs: number): Promise<boolean> => {
  const pruned = await admin.transaction(async (query) => {
    const begun = await query(`SELECT pg_advisory_xact_lock(${PRUNE_LOCK}); SET LOCAL audit.pruning = 'on'`)
    const emptied = begun.ok ? await query(PRUNE[0], [ageMs]) : begun
    return emptied.ok ? query(PRUNE[1], [ageMs]) : emptied
  })
  return rowsOf(pruned).length > 0
}

interface Append {
  readonly intents: readonly Intent[]
  readonly outcomes: readonly OutcomeEvent[]
}

/** The first append is committed at once, so that it does not wait for others. */
const createCommits = (writer: Connections): ((append: Append) => Promise<void>) => {
  const commit = createGroupCommit<Append, FailedAnswer | null>(
    (group) => commitAll(writer, group),
    (start) => start(),
  )
  return async (append) => {
    const failure = await commit(append)
    if (failure !== null) throw failedAppend(failure)
  }
}

/** For each its failure, or null once it is durable. */
const commitAll = async (writer: Connections, group: readonly Append[]): Promise<readonly (FailedAnswer | null)[]> => {
  const failure = await commitOne(writer, group)
  if (failure === null || group.length === 1 || !isFaultOfData(failure.code)) return group.map(() => failure)
  // An invalid append must not fail the others of its group.
  const failures: (FailedAnswer | null)[] = []
  for (const each of group) failures.push(await commitOne(writer, [each]))
  return failures
}

const commitOne = async (writer: Connections, group: readonly Append[]): Promise<FailedAnswer | null> => {
  const intents = group.flatMap((each) => each.intents)
  const outcomes = group.flatMap((each) => each.outcomes)
  const isProbe = intents.length === 0 && outcomes.length === 0
  const rows = intents.map((intent) => ({ ...intent, remainingMs: intent.deadlineAtMs - Date.now() }))
  const answer = isProbe
    ? await writer.query(POSTGRES_STATEMENTS.probe, NO_EVENTS)
    : await writer.query(POSTGRES_STATEMENTS.append, [JSON.stringify(rows), JSON.stringify(outcomes)])
  return answer.ok ? null : answer
}

/** A fault of the given or of the stored data, not of the server. */
const isFaultOfData = (code: string): boolean => code.startsWith('22') || code.startsWith('23')

/** The server gave no result, or was stopping when it gave one. */
const isIndeterminate = (code: string): boolean => code === UNANSWERED || code.startsWith('57P')

const failedAppend = ({ code, reason }: FailedAnswer): Error => {
  if (isIndeterminate(code)) return new AppendError('indeterminate', reason)
  return isFaultOfData(code) ? new AppendError('invalid', reason) : new StoreError(reason)
}

const rowsOf = (answer: Answer) => {
  if (!answer.ok) throw new StoreError(answer.reason)
  return answer.rows
}

export const numbered = (sql: string): string => {
  let count = 0
  return sql.replaceAll('?', () => {
    count += 1
    return `$${count}`
  })
}
