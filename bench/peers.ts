import { load, type Sample } from './load.ts'
import { median } from './offer.ts'
import { type Environment, PEERS, type Subject } from './subjects.ts'

export const CONCURRENCIES = [16, 1000] as const

/** The measurements of a contestant. */
export interface Result {
  readonly name: string
  readonly startedInMs: number
  /** After its start, and at its peak. */
  readonly idleMiB: number
  readonly peakMiB: number
  /** By concurrency, the median of the rounds. */
  readonly medians: ReadonlyMap<number, Sample>
}

export interface Rounds {
  readonly rounds: number
  readonly seconds: number
  /** Warm-up before the first round, until the compiler has optimized the code. */
  readonly warmUpSeconds: number
  readonly concurrencies?: readonly number[]
  readonly peers?: readonly (typeof PEERS)[number][]
  readonly tell: (line: string) => void
}

/** The gateway and its peers, round by round, so that disturbances of a shared machine affect all of them. */
export const comparePeers = async (ground: Environment, options: Rounds): Promise<readonly Result[]> => {
  const { rounds, seconds, warmUpSeconds, concurrencies = CONCURRENCIES, peers = PEERS, tell } = options
  const upstreamUrl = await ground.startUpstream()
  const contestants = [await ground.startGateway(upstreamUrl)]
  for (const name of peers) contestants.push(await ground.startPeer(name, upstreamUrl))
  const idle = new Map(contestants.map((contestant) => [contestant, contestant.memoryMiB().now]))
  const seen = new Map<string, Sample[]>()
  for (const contestant of contestants) await load(contestant, 16, warmUpSeconds)
  for (let round = 1; round <= rounds; round += 1) {
    for (const contestant of contestants) {
      for (const concurrency of concurrencies) {
        const sample = await load(contestant, concurrency, seconds)
        const key = keyOf(contestant, concurrency)
        seen.set(key, [...(seen.get(key) ?? []), sample])
        const figures = `${sample.cpuMicroseconds.toFixed(0)} µs of CPU, ${sample.perSecond.toFixed(0)}/s`
        tell(`round ${round} of ${rounds}, ${contestant.name} at ${concurrency}: ${figures}`)
      }
    }
  }
  return contestants.map((contestant) => ({
    name: contestant.name,
    startedInMs: contestant.startedInMs,
    idleMiB: idle.get(contestant) ?? Number.NaN,
    peakMiB: contestant.memoryMiB().peak,
    medians: new Map(concurrencies.map((at) => [at, medianOf(seen.get(keyOf(contestant, at)) ?? [])])),
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
