const isText = (value: unknown): value is string => typeof value === 'string'
const isNumber = (value: unknown): value is number => typeof value === 'number'

/** Types of columns: the type on PostgreSQL, and the check of a value that is read. */
const TYPES = {
  text: { sql: 'text', is: isText },
  count: { sql: 'integer', is: isNumber },
  /** Milliseconds since the epoch. */
  time: { sql: 'bigint', is: isNumber },
  source: { sql: 'text', is: (value: unknown): value is 'query' => value === 'query' },
} as const

export type ColumnType = keyof typeof TYPES

interface Column {
  readonly table: 'intents' | 'outcomes'
  readonly name: string
  readonly type: ColumnType
  readonly isNullable?: true
  /** The name in JSON. Absent: not shown. */
  readonly json?: string
  /** Written, but no part of a record that is read. */
  readonly isInternal?: true
}

/**
 * The columns of the audit record by property, in the order of its JSON. Statements, types, checks and JSON are derived
 * from this list. The tables are written out in sqlite-writer.ts and postgres-schema.ts.
 */
export const COLUMNS = {
  id: { table: 'intents', name: 'id', type: 'text', json: 'id' },
  taskNo: { table: 'intents', name: 'task_no', type: 'text', json: 'taskNo' },
  caller: { table: 'intents', name: 'caller', type: 'text', json: 'caller' },
  /** As the issuer of the token stated it. For display only: equal names can be of different people. */
  callerDisplayName: {
    ...{ table: 'intents', name: 'caller_display_name', type: 'text' },
    ...{ isNullable: true, json: 'callerDisplayName' },
  },
  via: { table: 'intents', name: 'via', type: 'text', json: 'via' },
  issuer: { table: 'intents', name: 'issuer', type: 'text', isNullable: true },
  clientIp: { table: 'intents', name: 'client_ip', type: 'text', isNullable: true, json: 'clientIp' },
  peerIp: { table: 'intents', name: 'peer_ip', type: 'text', isNullable: true, json: 'peerIp' },
  userAgent: { table: 'intents', name: 'user_agent', type: 'text', isNullable: true, json: 'userAgent' },
  requestedAtMs: { table: 'intents', name: 'requested_at', type: 'time', json: 'requestedAt' },
  /** The process that is responsible for the intent until the deadline. No other process may settle it before. */
  instanceId: { table: 'intents', name: 'instance_id', type: 'text', isInternal: true },
  deadlineAtMs: { table: 'intents', name: 'deadline_at', type: 'time', isInternal: true },
  cancellationId: { table: 'outcomes', name: 'cancellation_id', type: 'text', isInternal: true },
  outcome: { table: 'outcomes', name: 'outcome', type: 'text', json: 'outcome' },
  attempts: { table: 'outcomes', name: 'attempts', type: 'count', isNullable: true, json: 'attempts' },
  requestId: { table: 'outcomes', name: 'request_id', type: 'text', isNullable: true, json: 'requestId' },
  upstreamCode: { table: 'outcomes', name: 'upstream_code', type: 'text', isNullable: true, json: 'upstreamCode' },
  finishedAtMs: { table: 'outcomes', name: 'finished_at', type: 'time', json: 'finishedAt' },
  gatewayRequestId: { table: 'intents', name: 'gateway_request_id', type: 'text', json: 'gatewayRequestId' },
  settledBy: { table: 'outcomes', name: 'settled_by', type: 'source', isNullable: true, json: 'settledBy' },
  /** The task as it was read, where the outcome follows from a reading. */
  taskStatus: { table: 'outcomes', name: 'task_status', type: 'text', isNullable: true, isInternal: true },
  taskCancelStatus: { table: 'outcomes', name: 'task_cancel_status', type: 'text', isNullable: true, isInternal: true },
  taskSeenAtMs: { table: 'outcomes', name: 'task_seen_at', type: 'time', isNullable: true, isInternal: true },
} as const satisfies Readonly<Record<string, Column>>

type Columns = typeof COLUMNS
type Property = keyof Columns
type PropertyOf<Part> = { [P in Property]: Columns[P] extends Part ? P : never }[Property]
type ValueOf<C extends Column> = (typeof TYPES)[C['type']] extends { is(value: unknown): value is infer V } ? V : never

/** The values of all columns. A mapped type over the list, so that editors lead from a property to its row. */
type Values = {
  readonly [P in Property]: ValueOf<Columns[P]> | (Columns[P] extends { isNullable: true } ? null : never)
}
type NullableOfIntents = PropertyOf<{ table: 'intents'; isNullable: true }>
type Internal = PropertyOf<{ isInternal: true }>

export type IntentValues = Pick<Values, PropertyOf<{ table: 'intents' }>>
/** An intent that is to be written. A column without a value is null. */
export type WrittenIntent = Omit<IntentValues, NullableOfIntents> & Partial<Pick<IntentValues, NullableOfIntents>>
export type OutcomeValues = Pick<Values, PropertyOf<{ table: 'outcomes' }>>
export type OutcomeDetails = Pick<OutcomeValues, PropertyOf<{ table: 'outcomes'; isNullable: true }>>

/** A row of a page: an intent with its current outcome, each column of which is null where there is none. */
export type RecordRow = Omit<IntentValues, Internal> & {
  readonly [P in Exclude<keyof OutcomeValues, Internal>]: OutcomeValues[P] | null
} & {
  readonly seq: number
  /** 1: the outcome is final. */
  readonly isFinal: number
}

const ALL = Object.entries<Column>(COLUMNS).map(([property, column]) => ({ property, ...column }))
const READ = ALL.filter(({ isInternal }) => isInternal === undefined)

type Table = Column['table']
const columnsOf = (table: Table) => ALL.filter((column) => column.table === table)

/** The columns that callers and exports see. */
export const JSON_COLUMNS = ALL.flatMap(({ property, type, json }) =>
  json === undefined ? [] : { property, type, json },
)

const list = (table: Table, textOf: (column: (typeof ALL)[number]) => string): string =>
  columnsOf(table).map(textOf).join(', ')

/** The table with its columns, as an INSERT names them. */
export const target = (table: Table): string => `${table} (${list(table, ({ name }) => name)})`

/** A question mark for each column. */
export const placeholders = (table: Table): string => list(table, () => '?')

/** The properties, as PostgreSQL reads them from JSON. */
export const properties = (table: Table): string => list(table, ({ property }) => `"${property}"`)

/** The properties with their types on PostgreSQL. */
export const typedProperties = (table: Table): string =>
  list(table, ({ property, type }) => `"${property}" ${TYPES[type].sql}`)

/** Selects a record. The argument is the name of the intents in the statement. */
export const recordColumns = (intents: string): string =>
  READ.map(({ table, name, property }) => `${table === 'intents' ? intents : table}.${name} AS "${property}"`).join(
    ', ',
  )

type Value = string | number | null

/** The values of an event in the order of the columns. By place, since Node looks up each name in each statement. */
const rowIn = (table: Table): ((event: Readonly<Record<string, Value | undefined>>) => readonly Value[]) => {
  const inOrder = columnsOf(table).map(({ property }) => property)
  return (event) => inOrder.map((property) => event[property] ?? null)
}

export const intentRow: (intent: WrittenIntent) => readonly Value[] = rowIn('intents')
export const outcomeRow: (outcome: OutcomeValues) => readonly Value[] = rowIn('outcomes')

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null

export const isRecordRow = (row: unknown): row is RecordRow =>
  isObject(row) &&
  isNumber(row.seq) &&
  isNumber(row.isFinal) &&
  READ.every(({ property, table, type, isNullable }) => {
    const value = row[property]
    return TYPES[type].is(value) || (value === null && (isNullable === true || table === 'outcomes'))
  })
