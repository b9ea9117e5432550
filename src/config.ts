import { isLoopback, isSafeUrl } from './addresses.ts'
import { type ApiKeyEntry, parseApiKeys } from './callers/api-keys.ts'
import type { ClaimNames } from './callers/claims.ts'
import type { ParsedEntries } from './callers/entry-schema.ts'
import { parseGrants } from './callers/grants.ts'
import { ConfigError } from './errors.ts'
import { Secret } from './secret.ts'
import { nodeFaults } from './settings/node-environment.ts'
import { isPlaceholder } from './settings/secret-strength.ts'
import { decodeEscapes, type TextKind, textFault, trimEnds } from './settings/text.ts'
import { SETTINGS, type Setting, type Values } from './settings.ts'
import { SETTLE_RESERVE_MS } from './time.ts'

/** All settings, checked. Durations are milliseconds. `settings.ts` describes each one. */
export type Config = ReturnType<typeof readConfig>

export type AuditPlace = ReturnType<typeof readAuditPlace>

export type Env = Readonly<Record<string, string | undefined>>

type ReadFile = (path: string) => string

const KEY_PARTS = [
  ['accessKeyId', 'ALIBABA_CLOUD_ACCESS_KEY_ID'],
  ['accessKeySecret', 'ALIBABA_CLOUD_ACCESS_KEY_SECRET'],
  ['securityToken', 'ALIBABA_CLOUD_SECURITY_TOKEN'],
] as const

const DRAIN_MARGIN_MS = 5000

type Reader = ReturnType<typeof createReader>

const PLACEHOLDER_RULE = 'must not be a placeholder, such as those of .env.example'

const holdsPlaceholder = (secret: NonNullable<Setting['secret']>, text: string): boolean => {
  if (secret === 'json') return false
  // In a URL the password is percent-encoded.
  const password = URL.parse(text)?.password ?? ''
  return isPlaceholder(secret === 'url' ? (decodeEscapes(password) ?? password) : text)
}

/** Reads settings, and collects a rule for each faulty one. A faulty setting has its default until the start stops. */
const createReader = (env: Env, readFile: ReadFile) => {
  const faults = new Map<string, string>()
  const given = (name: string): string | undefined => trimEnds(env[name] ?? '') || undefined
  /** The variable that is given: `NAME_FILE` or `NAME`. */
  const variableOf = (name: string): string => (given(`${name}_FILE`) === undefined ? name : `${name}_FILE`)
  const fault = (variable: string, rule: string): void => {
    if (!faults.has(variable)) faults.set(variable, rule)
  }

  /** The text of the file that the setting names. */
  const readText = (name: string): string | undefined => {
    const path = given(name)
    if (path === undefined) return undefined
    const rule = textFault(path, 'visible')
    if (rule !== null) fault(name, rule)
    try {
      const text = trimEnds(readFile(path))
      if (text === '') fault(name, 'must name a file that is not empty')
      return text
    } catch {
      fault(name, 'must name a file that can be read')
      return undefined
    }
  }

  /** The variable that is given, and its text or that of its file. */
  const readGiven = (name: string): readonly [variable: string, text: string | undefined] => {
    const variable = variableOf(name)
    if (variable === name) return [name, given(name)]
    if (given(name) !== undefined) fault(name, `must not be set together with ${variable}`)
    return [variable, readText(variable)]
  }

  const read = <K extends keyof Values>(name: K): Values[K] => {
    const { schema, default: standIn, mayBeEmpty, secret, characters = 'visible' }: Setting<Values[K]> = SETTINGS[name]
    const [variable, text] = secret === undefined ? [name, given(name)] : readGiven(name)
    if (text === undefined) return schema.parse(mayBeEmpty && env[name] !== undefined ? '' : standIn)
    const check = (kind: TextKind): void => {
      const rule = textFault(text, kind)
      if (rule !== null) fault(variable, variable === name ? rule : `must name a file, and its text ${rule}`)
    }
    if (secret !== undefined && holdsPlaceholder(secret, text)) fault(variable, PLACEHOLDER_RULE)
    // The first broken rule is reported: quotes, then the schema, then characters. For a secret, characters come before
    // the schema: an invisible one is hard to find in a file.
    check(secret === undefined ? 'json' : characters)
    const parsed = schema.safeParse(text)
    if (!parsed.success) fault(variable, parsed.error.issues[0]?.message ?? 'is not valid')
    check(characters)
    return parsed.success && !faults.has(variable) ? parsed.data : schema.parse(standIn)
  }

  const sound = (...variables: readonly string[]): boolean => !variables.some((variable) => faults.has(variable))
  return { read, readText, given, variableOf, fault, sound, faults }
}

/** A function that reads settings, and throws a ConfigError that names every fault at once. */
const parserOf =
  <T>(read: (reader: Reader) => T) =>
  (env: Env, readFile: ReadFile, execArgv: readonly string[] = []): T => {
    const reader = createReader(env, readFile)
    for (const [name, rule] of nodeFaults(env, execArgv)) reader.fault(name, rule)
    const value = read(reader)
    if (reader.faults.size > 0) throw new ConfigError([...reader.faults].map(([name, rule]) => `${name} ${rule}`))
    return value
  }

const readConfig = (reader: Reader) => {
  const { read, given } = reader
  return {
    host: read('HOST'),
    port: read('PORT'),
    admin: { host: read('ADMIN_HOST'), port: read('ADMIN_PORT') },
    publicUrl: read('PUBLIC_URL'),
    corsOrigins: read('CORS_ORIGINS'),
    credentials: readCredentials(reader),
    upstream: {
      url: read('UPSTREAM_URL'),
      signature: read('UPSTREAM_SIGNATURE'),
      timeoutMs: read('UPSTREAM_TIMEOUT_MS'),
      maxAttempts: read('UPSTREAM_MAX_ATTEMPTS'),
      maxConcurrency: read('UPSTREAM_MAX_CONCURRENCY'),
      maxPerSecond: read('UPSTREAM_MAX_RPS'),
    },
    requestTimeoutMs: read('REQUEST_TIMEOUT_MS'),
    taskLookupLimit: read('TASK_LOOKUP_LIMIT'),
    policyDetailsLimit: read('POLICY_DETAILS_LIMIT'),
    apiKeys: { entries: readApiKeys(reader), file: given('API_KEYS_FILE') },
    jwt: readJwt(reader),
    signIn: readSignIn(reader),
    grants: readGrants(reader),
    allowAnonymous: read('ALLOW_ANONYMOUS'),
    trustProxy: read('TRUST_PROXY'),
    connections: { max: read('MAX_CONNECTIONS'), maxPerAddress: read('MAX_CONNECTIONS_PER_ADDRESS') },
    rateLimit: {
      max: read('RATE_LIMIT_MAX'),
      readMax: read('RATE_LIMIT_READ_MAX'),
      unknownMax: read('RATE_LIMIT_UNKNOWN_MAX'),
      windowMs: read('RATE_LIMIT_WINDOW_MS'),
      redisUrl: read('REDIS_URL'),
      storeFailure: read('RATE_LIMIT_STORE_FAILURE'),
    },
    audit: { ...readAuditPlace(reader), retentionDays: read('AUDIT_RETENTION_DAYS') },
    docsEnabled: read('DOCS_ENABLED'),
    consoleEnabled: read('CONSOLE_ENABLED'),
    shutdown: { graceMs: read('SHUTDOWN_GRACE_MS'), delayMs: read('SHUTDOWN_DELAY_MS') },
    logLevel: read('LOG_LEVEL'),
    logAddresses: read('LOG_ADDRESSES'),
    otlpEndpoint: read('OTEL_EXPORTER_OTLP_ENDPOINT'),
  }
}

const readRequired = (
  { read, sound, fault }: Reader,
  name: 'ALIBABA_CLOUD_ACCESS_KEY_ID' | 'ALIBABA_CLOUD_ACCESS_KEY_SECRET' | 'AUDIT_ADMIN_URL',
): Secret => {
  const secret = read(name)
  if (secret === undefined && sound(`${name}_FILE`)) fault(name, `must be set (or ${name}_FILE)`)
  return secret ?? new Secret('')
}

/** Null if the provider chain has the upstream credentials. */
const readCredentials = (reader: Reader) => {
  if (reader.read('CREDENTIALS') === 'chain') return null
  return {
    accessKeyId: readRequired(reader, 'ALIBABA_CLOUD_ACCESS_KEY_ID'),
    accessKeySecret: readRequired(reader, 'ALIBABA_CLOUD_ACCESS_KEY_SECRET'),
    securityToken: reader.read('ALIBABA_CLOUD_SECURITY_TOKEN'),
    /** The files that parts of them came from. */
    files: KEY_PARTS.flatMap(([part, name]) => {
      const [setting, path] = [`${name}_FILE`, reader.given(`${name}_FILE`)]
      return path === undefined ? [] : [{ part, setting, path }]
    }),
  }
}

const readAuditPlace = ({ read, variableOf, fault, sound }: Reader) => {
  const [place, adminUrl] = [read('AUDIT_URL'), read('AUDIT_ADMIN_URL')]
  if (place.kind === 'postgres') return { ...place, adminUrl }
  if (adminUrl !== undefined && sound('AUDIT_URL', 'AUDIT_URL_FILE')) {
    fault(variableOf('AUDIT_ADMIN_URL'), 'needs an AUDIT_URL of PostgreSQL')
  }
  return place
}

const readApiKeys = (reader: Reader): readonly ApiKeyEntry[] => {
  const text = reader.read('API_KEYS')
  return text === undefined ? [] : readEntries(reader, reader.variableOf('API_KEYS'), parseApiKeys(text))
}

/** Null if no file is named. */
const readGrants = (reader: Reader) => {
  const file = reader.read('GRANTS_FILE')
  const text = reader.readText('GRANTS_FILE')
  if (file === undefined || text === undefined) return null
  return { entries: readEntries(reader, 'GRANTS_FILE', parseGrants(text)), file }
}

const readEntries = <T>({ fault }: Reader, variable: string, parsed: ParsedEntries<T>): readonly T[] => {
  if (parsed.ok && parsed.entries.length > 0) return parsed.entries
  // While the gateway runs, an empty file revokes the last key. At the start, it is a mistake.
  fault(variable, parsed.ok ? 'must have at least one entry' : parsed.rule)
  return []
}

const readClaimNames = ({ read }: Reader): ClaimNames => ({
  scopeClaim: read('SCOPE_CLAIM'),
  domainsClaim: read('DOMAINS_CLAIM'),
  taskTypesClaim: read('TASK_TYPES_CLAIM'),
})

/** Null if no issuer is named. */
const readJwt = (reader: Reader) => {
  const { read } = reader
  const [issuer, audience] = [read('JWT_ISSUER'), read('JWT_AUDIENCE')]
  const [jwksUrl, algorithms] = [read('JWT_JWKS_URL'), read('JWT_ALGORITHMS')]
  const [claimNames, nameClaim] = [readClaimNames(reader), read('NAME_CLAIM')]
  if (issuer === undefined || audience === undefined) return null
  return { issuer, audience, jwksUrl, algorithms, claimNames, nameClaim }
}

/** Null if no provider is named. */
const readSignIn = (reader: Reader) => {
  const { read } = reader
  const [issuer, clientId, publicUrl] = [read('OIDC_ISSUER'), read('OIDC_CLIENT_ID'), read('PUBLIC_URL')]
  const [clientSecret, sessionSecrets] = [read('OIDC_CLIENT_SECRET'), read('SESSION_SECRET')]
  const client = { clientId, clientAuthentication: read('OIDC_CLIENT_AUTH'), scopes: read('OIDC_SCOPES') }
  const claims = { claimNames: readClaimNames(reader), nameClaim: read('NAME_CLAIM') }
  const times = { idleMs: read('SESSION_IDLE_MS'), maxMs: read('SESSION_MAX_MS') }
  if (issuer === undefined || clientId === undefined || publicUrl === undefined) return null
  if (clientSecret === undefined || sessionSecrets === undefined) return null
  return { issuer, ...client, clientId, clientSecret, sessionSecrets, publicUrl, ...claims, ...times }
}

/** The first variable is at fault if the rule is broken. */
type Rule = readonly [variables: readonly [string, ...string[]], holds: boolean, rule: string]

/**
 * Rules over several settings. Each is checked only if all its settings are sound: a default proves nothing of a value.
 */
const checkTogether = ({ read, given, fault, sound }: Reader, config: Config): void => {
  const { upstream, requestTimeoutMs, shutdown, allowAnonymous, publicUrl } = config
  const isGiven = (name: string): boolean => given(name) !== undefined || given(`${name}_FILE`) !== undefined
  const rules: readonly Rule[] = [
    [
      ['UPSTREAM_URL', 'UPSTREAM_ALLOW_HTTP'],
      isSafeUpstream(upstream.url, read('UPSTREAM_ALLOW_HTTP')),
      'must be https: (http: for a loopback host, or with UPSTREAM_ALLOW_HTTP=true)',
    ],
    [
      ['REQUEST_TIMEOUT_MS', 'UPSTREAM_TIMEOUT_MS'],
      requestTimeoutMs >= upstream.timeoutMs + SETTLE_RESERVE_MS,
      `must be at least UPSTREAM_TIMEOUT_MS + ${SETTLE_RESERVE_MS}`,
    ],
    [
      ['SHUTDOWN_GRACE_MS', 'REQUEST_TIMEOUT_MS'],
      shutdown.graceMs >= requestTimeoutMs + DRAIN_MARGIN_MS,
      `must be at least REQUEST_TIMEOUT_MS + ${DRAIN_MARGIN_MS}`,
    ],
    [
      ['ALLOW_ANONYMOUS', 'HOST'],
      !allowAnonymous || isLoopback(config.host ?? ''),
      'needs a loopback HOST, such as 127.0.0.1',
    ],
    ...KEY_PARTS.map(([, name]): Rule => {
      const setting = `${name}_FILE`
      return [
        [setting, 'CREDENTIALS'],
        config.credentials !== null || given(setting) === undefined,
        'needs CREDENTIALS=env',
      ]
    }),
    [
      ['RATE_LIMIT_STORE_FAILURE', 'REDIS_URL', 'REDIS_URL_FILE'],
      config.rateLimit.storeFailure === 'local' || config.rateLimit.redisUrl !== undefined,
      'needs REDIS_URL',
    ],
    ...Object.entries<Setting>(SETTINGS).flatMap(([name, { needs = [], needsOneOf = [] }]): readonly Rule[] => {
      const missing = needs.filter((other) => !isGiven(other))
      return [
        [[name, ...needs], !isGiven(name) || missing.length === 0, `needs ${missing.join(', ')}`],
        [
          [name, ...needsOneOf],
          !isGiven(name) || needsOneOf.length === 0 || needsOneOf.some(isGiven),
          `needs ${needsOneOf.join(' or ')}`,
        ],
      ]
    }),
    [
      ['PUBLIC_URL', 'OIDC_ISSUER'],
      publicUrl === undefined || !isGiven('OIDC_ISSUER') || isSafeUrl(new URL(publicUrl)),
      'must be https: (http: for a loopback host) where browsers sign in',
    ],
    [
      ['API_KEYS', 'API_KEYS_FILE', 'ALLOW_ANONYMOUS', 'JWT_ISSUER', 'JWT_AUDIENCE', 'OIDC_ISSUER'],
      allowAnonymous || ['API_KEYS', 'JWT_ISSUER', 'OIDC_ISSUER'].some(isGiven),
      'or API_KEYS_FILE, JWT_ISSUER or OIDC_ISSUER must be set, or else ALLOW_ANONYMOUS=true',
    ],
  ]
  for (const [variables, holds, rule] of rules) if (!holds && sound(...variables)) fault(variables[0], rule)
}

const isSafeUpstream = (url: URL, allowHttp: boolean): boolean =>
  url.protocol === 'https:' || allowHttp || isLoopback(url.hostname)

/**
 * Reads all settings. White space and invisible characters at the ends of a variable or a file are ignored, and a
 * variable of nothing else counts as not given.
 * @param readFile returns the text of a file or throws; called for files that settings name
 * @param execArgv the options that Node was started with
 */
export const parseConfig = parserOf((reader) => {
  const config = readConfig(reader)
  checkTogether(reader, config)
  return config
})

/** Reads the place of the audit trail only. */
export const parseAuditPlace = parserOf(readAuditPlace)

/** Reads the settings of the commands that work as the owner of the tables on PostgreSQL. */
export const parseAuditAdmin = parserOf((reader) => ({
  adminUrl: readRequired(reader, 'AUDIT_ADMIN_URL'),
  retentionDays: reader.read('AUDIT_RETENTION_DAYS'),
}))
