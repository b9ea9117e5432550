import { z } from 'zod'
import { isLoopback, isSafeUrl, parseSubnets, type Subnets } from './addresses.ts'
import { type ApiKeyEntry, parseApiKeys } from './callers/api-keys.ts'
import { type ClaimNames, DEFAULT_SCOPE_CLAIM } from './callers/claims.ts'
import type { ParsedEntries } from './callers/entry-schema.ts'
import { type NamedGrant, parseGrants } from './callers/grants.ts'
import { ConfigError } from './errors.ts'
import { Secret } from './secret.ts'
import { nodeFaults } from './settings/node-environment.ts'
import { isPlaceholder, isStrongSecret } from './settings/secret-strength.ts'
import { type TextKind, textFault, trimEnds } from './settings/text.ts'
import type { LogAddresses } from './telemetry/log.ts'
import { SETTLE_RESERVE_MS } from './time.ts'

/** Everything the gateway can be told, checked. All durations are milliseconds. */
export interface Config {
  readonly host: string | undefined
  readonly port: number
  /** Where metrics are served. */
  readonly admin: { readonly host: string; readonly port: number }
  readonly publicUrl: string | undefined
  /** As browsers send them. */
  readonly corsOrigins: readonly string[]
  /** Null where the vendor's chain of credentials brings them. */
  readonly keys: {
    readonly accessKeyId: Secret
    readonly accessKeySecret: Secret
    readonly securityToken: Secret | undefined
    /** The files that parts of them came from. */
    readonly files: readonly { readonly part: KeyPart; readonly setting: string; readonly path: string }[]
  } | null
  readonly upstream: {
    readonly url: URL
    readonly signature: 'rpc-v1' | 'acs3'
    readonly timeoutMs: number
    readonly maxAttempts: number
    readonly maxConcurrency: number
    /** No limit where undefined. */
    readonly maxPerSecond: number | undefined
  }
  readonly requestTimeoutMs: number
  readonly taskLookupLimit: number
  readonly policyDetailsLimit: number
  readonly apiKeys: { readonly entries: readonly ApiKeyEntry[]; readonly file: string | undefined }
  /** Tokens of one issuer; null where none is named. */
  readonly jwt: {
    readonly issuer: string
    readonly audience: string
    readonly jwksUrl: URL | undefined
    readonly algorithms: readonly string[]
    readonly claimNames: ClaimNames
  } | null
  /** Sign-in of browsers at one provider; null where none is named. */
  readonly signIn: {
    readonly issuer: string
    readonly clientId: string
    readonly clientSecret: Secret
    readonly clientAuthentication: 'client_secret_basic' | 'client_secret_post'
    readonly sessionSecrets: readonly [Secret, ...Secret[]]
    readonly publicUrl: string
    readonly claimNames: ClaimNames
    readonly idleMs: number
    readonly maxMs: number
  } | null
  readonly grants: { readonly entries: readonly NamedGrant[]; readonly file: string } | null
  readonly allowAnonymous: boolean
  readonly trustProxy: Subnets
  /** Connections of callers at a time, and of those the ones from one peer address. */
  readonly connections: { readonly max: number; readonly maxPerAddress: number }
  readonly rateLimit: {
    readonly max: number
    readonly readMax: number
    readonly unknownMax: number
    readonly windowMs: number
    /** Where replicas count together; each for itself where undefined. */
    readonly redisUrl: Secret | undefined
    /** What holds while that is away. */
    readonly storeFailure: 'local' | 'deny'
  }
  /** Where the record is kept, and for how long. */
  readonly audit: AuditPlace & { readonly retentionDays: number }
  readonly docsEnabled: boolean
  readonly consoleEnabled: boolean
  readonly shutdown: { readonly graceMs: number; readonly delayMs: number }
  readonly logLevel: string
  readonly logAddresses: LogAddresses
  /** Of a collector of traces; undefined where there is none. */
  readonly otlpEndpoint: URL | undefined
}

export type AuditPlace =
  | { readonly kind: 'sqlite'; readonly path: string }
  | { readonly kind: 'postgres'; readonly url: Secret; readonly adminUrl: Secret | undefined }

export type Env = Readonly<Record<string, string | undefined>>

type KeyPart = 'accessKeyId' | 'accessKeySecret' | 'securityToken'

const KEY_PARTS = [
  ['accessKeyId', 'ALIBABA_CLOUD_ACCESS_KEY_ID'],
  ['accessKeySecret', 'ALIBABA_CLOUD_ACCESS_KEY_SECRET'],
  ['securityToken', 'ALIBABA_CLOUD_SECURITY_TOKEN'],
] as const satisfies readonly (readonly [KeyPart, string])[]

const DRAIN_MARGIN_MS = 5000
const MAX_TIMER_MS = 2 ** 31 - 1
/** A stolen session works until it ends. */
const SESSION_LIMIT_MS = 3_600_000

interface Setting<T> {
  readonly schema: z.ZodType<T>
  readonly fallback: T
}

interface Values {
  PORT: number
  HOST: string | undefined
  ADMIN_PORT: number
  ADMIN_HOST: string
  PUBLIC_URL: string | undefined
  CORS_ORIGINS: readonly string[]
  CREDENTIALS: 'env' | 'chain'
  UPSTREAM_URL: URL
  UPSTREAM_ALLOW_HTTP: boolean
  UPSTREAM_SIGNATURE: 'rpc-v1' | 'acs3'
  UPSTREAM_TIMEOUT_MS: number
  UPSTREAM_MAX_ATTEMPTS: number
  UPSTREAM_MAX_CONCURRENCY: number
  UPSTREAM_MAX_RPS: number | undefined
  REQUEST_TIMEOUT_MS: number
  TASK_LOOKUP_LIMIT: number
  POLICY_DETAILS_LIMIT: number
  JWT_ISSUER: string | undefined
  JWT_AUDIENCE: string | undefined
  JWT_JWKS_URL: URL | undefined
  JWT_ALGORITHMS: readonly string[]
  SCOPE_CLAIM: string
  OIDC_ISSUER: string | undefined
  OIDC_CLIENT_ID: string | undefined
  OIDC_CLIENT_AUTH: 'client_secret_basic' | 'client_secret_post'
  SESSION_IDLE_MS: number
  SESSION_MAX_MS: number
  DOMAINS_CLAIM: string | undefined
  TASK_TYPES_CLAIM: string | undefined
  GRANTS_FILE: string | undefined
  ALLOW_ANONYMOUS: boolean
  TRUST_PROXY: Subnets
  MAX_CONNECTIONS: number
  MAX_CONNECTIONS_PER_ADDRESS: number
  RATE_LIMIT_MAX: number
  RATE_LIMIT_READ_MAX: number
  RATE_LIMIT_UNKNOWN_MAX: number
  RATE_LIMIT_WINDOW_MS: number
  RATE_LIMIT_STORE_FAILURE: 'local' | 'deny'
  AUDIT_RETENTION_DAYS: number
  DOCS_ENABLED: boolean
  CONSOLE_ENABLED: boolean
  SHUTDOWN_GRACE_MS: number
  SHUTDOWN_DELAY_MS: number
  LOG_LEVEL: string
  LOG_ADDRESSES: LogAddresses
  OTEL_EXPORTER_OTLP_ENDPOINT: URL | undefined
}

const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const

const integer = (min: number, max: number): z.ZodType<number> => {
  const rule = { error: `must be a whole number from ${min} to ${max}` }
  return z
    .string()
    .regex(/^\d{1,15}$/, rule)
    .transform(Number)
    .pipe(z.number().min(min, rule).max(max, rule))
}

const flag = z.enum(['true', 'false'], { error: 'must be true or false' }).transform((text) => text === 'true')

const choice = <const T extends readonly string[]>(values: T): z.ZodType<T[number]> =>
  z.enum(values, { error: `must be one of ${values.join(', ')}` })

/** What a parser makes of the text; where that is null, the rule is broken. */
const parsedBy = <T>(parse: (text: string) => T | null, rule: string): z.ZodType<T> =>
  z.string().transform((text, context) => {
    const value = parse(text)
    if (value !== null) return value
    context.addIssue({ code: 'custom', message: rule })
    return z.NEVER
  })

const originIn = (text: string): URL | null => {
  const url = urlIn(text)
  return url !== null && /^https?:$/.test(url.protocol) && url.href === `${url.origin}/` ? url : null
}

/**
 * A URL consists of ASCII characters (RFC 3986); the parser would drop, convert or encode others. A fragment would be cut,
 * so that a text with one is no URL here.
 */
const urlIn = (text: string): URL | null => (/^[!$-;=?-[\]-~]+$/.test(text) ? URL.parse(text) : null)

const hasCredentials = ({ username, password }: URL): boolean => `${username}${password}` !== ''

// Compared with what browsers send, so each must be in the form that they send.
const ORIGINS_RULE =
  'must be http(s) origins such as https://app.example.com, in lower case, without path, default port or wildcard, separated by commas'

const origins = z
  .string()
  .transform((text) => text.split(',').map((one) => one.trim()))
  .refine((all) => all.every((one) => /^https?:[^*]+$/.test(one) && URL.parse(one)?.origin === one), {
    error: ORIGINS_RULE,
  })

const SQLITE = /^sqlite:(?!:memory:|file:)./
const POSTGRES_RULE =
  'postgres://<role>:<password>@<host>/<database>, with no parameter but sslmode=verify-full or sslmode=disable'

const isPostgresUrl = (text: string): boolean => {
  const url = urlIn(text)
  if (url === null || !/^postgres(ql)?:$/.test(url.protocol)) return false
  const isWhole = url.hostname !== '' && url.username !== '' && /^\/[^/]+$/.test(url.pathname)
  return isWhole && /^(\?sslmode=(verify-full|disable))?$/.test(url.search)
}

const REDIS_RULE =
  'must be redis(s)://<user>:<password>@<host>:<port>/<number>, of which all but the host may be left out'

const PERCENT_RULE =
  'must have its user, password and database percent-encoded (a % that stands for itself is written as %25)'

/** Whether each `%` begins an escape, and the escapes are UTF-8: clients decode these parts. */
const isDecodable = (text: string): boolean => {
  const { username, password, hostname, pathname } = new URL(text)
  try {
    for (const part of [username, password, hostname, pathname]) decodeURIComponent(part)
    return true
  } catch {
    return false
  }
}

/** Without a password Redis' client would not name the user either, and have the permissions of another. */
const hasLoneUser = (text: string): boolean => {
  const { username, password } = new URL(text)
  return username !== '' && password === ''
}

const isRedisUrl = (text: string): boolean => {
  const url = urlIn(text)
  if (url === null || !/^rediss?:$/.test(url.protocol) || text.includes('?')) return false
  return url.hostname !== '' && /^(\/\d*)?$/.test(url.pathname)
}

const URL_RULE = 'must be an https: URL (http: for a loopback host) without credentials or fragment'
const ISSUER_RULE = 'must be an https: URL (http: for a loopback host) without credentials, query or fragment'

const safeUrlIn = (text: string): URL | null => {
  const url = urlIn(text)
  return url !== null && isSafeUrl(url) && !hasCredentials(url) ? url : null
}

const collectorUrlIn = (text: string): URL | null => {
  const url = urlIn(text)
  return url !== null && /^https?:$/.test(url.protocol) && !hasCredentials(url) && !text.includes('?') ? url : null
}

// Compared with a token's `iss` to the letter, so it stays as it was written.
const issuer = z.string().refine((text) => safeUrlIn(text) !== null && !text.includes('?'), { error: ISSUER_RULE })

/** Symmetric ones are not among them: a public key would be their secret. */
const SIZED_ALGORITHMS = ['RS', 'PS', 'ES'].flatMap((family) => ['256', '384', '512'].map((size) => family + size))
const ALGORITHMS = [...SIZED_ALGORITHMS, 'EdDSA', 'Ed25519']
const ALGORITHMS_RULE = `must be some of ${ALGORITHMS.join(', ')}, separated by commas`

const algorithms = z
  .string()
  .transform((text) => text.split(',').map((name) => name.trim()))
  .pipe(z.array(z.enum(ALGORITHMS, { error: ALGORITHMS_RULE })))

const claimName = z.string().regex(/^[\x21-\x7e]{1,256}$/, { error: 'must be the name of a claim, without spaces' })

const SUBNETS_RULE = 'must be addresses or CIDR blocks, separated by commas, none of them /0 or IPv4-mapped'

/** Every plain setting: how its text is read, and what holds where it is not given. */
const SETTINGS: { readonly [K in keyof Values]: Setting<Values[K]> } = {
  PORT: { schema: integer(0, 65535), fallback: 3000 },
  HOST: { schema: z.string().min(1), fallback: undefined },
  ADMIN_PORT: { schema: integer(0, 65535), fallback: 9464 },
  ADMIN_HOST: { schema: z.string().min(1), fallback: '127.0.0.1' },
  PUBLIC_URL: {
    schema: parsedBy(
      (text) => originIn(text)?.origin ?? null,
      'must be an http(s) origin without a path, such as https://gateway.example.com',
    ),
    fallback: undefined,
  },
  CORS_ORIGINS: { schema: origins, fallback: [] },
  CREDENTIALS: { schema: choice(['env', 'chain']), fallback: 'env' },
  UPSTREAM_URL: {
    schema: parsedBy(originIn, 'must be an origin without a path, such as https://domain.aliyuncs.com'),
    fallback: new URL('https://domain.aliyuncs.com'),
  },
  UPSTREAM_ALLOW_HTTP: { schema: flag, fallback: false },
  UPSTREAM_SIGNATURE: { schema: choice(['rpc-v1', 'acs3']), fallback: 'rpc-v1' },
  UPSTREAM_TIMEOUT_MS: { schema: integer(10, 600_000), fallback: 5000 },
  UPSTREAM_MAX_ATTEMPTS: { schema: integer(1, 10), fallback: 3 },
  UPSTREAM_MAX_CONCURRENCY: { schema: integer(1, 10_000), fallback: 64 },
  UPSTREAM_MAX_RPS: { schema: integer(1, 100_000), fallback: undefined },
  REQUEST_TIMEOUT_MS: { schema: integer(10, 600_000), fallback: 15_000 },
  TASK_LOOKUP_LIMIT: { schema: integer(1, 1000), fallback: 200 },
  POLICY_DETAILS_LIMIT: { schema: integer(1, 100_000), fallback: 5000 },
  JWT_ISSUER: { schema: issuer, fallback: undefined },
  JWT_AUDIENCE: { schema: z.string(), fallback: undefined },
  JWT_JWKS_URL: { schema: parsedBy(safeUrlIn, URL_RULE), fallback: undefined },
  JWT_ALGORITHMS: { schema: algorithms, fallback: ['RS256', 'ES256', 'PS256', 'EdDSA', 'Ed25519'] },
  SCOPE_CLAIM: { schema: claimName, fallback: DEFAULT_SCOPE_CLAIM },
  DOMAINS_CLAIM: { schema: claimName, fallback: undefined },
  TASK_TYPES_CLAIM: { schema: claimName, fallback: undefined },
  OIDC_ISSUER: { schema: issuer, fallback: undefined },
  OIDC_CLIENT_ID: { schema: z.string(), fallback: undefined },
  // Basic is the one that every provider has to support (RFC 6749, section 2.3.1).
  OIDC_CLIENT_AUTH: { schema: choice(['client_secret_basic', 'client_secret_post']), fallback: 'client_secret_basic' },
  SESSION_IDLE_MS: { schema: integer(1000, SESSION_LIMIT_MS), fallback: 900_000 },
  SESSION_MAX_MS: { schema: integer(1000, SESSION_LIMIT_MS), fallback: SESSION_LIMIT_MS },
  GRANTS_FILE: { schema: z.string(), fallback: undefined },
  ALLOW_ANONYMOUS: { schema: flag, fallback: false },
  TRUST_PROXY: { schema: parsedBy(parseSubnets, SUBNETS_RULE), fallback: { has: () => false } },
  MAX_CONNECTIONS: { schema: integer(1, 1_000_000), fallback: 10_000 },
  MAX_CONNECTIONS_PER_ADDRESS: { schema: integer(1, 1_000_000), fallback: 2500 },
  RATE_LIMIT_MAX: { schema: integer(1, 1_000_000), fallback: 60 },
  RATE_LIMIT_READ_MAX: { schema: integer(1, 1_000_000), fallback: 600 },
  RATE_LIMIT_UNKNOWN_MAX: { schema: integer(1, 1_000_000), fallback: 30 },
  RATE_LIMIT_WINDOW_MS: { schema: integer(1000, MAX_TIMER_MS), fallback: 60_000 },
  RATE_LIMIT_STORE_FAILURE: { schema: choice(['local', 'deny']), fallback: 'local' },
  AUDIT_RETENTION_DAYS: { schema: integer(1, 36_500), fallback: 365 },
  DOCS_ENABLED: { schema: flag, fallback: false },
  CONSOLE_ENABLED: { schema: flag, fallback: false },
  SHUTDOWN_GRACE_MS: { schema: integer(0, 3_600_000), fallback: 20_000 },
  SHUTDOWN_DELAY_MS: { schema: integer(0, 3_600_000), fallback: 0 },
  LOG_LEVEL: { schema: choice(LOG_LEVELS), fallback: 'info' },
  LOG_ADDRESSES: { schema: choice(['full', 'truncated']), fallback: 'full' },
  OTEL_EXPORTER_OTLP_ENDPOINT: {
    schema: parsedBy(collectorUrlIn, 'must be an http(s) URL without credentials, query or fragment'),
    fallback: undefined,
  },
}

/** Settings that hold something secret, so that each can come as `NAME_FILE`, a path, instead. */
const SECRETS = [
  'ALIBABA_CLOUD_ACCESS_KEY_ID',
  'ALIBABA_CLOUD_ACCESS_KEY_SECRET',
  'ALIBABA_CLOUD_SECURITY_TOKEN',
  'API_KEYS',
  'AUDIT_URL',
  'AUDIT_ADMIN_URL',
  'OIDC_CLIENT_SECRET',
  'REDIS_URL',
  'SESSION_SECRET',
] as const

type SecretName = (typeof SECRETS)[number]

/** Settings whose characters are limited further than to visible ones. The schemas of URLs do that themselves. */
const KINDS: Readonly<Record<string, TextKind>> = {
  ALIBABA_CLOUD_ACCESS_KEY_ID: 'access-key',
  ALIBABA_CLOUD_ACCESS_KEY_SECRET: 'access-key',
  ALIBABA_CLOUD_SECURITY_TOKEN: 'access-key',
  API_KEYS: 'json',
  OIDC_CLIENT_ID: 'client',
  OIDC_CLIENT_SECRET: 'client',
  HOST: 'host',
  ADMIN_HOST: 'host',
}

const kindOf = (name: string): TextKind => KINDS[name] ?? 'visible'

/** Every variable that the gateway reads, for the checks that hold the documents true. */
export const SETTING_NAMES: readonly string[] = [
  ...Object.keys(SETTINGS),
  ...SECRETS.flatMap((name) => [name, `${name}_FILE`]),
]

/** What is read so far: values of sound settings, stand-ins for the others, and a rule for each fault. */
interface Reader {
  read<K extends keyof Values>(name: K): Values[K]
  readSecret(name: SecretName): string | undefined
  /** The text of the file that the setting names. */
  readText(name: string): string | undefined
  given(name: string): string | undefined
  fault(name: string, rule: string): void
  sound(...names: readonly string[]): boolean
  readonly faults: ReadonlyMap<string, string>
}

const PLACEHOLDER_RULE = 'must not be a placeholder, such as those of .env.example'

/** Of a URL its password counts, which stands in it percent-encoded. */
const holdsPlaceholder = (name: SecretName, text: string): boolean => {
  if (name === 'API_KEYS') return false
  return isPlaceholder(/_URL$/.test(name) ? decode(URL.parse(text)?.password ?? '') : text)
}

const decode = (text: string): string => {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

const createReader = (env: Env, readFile: (path: string) => string): Reader => {
  const faults = new Map<string, string>()
  const given = (name: string): string | undefined => trimEnds(env[name] ?? '') || undefined
  const fault = (name: string, rule: string): void => {
    if (!faults.has(name)) faults.set(name, rule)
  }
  const check = (name: string, text: string, kind: TextKind, isInFile = false): void => {
    const rule = textFault(text, kind)
    if (rule !== null) fault(name, isInFile ? `must name a file, and its text ${rule}` : rule)
  }

  const readText = (name: string): string | undefined => {
    const path = given(name)
    if (path === undefined) return undefined
    check(name, path, 'visible')
    try {
      const text = trimEnds(readFile(path))
      if (text === '') fault(name, 'must name a file that is not empty')
      return text
    } catch {
      fault(name, 'must name a file that can be read')
      return undefined
    }
  }

  return {
    faults,
    given,
    readText,
    fault,
    sound: (...names) => !names.some((name) => faults.has(name)),
    read: (name) => {
      const { schema, fallback }: Setting<Values[typeof name]> = SETTINGS[name]
      const text = given(name)
      if (text === undefined) return fallback
      // A broken rule of quotes and lines tells more than that of the schema, which tells more than that of characters.
      check(name, text, 'json')
      const parsed = schema.safeParse(text)
      if (!parsed.success) fault(name, parsed.error.issues[0]?.message ?? 'is not valid')
      check(name, text, kindOf(name))
      return parsed.success && !faults.has(name) ? parsed.data : fallback
    },
    readSecret: (name) => {
      const file = `${name}_FILE`
      const isFile = given(file) !== undefined
      if (isFile && given(name) !== undefined) fault(name, `must not be set together with ${file}`)
      const [setting, text] = isFile ? [file, readText(file)] : [name, given(name)]
      if (text === undefined) return undefined
      if (holdsPlaceholder(name, text)) fault(setting, PLACEHOLDER_RULE)
      check(setting, text, kindOf(name), isFile)
      return text
    },
  }
}

/**
 * Reads the settings. White space and invisible characters at the ends of a variable or a file do not count, and a variable
 * of nothing else counts as not given.
 * @param readFile returns a file's text or throws; called for `NAME_FILE` variables only
 * @param execArgv the options that Node was started with
 * @throws ConfigError naming every fault at once
 */
export const parseConfig = (env: Env, readFile: (path: string) => string, execArgv: readonly string[] = []): Config => {
  const reader = createReader(env, readFile)
  checkNode(reader, env, execArgv)
  const config = readConfig(reader)
  checkTogether(reader, config)
  throwFaults(reader)
  return config
}

/**
 * Reads where the record is kept, and nothing else.
 * @throws ConfigError naming every fault at once
 */
export const parseAuditPlace = (
  env: Env,
  readFile: (path: string) => string,
  execArgv: readonly string[] = [],
): AuditPlace => {
  const reader = createReader(env, readFile)
  checkNode(reader, env, execArgv)
  const place = readAudit(reader)
  throwFaults(reader)
  return place
}

/**
 * Reads the settings of the commands that work as the owner of the tables on PostgreSQL.
 * @throws ConfigError naming every fault at once
 */
export const parseAuditAdmin = (
  env: Env,
  readFile: (path: string) => string,
  execArgv: readonly string[] = [],
): { readonly adminUrl: Secret; readonly retentionDays: number } => {
  const reader = createReader(env, readFile)
  checkNode(reader, env, execArgv)
  const url = reader.readSecret('AUDIT_ADMIN_URL')
  if (url !== undefined) checkAdminUrl(reader, url)
  else if (reader.sound('AUDIT_ADMIN_URL_FILE')) {
    reader.fault('AUDIT_ADMIN_URL', 'must be set (or AUDIT_ADMIN_URL_FILE)')
  }
  const retentionDays = reader.read('AUDIT_RETENTION_DAYS')
  throwFaults(reader)
  return { adminUrl: new Secret(url ?? ''), retentionDays }
}

const checkNode = ({ fault }: Reader, env: Env, execArgv: readonly string[]): void => {
  for (const [name, rule] of nodeFaults(env, execArgv)) fault(name, rule)
}

const throwFaults = ({ faults }: Reader): void => {
  if (faults.size > 0) throw new ConfigError([...faults].map(([name, rule]) => `${name} ${rule}`))
}

const readConfig = (reader: Reader): Config => {
  const { read } = reader
  return {
    host: read('HOST'),
    port: read('PORT'),
    admin: { host: read('ADMIN_HOST'), port: read('ADMIN_PORT') },
    publicUrl: read('PUBLIC_URL'),
    corsOrigins: read('CORS_ORIGINS'),
    keys: readKeys(reader),
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
    apiKeys: { entries: readApiKeys(reader), file: reader.given('API_KEYS_FILE') },
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
      redisUrl: readRedisUrl(reader),
      storeFailure: read('RATE_LIMIT_STORE_FAILURE'),
    },
    audit: { ...readAudit(reader), retentionDays: read('AUDIT_RETENTION_DAYS') },
    docsEnabled: read('DOCS_ENABLED'),
    consoleEnabled: read('CONSOLE_ENABLED'),
    shutdown: { graceMs: read('SHUTDOWN_GRACE_MS'), delayMs: read('SHUTDOWN_DELAY_MS') },
    logLevel: read('LOG_LEVEL'),
    logAddresses: read('LOG_ADDRESSES'),
    otlpEndpoint: read('OTEL_EXPORTER_OTLP_ENDPOINT'),
  }
}

const readKeys = (reader: Reader): Config['keys'] => {
  if (reader.read('CREDENTIALS') === 'chain') return null
  const requireSecret = (name: SecretName): Secret => {
    const text = reader.readSecret(name)
    if (text === undefined && reader.sound(`${name}_FILE`)) reader.fault(name, `must be set (or ${name}_FILE)`)
    return new Secret(text ?? '')
  }
  const securityToken = reader.readSecret('ALIBABA_CLOUD_SECURITY_TOKEN')
  return {
    accessKeyId: requireSecret('ALIBABA_CLOUD_ACCESS_KEY_ID'),
    accessKeySecret: requireSecret('ALIBABA_CLOUD_ACCESS_KEY_SECRET'),
    securityToken: securityToken === undefined ? undefined : new Secret(securityToken),
    files: KEY_PARTS.flatMap(([part, name]) => {
      const [setting, path] = [`${name}_FILE`, reader.given(`${name}_FILE`)]
      return path === undefined ? [] : [{ part, setting, path }]
    }),
  }
}

/** The variable that a secret came by. */
const nameOf = ({ given }: Reader, name: SecretName): string =>
  given(`${name}_FILE`) === undefined ? name : `${name}_FILE`

const readApiKeys = (reader: Reader): readonly ApiKeyEntry[] => {
  const text = reader.readSecret('API_KEYS')
  if (text === undefined || !reader.sound('API_KEYS_FILE')) return []
  return readEntries(reader, nameOf(reader, 'API_KEYS'), parseApiKeys(text))
}

const DEFAULT_AUDIT_PATH = './data/audit.db'

const checkAdminUrl = (reader: Reader, url: string): void => {
  const setting = nameOf(reader, 'AUDIT_ADMIN_URL')
  if (!isPostgresUrl(url)) reader.fault(setting, `must be ${POSTGRES_RULE}`)
  else if (!isDecodable(url)) reader.fault(setting, PERCENT_RULE)
}

const readAudit = (reader: Reader): AuditPlace => {
  const [url, adminUrl] = [reader.readSecret('AUDIT_URL'), reader.readSecret('AUDIT_ADMIN_URL')]
  if (adminUrl !== undefined) checkAdminUrl(reader, adminUrl)
  if (url !== undefined && isPostgresUrl(url)) {
    if (!isDecodable(url)) reader.fault(nameOf(reader, 'AUDIT_URL'), PERCENT_RULE)
    return {
      kind: 'postgres',
      url: new Secret(url),
      adminUrl: adminUrl === undefined ? undefined : new Secret(adminUrl),
    }
  }
  if (url !== undefined && !SQLITE.test(url)) {
    reader.fault(nameOf(reader, 'AUDIT_URL'), `must be sqlite:<path of a file>, or ${POSTGRES_RULE}`)
  }
  if (adminUrl !== undefined) reader.fault(nameOf(reader, 'AUDIT_ADMIN_URL'), 'needs an AUDIT_URL of PostgreSQL')
  return { kind: 'sqlite', path: url?.slice('sqlite:'.length) ?? DEFAULT_AUDIT_PATH }
}

const readRedisUrl = (reader: Reader): Secret | undefined => {
  const url = reader.readSecret('REDIS_URL')
  const setting = nameOf(reader, 'REDIS_URL')
  if (url !== undefined && !isRedisUrl(url)) reader.fault(setting, REDIS_RULE)
  else if (url !== undefined && !isDecodable(url)) reader.fault(setting, PERCENT_RULE)
  else if (url !== undefined && hasLoneUser(url)) reader.fault(setting, 'must have a password where it has a user')
  return url === undefined ? undefined : new Secret(url)
}

const readGrants = (reader: Reader): Config['grants'] => {
  const file = reader.read('GRANTS_FILE')
  const text = reader.readText('GRANTS_FILE')
  if (file === undefined || text === undefined) return null
  return { entries: readEntries(reader, 'GRANTS_FILE', parseGrants(text)), file }
}

const readEntries = <T>({ fault }: Reader, name: string, parsed: ParsedEntries<T>): readonly T[] => {
  if (parsed.ok && parsed.entries.length > 0) return parsed.entries
  // While running a file may become empty, which revokes the last key; a start with nobody to serve is a mistake.
  fault(name, parsed.ok ? 'must have at least one entry' : parsed.rule)
  return []
}

const readClaimNames = ({ read }: Reader): ClaimNames => ({
  scopeClaim: read('SCOPE_CLAIM'),
  domainsClaim: read('DOMAINS_CLAIM'),
  taskTypesClaim: read('TASK_TYPES_CLAIM'),
})

const readJwt = (reader: Reader): Config['jwt'] => {
  const { read } = reader
  const [issuer, audience] = [read('JWT_ISSUER'), read('JWT_AUDIENCE')]
  const [jwksUrl, algorithms] = [read('JWT_JWKS_URL'), read('JWT_ALGORITHMS')]
  const claimNames = readClaimNames(reader)
  if (issuer === undefined || audience === undefined) return null
  return { issuer, audience, jwksUrl, algorithms, claimNames }
}

const SECRETS_RULE =
  'must be one secret of at least 32 characters, or two with a comma in between: the new and the old one, each as random as npm run secret prints it'

const readSessionSecrets = (reader: Reader): readonly Secret[] => {
  const texts = reader.readSecret('SESSION_SECRET')?.split(',') ?? []
  const secrets = texts.map(trimEnds)
  const isSound = secrets.length <= 2 && secrets.every(isStrongSecret)
  if (!isSound) reader.fault(nameOf(reader, 'SESSION_SECRET'), SECRETS_RULE)
  return secrets.map((text) => new Secret(text))
}

const readSignIn = (reader: Reader): Config['signIn'] => {
  const { read } = reader
  const [issuer, clientId, publicUrl] = [read('OIDC_ISSUER'), read('OIDC_CLIENT_ID'), read('PUBLIC_URL')]
  const clientSecret = reader.readSecret('OIDC_CLIENT_SECRET')
  const clientAuthentication = read('OIDC_CLIENT_AUTH')
  const [first, ...others] = readSessionSecrets(reader)
  const claimNames = readClaimNames(reader)
  const times = { idleMs: read('SESSION_IDLE_MS'), maxMs: read('SESSION_MAX_MS') }
  if (issuer === undefined || clientId === undefined || publicUrl === undefined) return null
  if (clientSecret === undefined || first === undefined) return null
  return {
    issuer,
    clientId,
    clientSecret: new Secret(clientSecret),
    clientAuthentication,
    sessionSecrets: [first, ...others],
    publicUrl,
    claimNames,
    ...times,
  }
}

type Rule = readonly [names: readonly [string, ...string[]], holds: boolean, rule: string]

/** Rules over several settings, each checked where all of its settings are sound: a stand-in proves nothing. */
const checkTogether = ({ read, given, fault, sound }: Reader, config: Config): void => {
  const { upstream, requestTimeoutMs, shutdown, allowAnonymous } = config
  // The first name is at fault where the rule is broken.
  const isGiven = (name: string): boolean => given(name) !== undefined || given(`${name}_FILE`) !== undefined
  const needs = (name: string, ...others: readonly string[]): Rule => {
    const missing = others.filter((other) => !isGiven(other))
    return [[name, ...others], !isGiven(name) || missing.length === 0, `needs ${missing.join(', ')}`]
  }
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
      return [[setting, 'CREDENTIALS'], config.keys !== null || given(setting) === undefined, 'needs CREDENTIALS=env']
    }),
    needs('JWT_ISSUER', 'JWT_AUDIENCE'),
    needs('JWT_AUDIENCE', 'JWT_ISSUER'),
    needs('JWT_JWKS_URL', 'JWT_ISSUER'),
    [
      ['RATE_LIMIT_STORE_FAILURE', 'REDIS_URL', 'REDIS_URL_FILE'],
      config.rateLimit.storeFailure === 'local' || config.rateLimit.redisUrl !== undefined,
      'needs REDIS_URL',
    ],
    needs('OIDC_ISSUER', 'OIDC_CLIENT_ID', 'OIDC_CLIENT_SECRET', 'SESSION_SECRET', 'PUBLIC_URL'),
    ...['OIDC_CLIENT_ID', 'OIDC_CLIENT_SECRET', 'SESSION_SECRET'].map((name) => needs(name, 'OIDC_ISSUER')),
    [
      ['PUBLIC_URL', 'OIDC_ISSUER'],
      config.signIn === null || isSafeUrl(new URL(config.signIn.publicUrl)),
      'must be https: (http: for a loopback host) where browsers sign in',
    ],
    ...['GRANTS_FILE', 'SCOPE_CLAIM', 'DOMAINS_CLAIM', 'TASK_TYPES_CLAIM'].map(
      (name): Rule => [
        [name, 'JWT_ISSUER', 'OIDC_ISSUER'],
        !isGiven(name) || isGiven('JWT_ISSUER') || isGiven('OIDC_ISSUER'),
        'needs JWT_ISSUER or OIDC_ISSUER',
      ],
    ),
    [
      ['API_KEYS', 'API_KEYS_FILE', 'ALLOW_ANONYMOUS', 'JWT_ISSUER', 'JWT_AUDIENCE', 'OIDC_ISSUER'],
      allowAnonymous || config.apiKeys.entries.length > 0 || config.jwt !== null || config.signIn !== null,
      'or API_KEYS_FILE, JWT_ISSUER or OIDC_ISSUER must be set, or else ALLOW_ANONYMOUS=true',
    ],
  ]
  for (const [names, holds, rule] of rules) if (!holds && sound(...names)) fault(names[0], rule)
}

const isSafeUpstream = (url: URL, allowHttp: boolean): boolean =>
  url.protocol === 'https:' || allowHttp || isLoopback(url.hostname)
