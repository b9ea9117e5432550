import { load, type Sample } from './load.ts'
import { median } from './open-loop.ts'
import { type Environment, PEERS, type Subject } from './subjects.ts'

export const CONCURRENCIES = [16, 1000] as const

/** Measurements of one subject. */
export interface Result {
  readonly name: string
  readonly startedInMs: number
  /** After its start, and at its peak. */
  readonly idleMiB: number
  readonly peakMiB: number
  /** The median of the rounds, by concurrency. */
  readonly medians: ReadonlyMap<number, Sample>
}

export interface Rounds {
  readonly rounds: number
  readonly seconds: number
  /** Before the first round, so that the JIT compiler has optimized the code. */
  readonly warmUpSeconds: number
  readonly concurrencies?: readonly number[]
  readonly peers?: readonly (typeof PEERS)[number][]
  readonly print: (line: string) => void
}

/** Measures the gateway and its peers in turns, so that other work on the machine affects all of them. */
export const comparePeers = async (environment: Environment, options: Rounds): Promise<readonly Result[]> => {
  const { rounds, seconds, warmUpSeconds, concurrencies = CONCURRENCIES, peers = PEERS, print } = options
  const upstreamUrl = await environment.startUpstream()
  const subjects = [await environment.startGateway(upstreamUrl)]
  for (const name of peers) subjects.push(await environment.startPeer(name, upstreamUrl))
  const idle = new Map(subjects.map((subject) => [subject, subject.memoryMiB().now]))
  const samples = new Map<string, Sample[]>()
  for (const subject of subjects) await load(subject, 16, warmUpSeconds)
  for (let round = 1; round <= rounds; round += 1) {
    for (const subject of subjects) {
      for (const concurrency of concurrencies) {
        const sample = await load(subject, concurrency, seconds)
        const key = keyOf(subject, concurrency)
        samples.set(key, [...(samples.get(key) ?? []), sample])
        const figures = `${sample.cpuMicroseconds.toFixed(0)} µs of CPU, ${sample.perSecond.toFixed(0)}/s`
        print(`round ${round} of ${rounds}, ${subject.name} at ${concurrency}: ${figures}`)
      }
    }
  }
  return subjects.map((subject) => ({
    name: subject.name,
    startedInMs: subject.startedInMs,
    idleMiB: idle.get(subject) ?? Number.NaN,
    peakMiB: subject.memoryMiB().peak,
    medians: new Map(concurrencies.map((at) => [at, medianOf(samples.get(keyOf(subject, at)) ?? [])])),
  }))
}

const keyOf = ({ name }: Subject, concurrency: number): string => `${name} ${concurrency}`

const medianOf = (samples: readonly Sample[]): Sample => ({
  cpuMicroseconds: median(samples.map((sample) => sample.cpuMicroseconds)),
  perSecond: median(samples.map((sample) => sample.perSecond)),
  p50Ms: median(samples.map((sample) => sample.p50Ms)),
  p99Ms: median(samples.map((sample) => sample.p99Ms)),
  p999Ms: median(samples.map((sample) => sample.p999Ms)),
})
