import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, type TestContext, test } from 'node:test'
import type { OpenedStore } from '../../src/audit/trail.ts'
import type { Env } from '../../src/config.ts'
import type { Sandbox } from '../../src/sandbox/server.ts'
import { asAuditor, baseEnv, startSandbox, temporaryFolder } from '../helpers/gateway.ts'
import { type Database, usePostgres } from '../helpers/postgres.ts'
import { cancel, ROOT, startProcess } from '../helpers/process.ts'
import { BUSY_TASK, fill, SHARED_NAME } from '../helpers/record-sample.ts'
import { noteFigures } from '../helpers/reliability-doc.ts'
import { requires } from '../helpers/requirements.ts'
import { openAt, type Place, postgresPlace, sqlitePlace } from '../helpers/stores.ts'

// Measures a large record beside a small one. On demand with two million entries: npm run scale. Plans and the entries that
// each filter finds are asserted in test/audit/plans.test.ts.

const ENTRIES = Number(process.env.ENTRIES ?? 1200)
const SMALL = Math.min(20_000, ENTRIES / 2)
const TIMES = Number(process.env.TIMES ?? 2)
const DAY_MS = 24 * 3_600_000
const PRUNE_DAYS = 270

const servers = usePostgres()
const figures: Record<string, string | number>[] = []
after(() => noteFigures('scale', figures))

const dayBefore = (days: number): string => new Date(Date.now() - days * DAY_MS).toISOString()

const PAGES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'no filter': {},
  'no filter, deep cursor': { cursor: Buffer.from(`${Date.now() - 150 * DAY_MS}.0`, 'latin1').toString('base64url') },
  'from, to': { from: dayBefore(200), to: dayBefore(100) },
  caller: { caller: SHARED_NAME },
  taskNo: { taskNo: BUSY_TASK },
  'outcome=unknown': { outcome: 'unknown' },
  'outcome=refused': { outcome: 'refused' },
  'outcome=pending': { outcome: 'pending' },
  'outcome=cancelled': { outcome: 'cancelled' },
  'outcome=unknown, wide from': { outcome: 'unknown', from: dayBefore(299) },
  'outcome=unknown, caller': { outcome: 'unknown', caller: 'service-3' },
  'outcome=refused, caller, from': { outcome: 'refused', caller: 'service-7', from: dayBefore(250) },
  'outcome=unknown, taskNo': { outcome: 'unknown', taskNo: BUSY_TASK },
}

/** Compares each entry of one task: the one kind of filter without an index of its own. */
const LONG = { taskNo: BUSY_TASK, caller: 'nobody' }

const quantile = (values: readonly number[], share: number): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length * share)] ?? Number.NaN

const timeOf = async (work: () => Promise<unknown>): Promise<number> => {
  const startedAt = performance.now()
  await work()
  return performance.now() - startedAt
}

const timesOf = async (count: number, work: (at: number) => Promise<unknown>): Promise<readonly number[]> => {
  const times: number[] = []
  for (let at = 0; at < count; at += 1) times.push(await timeOf(() => work(at)))
  return times
}

interface Kept {
  readonly place: Place
  readonly env: Env
  readonly bytes: () => Promise<number>
}

const keptOnSqlite = async (t: TestContext): Promise<Kept> => {
  const place = await sqlitePlace(t)
  return { place, env: { AUDIT_URL: `sqlite:${place.path}` }, bytes: async () => statSync(place.path).size }
}

const keptOnPostgres = async (database: Database): Promise<Kept> => ({
  place: await postgresPlace({ database: async () => database }),
  env: { AUDIT_URL: database.url('gateway'), AUDIT_ADMIN_URL: database.url('record_owner') },
  bytes: async () => {
    const [row] = await database.query(
      `SELECT sum(pg_total_relation_size(oid))::bigint::text AS bytes FROM pg_class
        WHERE relnamespace = 'audit'::regnamespace AND relkind = 'r'`,
    )
    return Number(row?.bytes)
  },
})

const fillAt = async (t: TestContext, { place }: Kept, entries: number): Promise<void> => {
  const store: OpenedStore & { close(): Promise<void> } = await openAt(t, place)
  await fill(store, entries, Date.now())
  await store.close()
  await place.execute('ANALYZE')
}

/** Pages and cancels of a gateway that runs on the record, in milliseconds. */
const measure = async (t: TestContext, sandbox: Sandbox, env: Env) => {
  const start = async () => {
    const startedAt = performance.now()
    const started = await startProcess(t, env)
    return { ...started, startedAfterMs: performance.now() - startedAt }
  }
  const stop = async ({ kill, ended }: Awaited<ReturnType<typeof start>>): Promise<void> => {
    kill('SIGTERM')
    assert.equal((await ended).code, 0)
  }
  const found: Record<string, number> = {}
  const first = await start()
  found['start, the first'] = first.startedAfterMs
  await stop(first)
  const starts: number[] = []
  for (let at = 0; at < Math.min(TIMES, 5); at += 1) {
    const again = await start()
    starts.push(again.startedAfterMs)
    await stop(again)
  }
  found['start, p50'] = quantile(starts, 0.5)

  const gateway = await start()
  const read = async (query: Readonly<Record<string, string>>): Promise<void> => {
    const url = `${gateway.url}/cancellations?${new URLSearchParams(query)}`
    const answer = await fetch(url, { headers: asAuditor })
    await answer.arrayBuffer()
    assert.equal(answer.status, 200, url)
  }
  const cancels = async (url: string) => {
    const times = await timesOf(TIMES * 5, async () => assert.equal(await cancel(url, sandbox.addTask()), 202))
    return { p50: quantile(times, 0.5), p95: quantile(times, 0.95) }
  }
  for (const [name, query] of Object.entries(PAGES)) {
    await timesOf(Math.min(TIMES, 5), () => read(query))
    found[`${name}: page, p95`] = quantile(await timesOf(TIMES, () => read(query)), 0.95)
  }
  const quiet = await cancels(gateway.url)
  found['cancel, p50'] = quiet.p50
  found['cancel, p95'] = quiet.p95

  // Two callers whose searches never end.
  let isSearching = true
  const searches = [1, 2].map(async () => {
    while (isSearching) await fetch(`${gateway.url}/cancellations?${new URLSearchParams(LONG)}`, { headers: asAuditor })
  })
  found['cancel beside two long searches, p95'] = (await cancels(gateway.url)).p95
  found['page beside two long searches, p95'] = quantile(await timesOf(TIMES, () => read({})), 0.95)
  isSearching = false
  await Promise.all(searches)
  found['one long search'] = await timeOf(() => read(LONG))
  await stop(gateway)

  const pruning = await startProcess(t, { ...env, AUDIT_RETENTION_DAYS: String(PRUNE_DAYS) })
  found['cancel beside removal, p95'] = (await cancels(pruning.url)).p95
  pruning.kill('SIGTERM')
  await pruning.ended
  return found
}

/** Seconds, and the most memory of the process in MiB. */
const exportAll = async (env: Env) => {
  const startedAt = performance.now()
  const child = spawn(process.execPath, [join(ROOT, 'src/bin/export.ts')], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = once(child, 'close')
  let [lines, kibibytes] = [0, 0]
  for await (const _ of createInterface({ input: child.stdout })) {
    lines += 1
    if (lines % 1000 !== 0) continue
    const status = readFileSync(`/proc/${child.pid}/status`, 'utf8')
    kibibytes = Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? kibibytes)
  }
  assert.deepEqual(await ended, [0, null])
  return { lines, seconds: (performance.now() - startedAt) / 1000, mebibytes: kibibytes / 1024 }
}

/** Entries that are removed in a second when nothing else is done. */
const pruneRate = async (t: TestContext, place: Place, count: () => Promise<number>): Promise<number> => {
  const store = await openAt(t, place)
  const before = await count()
  const startedAt = performance.now()
  const isTimeLeft = (): boolean => performance.now() - startedAt < TIMES * 500
  for (let isThereMore = true; isThereMore && isTimeLeft(); ) {
    isThereMore = (await store.prune?.((PRUNE_DAYS - 60) * DAY_MS)) === true
  }
  const seconds = (performance.now() - startedAt) / 1000
  const removed = before - (await count())
  await store.close()
  return removed / seconds
}

const round = (value: number): number => Number(value.toPrecision(3))

for (const engine of ['SQLite', 'PostgreSQL'] as const) {
  test(`a record of many entries on ${engine} is measured beside a small one`, {
    timeout: 3 * 3_600_000,
  }, async (t) => {
    if (engine === 'PostgreSQL' && !requires(t, 'postgres')) return
    const keep = async () =>
      engine === 'SQLite' ? keptOnSqlite(t) : keptOnPostgres(await (await servers(t)).database())
    const sandbox = await startSandbox(t)
    const base = baseEnv(sandbox.url, join(await temporaryFolder(t), 'unused.db'))
    const [empty, small, large] = [await keep(), await keep(), await keep()]
    const note = (What: string, few: number | string, many: number | string): void => {
      const ratio = typeof few === 'number' && typeof many === 'number' ? round(many / few) : ''
      figures.push({ Record: engine, What, [`${SMALL} entries`]: few, [`${ENTRIES} entries`]: many, Ratio: ratio })
    }
    const store = await openAt(t, empty.place)
    await store.close()
    const emptyStart = await measureStart(t, { ...base, ...empty.env })
    await fillAt(t, small, SMALL)
    const filled = await timeOf(() => fillAt(t, large, ENTRIES))
    t.diagnostic(`${engine}: filled in ${Math.round(filled / 1000)} s`)
    note('bytes per entry', round((await small.bytes()) / SMALL), round((await large.bytes()) / ENTRIES))
    const few = await measure(t, sandbox, { ...base, ...small.env })
    const many = await measure(t, sandbox, { ...base, ...large.env })
    note('start with an empty record, ms', round(emptyStart), round(emptyStart))
    for (const [name, value] of Object.entries(many)) note(`${name}, ms`, round(few[name] ?? Number.NaN), round(value))
    const all = { few: await exportAll({ ...base, ...small.env }), many: await exportAll({ ...base, ...large.env }) }
    assert.ok(all.many.lines > ENTRIES * 0.8 && all.many.lines < ENTRIES * 1.5, `${all.many.lines} lines`)
    note('export, s', round(all.few.seconds), round(all.many.seconds))
    note('export, most memory in MiB', round(all.few.mebibytes), round(all.many.mebibytes))
    const rate = ({ place }: Kept) => pruneRate(t, place, async () => (await place.ids()).length)
    note('entries removed per second', round(await rate(small)), round(await rate(large)))
    for (const row of figures.filter(({ Record: record }) => record === engine)) t.diagnostic(JSON.stringify(row))
  })
}

const measureStart = async (t: TestContext, env: Env): Promise<number> => {
  const times = await timesOf(Math.min(TIMES, 5), async () => {
    const started = await startProcess(t, env)
    started.kill('SIGKILL')
    await started.ended
  })
  return quantile(times, 0.5)
}
