import { type ClientRequest, Agent as HttpAgent, request as httpRequest } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import type { Socket } from 'node:net'
import { urlToHttpOptions } from 'node:url'
import got, { type Request } from 'got'
import { decodeBody } from './content-encoding.ts'
import type { UpstreamResponse } from './response.ts'
import type { SignedRequest } from './signing.ts'

export type RawResult =
  | { readonly kind: 'response'; readonly response: UpstreamResponse; readonly date: Date | null }
  /** The answer is longer than anything upstream would say. */
  | { readonly kind: 'too-large' }
  /** No answer. `sent`: a byte of the request was handed to a connected (TLS: secured) socket. */
  | { readonly kind: 'no-response'; readonly sent: boolean; readonly reason: string }

export interface TransportOptions {
  readonly origin: URL
  /** Certificate authorities to trust instead of the system's. */
  readonly ca?: string | undefined
  /** How long a connection may stay unused. */
  readonly idleMs?: number
  readonly maxResponseBytes?: number
}

export interface SendOptions {
  readonly timeoutMs: number
  /** Gives the exchange up as long as nothing was sent; later it has no effect. */
  readonly signal?: AbortSignal | undefined
  /** Ends the exchange even after it was sent: only for a request that changes nothing. */
  readonly revoked?: AbortSignal | undefined
}

export interface Transport {
  /** One request and its answer. Never rejects: got's errors carry the whole request, so none leaves this module. */
  send(request: SignedRequest, budget: SendOptions): Promise<RawResult>
  close(): void
}

// Upstream's own idle time is not published; a connection unused for this long is not tried again.
const IDLE_MS = 4000
const CONNECT_MS = 3000
const MAX_ANSWER_BYTES = 4 * 1024 * 1024

/** One exchange over got, without its retry (it re-sends the old nonce) and without redirects. */
export const createTransport = (options: TransportOptions): Transport => {
  const { origin, ca, idleMs = IDLE_MS, maxResponseBytes = MAX_ANSWER_BYTES } = options
  const pool = { keepAlive: true, timeout: idleMs, scheduling: 'lifo' } as const
  const http = new HttpAgent(pool)
  const https = new HttpsAgent({ ...pool, ca, minVersion: 'TLSv1.2' })

  const { protocol, hostname, port } = urlToHttpOptions(origin)
  const [agent, request] = protocol === 'https:' ? [https, httpsRequest] : [http, httpRequest]

  const client = got.extend({
    // Of all that got would hand on, what is used: Node copies its options several times.
    request: ({ pathname, search }, { method, headers }) =>
      request({ hostname, port, path: `${pathname}${search}`, method, headers, agent }),
    // Encoded bodies are decoded below, where the limit of their size is known.
    decompress: false,
    followRedirect: false,
    retry: { limit: 0 },
    throwHttpErrors: false,
    timeout: { lookup: CONNECT_MS, connect: CONNECT_MS, secureConnect: CONNECT_MS },
    headers: { 'user-agent': 'domain-task-gateway', 'accept-encoding': 'identity' },
  })

  const send = (request: SignedRequest, { timeoutMs, signal, revoked }: SendOptions): Promise<RawResult> =>
    new Promise((resolve) => {
      const stream = client.stream(new URL(request.path, origin), {
        method: request.method,
        headers: request.headers,
        body: request.body,
        timeout: { request: timeoutMs },
      })
      let sent = false
      const end = (exchanged: RawResult): void => {
        signal?.removeEventListener('abort', abort)
        revoked?.removeEventListener('abort', revoke)
        resolve(exchanged)
      }
      const lose = (reason: string): void => {
        end({ kind: 'no-response', sent, reason })
        stream.destroy()
      }
      const abort = (): void => {
        if (!sent) lose('aborted')
      }
      const revoke = (): void => lose('revoked')

      if (signal?.aborted) abort()
      signal?.addEventListener('abort', abort)
      if (revoked?.aborted) revoke()
      revoked?.addEventListener('abort', revoke)
      stream.on('error', (error: Error & { code?: string }) => lose(error.code ?? error.name))
      stream.on('request', (outgoing: ClientRequest) => {
        whenSent(outgoing, () => {
          sent = true
        })
      })
      // Node hands the socket of a 101 over to whoever listens, and forgets it: nobody here speaks another protocol.
      stream.on('upgrade', (_response, socket: Socket) => socket.destroy())
      collectBody(stream, maxResponseBytes, end)
      stream.on('close', () => {
        // A whole answer that is still being decoded is not lost.
        if (!stream.readableEnded) lose('closed')
      })
    })

  return {
    send,
    close: () => {
      http.destroy()
      https.destroy()
    },
  }
}

/** Collects the answer, and gives it up where it grows too large: got has no limit of its own. */
const collectBody = (stream: Request, maxBytes: number, end: (exchanged: RawResult) => void): void => {
  const chunks: Buffer[] = []
  let bytes = 0
  stream.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    chunks.push(chunk)
    if (bytes <= maxBytes) return
    end({ kind: 'too-large' })
    stream.destroy()
  })
  stream.on('end', async () => {
    const { statusCode = 0, headers = {} } = stream.response ?? {}
    const body = await decodeBody(Buffer.concat(chunks), headers['content-encoding'], maxBytes)
    if (body === null) return end({ kind: 'too-large' })
    const answer = {
      status: statusCode,
      retryAfterMs: milliseconds(headers['x-acs-retry-after']),
      body: body.toString('utf8'),
    }
    end({ kind: 'response', response: answer, date: dateIn(headers.date) })
  })
}

/** Calls back at the moment from which on the request may be on its way: Node writes once the socket is connected and secured. */
const whenSent = (request: ClientRequest, mark: () => void): void => {
  const watch = (socket: Socket): void => {
    const secured = 'encrypted' in socket ? 'secureConnect' : 'connect'
    const open = !socket.connecting && !('secureConnecting' in socket && socket.secureConnecting === true)
    if (open) mark()
    else socket.prependOnceListener(secured, mark)
  }
  if (request.socket) watch(request.socket)
  else request.once('socket', watch)
}

const milliseconds = (header: string | string[] | undefined): number | null =>
  typeof header === 'string' && /^\d{1,9}$/.test(header) ? Number(header) : null

/** A date as HTTP spells it (RFC 9110, 5.6.7); anything else that JavaScript would take for a date is none. */
const parseDate = (header: string): Date | null => {
  const at = new Date(header)
  return !Number.isNaN(at.getTime()) && at.toUTCString() === header ? at : null
}

/** Answers of one second spell the same one. */
const createDates = (): ((header: string | undefined) => Date | null) => {
  let [last, lastDate]: [string, Date | null] = ['', null]
  return (header = '') => {
    if (header !== last) [last, lastDate] = [header, parseDate(header)]
    return lastDate
  }
}

const dateIn = createDates()
