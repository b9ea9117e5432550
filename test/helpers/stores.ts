import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { openPostgresStore } from '../../src/audit/postgres.ts'
import { openSqliteStore } from '../../src/audit/sqlite.ts'
import type { AuditFilter, OpenedStore } from '../../src/audit/store.ts'
import { Secret } from '../../src/secret.ts'
import { temporaryFolder } from './gateway.ts'
import { type PostgresServer, usePostgres } from './postgres.ts'
import { requires } from './requirements.ts'

/** An audit store for one test, with direct access to its database. */
export interface StoreLocation {
  open(): Promise<OpenedStore>
  /** Bypasses the store, with all privileges. */
  execute(sql: string): Promise<void>
  /** Ids of the intents, read on another connection. */
  ids(): Promise<readonly string[]>
  /** The number of outcomes. */
  outcomes(): Promise<number>
  /** The number of cancellations in the projection. */
  projected(): Promise<number>
  /** The number of transactions with writes. */
  commits(): Promise<number>
}

export const sqliteLocation = async (t: TestContext): Promise<StoreLocation & { readonly path: string }> => {
  const path = join(await temporaryFolder(t), 'audit.db')
  const beside = <T>(use: (database: DatabaseSync) => T): T => {
    // The store may hold the lock at that moment, for example while it copies the log into the file.
    const database = new DatabaseSync(path, { timeout: 20_000 })
    try {
      return use(database)
    } finally {
      database.close()
    }
  }
  return {
    path,
    open: () => openSqliteStore(path),
    execute: async (sql) => beside((database) => database.exec(sql)),
    ids: async () =>
      beside((database) =>
        database
          .prepare('SELECT id FROM intents')
          .all()
          .map(({ id }) => String(id)),
      ),
    outcomes: async () => beside((database) => database.prepare('SELECT * FROM outcomes').all().length),
    projected: async () => beside((database) => database.prepare('SELECT * FROM current_outcomes').all().length),
    commits: async () => commitsIn(path),
  }
}

export const postgresLocation = async (
  server: Pick<PostgresServer, 'database'>,
): Promise<StoreLocation & { readonly url: string }> => {
  const database = await server.database()
  const inRecord = (sql: string) => database.query(`SET search_path = audit; ${sql}`)
  return {
    url: database.url('gateway'),
    open: () =>
      openPostgresStore({
        url: new Secret(database.url('gateway')),
        adminUrl: new Secret(database.url('record_owner')),
      }),
    execute: async (sql) => {
      await inRecord(sql)
    },
    ids: async () => (await database.query('SELECT id FROM audit.intents')).map(({ id }) => String(id)),
    outcomes: async () => (await database.query('SELECT * FROM audit.outcomes')).length,
    projected: async () => (await database.query('SELECT * FROM audit.current_outcomes')).length,
    // The next transaction number for writes; no other test uses this server.
    commits: async () => {
      const [row] = await database.query('SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS next')
      return Number(row?.next)
    },
  }
}

/** Registers a test for each engine, with a store of its own. To be called once for each test file. */
export const useStores = () => {
  const server = usePostgres()
  const places: Readonly<Record<string, (t: TestContext) => Promise<StoreLocation | null>>> = {
    SQLite: sqliteLocation,
    PostgreSQL: async (t) => (requires(t, 'postgres') ? postgresLocation(await server(t)) : null),
  }
  const testEach = (
    name: string,
    run: (t: TestContext, place: StoreLocation, engine: string) => Promise<void>,
  ): void => {
    for (const [engine, placeFor] of Object.entries(places)) {
      test(`${engine}: ${name}`, async (t) => {
        const place = await placeFor(t)
        if (place !== null) await run(t, place, engine)
      })
    }
  }
  return { server, testEach }
}

/** By engine, the statements that leave the tables as the version before the follow-up of cancellations did. */
export const WITHOUT_ENDS: Readonly<Record<string, string>> = {
  SQLite: `
    DROP TRIGGER readings_are_once; DROP TRIGGER ends_are_projected; DROP TRIGGER open_outcomes_are_projected;
    DROP TRIGGER late_answers_are_projected; DROP TRIGGER removed_ends_are_projected;
    DROP TABLE open_cancellations; DROP TABLE final_outcomes; ALTER TABLE outcomes DROP COLUMN task_status;
    ALTER TABLE outcomes DROP COLUMN task_cancel_status; ALTER TABLE outcomes DROP COLUMN task_seen_at;`,
  PostgreSQL: `
    DROP TABLE audit.open_cancellations, audit.final_outcomes, audit.replicas;
    DROP FUNCTION audit.keep_one_reading(), audit.project_end(), audit.remove_ends(), audit.live_replicas(text) CASCADE;
    ALTER TABLE audit.outcomes DROP COLUMN task_status, DROP COLUMN task_cancel_status, DROP COLUMN task_seen_at;
    DELETE FROM audit.schema_version WHERE version >= 4;`,
}

/** Opens a store that closes after the test. */
export const openTestStore = async (t: TestContext, place: Pick<StoreLocation, 'open'>) => {
  const store = await place.open()
  let closed: Promise<void> | undefined
  const close = (): Promise<void> => {
    closed ??= store.close()
    return closed
  }
  t.after(close)
  const taskNos = async (filter: Partial<AuditFilter>) => {
    const { records } = await store.list({ limit: 100, before: null, ...filter })
    return records.map(({ taskNo }) => taskNo)
  }
  return { ...store, close, taskNos }
}

/**
 * Commits in the write-ahead log: frames that contain the size of the database.
 * https://www.sqlite.org/fileformat2.html#walformat
 */
const commitsIn = (path: string): number => {
  const log = readFileSync(`${path}-wal`)
  const salt = log.subarray(16, 24)
  const frameBytes = 24 + log.readUInt32BE(8)
  let commits = 0
  for (let at = 32; at + frameBytes <= log.length; at += frameBytes) {
    if (log.subarray(at + 8, at + 16).equals(salt) && log.readUInt32BE(at + 4) > 0) commits += 1
  }
  return commits
}
