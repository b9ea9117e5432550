import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { availableParallelism, cpus, loadavg } from 'node:os'

// With more than one core, the measured process has its own core; load generator and upstream share another.

const cores = availableParallelism()
const canPin = cores > 1 && spawnSync('taskset', ['--version']).status === 0

const CORES = { measured: '0', other: '1', anywhere: `0-${cores - 1}` } as const

/** Pins a process with all its threads to the core of measured processes, to the other core, or to none. */
export const pin = (pid: number | undefined, core: keyof typeof CORES): void => {
  if (canPin) spawnSync('taskset', ['--all-tasks', '--pid', '--cpu-list', CORES[core], String(pid)])
}

/** CPU time of a process in milliseconds: user and system time of all threads. */
export const cpuMs = (pid: number): number => {
  const [, rest = ''] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')
  const fields = rest.split(' ')
  const TICK_MS = 10
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS
}

/** Resident memory of a process, and its maximum so far. */
export const memoryMiB = (pid: number): { readonly now: number; readonly peak: number } => {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const read = (name: string): number => Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1]) / 1024
  return { now: read('VmRSS'), peak: read('VmHWM') }
}

const startedWithLoad = loadavg()

/**
 * The machine, and how idle it was: the average number of processes at work in the minute before the start, and in the
 * fifteen minutes before now. An idle machine has less than 1 at the start; the bench itself adds about 2.
 */
export const machine = (): string => {
  const pinned = canPin ? ', pinned' : ''
  const [before, now] = [startedWithLoad[0], loadavg()[2]].map((value) => (value ?? Number.NaN).toFixed(1))
  const model = cpus()[0]?.model ?? 'unknown'
  const load = `load ${before} before, ${now} in the last 15 minutes`
  return `Node ${process.version}, ${cores} cores (${model})${pinned}, ${load}`
}
