import { load, type Sample } from './load.ts'
import { median, quantile } from './open-loop.ts'
import { type Environment, PEERS, type Subject } from './subjects.ts'

export const CONCURRENCIES = [16, 1000] as const

/** Measurements of one subject. */
export interface Result {
  readonly name: string
  readonly startedInMs: number
  /** After its start, and at its peak. */
  readonly idleMiB: number
  readonly peakMiB: number
  /** By concurrency, in the order in which they were measured. */
  readonly slices: ReadonlyMap<number, readonly Sample[]>
  /** The median of the slices, by concurrency. */
  readonly medians: ReadonlyMap<number, Sample>
}

export interface Slices {
  readonly slices: number
  /** In each slice, but at least two for each connection. */
  readonly requests: number
  /** To each subject before the first slice, since V8 optimizes a function after a number of calls. */
  readonly warmUpRequests: number
  readonly concurrencies?: readonly number[]
  readonly peers?: readonly (typeof PEERS)[number][]
  readonly print: (line: string) => void
}

/**
 * Measures the gateway and its peers in short slices that alternate, so that other work on the machine affects all of
 * them. Every second slice has the reverse order.
 */
export const comparePeers = async (environment: Environment, options: Slices): Promise<readonly Result[]> => {
  const { slices, requests, warmUpRequests, concurrencies = CONCURRENCIES, peers = PEERS, print } = options
  const upstreamUrl = await environment.startUpstream()
  const subjects = [await environment.startGateway(upstreamUrl)]
  for (const name of peers) subjects.push(await environment.startPeer(name, upstreamUrl))
  const idle = new Map(subjects.map((subject) => [subject, subject.memoryMiB().now]))
  const samples = new Map<string, Sample[]>()
  for (const subject of subjects) await load(subject, 16, warmUpRequests)
  for (let slice = 1; slice <= slices; slice += 1) {
    for (const concurrency of concurrencies) {
      for (const subject of slice % 2 === 0 ? subjects : subjects.toReversed()) {
        const sample = await load(subject, concurrency, Math.max(requests, 2 * concurrency))
        const key = keyOf(subject, concurrency)
        samples.set(key, [...(samples.get(key) ?? []), sample])
        const figures = `${sample.cpuMicroseconds.toFixed(0)} µs of CPU, ${sample.perSecond.toFixed(0)}/s`
        print(`slice ${slice} of ${slices}, ${subject.name} at ${concurrency}: ${figures}`)
      }
    }
  }
  return subjects.map((subject) => {
    const measured = new Map(concurrencies.map((at) => [at, samples.get(keyOf(subject, at)) ?? []]))
    return {
      name: subject.name,
      startedInMs: subject.startedInMs,
      idleMiB: idle.get(subject) ?? Number.NaN,
      peakMiB: subject.memoryMiB().peak,
      slices: measured,
      medians: new Map([...measured].map(([at, all]) => [at, medianOf(all)])),
    }
  })
}

/** The CPU time of one subject as a share of another's in the same slice: the median and the quartiles of all slices. */
export const cpuRatio = (result: Result, other: Result, concurrency: number): Ratio =>
  ratioOf(result.slices.get(concurrency), other.slices.get(concurrency))

/** The CPU time of a request among many as a share of the one among few. */
export const growth = ({ slices }: Result, few: number, many: number): Ratio =>
  ratioOf(slices.get(many), slices.get(few))

const ratioOf = (samples: readonly Sample[] = [], others: readonly Sample[] = []): Ratio => {
  const ratios = samples.map(({ cpuMicroseconds }, at) => cpuMicroseconds / (others[at]?.cpuMicroseconds ?? Number.NaN))
  return { median: median(ratios), low: quantile(ratios, 0.25), high: quantile(ratios, 0.75) }
}

export interface Ratio {
  readonly median: number
  readonly low: number
  readonly high: number
}

const keyOf = ({ name }: Subject, concurrency: number): string => `${name} ${concurrency}`

const medianOf = (samples: readonly Sample[]): Sample => ({
  cpuMicroseconds: median(samples.map((sample) => sample.cpuMicroseconds)),
  perSecond: median(samples.map((sample) => sample.perSecond)),
  p50Ms: median(samples.map((sample) => sample.p50Ms)),
  p99Ms: median(samples.map((sample) => sample.p99Ms)),
  p999Ms: median(samples.map((sample) => sample.p999Ms)),
})
