import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { TestContext } from 'node:test'
import { closedPort } from './ports.ts'
import { type Database, PASSWORDS } from './postgres.ts'

const PROGRAM = 'pgbouncer'

export const hasPgbouncer = (): boolean => spawnSync(PROGRAM, ['--version']).status === 0

/** Starts PgBouncer before the server in session mode, with only the required settings, and returns its port. */
export const startPgbouncer = async (t: TestContext, database: Database): Promise<number> => {
  const [folder, port] = [mkdtempSync(join(tmpdir(), 'gateway-pgbouncer-')), await closedPort()]
  t.after(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }))
  const users = Object.entries(PASSWORDS).map(([role, password]) => `"${role}" "${password}"`)
  const settings = [
    ...['[databases]', `* = host=127.0.0.1 port=${database.port}`, '[pgbouncer]', 'pool_mode = session'],
    ...['listen_addr = 127.0.0.1', `listen_port = ${port}`, 'unix_socket_dir ='],
    ...['auth_type = scram-sha-256', `auth_file = ${join(folder, 'users')}`],
  ]
  const [userFile, settingsFile] = [join(folder, 'users'), join(folder, 'pgbouncer.ini')]
  // PgBouncer refuses to run as root: it reads the files, and then changes its user.
  writeFileSync(userFile, `${users.join('\n')}\n`, { mode: 0o644 })
  writeFileSync(settingsFile, `${settings.join('\n')}\n`, { mode: 0o644 })
  const asUser = process.getuid?.() === 0 ? ['--user', 'postgres'] : []
  const child = spawn(PROGRAM, [...asUser, settingsFile], { stdio: ['ignore', 'ignore', 'pipe'] })
  const ended = once(child, 'exit')
  t.after(async () => {
    child.kill('SIGKILL')
    await ended
  })
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const said: string[] = []
  createInterface({ input: child.stderr }).on('line', (line) => {
    said.push(line)
    if (line.includes('process up')) resolve()
  })
  child.once('exit', () => reject(new Error(`pgbouncer ended: ${said.join('\n')}`)))
  await promise
  return port
}
