import * as z from 'zod'
import { DEFAULT_SCOPE_CLAIM } from './callers/claims.ts'
import {
  algorithms,
  auditPlace,
  choice,
  claimName,
  claimNameOrNone,
  collectorUrl,
  flag,
  integer,
  issuer,
  origins,
  postgresUrl,
  publicOrigin,
  redisUrl,
  safeUrl,
  secret,
  sessionSecrets,
  signInScopes,
  subnets,
  upstreamOrigin,
} from './settings/schemas.ts'
import type { TextKind } from './settings/text.ts'

/** A variable of the environment. `npm run docs` writes `.env.example` and `docs/configuration.md` from these rows. */
export interface Setting<T = unknown> {
  /** Reads the text of the variable, or of `default`. Optional if there is no default. */
  readonly schema: z.ZodType<T>
  /** In the form in which an operator would write it. */
  readonly default?: string
  /** An empty variable is a value of its own, and not the default. */
  readonly mayBeEmpty?: true
  /**
   * Which part of the text is secret: all of it, the password of a URL, or fields of JSON. Such a setting can come as
   * `NAME_FILE`, a path, instead.
   */
  readonly secret?: 'text' | 'url' | 'json'
  /** Limits the characters beyond visible ones, if the schema does not. */
  readonly characters?: TextKind
  /** In `.env.example`, instead of the default. An empty one is for the operator to fill in. */
  readonly example?: string
  /** Settings that must be given too: all of these, or at least one of these. */
  readonly needs?: readonly string[]
  readonly needsOneOf?: readonly string[]
  /** Sentences in Markdown. `.env.example` has the first one only. The rule of the schema, and the needs, are added. */
  readonly description: readonly [string, ...string[]]
}

type Group = Readonly<Record<string, Setting>>

const MAX_TIMER_MS = 2 ** 31 - 1
/** A stolen session works until it ends. */
const SESSION_LIMIT_MS = 3_600_000

const UPSTREAM_CREDENTIALS = {
  ALIBABA_CLOUD_ACCESS_KEY_ID: {
    schema: secret.optional(),
    secret: 'text',
    characters: 'access-key',
    example: '',
    description: [
      'Id of the AccessKey that signs the calls to the upstream.',
      'Required with `CREDENTIALS=env`.',
      'Files of the three credentials are read again within seconds of a change; they need `CREDENTIALS=env`.',
    ],
  },
  ALIBABA_CLOUD_ACCESS_KEY_SECRET: {
    schema: secret.optional(),
    secret: 'text',
    characters: 'access-key',
    example: '',
    description: ['Secret of that AccessKey.', 'Required with `CREDENTIALS=env`.'],
  },
  ALIBABA_CLOUD_SECURITY_TOKEN: {
    schema: secret.optional(),
    secret: 'text',
    characters: 'access-key',
    example: '<the token>',
    description: ['Security token, for STS credentials only.'],
  },
  CREDENTIALS: {
    schema: choice(['env', 'chain']),
    default: 'env',
    description: [
      'Source of the upstream credentials: `env` (the variables above) or `chain` (the default chain of the vendor).',
      'The chain covers RRSA, profile files, the role of the ECS instance and a credentials URI.',
    ],
  },
} as const satisfies Group

const CALLERS = {
  API_KEYS: {
    schema: z.string().optional(),
    secret: 'json',
    characters: 'json',
    example: '[{"name":"ops","sha256":"<64 hex digits>","scopes":["tasks:cancel","tasks:read"]}]',
    description: [
      'Callers with an API key: a JSON array of [entries](authentication.md#api-keys).',
      '`npm run key -- NAME` makes a key and its entry.',
      '`API_KEYS_FILE` is read again within seconds of a change.',
    ],
  },
  JWT_ISSUER: {
    schema: issuer.optional(),
    example: 'https://id.example.com',
    needs: ['JWT_AUDIENCE'],
    description: ['Issuer of the tokens (JWT) that are accepted.'],
  },
  JWT_AUDIENCE: {
    schema: z.string().optional(),
    example: 'domain-task-gateway',
    needs: ['JWT_ISSUER'],
    description: ['Audience that the tokens must be made for.'],
  },
  JWT_JWKS_URL: {
    schema: safeUrl.optional(),
    example: 'https://id.example.com/keys',
    needs: ['JWT_ISSUER'],
    description: [
      'URL of the keys of the issuer.',
      'Unless set, the metadata of the issuer (`/.well-known/openid-configuration`) names it.',
    ],
  },
  JWT_ALGORITHMS: {
    schema: algorithms,
    default: 'RS256,ES256,PS256,EdDSA,Ed25519',
    description: ['Algorithms of signatures that are accepted.'],
  },
  SCOPE_CLAIM: {
    schema: claimName,
    default: DEFAULT_SCOPE_CLAIM,
    needsOneOf: ['JWT_ISSUER', 'OIDC_ISSUER'],
    description: [
      'Claim that lists the scopes, in a token or in the ID token of a sign-in.',
      'With the default, the claim `scp` is read if `scope` is missing.',
    ],
  },
  DOMAINS_CLAIM: {
    schema: claimName.optional(),
    example: 'domains',
    needsOneOf: ['JWT_ISSUER', 'OIDC_ISSUER'],
    description: ['Claim that restricts the holder of a token to domains.', 'Unless set, tokens restrict no domains.'],
  },
  TASK_TYPES_CLAIM: {
    schema: claimName.optional(),
    example: 'task_types',
    needsOneOf: ['JWT_ISSUER', 'OIDC_ISSUER'],
    description: [
      'Claim that restricts the holder of a token to types of tasks.',
      'Unless set, tokens restrict no types.',
    ],
  },
  NAME_CLAIM: {
    schema: claimNameOrNone,
    default: 'name',
    mayBeEmpty: true,
    description: [
      'Claim with the [name of the person](authentication.md#names-of-people), in a token or in the ID token of a sign-in.',
      'The name is shown and recorded beside `sub`, and never decides anything.',
      'Empty: no names.',
    ],
  },
  GRANTS_FILE: {
    schema: z.string().optional(),
    example: './grants.json',
    needsOneOf: ['JWT_ISSUER', 'OIDC_ISSUER'],
    description: [
      'Path of a file that grants scopes and restrictions by name, in place of the claims.',
      'A JSON array of [grants](authentication.md#jwt).',
      'Read again within seconds of a change.',
    ],
  },
  ALLOW_ANONYMOUS: {
    schema: flag,
    default: 'false',
    description: ['Callers without credentials may cancel and read all tasks.', 'Needs a loopback `HOST`.'],
  },
} as const satisfies Group

const SIGN_IN = {
  OIDC_ISSUER: {
    schema: issuer.optional(),
    example: 'https://id.example.com',
    needs: ['OIDC_CLIENT_ID', 'OIDC_CLIENT_SECRET', 'SESSION_SECRET', 'PUBLIC_URL'],
    description: [
      'OpenID provider at which browsers sign in.',
      'Register `PUBLIC_URL` + `/auth/callback` there as redirect URI.',
    ],
  },
  OIDC_CLIENT_ID: {
    schema: z.string().optional(),
    characters: 'client',
    example: 'domain-task-gateway',
    needs: ['OIDC_ISSUER'],
    description: ['Id of the gateway at that provider.'],
  },
  OIDC_CLIENT_SECRET: {
    schema: secret.optional(),
    secret: 'text',
    characters: 'client',
    example: '<the secret of the client>',
    needs: ['OIDC_ISSUER'],
    description: ['Secret of the gateway at that provider.'],
  },
  // Basic is the method that every provider has to support (RFC 6749, section 2.3.1).
  OIDC_CLIENT_AUTH: {
    schema: choice(['client_secret_basic', 'client_secret_post']),
    default: 'client_secret_basic',
    description: [
      'Method by which the gateway authenticates at that provider.',
      '`client_secret_post` is for providers that do not decode the credentials of Basic.',
    ],
  },
  OIDC_SCOPES: {
    schema: signInScopes,
    default: 'openid',
    example: 'openid profile',
    description: [
      'Scopes that a sign-in requests from that provider, separated by blanks.',
      'Many providers state the claim `name` only with the scope `profile`.',
    ],
  },
  SESSION_SECRET: {
    schema: sessionSecrets.optional(),
    secret: 'text',
    example: '<the output of npm run secret>',
    needs: ['OIDC_ISSUER'],
    description: [
      'Secret that sessions are encrypted with.',
      '`npm run secret` prints [a suitable value](authentication.md#browser-sessions).',
    ],
  },
  SESSION_IDLE_MS: {
    schema: integer(1000, SESSION_LIMIT_MS),
    default: '900000',
    description: ['Milliseconds from the last user activity to the end of a session.'],
  },
  SESSION_MAX_MS: {
    schema: integer(1000, SESSION_LIMIT_MS),
    default: '3600000',
    description: ['Milliseconds from the sign-in to the end of a session.', 'Clocks of replicas may differ by 5 s.'],
  },
} as const satisfies Group

const ADDRESSES = {
  PORT: {
    schema: integer(0, 65_535),
    default: '3000',
    description: ['Port for callers.', '0 picks a free port and logs it.'],
  },
  HOST: {
    schema: z.string().optional(),
    characters: 'host',
    example: '127.0.0.1',
    description: ['Address of the interface for callers.', 'All interfaces unless set.'],
  },
  ADMIN_PORT: {
    schema: integer(0, 65_535),
    default: '9464',
    description: [
      'Port of `GET /metrics` for Prometheus, and of `/livez` and `/readyz` for probes.',
      'Metrics are served on this port alone, without credentials, so keep it in the network of the operator.',
      'Probes are served here also while `PORT` has its maximum of connections.',
      '0 picks a free port and logs it.',
    ],
  },
  ADMIN_HOST: {
    schema: z.string(),
    default: '127.0.0.1',
    characters: 'host',
    description: [
      'Address of the interface for `ADMIN_PORT`.',
      'The `Host` of a request to that port must be an address, `ADMIN_HOST`, `localhost` or a name without a dot.',
      'A name below `.internal`, `.svc`, `.cluster.local` or `.localhost` is accepted too.',
    ],
  },
  PUBLIC_URL: {
    schema: publicOrigin.optional(),
    example: 'https://gateway.example.com',
    description: [
      'Origin of the gateway as callers see it.',
      'Problem types and `Location` are built from it.',
      'Sign-in needs it, over `https:` (`http:` for a loopback host).',
    ],
  },
  CORS_ORIGINS: {
    schema: origins,
    default: '',
    example: 'https://app.example.com,http://localhost:5173',
    description: ['Origins of the pages that may call the gateway and use sessions, in the form that browsers send.'],
  },
  TRUST_PROXY: {
    schema: subnets,
    default: '',
    example: '10.0.0.0/8',
    description: [
      'Trusted proxies: only their `X-Forwarded-For` is used.',
      'Unless set, the peer of the connection is the client.',
    ],
  },
  MAX_CONNECTIONS: {
    schema: integer(1, 1_000_000),
    default: '10000',
    description: ['Connections to `PORT` at a time.', 'Connections beyond it are closed at once.'],
  },
  MAX_CONNECTIONS_PER_ADDRESS: {
    schema: integer(1, 1_000_000),
    default: '2500',
    description: [
      'Connections to `PORT` at a time from one peer address (IPv6: /56).',
      'Connections beyond it are closed at once.',
      'Peers in `TRUST_PROXY` have no limit of their own.',
    ],
  },
} as const satisfies Group

const UPSTREAM = {
  UPSTREAM_URL: {
    schema: upstreamOrigin,
    default: 'https://domain.aliyuncs.com',
    description: [
      'Origin of the Domain API.',
      'Accounts of the international site use `https://domain-intl.aliyuncs.com`.',
      '`http:` is for a loopback host only.',
    ],
  },
  UPSTREAM_ALLOW_HTTP: {
    schema: flag,
    default: 'false',
    description: ['Allows `http:` to other hosts too, such as a sandbox in a container network.'],
  },
  UPSTREAM_SIGNATURE: {
    schema: choice(['rpc-v1', 'acs3']),
    default: 'rpc-v1',
    description: ['Version of the signature.', '`acs3` is ACS3-HMAC-SHA256.'],
  },
  UPSTREAM_TIMEOUT_MS: {
    schema: integer(10, 600_000),
    default: '5000',
    description: ['Milliseconds for one attempt.'],
  },
  UPSTREAM_MAX_ATTEMPTS: {
    schema: integer(1, 10),
    default: '3',
    description: [
      'Attempts for one call.',
      'Only failures after which another attempt is safe are tried again.',
      'An attempt that is signed anew with the time of the upstream counts too.',
    ],
  },
  UPSTREAM_MAX_CONCURRENCY: {
    schema: integer(1, 10_000),
    default: '64',
    description: [
      'Attempts in flight at a time, for each replica.',
      'Attempts beyond it wait for up to a second.',
      'Reads of callers leave three eighths of the places (of few places, the one that is needed) free.',
      'These places are for cancellations and their own reads.',
    ],
  },
  UPSTREAM_MAX_RPS: {
    schema: integer(1, 100_000).optional(),
    example: '50',
    description: [
      'Attempts per second, evenly spaced, for each replica.',
      'No limit unless set.',
      'Cancellations are sent before all reads.',
      'An attempt that would wait for more than a second is refused at once.',
      'Divide the quota of the account among the replicas.',
    ],
  },
  REQUEST_TIMEOUT_MS: {
    schema: integer(10, 600_000),
    default: '15000',
    description: ['Milliseconds for one request of a caller.', 'At least `UPSTREAM_TIMEOUT_MS` + 3000.'],
  },
  TASK_LOOKUP_LIMIT: {
    schema: integer(1, 1000),
    default: '200',
    description: [
      'Number of the newest tasks that a lookup by task number reads.',
      'If the task is not among them, the lookup reads the newest 1000 tasks of the day on which the task was created.',
    ],
  },
  POLICY_DETAILS_LIMIT: {
    schema: integer(1, 100_000),
    default: '5000',
    description: [
      'Number of details of a task that a policy check reads.',
      'Callers with restrictions can neither cancel nor read a task with more details.',
    ],
  },
} as const satisfies Group

const RATE_LIMITS = {
  RATE_LIMIT_MAX: {
    schema: integer(1, 1_000_000),
    default: '60',
    description: ['Cancellations for each caller and window.', 'Completed sign-ins have the same limit.'],
  },
  RATE_LIMIT_READ_MAX: {
    schema: integer(1, 1_000_000),
    default: '600',
    description: [
      'Reads for each caller and window.',
      'A read costs 1 for each call to the upstream that it starts itself, and at least 1.',
      'See [limits of reads](api.md#limits-of-reads).',
    ],
  },
  RATE_LIMIT_UNKNOWN_MAX: {
    schema: integer(1, 1_000_000),
    default: '30',
    description: [
      'Failed authentications for each address (IPv6: /56) and window.',
      'Beyond it, only API keys and tokens that are already known, and sessions, are accepted.',
      'Sign-ins that were begun and not completed, failed sign-ins, and sign-outs have the same limit, each for itself.',
    ],
  },
  RATE_LIMIT_WINDOW_MS: {
    schema: integer(1000, MAX_TIMER_MS),
    default: '60000',
    description: ['Milliseconds in a window.'],
  },
  REDIS_URL: {
    schema: redisUrl.optional(),
    secret: 'url',
    example: 'redis://gateway:<password>@redis.internal:6379',
    description: [
      'Redis in which replicas count these limits together and share sign-outs.',
      'Unless set, each replica counts for itself.',
      'A user needs a password.',
      'In both, a `%` that stands for itself is `%25`.',
    ],
  },
  RATE_LIMIT_STORE_FAILURE: {
    schema: choice(['local', 'deny']),
    default: 'local',
    description: [
      'Behaviour while Redis is unavailable.',
      '`local`: each replica counts for itself, and honours the sign-outs that it knows.',
      '`deny`: every request that would be counted is refused, those with a session included.',
      '`/readyz` shows which one is in effect.',
      '`deny` needs `REDIS_URL`.',
    ],
  },
} as const satisfies Group

const AUDIT_TRAIL = {
  AUDIT_URL: {
    schema: auditPlace,
    default: 'sqlite:./data/audit.db',
    secret: 'url',
    description: [
      'Place of the audit trail: a file of SQLite, or a database of PostgreSQL, which several gateways can share.',
      'In the user, the password and the database of a URL, a `%` that stands for itself is `%25`.',
    ],
  },
  AUDIT_ADMIN_URL: {
    schema: postgresUrl.optional(),
    secret: 'url',
    example: 'postgres://record_owner:<password>@db.example.com/record',
    description: [
      'PostgreSQL role that creates and migrates the tables, and removes old records.',
      'For `npm run migrate` and `npm run prune`; a gateway that has it does both by itself.',
      'Needs an `AUDIT_URL` of PostgreSQL.',
    ],
  },
  AUDIT_RETENTION_DAYS: {
    schema: integer(1, 36_500),
    default: '365',
    description: ['Days after which audit records are removed.'],
  },
} as const satisfies Group

const SHUTDOWN = {
  SHUTDOWN_DELAY_MS: {
    schema: integer(0, 3_600_000),
    default: '0',
    description: ['Milliseconds after SIGTERM in which requests are still served, while `/readyz` is already 503.'],
  },
  SHUTDOWN_GRACE_MS: {
    schema: integer(0, 3_600_000),
    default: '20000',
    description: [
      'Milliseconds after that delay in which requests in flight can finish.',
      'At least `REQUEST_TIMEOUT_MS` + 5000.',
    ],
  },
} as const satisfies Group

const PAGES = {
  DOCS_ENABLED: {
    schema: flag,
    default: 'false',
    description: ['Serves `/openapi.json`, and `/docs` to read it and try it out.'],
  },
  CONSOLE_ENABLED: {
    schema: flag,
    default: 'false',
    description: ['Serves `/console`, a page to look at tasks and cancel them.'],
  },
} as const satisfies Group

const TELEMETRY = {
  LOG_LEVEL: {
    schema: choice(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']),
    default: 'info',
    description: ['Least severe level that is logged.'],
  },
  LOG_ADDRESSES: {
    schema: choice(['full', 'truncated']),
    default: 'full',
    description: [
      'Addresses of callers in the log.',
      '`truncated` logs only their network (IPv4: /24, IPv6: /48).',
      'The audit trail has them in full.',
    ],
  },
  OTEL_EXPORTER_OTLP_ENDPOINT: {
    schema: collectorUrl.optional(),
    example: 'http://localhost:4318',
    description: [
      'Collector that receives traces, over HTTP as JSON.',
      'No tracing unless set.',
      'A trace has spans of the request, the policy, the audit record and each attempt.',
      'A collector that does not accept traces is logged once, and does not affect requests.',
    ],
  },
} as const satisfies Group

/** By title, in the order of the documents. */
export const GROUPS: Readonly<Record<string, Group>> = {
  'Upstream credentials': UPSTREAM_CREDENTIALS,
  Callers: CALLERS,
  'Sign-in of browsers': SIGN_IN,
  'Addresses and connections': ADDRESSES,
  Upstream: UPSTREAM,
  'Rate limits': RATE_LIMITS,
  'Audit trail': AUDIT_TRAIL,
  Shutdown: SHUTDOWN,
  Pages: PAGES,
  'Logs and traces': TELEMETRY,
}

const ROWS = {
  ...UPSTREAM_CREDENTIALS,
  ...CALLERS,
  ...SIGN_IN,
  ...ADDRESSES,
  ...UPSTREAM,
  ...RATE_LIMITS,
  ...AUDIT_TRAIL,
  ...SHUTDOWN,
  ...PAGES,
  ...TELEMETRY,
}

/** The value of each setting. */
export type Values = { readonly [K in keyof typeof ROWS]: z.output<(typeof ROWS)[K]['schema']> }

export const SETTINGS: { readonly [K in keyof Values]: Setting<Values[K]> } = ROWS

/** Every variable that the gateway reads. */
export const SETTING_NAMES: readonly string[] = Object.entries<Setting>(SETTINGS).flatMap(([name, { secret }]) =>
  secret === undefined ? [name] : [name, `${name}_FILE`],
)
