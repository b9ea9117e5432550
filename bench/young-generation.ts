import { load } from './load.ts'
import { machine } from './machine.ts'
import { median, quantile, sendBurst } from './open-loop.ts'
import { startStub } from './stub.ts'
import { openEnvironment, type Subject } from './subjects.ts'

// Compares options of V8 for the young generation: `node bench/young-generation.ts [slices] [requests]`, after a build.
// The gateways take turns in short slices; a ratio is one to the first row in the same slice.

const VARIANTS: Readonly<Record<string, readonly string[]>> = {
  default: ['--no-allocation-site-pretenuring'],
  'with pretenuring': ['--allocation-site-pretenuring'],
  '16 MiB': ['--no-allocation-site-pretenuring', '--max-semi-space-size=16'],
  '8 MiB': ['--no-allocation-site-pretenuring', '--max-semi-space-size=8'],
  '4 MiB': ['--no-allocation-site-pretenuring', '--max-semi-space-size=4'],
}

const [slices, requests] = [Number(process.argv[2] ?? 20), Number(process.argv[3] ?? 500)]
const WAITING = 2000

/** Resident memory at its peak, while the upstream takes three seconds. */
const peakWhenWaiting = async (args: readonly string[]): Promise<number> => {
  const stub = await startStub({ delayMs: 3000 })
  const environment = await openEnvironment([...args, 'dist/server.js'])
  const { url, headers, memoryMiB } = await environment.startGateway(stub.url)
  await sendBurst((index) => ({ method: 'DELETE', url: `${url}/tasks/bench-${index}`, headers }), WAITING)
  const { peak } = memoryMiB()
  environment.close()
  stub.close()
  return peak
}

const environments = []
const subjects = new Map<string, Subject>()
for (const [name, args] of Object.entries(VARIANTS)) {
  const environment = await openEnvironment([...args, 'dist/server.js'])
  environments.push(environment)
  subjects.set(name, await environment.startGateway(await environment.startUpstream()))
}
const CONCURRENCIES = [16, 500]
const keyOf = (name: string, concurrency: number): string => `${name} ${concurrency}`
const cpu: Record<string, number[]> = {}
for (const subject of subjects.values()) await load(subject, 16, 5000)
for (let slice = 0; slice < slices; slice += 1) {
  const order = slice % 2 === 0 ? [...subjects] : [...subjects].reverse()
  for (const concurrency of CONCURRENCIES) {
    for (const [name, subject] of order) {
      const { cpuMicroseconds } = await load(subject, concurrency, Math.max(requests, 2 * concurrency))
      const key = keyOf(name, concurrency)
      cpu[key] = [...(cpu[key] ?? []), cpuMicroseconds]
    }
  }
}
const memory = new Map([...subjects].map(([name, subject]) => [name, subject.memoryMiB().now]))
for (const environment of environments) environment.close()

const ratioOf = (name: string, concurrency: number): string => {
  const first = cpu[keyOf('default', concurrency)] ?? []
  const ratios = (cpu[keyOf(name, concurrency)] ?? []).map((each, at) => each / (first[at] ?? Number.NaN))
  return `${median(ratios).toFixed(2)} (${quantile(ratios, 0.25).toFixed(2)}–${quantile(ratios, 0.75).toFixed(2)})`
}

console.log(`| | CPU at 16, of default | at 500 | RSS after load (MiB) | Peak with ${WAITING} waiting (MiB) |`)
console.log('| --- | --- | --- | --- | --- |')
for (const [name, args] of Object.entries(VARIANTS)) {
  const ratios = CONCURRENCIES.map((concurrency) => ratioOf(name, concurrency))
  const [rss, peak] = [memory.get(name) ?? Number.NaN, await peakWhenWaiting(args)]
  console.log(`| ${[name, ...ratios, rss.toFixed(0), peak.toFixed(0)].join(' | ')} |`)
}
console.log(`\n${machine()}, ${slices} slices of ${requests} requests (at 500: at least 1,000) after 5,000.`)
