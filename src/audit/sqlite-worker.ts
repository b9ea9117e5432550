import { closeSync, existsSync, mkdirSync, openSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync, type SQLInputValue } from 'node:sqlite'
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { type FoldFilter, foldQuery } from './sqlite-fold.ts'
import type { Intent, OutcomeEvent } from './trail.ts'

// The thread that owns the database: a slow disk stops this thread, never the one that serves requests.

export type WorkerRequest =
  | { readonly op: 'append'; readonly intents: readonly Intent[]; readonly outcomes: readonly OutcomeEvent[] }
  | { readonly op: 'read'; readonly filter: FoldFilter }
  | { readonly op: 'probe' }
  | { readonly op: 'close' }

export interface WorkerMessage {
  readonly id: number
  readonly request: WorkerRequest
}

/** `ready` is the first message; `recovered` counts what a crash had left pending. */
export type WorkerReply =
  | { readonly kind: 'ready'; readonly recovered: number }
  | { readonly kind: 'refused'; readonly reason: 'locked' | 'unusable' }
  | { readonly kind: 'done'; readonly id: number; readonly value: unknown }
  | { readonly kind: 'failed'; readonly id: number }

export interface WorkerOptions {
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

/** Opened and recovered, or the reason why not. */
const open = ({ path, nowMs }: WorkerOptions) => {
  if (!existsSync(dirname(path))) mkdirSync(dirname(path))
  // The record holds addresses and names: for this user's eyes. SQLite gives its side files the same mode.
  closeSync(openSync(path, 'a', 0o600))
  const lock = new DatabaseSync(`${path}-lock`)
  // Node has no flock, and an exclusive WAL would shut readers out; this lock dies with its process.
  lock.exec('BEGIN EXCLUSIVE')
  const db = new DatabaseSync(path)
  db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON')
  db.exec(SCHEMA)
  // Holding the lock proves that whoever wrote these is dead, whatever their deadlines say.
  const recovered = Number(db.prepare(RECOVER).run(nowMs).changes)
  return { lock, db, recovered }
}

const serve = (port: MessagePort, { lock, db }: ReturnType<typeof open>): void => {
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

  const writeAll = (batch: readonly WorkerMessage[]): boolean => {
    try {
      db.exec('BEGIN IMMEDIATE')
      for (const { request } of batch) write(request)
      db.exec('COMMIT')
      return true
    } catch {
      if (db.isTransaction) db.exec('ROLLBACK')
      return false
    }
  }

  const read = (request: WorkerRequest): unknown => {
    if (request.op !== 'read') return undefined
    const { sql, values } = foldQuery(request.filter)
    return db.prepare(sql).all(...values)
  }

  const answer = (message: WorkerMessage): void => {
    try {
      port.postMessage({ kind: 'done', id: message.id, value: read(message.request) } satisfies WorkerReply)
    } catch {
      port.postMessage({ kind: 'failed', id: message.id } satisfies WorkerReply)
    }
  }

  const close = (message: WorkerMessage): void => {
    db.close()
    lock.close()
    port.postMessage({ kind: 'done', id: message.id, value: undefined } satisfies WorkerReply)
    port.close()
  }

  const handle = (messages: readonly WorkerMessage[]): void => {
    const writes = messages.filter(({ request }) => request.op === 'append' || request.op === 'probe')
    // Whatever arrived while the last commit was under way shares the next one. Where one spoils it, each goes alone.
    const shared = writes.length > 0 && writeAll(writes)
    for (const message of writes) {
      if (shared || (writes.length > 1 && writeAll([message]))) answer(message)
      else port.postMessage({ kind: 'failed', id: message.id } satisfies WorkerReply)
    }
    for (const message of messages) if (message.request.op === 'read') answer(message)
    for (const message of messages) if (message.request.op === 'close') close(message)
  }

  port.on('message', (first: WorkerMessage) => handle([first, ...waiting(port)]))
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
    const store = open(options)
    port.postMessage({ kind: 'ready', recovered: store.recovered } satisfies WorkerReply)
    serve(port, store)
  } catch (error) {
    port.postMessage({ kind: 'refused', reason: reasonOf(error) } satisfies WorkerReply)
  }
}

if (parentPort !== null) start(parentPort, workerData)
