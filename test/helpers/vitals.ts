import { join } from 'node:path'
import type { GatewayProcess } from './process.ts'

/** Measurements of a process: sizes in bytes after garbage collection, delay in milliseconds since the last reading. */
export interface Vitals {
  readonly heapUsed: number
  readonly external: number
  readonly rss: number
  /** Sockets, servers, timers and other resources that keep a process alive. */
  readonly handles: number
  readonly eventLoopDelayP99: number
}

/** Memory that the program holds, in bytes. */
export const heapOf = ({ heapUsed, external }: Vitals): number => heapUsed + external

export const mebibytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(1)

/** Node arguments of a process that reports vitals. */
export const VITALS_ARGS: readonly string[] = ['--import', join(import.meta.dirname, 'vitals-preload.ts')]

/** Returns a function that reads the vitals of a process started with `VITALS_ARGS`. */
export const createVitalsReader = ({ kill, line }: GatewayProcess) => {
  let asked = 0
  return async (): Promise<Vitals> => {
    asked += 1
    kill('SIGUSR2')
    const said = await line(`vitals ${asked}`)
    const number = (name: keyof Vitals): number => Number(said[name])
    return {
      heapUsed: number('heapUsed'),
      external: number('external'),
      rss: number('rss'),
      handles: number('handles'),
      eventLoopDelayP99: number('eventLoopDelayP99'),
    }
  }
}
