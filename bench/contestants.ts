import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { connect, createServer as createTcpServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import { peakMiB, pinned } from './machine.ts'

export interface Contestant {
  readonly name: string
  readonly pid: number
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  /** From its start to its first answer. */
  readonly startedInMs: number
  readonly peakMiB: () => number
}

const ROOT = join(import.meta.dirname, '..')
const AUDIENCE = 'gateway'
const PEERS = ['by-hand', 'openapi-client', 'pop-core', 'floor'] as const

type Env = Readonly<Record<string, string>>

const freePort = async (): Promise<number> => {
  const server = createTcpServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  if (address === null || typeof address === 'string') throw new Error('there is no port')
  return address.port
}

const accepts = async (port: number): Promise<boolean> => {
  const socket = connect(port, '127.0.0.1')
  const isOpen = await once(socket, 'connect').then(
    () => true,
    () => false,
  )
  socket.destroy()
  return isOpen
}

/** An upstream that costs next to nothing: nginx, which says the same to everybody. */
const startUpstream = async (folder: string): Promise<{ readonly url: string; readonly child: ChildProcess }> => {
  const port = await freePort()
  writeFileSync(
    join(folder, 'nginx.conf'),
    `daemon off; master_process off; pid nginx.pid; error_log stderr;
    events { worker_connections 4096; }
    http {
      access_log off; keepalive_requests 1000000000;
      ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${name};`).join(' ')}
      server {
        listen 127.0.0.1:${port} backlog=4096;
        default_type application/json;
        location / { return 200 '{"RequestId":"010E55C9-4CFF-4F29-9D8B-8F5D2B0E5C2A"}'; }
      }
    }`,
  )
  const [program = '', ...args] = [
    ...pinned('other'),
    '/usr/sbin/nginx',
    '-e',
    'stderr',
    '-p',
    folder,
    '-c',
    'nginx.conf',
  ]
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'inherit'] })
  while (!(await accepts(port))) await delay(5)
  return { url: `http://127.0.0.1:${port}`, child }
}

/** Whose tokens all of them take, as far as they take any. */
const startIssuer = async () => {
  const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true })
  const jwk = { ...(await exportJWK(publicKey)), kid: 'bench', alg: 'ES256', use: 'sig' }
  const server = createServer((req, res) => {
    const body = req.url === '/jwks' ? { keys: [jwk] } : { issuer: url, jwks_uri: `${url}/jwks` }
    res.setHeader('content-type', 'application/json').end(JSON.stringify(body))
  })
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  const token = await new SignJWT({ scope: 'tasks:cancel tasks:read' })
    .setProtectedHeader({ alg: 'ES256', kid: 'bench' })
    .setIssuer(url)
    .setAudience(AUDIENCE)
    .setSubject('bench')
    .setIssuedAt()
    .setExpirationTime('2h')
    .sign(privateKey)
  return { url, token, close: () => server.close().closeAllConnections() }
}

const answers = async (url: string): Promise<boolean> => {
  const answer = await fetch(url).catch(() => null)
  await answer?.arrayBuffer()
  return answer !== null
}

const startProcess = async (name: string, args: readonly string[], env: Env, port: number, log: string) => {
  const [program = '', ...rest] = [...pinned('measured'), process.execPath, ...args]
  const startedAtMs = performance.now()
  const child = spawn(program, rest, { cwd: ROOT, env, stdio: ['ignore', openSync(log, 'a'), 'inherit'] })
  const url = `http://127.0.0.1:${port}`
  while (!(await answers(`${url}/livez`))) await delay(5)
  const { pid } = child
  if (pid === undefined) throw new Error(`${name} did not start`)
  return { name, pid, url, startedInMs: performance.now() - startedAtMs, peakMiB: () => peakMiB(pid), child }
}

export const startContestants = async () => {
  const folder = mkdtempSync(join(tmpdir(), 'gateway-bench-'))
  const [upstream, issuer] = [await startUpstream(folder), await startIssuer()]
  const headers = { authorization: `Bearer ${issuer.token}` }
  const common = { UPSTREAM_URL: upstream.url, JWT_ISSUER: issuer.url, JWT_AUDIENCE: AUDIENCE, NODE_ENV: 'production' }

  const gatewayPort = await freePort()
  const gateway = {
    ...common,
    PORT: String(gatewayPort),
    HOST: '127.0.0.1',
    ADMIN_PORT: '0',
    ALIBABA_CLOUD_ACCESS_KEY_ID: 'bench-key-id',
    ALIBABA_CLOUD_ACCESS_KEY_SECRET: 'bench-key-secret',
    AUDIT_URL: `sqlite:${join(folder, 'audit.db')}`,
    UPSTREAM_MAX_CONCURRENCY: '2000',
    RATE_LIMIT_MAX: '1000000',
  }
  const started = [
    await startProcess('the gateway', ['dist/server.js'], gateway, gatewayPort, join(folder, 'gateway.log')),
  ]
  for (const name of PEERS) {
    const port = await freePort()
    const log = join(folder, `${name}.log`)
    const env = { ...common, PORT: String(port), LOG_FILE: log }
    started.push(
      await startProcess(name.replace('-', name === 'by-hand' ? ' ' : '-'), [`bench/peers/${name}.ts`], env, port, log),
    )
  }
  return {
    contestants: started.map((one): Contestant => ({ ...one, headers })),
    stop: async () => {
      for (const { child } of [...started, upstream]) child.kill('SIGKILL')
      issuer.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
