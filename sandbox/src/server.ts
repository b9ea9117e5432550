import { once } from 'node:events'
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { Credentials } from '../../src/alibaba/signing.ts'
import { createAuditCheck } from './audit-check.ts'
import { createCalls, type SandboxCall } from './calls.ts'
import { type Connections, trackConnections } from './connections.ts'
import { answerControl, type Controlled, type ControlReply, isControl } from './control.ts'
import { callOf, createDecide } from './decision.ts'
import { createFaults, type Fault } from './faults.ts'
import { readRequest } from './request.ts'
import { sendInternalError, sendResponse } from './responses.ts'
import { readSignedRequest } from './signed-request.ts'
import { createTaskStore, type Lifecycle, type NewTask, type SandboxTask } from './tasks.ts'

export type { SandboxCall } from './calls.ts'
export type { Fault, FaultReply } from './faults.ts'
export type { SandboxTask } from './tasks.ts'

export interface SandboxOptions {
  readonly accessKeyId: string
  readonly accessKeySecret: string
  /** Where set, requests must carry it. */
  readonly securityToken?: string | undefined
  readonly host?: string | undefined
  readonly port?: number | undefined
  /** Milliseconds since the epoch. */
  readonly now?: (() => number) | undefined
  readonly waitingMs?: number | undefined
  readonly executingMs?: number | undefined
  readonly cancellingMs?: number | undefined
  readonly keepAliveTimeoutMs?: number | undefined
  /** The gateway's audit store, an SQLite file: see `Sandbox.violations`. */
  readonly auditPath?: string | undefined
  readonly tls?: { readonly key: string; readonly cert: string } | undefined
  /** Serves the routes under `/sandbox/`, with which anyone who reaches the port can script the sandbox. */
  readonly control?: boolean | undefined
}

export interface Sandbox {
  readonly url: string
  /** Requests for CancelTask that came while the audit store held no open intent for their task. */
  readonly violations: number
  /** Open connections. */
  readonly sockets: number
  /** Every request that could be read, verified or not, in the order of arrival. */
  readonly calls: readonly SandboxCall[]
  /** Adds a task and returns its number. */
  addTask(task?: NewTask): string
  /** From now on no response shows the task. */
  removeTask(taskNo: string): void
  /** The task as of now. */
  task(taskNo: string): SandboxTask | undefined
  /** First in, first out for each action: each verified request of it takes one. `times` may be Infinity. */
  fault(action: string, fault: Fault, times?: number): void
  clearFaults(): void
  /** Shifts the sandbox's own clock, which timestamps are compared with and which `Date` shows. Tasks keep theirs. */
  setClockOffset(ms: number): void
  /** Accepts these keys too. */
  addKeys(keys: Credentials): void
  /** From now on nobody has such a key. */
  revokeKeys(accessKeyId: string): void
  /** Resolves when the next call of the action has come and been decided on. */
  nextCall(action: string): Promise<SandboxCall>
  /** Resolves when no connection is open. */
  socketsClosed(): Promise<void>
  /** Closes everything, stalled connections too. */
  close(): Promise<void>
}

const DEFAULT_WAITING_MS = 1500
const DEFAULT_EXECUTING_MS = 60_000
const DEFAULT_CANCELLING_MS = 1500
const DEFAULT_KEEP_ALIVE_TIMEOUT_MS = 60_000

/** An emulator of the Domain API 2018-01-29 that listens once the promise resolves. */
export const createSandbox = async (options: SandboxOptions): Promise<Sandbox> => {
  const { now = Date.now } = options
  const tasks = createTaskStore(lifecycleOf(options))
  const calls = createCalls()
  const faults = createFaults()
  const audit = createAuditWatch(options.auditPath)
  let clockOffsetMs = 0
  const clock = () => now() + clockOffsetMs
  const keys = new Map<string, Credentials>([[options.accessKeyId, options]])
  const decide = createDecide({ keys, tasks, faults, now, clock })

  const answer = async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
    res.setHeader('date', new Date(clock()).toUTCString())
    const request = await readRequest(req)
    if (options.control && isControl(request)) return sendControl(res, answerControl(controlled, request))
    const signedRequest = readSignedRequest(request)
    if (signedRequest.action === 'CancelTask') audit.look(signedRequest.params.TaskNo ?? '')
    const decision = decide(signedRequest)
    calls.record(callOf(decision))
    sendResponse(res, decision, { socket: connections.below(req.socket), elsewhere: `${url}/elsewhere` })
  }

  const server = createListener(options, (req, res) => {
    answer(req, res).catch(() => sendInternalError(res))
  })
  const connections = trackConnections(server)
  await listen(server, options)
  const url = urlOf(server, options)

  const controlled: Controlled = {
    calls: calls.list,
    tasks: () => tasks.newestFirst(now()),
    addTask: (task) => tasks.add(task, now()),
    fault: (action, fault, times = 1) => faults.add(action, fault, times),
    clearFaults: () => faults.clear(),
    setClockOffset: (ms) => {
      clockOffsetMs = ms
    },
    addKeys: (added) => void keys.set(added.accessKeyId, added),
    revokeKeys: (accessKeyId) => void keys.delete(accessKeyId),
  }

  return {
    ...controlled,
    url,
    addTask: (task = {}) => tasks.add(task, now()),
    removeTask: tasks.remove,
    task: (taskNo) => tasks.find(taskNo, now()),
    nextCall: (action) => calls.next(action),
    get violations() {
      return audit.violations
    },
    get sockets() {
      return connections.size
    },
    socketsClosed: () => connections.closed(),
    close: () => closeServer(server, connections).finally(() => audit.close()),
  }
}

const lifecycleOf = (options: SandboxOptions): Lifecycle => ({
  waitingMs: options.waitingMs ?? DEFAULT_WAITING_MS,
  executingMs: options.executingMs ?? DEFAULT_EXECUTING_MS,
  cancellingMs: options.cancellingMs ?? DEFAULT_CANCELLING_MS,
})

const sendControl = (res: ServerResponse, { status, body }: ControlReply): void => {
  if (body === undefined) res.writeHead(status).end()
  else res.writeHead(status, { 'content-type': 'application/json' }).end(`${JSON.stringify(body, null, 2)}\n`)
}

const createAuditWatch = (path: string | undefined) => {
  const check = path === undefined ? null : createAuditCheck(path)
  let violations = 0

  return {
    look: (taskNo: string): void => {
      if (check !== null && !check.hasOpenIntent(taskNo)) violations += 1
    },
    get violations() {
      return violations
    },
    close: () => check?.close(),
  }
}

const createListener = (options: SandboxOptions, listener: RequestListener): Server => {
  const server = options.tls === undefined ? createServer(listener) : createTlsServer({ ...options.tls }, listener)
  server.keepAliveTimeout = options.keepAliveTimeoutMs ?? DEFAULT_KEEP_ALIVE_TIMEOUT_MS
  // Node would hold sockets for a second longer, and so hide the race in which a client reuses a dying one.
  server.keepAliveTimeoutBuffer = 0
  return server
}

const listen = async (server: Server, { port = 0, host = '127.0.0.1' }: SandboxOptions): Promise<void> => {
  server.listen(port, host)
  await once(server, 'listening')
}

const urlOf = (server: Server, { tls, host = '127.0.0.1' }: SandboxOptions): string => {
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the sandbox does not listen on a port')
  const name = host.includes(':') ? `[${host}]` : host
  return `${tls === undefined ? 'http' : 'https'}://${name}:${address.port}`
}

const closeServer = async (server: Server, connections: Connections): Promise<void> => {
  const closed = once(server, 'close')
  server.close()
  connections.destroy()
  await closed
}
