import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { availableParallelism, cpus } from 'node:os'

// Where the system has more than one core, who is measured has one for itself, and whoever asks and answers another.

const cores = availableParallelism()
const canPin = cores > 1 && spawnSync('taskset', ['--version']).status === 0

/** What to put in front of a command, so that it runs on the core of those who are measured, or on the other. */
export const pinned = (core: 'measured' | 'other'): readonly string[] =>
  canPin ? ['taskset', '--cpu-list', core === 'measured' ? '0' : '1'] : []

export const pinSelf = (): void => {
  if (canPin) spawnSync('taskset', ['--all-tasks', '--pid', '--cpu-list', '1', String(process.pid)])
}

/** Milliseconds of CPU that a process has used, by all its threads, user and system. */
export const cpuMs = (pid: number): number => {
  const [, rest = ''] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')
  const fields = rest.split(' ')
  const TICK_MS = 10
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS
}

/** The most memory that a process ever had. */
export const peakMiB = (pid: number): number =>
  Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024

export const machine = (): string =>
  `Node ${process.version}, ${cores} cores (${cpus()[0]?.model ?? 'unknown'})${canPin ? ', pinned' : ''}`
