import { DatabaseSync } from 'node:sqlite'
import { intentRow, outcomeRow, placeholders, target, type WrittenIntent } from './columns.ts'
import { addEnds } from './sqlite-ends.ts'
import { createFileGuard, identityOf } from './sqlite-file-guard.ts'
import { LOCK_SCHEMA, noteWriter } from './sqlite-lock.ts'
import { addProjection, backfill, recover } from './sqlite-projection.ts'
import { reasonOf } from './sqlite-reason.ts'
import { type OutcomeEvent, outcomeEvent } from './store.ts'

/** Something to be committed; a probe is no event, and only shows that committing works. */
export type Write =
  | { readonly op: 'append'; readonly intents: readonly WrittenIntent[]; readonly outcomes: readonly OutcomeEvent[] }
  | { readonly op: 'probe' }
  | { readonly op: 'backfill' }
  | { readonly op: 'prune'; readonly beforeMs: number }

/**
 * Whether a write is durable, or the reason why not in one word. An unsure one may come to light after the next start.
 */
export type Committed =
  | { readonly done: true }
  | { readonly done: false; readonly code: string; readonly isIndeterminate: boolean }

export interface SqliteWriterOptions {
  /** The path from the settings, and where it leads to. */
  readonly givenPath: string
  readonly path: string
  readonly lockIdentity: string | null
  readonly nowMs: number
}

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS intents (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    task_no TEXT NOT NULL,
    via TEXT NOT NULL,
    issuer TEXT,
    caller TEXT NOT NULL,
    client_ip TEXT,
    peer_ip TEXT,
    user_agent TEXT,
    requested_at INTEGER NOT NULL,
    gateway_request_id TEXT NOT NULL,
    instance_id TEXT NOT NULL,
    deadline_at INTEGER NOT NULL,
    caller_display_name TEXT
  ) STRICT;
  CREATE TABLE IF NOT EXISTS outcomes (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    cancellation_id TEXT NOT NULL REFERENCES intents (id),
    outcome TEXT NOT NULL,
    attempts INTEGER,
    request_id TEXT,
    upstream_code TEXT,
    finished_at INTEGER NOT NULL,
    settled_by TEXT
  ) STRICT;
  CREATE TABLE IF NOT EXISTS probe (id INTEGER PRIMARY KEY CHECK (id = 0), at INTEGER NOT NULL) STRICT;
  CREATE INDEX IF NOT EXISTS intents_by_task_and_time ON intents (task_no, requested_at);
  CREATE INDEX IF NOT EXISTS intents_by_caller_and_time ON intents (caller, requested_at);
  CREATE INDEX IF NOT EXISTS intents_by_time ON intents (requested_at);
  CREATE UNIQUE INDEX IF NOT EXISTS outcomes_once
    ON outcomes (cancellation_id, outcome, finished_at, coalesce(settled_by, ''));
  CREATE TRIGGER IF NOT EXISTS intents_are_final BEFORE UPDATE ON intents
    BEGIN SELECT RAISE(ABORT, 'events are never updated'); END;
  CREATE TRIGGER IF NOT EXISTS outcomes_are_final BEFORE UPDATE ON outcomes
    BEGIN SELECT RAISE(ABORT, 'events are never updated'); END;
`

/** Columns that files of earlier versions lack. */
const ADDED_COLUMNS = [{ table: 'intents', name: 'caller_display_name', type: 'TEXT' }] as const

// Few at a time, since appends wait meanwhile. The same few in both, as nothing comes in between.
const OLD = 'SELECT id FROM intents WHERE requested_at < ? ORDER BY requested_at, seq LIMIT 50'

export const WRITER_STATEMENTS = {
  // By default SQLite copies each page that a statement with triggers changes, to undo that statement alone. Here a
  // commit that fails is undone as a whole.
  insertIntent: `
    INSERT OR ROLLBACK INTO ${target('intents')} VALUES (${placeholders('intents')})
    ON CONFLICT (id) DO NOTHING
  `,
  insertOutcome: `
    INSERT INTO ${target('outcomes')} VALUES (${placeholders('outcomes')})
    ON CONFLICT DO NOTHING
  `,
  insertProbe: 'INSERT OR REPLACE INTO probe (id, at) VALUES (0, ?)',
  pruneOutcomes: `DELETE FROM outcomes WHERE cancellation_id IN (${OLD})`,
  pruneIntents: `DELETE FROM intents WHERE id IN (${OLD})`,
} as const

/** How long the lock of another program, such as a backup, is waited for. */
export const BUSY_MS = 1000

// Nothing is written to temporary files: a container with a file system that is read-only may have no place for any.
const PRAGMAS = `
  PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY;
`

/** Opens the database for writing. The caller is the only writer, so each pending intent is taken for abandoned. */
export const openSqliteWriter = ({ givenPath, path, lockIdentity, nowMs }: SqliteWriterOptions) => {
  const identity = identityOf(path)
  const db = new DatabaseSync(path, { timeout: BUSY_MS })
  db.exec(PRAGMAS)
  db.exec(SCHEMA + LOCK_SCHEMA)
  addColumns(db)
  addProjection(db)
  addEnds(db, nowMs)
  const recovered = recover(db, nowMs)
  noteWriter(db, lockIdentity)
  const write = createWrite(db)
  const eventsIn = (database: DatabaseSync): number => Number(database.prepare(EVENTS).get()?.total)
  const countEvents = db.prepare(EVENTS)
  let events = eventsIn(db)
  const guard = createFileGuard({
    ...{ givenPath, path, identity },
    verify: () => verify(path, (database) => eventsIn(database) >= events),
  })

  const begin = (): string | null => {
    try {
      db.exec('BEGIN IMMEDIATE')
      // Another program can replace the content by a transaction, as a restore does.
      return Number(countEvents.get()?.total) < events ? rollBack(db, EVENTS_MISSING) : null
    } catch (error) {
      return rollBack(db, reasonOf(error))
    }
  }

  const finish = (batch: readonly Write[]): string | null => {
    try {
      for (const each of batch) write(each)
      const written = Number(countEvents.get()?.total)
      db.exec('COMMIT')
      events = written
      return null
    } catch (error) {
      return rollBack(db, reasonOf(error))
    }
  }

  const commitOne = (each: Write): Committed => committed(begin() ?? finish([each]))

  const commitAll = (batch: readonly Write[]): readonly Committed[] => {
    // A lock of another program is waited for once. An invalid write must not fail the others of its batch.
    const notBegun = begin()
    if (notBegun !== null) return batch.map(() => committed(notBegun))
    const failed = finish(batch)
    if (failed === null || batch.length === 1) return batch.map(() => committed(failed))
    return batch.map(commitOne)
  }

  /** Whether an intent and its outcome could be written. */
  const rehearse = (): string | null => {
    const notBegun = begin()
    if (notBegun !== null) return notBegun
    try {
      write(REHEARSAL)
      return rollBack(db, null)
    } catch (error) {
      return rollBack(db, reasonOf(error))
    }
  }

  const refuse = (batch: readonly Write[], fault: string): readonly Committed[] => {
    // The log holds pages that the main file does not have yet, and ends with this process. Pages moved now are not
    // lost.
    if (fault.startsWith('WAL_') && !guard.isLogDamaged()) saveLog(db)
    return batch.map(() => committed(fault))
  }

  return {
    /** How many intents had no outcome; they are `unknown` now. */
    recovered,
    /** Tells for each whether it is durable. */
    commit: (batch: readonly Write[]): readonly Committed[] => {
      const fault = guard.check()
      if (fault !== null) return refuse(batch, fault)
      const rehearsed = batch.some(isProbe) ? rehearse() : null
      const results = commitAll(batch).map((result, index) => {
        const write = batch[index]
        return rehearsed !== null && write !== undefined && isProbe(write) ? committed(rehearsed) : result
      })
      // Before anything is reported as durable: the files can have been removed meanwhile.
      const late = guard.checkCommitted()
      return late === null ? results : results.map((each) => (each.done ? indeterminate(late) : each))
    },
    close: (): void => {
      if (guard.isLogDamaged()) closeWithoutMoving(db, path)
      else db.close()
      guard.close()
    },
  }
}

const addColumns = (db: DatabaseSync): void => {
  const find = db.prepare('SELECT 1 FROM pragma_table_info(?) WHERE name = ?')
  for (const { table, name, type } of ADDED_COLUMNS)
    if (find.get(table, name) === undefined) db.exec(`ALTER TABLE ${table} ADD COLUMN ${name} ${type}`)
}

/** The last connection to close moves the log to the main file, unless it can only read. */
const closeWithoutMoving = (db: DatabaseSync, path: string): void => {
  let last: DatabaseSync | undefined
  try {
    last = new DatabaseSync(path, { readOnly: true, timeout: BUSY_MS })
    last.exec('BEGIN; SELECT 1 FROM sqlite_schema')
  } catch {
    // Deleted as well, or a log that can't be read, which is not moved either.
  }
  db.close()
  last?.close()
}

/** Numbers of events are never used again, so that their sum only grows. */
const EVENTS = "SELECT total(seq) AS total FROM sqlite_sequence WHERE name IN ('intents', 'outcomes')"
const EVENTS_MISSING = 'EVENTS_MISSING'

const REHEARSAL: Write = {
  op: 'append',
  intents: [
    {
      // Sorts behind all others, where the next intent goes.
      ...{ id: 'rehearsal', taskNo: '', via: '', caller: '', gatewayRequestId: '', instanceId: '' },
      ...{ requestedAtMs: Number.MAX_SAFE_INTEGER, deadlineAtMs: 0 },
    },
  ],
  outcomes: [outcomeEvent('rehearsal', 'unknown', 0)],
}

const isProbe = (write: Write): boolean => write.op === 'probe'

const committed = (code: string | null): Committed => {
  if (code === null) return { done: true }
  // A commit whose last step fails on the disk can be whole in the log all the same.
  return code.startsWith('SQLITE_IOERR') ? indeterminate(code) : { done: false, code, isIndeterminate: false }
}

const indeterminate = (code: string): Committed => ({ done: false, code, isIndeterminate: true })

const rollBack = (db: DatabaseSync, code: string | null): string | null => {
  try {
    if (db.isTransaction) db.exec('ROLLBACK')
    return code
  } catch (error) {
    return code ?? reasonOf(error)
  }
}

const saveLog = (db: DatabaseSync): void => {
  try {
    db.exec('PRAGMA wal_checkpoint(PASSIVE)')
  } catch {
    // The fault is reported in any case.
  }
}

/** Past the caches of the connection that writes. */
const verify = (path: string, isComplete: (db: DatabaseSync) => boolean): string | null => {
  let db: DatabaseSync | undefined
  try {
    db = new DatabaseSync(path, { readOnly: true, timeout: BUSY_MS })
    const found = db.prepare('PRAGMA quick_check(1)').get()
    if (found?.quick_check !== 'ok') return 'FILE_DAMAGED'
    return isComplete(db) ? null : EVENTS_MISSING
  } catch (error) {
    return reasonOf(error)
  } finally {
    db?.close()
  }
}

const createWrite = (db: DatabaseSync): ((write: Write) => void) => {
  const insertIntent = db.prepare(WRITER_STATEMENTS.insertIntent)
  const insertOutcome = db.prepare(WRITER_STATEMENTS.insertOutcome)
  const insertProbe = db.prepare(WRITER_STATEMENTS.insertProbe)
  const { pruneOutcomes, pruneIntents } = WRITER_STATEMENTS
  const prune = [pruneOutcomes, pruneIntents].map((sql) => db.prepare(sql))
  return (write) => {
    if (write.op === 'probe') insertProbe.run(Date.now())
    else if (write.op === 'backfill') backfill(db)
    else if (write.op === 'prune') for (const each of prune) each.run(write.beforeMs)
    else {
      for (const intent of write.intents) insertIntent.run(...intentRow(intent))
      for (const outcome of write.outcomes) insertOutcome.run(...outcomeRow(outcome))
    }
  }
}
