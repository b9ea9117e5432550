import { randomUUID } from 'node:crypto'
import { ASSUMPTIONS, createContradictionReport } from './alibaba/assumptions.ts'
import { createCredentialFiles } from './alibaba/credential-files.ts'
import { type CredentialProvider, fixedCredentials } from './alibaba/credentials.ts'
import type { Credentials } from './alibaba/signing.ts'
import { createStartProbe } from './alibaba/start-probe.ts'
import { createTaskQueries } from './alibaba/task-queries.ts'
import type { AppParts } from './app.ts'
import { createAuditTrail } from './audit/audit-trail.ts'
import { createMaintenance } from './audit/maintenance.ts'
import { isFolderShared } from './audit/record-files.ts'
import { openSqliteStore } from './audit/sqlite.ts'
import { type OpenedStore, OUTCOMES } from './audit/store.ts'
import { createApiKeys, parseApiKeys } from './callers/api-keys.ts'
import { createGrants, type Grants, parseGrants } from './callers/grants.ts'
import type { KeySetTiming } from './callers/jwks.ts'
import type { SessionOptions } from './callers/session.ts'
import type { SignInOptions } from './callers/sign-in.ts'
import { createSignOuts, type SignOuts } from './callers/sign-outs.ts'
import { watchFile } from './callers/watched-file.ts'
import type { Config } from './config.ts'
import type { SharedStore, SharedStoreTiming } from './http/middleware/redis-store.ts'
import { PROBLEMS } from './http/presentation/problems.ts'
import type { AuthRouteOptions } from './http/routes/auth-routes.ts'
import { createReadiness, createSharedCheck, type Lifecycle } from './http/routes/health.ts'
import type { AdminAppParts } from './http/server/admin-app.ts'
import { CLOSE_REASONS } from './http/server/connections.ts'
import { type Listener, type ListenerOptions, listen } from './http/server/http-server.ts'
import { createCancellations } from './tasks/cancel.ts'
import { createEnds } from './tasks/ends.ts'
import { createFollowUp, followUpCallEveryMs } from './tasks/follow-up.ts'
import { createLookup } from './tasks/lookup.ts'
import { createPermissions } from './tasks/permission.ts'
import { createTaskDomains } from './tasks/task-domains.ts'
import { createLog, type Log, type ProcessLog } from './telemetry/log.ts'
import { NO_METER } from './telemetry/meter.ts'
import { createMetrics, type GaugeSources } from './telemetry/metrics.ts'
import type { OtelOptions } from './telemetry/otel.ts'
import { NO_TRACER, type Tracing } from './telemetry/tracing.ts'
import { type Deadline, deadlineIn, withDeadline } from './time.ts'

export interface Gateway {
  /** Opens the ports. @throws ConfigError where one can't be opened */
  listen(): Promise<Listener & { readonly adminUrl: string }>
  /** After the last response: finishes and records the work in flight by the deadline, and closes every part. */
  close(deadline?: Deadline): Promise<void>
}

/** Intervals and limits of time, in milliseconds, that tests shorten or lengthen. */
export interface Timings {
  /** Interval at which abandoned intents of other gateways are looked for. */
  readonly maintenanceEveryMs?: number
  readonly keySet?: Partial<KeySetTiming>
  /** Interval at which files of callers and of credentials are polled. */
  readonly watchEveryMs?: number
  /** Time for which one reading of tasks serves later requests. */
  readonly lookupTtlMs?: number
  /** Time that a list waits for the domains of its tasks. */
  readonly domainsWaitMs?: number
  /** Delay before spans are sent. */
  readonly traceDelayMs?: number
  /** Timeout of a request to the trace collector. */
  readonly traceTimeoutMs?: number
  readonly sharedStore?: Partial<SharedStoreTiming>
  /** Pause before the next reading of the task of an open cancellation of that age. */
  readonly settlementPauseMs?: (ageMs: number) => number
  /** Time between the calls of the follow-up. */
  readonly followUpCallEveryMs?: number
  /** Time between the readings that prove the end of a task. */
  readonly followUpQuietMs?: number
  /** Interval at which replicas tell that they are at work. */
  readonly beatEveryMs?: number
  /** Time that a peer may take to read one response. */
  readonly readTimeoutMs?: number
  /** Pause after the query of that number that checks the credentials at the start. */
  readonly startProbePauseMs?: (query: number) => number
}

/** The log of the process, and parts that tests replace. */
export interface Overrides {
  readonly log?: ProcessLog
  readonly timings?: Timings
  readonly openStore?: (path: string) => Promise<OpenedStore>
  /** The wall clock of sign-ins, sessions and the follow-up. */
  readonly now?: () => number
  /** Certificate authorities for the upstream. */
  readonly ca?: string
  /** Queries the upstream at the start to check the credentials. Off by default, so that tests can count calls. */
  readonly isStartProbed?: boolean
}

/** Constructs every part explicitly. @throws ConfigError where the audit trail can't be used */
export const createGateway = async (config: Config, overrides: Overrides = {}): Promise<Gateway> => {
  // Express and got take as long to load as the thread of the audit trail takes to start.
  const [parts, { createApp }, { createAdminApp }] = await Promise.all([
    createParts(config, overrides),
    import('./app.ts'),
    import('./http/server/admin-app.ts'),
  ])
  const { http, log, meter, gauges, instanceId, sharedStore } = parts
  const app = createApp(http.app)
  const adminApp = createAdminApp(http.adminApp)
  let admin: Listener | undefined
  let listener: Listener | undefined
  meter.registerGauges({ ...gauges, connections: () => listener?.connections() ?? 0 })
  // After `createApp`: a connection takes the limits that are known by then.
  await sharedStore?.connect()
  return {
    listen: async () => {
      admin = await listen(adminApp, http.adminListener)
      listener = await listen(app, http.listener)
      log.info('listening', { address: listener.url, adminAddress: admin.url, instanceId })
      parts.start()
      return { ...listener, adminUrl: admin.url }
    },
    close: async (deadline) => {
      await parts.close(deadline)
      admin?.close()
    },
  }
}

/** All parts but the two apps and their ports. Closes them in the reverse order of their construction. */
export const createParts = async (config: Config, overrides: Overrides) => {
  const { timings = {}, now } = overrides
  const log = overrides.log ?? createLog({ level: config.logLevel, addresses: config.logAddresses })
  const initialLabels = { codes: Object.keys(PROBLEMS), outcomes: OUTCOMES, closeReasons: CLOSE_REASONS }
  const meter = createMetrics({ ...initialLabels, assumptions: ASSUMPTIONS })
  const instanceId = randomUUID()
  const closing = new AsyncDisposableStack()
  let closeBy = deadlineIn(0)

  const tracing = await createTracing({ endpoint: config.otlpEndpoint, instanceId, log, meter }, timings)
  const tracer = tracing ?? NO_TRACER
  closing.defer(() =>
    withDeadline(deadlineIn(TRACES_MS), tracing?.close().catch(() => undefined) ?? Promise.resolve(), undefined),
  )
  const [store, { createUpstream }] = await Promise.all([
    openStore(config.audit, overrides),
    import('./alibaba/client.ts'),
  ])
  if (store.recovered > 0) {
    log.warn('pending cancellations of a crashed process were recorded as unknown', { recovered: store.recovered })
  }
  if (config.audit.kind === 'sqlite' && isFolderShared(config.audit.path)) {
    log.warn('other users can replace files in the folder of the audit database', { setting: 'AUDIT_URL' })
  }
  const credentials = await createCredentials(config.credentials, log, timings.watchEveryMs)
  closing.defer(credentials.close)
  const onContradiction = createContradictionReport({ log, meter })
  const observers = { log, meter, tracer, onContradiction }
  const client = createUpstream({ ...config.upstream, credentials, ca: overrides.ca, ...observers })
  closing.defer(client.close)
  const startProbe = overrides.isStartProbed
    ? createStartProbe({
        ...{ upstream: client, log },
        ...{ timeoutMs: config.requestTimeoutMs, pauseMs: timings.startProbePauseMs },
      })
    : null
  closing.defer(() => startProbe?.close())
  const upstream = startProbe?.upstream ?? client
  const ends = createEnds({ store })
  const trail = createAuditTrail({ store, log, meter, onOutcome: ends.readSoon })
  closing.defer(() => trail.close(closeBy))
  closing.defer(ends.close)

  const queries = createTaskQueries({ upstream, log, onContradiction })
  const { requestTimeoutMs, policyDetailsLimit: detailsLimit } = config
  const reading = { queries, timeoutMs: requestTimeoutMs, ttlMs: timings.lookupTtlMs }
  const lookup = createLookup({ ...reading, limit: config.taskLookupLimit })
  const permissions = createPermissions({ ...reading, detailsLimit })
  const taskDomains = createTaskDomains({ ...reading, waitMs: timings.domainsWaitMs })
  const followUp = createFollowUp({
    ...{ trail, store, queries, log, meter, instanceId, onContradiction, lookupLimit: config.taskLookupLimit },
    callEveryMs: timings.followUpCallEveryMs ?? followUpCallEveryMs(config.upstream.maxPerSecond),
    ...{ pauseMs: timings.settlementPauseMs, beatEveryMs: timings.beatEveryMs, quietMs: timings.followUpQuietMs, now },
  })
  closing.defer(followUp.close)
  const { max, readMax, unknownMax, windowMs } = config.rateLimit
  const refusalLimit = { max: Math.max(1, Math.floor(max / REFUSALS_SHARE)), windowMs }
  const work = { upstream, lookup, permissions, followUp, trail }
  const cancellations = createCancellations({ ...work, log, meter, tracer, instanceId, refusalLimit })
  closing.defer(() => withDeadline(closeBy, cancellations.idle(), undefined))
  const { retentionDays } = config.audit
  const everyMs = timings.maintenanceEveryMs
  const maintenance = createMaintenance({ store, retentionDays, onAbandoned: followUp.track, log, everyMs })
  closing.defer(maintenance.close)

  const signOuts = createSignOuts(now)
  const sharedStore = await createSharedStoreIfSet(config, signOuts, log, timings)
  closing.defer(() => sharedStore?.close())
  const callers = await createCallers(config, sharedSignOuts(signOuts, sharedStore), log, overrides)
  closing.defer(callers.close)
  if (config.allowAnonymous) log.warn('every user of this machine may cancel tasks', { setting: 'ALLOW_ANONYMOUS' })

  const lifecycle: Lifecycle = { phase: 'serving' }
  const isAuditWritable = createSharedCheck(trail.isWritable)
  const readiness = createReadiness({
    ...{ lifecycle, isAuditWritable, hasCredentials: credentials.isReady },
    areCredentialsRejected: async () => (await startProbe?.isRefused()) ?? false,
  })
  const rateLimitStore = () => sharedStore?.inUse()
  // Probes come every few seconds, and they are no requests of callers: they are neither logged nor counted.
  const quiet = { ...log, info: () => undefined }
  const { publicUrl, corsOrigins, trustProxy, admin } = config
  const { readTimeoutMs = READ_TIMEOUT_MS } = timings
  const { apiKeys, tokens, auth } = callers
  // Everything that http/ receives: neither the Config nor a Secret is among it.
  const http = {
    app: {
      ...{ apiKeys, tokens, auth, allowAnonymous: config.allowAnonymous },
      ...{ publicUrl, corsOrigins, trustProxy, requestTimeoutMs },
      ...{ queries, lookup, permissions, taskDomains, cancellations, trail, ends, followUp },
      ...{ log, meter, tracing, lifecycle, readiness, rateLimitStore },
      rateLimit: { max, readMax, unknownMax, windowMs, storeFor: sharedStore?.storeFor },
      ...(await loadPages(config)),
    } satisfies AppParts,
    adminApp: {
      ...{ host: admin.host, publicUrl, trustProxy, requestTimeoutMs, metrics: meter },
      ...{ log: quiet, meter: NO_METER, readiness, rateLimitStore },
    } satisfies AdminAppParts,
    listener: {
      ...{ kind: 'public', host: config.host, port: config.port, publicUrl, corsOrigins, lifecycle, log, meter },
      connections: { ...config.connections, exempt: trustProxy, readTimeoutMs },
    } satisfies ListenerOptions,
    adminListener: {
      ...{ kind: 'admin', host: admin.host, port: admin.port, publicUrl, corsOrigins: [], lifecycle, log: quiet },
      meter: { ...NO_METER, connectionClosed: meter.connectionClosed },
      connections: { ...ADMIN_CONNECTIONS, readTimeoutMs },
    } satisfies ListenerOptions,
  }
  const gauges: Omit<GaugeSources, 'connections'> = {
    inFlight: (priority) => upstream.state().priorities[priority].inFlight,
    waiting: (priority) => upstream.state().priorities[priority].waiting,
    isUnhealthy: (priority) => upstream.state().priorities[priority].isUnhealthy,
    isThrottled: () => upstream.state().isThrottled,
    clockSkewMs: () => upstream.state().clockSkewMs,
    credentialsAgeMs: () => credentials.state().ageMs,
    credentialsExpireInMs: () => credentials.state().expireInMs,
    keySetAgeMs: callers.keySetAgeMs,
    isReady: async () => (await readiness()) === null,
    isRateLimitStoreUp: () => (sharedStore === null ? undefined : sharedStore.inUse() === 'redis'),
    unsharedSignOuts: () => (config.signIn === null ? undefined : sharedStore?.unsharedSignOuts()),
    isAuditWritable: async () => (lifecycle.phase === 'draining' ? undefined : isAuditWritable()),
    unwritten: trail.unwritten,
    followedUp: followUp.sizes,
    waitingForEnds: ends.waiting,
    faultyFiles: () => ({ ...callers.faultyFiles(), ...credentials.faultyFiles() }),
    droppedLogLines: log.dropped,
  }
  return {
    ...{ http, gauges, log, meter, instanceId, sharedStore },
    start: () => {
      startProbe?.start()
      followUp.resume()
      maintenance.start()
    },
    close: (deadline = deadlineIn(CLOSE_MS)) => {
      closeBy = deadline
      return closing.disposeAsync()
    },
  }
}

const CLOSE_MS = 5000
/** One refused cancel in so many that a caller may ask for is recorded by itself. */
const REFUSALS_SHARE = 10
const READ_TIMEOUT_MS = 60_000
/** Enough for several scrapers and for probes, each of which may open a connection at a time. */
const ADMIN_CONNECTIONS = { max: 256, maxPerAddress: 64, exempt: { has: () => false } }
/** Spans that no collector takes by then are lost. */
const TRACES_MS = 1000

/** @throws ConfigError where the audit trail can't be used */
export const openStore = async (
  audit: Config['audit'],
  { openStore: openFile = openSqliteStore }: Pick<Overrides, 'openStore'> = {},
): Promise<OpenedStore> => {
  if (audit.kind === 'sqlite') return openFile(audit.path)
  // Its client would slow down every start.
  const { openPostgresStore } = await import('./audit/postgres.ts')
  return openPostgresStore(audit)
}

/** Authentication: by key, by token if an issuer is set, and by sign-in if a provider is set. */
const createCallers = async (config: Config, signOuts: SessionOptions['signOuts'], log: Log, overrides: Overrides) => {
  const { timings = {}, now } = overrides
  const { watchEveryMs: everyMs } = timings
  const apiKeys = createApiKeys(config.apiKeys.entries)
  const { file } = config.apiKeys
  const keysWatch =
    file === undefined
      ? null
      : watchFile({ path: file, setting: 'API_KEYS_FILE', parse: parseApiKeys, replace: apiKeys.replace, log, everyMs })
  const { grants, watch: grantsWatch } = createWatchedGrants(config.grants, log, everyMs)
  const jwt = await createJwt(config.jwt, grants, log, timings)
  const auth = await createAuth(config, grants, signOuts, log, { now, timing: timings.keySet })
  const files = [keysWatch, grantsWatch].filter((watched) => watched !== null)
  return {
    apiKeys,
    tokens: jwt?.tokens ?? null,
    auth,
    keySetAgeMs: () => jwt?.ageMs(),
    faultyFiles: () => Object.fromEntries(files.map(({ setting, isFaulty }) => [setting, isFaulty()])),
    close: () => {
      for (const part of [...files, jwt, auth?.signIn]) part?.close()
    },
  }
}

// Tokens and sign-ins need packages that would slow down every start.

const createJwt = async (jwt: Config['jwt'], grants: Grants | null, log: Log, timings: Timings) => {
  if (jwt === null) return null
  const [{ createKeySet }, { createTokens }] = await Promise.all([
    import('./callers/jwks.ts'),
    import('./callers/jwt.ts'),
  ])
  const keySet = createKeySet({ ...jwt, log, timing: timings.keySet })
  return { tokens: createTokens({ ...jwt, keySet, grants, log }), ageMs: keySet.ageMs, close: keySet.close }
}

const createAuth = async (
  { signIn, consoleEnabled }: Config,
  grants: Grants | null,
  signOuts: SessionOptions['signOuts'],
  log: Log,
  seams: Pick<SignInOptions, 'now' | 'timing'>,
): Promise<Omit<AuthRouteOptions, 'onSignedIn' | 'corsOrigins'> | null> => {
  if (signIn === null) return null
  const [{ createSessions }, { createSignIn }] = await Promise.all([
    import('./callers/session.ts'),
    import('./callers/sign-in.ts'),
  ])
  const { publicUrl } = signIn
  const signedOutUrl = consoleEnabled ? `${publicUrl}/console` : undefined
  return {
    sessions: createSessions({ ...signIn, grants, signOuts, log, now: seams.now }),
    signIn: createSignIn({ ...signIn, signedOutUrl, log, ...seams }),
    publicUrl,
    home: consoleEnabled ? '/console' : '/me',
  }
}

const createWatchedGrants = (given: Config['grants'], log: Log, everyMs: number | undefined) => {
  if (given === null) return { grants: null, watch: null }
  const grants = createGrants(given.entries)
  const { replace } = grants
  const watch = watchFile({ path: given.file, setting: 'GRANTS_FILE', parse: parseGrants, replace, log, everyMs })
  return { grants, watch }
}

const createTracing = async (
  { endpoint, ...options }: Pick<OtelOptions, 'instanceId' | 'log' | 'meter'> & { readonly endpoint: URL | undefined },
  { traceDelayMs: delayMs, traceTimeoutMs: timeoutMs }: Timings,
): Promise<Tracing | null> => {
  if (endpoint === undefined) return null
  // Its packages would slow down every start.
  const otel = await import('./telemetry/otel.ts')
  return otel.createTracing({ ...options, endpoint, delayMs, timeoutMs })
}

/** Remembered here at once, and by other replicas where Redis is. */
const sharedSignOuts = (signOuts: SignOuts, store: SharedStore | null): SessionOptions['signOuts'] => ({
  has: signOuts.has,
  add: async (signOut) => {
    if (signOuts.add(signOut)) await store?.shareSignOut(signOut)
  },
})

const createSharedStoreIfSet = async (
  { rateLimit: { redisUrl, storeFailure, windowMs }, signIn }: Config,
  known: SignOuts,
  log: Log,
  { sharedStore: timing }: Timings,
): Promise<SharedStore | null> => {
  if (redisUrl === undefined) return null
  // Its client would slow down every start.
  const { createSharedStore } = await import('./http/middleware/redis-store.ts')
  const signOuts = signIn === null ? null : known
  return createSharedStore({ url: redisUrl, onFailure: storeFailure, windowMs, signOuts, log, timing })
}

/** Loaded only if set: the parser and the files of the pages would slow down every start. */
const loadPages = async ({ docsEnabled, consoleEnabled, signIn }: Config) => ({
  docs: docsEnabled ? await (await import('./http/routes/docs.ts')).createDocs() : null,
  console: consoleEnabled
    ? await (await import('./http/routes/console.ts')).createConsole({ signIn: signIn !== null })
    : null,
})

/** Loads the vendor's chain only if it is used: its packages would slow down every start. */
export const createCredentials = async (
  given: Config['credentials'],
  log: Log,
  everyMs: number | undefined,
): Promise<CredentialProvider> => {
  if (given === null) {
    const [{ createCredentialChain }, { fetchVendorCredentials }] = await Promise.all([
      import('./alibaba/credential-chain.ts'),
      import('./alibaba/vendor-credentials.ts'),
    ])
    return createCredentialChain({ fetchCredentials: fetchVendorCredentials, log })
  }
  const { files } = given
  const credentials = revealCredentials(given)
  return files.length === 0
    ? fixedCredentials(credentials)
    : createCredentialFiles({ credentials, files, log, everyMs })
}

const revealCredentials = (given: NonNullable<Config['credentials']>): Credentials => ({
  accessKeyId: given.accessKeyId.reveal(),
  accessKeySecret: given.accessKeySecret.reveal(),
  securityToken: given.securityToken?.reveal(),
})
