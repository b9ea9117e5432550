import { Agent, type OutgoingHttpHeaders, request } from 'node:http'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'

export interface Asked {
  readonly method: string
  readonly url: string
  readonly headers: OutgoingHttpHeaders
}

export interface Answer {
  readonly status: number
  readonly retryAfter: string | undefined
  /** From the moment at which it was due to be asked: whoever is slow to ask waits all the same. */
  readonly tookMs: number
}

export interface Offer {
  readonly perSecond: number
  readonly seconds: number
}

/** Asks at that pace, whatever becomes of what was asked before. */
export const offer = async (asked: (index: number) => Asked, { perSecond, seconds }: Offer): Promise<Answer[]> => {
  const agent = new Agent({ keepAlive: true })
  const beganAtMs = performance.now()
  const answers: Promise<Answer>[] = []
  for (let index = 0; index < perSecond * seconds; index += 1) {
    const dueAtMs = beganAtMs + (index * 1000) / perSecond
    const earlyMs = dueAtMs - performance.now()
    if (earlyMs > 0) await delay(earlyMs)
    answers.push(ask(agent, asked(index), dueAtMs))
  }
  return Promise.all(answers).finally(() => agent.destroy())
}

/** Asks for all of it at the same moment. */
export const storm = (asked: (index: number) => Asked, count: number): Promise<Answer[]> => {
  const agent = new Agent({ keepAlive: true })
  const nowMs = performance.now()
  const answers = Array.from({ length: count }, (_, index) => ask(agent, asked(index), nowMs))
  return Promise.all(answers).finally(() => agent.destroy())
}

const ask = (agent: Agent, { method, url, headers }: Asked, dueAtMs: number): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const sent = request(url, { agent, method, headers }, async (res) => {
      await text(res)
      const retryAfter = res.headers['retry-after']
      resolve({ status: res.statusCode ?? 0, retryAfter, tookMs: performance.now() - dueAtMs })
    })
    sent.on('error', reject).end()
  })

/** The value below which that share of them lies. */
export const quantile = (values: readonly number[], share: number): number => {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}

export const median = (values: readonly number[]): number => quantile(values, 0.5)
