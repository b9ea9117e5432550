import { type ChildProcess, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'

// Fills the folder in NODE_COMPILE_CACHE: `node OPTIONS build/compile-cache.ts`. Node reads a cache only with the same
// version, options of V8 and user that wrote it, and on a processor with the same features.

const DIST = resolve('dist')

/** Nothing listens there, so that calls of the upstream and of issuers fail at once. */
const NOWHERE = 'http://127.0.0.1:9'

/** Settings that load what a usual start loads, and need no other server. */
const settingsFor = (folder: string, key: string) => ({
  ...{ HOST: '127.0.0.1', PORT: '0', ADMIN_PORT: '0', LOG_LEVEL: 'info', NODE_ENV: 'production' },
  ...{ AUDIT_URL: `sqlite:${join(folder, 'audit.db')}`, UPSTREAM_URL: NOWHERE },
  ...{ ALIBABA_CLOUD_ACCESS_KEY_ID: 'none', ALIBABA_CLOUD_ACCESS_KEY_SECRET: 'none' },
  API_KEYS: JSON.stringify([{ name: 'build', sha256: sha256(key), scopes: ['tasks:cancel'] }]),
  ...{ JWT_ISSUER: NOWHERE, JWT_AUDIENCE: 'build' },
})

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex')

const start = (args: readonly string[], env: Readonly<Record<string, string>>): ChildProcess =>
  spawn(process.execPath, [...process.execArgv, ...args], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  })

const endOf = async (child: ChildProcess): Promise<void> => {
  const [code] = await once(child, 'exit')
  if (code !== 0) throw new Error(`the process ended with ${code}`)
}

/** The address in the line that says so. */
const listening = async ({ stdout }: ChildProcess): Promise<string> => {
  if (stdout === null) throw new Error('the output of the process is not read')
  for await (const line of createInterface({ input: stdout })) {
    const { msg, address } = JSON.parse(line)
    if (msg === 'listening') return String(address)
  }
  throw new Error('the gateway did not start')
}

/** A start, and a cancellation that no upstream receives. */
const runGateway = async (): Promise<void> => {
  const [folder, key] = [mkdtempSync(join(tmpdir(), 'compile-cache-')), randomBytes(32).toString('base64url')]
  const gateway = start([join(DIST, 'server.js')], settingsFor(folder, key))
  const ended = endOf(gateway)
  const url = await listening(gateway)
  gateway.stdout?.resume()
  const { status } = await fetch(`${url}/tasks/none`, { method: 'DELETE', headers: { 'X-API-Key': key } })
  gateway.kill('SIGTERM')
  await ended
  rmSync(folder, { recursive: true })
  if (status !== 503) throw new Error(`the response to the cancel request was ${status}`)
}

/** Chunks that the start did not load: of other databases, of traces and sign-in. */
const loadChunks = async (): Promise<void> => {
  const chunks = readdirSync(DIST).filter((file) => /-[A-Z\d]{8}\.js$/.test(file))
  const script = chunks.map((file) => `await import(${JSON.stringify(`./dist/${file}`)})`).join('\n')
  await endOf(start(['--input-type=module', '--eval', script], {}))
}

await runGateway()
await loadChunks()
// Node lets nobody but the writer read the files. In the image they belong to root.
for (const entry of readdirSync(String(process.env.NODE_COMPILE_CACHE), { recursive: true, withFileTypes: true })) {
  chmodSync(join(entry.parentPath, entry.name), entry.isDirectory() ? 0o755 : 0o644)
}
