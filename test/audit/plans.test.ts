import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { Client } from 'pg'
import { z } from 'zod'
import { numbered, POSTGRES_STATEMENTS } from '../../src/audit/postgres.ts'
import { sessionOf } from '../../src/audit/postgres-connections.ts'
import {
  type Engine,
  finalQuery,
  finalStepQuery,
  findQuery,
  LAST_FINAL_QUERY,
  openQuery,
  PROGRESS_QUERY,
  pageQuery,
  pathOf,
  type RecordQuery,
  sightingQuery,
  stepEndQuery,
} from '../../src/audit/record-query.ts'
import { PROJECTION_STATEMENTS } from '../../src/audit/sqlite-projection.ts'
import { WRITER_STATEMENTS } from '../../src/audit/sqlite-writer.ts'
import type { AuditStore, Position } from '../../src/audit/store.ts'
import { intentOf, outcomeOf } from '../helpers/audit-events.ts'
import { entryAt, fillStore, filterCombinations, matchesFilter, type SampleFilter } from '../helpers/audit-sample.ts'
import { usePostgres } from '../helpers/postgres.ts'
import { requires } from '../helpers/requirements.ts'
import { openTestStore, postgresLocation, sqliteLocation } from '../helpers/stores.ts'

// Each statement on a record of 20,000 entries. Not held to it: migrations, which run once; the recovery by events of
// SQLite, which runs until the projection is complete; and the export, whose statements are pages of the list.

const ENTRIES = 20_000
const NOW_MS = Date.now()
const FILTERS = filterCombinations(NOW_MS)
const LIMIT = 51
/** The place of the entry with that number. */
const positionOf = (at: number): Position => {
  const { requestedAtMs } = entryAt(at, ENTRIES, NOW_MS).intent
  return { requestedAtMs, seq: at + 1 }
}
/** The bounds of a step from the start and of one after a cursor: 1,000 entries. */
const STEPS = [
  { before: null, end: positionOf(19_000) },
  { before: positionOf(10_000), end: positionOf(9000) },
] as const

const server = usePostgres()

const OWNER = { via: 'api-key', issuer: null, caller: 'c-1' }

const titleOf = (filter: SampleFilter): string => JSON.stringify(filter)

/**
 * Each statement that a list of these entries runs, with and without the projection, from the start and after a cursor.
 */
const readingsOf = (engine: Engine): readonly (readonly [string, RecordQuery])[] => [
  ['find', findQuery(engine, entryAt(777, ENTRIES, NOW_MS).intent.id)],
  ['newest reading', sightingQuery(entryAt(777, ENTRIES, NOW_MS).intent.id)],
  ['open cancellations', openQuery(engine, null, 1000)],
  ['open cancellations after a position', openQuery(engine, positionOf(10_000), 1000)],
  ['step of ends', finalStepQuery(5000)],
  ['ends', finalQuery(engine, { after: 5000, limit: LIMIT }, 6000)],
  ['ends of an owner', finalQuery(engine, { after: 5000, limit: LIMIT, owner: OWNER }, 6000)],
  ...FILTERS.flatMap((filter) =>
    [true, false].flatMap((isProjected) => {
      const path = pathOf(filter, isProjected)

      return STEPS.flatMap(({ before, ...step }) => {
        const end = path.rest.length === 0 ? null : step.end
        const title = `${titleOf(filter)} ${isProjected ? 'projected' : 'by events'} ${before === null ? '' : 'after a cursor'}`
        const page = [title, pageQuery(engine, path, { before, end }, LIMIT)] as const
        return end === null ? [page] : [page, [`${title}, end of a step`, stepEndQuery(path, before)] as const]
      })
    }),
  ),
]

/** The store returns the entries that a comparison of each entry finds. */
const assertAnswers = async (store: Pick<AuditStore, 'list'>): Promise<void> => {
  const entries = Array.from({ length: ENTRIES }, (_, at) => entryAt(ENTRIES - 1 - at, ENTRIES, NOW_MS))
  for (const filter of FILTERS) {
    const expected = entries.filter((entry) => matchesFilter(entry, filter)).map(({ intent }) => intent.id)
    const { records, next } = await store.list({ ...filter, limit: 50, before: null })
    assert.deepEqual(
      records.map(({ id }) => id),
      expected.slice(0, 50),
      titleOf(filter),
    )
    assert.equal(next !== null, expected.length > 50, titleOf(filter))
    if (next === null) continue
    const second = await store.list({ ...filter, limit: 50, before: next })
    assert.deepEqual(
      second.records.map(({ id }) => id),
      expected.slice(50, 100),
      titleOf(filter),
    )
  }
}

const SQLITE_TABLE_SCAN = /^SCAN (intents|outcomes|events|denials|current_outcomes)(?! USING (COVERING )?INDEX)/

/** The statements of each trigger, with a parameter in the place of each value of the row. */
const triggerStatements = (database: DatabaseSync): readonly (readonly [string, string])[] =>
  database
    .prepare("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND sql LIKE '%are_projected%'")
    .all()
    .flatMap(({ name, sql }) => {
      const [, body = ''] = /BEGIN([\s\S]*)END/.exec(String(sql)) ?? []
      const statements = body.split(';').filter((statement) => statement.trim() !== '')
      return statements.map((statement) => [String(name), statement.replace(/\b(NEW|OLD)\.\w+/g, '?')] as const)
    })

test('SQLite: no statement scans a table, and each filter finds what there is', async (t) => {
  const place = await sqliteLocation(t)
  const store = await openTestStore(t, place)
  await fillStore(store, ENTRIES, NOW_MS)
  await assertAnswers(store)
  const database = new DatabaseSync(place.path, { readOnly: true })
  t.after(() => database.close())
  const fixed = Object.entries({ ...WRITER_STATEMENTS, ...PROJECTION_STATEMENTS }).filter(
    ([name]) => name !== 'progress',
  )
  const statements = [
    ...fixed,
    ...triggerStatements(database),
    ...[...readingsOf('sqlite')].map(([name, { sql }]) => [name, sql] as const),
  ]
  assert.ok(statements.length > 500, `${statements.length} statements`)
  for (const [name, sql] of statements) {
    const plan = database.prepare(`EXPLAIN QUERY PLAN ${sql}`).all()
    const details = plan.map(({ detail }) => String(detail))
    const scans = details.filter((detail) => SQLITE_TABLE_SCAN.test(detail))
    assert.deepEqual(scans, [], `${name}\n${sql}\n${details.join('\n')}`)
    // An index gives the order of the rows: only a page that is found already is sorted.
    const sorts = plan.filter(
      ({ detail, parent }) => Number(parent) !== 0 && /TEMP B-TREE FOR.*ORDER BY/.test(String(detail)),
    )
    const sorted = sorts.filter(({ parent }) =>
      details[plan.findIndex(({ id }) => id === parent)]?.match(/CO-ROUTINE|MATERIALIZE/),
    )
    assert.deepEqual(sorted, [], `${name}\n${sql}\n${details.join('\n')}`)
  }
  // An index that has only some of the columns would search no table, and compare many entries all the same.
  for (const filter of FILTERS) {
    const path = pathOf(filter, true)
    if (path.rest.length > 0) continue
    const columns = path.served.flatMap(([condition]) => /^(\w+) = \?$/.exec(condition)?.[1] ?? [])
    for (const { before } of STEPS) {
      const { sql } = pageQuery('sqlite', path, { before, end: null }, LIMIT)
      const plan = database.prepare(`EXPLAIN QUERY PLAN ${sql}`).all()
      const text = plan.map(({ detail }) => String(detail)).join('\n')
      for (const column of columns) assert.ok(text.includes(`${column}=?`), `${titleOf(filter)} by ${column}\n${text}`)
    }
  }
})

interface Plan {
  readonly 'Node Type': string
  readonly 'Relation Name'?: string | undefined
  readonly 'Actual Rows': number
  readonly 'Actual Loops': number
  readonly 'Rows Removed by Filter'?: number | undefined
  readonly Plans?: readonly Plan[] | undefined
}

const planSchema: z.ZodType<Plan> = z.object({
  'Node Type': z.string(),
  'Relation Name': z.string().optional(),
  'Actual Rows': z.number(),
  'Actual Loops': z.number(),
  'Rows Removed by Filter': z.number().optional(),
  Plans: z.lazy(() => z.array(planSchema)).optional(),
})

const nodesOf = (plan: Plan): readonly Plan[] => [plan, ...(plan.Plans ?? []).flatMap(nodesOf)]

const TABLES = ['intents', 'outcomes', 'current_outcomes']

/** No table is read as a whole, and no more rows are read than one step compares, each with its events. */
const assertPlan = (name: string, plan: Plan): void => {
  const nodes = nodesOf(plan)
  const scans = nodes.filter((node) => node['Node Type'] === 'Seq Scan' && TABLES.includes(node['Relation Name'] ?? ''))
  assert.deepEqual(scans, [], `${name}: ${JSON.stringify(plan)}`)
  const read = nodes
    .filter((node) => node['Relation Name'] !== undefined)
    .map((node) => (node['Actual Rows'] + (node['Rows Removed by Filter'] ?? 0)) * node['Actual Loops'])
  assert.ok(Math.max(0, ...read) <= 5000, `${name}: ${JSON.stringify(plan)}`)
}

const connect = async (t: TestContext, connectionString: string): Promise<Client> => {
  const client = new Client({ connectionString })
  await client.connect()
  await client.query(sessionOf({ lockMs: 2000, statementMs: 60_000 }))
  t.after(() => client.end())
  return client
}

const literal = (value: unknown): string => (typeof value === 'number' ? String(value) : `'${value}'`)

test('PostgreSQL: no statement scans a table with a generic plan, and each filter finds what there is', async (t) => {
  if (!requires(t, 'postgres')) return
  const database = await (await server(t)).database()
  const place = await postgresLocation({ database: async () => database })
  const store = await openTestStore(t, place)
  await fillStore(store, ENTRIES, NOW_MS)
  await place.execute('ANALYZE')
  await assertAnswers(store)
  const client = await connect(t, place.url)
  await client.query("SET plan_cache_mode = 'force_generic_plan'")
  for (const [name, sql, values] of [...postgresStatements(), ...postgresReadings()]) {
    const given = values.length === 0 ? '' : `(${values.map(literal).join(', ')})`
    const results = await client.query(
      `BEGIN; PREPARE s AS ${sql}; EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE s${given}; ROLLBACK; DEALLOCATE s`,
    )
    const [, , { rows }] = explainedSchema.parse(results)
    assertPlan(name, rows[0]['QUERY PLAN'][0].Plan)
  }
})

const explainedSchema = z.tuple(
  [
    z.unknown(),
    z.unknown(),
    z.object({ rows: z.tuple([z.object({ 'QUERY PLAN': z.tuple([z.object({ Plan: planSchema })]) })]) }),
  ],
  z.unknown(),
)

const postgresReadings = () =>
  readingsOf('postgres').map(([name, { sql, values }]) => [name, numbered(sql), values] as const)

const postgresStatements = (): readonly (readonly [string, string, readonly unknown[]])[] => {
  const { intent } = entryAt(777, ENTRIES, NOW_MS)
  const added = JSON.stringify([{ ...intentOf({ requestedAtMs: NOW_MS }), remainingMs: 1000 }])
  const event = JSON.stringify([outcomeOf(intent, { finishedAtMs: NOW_MS })])
  return [
    ['append', POSTGRES_STATEMENTS.append, [added, event]],
    ['recover', POSTGRES_STATEMENTS.recover, [10_000]],
    ['probe', POSTGRES_STATEMENTS.probe, ['[]', '[]']],
    ['backfill', POSTGRES_STATEMENTS.backfill, [200]],
    ['progress', PROGRESS_QUERY.sql, []],
    ['last end', LAST_FINAL_QUERY.sql, []],
    ['beat', POSTGRES_STATEMENTS.beat, ['i-1']],
  ]
}

/**
 * Each statement of a function is explained by the server as it runs.
 * https://www.postgresql.org/docs/current/auto-explain.html
 */
const EXPLAIN_NESTED = `
  LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_nested_statements = on;
  SET auto_explain.log_analyze = on; SET auto_explain.log_format = json; SET auto_explain.log_level = notice;
  SET client_min_messages = notice; SET plan_cache_mode = 'force_generic_plan'`

test('PostgreSQL: no statement of a trigger scans a table', async (t) => {
  if (!requires(t, 'postgres')) return
  const database = await (await server(t)).database()
  const place = await postgresLocation({ database: async () => database })
  // The plans are those of a connection that was there before the record grew.
  const client = await connect(t, database.url('superuser'))
  const store = await openTestStore(t, place)
  const explained: (readonly [string, Plan])[] = []
  const nested = z.object({ 'Query Text': z.string(), Plan: planSchema })
  client.on('notice', ({ message = '' }) => {
    const [, json] = /plan:\n([\s\S]*)/.exec(message) ?? []
    const plan = nested.parse(JSON.parse(json ?? ''))
    explained.push([plan['Query Text'], plan.Plan])
  })
  await client.query(EXPLAIN_NESTED)
  const [[, append, values] = []] = postgresStatements()
  const first = entryAt(777, ENTRIES, NOW_MS)
  await store.append([first.intent], first.outcomes)
  await client.query(append ?? '', [...(values ?? [])])
  await fillStore(store, ENTRIES, NOW_MS)
  await place.execute('UPDATE projection_progress SET requested_at = 9007199254740991, seq = 0')
  explained.length = 0
  const [[, , [, event] = []] = []] = postgresStatements()
  await client.query(append ?? '', ['[]', String(event).replace(String(NOW_MS), String(NOW_MS + 1))])
  await client.query(POSTGRES_STATEMENTS.backfill, [200])
  await client.query(`SET audit.pruning = 'on'; DELETE FROM outcomes WHERE cancellation_id = '${first.intent.id}'`)
  await client.query(`DELETE FROM intents WHERE id = '${first.intent.id}'`)
  for (const [sql, plan] of explained) assertPlan(sql, plan)
  for (const part of [
    'UPDATE audit.current_outcomes',
    'FOR UPDATE',
    'UPDATE audit.projection_progress',
    'DELETE FROM audit.current_outcomes',
  ])
    assert.ok(
      explained.some(([sql]) => sql.includes(part)),
      part,
    )
})
