import { type ClientRequest, Agent as HttpAgent, request as httpRequest } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import type { Socket } from 'node:net'
import { urlToHttpOptions } from 'node:url'
import got, { type Request } from 'got'
import { decodeBody } from './content-encoding.ts'
import { releaseAfterSuccess } from './release-stream.ts'
import type { SignedRequest } from './signing.ts'

export interface UpstreamResponse {
  readonly status: number
  /** `x-acs-retry-after`, milliseconds. */
  readonly retryAfterMs: number | null
  readonly body: string
}

export type RawResult =
  | { readonly kind: 'response'; readonly response: UpstreamResponse; readonly date: Date | null }
  /** The response is longer than any documented one. */
  | { readonly kind: 'too-large' }
  /** `sent`: a byte of the request was handed to a connected (TLS: secured) socket. */
  | { readonly kind: 'no-response'; readonly sent: boolean; readonly reason: string }

export interface SendOptions {
  readonly timeoutMs: number
  /** Abandons the request as long as nothing was sent; later it has no effect. */
  readonly signal?: AbortSignal | undefined
  /** Abandons the request even after it was sent: only for a request that changes nothing. */
  readonly revoked?: AbortSignal | undefined
}

// The upstream's own idle time is not published; a connection that was unused for this long is not used again.
const IDLE_MS = 4000
const CONNECT_MS = 3000
const MAX_RESPONSE_BYTES = 4 * 1024 * 1024

/** Requests over got, without its retry (it re-sends the old nonce) and without redirects. */
export const createTransport = ({
  origin,
  ca,
  idleMs = IDLE_MS,
  maxResponseBytes: maxBytes = MAX_RESPONSE_BYTES,
}: {
  readonly origin: URL
  /** Certificate authorities to trust instead of the system's. */
  readonly ca?: string | undefined
  /** How long a connection may stay unused. */
  readonly idleMs?: number
  readonly maxResponseBytes?: number
}) => {
  const pool = { keepAlive: true, timeout: idleMs, scheduling: 'lifo' } as const
  const http = new HttpAgent(pool)
  const https = new HttpsAgent({ ...pool, ca, minVersion: 'TLSv1.2' })

  const { protocol, hostname, port } = urlToHttpOptions(origin)
  const root = new URL('/', origin)
  const dateIn = createDates()
  const [agent, request] = protocol === 'https:' ? [https, httpsRequest] : [http, httpRequest]

  const client = got.extend({
    // Only the options that are used, out of all that got passes on: Node copies them several times.
    request: ({ pathname, search }, { method, headers }) =>
      request({ hostname, port, path: `${pathname}${search}`, method, headers, agent }),
    // Encoded bodies are decoded below, since the limit of their size is known there.
    decompress: false,
    followRedirect: false,
    retry: { limit: 0 },
    throwHttpErrors: false,
    timeout: { lookup: CONNECT_MS, connect: CONNECT_MS, secureConnect: CONNECT_MS },
    method: 'POST',
    headers: { 'user-agent': 'domain-task-gateway', 'accept-encoding': 'identity' },
  })

  /** One request and its response. Never rejects: got's errors carry the whole request, so none leaves this module. */
  const send = (request: SignedRequest, { timeoutMs, signal, revoked }: SendOptions): Promise<RawResult> =>
    new Promise((resolve) => {
      const { path, headers, body } = request
      const length = String(Buffer.byteLength(body))
      const stream = client.stream(path === '/' ? root : new URL(path, origin), {
        headers: { ...headers, 'content-length': length },
      })
      let sent = false
      const end = (result: RawResult): void => {
        signal?.removeEventListener('abort', abort)
        revoked?.removeEventListener('abort', revoke)
        clearTimeout(timer)
        resolve(result)
      }
      const endWithoutResponse = (reason: string): void => {
        end({ kind: 'no-response', sent, reason })
        stream.destroy()
      }
      const abort = (): void => {
        if (!sent) endWithoutResponse('aborted')
      }
      const revoke = (): void => endWithoutResponse('revoked')
      const timer = setTimeout(endWithoutResponse, timeoutMs, 'ETIMEDOUT')

      if (signal?.aborted) abort()
      signal?.addEventListener('abort', abort)
      if (revoked?.aborted) revoke()
      revoked?.addEventListener('abort', revoke)
      stream.on('error', (error: Error & { code?: string }) => endWithoutResponse(error.code ?? error.name))
      stream.on('request', (outgoing: ClientRequest) => {
        whenSent(outgoing, () => {
          sent = true
        })
      })
      // Node gives the socket of a 101 to the listener, and forgets it. No other protocol is supported here.
      stream.on('upgrade', (_response, socket: Socket) => socket.destroy())
      collectBody(stream, { maxBytes, dateIn }, end)
      releaseAfterSuccess(stream)
      stream.on('close', () => {
        // A complete response can still be in the decoder.
        if (!stream.readableEnded) endWithoutResponse('closed')
      })
      // got writes its option `body` in pieces, in a later turn each.
      stream.end(body)
    })

  return {
    send,
    close: () => {
      http.destroy()
      https.destroy()
    },
  }
}

/** Collects the response, and abandons one that grows too large: got has no limit of its own. */
const collectBody = (
  stream: Request,
  { maxBytes, dateIn }: { readonly maxBytes: number; readonly dateIn: ReturnType<typeof createDates> },
  end: (result: RawResult) => void,
): void => {
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
    const response = {
      status: statusCode,
      retryAfterMs: milliseconds(headers['x-acs-retry-after']),
      body: body.toString('utf8'),
    }
    end({ kind: 'response', response, date: dateIn(headers.date) })
  })
}

/**
 * Calls back at the first moment at which the request may be sent: Node writes when the socket is connected and
 * secured.
 */
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

/** A date in HTTP's format (RFC 9110, 5.6.7); null for other formats, although JavaScript accepts them as dates. */
const parseDate = (header: string): Date | null => {
  const at = new Date(header)
  return !Number.isNaN(at.getTime()) && at.toUTCString() === header ? at : null
}

/** Parses the `Date` header once per second: responses of the same second have the same header. */
const createDates = (): ((header: string | undefined) => Date | null) => {
  let [last, lastDate]: [string, Date | null] = ['', null]
  return (header = '') => {
    if (header !== last) [last, lastDate] = [header, parseDate(header)]
    return lastDate
  }
}
