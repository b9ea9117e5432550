import { join } from 'node:path'
import type { GatewayProcess } from './process.ts'

/** How a process does: sizes in bytes after garbage was collected, the delay in milliseconds since they were last asked for. */
export interface Vitals {
  readonly heapUsed: number
  readonly external: number
  readonly rss: number
  /** Sockets, servers, timers and whatever else keeps a process alive. */
  readonly handles: number
  readonly eventLoopDelayP99: number
}

/** What the program itself holds, in bytes. */
export const heapOf = ({ heapUsed, external }: Vitals): number => heapUsed + external

export const mebibytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(1)

/** For a process whose vitals are to be asked for. */
export const VITALS_ARGS: readonly string[] = ['--import', join(import.meta.dirname, 'vitals-preload.ts')]

/** Asks a process that was started with `WITH_VITALS`, each time anew. */
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
