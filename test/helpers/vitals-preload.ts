import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Vitals } from './vitals.ts'

// Loaded into a gateway before its own code (`vitals.ts`). At each SIGUSR2 it says how the process does since the last one.

setFlagsFromString('--expose-gc')
const collectGarbage: () => void = runInNewContext('gc')

const delay = monitorEventLoopDelay({ resolution: 1 })
delay.enable()
let said = 0

const vitals = (): Vitals => {
  const p99 = delay.percentile(99)
  // Twice, as what a finalizer lets go of is garbage only then.
  collectGarbage()
  collectGarbage()
  const { heapUsed, external, rss } = process.memoryUsage()
  return { heapUsed, external, rss, handles: process.getActiveResourcesInfo().length, eventLoopDelayP99: p99 / 1e6 }
}

process.on('SIGUSR2', () => {
  said += 1
  const line = { msg: `vitals ${said}`, ...vitals() }
  process.stdout.write(`${JSON.stringify(line)}\n`)
  // What collecting took is no delay of the program's own.
  setImmediate(() => delay.reset())
})
