import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { closedPort, isOpen } from '../test/helpers/ports.ts'
import { AUDIENCE, startIssuer } from './issuer.ts'
import { memoryMiB, pin } from './machine.ts'

/** A measured process: the gateway or a peer. */
export interface Subject {
  readonly name: string
  readonly pid: number
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  /** From its start to its first response. */
  readonly startedInMs: number
  readonly memoryMiB: () => ReturnType<typeof memoryMiB>
  /** On the clock of `performance.now()`. */
  readonly startedAtMs: number
  /** Standard output. */
  readonly outputFile: string
  stop(): void
  /** Ends the process with SIGTERM, and waits until all of its output is written. */
  end(): Promise<void>
}

/** Alternatives that a team could write by hand, and the minimum; the files in `peers/`. */
export const PEERS = ['by-hand', 'express-got', 'openapi-client', 'pop-core', 'floor'] as const

type Env = Readonly<Record<string, string>>

/** Starts subjects, and the upstream and issuer that they use. */
export interface Environment {
  /** The gateway with all features on: tokens of an issuer, limits, an audit trail in SQLite, a log file, metrics. */
  startGateway(upstreamUrl: string, env?: Env, nodeOptions?: readonly string[]): Promise<Subject>
  startPeer(name: (typeof PEERS)[number], upstreamUrl: string): Promise<Subject>
  /** An upstream with minimal cost: nginx with a fixed response. */
  startUpstream(): Promise<string>
  /** Ends all processes and removes the temporary folder. */
  close(): void
}

const ROOT = join(import.meta.dirname, '..')

const NGINX = (port: number): string => `
  daemon off; master_process off; pid nginx.pid; error_log stderr;
  events { worker_connections 4096; }
  http {
    access_log off; keepalive_requests 1000000000;
    ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${name};`).join(' ')}
    server {
      listen 127.0.0.1:${port} backlog=4096;
      default_type application/json;
      location / { return 200 '{"RequestId":"010E55C9-4CFF-4F29-9D8B-8F5D2B0E5C2A"}'; }
    }
  }`

/** The arguments of Node in `npm start` (`exec node …`): options and the file. */
export const START: readonly string[] = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
  .scripts.start.split(' ')
  .slice(2)

export const openEnvironment = async (gatewayArgs: readonly string[] = START): Promise<Environment> => {
  const folder = mkdtempSync(join(tmpdir(), 'gateway-bench-'))
  const issuer = await startIssuer()
  const headers = { authorization: `Bearer ${issuer.token}` }
  const children: ChildProcess[] = []

  const start = async (name: string, args: readonly string[], env: Env): Promise<Subject> => {
    const port = await closedPort()
    const log = join(folder, `${name}-${port}.log`)
    const given = { NODE_ENV: 'production', JWT_ISSUER: issuer.url, JWT_AUDIENCE: AUDIENCE, PORT: String(port) }
    const startedAtMs = performance.now()
    const child = spawn(process.execPath, args, {
      cwd: ROOT,
      env: { ...given, LOG_FILE: `${log}.peer`, ...env },
      stdio: ['ignore', openSync(log, 'a'), 'inherit'],
    })
    children.push(child)
    // Otherwise it inherits the CPU affinity of its parent.
    pin(child.pid, 'anywhere')
    const url = `http://127.0.0.1:${port}`
    while (!(await isOpen(url))) await delay(2)
    await waitForResponse(`${url}/livez`)
    const startedInMs = performance.now() - startedAtMs
    const { pid } = child
    if (pid === undefined) throw new Error(`${name} did not start`)
    pin(pid, 'measured')
    return {
      ...{ name, pid, url, headers, startedInMs, startedAtMs, outputFile: log },
      memoryMiB: () => memoryMiB(pid),
      stop: () => void child.kill('SIGKILL'),
      end: async () => {
        child.kill('SIGTERM')
        await once(child, 'close')
      },
    }
  }

  return {
    startGateway: async (upstreamUrl, env = {}, nodeOptions = []) =>
      start('the gateway', [...nodeOptions, ...gatewayArgs], {
        HOST: '127.0.0.1',
        ADMIN_PORT: '0',
        ALIBABA_CLOUD_ACCESS_KEY_ID: 'bench-key-id',
        ALIBABA_CLOUD_ACCESS_KEY_SECRET: 'bench-key-secret',
        AUDIT_URL: `sqlite:${join(folder, `${children.length}.db`)}`,
        UPSTREAM_URL: upstreamUrl,
        UPSTREAM_MAX_CONCURRENCY: '2000',
        RATE_LIMIT_MAX: '1000000',
        RATE_LIMIT_READ_MAX: '1000000',
        ...env,
      }),

    startPeer: (name, upstreamUrl) => start(name, [`bench/peers/${name}.ts`], { UPSTREAM_URL: upstreamUrl }),

    startUpstream: async () => {
      const port = await closedPort()
      writeFileSync(join(folder, 'nginx.conf'), NGINX(port))
      const args = ['-e', 'stderr', '-p', folder, '-c', 'nginx.conf']
      const child = spawn('/usr/sbin/nginx', args, { stdio: ['ignore', 'ignore', 'inherit'] })
      children.push(child)
      const url = `http://127.0.0.1:${port}`
      while (!(await isOpen(url))) await delay(2)
      pin(child.pid, 'other')
      return url
    },

    close: () => {
      for (const child of children) child.kill('SIGKILL')
      issuer.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

const waitForResponse = async (url: string): Promise<void> => {
  const response = await fetch(url)
  await response.arrayBuffer()
}
