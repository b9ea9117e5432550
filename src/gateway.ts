import { randomUUID } from 'node:crypto'
import { createCredentialFiles } from './alibaba/credential-files.ts'
import { type CredentialProvider, fixedCredentials } from './alibaba/credentials.ts'
import type { Credentials } from './alibaba/signing.ts'
import { createTaskQueries } from './alibaba/task-queries.ts'
import { createAuditTrail, type OpenedStore, OUTCOMES } from './audit/audit-trail.ts'
import { createMaintenance } from './audit/maintenance.ts'
import { isFolderShared } from './audit/record-files.ts'
import { openSqliteStore } from './audit/sqlite.ts'
import { createApiKeys, parseApiKeys } from './callers/api-keys.ts'
import { createGrants, type Grants, parseGrants } from './callers/grants.ts'
import type { KeySetTiming } from './callers/jwks.ts'
import { allows, excludes, isRestricted } from './callers/policy.ts'
import type { SessionOptions } from './callers/session.ts'
import { createSignOuts, type SignOuts } from './callers/sign-outs.ts'
import { watchFile } from './callers/watched-file.ts'
import type { Config } from './config.ts'
import type { AuthenticationOptions } from './http/middleware/authenticate.ts'
import type { SharedStore, SharedStoreTiming } from './http/middleware/redis-store.ts'
import { PROBLEMS } from './http/presentation/problems.ts'
import type { AuthRouteOptions } from './http/routes/auth-routes.ts'
import type { Console } from './http/routes/console.ts'
import type { Docs } from './http/routes/docs.ts'
import { createReadiness, createSharedCheck, type Lifecycle } from './http/routes/health.ts'
import { CLOSE_REASONS } from './http/server/connections.ts'
import { type Listener, type ListenerOptions, listen } from './http/server/http-server.ts'
import { createBackgroundSettlement } from './tasks/background-settlement.ts'
import { createCancellations } from './tasks/cancel.ts'
import { createLookup } from './tasks/lookup.ts'
import { createPermissions } from './tasks/permission.ts'
import { createLog, type Log, type ProcessLog } from './telemetry/log.ts'
import { NO_METER } from './telemetry/meter.ts'
import { createMetrics } from './telemetry/metrics.ts'
import type { OtelOptions } from './telemetry/otel.ts'
import { NO_TRACER, type Tracing } from './telemetry/tracing.ts'
import { type Deadline, deadlineIn, withDeadline } from './time.ts'

export interface Gateway {
  /** Opens the ports. @throws ConfigError where one can't be opened */
  listen(): Promise<Listener & { readonly adminUrl: string }>
  /** After the last answer: finishes and records what is still under way, within the deadline, and lets everything go. */
  close(deadline?: Deadline): Promise<void>
}

/** The process's own log, and what tests put in another's place. */
export interface Overrides {
  readonly log?: ProcessLog
  /** Certificate authorities for the upstream. */
  readonly upstreamCa?: string
  readonly openStore?: (path: string) => Promise<OpenedStore>
  /** How often what lost gateways left pending is looked for. */
  readonly maintenanceEveryMs?: number
  /** How often, and how patiently, the issuer's keys are read. */
  readonly keySetTiming?: Partial<KeySetTiming>
  /** How often files of callers and of keys are looked at. */
  readonly watchEveryMs?: number
  /** How long a reading of tasks serves those who come after it. */
  readonly lookupTtlMs?: number
  /** How soon spans are sent. */
  readonly traceDelayMs?: number
  /** How long the trace collector may take. */
  readonly traceTimeoutMs?: number
  /** How patiently Redis is asked. */
  readonly sharedStoreTiming?: Partial<SharedStoreTiming>
  /** The wall clock of sign-ins and sessions. */
  readonly now?: () => number
  /** How long to wait for the next look at a cancellation of unknown outcome and that age. */
  readonly settlementPauseMs?: (ageMs: number) => number
  /** How long a peer may take to read one response. */
  readonly readTimeoutMs?: number
}

/** Builds every part by hand. @throws ConfigError where the record can't be used */
export const createGateway = async (config: Config, overrides: Overrides = {}): Promise<Gateway> => {
  const log = overrides.log ?? createLog(config.logLevel, undefined, config.logAddresses)
  const meter = createMetrics({ codes: Object.keys(PROBLEMS), outcomes: OUTCOMES, closeReasons: CLOSE_REASONS })
  const instanceId = randomUUID()
  const tracing = await createTracing({ endpoint: config.otlpEndpoint, instanceId, log, meter }, overrides)
  const tracer = tracing ?? NO_TRACER
  const lifecycle: Lifecycle = { phase: 'serving' }

  // Express and got take as long to load as the record's thread to start.
  const [store, { createApp }, { createAdminApp }, { createUpstream }] = await Promise.all([
    openStore(config.audit, overrides),
    import('./app.ts'),
    import('./http/server/admin-app.ts'),
    import('./alibaba/client.ts'),
  ])
  if (store.recovered > 0) {
    log.warn('cancellations that a crash left pending are unknown now', { recovered: store.recovered })
  }
  if (config.audit.kind === 'sqlite' && isFolderShared(config.audit.path)) {
    log.warn('other users can replace files in the folder of the audit database', { setting: 'AUDIT_URL' })
  }
  const auditTrail = createAuditTrail({ store, log, meter })
  const credentials = await createCredentials(config.keys, log, overrides.watchEveryMs)
  const upstream = createUpstream({ ...config.upstream, credentials, ca: overrides.upstreamCa, log, meter, tracer })
  const queries = createTaskQueries({ upstream, log })
  const lookup = createLookup({
    queries,
    limit: config.taskLookupLimit,
    timeoutMs: config.requestTimeoutMs,
    ttlMs: overrides.lookupTtlMs,
  })
  const permissions = createPermissions({
    queries,
    policy: { isRestricted, excludes, allows },
    detailsLimit: config.policyDetailsLimit,
    timeoutMs: config.requestTimeoutMs,
    ttlMs: overrides.lookupTtlMs,
  })
  const settlement = createBackgroundSettlement({
    trail: auditTrail,
    lookup,
    log,
    meter,
    pauseMs: overrides.settlementPauseMs,
  })
  const maintenance = createMaintenance({
    store,
    retentionDays: config.audit.retentionDays,
    onAbandoned: settlement.track,
    log,
    everyMs: overrides.maintenanceEveryMs,
  })
  const { max, readMax, unknownMax, windowMs } = config.rateLimit
  const cancellations = createCancellations({
    upstream,
    lookup,
    permissions,
    settlement,
    trail: auditTrail,
    log,
    meter,
    tracer,
    instanceId,
    refusalLimit: { max: Math.max(1, Math.floor(max / REFUSALS_SHARE)), windowMs },
  })
  const signOuts = createSignOuts(overrides.now)
  const sharedStore = await createSharedStoreIfSet(config, signOuts, log, overrides)
  const callers = await createCallers(config, sharedSignOuts(signOuts, sharedStore), log, overrides)
  if (config.allowAnonymous) log.warn('anyone on this machine may cancel tasks', { setting: 'ALLOW_ANONYMOUS' })

  const docs = config.docsEnabled ? await loadDocs() : null
  const consolePages = config.consoleEnabled ? await loadConsole(config) : null
  const isAuditWritable = createSharedCheck(auditTrail.isWritable)
  const readiness = createReadiness(lifecycle, credentials.isReady, isAuditWritable)
  const parts = {
    rateLimit: { max, readMax, unknownMax, windowMs, storeFor: sharedStore?.storeFor },
    rateLimitStore: () => sharedStore?.inUse(),
    lifecycle,
    readiness,
    trail: auditTrail,
    cancellations,
    queries,
    lookup,
    permissions,
    docs,
    console: consolePages,
    log,
    meter,
    tracing,
  }
  const { allowAnonymous, publicUrl, corsOrigins, trustProxy, requestTimeoutMs } = config
  const { apiKeys, tokens, auth } = callers
  const settings = { allowAnonymous, publicUrl, corsOrigins, trustProxy, requestTimeoutMs }
  const app = createApp({ ...parts, ...settings, apiKeys, tokens, auth })
  // Probes come every few seconds, and none of them is a request of a caller: they are neither logged nor counted.
  const quiet = { ...log, info: () => undefined }
  const adminParts = { ...parts, ...config.admin, metrics: meter, log: quiet, meter: NO_METER }
  const adminApp = createAdminApp({ ...config, ...adminParts })

  let admin: Listener | undefined
  let listener: Listener | undefined
  meter.registerGauges({
    connections: () => listener?.connections() ?? 0,
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
    unwritten: auditTrail.unwritten,
    unsettled: settlement.size,
    faultyFiles: () => ({ ...callers.faultyFiles(), ...credentials.faultyFiles() }),
    droppedLogLines: log.dropped,
  })
  await sharedStore?.connect()

  const { readTimeoutMs = READ_TIMEOUT_MS } = overrides
  const publicOptions: ListenerOptions = {
    ...{ kind: 'public', host: config.host, port: config.port, publicUrl, corsOrigins, lifecycle, log, meter },
    connections: { ...config.connections, exempt: trustProxy, readTimeoutMs },
  }
  const adminOptions: ListenerOptions = {
    ...{ kind: 'admin', ...config.admin, publicUrl, corsOrigins: [], lifecycle, log: quiet },
    meter: { ...NO_METER, connectionClosed: meter.connectionClosed },
    connections: { ...ADMIN_CONNECTIONS, readTimeoutMs },
  }
  return {
    listen: async () => {
      admin = await listen(adminApp, adminOptions)
      listener = await listen(app, publicOptions)
      log.info('listening', { address: listener.url, adminAddress: admin.url, instanceId })
      settlement.resume()
      maintenance.start()
      return { ...listener, adminUrl: admin.url }
    },
    close: async (deadline = deadlineIn(CLOSE_MS)) => {
      callers.close()
      sharedStore?.close()
      maintenance.close()
      await withDeadline(deadline, cancellations.idle(), undefined)
      settlement.close()
      await auditTrail.close(deadline)
      upstream.close()
      credentials.close()
      await withDeadline(deadlineIn(TRACES_MS), tracing?.close().catch(() => undefined) ?? Promise.resolve(), undefined)
      admin?.close()
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

const openStore = async (audit: Config['audit'], overrides: Overrides): Promise<OpenedStore> => {
  if (audit.kind === 'sqlite') return (overrides.openStore ?? openSqliteStore)(audit.path)
  // Its client would cost every start.
  const { openPostgresStore } = await import('./audit/postgres.ts')
  return openPostgresStore(audit)
}

interface Callers extends Pick<AuthenticationOptions, 'apiKeys' | 'tokens'> {
  readonly auth: Omit<AuthRouteOptions, 'onSignedIn'> | null
  readonly keySetAgeMs: () => number | undefined
  readonly faultyFiles: () => Readonly<Record<string, boolean>>
  close(): void
}

/** Who can be known: by key, by token where an issuer is named, and by signing in where a provider is. */
const createCallers = async (
  config: Config,
  signOuts: SessionOptions['signOuts'],
  log: Log,
  overrides: Overrides,
): Promise<Callers> => {
  const { watchEveryMs: everyMs } = overrides
  const apiKeys = createApiKeys(config.apiKeys.entries)
  const { file } = config.apiKeys
  const keysWatch =
    file === undefined
      ? null
      : watchFile({ path: file, setting: 'API_KEYS_FILE', parse: parseApiKeys, replace: apiKeys.replace, log, everyMs })
  const { grants, watch: grantsWatch } = createWatchedGrants(config.grants, log, everyMs)
  const jwt = await createJwt(config.jwt, grants, log, overrides)
  const auth = await createAuth(config, grants, signOuts, log, overrides)
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

// What tokens and sign-ins need would cost every start.

const createJwt = async (jwt: Config['jwt'], grants: Grants | null, log: Log, overrides: Overrides) => {
  if (jwt === null) return null
  const [{ createKeySet }, { createTokens }] = await Promise.all([
    import('./callers/jwks.ts'),
    import('./callers/jwt.ts'),
  ])
  const keySet = createKeySet({ ...jwt, log, timing: overrides.keySetTiming })
  return { tokens: createTokens({ ...jwt, keySet, grants, log }), ageMs: keySet.ageMs, close: keySet.close }
}

const createAuth = async (
  { signIn, consoleEnabled }: Config,
  grants: Grants | null,
  signOuts: SessionOptions['signOuts'],
  log: Log,
  { now, keySetTiming }: Overrides,
): Promise<Callers['auth']> => {
  if (signIn === null) return null
  const [{ createSessions }, { createSignIn }] = await Promise.all([
    import('./callers/session.ts'),
    import('./callers/sign-in.ts'),
  ])
  const { publicUrl } = signIn
  const signedOutUrl = consoleEnabled ? `${publicUrl}/console` : undefined
  return {
    sessions: createSessions({ ...signIn, grants, signOuts, log, now }),
    signIn: createSignIn({ ...signIn, signedOutUrl, log, now, timing: keySetTiming }),
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
  { traceDelayMs: delayMs, traceTimeoutMs: timeoutMs }: Overrides,
): Promise<Tracing | null> => {
  if (endpoint === undefined) return null
  // What tracing needs would cost every start.
  const otel = await import('./telemetry/otel.ts')
  return otel.createTracing({ ...options, endpoint, delayMs, timeoutMs })
}

/** Remembered here at once, and by other replicas where Redis is. */
const sharedSignOuts = (signOuts: SignOuts, counts: SharedStore | null): SessionOptions['signOuts'] => ({
  has: signOuts.has,
  add: async (signOut) => {
    if (signOuts.add(signOut)) await counts?.shareSignOut(signOut)
  },
})

const createSharedStoreIfSet = async (
  { rateLimit: { redisUrl, storeFailure, windowMs }, signIn }: Config,
  known: SignOuts,
  log: Log,
  { sharedStoreTiming: timing }: Overrides,
): Promise<SharedStore | null> => {
  if (redisUrl === undefined) return null
  // Its client would cost every start.
  const { createSharedStore: createSharedCounts } = await import('./http/middleware/redis-store.ts')
  const signOuts = signIn === null ? null : known
  return createSharedCounts({ url: redisUrl, onFailure: storeFailure, windowMs, signOuts, log, timing })
}

/** Only where it is wanted: the parser and the page's files would cost every start. */
const loadDocs = async (): Promise<Docs> => {
  const { createDocs } = await import('./http/routes/docs.ts')
  return createDocs()
}

const loadConsole = async ({ signIn }: Config): Promise<Console> => {
  const { createConsole } = await import('./http/routes/console.ts')
  return createConsole({ signIn: signIn !== null })
}

/** What the vendor's chain needs would cost every start. */
const createCredentials = async (
  given: Config['keys'],
  log: Log,
  everyMs: number | undefined,
): Promise<CredentialProvider> => {
  if (given === null) {
    const [{ createCredentialChain: createKeyChain }, { fetchVendorCredentials: fetchVendorKeys }] = await Promise.all([
      import('./alibaba/credential-chain.ts'),
      import('./alibaba/vendor-credentials.ts'),
    ])
    return createKeyChain({ fetchCredentials: fetchVendorKeys, log })
  }
  const { files } = given
  const keys = revealCredentials(given)
  return files.length === 0 ? fixedCredentials(keys) : createCredentialFiles({ keys, files, log, everyMs })
}

const revealCredentials = ({
  accessKeyId,
  accessKeySecret,
  securityToken,
}: NonNullable<Config['keys']>): Credentials => ({
  accessKeyId: accessKeyId.reveal(),
  accessKeySecret: accessKeySecret.reveal(),
  securityToken: securityToken?.reveal(),
})
