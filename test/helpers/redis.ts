import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { TestContext } from 'node:test'
import { createClient } from '@redis/client'
import { closedPort } from './ports.ts'
import { shareServer } from './shared-server.ts'

const PROGRAM = 'redis-server'

/** A secret that must not appear in any output. */
export const REDIS_PASSWORD = 'canary-password-of-redis'

export const hasRedis = (): boolean => spawnSync(PROGRAM, ['--version']).status === 0

export interface Redis {
  readonly url: string
  command(...command: readonly string[]): Promise<unknown>
  /** Stops immediately, as in a crash; its data is lost. */
  stop(): Promise<void>
  start(): Promise<void>
  /** Stops the process with SIGSTOP: the kernel accepts data, and the server does not respond. */
  freeze(): void
  thaw(): void
}

/** One server for the tests of a file, in a temporary folder, from the first use until the last test. */
export const useRedis = (): ((t: TestContext) => Promise<Redis>) => {
  const started = shareServer(() => startRedis())
  return async (t) => {
    const redis = await started()
    t.after(async () => {
      redis.thaw()
      await redis.start()
      await redis.command('FLUSHALL')
    })
    return redis
  }
}

/** A server for one test, with the given settings. */
export const startOwnRedis = async (t: TestContext, settings: Settings = {}): Promise<Redis> => {
  const redis = await startRedis(settings)
  t.after(() => redis.remove())
  return redis
}

type Settings = Readonly<Record<string, string>>

const startRedis = async (settings: Settings = {}): Promise<Redis & { remove(): Promise<void> }> => {
  const [folder, port] = [mkdtempSync(join(tmpdir(), 'gateway-redis-')), await closedPort()]
  const url = `redis://:${REDIS_PASSWORD}@127.0.0.1:${port}`
  let child: ChildProcess | null = await launch(folder, port, settings)

  const stop = async (): Promise<void> => {
    const stopped = child
    child = null
    if (stopped === null) return
    const ended = once(stopped, 'exit')
    stopped.kill('SIGKILL')
    await ended
  }

  return {
    url,
    command: async (...command) => {
      const client = createClient({ url }).on('error', () => undefined)
      await client.connect()
      try {
        return await client.sendCommand([...command])
      } finally {
        client.destroy()
      }
    },
    stop,
    start: async () => {
      child ??= await launch(folder, port, settings)
    },
    freeze: () => void child?.kill('SIGSTOP'),
    thaw: () => void child?.kill('SIGCONT'),
    remove: async () => {
      await stop()
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
    },
  }
}

const launch = async (folder: string, port: number, settings: Settings): Promise<ChildProcess> => {
  const usual = { port, bind: '127.0.0.1', dir: folder, requirepass: REDIS_PASSWORD, save: '', appendonly: 'no' }
  // The default cluster port may be in use by another program.
  const cluster = settings['cluster-enabled'] === 'yes' ? { 'cluster-port': await closedPort() } : {}
  const flags = Object.entries({ ...usual, ...cluster, ...settings }).flatMap(([name, value]) => [
    `--${name}`,
    String(value),
  ])
  const child = spawn(PROGRAM, flags, { stdio: ['ignore', 'pipe', 'ignore'] })
  for await (const line of createInterface({ input: child.stdout })) {
    if (!line.includes('Ready to accept connections')) continue
    child.stdout.resume()
    return child
  }
  throw new Error(`${PROGRAM} ended before it was ready`)
}
