import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { createUpstream, type Upstream } from '../alibaba/client.ts'
import type { UpstreamResult } from '../alibaba/response.ts'
import { queryOneTask } from '../alibaba/start-probe.ts'
import type { OpenedStore } from '../audit/store.ts'
import type { Config } from '../config.ts'
import { createCredentials, openStore } from '../gateway.ts'
import { NO_METER } from '../telemetry/meter.ts'
import { NO_TRACER } from '../telemetry/tracing.ts'
import { deadlineIn, withDeadline } from '../time.ts'
import { createCollectingLog } from './finding.ts'

/** The one query that checks endpoint, clock, credentials and policy. */
export interface Queried {
  readonly upstream: Upstream
  readonly result: UpstreamResult
  /** How each attempt ended, and the milliseconds that it took. */
  readonly attempts: readonly { readonly result: string; readonly durationMs: number }[]
  /** Of the last failed attempt: the code of the network, `response`, or null. */
  readonly reason: string | null
  /** The upstream's clock minus ours in milliseconds; undefined without a response. */
  readonly clockSkewMs: number | undefined
}

/** The parts of the gateway that several checks use. Each is made at its first use. */
export interface Subject {
  readonly config: Config
  readonly env: Readonly<Record<string, string | undefined>>
  readonly execArgv: readonly string[]
  /** Whether the right to cancel is to be checked. */
  readonly isCancelProbed: boolean
  readonly instanceId: string
  query(): Promise<Queried>
  /** The path of an SQLite file that does not exist yet and that only the gateway may create; null otherwise. */
  readonly missingFile: string | null
  /** To be called only if no file is missing. @throws ConfigError where the audit trail can't be used */
  store(): Promise<OpenedStore>
  close(): Promise<void>
}

export type SubjectOptions = Pick<Subject, 'config' | 'env' | 'execArgv' | 'isCancelProbed'>

const CLOSE_MS = 2000

export const createSubject = (options: SubjectOptions): Subject => {
  const { config, isCancelProbed } = options
  const { audit } = config
  // A check of the settings must not leave a file of another user where the gateway would create its own.
  const isMissing = audit.kind === 'sqlite' && !existsSync(audit.path) && !isCancelProbed
  const closing = new AsyncDisposableStack()
  let queried: Promise<Queried> | undefined
  let opened: Promise<OpenedStore> | undefined

  const query = async (): Promise<Queried> => {
    const log = createCollectingLog()
    const attempts: { result: string; durationMs: number }[] = []
    const meter = { ...NO_METER, attempt: (attempt: (typeof attempts)[number]) => void attempts.push(attempt) }
    const credentials = await createCredentials(config.credentials, log, undefined)
    closing.defer(credentials.close)
    const upstream = createUpstream({ ...config.upstream, credentials, log, meter, tracer: NO_TRACER })
    closing.defer(upstream.close)
    const result = await queryOneTask(upstream, deadlineIn(config.requestTimeoutMs))
    const { reason } = log.lines.findLast(({ fields }) => fields.action === 'QueryTaskList')?.fields ?? {}
    const { clockSkewMs } = upstream.state()
    return { upstream, result, attempts, reason: typeof reason === 'string' ? reason : null, clockSkewMs }
  }

  const open = async (): Promise<OpenedStore> => {
    // Only the gateway, or npm run migrate, changes tables.
    const store = await openStore(audit.kind === 'sqlite' ? audit : { ...audit, adminUrl: undefined })
    closing.defer(() => withDeadline(deadlineIn(CLOSE_MS), store.close(), undefined))
    return store
  }

  return {
    ...options,
    instanceId: randomUUID(),
    missingFile: isMissing ? audit.path : null,
    query: () => {
      queried ??= query()
      return queried
    },
    store: () => {
      opened ??= open()
      return opened
    },
    close: () => closing.disposeAsync(),
  }
}
