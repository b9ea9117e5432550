import { type ChildProcess, type ChildProcessByStdio, spawn } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import type { TestContext } from 'node:test'
import type supertest from 'supertest'
import type { Sandbox } from '../../sandbox/src/server.ts'
import type { Env } from '../../src/config.ts'
import { createApi } from './contract.ts'
import { asAuditor, asOperator, baseEnv, cancelCalls, startSandbox, temporaryFolder } from './gateway.ts'
import { parseObject } from './signed-call.ts'

export const ROOT = resolve(import.meta.dirname, '../..')

export type Line = Readonly<Record<string, unknown>>

export interface ProcessExit {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface GatewayProcess {
  readonly ended: Promise<ProcessExit>
  /** Resolves with the first log line that has this message. */
  line(message: string): Promise<Line>
  kill(signal: NodeJS.Signals): void
}

export interface RunningGateway extends GatewayProcess {
  readonly url: string
  readonly api: ReturnType<typeof supertest>
  /** Audit records, newest first, read as an auditor. */
  records(query?: Readonly<Record<string, string>>): Promise<readonly Line[]>
}

export interface SpawnOptions {
  /** The file to run; default: the source of the gateway. */
  readonly entry?: string
  /** Arguments for Node. */
  readonly execArgv?: readonly string[]
  /** Default: a temporary folder. */
  readonly cwd?: string
}

/** The environment of a child process, with the compile cache of this one. */
export const withCompileCache = (env: Env): Env => ({ NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE, ...env })

/** Starts a command with only this environment, in a folder without a `.env` file. */
export const startCommand = async (t: TestContext, entry: string, env: Env, ...args: readonly string[]) => {
  const cwd = await temporaryFolder(t)
  const command = [entry, ...args]
  const child = spawn(process.execPath, command, { cwd, env: withCompileCache(env), stdio: ['ignore', 'pipe', 'pipe'] })
  const stderr = text(child.stderr)
  const ended = once(child, 'close').then(async ([code]) => ({ code, stderr: await stderr }))
  return { child, ended }
}

/** Runs a command to its end. */
export const runCommand = async (t: TestContext, entry: string, env: Env, ...args: readonly string[]) => {
  const { child, ended } = await startCommand(t, entry, env, ...args)
  const stdout = await text(child.stdout)
  return { ...(await ended), stdout }
}

/** Starts a real process with only this environment, in a folder without a `.env` file. */
export const spawnGateway = async (t: TestContext, env: Env, options: SpawnOptions = {}): Promise<GatewayProcess> => {
  const { entry = join(ROOT, 'src/server.ts'), execArgv = [] } = options
  const cwd = options.cwd ?? (await temporaryFolder(t))
  const command = [...execArgv, entry]
  const child = spawn(process.execPath, command, { cwd, env: withCompileCache(env), stdio: ['ignore', 'pipe', 'pipe'] })
  return followGateway(t, child, (signal) => void child.kill(signal))
}

/** Reads the output of a gateway that was started, and kills the gateway after the test. */
export const followGateway = (
  t: TestContext,
  child: ChildProcessByStdio<null, Readable, Readable>,
  kill: GatewayProcess['kill'],
): GatewayProcess => {
  const closed = once(child, 'close')
  t.after(async () => {
    kill('SIGKILL')
    await closed
  })
  const logged = readLines(child)
  const [stdout, stderr] = [text(child.stdout), text(child.stderr)]
  const ended = closed.then(async ([code]) => ({ code, stdout: await stdout, stderr: await stderr }))
  return { ended, line: (message) => logged(message, ended), kill }
}

/** Starts a process and waits until it listens. */
export const startProcess = async (t: TestContext, env: Env, options: SpawnOptions = {}): Promise<RunningGateway> =>
  whenListening(t, await spawnGateway(t, env, options))

/** Waits until a gateway listens. */
export const whenListening = async <T extends GatewayProcess>(
  t: TestContext,
  started: T,
): Promise<T & RunningGateway> => {
  const { address } = await started.line('listening')
  const url = String(address)
  const api = createApi(t, url)
  const records = async (query = {}) => {
    const { body } = await api
      .get('/cancellations')
      .query({ limit: '200', ...query })
      .set(asAuditor)
    return body.items
  }
  return { ...started, url, api, records }
}

/** All audit records, newest first, read page by page. */
export const allRecords = async ({ api }: Pick<RunningGateway, 'api'>): Promise<readonly Line[]> => {
  const records: Line[] = []
  for (let cursor: string | null | undefined; cursor !== null; ) {
    const query = { limit: '200', ...(cursor === undefined ? {} : { cursor }) }
    const { body } = await api.get('/cancellations').query(query).set(asAuditor).expect(200)
    records.push(...body.items)
    cursor = body.nextCursor
  }
  return records
}

/** A sandbox that checks the audit trail at `auditPath`, and the settings of a gateway that uses both. */
export const prepare = async (t: TestContext, folder?: string) => {
  const auditPath = join(folder ?? (await temporaryFolder(t)), 'audit.db')
  const sandbox = await startSandbox(t, { auditPath })
  return { sandbox, auditPath, env: baseEnv(sandbox.url, auditPath) }
}

export const addTasks = (sandbox: Sandbox, count: number): readonly string[] =>
  Array.from({ length: count }, () => sandbox.addTask())

/** Sends a cancel request; resolves with the status of the response. */
export const cancel = async (url: string, taskNo: string): Promise<number> => {
  const answer = await fetch(`${url}/tasks/${taskNo}`, { method: 'DELETE', headers: asOperator })
  await answer.arrayBuffer()
  return answer.status
}

/** Resolves when the sandbox has received that many CancelTask requests. */
export const waitForCancels = async (sandbox: Sandbox, count: number): Promise<void> => {
  while (cancelCalls(sandbox).length < count) await sandbox.nextCall('CancelTask')
}

/** Collects log lines, and ignores other output. */
const readLines = (child: ChildProcess) => {
  const lines: Line[] = []
  const arrived = new EventEmitter()
  if (child.stdout === null) throw new Error('the output of the process is not read')
  createInterface({ input: child.stdout }).on('line', (line) => {
    if (!line.startsWith('{')) return
    lines.push(parseObject(line))
    arrived.emit('line')
  })

  return async (message: string, ended: Promise<ProcessExit>): Promise<Line> => {
    const over = ended.then(({ stdout, stderr }) => {
      throw new Error(`the process ended without saying "${message}":\n${stdout}${stderr}`)
    })
    over.catch(() => undefined)
    for (;;) {
      const line = lines.find(({ msg }) => msg === message)
      if (line !== undefined) return line
      await Promise.race([once(arrived, 'line'), over])
    }
  }
}
