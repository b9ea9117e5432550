import { connect, createServer, type Socket } from 'node:net'
import type { TestContext } from 'node:test'
import { listenOn } from './ports.ts'

/** What happens on the way between the gateway and its upstream. */
export const ROUTE_FAULTS = [
  /** The whole request arrives nowhere, and nothing comes back. */
  'black hole',
  'reset before the upstream has the request',
  'closed before the upstream has the request',
  /** Upstream has it and answers, and nothing of that comes back. */
  'response lost',
  'reset after the upstream has the request',
  'closed after the upstream has the request',
  'reset in the middle of the response',
  'closed in the middle of the response',
  /** Byte by byte, so slowly that an attempt is over long before the answer is. */
  'response byte by byte',
] as const

export type RouteFault = (typeof ROUTE_FAULTS)[number]

export interface FaultProxy {
  readonly port: number
  /** From now on, to requests that contain the word; null for none. */
  meet(fault: RouteFault | null, word?: string): void
  /** Sends new connections to that port, or refuses them where it is null, and cuts those that are open. */
  lead(port: number | null): Promise<void>
}

/** Stands between a gateway and a port of loopback. What it relays it knows as requests only where they are plain HTTP/1.1. */
export const startFaultProxy = async (t: TestContext, target: number): Promise<FaultProxy> => {
  let met: { readonly fault: RouteFault; readonly word: string } | null = null
  let goal = target
  const open = new Set<Socket>()

  const relay = (near: Socket): void => {
    const far = connect(goal, '127.0.0.1')
    let fault: RouteFault | null = null
    const take = collectRequests((request) => {
      fault = met !== null && request.includes(met.word) ? met.fault : null
      if (fault === null || !spoilRequest(fault, near)) far.write(request)
    })
    near.on('data', take)
    far.on('data', (chunk) => {
      if (fault === null) near.write(chunk)
      else spoilAnswer(fault, near, chunk)
    })
    tie(near, far)
    open.add(near)
    near.on('close', () => open.delete(near))
  }

  let server = createServer(relay)
  const port = await listenOn(t, server)
  return {
    port,
    meet: (fault, word = '') => {
      met = fault === null ? null : { fault, word }
    },
    lead: async (next) => {
      const closed = server.listening ? new Promise((resolve) => server.close(resolve)) : undefined
      for (const socket of open) socket.destroy()
      await closed
      if (next === null) return
      goal = next
      server = createServer(relay)
      await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
      const { close } = server
      t.after(() => close.call(server))
    },
  }
}

const tie = (near: Socket, far: Socket): void => {
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
    for (let length = lengthOf(held); length !== null && held.length >= length; length = lengthOf(held)) {
      const request = held.subarray(0, length)
      held = held.subarray(length)
      onRequest(request)
    }
  }
}

const lengthOf = (bytes: Buffer): number | null => {
  const head = bytes.indexOf('\r\n\r\n')
  // Of what is no HTTP each piece counts as a whole.
  if (head === -1) return isHttp(bytes) || bytes.length === 0 ? null : bytes.length
  const length = /\r\ncontent-length: (\d+)/i.exec(bytes.subarray(0, head).toString('latin1'))?.[1]
  return head + 4 + Number(length ?? 0)
}

const isHttp = (bytes: Buffer): boolean => /^(GET|POST) /.test(bytes.subarray(0, 5).toString('latin1'))

/** Whether the request must not go on. */
const spoilRequest = (fault: RouteFault, near: Socket): boolean => {
  if (fault === 'reset before the upstream has the request') near.resetAndDestroy()
  if (fault === 'closed before the upstream has the request') near.end()
  return fault === 'black hole' || fault.endsWith('before the upstream has the request')
}

const BYTE_EVERY_MS = 50

const spoilAnswer = (fault: RouteFault, near: Socket, chunk: Buffer): void => {
  if (fault === 'reset after the upstream has the request') near.resetAndDestroy()
  if (fault === 'closed after the upstream has the request') near.end()
  const half = chunk.subarray(0, chunk.length / 2)
  if (fault === 'reset in the middle of the response') near.write(half, () => near.resetAndDestroy())
  if (fault === 'closed in the middle of the response') near.end(half)
  if (fault === 'response byte by byte') dribble(near, chunk)
}

const dribble = (near: Socket, chunk: Buffer): void => {
  let sent = 0
  const timer = setInterval(() => {
    if (near.destroyed || sent >= chunk.length) clearInterval(timer)
    else near.write(chunk.subarray(sent, ++sent))
  }, BYTE_EVERY_MS)
}
