import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { type Contestant, startContestants } from './contestants.ts'
import { load, type Sample } from './load.ts'
import { machine, pinSelf } from './machine.ts'
import { plot, tableOf } from './report.ts'

// The built gateway with everything on, beside what one would write instead, in one run: round by round, each in a process
// of its own. Times of shared machines tell little; their ratios, and CPU time, do.

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '5' }, seconds: { type: 'string', default: '4' } },
})
const [rounds, seconds] = [Number(values.rounds), Number(values.seconds)]
const CONCURRENCIES = [16, 1000] as const

export interface Result {
  readonly name: string
  readonly startedInMs: number
  readonly peakMiB: number
  /** By concurrency, the median of the rounds. */
  readonly medians: ReadonlyMap<number, Sample>
}

const median = (numbers: readonly number[]): number =>
  [...numbers].sort((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN

const medianOf = (samples: readonly Sample[]): Sample => ({
  cpuMicroseconds: median(samples.map((sample) => sample.cpuMicroseconds)),
  perSecond: median(samples.map((sample) => sample.perSecond)),
  p50Ms: median(samples.map((sample) => sample.p50Ms)),
  p99Ms: median(samples.map((sample) => sample.p99Ms)),
  p999Ms: median(samples.map((sample) => sample.p999Ms)),
})

const run = async (contestants: readonly Contestant[]): Promise<readonly Result[]> => {
  const seen = new Map<string, Sample[]>()
  const keep = (key: string, sample: Sample): void => void seen.set(key, [...(seen.get(key) ?? []), sample])
  for (const contestant of contestants) await load(contestant, 16, 2)
  for (let round = 1; round <= rounds; round += 1) {
    for (const contestant of contestants) {
      for (const concurrency of CONCURRENCIES) {
        const sample = await load(contestant, concurrency, seconds)
        keep(`${contestant.name} ${concurrency}`, sample)
        const figures = `${sample.cpuMicroseconds.toFixed(0)} µs of CPU, ${sample.perSecond.toFixed(0)}/s`
        process.stdout.write(`round ${round} of ${rounds}, ${contestant.name} at ${concurrency}: ${figures}\n`)
      }
    }
  }
  return contestants.map(({ name, startedInMs, peakMiB }) => ({
    name,
    startedInMs,
    peakMiB: peakMiB(),
    medians: new Map(CONCURRENCIES.map((at) => [at, medianOf(seen.get(`${name} ${at}`) ?? [])])),
  }))
}

pinSelf()
const { contestants, stop } = await startContestants()
try {
  const results = await run(contestants)
  const folder = join(import.meta.dirname, 'results')
  mkdirSync(folder, { recursive: true })
  const about = `${machine()}, ${rounds} rounds of ${seconds} s.`
  writeFileSync(join(folder, 'peers.md'), `${tableOf(results)}\n\n${about}\n`)
  writeFileSync(join(folder, 'peers.svg'), plot(results))
  process.stdout.write(`\n${tableOf(results)}\n\n${about}\n`)
} finally {
  await stop()
}
