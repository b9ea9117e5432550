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
const p99: Record<string, number[]> = {}
for (const subject of subjects.values()) await load(subject, 16, 5000)
for (let slice = 0; slice < slices; slice += 1) {
  const order = slice % 2 === 0 ? [...subjects] : [...subjects].reverse()
  for (const concurrency of CONCURRENCIES) {
    for (const [name, subject] of order) {
      const { cpuMicroseconds, p99Ms } = await load(subject, concurrency, Math.max(requests, 2 * concurrency))
      const key = keyOf(name, concurrency)
      cpu[key] = [...(cpu[key] ?? []), cpuMicroseconds]
      p99[key] = [...(p99[key] ?? []), p99Ms]
    }
  }
}
const memory = new Map([...subjects].map(([name, subject]) => [name, subject.memoryMiB()]))
for (const environment of environments) environment.close()

const ratioOf = (values: typeof cpu, name: string, concurrency: number): string => {
  const first = values[keyOf('default', concurrency)] ?? []
  const ratios = (values[keyOf(name, concurrency)] ?? []).map((each, at) => each / (first[at] ?? Number.NaN))
  return `${median(ratios).toFixed(2)} (${quantile(ratios, 0.25).toFixed(2)}–${quantile(ratios, 0.75).toFixed(2)})`
}

const headings = ['', ...CONCURRENCIES.map((at) => `CPU at ${at}`), ...CONCURRENCIES.map((at) => `p99 at ${at}`)]
const memoryHeadings = ['RSS after load (MiB)', 'Peak under load', `Peak with ${WAITING} waiting`]
console.log(`| ${[...headings, ...memoryHeadings].join(' | ')} |`)
console.log(`|${' --- |'.repeat(headings.length + memoryHeadings.length)}`)
for (const [name, args] of Object.entries(VARIANTS)) {
  const ratios = [cpu, p99].flatMap((values) => CONCURRENCIES.map((concurrency) => ratioOf(values, name, concurrency)))
  const used = memory.get(name)
  const amounts = [used?.now, used?.peak, await peakWhenWaiting(args)].map((mib) => (mib ?? Number.NaN).toFixed(0))
  console.log(`| ${[name, ...ratios, ...amounts].join(' | ')} |`)
}
console.log(`\n${machine()}, ${slices} slices of ${requests} requests (at 500: at least 1,000) after 5,000.`)
