import { closeSync, existsSync, mkdirSync, openSync, realpathSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { type FoldFilter, foldQuery } from './fold.ts'
import { BUSY_MS, openSqliteWriter, type Write } from './sqlite-writer.ts'

// The threads that touch the database, so that a slow disk never stops the one that serves requests. There are two: the
// writer owns the file, and a reader stands beside it, so that a long look at the record holds up no cancellation.

export type WorkerRequest = Write | { readonly op: 'read'; readonly filter: FoldFilter } | { readonly op: 'close' }

export interface WorkerMessage {
  readonly id: number
  readonly request: WorkerRequest
}

/** The first message is `ready` or `refused`; `recovered` counts what a crash had left pending. */
export type WorkerReply =
  | { readonly kind: 'ready'; readonly recovered: number }
  | { readonly kind: 'refused'; readonly reason: RefusalReason }
  | { readonly kind: 'done'; readonly id: number; readonly value: unknown }
  | { readonly kind: 'failed'; readonly id: number }

type RefusalReason = 'locked' | 'unusable' | 'unreadable'

export interface WorkerOptions {
  readonly role: 'writer' | 'reader'
  readonly path: string
  readonly nowMs: number
}

/** What a thread does with the requests that it finds, all at once, and what it answers to each. */
interface Role {
  readonly recovered: number
  handle(messages: readonly WorkerMessage[]): readonly WorkerReply[]
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

const playWriter = (options: WorkerOptions): Role => {
  const path = createFile(options.path)
  const lock = new DatabaseSync(createFile(`${path}-lock`))
  // Node has no flock, and an exclusive WAL would shut readers out. This lock dies with its process, and so proves
  // whoever wrote before to be dead.
  lock.exec('BEGIN EXCLUSIVE')
  const { recovered, commit, close } = openSqliteWriter(path, options.nowMs)
  return {
    recovered,
    handle: (messages) => {
      const durable = commit(messages.map(({ request }) => request).filter(isWrite))
      return messages.map(({ id }, index) => (durable[index] === true ? done(id) : failed(id)))
    },
    close: () => {
      close()
      lock.close()
    },
  }
}

const playReader = ({ path }: WorkerOptions): Role => {
  const db = new DatabaseSync(path, { readOnly: true, timeout: BUSY_MS })
  const read = ({ id, request }: WorkerMessage): WorkerReply => {
    if (request.op !== 'read') return failed(id)
    try {
      const { sql, values } = foldQuery(request.filter)
      return done(id, db.prepare(sql).all(...values))
    } catch {
      return failed(id)
    }
  }
  return { recovered: 0, handle: (messages) => messages.map(read), close: () => db.close() }
}

const isWrite = (request: WorkerRequest): request is Write => request.op !== 'read' && request.op !== 'close'

const done = (id: number, value: unknown = undefined): WorkerReply => ({ kind: 'done', id, value })

const failed = (id: number): WorkerReply => ({ kind: 'failed', id })

/** Whatever has arrived while the last requests were handled is handled together: one commit serves them all. */
const serve = (port: MessagePort, role: Role): void => {
  port.on('message', (first: WorkerMessage) => {
    const messages = [first, ...arrived(port)]
    const work = messages.filter(({ request }) => request.op !== 'close')
    if (work.length > 0) for (const reply of role.handle(work)) port.postMessage(reply)
    const last = messages.find(({ request }) => request.op === 'close')
    if (last === undefined) return
    role.close()
    port.postMessage(done(last.id))
    port.close()
  })
}

const arrived = (port: MessagePort): WorkerMessage[] => {
  const messages: WorkerMessage[] = []
  for (let next = receiveMessageOnPort(port); next; next = receiveMessageOnPort(port)) messages.push(next.message)
  return messages
}

const SQLITE_BUSY = 5

const reasonOf = (role: WorkerOptions['role'], error: unknown): RefusalReason => {
  if (role === 'reader') return 'unreadable'
  return error instanceof Error && 'errcode' in error && error.errcode === SQLITE_BUSY ? 'locked' : 'unusable'
}

const start = (port: MessagePort, options: WorkerOptions): void => {
  try {
    const role = options.role === 'writer' ? playWriter(options) : playReader(options)
    port.postMessage({ kind: 'ready', recovered: role.recovered } satisfies WorkerReply)
    serve(port, role)
  } catch (error) {
    port.postMessage({ kind: 'refused', reason: reasonOf(options.role, error) } satisfies WorkerReply)
  }
}

if (parentPort !== null) start(parentPort, workerData)
