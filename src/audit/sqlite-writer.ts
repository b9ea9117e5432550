import { DatabaseSync } from 'node:sqlite'
import type { Intent, OutcomeEvent } from './trail.ts'

/** Something to be committed; a probe is no event, and only shows that committing works. */
export type Write =
  | { readonly op: 'append'; readonly intents: readonly Intent[]; readonly outcomes: readonly OutcomeEvent[] }
  | { readonly op: 'probe' }
  | { readonly op: 'prune'; readonly beforeMs: number }

export interface SqliteWriter {
  /** How many intents had no outcome; they are `unknown` now. */
  readonly recovered: number
  /** Tells for each whether it is durable. */
  commit(batch: readonly Write[]): readonly boolean[]
  close(): void
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
    deadline_at INTEGER NOT NULL
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

const RECOVER = `
  INSERT INTO outcomes (cancellation_id, outcome, finished_at)
  SELECT id, 'unknown', ? FROM intents WHERE id NOT IN (SELECT cancellation_id FROM outcomes)
`

const INSERT_INTENT = `
  INSERT INTO intents (id, task_no, via, issuer, caller, client_ip, peer_ip, user_agent, requested_at,
    gateway_request_id, instance_id, deadline_at)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
  ON CONFLICT (id) DO NOTHING
`

const INSERT_OUTCOME = `
  INSERT INTO outcomes (cancellation_id, outcome, attempts, request_id, upstream_code, finished_at, settled_by)
  VALUES (?, ?, ?, ?, ?, ?, ?)
  ON CONFLICT DO NOTHING
`

// Few at a time, since appends wait meanwhile. The same few in both, as nothing comes in between.
const OLD = 'SELECT id FROM intents WHERE requested_at < ? ORDER BY requested_at, seq LIMIT 200'
const PRUNE = [
  `DELETE FROM outcomes WHERE cancellation_id IN (${OLD})`,
  `DELETE FROM intents WHERE id IN (${OLD})`,
] as const

/** How long the lock of another program, such as a backup, is waited for. */
export const BUSY_MS = 1000

/** Opens the database for writing. Whoever does must know that nobody else writes: what is pending is taken for lost. */
export const openSqliteWriter = (path: string, nowMs: number): SqliteWriter => {
  const db = new DatabaseSync(path, { timeout: BUSY_MS })
  db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON')
  db.exec(SCHEMA)
  const recovered = Number(db.prepare(RECOVER).run(nowMs).changes)
  const write = createWrite(db)

  const begin = (): boolean => {
    try {
      db.exec('BEGIN IMMEDIATE')
      return true
    } catch {
      return false
    }
  }

  const finish = (batch: readonly Write[]): boolean => {
    try {
      for (const each of batch) write(each)
      db.exec('COMMIT')
      return true
    } catch {
      if (db.isTransaction) db.exec('ROLLBACK')
      return false
    }
  }

  return {
    recovered,
    commit: (batch) => {
      // A lock that others hold is waited for once; what spoils a commit spoils it for itself alone.
      if (!begin()) return batch.map(() => false)
      if (finish(batch)) return batch.map(() => true)
      return batch.map((each) => batch.length > 1 && begin() && finish([each]))
    },
    close: () => db.close(),
  }
}

const createWrite = (db: DatabaseSync): ((write: Write) => void) => {
  const insertIntent = db.prepare(INSERT_INTENT)
  const insertOutcome = db.prepare(INSERT_OUTCOME)
  const insertProbe = db.prepare('INSERT OR REPLACE INTO probe (id, at) VALUES (0, ?)')
  const prune = PRUNE.map((sql) => db.prepare(sql))
  return (write) => {
    if (write.op === 'probe') insertProbe.run(Date.now())
    else if (write.op === 'prune') for (const each of prune) each.run(write.beforeMs)
    else {
      for (const intent of write.intents) insertIntent.run(...intentRow(intent))
      for (const outcome of write.outcomes) insertOutcome.run(...outcomeRow(outcome))
    }
  }
}

// By place, since Node looks up each name in each statement.

const intentRow = (intent: Intent) => {
  const { id, taskNo, via, issuer, caller, clientIp, peerIp, userAgent, requestedAtMs } = intent
  const { gatewayRequestId, instanceId, deadlineAtMs } = intent
  return [
    ...[id, taskNo, via, issuer, caller, clientIp, peerIp, userAgent, requestedAtMs],
    ...[gatewayRequestId, instanceId, deadlineAtMs],
  ]
}

const outcomeRow = (event: OutcomeEvent) => {
  const { cancellationId, outcome, attempts, requestId, upstreamCode, finishedAtMs, settledBy } = event
  return [cancellationId, outcome, attempts, requestId, upstreamCode, finishedAtMs, settledBy]
}
