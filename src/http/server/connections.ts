import type { Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Subnets } from '../../addresses.ts'
import { createLinkedList, type LinkedList } from '../../collections.ts'
import { networkOf, normalizeAddress } from '../middleware/client-ip.ts'

export interface ConnectionLimits {
  /** Of the port, at a time. */
  readonly max: number
  /** Of one peer address (IPv6: of its /56), at a time. */
  readonly maxPerAddress: number
  /** Peers that this second limit leaves out, since each connects for many callers. */
  readonly exempt: Subnets
  /** How long the peer may take to read one response. */
  readonly readTimeoutMs: number
}

/** Why a connection was closed: too many of the port, too many of its address, or a response that was not read. */
export const CLOSE_REASONS = ['limit', 'address-limit', 'response-unread'] as const

export type CloseReason = (typeof CLOSE_REASONS)[number]

interface Connection {
  readonly socket: Socket
  /** Requests that the parser has found and whose responses have not been sent completely. */
  unanswered: number
  answered: number
  /** Stopped by `parseInTurns`. Node stops connections for reasons of its own too, and continues those itself. */
  isHeld: boolean
  /** Held, and about to be continued. */
  isQueued: boolean
  /** Request heads to be parsed at once. */
  turn: number
  /** Nothing further is parsed. */
  isFaulty: boolean
  /** The response that is being sent, by its number, and since when; null where nothing waits to be sent. */
  sending: { readonly number: number; readonly sinceMs: number } | null
}

/**
 * Enough for a client that pipelines, and little for one that never reads: each request in progress takes memory, and
 * so does each response until it is sent.
 */
const MAX_UNANSWERED = 4
/** How often responses are looked at, within the time that they may take. */
const CHECKS = 12

/**
 * Bounds the work and the memory that connections can take: their number, the unanswered requests of each, and the time
 * to read a response. Must be called before the server listens.
 */
export const guardConnections = (
  server: Server,
  limits: ConnectionLimits,
  onClosed: (reason: CloseReason) => void,
): { readonly size: () => number } => {
  const open: LinkedList<Connection> = createLinkedList()
  const connections = new WeakMap<object, Connection>()
  const admit = limitPerAddress(limits)
  const continueLater = createTurns()
  server.maxConnections = limits.max
  server.on('drop', () => onClosed('limit'))
  server.on('connection', (socket: Socket) => {
    if (!admit(socket)) {
      onClosed('address-limit')
      socket.destroy()
      return
    }
    const connection = createConnection(socket)
    connections.set(socket, connection)
    socket.once('close', open.add(connection))
    parseInTurns(connection, continueLater)
  })

  const count = (_req: unknown, res: ServerResponse): void => {
    const connection = connections.get(res.req.socket)
    if (connection === undefined) return
    connection.unanswered += 1
    res.once('close', () => {
      connection.unanswered -= 1
      connection.answered += 1
      continueLater(connection)
    })
  }
  // These two see every request; those with an `Expect` that can't be met never become a 'request'.
  server.prependListener('request', count)
  server.prependListener('checkExpectation', count)
  server.on('clientError', (_error, socket) => {
    const connection = connections.get(socket)
    if (connection !== undefined) connection.isFaulty = true
  })

  const checks = setInterval(() => {
    for (const connection of open.values()) {
      if (!isOverdue(connection, limits.readTimeoutMs)) continue
      onClosed('response-unread')
      connection.socket.destroy()
    }
  }, limits.readTimeoutMs / CHECKS).unref()
  server.once('close', () => clearInterval(checks))
  return { size: () => open.size }
}

const createConnection = (socket: Socket): Connection => ({
  socket,
  unanswered: 0,
  answered: 0,
  isHeld: false,
  isQueued: false,
  turn: 1,
  isFaulty: false,
  sending: null,
})

/** Counts the connections of each peer; tells whether one more is allowed, and counts it if so. */
const limitPerAddress = ({ maxPerAddress, exempt }: ConnectionLimits): ((socket: Socket) => boolean) => {
  const counts = new Map<string, number>()
  return (socket) => {
    const address = normalizeAddress(socket.remoteAddress ?? '')
    // Without an address the peer has left already.
    if (address === null || exempt.has(address)) return true
    const network = networkOf(address)
    const count = counts.get(network) ?? 0
    if (count >= maxPerAddress) return false
    counts.set(network, count + 1)
    socket.once('close', () => {
      const left = (counts.get(network) ?? 0) - 1
      if (left > 0) counts.set(network, left)
      else counts.delete(network)
    })
    return true
  }
}

const HEAD_END = Buffer.from('\r\n\r\n')

/**
 * Gives Node's parser one request head at a time, and nothing further while `MAX_UNANSWERED` requests are unanswered.
 * Node itself parses the whole content of one read of 64 KiB, some three thousand requests, and runs them at once.
 * Bytes that are not parsed yet stay in the socket's buffer, and a full buffer stops the peer.
 */
const parseInTurns = (connection: Connection, continueLater: (connection: Connection) => void): void => {
  const { socket } = connection
  const [parse] = socket.listeners('data')
  if (parse === undefined) throw new Error('the HTTP server does not read the connection by an event')
  socket.removeAllListeners('data')
  socket.on('data', (chunk: Buffer) => {
    let rest = chunk
    for (; connection.turn > 0 && mayParse(connection) && rest.length > 0; connection.turn -= 1) {
      const end = rest.indexOf(HEAD_END)
      const length = end === -1 ? rest.length : end + HEAD_END.length
      parse.call(socket, rest.subarray(0, length))
      rest = rest.subarray(length)
    }
    connection.turn = 1
    if (rest.length === 0 || connection.isFaulty || socket.destroyed) return
    if (!socket.isPaused()) {
      connection.isHeld = true
      socket.pause()
      continueLater(connection)
    }
    socket.unshift(rest)
  })
  // Node closes its own side when the peer has closed its side; requests that were parsed before are answered first.
  const listeners = socket.listeners('end')
  socket.removeAllListeners('end')
  socket.once('end', () =>
    setImmediate(() => {
      if (!socket.destroyed) for (const listener of listeners) listener.call(socket)
    }),
  )
  // Reading the body of a request makes Node continue the whole connection.
  socket.on('resume', () => {
    if (connection.isHeld) socket.pause()
  })
}

const mayParse = ({ socket, unanswered, isFaulty }: Connection): boolean =>
  unanswered < MAX_UNANSWERED && !isFaulty && !socket.isPaused() && !socket.destroyed

/**
 * Continues held connections one after the other, each in a turn of the event loop of its own, so that those that are
 * full of requests do not delay the others.
 */
const createTurns = (): ((connection: Connection) => void) => {
  const queue: Connection[] = []
  const continueFirst = (): void => {
    const connection = queue.shift()
    if (connection === undefined) return
    connection.isQueued = false
    connection.isHeld = false
    connection.turn = MAX_UNANSWERED
    connection.socket.resume()
    if (queue.length > 0) setImmediate(continueFirst)
  }
  return (connection) => {
    if (!connection.isHeld || connection.isQueued || connection.unanswered >= MAX_UNANSWERED) return
    connection.isQueued = true
    if (queue.push(connection) === 1) setImmediate(continueFirst)
  }
}

/** Is the same response being sent for too long? Each response has its own time, and it begins with its first byte. */
const isOverdue = (connection: Connection, timeoutMs: number): boolean => {
  const { socket, answered, sending } = connection
  const nowMs = performance.now()
  if (socket.writableLength === 0) connection.sending = null
  else if (sending?.number !== answered) connection.sending = { number: answered, sinceMs: nowMs }
  else return nowMs - sending.sinceMs >= timeoutMs
  return false
}
