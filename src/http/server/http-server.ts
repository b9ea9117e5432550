import { randomUUID } from 'node:crypto'
import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
  STATUS_CODES,
} from 'node:http'
import type { Duplex } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { createLinkedList, type LinkedList } from '../../collections.ts'
import { type ErrorCode, GatewayError } from '../../errors.ts'
import type { Log } from '../../telemetry/log.ts'
import type { Meter } from '../../telemetry/meter.ts'
import { type Context, isCancel } from '../middleware/context.ts'
import { corsHeaders } from '../middleware/cors.ts'
import { problemBody } from '../presentation/problem.ts'
import { PROBLEMS } from '../presentation/problems.ts'
import type { Lifecycle } from '../routes/health.ts'
import { type ConnectionLimits, guardConnections } from './connections.ts'
import { openPort, type Port } from './listen.ts'

export interface ListenerOptions extends Port {
  readonly kind: 'public' | 'admin'
  readonly connections: ConnectionLimits
  readonly publicUrl: string | undefined
  readonly corsOrigins: readonly string[]
  readonly lifecycle: Lifecycle
  readonly log: Log
  readonly meter: Meter
}

export type Listener = Awaited<ReturnType<typeof listen>>

// Longer than load balancers keep a connection idle by default (the longest known is 600 s): else they would send into
// a closing one.
const KEEP_ALIVE_MS = 620_000
const HEADERS_MS = 65_000
const REQUEST_MS = 75_000
const CHECK_MS = 5000
const MAX_HEADER_BYTES = 16 * 1024

const createHttpServer = (app: RequestListener): Server => {
  const server = createServer(
    {
      keepAliveTimeout: KEEP_ALIVE_MS,
      headersTimeout: HEADERS_MS,
      requestTimeout: REQUEST_MS,
      connectionsCheckingInterval: CHECK_MS,
      maxHeaderSize: MAX_HEADER_BYTES,
      // A missing Host is refused by the app, as a problem.
      requireHostHeader: false,
    },
    app,
  )
  // By itself Node may read a thousand lines and silently leave out the rest: a second key, or what a proxy adds.
  server.maxHeadersCount = 0
  return server
}

/**
 * A path, or an address of http(s) with a host and without a user (RFC 9110, 4.2) or a backslash, which is read as a
 * slash.
 */
const TARGET = /^([/*]|https?:\/\/[^/?@\\]+([/?][^\\]*)?$)/i

/**
 * Express answers a target that is no URL by itself, past every line of the app, cuts a fragment silently, and takes an
 * address of any other kind by its path.
 */
const isTarget = (url: string): boolean => TARGET.test(url) && URL.canParse(url, 'http://host') && !url.includes('#')

/** @throws ConfigError where the port can't be opened */
export const listen = async (app: RequestListener, options: ListenerOptions) => {
  const { kind, lifecycle, meter } = options
  const server = createHttpServer((req, res) => {
    if (isTarget(req.url ?? '')) app(req, res)
    else refuse(res, 'bad-request', options)
  })
  const open = createLinkedList<ServerResponse>()
  server.prependListener('request', (_req, res: ServerResponse) => void res.once('close', open.add(res)))
  refuseBeforeRouting(server, open, options)
  const connections = guardConnections(server, options.connections, (reason) =>
    meter.connectionClosed({ port: kind, reason }),
  )
  const url = await openPort(server, options, kind === 'admin' ? 'ADMIN_' : '')
  // The admin port alone does not keep the process alive.
  if (kind === 'admin') server.unref()

  return {
    /** Where it can be reached, such as `http://127.0.0.1:3000`. */
    url,
    connections: connections.size,
    /** Closes at once, also with requests unanswered. */
    close: () => void server.close().closeAllConnections(),
    /**
     * Not ready at once; serves for `delayMs` more while load balancers take note; then takes nothing new and resolves
     * when the last answer is out.
     */
    drain: async (delayMs: number): Promise<void> => {
      lifecycle.phase = 'leaving'
      await delay(delayMs)
      lifecycle.phase = 'draining'
      leaveConnections(open, options)
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      while (open.size > 0) await Promise.all(open.values().map(closing))
      // Connections on which nothing was asked count as busy for Node, and would hold it up.
      server.closeAllConnections()
      await closed
    },
  }
}

/** Requests in flight began before the drain: their connections must not be kept either. */
const leaveConnections = (open: LinkedList<ServerResponse>, options: ListenerOptions): void => {
  // Of pipelined requests the last: requests after a `Connection: close` get no response.
  const lasts = new Map(open.values().map((res) => [res.req.socket, res])).values()
  for (const res of lasts) {
    if (res.headersSent) continue
    res.setHeader('Connection', 'close')
    // Nothing has begun for a request that is still on its way, and it might never arrive.
    if (!res.req.complete) refuse(res, 'shutting-down', options)
  }
}

const closing = (res: ServerResponse): Promise<void> =>
  new Promise((resolve) => {
    res.once('close', resolve)
  })

const PARSER_CODES: Readonly<Record<string, ErrorCode>> = {
  HPE_HEADER_OVERFLOW: 'headers-too-large',
  HPE_CHUNK_EXTENSIONS_OVERFLOW: 'content-too-large',
  ERR_HTTP_REQUEST_TIMEOUT: 'request-timeout',
}

/** Requests that Node's parser rejects never reach the app. They get a problem too, and their content is not logged. */
const refuseBeforeRouting = (server: Server, open: LinkedList<ServerResponse>, options: ListenerOptions): void => {
  server.on('clientError', (error: Error & { code?: string }, socket: Duplex) => {
    const inFlight = open.values().find((res) => res.socket === socket && res.req.complete)
    if (inFlight !== undefined) {
      // Malformed bytes after a request in flight: a refusal now would be read as the response to that request.
      if (!inFlight.headersSent) inFlight.setHeader('Connection', 'close')
      inFlight.once('close', () => socket.destroy())
      return
    }
    if (!socket.writable || error.code === 'ECONNRESET') return void socket.destroy()
    const halfRead = open.values().find((res) => res.socket === socket)
    const code = PARSER_CODES[error.code ?? ''] ?? 'bad-request'
    // The origin of a malformed request is unknown, so no CORS header is sent.
    const { status, headers, body } = refusal(code, options, halfRead?.req)
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`)
    socket.end([`HTTP/1.1 ${status} ${STATUS_CODES[status]}`, ...lines, '', body].join('\r\n'), () => socket.destroy())
  })
  server.on('checkExpectation', (_req: IncomingMessage, res: ServerResponse) => {
    refuse(res, 'expectation-failed', options)
  })
}

const refuse = (res: ServerResponse, code: ErrorCode, options: ListenerOptions): void => {
  const { status, headers, body } = refusal(code, options, res.req)
  res.writeHead(status, { ...headers, ...corsHeaders(options.corsOrigins, res.req) }).end(body)
}

/** A request with a context is logged by the app at its end. */
type Refused = IncomingMessage & { readonly context?: Pick<Context, 'requestId' | 'code'> }

/** A problem for a request that is refused here, logged unless the app logs the request. */
const refusal = (code: ErrorCode, { publicUrl, log, meter }: ListenerOptions, refused?: Refused) => {
  const requestId = refused?.context?.requestId ?? randomUUID()
  const { status } = PROBLEMS[code]
  const isCancelled = refused !== undefined && isCancel(refused)
  const site = { requestId, traceId: null, lang: 'en', isCancel: isCancelled, publicUrl } as const
  const body = JSON.stringify(problemBody(new GatewayError(code), site))
  if (refused?.context !== undefined) refused.context.code = code
  else {
    log.info('request', { requestId, status, code })
    meter.request({ method: '', route: null, status, code, durationMs: 0, hasWaited: false })
  }
  const headers = {
    'Content-Type': 'application/problem+json; charset=utf-8',
    'Content-Language': site.lang,
    'Content-Length': String(Buffer.byteLength(body)),
    'Cache-Control': 'no-store',
    Vary: 'Accept-Language, Origin',
    'X-Request-Id': requestId,
    'X-Content-Type-Options': 'nosniff',
    Connection: 'close',
  }
  return { status, headers, body }
}
