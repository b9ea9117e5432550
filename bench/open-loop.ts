import { Agent, type OutgoingHttpHeaders, request } from 'node:http'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'

export interface LoadRequest {
  readonly method: string
  readonly url: string
  readonly headers: OutgoingHttpHeaders
}

export interface LoadResponse {
  readonly status: number
  readonly retryAfter: string | undefined
  /** Since the scheduled time, so that a late send counts as latency. */
  readonly tookMs: number
}

export interface Rate {
  readonly perSecond: number
  readonly seconds: number
}

/** Open-loop load: sends requests at a constant rate, without waiting for earlier responses. */
export const runOpenLoop = async (
  requestAt: (index: number) => LoadRequest,
  { perSecond, seconds }: Rate,
): Promise<LoadResponse[]> => {
  const agent = new Agent({ keepAlive: true })
  const startedAtMs = performance.now()
  const responses: Promise<LoadResponse>[] = []
  for (let index = 0; index < perSecond * seconds; index += 1) {
    const dueAtMs = startedAtMs + (index * 1000) / perSecond
    const earlyMs = dueAtMs - performance.now()
    if (earlyMs > 0) await delay(earlyMs)
    responses.push(send(agent, requestAt(index), dueAtMs))
  }
  return Promise.all(responses).finally(() => agent.destroy())
}

/** Sends all requests at once. */
export const sendBurst = (requestAt: (index: number) => LoadRequest, count: number): Promise<LoadResponse[]> => {
  const agent = new Agent({ keepAlive: true })
  const nowMs = performance.now()
  const responses = Array.from({ length: count }, (_, index) => send(agent, requestAt(index), nowMs))
  return Promise.all(responses).finally(() => agent.destroy())
}

const send = (agent: Agent, { method, url, headers }: LoadRequest, dueAtMs: number): Promise<LoadResponse> =>
  new Promise((resolve, reject) => {
    const sent = request(url, { agent, method, headers }, async (res) => {
      await text(res)
      const retryAfter = res.headers['retry-after']
      resolve({ status: res.statusCode ?? 0, retryAfter, tookMs: performance.now() - dueAtMs })
    })
    sent.on('error', reject).end()
  })

/** The value below which this share of the values lies. */
export const quantile = (values: readonly number[], share: number): number => {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}

export const median = (values: readonly number[]): number => quantile(values, 0.5)
