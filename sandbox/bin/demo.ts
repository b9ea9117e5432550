import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { rmSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { createKey, sha256 } from '../../src/callers/api-keys.ts'
import { parseConfig } from '../../src/config.ts'
import { createGateway } from '../../src/gateway.ts'
import { createSandbox } from '../src/server.ts'

// The whole way on one machine: a stand-in for the upstream, the gateway, and a caller that holds no AccessKey.

const DEFAULT_PORT = 3000
const TASKS = 5
const KEYS = { accessKeyId: 'demo-key-id', accessKeySecret: randomBytes(16).toString('hex') }
const API_KEY = createKey()

const say = (text: string): void => void process.stdout.write(`${text}\n`)

const isFree = async (port: number): Promise<boolean> => {
  const probe = createServer().listen(port)
  const free = await once(probe, 'listening').then(
    () => true,
    () => false,
  )
  probe.close()
  return free
}

const settings = async (upstreamUrl: string, folder: string) => ({
  HOST: '127.0.0.1',
  ADMIN_PORT: process.env.ADMIN_PORT ?? '0',
  PORT: process.env.PORT ?? ((await isFree(DEFAULT_PORT)) ? String(DEFAULT_PORT) : '0'),
  UPSTREAM_URL: upstreamUrl,
  ALIBABA_CLOUD_ACCESS_KEY_ID: KEYS.accessKeyId,
  ALIBABA_CLOUD_ACCESS_KEY_SECRET: KEYS.accessKeySecret,
  API_KEYS: JSON.stringify([
    { name: 'demo', sha256: sha256(API_KEY).toString('hex'), scopes: ['tasks:cancel', 'tasks:read', 'audit:read'] },
  ]),
  AUDIT_URL: `sqlite:${join(folder, 'audit.db')}`,
  DOCS_ENABLED: 'true',
  CONSOLE_ENABLED: 'true',
  LOG_LEVEL: 'error',
})

const ask = (method: string, url: string, headers: Readonly<Record<string, string>> = {}): Promise<Response> =>
  fetch(url, { method, headers: { 'x-api-key': API_KEY, ...headers } })

/** Prints each change of the task, as any caller can see it, until it is cancelled. */
const watch = async (url: string): Promise<void> => {
  for (let shown = ''; ; await delay(200)) {
    const state = JSON.stringify(await (await ask('GET', url)).json(), ['status', 'cancelStatus'])
    if (state !== shown) say(`    ${state}`)
    shown = state
    if (!/"cancelStatus":"(none|cancelling)"/.test(state)) return
  }
}

const request = async (method: string, url: string): Promise<unknown> => {
  const res = await ask(method, url)
  say(`  ${res.status} ${res.statusText}`)
  return res.json()
}

const show = (value: unknown): void => say(JSON.stringify(value, null, 2).replace(/^/gm, '    '))

const run = async (): Promise<void> => {
  const folder = await mkdtemp(join(tmpdir(), 'gateway-demo-'))
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  const sandbox = await createSandbox({ ...KEYS, waitingMs: 0, executingMs: 60 * 60_000, cancellingMs: 3000 })
  const taskNos = Array.from({ length: TASKS }, (_, index) =>
    sandbox.addTask({ domains: [`example-${index + 1}.com`] }),
  )
  const [first = '', ...others] = taskNos.reverse()
  const gateway = await createGateway(parseConfig(await settings(sandbox.url, folder), () => ''))
  const listener = await gateway.listen()
  const stop = async (): Promise<void> => {
    await listener.drain(0)
    await gateway.close()
    process.exit(0)
  }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => void stop())

  say(`Upstream   ${sandbox.url}   a sandbox that stands in for domain.aliyuncs.com and checks every signature`)
  say(`Gateway    ${listener.url}   holds the AccessKey; the caller below only has an API key`)
  say('\nThe caller finds a task:\n  GET /tasks?pageSize=1')
  show(await request('GET', `${listener.url}/tasks?pageSize=1`))
  say(`\nIt cancels the task, waits for up to ten seconds, and watches:\n  DELETE /tasks/${first}   Prefer: wait=10`)
  const task = `${listener.url}/tasks/${first}`
  const [cancelled] = await Promise.all([ask('DELETE', task, { prefer: 'wait=10' }), watch(task)])
  say(`  ${cancelled.status} ${cancelled.statusText}`)
  show(await cancelled.json())
  const { Action, TaskNo, UserClientIp, Lang } = sandbox.calls.find((call) => call.effect)?.params ?? {}
  say('\nWhat the upstream received, signed:')
  show({ Action, TaskNo, UserClientIp, Lang })
  say('\nWhat the record says:\n  GET /cancellations')
  show(await request('GET', `${listener.url}/cancellations`))
  say(`
Now you (Ctrl+C ends the demo):

  curl -i -X DELETE ${listener.url}/tasks/${others[0]} -H 'X-API-Key: ${API_KEY}' -H 'Prefer: wait=10'
  curl -s ${listener.url}/tasks -H 'X-API-Key: ${API_KEY}'

More tasks to cancel: ${others.slice(1).join(' ')}

In a browser, with the same key: ${listener.url}/console

Or look at the whole interface, and try it out, at ${listener.url}/docs`)
}

run().catch((error: unknown) => {
  process.stderr.write(`The demo did not start. ${error instanceof Error ? error.message : String(error)}\n`)
  process.exit(1)
})
