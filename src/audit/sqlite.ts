import { type EventEmitter, once } from 'node:events'
import { extname, resolve } from 'node:path'
import { Worker } from 'node:worker_threads'
import { ConfigError } from '../errors.ts'
import { createGroupCommit } from './group-commit.ts'
import { processUser } from './record-files.ts'
import { createRecordReader, type Read, type RecordQuery } from './record-query.ts'
import type { WorkerOptions, WorkerReply, WorkerRequest, WorkerResult } from './sqlite-worker.ts'
import { AppendError, type AuditReader, type OpenedStore, StoreError } from './store.ts'

/** Rules that AUDIT_URL breaks where the file can't be opened. */
export const REASONS = {
  locked: 'is in use by another gateway: each needs a file of its own',
  'lock-damaged':
    'has a lock file (-lock) that another program has written: delete that file while no gateway uses the record',
  exposed: 'must name a regular file that only this user can read, beside files that only this user can read',
  'open-elsewhere':
    'is open in another program, perhaps a gateway, and its lock file was removed or replaced: end that program first',
  damaged: 'must name a file that holds a sound record: this one is damaged, or no record',
  unusable: 'must name a file that can be created and written there',
  unreadable: 'must name a record that can be read',
  old: 'names a file without the tables of this version: the next start of the gateway makes them',
} as const

/** A thread that serves one role: its messages, its errors and its end. */
export type RecordThread = EventEmitter & Pick<Worker, 'postMessage'> & { terminate(): Promise<unknown> }

/**
 * Opens the audit trail on one SQLite file, in threads of its own, and recovers intents that a crash left pending.
 * @param startWorker starts a thread that serves one role; tests let the stores of a process share threads
 * @throws ConfigError where another process holds the file, or it can't be used
 */
export const openSqliteStore = async (path: string, startWorker = startOwnWorker): Promise<OpenedStore> => {
  const writer = await startThread('writer', path, startWorker)
  let reader: ReturnType<typeof startThread> | undefined
  let isClosed = false

  const read = async (query: RecordQuery) => {
    if (isClosed) throw new StoreError('CLOSED')
    reader ??= startThread('reader', path, startWorker).catch((error) => {
      reader = undefined
      throw error
    })
    return (await reader).ask({ op: 'read', ...query })
  }
  const { isProjected, ...fold } = createRecordReader('sqlite', serialize(read))

  return {
    recovered: writer.recovered,
    append: async (intents, outcomes) => {
      await writer.ask({ op: 'append', intents, outcomes })
    },
    ...fold,
    // No other process writes there: pending intents are recovered at the start.
    recover: async () => [],
    liveReplicas: async (instanceId) => [instanceId],
    backfill: async () => {
      if (await isProjected()) return false
      await writer.ask({ op: 'backfill' })
      return true
    },
    prune: async (ageMs) => {
      const beforeMs = Date.now() - ageMs
      const { records } = await fold.list({ toMs: beforeMs, limit: 1, before: null })
      if (records.length > 0) await writer.ask({ op: 'prune', beforeMs })
      return records.length > 0
    },
    probe: async () => {
      await writer.ask({ op: 'probe' })
    },
    close: async () => {
      isClosed = true
      // The reader first: only the last one to close can fold the log into the file, and only a writer may.
      const read = await reader?.catch(() => undefined)
      await read?.close()
      await writer.close()
    },
  }
}

/**
 * One statement after the other. Each compares a bounded number of rows, so that the statements of several callers take
 * turns. A statement whose caller has left by its turn is not run.
 */
const serialize = (read: (query: RecordQuery) => Promise<unknown>): Read => {
  let last: Promise<unknown> = Promise.resolve()
  return (query, signal) => {
    const answer = last.then(() => {
      signal?.throwIfAborted()
      return read(query)
    })
    last = answer.catch(() => undefined)
    return answer
  }
}

/**
 * Opens the record on an SQLite file to read it, beside the gateway that writes it.
 * @throws ConfigError where it can't be read
 */
export const openSqliteReader = async (path: string): Promise<AuditReader> => {
  const reader = await startThread('reader', path, startOwnWorker)
  const { list } = createRecordReader('sqlite', (query) => reader.ask({ op: 'read', ...query }))
  try {
    await list({ limit: 1, before: null })
  } catch (error) {
    await reader.close()
    const code = error instanceof StoreError ? error.code : 'UNKNOWN'
    // SQLite has this code for a missing table or column.
    throw refusal(code === 'SQLITE_ERROR' ? 'old' : 'unreadable', code, path)
  }
  return { list, close: reader.close }
}

/** Names the file and the user too: in a container, a missing volume or another user is the usual cause. */
const refusal = (reason: keyof typeof REASONS, code: string, path: string): ConfigError =>
  new ConfigError([`AUDIT_URL ${REASONS[reason]} (${code}; file ${resolve(path)}, user ${processUser()})`])

const UNEXPLAINED = { reason: 'unusable', code: 'UNKNOWN' } as const

const failureOf = ({ code, isIndeterminate }: Extract<WorkerResult, { readonly done: false }>): StoreError =>
  isIndeterminate ? new AppendError('indeterminate', code) : new StoreError(code)

const startOwnWorker = (options: WorkerOptions): RecordThread => {
  // The build does not rewrite a worker's URL. It puts the worker beside the chunk of this file, as .js.
  const url = new URL(`./sqlite-worker${extname(import.meta.url)}`, import.meta.url)
  return new Worker(url, { workerData: options })
}

/**
 * Requests go to a thread all at once that came in one turn of the event loop, or while it was at work: one commit
 * serves them all, and waking a thread costs more than most requests.
 */
const startThread = async (role: WorkerOptions['role'], path: string, startWorker: typeof startOwnWorker) => {
  const worker = startWorker({ role, path, nowMs: Date.now() })
  const [first]: WorkerReply[] = await once(worker, 'message')
  if (first?.kind !== 'ready') {
    await worker.terminate()
    const { reason, code } = first?.kind === 'refused' ? first : UNEXPLAINED
    // A reader that starts later is a read that fails: the log names the code.
    throw Object.assign(refusal(reason, code, path), { code })
  }
  let answer = Promise.withResolvers<readonly WorkerResult[]>()
  let closing = false

  worker.on('message', (reply: WorkerReply) => {
    if (reply.kind === 'done') answer.resolve(reply.results)
  })
  // Without its record the process can do nothing right: it ends, as it does when the thread throws, and starts anew.
  worker.on('exit', () => {
    if (!closing) throw new Error('the audit thread ended')
  })

  const send = (requests: readonly WorkerRequest[]): Promise<readonly WorkerResult[]> => {
    answer = Promise.withResolvers()
    worker.postMessage(requests)
    return answer.promise
  }
  const commit = createGroupCommit(send, setImmediate)

  /** Rejects where the thread could not do it. */
  const ask = async (request: WorkerRequest): Promise<unknown> => {
    if (closing) throw new Error('the audit store is closed')
    const result = await commit(request)
    if (!result.done) throw failureOf(result)
    return 'value' in result ? result.value : undefined
  }

  return {
    recovered: first.recovered,
    ask,
    close: async (): Promise<void> => {
      const closed = ask({ op: 'close' })
      closing = true
      await closed
      await worker.terminate()
    },
  }
}
