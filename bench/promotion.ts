import { readFileSync } from 'node:fs'
import { load } from './load.ts'
import { quantile } from './open-loop.ts'
import { startStub } from './stub.ts'
import type { Environment } from './subjects.ts'

/** Garbage collection in the thread that serves requests, between two numbers of requests. */
export interface Promotion {
  readonly requests: string
  /** That survived two collections of the young generation, and so were moved to the old generation. */
  readonly bytesPerRequest: number
  readonly collections: number
  /** Pauses for collections of the young generation. */
  readonly pauseP50Ms: number
  readonly pauseMaxMs: number
}

/** About 200 requests per second. */
const DELAY_MS = 50
const CONCURRENCY = 11

/**
 * Bytes that the gateway promotes per request, as counted by V8. Unlike times, they do not depend on other work on the
 * machine. A dead object in the old generation keeps everything that it references until a full collection.
 *
 * @param marks numbers of requests since the start, ascending; each two neighbours are one result
 */
export const measurePromotion = async (
  environment: Environment,
  marks: readonly number[],
  delayMs: number = DELAY_MS,
): Promise<readonly Promotion[]> => {
  const stub = await startStub({ delayMs })
  const gateway = await environment.startGateway(stub.url, {}, ['--trace-gc-nvp'])
  const counts = [0, ...marks]
  const atMs: number[] = []
  for (const [index, mark] of marks.entries()) {
    await load(gateway, CONCURRENCY, mark - (counts[index] ?? 0))
    atMs.push(performance.now() - gateway.startedAtMs)
  }
  await gateway.end()
  stub.close()
  const collections = parseTrace(readFileSync(gateway.outputFile, 'utf8'))
  return marks.slice(1).map((to, index) => {
    const [from = 0, fromMs = 0, toMs = 0] = [marks[index], atMs[index], atMs[index + 1]]
    const within = collections.filter(({ ms }) => ms > fromMs && ms <= toMs)
    const pauses = within.filter(({ isYoung }) => isYoung).map(({ pauseMs }) => pauseMs)
    return {
      requests: `${from}–${to}`,
      bytesPerRequest: within.reduce((sum, { promoted }) => sum + promoted, 0) / (to - from),
      collections: within.length,
      pauseP50Ms: quantile(pauses, 0.5),
      pauseMaxMs: Math.max(...pauses),
    }
  })
}

/** The lines of `--trace-gc-nvp` of the main thread, which is the first that collects garbage. */
const parseTrace = (output: string) => {
  const lines = [...output.matchAll(/^\[\d+:(\S+)\] +(\d+) ms: (pause=.*)$/gm)]
  return lines
    .filter(([, isolate]) => isolate === lines[0]?.[1])
    .map(([, , ms, fields = '']) => {
      const read = (name: string): string => new RegExp(`(?:^| )${name}=(\\S+)`).exec(fields)?.[1] ?? ''
      return {
        ms: Number(ms),
        pauseMs: Number(read('pause')),
        isYoung: read('gc') === 's',
        promoted: Number(read('promoted')),
      }
    })
}
