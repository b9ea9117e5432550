import { closeSync, existsSync, mkdirSync, openSync, realpathSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { DatabaseSync, type SQLInputValue } from 'node:sqlite'
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { type FoldFilter, foldQuery } from './sqlite-fold.ts'
import type { Intent, OutcomeEvent } from './trail.ts'

// The threads that touch the database: a slow disk stops these, never the one that serves requests. The writer owns the
// file; a reader of its own keeps a long look at the record from holding up a cancellation.

export type WorkerRequest =
  | { readonly op: 'append'; readonly intents: readonly Intent[]; readonly outcomes: readonly OutcomeEvent[] }
  | { readonly op: 'read'; readonly filter: FoldFilter }
  | { readonly op: 'probe' }
  | { readonly op: 'close' }

export interface WorkerMessage {
  readonly id: number
  readonly request: WorkerRequest
}

/** The first message is `ready` or `refused`; `recovered` counts what a crash had left pending. */
export type WorkerReply =
  | { readonly kind: 'ready'; readonly recovered: number }
  | { readonly kind: 'refused'; readonly reason: 'locked' | 'unusable' }
  | { readonly kind: 'done'; readonly id: number; readonly value: unknown }
  | { readonly kind: 'failed'; readonly id: number }

export interface WorkerOptions {
  readonly role: 'writer' | 'reader'
  readonly path: string
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
  CREATE INDEX IF NOT EXISTS intents_by_task ON intents (task_no);
  CREATE INDEX IF NOT EXISTS intents_by_caller ON intents (caller);
  CREATE INDEX IF NOT EXISTS intents_by_time ON intents (requested_at);
  CREATE INDEX IF NOT EXISTS outcomes_by_cancellation ON outcomes (cancellation_id);
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
  VALUES (:id, :taskNo, :via, :issuer, :caller, :clientIp, :peerIp, :userAgent, :requestedAtMs,
    :gatewayRequestId, :instanceId, :deadlineAtMs)
`

const INSERT_OUTCOME = `
  INSERT INTO outcomes (cancellation_id, outcome, attempts, request_id, upstream_code, finished_at, settled_by)
  VALUES (:cancellationId, :outcome, :attempts, :requestId, :upstreamCode, :finishedAtMs, :settledBy)
`

const BUSY_MS = 1000

/** Serves one batch of requests. */
type Handle = (messages: readonly WorkerMessage[]) => void

interface Store {
  readonly recovered: number
  readonly handle: Handle
  close(): void
}

/** The file by the one name that all paths to it lead to, so that two names can't have two locks. */
const createFile = (path: string): string => {
  const absolute = resolve(path)
  if (!existsSync(dirname(absolute))) mkdirSync(dirname(absolute))
  // The record holds addresses and names: for this user's eyes. SQLite gives its side files the same mode.
  closeSync(openSync(absolute, 'a', 0o600))
  return realpathSync(absolute)
}

const openWriter = (port: MessagePort, options: WorkerOptions): Store => {
  const path = createFile(options.path)
  const lock = new DatabaseSync(createFile(`${path}-lock`))
  // Node has no flock, and an exclusive WAL would shut readers out; this lock dies with its process.
  lock.exec('BEGIN EXCLUSIVE')
  const db = new DatabaseSync(path, { timeout: BUSY_MS })
  db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON')
  db.exec(SCHEMA)
  // Holding the lock proves that whoever wrote these is dead, whatever their deadlines say.
  const recovered = Number(db.prepare(RECOVER).run(options.nowMs).changes)
  const close = (): void => {
    db.close()
    lock.close()
  }
  return { recovered, handle: createWrite(port, db), close }
}

const openReader = (port: MessagePort, { path }: WorkerOptions): Store => {
  const db = new DatabaseSync(path, { readOnly: true, timeout: BUSY_MS })
  return { recovered: 0, handle: createRead(port, db), close: () => db.close() }
}

/** Whatever arrived while the last commit was under way shares the next one. Where one spoils it, each goes alone. */
const createWrite = (port: MessagePort, db: DatabaseSync): Handle => {
  const insertIntent = db.prepare(INSERT_INTENT)
  const insertOutcome = db.prepare(INSERT_OUTCOME)
  const insertProbe = db.prepare('INSERT OR REPLACE INTO probe (id, at) VALUES (0, ?)')
  const row = (event: Intent | OutcomeEvent): Record<string, SQLInputValue> => ({ ...event })

  const write = (request: WorkerRequest): void => {
    if (request.op === 'probe') insertProbe.run(Date.now())
    if (request.op !== 'append') return
    for (const intent of request.intents) insertIntent.run(row(intent))
    for (const outcome of request.outcomes) insertOutcome.run(row(outcome))
  }

  const begin = (): boolean => {
    try {
      db.exec('BEGIN IMMEDIATE')
      return true
    } catch {
      return false
    }
  }

  const commit = (batch: readonly WorkerMessage[]): boolean => {
    try {
      for (const { request } of batch) write(request)
      db.exec('COMMIT')
      return true
    } catch {
      if (db.isTransaction) db.exec('ROLLBACK')
      return false
    }
  }

  return (messages) => {
    const begun = begin()
    const shared = begun && commit(messages)
    for (const message of messages) {
      if (shared || (begun && messages.length > 1 && begin() && commit([message]))) done(port, message, undefined)
      else failed(port, message)
    }
  }
}

const createRead = (port: MessagePort, db: DatabaseSync): Handle => {
  const read = (message: WorkerMessage): void => {
    if (message.request.op !== 'read') return
    try {
      const { sql, values } = foldQuery(message.request.filter)
      done(port, message, db.prepare(sql).all(...values))
    } catch {
      failed(port, message)
    }
  }
  return (messages) => messages.forEach(read)
}

const done = (port: MessagePort, { id }: WorkerMessage, value: unknown): void =>
  port.postMessage({ kind: 'done', id, value } satisfies WorkerReply)

const failed = (port: MessagePort, { id }: WorkerMessage): void =>
  port.postMessage({ kind: 'failed', id } satisfies WorkerReply)

const serve = (port: MessagePort, store: Store): void => {
  port.on('message', (first: WorkerMessage) => {
    const messages = [first, ...waiting(port)]
    const work = messages.filter(({ request }) => request.op !== 'close')
    if (work.length > 0) store.handle(work)
    for (const message of messages.filter(({ request }) => request.op === 'close')) {
      store.close()
      done(port, message, undefined)
      port.close()
    }
  })
}

const waiting = (port: MessagePort): WorkerMessage[] => {
  const messages: WorkerMessage[] = []
  for (let next = receiveMessageOnPort(port); next; next = receiveMessageOnPort(port)) messages.push(next.message)
  return messages
}

const reasonOf = (error: unknown): 'locked' | 'unusable' =>
  error instanceof Error && 'errcode' in error && error.errcode === SQLITE_BUSY ? 'locked' : 'unusable'

const SQLITE_BUSY = 5

const start = (port: MessagePort, options: WorkerOptions): void => {
  try {
    const store = options.role === 'writer' ? openWriter(port, options) : openReader(port, options)
    port.postMessage({ kind: 'ready', recovered: store.recovered } satisfies WorkerReply)
    serve(port, store)
  } catch (error) {
    port.postMessage({ kind: 'refused', reason: reasonOf(error) } satisfies WorkerReply)
  }
}

if (parentPort !== null) start(parentPort, workerData)
