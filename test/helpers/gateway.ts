import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import type supertest from 'supertest'
import { createSandbox, type Sandbox, type SandboxOptions } from '../../sandbox/src/server.ts'
import { openSqliteStore } from '../../src/audit/sqlite.ts'
import { sha256 } from '../../src/callers/api-keys.ts'
import { type Env, parseConfig } from '../../src/config.ts'
import { createGateway, type Overrides } from '../../src/gateway.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { createApi } from './contract.ts'
import { startSharedWorker } from './shared-threads.ts'

/** Secrets that must not appear in any output; the leak test searches for them. */
export const CANARIES = {
  accessKeyId: 'LTAI-canary-key-id',
  accessKeySecret: 'canary-key-secret',
  securityToken: 'canary-sts-token',
  operatorKey: 'canary-api-key-of-operator',
  readerKey: 'canary-api-key-of-reader',
  auditorKey: 'canary-api-key-of-auditor',
} as const

export const asOperator = { 'x-api-key': CANARIES.operatorKey }
export const asReader = { 'x-api-key': CANARIES.readerKey }
export const asAuditor = { 'x-api-key': CANARIES.auditorKey }

const entry = (name: string, key: string, ...scopes: string[]) => ({
  name,
  sha256: sha256(key).toString('hex'),
  scopes,
})

/** Two keys have the name of the operator, with different scopes: a name alone must grant nothing. */
export const API_KEYS = JSON.stringify([
  entry('operator', CANARIES.operatorKey, 'tasks:cancel', 'tasks:read'),
  entry('operator', CANARIES.readerKey, 'tasks:read'),
  entry('auditor', CANARIES.auditorKey, 'audit:read', 'tasks:cancel'),
])

export const baseEnv = (upstreamUrl: string, auditPath: string): Env => ({
  PORT: '0',
  ADMIN_PORT: '0',
  HOST: '127.0.0.1',
  ALIBABA_CLOUD_ACCESS_KEY_ID: CANARIES.accessKeyId,
  ALIBABA_CLOUD_ACCESS_KEY_SECRET: CANARIES.accessKeySecret,
  UPSTREAM_URL: upstreamUrl,
  API_KEYS,
  AUDIT_URL: `sqlite:${auditPath}`,
  RATE_LIMIT_MAX: '100000',
  RATE_LIMIT_READ_MAX: '100000',
  RATE_LIMIT_UNKNOWN_MAX: '100000',
})

export interface Started {
  readonly api: ReturnType<typeof supertest>
  readonly url: string
  /** The base URL of the metrics. */
  readonly adminUrl: string
  readonly upstream: Sandbox
  /** All log lines so far. */
  readonly logLines: readonly string[]
  readonly auditPath: string
  /** The newest audit record of a task, read as an auditor. */
  record(taskNo: string): Promise<Readonly<Record<string, unknown>>>
  stop(): Promise<void>
}

export interface StartOptions {
  readonly env?: Env
  readonly sandbox?: Partial<SandboxOptions>
  readonly overrides?: Overrides
  /** Reads the files that settings name. */
  readonly readFile?: (path: string) => string
}

/** A folder that is removed after the test. */
export const temporaryFolder = async (t: TestContext): Promise<string> => {
  const folder = await mkdtemp(join(tmpdir(), 'gateway-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** Long enough that no task becomes cancelled during a test, even on a slow machine. */
const CANCELLING_MS = 3_600_000

export const startSandbox = async (t: TestContext, options: Partial<SandboxOptions> = {}): Promise<Sandbox> => {
  const { accessKeyId, accessKeySecret } = CANARIES
  const sandbox = await createSandbox({ accessKeyId, accessKeySecret, cancellingMs: CANCELLING_MS, ...options })
  t.after(() => sandbox.close())
  return sandbox
}

/** The CancelTask requests that a sandbox received. */
export const cancelCalls = ({ calls }: Sandbox) => calls.filter(({ action }) => action === 'CancelTask')

/** Tests count calls of upstream: only those that set a pause follow cancellations, without a pause between calls. */
const QUIET_FOLLOW_UP = { settlementPauseMs: () => 86_400_000, followUpCallEveryMs: 1 }

/** Starts a real gateway on a free port, with its own sandbox. */
export const startGateway = async (t: TestContext, options: StartOptions = {}): Promise<Started> => {
  const auditPath = join(await temporaryFolder(t), 'audit.db')
  const upstream = await startSandbox(t, options.sandbox)
  const logLines: string[] = []
  const log = createLog({ level: 'info', destination: { write: (line) => void logLines.push(line) } })
  const config = parseConfig({ ...baseEnv(upstream.url, auditPath), ...options.env }, options.readFile ?? (() => ''))
  const timings = { ...QUIET_FOLLOW_UP, ...options.overrides?.timings }
  const openStore: Overrides['openStore'] = (path) => openSqliteStore(path, startSharedWorker)
  const gateway = await createGateway(config, { log, openStore, ...options.overrides, timings })
  const listener = await gateway.listen().catch(async (error) => {
    await gateway.close()
    throw error
  })
  let stopped: Promise<void> | undefined
  const stop = (): Promise<void> => {
    stopped ??= listener.drain(0).then(() => gateway.close())
    return stopped
  }
  t.after(async () => {
    await upstream.close()
    await stop()
  })
  const api = createApi(t, listener.url)
  const record = async (taskNo: string) => {
    const { body } = await api.get('/cancellations').query({ taskNo }).set(asAuditor)
    return body.items[0]
  }
  const { url, adminUrl } = listener
  return { api, url, adminUrl, upstream, logLines, auditPath, record, stop }
}

/** Less than the timeout of a test, so that the failure names the condition. */
const EVENTUALLY_TIMEOUT_MS = 60_000

/** Polls, once in each turn of the event loop, until the result is defined. */
export const eventually = async <T>(ask: () => T | undefined | Promise<T | undefined>): Promise<T> => {
  for (const end = performance.now() + EVENTUALLY_TIMEOUT_MS; performance.now() < end; await setImmediate()) {
    const answer = await ask()
    if (answer !== undefined) return answer
  }
  throw new Error('it never came true')
}
