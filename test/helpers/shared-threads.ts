import { EventEmitter } from 'node:events'
import { isMainThread, MessageChannel, type MessagePort, parentPort, Worker } from 'node:worker_threads'
import type { RecordThread } from '../../src/audit/sqlite.ts'
import { serveRole, type WorkerOptions, type WorkerReply, type WorkerRequest } from '../../src/audit/sqlite-worker.ts'

// The start of a thread takes more than the rest of a gateway's start. The gateways of a test file therefore share two
// threads, one for the writers and one for the readers. Tests of processes and of the store have their own threads.

interface Assignment {
  readonly port: MessagePort
  readonly options: WorkerOptions
}

const workers = new Map<WorkerOptions['role'], Worker>()

const workerOf = (role: WorkerOptions['role']): Worker => {
  const known = workers.get(role)
  if (known !== undefined) return known
  const worker = new Worker(new URL(import.meta.url), { workerData: null })
  worker.unref()
  workers.set(role, worker)
  return worker
}

/** Serves the role at a port of its own, in the thread of all such roles of this process. */
export const startSharedWorker = (options: WorkerOptions): RecordThread => {
  const { port1, port2 } = new MessageChannel()
  workerOf(options.role).postMessage({ port: port2, options } satisfies Assignment, [port2])
  const thread = new EventEmitter()
  port1.on('message', (reply: WorkerReply) => thread.emit('message', reply))
  return Object.assign(thread, {
    postMessage: (requests: readonly WorkerRequest[]) => port1.postMessage(requests),
    terminate: async () => port1.close(),
  })
}

if (!isMainThread) parentPort?.on('message', ({ port, options }: Assignment) => serveRole(port, options))
