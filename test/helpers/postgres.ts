import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import type { TestContext } from 'node:test'
import { promisify } from 'node:util'
import { Client } from 'pg'
import { eventually } from './gateway.ts'
import { closedPort, listenOn } from './ports.ts'
import { shareServer } from './shared-server.ts'
import { closeTogether } from './upstream-proxy.ts'

const VERSIONS = '/usr/lib/postgresql'

/** The folder of the newest PostgreSQL server on this machine. */
const binaries = (): string | undefined =>
  existsSync(VERSIONS)
    ? readdirSync(VERSIONS)
        .sort((a, b) => Number(b) - Number(a))
        .map((version) => join(VERSIONS, version, 'bin'))
        .find((folder) => existsSync(join(folder, 'initdb')))
    : undefined

/** Runs a program of PostgreSQL, such as `pg_dump`. @throws if it fails */
export const runPostgresTool = async (name: string, ...args: readonly string[]): Promise<void> => {
  await promisify(execFile)(join(binaries() ?? '', name), args)
}

export const hasPostgres = (): boolean => binaries() !== undefined

/** Secrets that must not appear in any output. */
export const PASSWORDS = {
  superuser: 'canary-password-of-superuser',
  record_owner: 'canary-password-of-owner',
  gateway: 'canary-password-of-gateway',
  stranger: 'canary-password-of-stranger',
} as const

export type Role = keyof typeof PASSWORDS

export interface Database {
  readonly port: number
  /** The connection URL of a role, optionally with the port of a proxy. */
  url(role: Role, port?: number): string
  /** Runs as the superuser unless a role is given. */
  query(sql: string, role?: Role): Promise<readonly Readonly<Record<string, unknown>>[]>
  /** A superuser connection that stays open until the end of the test, for open transactions. */
  session(t: TestContext): Promise<(sql: string) => Promise<unknown>>
  /** Drops it, for tests that make many. */
  remove(): Promise<void>
}

export interface PostgresServer {
  /** Reachable from any network namespace. */
  readonly socketPath: string
  /** Creates an empty database, owned by `record_owner`. */
  database(): Promise<Database>
  /** Stops immediately, as in a crash. */
  stop(): Promise<void>
  start(): Promise<void>
  /** Stops all its processes with SIGSTOP: the kernel accepts data, and the server does not respond. */
  freeze(): void
  thaw(): void
}

/**
 * One server for the tests of a file, in a temporary folder, from the first use until the last test, with further
 * settings such as `fsync=on`.
 */
export const usePostgres = (...settings: readonly string[]): ((t: TestContext) => Promise<PostgresServer>) =>
  shareServer(() => startServer(settings))

const startServer = async (settings: readonly string[]) => {
  const [folder, port] = [mkdtempSync(join(tmpdir(), 'gateway-postgres-')), await closedPort()]
  const owner = ownerOfServers()
  if (owner !== null) chownSync(folder, owner.uid, owner.gid)
  initialize(folder, owner)
  let child = await launch(folder, port, owner, settings)
  let databases = 0

  const stop = async (): Promise<void> => {
    signalAll(child, 'SIGCONT')
    const ended = child.exitCode === null && child.signalCode === null ? once(child, 'exit') : undefined
    child.kill('SIGQUIT')
    await ended
  }

  const server: PostgresServer & { remove(): Promise<void> } = {
    socketPath: join(folder, `.s.PGSQL.${port}`),
    database: async () => {
      databases += 1
      const name = `record_${databases}`
      await ask(urlOf('superuser', port, 'postgres'), `CREATE DATABASE ${name} OWNER record_owner ${STRATEGY}`)
      return databaseOf(port, name)
    },
    stop,
    start: async () => {
      child = await launch(folder, port, owner, settings)
    },
    freeze: () => signalAll(child, 'SIGSTOP'),
    thaw: () => signalAll(child, 'SIGCONT'),
    remove: async () => {
      await stop()
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
    },
  }
  for (const role of ['record_owner', 'gateway', 'stranger'] as const) {
    await ask(urlOf('superuser', port, 'postgres'), `CREATE ROLE ${role} LOGIN PASSWORD '${PASSWORDS[role]}'`)
  }
  return server
}

/** A copy of files takes a third of the usual way, which writes each page to the log as well. Earlier versions copy. */
const STRATEGY = Number(binaries()?.split('/').at(-2)) >= 15 ? 'STRATEGY file_copy' : ''

const databaseOf = (serverPort: number, name: string): Database => ({
  port: serverPort,
  url: (role, port = serverPort) => urlOf(role, port, name),
  query: (sql, role = 'superuser') => ask(urlOf(role, serverPort, name), sql),
  session: async (t) => {
    const client = await connectTo(urlOf('superuser', serverPort, name))
    t.after(() => client.end())
    return (sql) => client.query(sql)
  },
  remove: async () => {
    await ask(urlOf('superuser', serverPort, 'postgres'), `DROP DATABASE ${name} WITH (FORCE)`)
  },
})

const urlOf = (role: Role, port: number, database: string): string =>
  `postgres://${role}:${PASSWORDS[role]}@127.0.0.1:${port}/${database}`

const connectTo = async (connectionString: string): Promise<Client> => {
  const client = new Client({ connectionString })
  client.on('error', () => undefined)
  await client.connect()
  return client
}

const ask = async (connectionString: string, sql: string): Promise<readonly Readonly<Record<string, unknown>>[]> => {
  const client = await connectTo(connectionString)
  try {
    return (await client.query(sql)).rows
  } finally {
    await client.end()
  }
}

interface Owner {
  readonly uid: number
  readonly gid: number
}

/** The server refuses to run as root; Debian's package creates a user for it. */
const ownerOfServers = (): Owner | null => {
  if (process.getuid?.() !== 0) return null
  const numberOf = (flag: string): number => Number(spawnSync('id', [flag, 'postgres']).stdout)
  return { uid: numberOf('-u'), gid: numberOf('-g') }
}

const CACHE = join(import.meta.dirname, '../../node_modules/.cache')
const INITDB_FLAGS = ['--no-sync', '--locale=C', '--encoding=UTF8', '--auth=scram-sha-256', '--username=superuser']

/** A new data folder: a copy of the first one that these programs have made with this user, which takes a tenth. */
const initialize = (folder: string, owner: Owner | null): void => {
  const [data, passwordFile] = [join(folder, 'data'), join(folder, 'password')]
  const kind = JSON.stringify([binaries(), INITDB_FLAGS, PASSWORDS.superuser, process.getuid?.()])
  const template = join(CACHE, `postgres-${createHash('sha256').update(kind).digest('hex')}`)
  if (existsSync(template)) {
    copyFolder(template, data)
    return
  }
  writeFileSync(passwordFile, PASSWORDS.superuser, { mode: 0o644 })
  const { status, stderr } = spawnSync(
    join(binaries() ?? '', 'initdb'),
    [...INITDB_FLAGS, `--pwfile=${passwordFile}`, `--pgdata=${data}`],
    { cwd: folder, ...owner },
  )
  if (status !== 0) throw new Error(`initdb failed: ${stderr}`)
  keepTemplate(data, template)
}

/** With its owner, whom the server requires. */
const copyFolder = (from: string, to: string): void => {
  const { status, stderr } = spawnSync('cp', ['-a', from, to])
  if (status !== 0) throw new Error(`the copy of the data folder failed: ${stderr}`)
}

/** In one step, since other test files start at the same moment. */
const keepTemplate = (data: string, template: string): void => {
  mkdirSync(dirname(template), { recursive: true })
  const unfinished = `${template}.${process.pid}`
  copyFolder(data, unfinished)
  try {
    renameSync(unfinished, template)
  } catch {
    // Another test file was faster.
    rmSync(unfinished, { recursive: true, force: true })
  }
}

// No fsync: the data is temporary. No autovacuum: only the tests consume transaction numbers.
const SETTINGS = ['fsync=off', 'autovacuum=off', 'shared_buffers=16MB', 'listen_addresses=127.0.0.1']

const launch = async (
  folder: string,
  port: number,
  owner: Owner | null,
  further: readonly string[],
): Promise<ChildProcess> => {
  const all = [...SETTINGS, `port=${port}`, `unix_socket_directories=${folder}`, ...further]
  const settings = all.flatMap((text) => ['-c', text])
  const child = spawn(join(binaries() ?? '', 'postgres'), ['-D', join(folder, 'data'), ...settings], {
    cwd: folder,
    stdio: ['ignore', 'ignore', 'pipe'],
    ...owner,
  })
  const said: string[] = []
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  createInterface({ input: child.stderr }).on('line', (line) => {
    said.push(line)
    if (line.includes('ready to accept connections')) resolve()
  })
  child.once('exit', () => reject(new Error(`postgres ended: ${said.join('\n')}`)))
  await promise
  return child
}

/** The list of children is complete while their parent is stopped: it then removes none that has ended. */
const signalAll = ({ pid }: ChildProcess, signal: 'SIGSTOP' | 'SIGCONT'): void => {
  if (pid === undefined || !existsSync(`/proc/${pid}`)) return
  if (signal === 'SIGSTOP') process.kill(pid, signal)
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean)
  for (const child of children) {
    try {
      process.kill(Number(child), signal)
    } catch {
      // A process that serves a connection ends with the connection.
    }
  }
  if (signal === 'SIGCONT') process.kill(pid, signal)
}

/** Resolves once a statement waits for a lock. */
export const waitForBlockedStatement = (database: Database): Promise<true> =>
  eventually(async () => {
    const [row] = await database.query('SELECT count(*)::int AS count FROM pg_locks WHERE NOT granted')
    return Number(row?.count) > 0 || undefined
  })

/** A proxy before the server. During `cutDuring` it forwards statements and resets connections before they respond. */
export const startCuttingProxy = async (t: TestContext, database: Database) => {
  let isArmed = false
  const relay = (near: Socket): void => {
    const far = connect(database.port, '127.0.0.1')
    closeTogether(near, far)
    near.pipe(far)
    far.on('data', (chunk) => {
      if (isArmed) near.resetAndDestroy()
      else near.write(chunk)
    })
  }
  const port = await listenOn(t, createServer(relay))
  return {
    port,
    cutDuring: async (work: () => Promise<unknown>) => {
      isArmed = true
      await work()
      isArmed = false
    },
  }
}
