import autocannon from 'autocannon'
import { cpuMs } from './machine.ts'
import type { Subject } from './subjects.ts'

export interface Sample {
  readonly cpuMicroseconds: number
  readonly perSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly p999Ms: number
}

const SAMPLE_INTERVAL_MS = 20

let tasks = 0

/** Closed-loop load: this many cancel requests, each for another task. @throws if one is not accepted */
export const load = async (subject: Subject, concurrency: number, amount: number): Promise<Sample> => {
  const before = cpuMs(subject.pid)
  const result = await autocannon({
    url: subject.url,
    connections: concurrency,
    amount,
    // Seconds. A thousand connections to a busy machine can take longer than the default of ten.
    timeout: 300,
    // Also the time after which autocannon notices that all have been answered.
    sampleInt: SAMPLE_INTERVAL_MS,
    headers: subject.headers,
    requests: [
      {
        method: 'DELETE',
        setupRequest: (request) => {
          tasks += 1
          return { ...request, path: `/tasks/bench-${tasks}` }
        },
      },
    ],
  })
  const used = cpuMs(subject.pid) - before
  const { non2xx, errors, timeouts, requests, latency } = result
  if (non2xx + errors + timeouts > 0) {
    throw new Error(`${subject.name}: ${non2xx} not accepted, ${errors} errors, ${timeouts} without a response`)
  }
  return {
    cpuMicroseconds: (used * 1000) / requests.total,
    perSecond: requests.total / result.duration,
    p50Ms: latency.p50,
    p99Ms: latency.p99,
    p999Ms: latency.p99_9,
  }
}
