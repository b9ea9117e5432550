import { once } from 'node:events'
import { createServer } from 'node:http'

export interface StubOptions {
  /** The delay of each response. */
  readonly delayMs?: number
  /** Accepted calls per second; others are throttled. A token bucket with a burst of a tenth of the rate. */
  readonly perSecond?: number
}

/** An upstream with a configurable delay and rate limit. */
export interface Stub {
  readonly url: string
  /** Accepted CancelTask calls, and throttled calls of any kind. */
  counts(): { readonly taken: number; readonly throttled: number }
  close(): void
}

const DONE = JSON.stringify({ RequestId: '010E55C9-4CFF-4F29-9D8B-8F5D2B0E5C2A' })
const THROTTLED = JSON.stringify({ RequestId: '010E55C9-4CFF-4F29-9D8B-8F5D2B0E5C2A', Code: 'Throttling.User' })

/** A token bucket. */
const createQuota = (perSecond: number): (() => boolean) => {
  const burst = perSecond / 10
  let [tokens, atMs] = [burst, performance.now()]
  return () => {
    const nowMs = performance.now()
    tokens = Math.min(burst, tokens + ((nowMs - atMs) * perSecond) / 1000)
    atMs = nowMs
    if (tokens < 1) return false
    tokens -= 1
    return true
  }
}

export const startStub = async ({ delayMs = 0, perSecond }: StubOptions): Promise<Stub> => {
  const isWithin = perSecond === undefined ? () => true : createQuota(perSecond)
  let [taken, throttled] = [0, 0]
  const server = createServer((req, res) => {
    const isTaken = isWithin()
    if (!isTaken) throttled += 1
    const answer = (): void => void res.writeHead(isTaken ? 200 : 400).end(isTaken ? DONE : THROTTLED)
    let body = ''
    req.on('data', (chunk) => {
      body += chunk
    })
    req.once('end', () => {
      // A gateway also queries: once at its start, and to follow cancellations.
      if (isTaken && body.includes('Action=CancelTask')) taken += 1
      setTimeout(answer, delayMs)
    })
  })
  await once(server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }), 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the stub does not listen on a port')
  return {
    url: `http://127.0.0.1:${address.port}`,
    counts: () => ({ taken, throttled }),
    close: () => void server.close().closeAllConnections(),
  }
}
