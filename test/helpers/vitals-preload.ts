import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Vitals } from './vitals.ts'

// Preloaded into a gateway process (see `vitals.ts`). On each SIGUSR2 it prints measurements since the previous one.

setFlagsFromString('--expose-gc')
const collectGarbage: () => void = runInNewContext('gc')

const delay = monitorEventLoopDelay({ resolution: 1 })
delay.enable()
let said = 0

const vitals = (): Vitals => {
  const p99 = delay.percentile(99)
  // Twice: memory that a finalizer releases is collected only by the next run.
  collectGarbage()
  collectGarbage()
  const { heapUsed, external, rss } = process.memoryUsage()
  return { heapUsed, external, rss, handles: process.getActiveResourcesInfo().length, eventLoopDelayP99: p99 / 1e6 }
}

process.on('SIGUSR2', () => {
  said += 1
  const line = { msg: `vitals ${said}`, ...vitals() }
  process.stdout.write(`${JSON.stringify(line)}\n`)
  // The delay of the garbage collection does not count.
  setImmediate(() => delay.reset())
})
