import { DatabaseSync } from 'node:sqlite'
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import type { FoldQuery } from './fold.ts'
import { createFile, EXPOSED } from './record-files.ts'
import { BUSY_MS, openSqliteWriter, type Write } from './sqlite-writer.ts'

// The threads that touch the database, so that a slow disk never stops the one that serves requests. There are two: the
// writer owns the file, and a reader stands beside it, so that a long look at the record holds up no cancellation.

export type WorkerRequest = Write | ({ readonly op: 'read' } & FoldQuery) | { readonly op: 'close' }

/** What came of a request. */
export type WorkerResult = { readonly done: true; readonly value?: unknown } | { readonly done: false }

/**
 * The first message is `ready` or `refused`; `recovered` counts what a crash had left pending. Then each message of requests
 * is answered by one with their results, in the same order.
 */
export type WorkerReply =
  | { readonly kind: 'ready'; readonly recovered: number }
  | { readonly kind: 'refused'; readonly reason: RefusalReason }
  | { readonly kind: 'done'; readonly results: readonly WorkerResult[] }

type RefusalReason = 'locked' | 'exposed' | 'unusable' | 'unreadable'

export interface WorkerOptions {
  readonly role: 'writer' | 'reader'
  readonly path: string
  readonly nowMs: number
}

/** What a thread does with the requests that come together. */
interface Role {
  readonly recovered: number
  handle(requests: readonly WorkerRequest[]): readonly WorkerResult[]
  close(): void
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
    handle: (requests) => commit(requests.filter(isWrite)).map((done) => ({ done })),
    close: () => {
      close()
      lock.close()
    },
  }
}

const playReader = ({ path }: WorkerOptions): Role => {
  const db = new DatabaseSync(path, { readOnly: true, timeout: BUSY_MS })
  const read = (request: WorkerRequest): WorkerResult => {
    if (request.op !== 'read') return { done: false }
    try {
      return { done: true, value: db.prepare(request.sql).all(...request.values) }
    } catch {
      return { done: false }
    }
  }
  return { recovered: 0, handle: (requests) => requests.map(read), close: () => db.close() }
}

const isWrite = (request: WorkerRequest): request is Write => request.op !== 'read' && request.op !== 'close'

/** Closing is asked for last of all. */
const serve = (port: MessagePort, role: Role): void => {
  port.on('message', (requests: readonly WorkerRequest[]) => {
    const work = requests.filter(({ op }) => op !== 'close')
    const isLast = work.length < requests.length
    const results = work.length > 0 ? role.handle(work) : []
    if (isLast) role.close()
    port.postMessage({ kind: 'done', results: isLast ? [...results, { done: true }] : results } satisfies WorkerReply)
    if (isLast) port.close()
  })
}

const SQLITE_BUSY = 5

const reasonOf = (role: WorkerOptions['role'], error: unknown): RefusalReason => {
  if (role === 'reader') return 'unreadable'
  if (!(error instanceof Error)) return 'unusable'
  if (error.message === EXPOSED) return 'exposed'
  return 'errcode' in error && error.errcode === SQLITE_BUSY ? 'locked' : 'unusable'
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
