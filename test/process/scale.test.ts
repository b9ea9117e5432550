import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, type TestContext, test } from 'node:test'
import type { Sandbox } from '../../sandbox/src/server.ts'
import type { OpenedStore } from '../../src/audit/store.ts'
import type { Env } from '../../src/config.ts'
import { BUSY_TASK, fillStore, SHARED_NAME } from '../helpers/audit-sample.ts'
import { asAuditor, baseEnv, startSandbox, temporaryFolder } from '../helpers/gateway.ts'
import { type Database, usePostgres } from '../helpers/postgres.ts'
import { cancel, ROOT, startProcess } from '../helpers/process.ts'
import { writeFigures } from '../helpers/reliability-doc.ts'
import { requires } from '../helpers/requirements.ts'
import { openTestStore, postgresLocation, type StoreLocation, sqliteLocation } from '../helpers/stores.ts'

// Measures a large record beside a small one. On demand with two million entries: npm run scale. Plans and the entries
// that each filter finds are asserted in test/audit/plans.test.ts.

const ENTRIES = Number(process.env.ENTRIES ?? 1200)
const SMALL = Math.min(20_000, ENTRIES / 2)
const TIMES = Number(process.env.TIMES ?? 1)
const DAY_MS = 24 * 3_600_000
const PRUNE_DAYS = 270

const servers = usePostgres()
const figures: Record<string, string | number>[] = []
after(() => writeFigures('scale', figures))

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

/** A task with a caller: the one kind of filter without an index of its own. It compares each entry of the task. */
const LONG = { taskNo: BUSY_TASK, caller: 'nobody' }

const quantile = (values: readonly number[], share: number): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length * share)] ?? Number.NaN

const timeOf = async (work: () => Promise<unknown>): Promise<number> => {
  const startedAt = performance.now()
  await work()
  return performance.now() - startedAt
}

interface Kept {
  readonly place: StoreLocation
  readonly env: Env
  readonly bytes: () => Promise<number>
}

const keptOnSqlite = async (t: TestContext): Promise<Kept> => {
  const place = await sqliteLocation(t)
  return { place, env: { AUDIT_URL: `sqlite:${place.path}` }, bytes: async () => statSync(place.path).size }
}

const keptOnPostgres = async (database: Database): Promise<Kept> => ({
  place: await postgresLocation({ database: async () => database }),
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
  const store: OpenedStore & { close(): Promise<void> } = await openTestStore(t, place)
  await fillStore(store, entries, Date.now())
  await store.close()
  await place.execute('ANALYZE')
}

/** Of the small record and of the large one. */
type Pair = readonly [few: number, many: number]

const timesOf = async (count: number, work: () => Promise<unknown>): Promise<readonly number[]> => {
  const times: number[] = []
  for (let at = 0; at < count; at += 1) times.push(await timeOf(work))
  return times
}

/** Times of the two in turn, so that other work of the machine meets both. */
const inTurn = async (count: number, works: Both<() => Promise<unknown>>): Promise<Both<readonly number[]>> => {
  const [few, many]: [number[], number[]] = [[], []]
  for (let at = 0; at < count; at += 1) {
    few.push(await timeOf(works[0]))
    many.push(await timeOf(works[1]))
  }
  return [few, many]
}

type Both<T> = readonly [few: T, many: T]

const quantiles = ([few, many]: Both<readonly number[]>, share: number): Pair => [
  quantile(few, share),
  quantile(many, share),
]

const startBoth = async (t: TestContext, envs: Both<Env>) =>
  [await startProcess(t, envs[0]), await startProcess(t, envs[1])] as const

const stopBoth = async (gateways: Awaited<ReturnType<typeof startBoth>>): Promise<void> => {
  for (const { kill } of gateways) kill('SIGTERM')
  for (const { ended } of gateways) assert.equal((await ended).code, 0)
}

/** Pages and cancels of gateways that run on the two records, in milliseconds. */
const measure = async (t: TestContext, sandbox: Sandbox, emptyEnv: Env, envs: Both<Env>) => {
  const found: Record<string, Pair> = {}
  const startAndStop = (env: Env) => async () => {
    const started = await startProcess(t, env)
    started.kill('SIGKILL')
    await started.ended
  }
  const starts = [startAndStop(envs[0]), startAndStop(envs[1])] as const
  found['start, the first'] = quantiles(await inTurn(1, starts), 0)
  const again: Both<readonly number[]>[] = []
  const empty: number[] = []
  for (let at = 0; at < Math.min(TIMES, 5); at += 1) {
    empty.push(await timeOf(startAndStop(emptyEnv)))
    again.push(await inTurn(1, starts))
  }
  const emptyStart = quantile(empty, 0.5)
  found['start with an empty audit trail, p50'] = [emptyStart, emptyStart]
  found['start, p50'] = quantiles([again.flatMap(([few]) => few), again.flatMap(([, many]) => many)], 0.5)

  const gateways = await startBoth(t, envs)
  const [few, many] = gateways
  const read = (url: string, query: Readonly<Record<string, string>>) => async () => {
    const answer = await fetch(`${url}/cancellations?${new URLSearchParams(query)}`, { headers: asAuditor })
    await answer.arrayBuffer()
    assert.equal(answer.status, 200, JSON.stringify(query))
  }
  const reads = (query: Readonly<Record<string, string>>) => [read(few.url, query), read(many.url, query)] as const
  const cancelsOf = ([a, b]: Both<{ readonly url: string }>) => {
    const workAt = (url: string) => async () => assert.equal(await cancel(url, sandbox.addTask()), 202)
    return [workAt(a.url), workAt(b.url)] as const
  }
  const cancels = async (urls: Both<{ readonly url: string }>) => {
    // The first requests of a process are always slow.
    await inTurn(TIMES * 2, cancelsOf(urls))
    return inTurn(TIMES * 5, cancelsOf(urls))
  }
  for (const [name, query] of Object.entries(PAGES)) {
    await inTurn(Math.min(TIMES, 5), reads(query))
    found[`${name}: page, p95`] = quantiles(await inTurn(TIMES, reads(query)), 0.95)
  }
  const quiet = await cancels(gateways)
  found['cancel, p50'] = quantiles(quiet, 0.5)
  found['cancel, p95'] = quantiles(quiet, 0.95)

  /** Times during the endless searches of one caller at the gateway under test. */
  const besideSearch = async (url: string, count: number, work: () => Promise<unknown>) => {
    let isSearching = true
    const search = async (): Promise<void> => {
      while (isSearching) await read(url, LONG)()
    }
    const [times] = await Promise.all([
      timesOf(count, work).finally(() => {
        isSearching = false
      }),
      search(),
    ])
    return times
  }
  const bothBesideSearch = async (count: number, works: Both<() => Promise<unknown>>) =>
    [await besideSearch(few.url, count, works[0]), await besideSearch(many.url, count, works[1])] as const
  found['cancel beside a long search, p95'] = quantiles(await bothBesideSearch(TIMES * 5, cancelsOf(gateways)), 0.95)
  found['page beside a long search, p95'] = quantiles(await bothBesideSearch(TIMES, reads({})), 0.95)
  found['one long search'] = quantiles(await inTurn(1, reads(LONG)), 0)
  await stopBoth(gateways)

  const days = { AUDIT_RETENTION_DAYS: String(PRUNE_DAYS) }
  const pruning = await startBoth(t, [
    { ...envs[0], ...days },
    { ...envs[1], ...days },
  ])
  found['cancel beside removal, p95'] = quantiles(await cancels(pruning), 0.95)
  await stopBoth(pruning)
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
const pruneRate = async (t: TestContext, place: StoreLocation, count: () => Promise<number>): Promise<number> => {
  const store = await openTestStore(t, place)
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
    const note = (Measurement: string, few: number | string, many: number | string): void => {
      const ratio = typeof few === 'number' && typeof many === 'number' ? round(many / few) : ''
      figures.push({
        Database: engine,
        Measurement,
        [`${SMALL} entries`]: few,
        [`${ENTRIES} entries`]: many,
        Ratio: ratio,
      })
    }
    const store = await openTestStore(t, empty.place)
    await store.close()
    await fillAt(t, small, SMALL)
    const filled = await timeOf(() => fillAt(t, large, ENTRIES))
    t.diagnostic(`${engine}: filled in ${Math.round(filled / 1000)} s`)
    note('bytes per entry', round((await small.bytes()) / SMALL), round((await large.bytes()) / ENTRIES))
    const found = await measure(t, sandbox, { ...base, ...empty.env }, [
      { ...base, ...small.env },
      { ...base, ...large.env },
    ])
    for (const [name, [few, many]] of Object.entries(found)) note(`${name}, ms`, round(few), round(many))
    const all = { few: await exportAll({ ...base, ...small.env }), many: await exportAll({ ...base, ...large.env }) }
    assert.ok(all.many.lines > ENTRIES * 0.8 && all.many.lines < ENTRIES * 1.5, `${all.many.lines} lines`)
    note('export, s', round(all.few.seconds), round(all.many.seconds))
    note('export, most memory in MiB', round(all.few.mebibytes), round(all.many.mebibytes))
    const rate = ({ place }: Kept) => pruneRate(t, place, async () => (await place.ids()).length)
    note('entries removed per second', round(await rate(small)), round(await rate(large)))
    for (const row of figures.filter(({ Database: database }) => database === engine)) t.diagnostic(JSON.stringify(row))
  })
}
