import type { ClientRequest } from 'node:http'
import type { Request } from 'got'

/** The fields of got's stream that hold references. A test compares them with all fields of got. */
export const RELEASED_FIELDS = [
  ...['options', 'response', 'requestUrl', 'redirectUrls', 'flush', '_request', '_requestId', '_requestOptions'],
  ...['_requestTimeout', '_cancelTimeouts', '_stopRetry', '_unproxyEvents', '_abortListenerDisposer', '_jobs'],
  ...['_dispatchedBody', '_onBodyError', '_nativeFormDataBody', '_activeWebBodyReader', '_incrementalDecode'],
  ...['_pipedServerResponses', '_startedAt'],
] as const

const RELEASED: object = Object.fromEntries(RELEASED_FIELDS.map((name) => [name, undefined]))

/**
 * Drops everything that a successful stream references, once stream, request and response are closed. Node's
 * `WritableState` assigns a function literal to a property. V8 allocates such a function in the old generation until it
 * has optimized the constructor. The function references the stream, so that the whole request would survive until the
 * next full collection (docs/decisions.md).
 */
export const releaseAfterSuccess = (stream: Request): void => {
  stream.on('request', (request: ClientRequest) => {
    stream.on('end', () => {
      // Without this call, got leaves a stream that succeeded open.
      if (request.closed) stream.destroy()
      else request.once('close', () => stream.destroy())
    })
    stream.on('close', () => {
      const isComplete = stream.readableEnded && stream.errored === null && request.closed && stream.response?.closed
      // Listeners of got for this event can run after this one.
      if (isComplete) queueMicrotask(() => release(stream))
    })
  })
}

/** Node's own state of the stream stays. */
const release = (stream: Request): void => {
  stream.removeAllListeners()
  stream.on('error', ignore)
  Object.assign(stream, RELEASED)
}

const ignore = (): void => {}
