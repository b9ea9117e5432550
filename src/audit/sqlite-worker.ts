import { resolve } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { createFile, EXPOSED } from './record-files.ts'
import type { RecordQuery } from './record-query.ts'
import { identityOf } from './sqlite-file-guard.ts'
import { isBusy, isOnlyWriter } from './sqlite-lock.ts'
import { reasonOf } from './sqlite-reason.ts'
import { BUSY_MS, type Committed, openSqliteWriter, type Write } from './sqlite-writer.ts'

// The threads that touch the database, so that a slow disk never stops the one that serves requests. There are two: the
// writer owns the file, and a reader stands beside it, so that a long look at the record holds up no cancellation.

export type WorkerRequest = Write | ({ readonly op: 'read' } & RecordQuery) | { readonly op: 'close' }

/** The result of a request: rows of a read, or whether a write is durable. */
export type WorkerResult = Committed | { readonly done: true; readonly value: unknown }

/**
 * The first message is `ready` or `refused`; `recovered` counts intents that a crash had left pending. Then each
 * message of requests is answered by one with their results, in the same order.
 */
export type WorkerReply =
  | { readonly kind: 'ready'; readonly recovered: number }
  | { readonly kind: 'refused'; readonly reason: RefusalReason; readonly code: string }
  | { readonly kind: 'done'; readonly results: readonly WorkerResult[] }

type RefusalReason = 'locked' | 'lock-damaged' | 'open-elsewhere' | 'exposed' | 'damaged' | 'unusable' | 'unreadable'

export interface WorkerOptions {
  readonly role: 'writer' | 'reader'
  readonly path: string
  readonly nowMs: number
}

/** The work of a thread on requests that come together. */
interface Role {
  readonly recovered: number
  handle(requests: readonly WorkerRequest[]): readonly WorkerResult[]
  close(): void
}

const writerRole = (options: WorkerOptions): Role => {
  const path = createFile(options.path)
  const lockPath = createFile(`${path}-lock`)
  const lockIdentity = identityOf(lockPath)
  const lock = holdLock(lockPath)
  if (!isOnlyWriter(path, lockIdentity, BUSY_MS)) {
    throw Object.assign(new Error('another program has the record open'), { code: OPEN_ELSEWHERE })
  }
  const { nowMs, path: givenPath } = options
  const { recovered, commit, close } = openSqliteWriter({ givenPath: resolve(givenPath), path, lockIdentity, nowMs })
  return {
    recovered,
    handle: (requests) => commit(requests.filter(isWrite)),
    close: () => {
      close()
      lock.close()
    },
  }
}

const OPEN_ELSEWHERE = 'OPEN_ELSEWHERE'
const LOCK_DAMAGED = 'LOCK_FILE_DAMAGED'

/** The lock file is empty. Content written by another program is no fault of the audit trail. */
const holdLock = (path: string): DatabaseSync => {
  const lock = new DatabaseSync(path)
  try {
    lock.exec('BEGIN EXCLUSIVE')
    return lock
  } catch (error) {
    if (!isDamage(reasonOf(error))) throw error
    throw Object.assign(new Error('the lock file is damaged'), { code: LOCK_DAMAGED })
  }
}

const isDamage = (code: string): boolean => /^SQLITE_(CORRUPT|NOTADB)/.test(code)

const readerRole = ({ path }: WorkerOptions): Role => {
  const db = new DatabaseSync(path, { readOnly: true, timeout: BUSY_MS })
  const read = (request: WorkerRequest): WorkerResult => {
    if (request.op !== 'read') return { done: false, code: 'MISUSE', isIndeterminate: false }
    try {
      return { done: true, value: db.prepare(request.sql).all(...request.values) }
    } catch (error) {
      return { done: false, code: reasonOf(error), isIndeterminate: false }
    }
  }
  return { recovered: 0, handle: (requests) => requests.map(read), close: () => db.close() }
}

const isWrite = (request: WorkerRequest): request is Write => request.op !== 'read' && request.op !== 'close'

/** A request to close is always the last one. */
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

const refusalOf = (role: WorkerOptions['role'], error: unknown): WorkerReply => {
  const code = reasonOf(error)
  const reasonFor = (): RefusalReason => {
    if (role === 'reader') return 'unreadable'
    if (isBusy(error)) return 'locked'
    if (error instanceof Error && error.message === EXPOSED) return 'exposed'
    if (code === OPEN_ELSEWHERE) return 'open-elsewhere'
    if (code === LOCK_DAMAGED) return 'lock-damaged'
    return isDamage(code) ? 'damaged' : 'unusable'
  }
  return { kind: 'refused', reason: reasonFor(), code }
}

/** Opens the file in that role, and serves it at the port. */
export const serveRole = (port: MessagePort, options: WorkerOptions): void => {
  try {
    const role = options.role === 'writer' ? writerRole(options) : readerRole(options)
    port.postMessage({ kind: 'ready', recovered: role.recovered } satisfies WorkerReply)
    serve(port, role)
  } catch (error) {
    port.postMessage(refusalOf(options.role, error))
  }
}

if (parentPort !== null && workerData !== null) serveRole(parentPort, workerData)
