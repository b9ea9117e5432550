import * as z from 'zod'
import { isRecordRow, type RecordRow, recordColumns } from './columns.ts'
import { precedenceOrder } from './precedence.ts'
import {
  type AuditFilter,
  type AuditPage,
  type AuditRecord,
  type FinalFilter,
  type FinalPage,
  type OpenPage,
  OUTCOMES,
  type Outcome,
  type Position,
  type Sighting,
} from './store.ts'

// Queries for records. Both databases have the same tables and understand the same statements.

/** SQL with a question mark for each value. */
export interface RecordQuery {
  readonly sql: string
  readonly values: readonly Value[]
}

type Value = string | number

/** A condition with its values. */
type Condition = readonly [sql: string, ...Value[]]

/** How the records that fit a filter are found, newest first. */
export interface Path {
  readonly table: 'intents' | 'current_outcomes'
  /** An index serves these, in the order of the pages. */
  readonly served: readonly Condition[]
  /** Each row that is read is compared with these. They are written so that no database looks for an index. */
  readonly rest: readonly Condition[]
}

const EVENT_ORDER = precedenceOrder('outcomes')

export type Engine = 'sqlite' | 'postgres'

/** Rows of a table, which the conditions name `events`. */
interface Rows {
  readonly table: 'intents' | 'outcomes'
  readonly where: string
  readonly order?: string
}

/**
 * Joins the first of these rows to each row of a page. PostgreSQL may read a whole table for any other form of a join.
 */
const joinFirst = (engine: Engine, join: 'JOIN' | 'LEFT JOIN', { table, where, order = '' }: Rows): string =>
  engine === 'postgres'
    ? `${join} LATERAL (SELECT * FROM ${table} AS events WHERE ${where} ${order} LIMIT 1) AS ${table} ON true`
    : `${join} ${table} ON ${table}.seq = (SELECT seq FROM ${table} AS events WHERE ${where} ${order} LIMIT 1)`

/**
 * 1 where the outcome is final: the cancellation is not open any more. Counted, since PostgreSQL can answer EXISTS by a
 * hash of the whole table. Two events that are written at one moment can leave a row in both tables.
 */
const isFinal = (intents: string): string => `CASE WHEN outcomes.seq IS NULL THEN 0
  WHEN 0 < (SELECT count(*) FROM open_cancellations AS open
    WHERE open.requested_at = ${intents}.requested_at AND open.intent_seq = ${intents}.seq)
  AND 0 = (SELECT count(*) FROM final_outcomes AS final WHERE final.intent_seq = ${intents}.seq) THEN 0
  ELSE 1 END AS "isFinal"`

/** A record with its number. The argument is the name of the intents in the statement. */
const selected = (intents: string): string => `${intents}.seq, ${recordColumns(intents)}, ${isFinal(intents)}`

/** The outcome by the events of the cancellation. */
const CURRENT: Omit<Rows, 'where'> = { table: 'outcomes', order: `ORDER BY ${EVENT_ORDER}` }
const withOutcome = (engine: Engine, intents: string): string =>
  `SELECT ${selected('page')} FROM (${intents}) AS page
  ${joinFirst(engine, 'LEFT JOIN', { ...CURRENT, where: 'events.cancellation_id = page.id' })}`

/** The name of the outcome, for a comparison without the projection. */
const OUTCOME_BY_EVENTS = `(SELECT outcome FROM outcomes AS events WHERE cancellation_id = intents.id
  ORDER BY ${EVENT_ORDER} LIMIT 1)`

const equal = (column: string, value: Value | null): Condition =>
  value === null ? [`${column} IS NULL`] : [`${column} = ?`, value]

const equalUnserved = (column: string, value: Value | null): Condition => [`coalesce(${column}, '') = ?`, value ?? '']

/**
 * The path of a filter. Each filter has an index but for those that name a task and a caller: these compare the entries
 * of that one task. Without the projection an outcome has no index, nor has an owner beyond the name.
 */
export const pathOf = (filter: Omit<AuditFilter, 'limit' | 'before'>, isProjected: boolean): Path => {
  const { taskNo, caller, owner, outcome, fromMs, toMs } = filter
  const times: readonly Condition[] = [
    ...(fromMs === undefined ? [] : [['requested_at >= ?', fromMs] as const]),
    ...(toMs === undefined ? [] : [['requested_at < ?', toMs] as const]),
  ]
  const task: Fields = taskNo === undefined ? [] : [['task_no', taskNo]]
  const name: Fields = caller === undefined || owner !== undefined ? [] : [['caller', caller]]
  const own: Fields =
    owner === undefined
      ? []
      : [
          ['caller', owner.caller],
          ['via', owner.via],
          ['issuer', owner.issuer],
        ]
  const path = (table: Path['table'], served: Fields, rest: readonly Condition[]): Path => ({
    table,
    served: [...served.map(([column, value]) => equal(column, value)), ...times],
    rest,
  })
  const unserved = (...fields: readonly Fields[]) =>
    fields.flat().map(([column, value]) => equalUnserved(column, value))

  if (isProjected && outcome === 'pending') {
    return path('current_outcomes', [['outcome', null]], unserved(task, own, name))
  }
  if (isProjected && taskNo !== undefined && outcome !== undefined) {
    return path('current_outcomes', [...task, ['outcome', outcome]], unserved(own, name))
  }
  if (isProjected && taskNo === undefined && (outcome !== undefined || owner !== undefined)) {
    const result: Fields = outcome === undefined ? [] : [['outcome', outcome]]
    return path('current_outcomes', [...own, ...name, ...result], [])
  }
  const folded: readonly Condition[] =
    outcome === undefined ? [] : [[`coalesce(${OUTCOME_BY_EVENTS}, 'pending') = ?`, outcome]]
  if (taskNo !== undefined) return path('intents', task, [...unserved(own, name), ...folded])
  const [first, ...others] = [...own, ...name]
  return path('intents', first === undefined ? [] : [first], [...unserved(others), ...folded])
}

/** Each entry of an owner has the owner's name, so none has another one: no entry need be compared. */
const isEmpty = ({ caller, owner }: AuditFilter): boolean =>
  caller !== undefined && owner !== undefined && caller !== owner.caller

type Fields = readonly (readonly [column: string, value: Value | null])[]

const POSITION = {
  intents: 'requested_at, seq',
  current_outcomes: 'requested_at, intent_seq',
} as const satisfies Readonly<Record<Path['table'], string>>

/** Rows between two positions: older than `before`, and not older than `end`. */
interface Bounds {
  readonly before: Position | null
  readonly end: Position | null
}

/**
 * The columns of a path's rows, newest first. By the time that is shown, and by number among equals: a row that arrives
 * while a caller turns pages can come to lie before or behind them, but moves no entry, so none is skipped or repeated.
 * Numbers of rows stand in the text: a planner that does not know them expects a tenth of the table.
 */
const rowsOf = (
  path: Path,
  columns: string,
  conditions: readonly Condition[],
  bounds: Bounds,
  rows: string,
): RecordQuery => {
  const position = POSITION[path.table]
  const within: readonly Condition[] = [
    ...(bounds.before === null ? [] : [[`(${position}) < (?, ?)`, ...valuesOf(bounds.before)] as const]),
    ...(bounds.end === null ? [] : [[`(${position}) >= (?, ?)`, ...valuesOf(bounds.end)] as const]),
  ]
  const all = [...conditions, ...within]
  const where = all.length === 0 ? '' : `WHERE ${all.map(([sql]) => sql).join(' AND ')}`
  const order = position.replace(',', ' DESC,')
  return {
    sql: `SELECT ${columns} FROM ${path.table} ${where} ORDER BY ${order} DESC ${rows}`,
    values: all.flatMap(([, ...values]) => values),
  }
}

const valuesOf = ({ requestedAtMs, seq }: Position) => [requestedAtMs, seq] as const

const INTENT_OF_PAGE: Rows = {
  table: 'intents',
  where: 'events.requested_at = page.requested_at AND events.seq = page.intent_seq',
}
const OUTCOME_OF_PAGE: Rows = { table: 'outcomes', where: 'events.seq = page.outcome_seq' }

/** The records of a path within the bounds, newest first. */
export const pageQuery = (engine: Engine, path: Path, bounds: Bounds, limit: number): RecordQuery => {
  const conditions = [...path.served, ...path.rest]
  if (path.table === 'intents') {
    const { sql, values } = rowsOf(path, '*', conditions, bounds, `LIMIT ${limit}`)
    return { sql: `${withOutcome(engine, sql)} ORDER BY page.requested_at DESC, page.seq DESC`, values }
  }
  const columns = 'requested_at, intent_seq, outcome_seq'
  const { sql, values } = rowsOf(path, columns, conditions, bounds, `LIMIT ${limit}`)
  return {
    sql: `SELECT ${selected('intents')} FROM (${sql}) AS page
      ${joinFirst(engine, 'JOIN', INTENT_OF_PAGE)}
      ${joinFirst(engine, 'LEFT JOIN', OUTCOME_OF_PAGE)}
      ORDER BY page.requested_at DESC, page.intent_seq DESC`,
    values,
  }
}

/**
 * Rows that one statement compares at most, so that a long search delays no other caller and ends soon after its own.
 */
const STEP_ROWS = 1000

/** The position of the last row of a step that begins there; no row where fewer are left. */
export const stepEndQuery = (path: Path, before: Position | null): RecordQuery =>
  rowsOf(
    path,
    `requested_at, ${path.table === 'intents' ? 'seq' : 'intent_seq AS seq'}`,
    path.served,
    { before, end: null },
    `LIMIT 1 OFFSET ${STEP_ROWS - 1}`,
  )

export const findQuery = (engine: Engine, id: string): RecordQuery => ({
  sql: withOutcome(engine, 'SELECT * FROM intents WHERE id = ?'),
  values: [id],
})

/** Ends that one statement compares at most. */
export const finalStepQuery = (after: number): RecordQuery => ({
  sql: `SELECT max(final_seq) AS last FROM
    (SELECT final_seq FROM final_outcomes WHERE final_seq > ? ORDER BY final_seq LIMIT ${STEP_ROWS}) AS step`,
  values: [after],
})

export const LAST_FINAL_QUERY: RecordQuery = { sql: 'SELECT max(final_seq) AS last FROM final_outcomes', values: [] }

/** Ends after a number up to another, oldest first. SQLite reads the tables of a CROSS JOIN in the order of the text. */
export const finalQuery = (engine: Engine, filter: FinalFilter, upTo: number): RecordQuery => {
  const { taskNo, caller, owner, outcome, fromMs, toMs, limit, after } = filter
  const fields: Fields = [
    ...(taskNo === undefined ? [] : [['task_no', taskNo] as const]),
    ...(caller === undefined ? [] : [['caller', caller] as const]),
    ...(owner === undefined ? [] : Object.entries({ caller: owner.caller, via: owner.via, issuer: owner.issuer })),
    ...(outcome === undefined ? [] : [['current_outcomes.outcome', outcome] as const]),
  ]
  const conditions: readonly Condition[] = [
    ['final_seq > ?', after],
    ['final_seq <= ?', upTo],
    ...fields.map(([column, value]) => equalUnserved(column, value)),
    ...(fromMs === undefined ? [] : [['coalesce(requested_at, 0) >= ?', fromMs] as const]),
    ...(toMs === undefined ? [] : [['coalesce(requested_at, 0) < ?', toMs] as const]),
  ]
  const sql = `SELECT requested_at, current_outcomes.intent_seq, outcome_seq, final_seq
    FROM final_outcomes CROSS JOIN current_outcomes
    WHERE current_outcomes.intent_seq = final_outcomes.intent_seq AND ${conditions.map(([text]) => text).join(' AND ')}
    ORDER BY final_seq LIMIT ${limit}`
  return {
    sql: `SELECT page.final_seq AS "finalSeq", ${selected('intents')} FROM (${sql}) AS page
      ${joinFirst(engine, 'JOIN', INTENT_OF_PAGE)}
      ${joinFirst(engine, 'LEFT JOIN', OUTCOME_OF_PAGE)}
      ORDER BY page.final_seq`,
    values: conditions.flatMap(([, ...values]) => values),
  }
}

/** The newest reading of the task among the events of a cancellation. */
export const sightingQuery = (id: string): RecordQuery => ({
  sql: `SELECT task_status AS status, task_cancel_status AS "cancelStatus", task_seen_at AS "seenAtMs" FROM outcomes
    WHERE cancellation_id = ? AND task_seen_at IS NOT NULL ORDER BY task_seen_at DESC, seq DESC LIMIT 1`,
  values: [id],
})

/** Cancellations whose outcome is not final, newest first. */
export const openQuery = (engine: Engine, before: Position | null, limit: number): RecordQuery => ({
  sql: `SELECT intents.id, intents.task_no AS "taskNo", intents.requested_at AS "requestedAtMs", intents.seq,
    intents.instance_id AS "instanceId",
    (SELECT outcome FROM current_outcomes WHERE current_outcomes.intent_seq = page.intent_seq) AS outcome
    FROM (SELECT requested_at, intent_seq FROM open_cancellations
      ${before === null ? '' : 'WHERE (requested_at, intent_seq) < (?, ?)'}
      ORDER BY requested_at DESC, intent_seq DESC LIMIT ${limit}) AS page
    ${joinFirst(engine, 'JOIN', INTENT_OF_PAGE)}
    ORDER BY page.requested_at DESC, page.intent_seq DESC`,
  values: before === null ? [] : valuesOf(before),
})

/** One row; without a position each cancellation is projected. */
export const PROGRESS_QUERY: RecordQuery = { sql: 'SELECT requested_at FROM projection_progress', values: [] }

/** Runs one statement. It rejects where the signal aborts, at the latest when the statement has ended. */
export type Read = (query: RecordQuery, signal?: AbortSignal) => Promise<unknown>

/** Answers the questions of a store from its rows. */
export const createRecordReader = (engine: Engine, read: Read) => {
  let isComplete = false

  const isProjected = async (signal?: AbortSignal): Promise<boolean> => {
    const [progress] = z.array(progressSchema).parse(await read(PROGRESS_QUERY, signal))
    return progress?.requested_at === null
  }

  /** A complete projection stays complete: when it is made again, its rows are only corrected. */
  const isUsable = async (signal?: AbortSignal): Promise<boolean> => {
    isComplete ||= await isProjected(signal)
    return isComplete
  }

  const endOfStep = async (path: Path, before: Position | null, signal?: AbortSignal): Promise<Position | null> => {
    if (path.rest.length === 0) return null
    const [end] = z.array(positionSchema).parse(await read(stepEndQuery(path, before), signal))
    return end === undefined ? null : { requestedAtMs: end.requested_at, seq: end.seq }
  }

  const rows = async (query: RecordQuery, signal?: AbortSignal) => z.array(rowSchema).parse(await read(query, signal))

  const search = async (path: Path, filter: AuditFilter, wanted: number, signal?: AbortSignal) => {
    const found: RecordRow[] = []
    for (let { before } = filter, more = true; more && found.length < wanted; ) {
      const end = await endOfStep(path, before, signal)
      found.push(...(await rows(pageQuery(engine, path, { before, end }, wanted - found.length), signal)))
      more = end !== null
      before = end
    }
    return found
  }

  return {
    /** Whether the projection holds each cancellation by now. */
    isProjected: () => isProjected(),

    find: async (id: string, signal?: AbortSignal): Promise<AuditRecord | null> => {
      const [row] = await rows(findQuery(engine, id), signal)
      return row === undefined ? null : toRecord(row)
    },

    lastSighting: async (id: string, signal?: AbortSignal): Promise<Sighting | null> => {
      const [found] = z.array(sightingSchema).parse(await read(sightingQuery(id), signal))
      return found ?? null
    },

    lastFinal: async (): Promise<number> => lastOf(await read(LAST_FINAL_QUERY)) ?? 0,

    listFinal: async (filter: FinalFilter, signal?: AbortSignal): Promise<FinalPage> => {
      const upTo = lastOf(await read(finalStepQuery(filter.after), signal))
      if (upTo === null) return { records: [], next: filter.after }
      const found = z.array(finalSchema).parse(await read(finalQuery(engine, filter, upTo), signal))
      const records = found.map(({ finalSeq: _, ...row }) => toRecord(row))
      // A full page ends with its last record: others may follow it within the step.
      return { records, next: found.length < filter.limit ? upTo : (found.at(-1)?.finalSeq ?? upTo) }
    },

    listOpen: async (before: Position | null, limit: number): Promise<OpenPage> => {
      const records = z
        .array(openSchema)
        .parse(await read(openQuery(engine, before, limit)))
        .map(({ outcome, ...row }) => ({ ...row, ...outcomeOf(outcome) }))
      return { records, next: records.length < limit ? null : (records.at(-1) ?? null) }
    },

    list: async (filter: AuditFilter, signal?: AbortSignal): Promise<AuditPage> => {
      if (isEmpty(filter)) return { records: [], next: null }
      const usesProjection = filter.outcome !== undefined || filter.owner !== undefined
      const path = pathOf(filter, usesProjection && (await isUsable(signal)))
      // One more than asked tells whether there is a next page.
      const found = await search(path, filter, filter.limit + 1, signal)
      const page = found.slice(0, filter.limit)
      const last = found.length > page.length ? page.at(-1) : undefined
      const next = last === undefined ? null : { requestedAtMs: last.requestedAtMs, seq: last.seq }
      return { records: page.map(toRecord), next }
    },
  }
}

const sightingSchema = z
  .object({ status: z.string().nullable(), cancelStatus: z.string().nullable(), seenAtMs: z.number() })
  .transform(({ status, cancelStatus, seenAtMs }) => ({
    ...{ status: status ?? 'unknown', cancelStatus: cancelStatus ?? 'unknown', seenAtMs },
  }))
const lastSchema = z.object({ last: z.number().nullable() })
const lastOf = (rows: unknown): number | null => z.array(lastSchema).parse(rows)[0]?.last ?? null
const finalSchema = z.custom<RecordRow & { readonly finalSeq: number }>(
  (row) => isRecordRow(row) && 'finalSeq' in row && typeof row.finalSeq === 'number',
)
const openSchema = z.object({
  ...{ id: z.string(), taskNo: z.string(), requestedAtMs: z.number(), seq: z.number(), instanceId: z.string() },
  outcome: z.string().nullable(),
})
const progressSchema = z.object({ requested_at: z.number().nullable() })
const positionSchema = z.object({ requested_at: z.number(), seq: z.number() })

const rowSchema = z.custom<RecordRow>(isRecordRow)

const toRecord = ({ seq: _, outcome, isFinal, ...row }: RecordRow): AuditRecord => ({
  ...{ ...row, ...outcomeOf(outcome) },
  isFinal: isFinal === 1,
})

const isOutcome = (text: string): text is Outcome => OUTCOMES.some((outcome) => outcome === text)

/** A later version of the gateway can have written an outcome that this one does not know. */
const outcomeOf = (text: string | null): Pick<AuditRecord, 'outcome' | 'isUnrecognized'> => {
  if (text === null) return { outcome: 'pending' }
  return isOutcome(text) ? { outcome: text } : { outcome: 'unknown', isUnrecognized: true }
}
