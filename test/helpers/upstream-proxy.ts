import { once } from 'node:events'
import { createServer as createHttpServer, type IncomingMessage, request } from 'node:http'
import { connect, createServer, type Socket } from 'node:net'
import { PassThrough } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import type { TestContext } from 'node:test'
import { listenOn } from './ports.ts'

// Proxies between the gateway and its upstream: they delay, change or lose traffic.

export interface PausedProxy {
  readonly port: number
  /** Resolves when a client has connected. */
  readonly connected: Promise<void>
  /** Resolves when the first byte has arrived. */
  readonly firstByte: Promise<void>
  /** All bytes that arrived so far. */
  readonly received: string
  resume(): void
}

/** A TCP proxy that accepts bytes, and relays nothing until it is resumed. */
export const startPausedProxy = async (t: TestContext, target: string): Promise<PausedProxy> => {
  const connected = Promise.withResolvers<void>()
  const firstByte = Promise.withResolvers<void>()
  const resumed = Promise.withResolvers<void>()
  const chunks: Buffer[] = []

  const relay = async (near: Socket): Promise<void> => {
    const held = new PassThrough({ highWaterMark: 2 ** 24 })
    near.on('error', () => {})
    near.on('data', (chunk) => {
      chunks.push(chunk)
      firstByte.resolve()
    })
    near.pipe(held)
    connected.resolve()
    await resumed.promise
    const far = connect(Number(new URL(target).port), '127.0.0.1')
    far.on('error', () => near.resetAndDestroy())
    closeTogether(near, far)
    held.pipe(far).pipe(near)
  }

  const port = await listenOn(t, createServer(relay))
  return {
    port,
    connected: connected.promise,
    firstByte: firstByte.promise,
    get received() {
      return Buffer.concat(chunks).toString('latin1')
    },
    resume: () => resumed.resolve(),
  }
}

export interface Interception {
  /** How many times each cancel request is forwarded to the upstream. */
  readonly forwarded: 0 | 1 | 2
  /** Replaces the last response of the upstream. */
  readonly response?: {
    readonly status: number
    readonly headers?: Readonly<Record<string, string>>
    readonly body?: string
  }
}

/** An HTTP proxy that replaces the response to a cancel request, or forwards the request twice or not at all. */
export const startInterceptingProxy = (
  t: TestContext,
  target: string,
  { forwarded, response }: Interception,
): Promise<string> =>
  startHttpProxy(t, target, async (body, forward) => {
    const isCancel = isCancelRequest(body)
    let last: ProxyResponse = { status: 500, body: '' }
    for (let sent = 0; sent < (isCancel ? forwarded : 1); sent += 1) last = await forward()
    const { status, headers, body: text = '' } = (isCancel ? response : undefined) ?? last
    return { status, headers: { 'content-type': 'text/html', ...headers }, body: text }
  })

/** An HTTP proxy that rewrites the body of each response. */
export const startRewritingProxy = (
  t: TestContext,
  target: string,
  rewrite: (body: string) => string,
): Promise<string> =>
  startHttpProxy(t, target, async (_body, forward) => {
    const { status, body } = await forward()
    return { status, headers: { 'content-type': 'application/json' }, body: rewrite(body.toString()) }
  })

/** An HTTP proxy that delays cancel requests from `hold()` until the function that it returns is called. */
export const startRequestHoldingProxy = async (t: TestContext, target: string) => {
  let released = Promise.resolve()
  const url = await startHttpProxy(t, target, async (body, forward) => {
    if (isCancelRequest(body)) await released
    return forward()
  })
  const hold = (): (() => void) => {
    const { promise, resolve } = Promise.withResolvers<void>()
    released = promise
    return resolve
  }
  return { url, hold }
}

/** An HTTP proxy that delays responses until `release()`, and again from `hold()` on. */
export const startResponseHoldingProxy = async (t: TestContext, target: string) => {
  let released = Promise.withResolvers<void>()
  const url = await startHttpProxy(t, target, async (_body, forward) => {
    const response = await forward()
    await released.promise
    return response
  })
  return {
    url,
    release: () => released.resolve(),
    hold: () => {
      released = Promise.withResolvers()
    },
  }
}

interface ProxyResponse {
  readonly status: number
  readonly headers?: IncomingMessage['headers']
  readonly body: string | Buffer
}

type Respond = (body: Buffer, forward: () => Promise<ProxyResponse>) => Promise<ProxyResponse>

/** Resets the connection to the client where the upstream does not respond. */
const startHttpProxy = async (t: TestContext, target: string, respond: Respond): Promise<string> => {
  const handle = async (req: IncomingMessage): Promise<ProxyResponse> => {
    const body = await buffer(req)
    return respond(body, () => forwardTo(target, req, body))
  }
  const server = createHttpServer(async (req, res) => {
    const response = await handle(req).catch(() => null)
    if (response === null) req.socket.resetAndDestroy()
    else res.writeHead(response.status, response.headers).end(response.body)
  })
  return `http://127.0.0.1:${await listenOn(t, server)}`
}

const forwardTo = async (target: string, { url = '/', method, headers }: IncomingMessage, body: Buffer) => {
  const sent = request(new URL(url, target), { method, headers: { ...headers }, agent: false }).end(body)
  sent.on('error', () => {})
  const [response]: IncomingMessage[] = await once(sent, 'response')
  if (response === undefined) throw new Error('no response')
  return { status: response.statusCode ?? 0, headers: response.headers, body: await buffer(response) }
}

const isCancelRequest = (body: Buffer): boolean => body.includes('Action=CancelTask')

/** Faults on the network between the gateway and its upstream. */
export const NETWORK_FAULTS = [
  /** The proxy accepts the request, and neither forwards nor answers it. */
  'black hole',
  'reset before the upstream has the request',
  'closed before the upstream has the request',
  /** The upstream responds, and the proxy drops the response. */
  'response lost',
  'reset after the upstream has the request',
  'closed after the upstream has the request',
  'reset in the middle of the response',
  'closed in the middle of the response',
  /** So slowly that the attempt times out before the response is complete. */
  'response byte by byte',
] as const

export type NetworkFault = (typeof NETWORK_FAULTS)[number]

export interface FaultProxy {
  readonly port: number
  /** Applies the fault to requests that contain the word; null for no fault. */
  setFault(fault: NetworkFault | null, word?: string): void
  /** Cuts open connections, and relays new ones to that port; null refuses new connections. */
  redirect(port: number | null): Promise<void>
}

/** A TCP proxy with faults. It tells requests apart only where they are plain HTTP/1.1. */
export const startFaultProxy = async (t: TestContext, target: number): Promise<FaultProxy> => {
  let active: { readonly fault: NetworkFault; readonly word: string } | null = null
  let targetPort = target
  const open = new Set<Socket>()

  const relay = (near: Socket): void => {
    const far = connect(targetPort, '127.0.0.1')
    let fault: NetworkFault | null = null
    const take = collectRequests((request) => {
      fault = active !== null && request.includes(active.word) ? active.fault : null
      if (fault === null || !spoilRequest(fault, near)) far.write(request)
    })
    near.on('data', take)
    far.on('data', (chunk) => {
      if (fault === null) near.write(chunk)
      else spoilResponse(fault, near, chunk)
    })
    closeTogether(near, far)
    open.add(near)
    near.on('close', () => open.delete(near))
  }

  let server = createServer(relay)
  const port = await listenOn(t, server)
  return {
    port,
    setFault: (fault, word = '') => {
      active = fault === null ? null : { fault, word }
    },
    redirect: async (next) => {
      const closed = server.listening ? new Promise((resolve) => server.close(resolve)) : undefined
      for (const socket of open) socket.destroy()
      await closed
      if (next === null) return
      targetPort = next
      server = createServer(relay)
      await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
      const { close } = server
      t.after(() => close.call(server))
    },
  }
}

/** Ignores errors of both sockets, and closes one when the other closes. */
export const closeTogether = (near: Socket, far: Socket): void => {
  for (const [socket, other] of [
    [near, far],
    [far, near],
  ] as const) {
    socket.on('error', () => undefined)
    socket.on('close', () => other.destroy())
  }
}

/** Calls back with one whole request after the other. */
const collectRequests = (onRequest: (request: Buffer) => void) => {
  let held = Buffer.alloc(0)
  return (chunk: Buffer): void => {
    held = Buffer.concat([held, chunk])
    for (let length = requestLength(held); length !== null && held.length >= length; length = requestLength(held)) {
      const request = held.subarray(0, length)
      held = held.subarray(length)
      onRequest(request)
    }
  }
}

/** Null while the head of a request is incomplete. Bytes that are not HTTP count as a whole request. */
const requestLength = (bytes: Buffer): number | null => {
  const head = bytes.indexOf('\r\n\r\n')
  if (head === -1) return isHttp(bytes) || bytes.length === 0 ? null : bytes.length
  const length = /\r\ncontent-length: (\d+)/i.exec(bytes.subarray(0, head).toString('latin1'))?.[1]
  return head + 4 + Number(length ?? 0)
}

const isHttp = (bytes: Buffer): boolean => /^(GET|POST) /.test(bytes.subarray(0, 5).toString('latin1'))

/** Returns whether the proxy must not forward the request. */
const spoilRequest = (fault: NetworkFault, near: Socket): boolean => {
  if (fault === 'reset before the upstream has the request') near.resetAndDestroy()
  if (fault === 'closed before the upstream has the request') near.end()
  return fault === 'black hole' || fault.endsWith('before the upstream has the request')
}

const BYTE_INTERVAL_MS = 50

const spoilResponse = (fault: NetworkFault, near: Socket, chunk: Buffer): void => {
  if (fault === 'reset after the upstream has the request') near.resetAndDestroy()
  if (fault === 'closed after the upstream has the request') near.end()
  const half = chunk.subarray(0, chunk.length / 2)
  if (fault === 'reset in the middle of the response') near.write(half, () => near.resetAndDestroy())
  if (fault === 'closed in the middle of the response') near.end(half)
  if (fault === 'response byte by byte') sendByteByByte(near, chunk)
}

const sendByteByByte = (near: Socket, chunk: Buffer): void => {
  let sent = 0
  const timer = setInterval(() => {
    if (near.destroyed || sent >= chunk.length) clearInterval(timer)
    else near.write(chunk.subarray(sent, ++sent))
  }, BYTE_INTERVAL_MS)
}
