import { once } from 'node:events'
import { createServer as createHttpServer, type IncomingHttpHeaders, type IncomingMessage, request } from 'node:http'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import type { TestContext } from 'node:test'
import type { Sandbox } from '../../sandbox/src/server.ts'
import { cancelCalls, type Started, type StartOptions, startGateway, startSandbox, temporaryFolder } from './gateway.ts'
import { listenOn } from './ports.ts'

// What can stand between the gateway and its upstream, and make a moment last until the test has looked at it.

/** Relays bytes as soon as it is opened; until then it takes them and gives nothing back. */
export interface Gate {
  readonly port: number
  /** Resolves when somebody has connected. */
  readonly connected: Promise<void>
  /** Resolves when the first byte has come. */
  readonly arrived: Promise<void>
  /** Everything that came so far. */
  readonly bytes: string
  open(): void
}

export const startGate = async (t: TestContext, target: string): Promise<Gate> => {
  const connected = Promise.withResolvers<void>()
  const arrived = Promise.withResolvers<void>()
  const opened = Promise.withResolvers<void>()
  const chunks: Buffer[] = []

  const relay = async (near: Socket): Promise<void> => {
    const held = new PassThrough({ highWaterMark: 2 ** 24 })
    near.on('error', () => {})
    near.on('data', (chunk) => {
      chunks.push(chunk)
      arrived.resolve()
    })
    near.pipe(held)
    connected.resolve()
    await opened.promise
    const far = connect(Number(new URL(target).port), '127.0.0.1')
    far.on('error', () => near.resetAndDestroy())
    far.on('close', () => near.destroy())
    near.on('close', () => far.destroy())
    held.pipe(far).pipe(near)
  }

  const port = await listenOn(t, createServer(relay))
  return {
    port,
    connected: connected.promise,
    arrived: arrived.promise,
    get bytes() {
      return Buffer.concat(chunks).toString('latin1')
    },
    open: () => opened.resolve(),
  }
}

export interface Meddling {
  /** How often each request is passed on to the upstream. */
  readonly passes: 0 | 1 | 2
  /** What is answered in place of the upstream's last answer. */
  readonly answer?: {
    readonly status: number
    readonly headers?: Readonly<Record<string, string>>
    readonly body?: string
  }
}

/**
 * An HTTP proxy that goes wrong with cancellations, as they do: it answers in its own words, or sends what it was given
 * twice. What only reads passes it.
 */
export const startMiddlebox = async (t: TestContext, target: string, { passes, answer }: Meddling): Promise<string> => {
  const server = createHttpServer(async (req, res) => {
    const body = await buffer(req)
    const goesWrong = body.includes('Action=CancelTask')
    let last: { status: number; headers?: IncomingHttpHeaders; body?: string | Buffer } = { status: 500 }
    for (let sent = 0; sent < (goesWrong ? passes : 1); sent += 1) {
      last = await passOn(target, req, body)
    }
    const { status, headers, body: text = '' } = (goesWrong ? answer : undefined) ?? last
    res.writeHead(status, { 'content-type': 'text/html', ...headers }).end(text)
  })
  return `http://127.0.0.1:${await listenOn(t, server)}`
}

/** An HTTP proxy that puts its own words into the upstream's answers: for what the sandbox would never say. */
export const startRewriter = async (
  t: TestContext,
  target: string,
  rewrite: (answer: string) => string,
): Promise<string> => {
  const server = createHttpServer(async (req, res) => {
    const answer = await passOn(target, req, await buffer(req))
    res.writeHead(answer.status, { 'content-type': 'application/json' }).end(rewrite(answer.body.toString('utf8')))
  })
  return `http://127.0.0.1:${await listenOn(t, server)}`
}

/** An HTTP proxy that keeps cancellations back as long as it is told to. What only reads passes it, and so do resets. */
export const startHolder = async (t: TestContext, target: string) => {
  let released = Promise.resolve()
  const server = createHttpServer(async (req, res) => {
    const body = await buffer(req)
    if (body.includes('Action=CancelTask')) await released
    const answer = await passOn(target, req, body).catch(() => null)
    if (answer === null) req.socket.resetAndDestroy()
    else res.writeHead(answer.status, { 'content-type': 'application/json' }).end(answer.body)
  })
  const url = `http://127.0.0.1:${await listenOn(t, server)}`
  /** Returns what lets them go. */
  const hold = (): (() => void) => {
    const { promise, resolve } = Promise.withResolvers<void>()
    released = promise
    return resolve
  }
  return { url, hold }
}

const passOn = async (target: string, { url = '/', headers }: IncomingMessage, body: Buffer) => {
  const sent = request(new URL(url, target), { method: 'POST', headers: { ...headers }, agent: false }).end(body)
  const [reply]: IncomingMessage[] = await once(sent, 'response')
  if (reply === undefined) throw new Error('no answer')
  return { status: reply.statusCode ?? 0, headers: reply.headers, body: await buffer(reply) }
}

type Between = (t: TestContext, upstream: Sandbox) => Promise<string>

export interface WatchedOptions extends StartOptions {
  /** Puts something before the sandbox and returns the address that the gateway is to use. */
  readonly between?: Between
}

/** The gateway against a sandbox that checks each intent on record, with something in between where that is asked for. */
export const startWatched = async (t: TestContext, options: WatchedOptions = {}): Promise<Started> => {
  const { between = async (_t: TestContext, sandbox: Sandbox) => sandbox.url, env, sandbox, ...rest } = options
  const auditPath = join(await temporaryFolder(t), 'audit.db')
  const upstream = await startSandbox(t, { ...sandbox, auditPath })
  const url = await between(t, upstream)
  const started = await startGateway(t, {
    ...rest,
    env: { UPSTREAM_URL: url, AUDIT_URL: `sqlite:${auditPath}`, ...env },
  })
  return { ...started, upstream, auditPath }
}

/** The numbers that matter: how many calls of the action reached the upstream, and whether it cancelled the task. */
export const seenBy = (upstream: Sandbox, taskNo: string) => ({
  calls: cancelCalls(upstream).length,
  cancelled: (upstream.task(taskNo)?.cancelStatus ?? 'INIT') !== 'INIT',
})
