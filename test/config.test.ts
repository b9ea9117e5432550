import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inspect } from 'node:util'
import fc from 'fast-check'
import { sha256 } from '../src/callers/api-keys.ts'
import { type Config, type Env, parseConfig } from '../src/config.ts'
import { ConfigError } from '../src/errors.ts'
import { Secret } from '../src/secret.ts'
import { createSecret } from '../src/settings/secret-strength.ts'
import { SETTING_NAMES, SETTINGS, type Setting } from '../src/settings.ts'

const ROWS = Object.entries<Setting>(SETTINGS)
const SECRETS = ROWS.flatMap(([name, { secret }]) => (secret === undefined ? [] : [name]))
const UPSTREAM_SECRETS = SECRETS.filter((name) => name.startsWith('ALIBABA_CLOUD_'))

const KEYS = { ALIBABA_CLOUD_ACCESS_KEY_ID: 'id', ALIBABA_CLOUD_ACCESS_KEY_SECRET: 'secret' } as const
const HASH = sha256('key').toString('hex')
const ENTRY = { name: 'shop', sha256: HASH, scopes: ['tasks:cancel'] } as const
const API_KEYS = JSON.stringify([ENTRY])
const SOUND: Env = { ...KEYS, API_KEYS }
/** With these, no rule over two settings gets in the way of a single one. */
const WIDE: Env = { UPSTREAM_TIMEOUT_MS: '10', REQUEST_TIMEOUT_MS: '600000', SHUTDOWN_GRACE_MS: '3600000' }

type ReadFile = (path: string) => string

const noFile: ReadFile = () => {
  throw new Error('ENOENT canary')
}

const parse = (env: Env = {}, readFile = noFile): Config => parseConfig({ ...SOUND, ...env }, readFile)

/** The faulty settings with their rules, one a line; none where the settings are sound. */
const faultsOf = (env: Env = {}, readFile = noFile): readonly string[] => {
  try {
    parse(env, readFile)
    return []
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error))
    const [title, ...lines] = error.message.split('\n')
    assert.equal(title, 'Faulty settings:')
    return lines.map((line) => line.trim())
  }
}

const POSTGRES_RULE =
  'postgres://<role>:<password>@<host>/<database>, with no parameter but sslmode=verify-full or sslmode=disable'

/** The rules of the schemas, by setting: no setting can hold this control character. */
const RULES_OF_SCHEMAS = Object.fromEntries(
  ROWS.flatMap(
    ([name, { schema }]) => schema.safeParse('\0').error?.issues.map(({ message }) => [name, message]) ?? [],
  ),
)

const INTEGERS = Object.fromEntries(
  Object.entries(RULES_OF_SCHEMAS).flatMap(([name, rule]) => {
    const [, min, max] = /^must be a whole number from (\d+) to (\d+)$/.exec(rule) ?? []
    return max === undefined ? [] : [[name, [Number(min), Number(max)] as const]]
  }),
)

const RULES: Readonly<Record<string, string>> = {
  ...RULES_OF_SCHEMAS,
  PUBLIC_URL: 'must be an http(s) origin without a path, such as https://gateway.example.com',
  CORS_ORIGINS:
    'must be http(s) origins such as https://app.example.com, in lower case, without path, default port or wildcard, separated by commas',
  CREDENTIALS: 'must be one of env, chain',
  UPSTREAM_URL: 'must be an origin without a path, such as https://domain.aliyuncs.com',
  UPSTREAM_SIGNATURE: 'must be one of rpc-v1, acs3',
  OIDC_CLIENT_AUTH: 'must be one of client_secret_basic, client_secret_post',
  JWT_ISSUER: 'must be an https: URL (http: for a loopback host) without credentials, query or fragment',
  OIDC_ISSUER: 'must be an https: URL (http: for a loopback host) without credentials, query or fragment',
  JWT_JWKS_URL: 'must be an https: URL (http: for a loopback host) without credentials or fragment',
  JWT_ALGORITHMS:
    'must be some of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, Ed25519, separated by commas',
  SCOPE_CLAIM: 'must be the name of a claim, without spaces',
  DOMAINS_CLAIM: 'must be the name of a claim, without spaces',
  TASK_TYPES_CLAIM: 'must be the name of a claim, without spaces',
  NAME_CLAIM: 'must be the name of a claim, without spaces, or empty',
  OIDC_SCOPES: 'must be scopes separated by blanks, one of them openid',
  TRUST_PROXY: 'must be addresses or CIDR blocks, separated by commas, none of them /0 or IPv4-mapped',
  AUDIT_URL: `must be sqlite:<path of a file>, or ${POSTGRES_RULE}`,
  AUDIT_ADMIN_URL: `must be ${POSTGRES_RULE}`,
  REDIS_URL: 'must be redis(s)://<user>:<password>@<host>:<port>/<number>, of which all but the host may be left out',
  RATE_LIMIT_STORE_FAILURE: 'must be one of local, deny',
  OTEL_EXPORTER_OTLP_ENDPOINT: 'must be an http(s) URL without credentials, query or fragment',
  LOG_ADDRESSES: 'must be one of full, truncated',
  LOG_LEVEL: 'must be one of fatal, error, warn, info, debug, trace, silent',
}

const CROSS_RULES = {
  HTTPS: 'UPSTREAM_URL must be https: (http: for a loopback host, or with UPSTREAM_ALLOW_HTTP=true)',
  REQUEST: 'REQUEST_TIMEOUT_MS must be at least UPSTREAM_TIMEOUT_MS + 3000',
  GRACE: 'SHUTDOWN_GRACE_MS must be at least REQUEST_TIMEOUT_MS + 5000',
  LOOPBACK: 'ALLOW_ANONYMOUS needs a loopback HOST, such as 127.0.0.1',
  CALLERS: 'API_KEYS or API_KEYS_FILE, JWT_ISSUER or OIDC_ISSUER must be set, or else ALLOW_ANONYMOUS=true',
  AUDIENCE: 'JWT_ISSUER needs JWT_AUDIENCE',
  ISSUER: 'JWT_AUDIENCE needs JWT_ISSUER',
  STORE: 'RATE_LIMIT_STORE_FAILURE needs REDIS_URL',
  ISSUER_OF_KEYS: 'JWT_JWKS_URL needs JWT_ISSUER',
  ISSUER_OF_GRANTS: 'GRANTS_FILE needs JWT_ISSUER or OIDC_ISSUER',
  ISSUER_OF_SCOPES: 'SCOPE_CLAIM needs JWT_ISSUER or OIDC_ISSUER',
  ISSUER_OF_DOMAINS: 'DOMAINS_CLAIM needs JWT_ISSUER or OIDC_ISSUER',
  ISSUER_OF_TYPES: 'TASK_TYPES_CLAIM needs JWT_ISSUER or OIDC_ISSUER',
  SECRETS:
    'SESSION_SECRET must be one secret of at least 32 characters, or two with a comma in between: the new and the old one, each as random as npm run secret prints it',
  SAFE_SIGN_IN: 'PUBLIC_URL must be https: (http: for a loopback host) where browsers sign in',
} as const

test('a setting that is not given has the default of the documents', () => {
  const { credentials, trustProxy, apiKeys, ...rest } = parse()
  assert.partialDeepStrictEqual(rest, {
    host: undefined,
    port: 3000,
    admin: { host: '127.0.0.1', port: 9464 },
    publicUrl: undefined,
    corsOrigins: [],
    upstream: {
      url: new URL('https://domain.aliyuncs.com'),
      signature: 'rpc-v1',
      timeoutMs: 5000,
      maxAttempts: 3,
      maxConcurrency: 64,
      maxPerSecond: undefined,
    },
    requestTimeoutMs: 15_000,
    taskLookupLimit: 200,
    policyDetailsLimit: 5000,
    jwt: null,
    signIn: null,
    grants: null,
    allowAnonymous: false,
    connections: { max: 10_000, maxPerAddress: 2500 },
    rateLimit: {
      max: 60,
      readMax: 600,
      unknownMax: 30,
      windowMs: 60_000,
      redisUrl: undefined,
      storeFailure: 'local',
    },
    audit: { kind: 'sqlite', path: './data/audit.db', retentionDays: 365 },
    docsEnabled: false,
    consoleEnabled: false,
    shutdown: { graceMs: 20_000, delayMs: 0 },
    logLevel: 'info',
    logAddresses: 'full',
    otlpEndpoint: undefined,
  })
  assert.deepEqual(
    [credentials?.securityToken, trustProxy.has('127.0.0.1'), apiKeys.file],
    [undefined, false, undefined],
  )
})

test('an empty variable counts as not given', () => {
  const empty = Object.fromEntries(SETTING_NAMES.map((name) => [name, '']))
  assert.deepEqual(parse({ ...empty, ...SOUND }), parse())
  assert.deepEqual(faultsOf({ ...empty, ...SOUND, API_KEYS: '' }), [CROSS_RULES.CALLERS])
})

for (const [name, expected, pick] of [
  ['HOST', '0.0.0.0', (config) => config.host],
  ['PORT', 0, (config) => config.port],
  ['PORT', 65_535, (config) => config.port],
  ['UPSTREAM_TIMEOUT_MS', 12, (config) => config.upstream.timeoutMs],
  ['UPSTREAM_MAX_ATTEMPTS', 10, (config) => config.upstream.maxAttempts],
  ['UPSTREAM_MAX_CONCURRENCY', 9, (config) => config.upstream.maxConcurrency],
  ['UPSTREAM_MAX_RPS', 11, (config) => config.upstream.maxPerSecond],
  ['UPSTREAM_SIGNATURE', 'acs3', (config) => config.upstream.signature],
  ['UPSTREAM_SIGNATURE', 'rpc-v1', (config) => config.upstream.signature],
  ['REQUEST_TIMEOUT_MS', 600_000, (config) => config.requestTimeoutMs],
  ['TASK_LOOKUP_LIMIT', 7, (config) => config.taskLookupLimit],
  ['POLICY_DETAILS_LIMIT', 8, (config) => config.policyDetailsLimit],
  ['MAX_CONNECTIONS', 5, (config) => config.connections.max],
  ['MAX_CONNECTIONS_PER_ADDRESS', 6, (config) => config.connections.maxPerAddress],
  ['RATE_LIMIT_MAX', 1, (config) => config.rateLimit.max],
  ['RATE_LIMIT_READ_MAX', 2, (config) => config.rateLimit.readMax],
  ['RATE_LIMIT_UNKNOWN_MAX', 3, (config) => config.rateLimit.unknownMax],
  ['RATE_LIMIT_WINDOW_MS', 1000, (config) => config.rateLimit.windowMs],
  ['SHUTDOWN_GRACE_MS', 3_599_999, (config) => config.shutdown.graceMs],
  ['SHUTDOWN_DELAY_MS', 4, (config) => config.shutdown.delayMs],
  ['LOG_LEVEL', 'silent', (config) => config.logLevel],
  ['PUBLIC_URL', 'https://gateway.example.com:8443', (config) => config.publicUrl],
] as const satisfies readonly (readonly [string, string | number, (config: Config) => unknown])[]) {
  test(`${name}=${expected} is read`, () => {
    assert.deepEqual(pick(parse({ ...WIDE, [name]: String(expected) })), expected)
  })
}

test('the API documents are served only if the setting is true', () => {
  assert.deepEqual(
    [parse({ DOCS_ENABLED: 'true' }), parse({ DOCS_ENABLED: 'false' })].map((it) => it.docsEnabled),
    [true, false],
  )
})

const ISSUER = 'https://id.example.com'
const JWT: Env = { JWT_ISSUER: ISSUER, JWT_AUDIENCE: 'gateway' }

test('an issuer has the defaults of the documents', () => {
  assert.deepEqual(parse(JWT).jwt, {
    issuer: ISSUER,
    audience: 'gateway',
    jwksUrl: undefined,
    algorithms: ['RS256', 'ES256', 'PS256', 'EdDSA', 'Ed25519'],
    claimNames: { scopeClaim: 'scope', domainsClaim: undefined, taskTypesClaim: undefined },
    nameClaim: 'name',
  })
})

test('the other settings of tokens are read', () => {
  const more = {
    JWT_JWKS_URL: `${ISSUER}/keys?a=b`,
    JWT_ALGORITHMS: 'ES512, EdDSA, Ed25519',
    SCOPE_CLAIM: 'https://a.example/s',
  }
  const { jwt } = parse({ ...JWT, ...more })
  assert.deepEqual(
    [jwt?.jwksUrl?.href, jwt?.algorithms, jwt?.claimNames.scopeClaim],
    [`${ISSUER}/keys?a=b`, ['ES512', 'EdDSA', 'Ed25519'], 'https://a.example/s'],
  )
})

for (const [url, sound] of [
  ['https://id.example.com', true],
  ['https://id.example.com/', true],
  ['https://id.example.com/realms/a', true],
  ['http://127.0.0.1:8080', true],
  ['http://[::1]:8080/a', true],
  ['http://id.example.com', false],
  ['http://localhost.example.com', false],
  ['https://u:p@id.example.com', false],
  ['https://id.example.com#a', false],
  ['https://id.example\n.com', false],
  ['https://id\u200b.example.com', false],
  ['file:///etc/passwd', false],
  ['id.example.com', false],
] as const) {
  for (const name of ['JWT_ISSUER', 'JWT_JWKS_URL']) {
    test(`${name}=${JSON.stringify(url)} is ${sound ? 'accepted' : 'refused'}`, () => {
      assert.deepEqual(faultsOf({ ...JWT, [name]: url }), sound ? [] : [`${name} ${RULES[name]}`])
    })
  }
}

test('an issuer stays as it was written, and has no query', () => {
  assert.equal(
    parse({ ...JWT, JWT_ISSUER: 'https://ID.example.com:443/a/' }).jwt?.issuer,
    'https://ID.example.com:443/a/',
  )
  assert.deepEqual(faultsOf({ ...JWT, JWT_ISSUER: `${ISSUER}?a` }), [`JWT_ISSUER ${RULES.JWT_ISSUER}`])
})

for (const [env, fault] of [
  [{ JWT_ISSUER: ISSUER }, CROSS_RULES.AUDIENCE],
  [{ JWT_AUDIENCE: 'gateway' }, CROSS_RULES.ISSUER],
  [{ RATE_LIMIT_STORE_FAILURE: 'deny' }, CROSS_RULES.STORE],
  [{ JWT_JWKS_URL: ISSUER }, CROSS_RULES.ISSUER_OF_KEYS],
  [{ GRANTS_FILE: '/run/grants' }, CROSS_RULES.ISSUER_OF_GRANTS],
  [{ SCOPE_CLAIM: 'roles' }, CROSS_RULES.ISSUER_OF_SCOPES],
  [{ DOMAINS_CLAIM: 'domains' }, CROSS_RULES.ISSUER_OF_DOMAINS],
  [{ TASK_TYPES_CLAIM: 'types' }, CROSS_RULES.ISSUER_OF_TYPES],
] as const) {
  test(`${Object.keys(env)} alone stops the start`, () => {
    assert.deepEqual(
      faultsOf(env, () => GRANTS),
      [fault],
    )
  })
}

const GRANT = { issuer: ISSUER, sub: 'ops', scopes: ['tasks:cancel'] } as const
const GRANTS = JSON.stringify([GRANT])

test('with tokens, API keys are not required', () => {
  assert.deepEqual(faultsOf({ ...JWT, API_KEYS: undefined }), [])
})

test('grants are read from their file, and its path is kept', () => {
  const { grants } = parse({ ...JWT, GRANTS_FILE: '/run/grants' }, (path) => (path === '/run/grants' ? GRANTS : ''))
  assert.deepEqual(grants, { entries: [{ ...GRANT, domains: null, taskTypes: null }], file: '/run/grants' })
})

for (const [text, rule] of [
  ['{}', 'must be a JSON array of {"issuer","sub","scopes"}'],
  ['', 'must name a file that is not empty'],
  ['[]', 'must have at least one entry'],
  [JSON.stringify([{ ...GRANT, domains: 'a.example' }]), 'entry 1, domains: must be a list of domains'],
  [JSON.stringify([{ ...GRANT, taskTypes: [''] }]), 'entry 1, taskTypes, 0: must be a type of task, such as CHG_DNS'],
] as const) {
  test(`GRANTS_FILE with ${text || 'nothing'} in it stops the start`, () => {
    assert.deepEqual(
      faultsOf({ ...JWT, GRANTS_FILE: '/x' }, () => text),
      [`GRANTS_FILE ${rule}`],
    )
  })
}

test('a file of grants that can not be read stops the start', () => {
  assert.deepEqual(faultsOf({ ...JWT, GRANTS_FILE: '/x' }), ['GRANTS_FILE must name a file that can be read'])
})

test('a public origin is told in its canonical form', () => {
  assert.equal(parse({ PUBLIC_URL: 'HTTPS://Gateway.Example.com:443/' }).publicUrl, 'https://gateway.example.com')
})

test('origins of pages are told as browsers send them', () => {
  const { corsOrigins } = parse({
    CORS_ORIGINS: 'https://app.example, http://localhost:5173,https://xn--bcher-kva.example',
  })
  assert.deepEqual(corsOrigins, ['https://app.example', 'http://localhost:5173', 'https://xn--bcher-kva.example'])
})

test('the keys of Alibaba Cloud are secrets from the start', () => {
  const { credentials } = parse({ ALIBABA_CLOUD_SECURITY_TOKEN: 'token' })
  assert.deepEqual(
    [credentials?.accessKeyId, credentials?.accessKeySecret, credentials?.securityToken].map((key) => key?.reveal()),
    ['id', 'secret', 'token'],
  )
  assert.doesNotMatch(JSON.stringify(credentials), /"(id|token)"|"secret"/)
})

test('the record may stand at any path', () => {
  const { audit } = parse({ AUDIT_URL: 'sqlite:/var/lib/a b.db' })
  assert.deepEqual(audit, { kind: 'sqlite', path: '/var/lib/a b.db', retentionDays: 365 })
})

const POSTGRES_URL = 'postgres://gateway:canary@db.example.com/record'
const ADMIN_URL = 'postgresql://owner:canary@[2001:db8::1]:6432/record?sslmode=verify-full'

test('the audit trail can be on PostgreSQL, and its passwords are secrets from the start', () => {
  const { audit } = parse({ AUDIT_URL: POSTGRES_URL, AUDIT_ADMIN_URL: ADMIN_URL, AUDIT_RETENTION_DAYS: '30' })
  assert.ok(audit.kind === 'postgres')
  assert.deepEqual([audit.url.reveal(), audit.adminUrl?.reveal(), audit.retentionDays], [POSTGRES_URL, ADMIN_URL, 30])
  assert.doesNotMatch(inspect(audit) + JSON.stringify(audit), /canary/)
})

test('both addresses of the record can come from files', () => {
  const texts: Readonly<Record<string, string>> = { '/run/url': `${POSTGRES_URL}\n`, '/run/admin': ADMIN_URL }
  const files = { AUDIT_URL_FILE: '/run/url', AUDIT_ADMIN_URL_FILE: '/run/admin' }
  const { audit } = parse(files, (path) => texts[path] ?? '')
  assert.ok(audit.kind === 'postgres')
  assert.deepEqual([audit.url.reveal(), audit.adminUrl?.reveal()], [POSTGRES_URL, ADMIN_URL])
})

test('an administrator of a record that needs none is a mistake', () => {
  assert.deepEqual(faultsOf({ AUDIT_ADMIN_URL: ADMIN_URL }), ['AUDIT_ADMIN_URL needs an AUDIT_URL of PostgreSQL'])
})

for (const url of [
  'redis://a.example',
  'rediss://u:canary@a.example:6380/2',
  'redis://:canary@[::1]:1/',
  'redis://a',
]) {
  test(`limits can be counted together at ${url}, which is a secret from the start`, () => {
    const { rateLimit } = parse({ REDIS_URL: url, RATE_LIMIT_STORE_FAILURE: 'deny' })
    assert.deepEqual([rateLimit.redisUrl?.reveal(), rateLimit.storeFailure], [url, 'deny'])
    assert.doesNotMatch(inspect(rateLimit) + JSON.stringify(rateLimit), /canary/)
  })
}

const PERCENT_RULE =
  'must have its user, password and database percent-encoded (a % that stands for itself is written as %25)'

for (const [name, url] of [
  ['REDIS_URL', 'redis://u:canary%@a.example'],
  ['REDIS_URL', 'redis://:100%canary@a.example'],
  ['REDIS_URL', 'rediss://u%zz:canary@a.example/1'],
  ['REDIS_URL', 'redis://:canary%ff@a.example'],
  ['REDIS_URL', 'redis://:canary%E4%BB@a.example'],
  ['AUDIT_URL', 'postgres://u:canary%@a.example/x'],
  ['AUDIT_URL', 'postgresql://u%:canary@a.example/x?sslmode=verify-full'],
  ['AUDIT_URL', 'postgres://u:canary@a.example/x%'],
  ['AUDIT_URL', 'postgres://u:canary%2@a.example/x'],
  ['AUDIT_ADMIN_URL', 'postgres://u:%canary@a.example/x'],
] as const) {
  test(`a percent sign that begins no escape is a mistake of ${name}: ${url}`, () => {
    const others = name === 'AUDIT_ADMIN_URL' ? { AUDIT_URL: POSTGRES_URL } : {}
    assert.deepEqual(faultsOf({ ...others, [name]: url }), [`${name} ${PERCENT_RULE}`])
  })

  test(`a percent sign that begins no escape is a mistake of the file of ${name}: ${url}`, () => {
    const others = name === 'AUDIT_ADMIN_URL' ? { AUDIT_URL: POSTGRES_URL } : {}
    assert.throws(
      () => parse({ ...others, [`${name}_FILE`]: '/run/url' }, () => url),
      (error: Error) => error.message.includes(`${name}_FILE ${PERCENT_RULE}`) && !error.message.includes('canary'),
    )
  })
}

for (const url of ['redis://:100%25%2F%40@a.example', 'redis://%E4%BB%8A:canary%25@a.example']) {
  test(`a percent-encoded password is no mistake: ${url}`, () => {
    assert.equal(parse({ REDIS_URL: url }).rateLimit.redisUrl?.reveal(), url)
  })
}

test('a user of Redis without a password is a mistake, since another user would be used', () => {
  for (const url of ['redis://canary@a.example', 'rediss://canary:@a.example/1']) {
    assert.deepEqual(faultsOf({ REDIS_URL: url }), ['REDIS_URL must have a password where it has a user'])
  }
})

test('where limits are counted can come from a file', () => {
  const { rateLimit } = parse({ REDIS_URL_FILE: '/run/redis' }, () => 'redis://a.example\n')
  assert.equal(rateLimit.redisUrl?.reveal(), 'redis://a.example')
})

for (const [name, [min, max]] of Object.entries(INTEGERS)) {
  const rule = `${name} must be a whole number from ${min} to ${max}`
  test(`${name} is a whole number from ${min} to ${max}`, () => {
    const faulty = [min - 1, max + 1, `${min}.5`, `+${max}`, `1 ${max}`, '1e1', '0x10', '1_0', '١٠', 'NaN']
    for (const text of faulty) assert.ok(faultsOf({ ...WIDE, [name]: String(text) }).includes(rule), String(text))
    for (const text of [min, max]) assert.ok(!faultsOf({ ...WIDE, [name]: String(text) }).includes(rule), String(text))
  })
}

const FAULTY_POSTGRES_URLS = [
  ...[
    'postgres://',
    'postgres:///x',
    'postgres://a.example',
    'postgres://u:p@a.example',
    'postgres://u:p@a.example/x/y',
  ],
  ...['postgres://a.example/x', 'mysql://u:p@a.example/x', 'postgres://u:p@a.example/x#y'],
  // These would replace options that the gateway relies on, or only seem to protect.
  ...[
    '?options=-csynchronous_commit=off',
    '?sslmode=no-verify',
    '?sslmode=require',
    '?host=/tmp',
    '?sslmode=disable&x=y',
  ].map((search) => `postgres://u:p@a.example/x${search}`),
]

const FAULTY: Readonly<Record<string, readonly string[]>> = {
  PUBLIC_URL: [
    'gateway.example.com',
    'https://a.example/x',
    'https://a.example/?',
    'https://u:p@a.example',
    'ftp://a.b',
  ],
  CORS_ORIGINS: [
    ...['*', 'null', 'app.example', '//app.example', 'file:///x', 'ftp://app.example', 'blob:https://app.example'],
    ...['https://app.example/', 'https://app.example/x', 'https://app.example?', 'https://app.example#', 'https://'],
    ...['https://*.example', 'https://*', 'https://u:p@app.example', 'https://@app.example', 'https://App.example'],
    ...['HTTPS://app.example', 'https://app.example:443', 'http://app.example:80', 'https://app.example:0443'],
    ...['https://app.example:99999', 'https://bücher.example', 'https://app.example,', ',', 'https://app.example,*'],
    ...['https://a.example https://b.example', 'https://a.example,null', 'https://a.example;https://b.example'],
  ],
  REDIS_URL: [
    ...['redis://', 'redis:///0', 'a.example:6379', 'http://a.example', 'unix:///run/redis.sock', 'redis:a.example'],
    ...['redis://a.example/x', 'redis://a.example/0/1', 'redis://a.example?x', 'redis://a.example#x'],
  ],
  RATE_LIMIT_STORE_FAILURE: ['allow', 'LOCAL', 'open'],
  CREDENTIALS: ['ram', 'ENV', 'e nv'],
  UPSTREAM_URL: ['x', 'https://a.example/x', 'https://a.example?x', 'https://u@a.example', 'file:///x', 'https://'],
  UPSTREAM_ALLOW_HTTP: ['yes', '1', 'TRUE'],
  UPSTREAM_SIGNATURE: ['acs', 'RPC-V1'],
  OIDC_CLIENT_AUTH: ['basic', 'none', 'client_secret_jwt', 'CLIENT_SECRET_POST'],
  ALLOW_ANONYMOUS: ['yes', '1', 'True'],
  AUDIT_URL: ['sqlite:', './data/audit.db', 'SQLITE:x', ...FAULTY_POSTGRES_URLS],
  AUDIT_ADMIN_URL: ['sqlite:x', ...FAULTY_POSTGRES_URLS],
  JWT_ALGORITHMS: [
    ...[
      'none',
      'HS256',
      'HS384',
      'HS512',
      'RS256,HS256',
      'RS256,none',
      'RS256,',
      ',',
      'rs256',
      'RS256 ES256',
      'A128KW',
    ],
    ...['RSA-OAEP', 'dir', '*', 'ML-DSA-44'],
  ],
  SCOPE_CLAIM: ['a b', 'ä', 'a\u200bb'],
  NAME_CLAIM: ['a b', 'ä', 'a\u200bb'],
  OIDC_SCOPES: ['profile', 'openid,profile', 'openid "x"', 'openid ä', 'OPENID'],
  OTEL_EXPORTER_OTLP_ENDPOINT: ['localhost:4318', 'grpc://a.example', 'http://u:p@a.example', 'http://a.example?x'],
  LOG_ADDRESSES: ['none', 'true', 'Full'],
  LOG_LEVEL: ['verbose', 'INFO', '30'],
  TRUST_PROXY: [
    ...['x', 'proxy.example', '10.0.0.1,', ',', '10.0.0.1 10.0.0.2', '10.0.0.0/', '10.0.0.0/x', '10.0.0.0/33', '10/8'],
    ...['0.0.0.0/0', '::/0', '0.0.0.0/00', '10.0.0.0/-1', '10.0.0.0/8/8', '::/129', '::1/1.5', '[::1]', '10.0.0.1:80'],
    ...[
      '::ffff:10.0.0.1',
      '::ffff:192.168.100.200',
      '::FFFF:a00:1',
      '::ffff:0:0/96',
      '10.0.0.1,0.0.0.0/0',
      '010.0.0.1',
      '*',
      'loopback',
    ],
  ],
}

for (const [name, texts] of Object.entries(FAULTY)) {
  for (const text of texts) {
    test(`${name}=${text} stops the start`, () => {
      assert.deepEqual(faultsOf({ [name]: text }), [`${name} ${RULES[name]}`])
    })
  }
}

for (const [text, trusted, foreign] of [
  ['10.0.0.1', '10.0.0.1', '10.0.0.2'],
  ['10.0.0.0/8', '10.255.0.1', '11.0.0.1'],
  [' 192.0.2.1 ,  10.0.0.0/31', '10.0.0.1', '10.0.0.2'],
  ['0.0.0.0/1', '127.0.0.1', '128.0.0.1'],
  ['fd00::/8', 'fd12::1', 'fe80::1'],
  ['FD00:0::0001', 'fd00::1', 'fd00::2'],
  ['::1', '::1', '127.0.0.1'],
] as const) {
  test(`TRUST_PROXY=${text} means ${trusted}, not ${foreign}`, () => {
    const { trustProxy } = parse({ TRUST_PROXY: text })
    assert.deepEqual([trustProxy.has(trusted), trustProxy.has(foreign)], [true, false])
  })
}

// Node's BlockList compares IPv4 addresses with IPv6 subnets by their mapped form, where each of these holds them all.
for (const text of ['0:0:0:0:0:ffff:0:0/96', '::0:ffff:0:0/96', '0::ffff:10.0.0.1', 'fe80::1%eth0']) {
  test(`TRUST_PROXY=${text} is refused, however it is spelled`, () => {
    assert.deepEqual(faultsOf({ TRUST_PROXY: text }), [`TRUST_PROXY ${RULES.TRUST_PROXY}`])
  })
}

for (const text of ['::/1', '::/64', '::/80']) {
  test(`TRUST_PROXY=${text} trusts no IPv4 address`, () => {
    const { trustProxy } = parse({ TRUST_PROXY: text })
    assert.deepEqual([trustProxy.has('::1'), trustProxy.has('10.0.0.1')], [true, false])
  })
}

for (const [url, more, sound] of [
  ['https://a.example', {}, true],
  ['http://127.0.0.1:8080', {}, true],
  ['http://localhost:8080', {}, true],
  ['http://[::1]:8080', {}, true],
  ['http://a.example', {}, false],
  ['http://a.example', { UPSTREAM_ALLOW_HTTP: 'false' }, false],
  ['http://a.example', { UPSTREAM_ALLOW_HTTP: 'true' }, true],
  ['http://127.0.0.1.a.example', {}, false],
  ['http://localhost.a.example', {}, false],
  ['http://10.0.0.1', {}, false],
  ['http://0.0.0.0', {}, false],
] as const) {
  test(`the upstream ${url} with ${JSON.stringify(more)} is ${sound ? 'accepted' : 'refused'}`, () => {
    assert.deepEqual(faultsOf({ UPSTREAM_URL: url, ...more }), sound ? [] : [CROSS_RULES.HTTPS])
  })
}

for (const [name, env, faults] of [
  ['a request lasts one attempt and 3 s', { UPSTREAM_TIMEOUT_MS: '12000' }, []],
  ['a request lasts less', { UPSTREAM_TIMEOUT_MS: '12001' }, [CROSS_RULES.REQUEST]],
  ['a request lasts less', { REQUEST_TIMEOUT_MS: '7999' }, [CROSS_RULES.REQUEST]],
  ['the grace period lasts one request and 5 s', { REQUEST_TIMEOUT_MS: '8000', SHUTDOWN_GRACE_MS: '13000' }, []],
  ['the grace period lasts less', { REQUEST_TIMEOUT_MS: '15001' }, [CROSS_RULES.GRACE]],
  ['the grace period lasts less', { SHUTDOWN_GRACE_MS: '19999' }, [CROSS_RULES.GRACE]],
  ['a time is faulty itself', { REQUEST_TIMEOUT_MS: '9' }, [`REQUEST_TIMEOUT_MS ${RULES.REQUEST_TIMEOUT_MS}`]],
  ['a delay is added', { SHUTDOWN_DELAY_MS: '3600000' }, []],
] as const) {
  test(`${name} (${JSON.stringify(env)}): ${faults.length === 0 ? 'accepted' : 'refused'}`, () => {
    assert.deepEqual(faultsOf(env), faults)
  })
}

for (const host of [
  '127.0.0.1',
  '127.1.2.3',
  'localhost',
  'LOCALHOST',
  '::1',
  undefined,
  '0.0.0.0',
  '::',
  'a.example',
]) {
  const sound = host !== undefined && /^(127|local|::1)/i.test(host)
  test(`anonymous callers at the host ${host ?? 'of all interfaces'} are ${sound ? 'accepted' : 'refused'}`, () => {
    const env = { API_KEYS: '', ALLOW_ANONYMOUS: 'true', HOST: host }
    assert.deepEqual(faultsOf(env), sound ? [] : [CROSS_RULES.LOOPBACK])
  })
}

test('anonymous callers need a loopback host even where there are keys too', () => {
  assert.deepEqual(faultsOf({ ALLOW_ANONYMOUS: 'true', HOST: '0.0.0.0' }), [CROSS_RULES.LOOPBACK])
  assert.equal(parse({ ALLOW_ANONYMOUS: 'true', HOST: '127.0.0.1' }).allowAnonymous, true)
})

for (const anonymous of [undefined, 'false']) {
  test(`with no way to know callers and ALLOW_ANONYMOUS=${anonymous} the start stops`, () => {
    assert.deepEqual(faultsOf({ API_KEYS: undefined, ALLOW_ANONYMOUS: anonymous }), [CROSS_RULES.CALLERS])
  })
}

test('variables that are none of ours are left alone', () => {
  assert.deepEqual(
    faultsOf({ PATH: '/bin', HOME: '/', npm_config_x: 'x', XJWT_ISSUER: 'x', MY_REDIS_URL: 'x', SESSION_MANAGER: 'x' }),
    [],
  )
})

for (const name of [...UPSTREAM_SECRETS, 'API_KEYS']) {
  const file = `${name}_FILE`
  const without = { [name]: undefined, [file]: '/run/x' }

  test(`${file} names the file that holds ${name}, line end not included`, () => {
    const text = name === 'API_KEYS' ? API_KEYS : 'from-file'
    const paths: string[] = []
    const config = parse(without, (path) => `${paths.push(path) && text}\r\n`)
    const { accessKeyId, accessKeySecret, securityToken } = config.credentials ?? {}
    const revealed = [accessKeyId, accessKeySecret, securityToken].map((key) => key?.reveal())
    assert.equal(revealed.includes('from-file'), name !== 'API_KEYS')
    assert.deepEqual([paths, config.apiKeys.entries[0]?.caller.name], [['/run/x'], 'shop'])
  })

  test(`${file} that can't be read, or holds nothing, stops the start`, () => {
    assert.deepEqual(faultsOf(without), [`${file} must name a file that can be read`])
    assert.deepEqual(
      faultsOf(without, () => ' \n'),
      [`${file} must name a file that is not empty`],
    )
  })

  test(`${name} and ${file} together stop the start`, () => {
    const text = name === 'API_KEYS' ? API_KEYS : 'x'
    const both = { [name]: text, [file]: '/run/x' }
    assert.deepEqual(
      faultsOf(both, () => text),
      [`${name} must not be set together with ${file}`],
    )
  })
}

test('a setting without a secret can not come as a file', () => {
  assert.equal(parse({ PORT: '3001', PORT_FILE: '/run/port' }).port, 3001)
})

test('a path with an invisible character stops the start', () => {
  assert.deepEqual(
    faultsOf({ API_KEYS: '', API_KEYS_FILE: '/run\u200b/keys' }, () => API_KEYS),
    ['API_KEYS_FILE must contain only visible characters and blanks'],
  )
})

test('an invisible character in a secret is reported before the rule of its form', () => {
  assert.deepEqual(faultsOf({ REDIS_URL: 'redis://a\u200b.example' }), [
    'REDIS_URL must contain only visible characters and blanks',
  ])
})

const SESSION_SECRET = 'a secret of thirty-two characters'
const OTHER_SECRET = '8f1c2b7d90e43a65f7d8c1b2a3949e0d'
const SIGN_IN: Env = {
  OIDC_ISSUER: ISSUER,
  OIDC_CLIENT_ID: 'gateway',
  OIDC_CLIENT_SECRET: 'secret',
  SESSION_SECRET,
  PUBLIC_URL: 'https://gateway.example.com',
}

// A faulty setting has its default until the start stops, and the default would break the rule over both.
for (const [name, env] of [
  ['UPSTREAM_TIMEOUT_MS', { UPSTREAM_TIMEOUT_MS: 'x', REQUEST_TIMEOUT_MS: '7999' }],
  ['REQUEST_TIMEOUT_MS', { REQUEST_TIMEOUT_MS: 'x', SHUTDOWN_GRACE_MS: '19999' }],
  ['UPSTREAM_ALLOW_HTTP', { UPSTREAM_ALLOW_HTTP: 'x', UPSTREAM_URL: 'http://a.example' }],
  ['HOST', { HOST: '(', ALLOW_ANONYMOUS: 'true' }],
  ['ALLOW_ANONYMOUS', { ALLOW_ANONYMOUS: 'x', API_KEYS: '' }],
  ['REDIS_URL', { REDIS_URL: 'x', RATE_LIMIT_STORE_FAILURE: 'deny' }],
  ['AUDIT_URL', { AUDIT_URL: 'x', AUDIT_ADMIN_URL: ADMIN_URL }],
  ['OIDC_CLIENT_ID', { ...SIGN_IN, OIDC_CLIENT_ID: 'ü', API_KEYS: '' }],
] as const satisfies readonly (readonly [string, Env])[]) {
  test(`a faulty ${name} is not reported as a fault of another setting (${Object.keys(env)})`, () => {
    const [fault = '', ...more] = faultsOf(env)
    assert.ok(fault.startsWith(`${name} must `), fault)
    assert.deepEqual(more, [])
  })
}

test('a public origin that is not safe for sign-in is reported beside a weak secret', () => {
  const faults = faultsOf({ ...SIGN_IN, SESSION_SECRET: 'x', PUBLIC_URL: 'http://gateway.example.com' })
  assert.deepEqual(faults, [CROSS_RULES.SECRETS, CROSS_RULES.SAFE_SIGN_IN])
})

test('a provider for sign-ins has the defaults of the documents', () => {
  const { signIn } = parse({ ...SIGN_IN, API_KEYS: undefined })
  const { clientSecret, sessionSecrets, ...rest } = signIn ?? {}
  assert.deepEqual([clientSecret?.reveal(), sessionSecrets?.map((it) => it.reveal())], ['secret', [SESSION_SECRET]])
  assert.deepEqual(rest, {
    issuer: ISSUER,
    clientId: 'gateway',
    clientAuthentication: 'client_secret_basic',
    scopes: 'openid',
    publicUrl: 'https://gateway.example.com',
    nameClaim: 'name',
    claimNames: { scopeClaim: 'scope', domainsClaim: undefined, taskTypesClaim: undefined },
    idleMs: 900_000,
    maxMs: 3_600_000,
  })
})

test('OIDC_CLIENT_AUTH selects the method of authentication at the provider', () => {
  const { signIn } = parse({ ...SIGN_IN, OIDC_CLIENT_AUTH: 'client_secret_post' })
  assert.equal(signIn?.clientAuthentication, 'client_secret_post')
})

for (const name of ['OIDC_CLIENT_SECRET', 'SESSION_SECRET']) {
  test(`${name} can come as a file`, () => {
    const { signIn } = parse({ ...SIGN_IN, [name]: undefined, [`${name}_FILE`]: '/run/x' }, () => `${OTHER_SECRET}\n`)
    const secrets = [signIn?.clientSecret, ...(signIn?.sessionSecrets ?? [])].map((it) => it?.reveal())
    assert.ok(secrets.includes(OTHER_SECRET))
  })
}

test('the start stops and names each missing setting of sign-in', () => {
  for (const name of Object.keys(SIGN_IN).filter((it) => it !== 'OIDC_ISSUER')) {
    assert.deepEqual(faultsOf({ ...SIGN_IN, [name]: undefined }), [`OIDC_ISSUER needs ${name}`])
  }
  const others = ['OIDC_CLIENT_ID', 'OIDC_CLIENT_SECRET', 'SESSION_SECRET']
  const faults = others.map((name) => `${name} needs OIDC_ISSUER`)
  assert.deepEqual(faultsOf({ ...SIGN_IN, OIDC_ISSUER: undefined }), faults)
  const missing = `OIDC_ISSUER needs ${others.join(', ')}, PUBLIC_URL`
  assert.deepEqual(faultsOf({ OIDC_ISSUER: ISSUER }), [missing])
})

for (const [secret, sound] of [
  [OTHER_SECRET, true],
  [`${SESSION_SECRET},${OTHER_SECRET}`, true],
  [`${SESSION_SECRET} , ${OTHER_SECRET}`, true],
  [OTHER_SECRET.slice(1), false],
  [`${OTHER_SECRET.slice(1)} `, false],
  [`${SESSION_SECRET},${OTHER_SECRET.slice(1)}`, false],
  [`${SESSION_SECRET},`, false],
  [[SESSION_SECRET, OTHER_SECRET, createSecret()].join(), false],
  ['q'.repeat(32), false],
  [`${'q'.repeat(64)},${OTHER_SECRET}`, false],
  [`${OTHER_SECRET},${'0'.repeat(32)}`, false],
] as const) {
  test(`SESSION_SECRET=${secret} is ${sound ? 'accepted' : 'refused'}`, () => {
    assert.deepEqual(faultsOf({ ...SIGN_IN, SESSION_SECRET: secret }), sound ? [] : [CROSS_RULES.SECRETS])
  })
}

const PLACEHOLDER_RULE = 'must not be a placeholder, such as those of .env.example'

for (const text of ['<the secret>', 'changeme', 'CHANGE_ME-please', 'your-secret', '{SECRET}', '****', 'xxxxxxxx']) {
  test(`${text} is no secret, wherever one is due, and a password in a URL neither`, () => {
    for (const [name] of ROWS.filter(([, { secret }]) => secret === 'text')) {
      assert.deepEqual(faultsOf({ ...SIGN_IN, [name]: text }), [`${name} ${PLACEHOLDER_RULE}`])
      const inFile = { ...SIGN_IN, [name]: undefined, [`${name}_FILE`]: '/run/x' }
      assert.deepEqual(
        faultsOf(inFile, () => `${text}\n`),
        [`${name}_FILE ${PLACEHOLDER_RULE}`],
      )
    }
    const postgres = (password: string): string => `postgres://gateway:${password}@db.example.com/record`
    const urls = {
      REDIS_URL: `redis://:${text}@redis.internal`,
      AUDIT_URL: postgres(text),
      AUDIT_ADMIN_URL: postgres(text),
    }
    for (const [name, url] of Object.entries(urls)) {
      const env = { AUDIT_URL: postgres('x'), [name]: url }
      assert.deepEqual(faultsOf(env), [`${name} ${PLACEHOLDER_RULE}`])
    }
  })
}

for (const [key, isWeak] of [
  ['', true],
  ['changeme', true],
  ['secret', true],
  ['SECRET', true],
  ['Password', true],
  ['test', true],
  [' ', true],
  ['\n', true],
  ['changeme\n', true],
  ['dtg_1', false],
] as const) {
  test(`an API key ${JSON.stringify(key)} ${isWeak ? 'stops the start' : 'is accepted'}, in any place of the list`, () => {
    const hash = sha256(key).toString('hex')
    const rule = 'must not list the SHA-256 of an empty or well-known key'
    for (const hashes of [hash, hash.toUpperCase(), [HASH, hash]]) {
      const API_KEYS = JSON.stringify([{ ...ENTRY, sha256: hashes }])
      assert.deepEqual(faultsOf({ API_KEYS }), isWeak ? [`API_KEYS ${rule}`] : [])
    }
  })
}

for (const [url, sound] of [
  ['https://gateway.example.com', true],
  ['http://127.0.0.1:3000', true],
  ['http://localhost:3000', true],
  ['http://gateway.example.com', false],
] as const) {
  test(`browsers ${sound ? 'may' : 'may not'} sign in at ${url}`, () => {
    assert.deepEqual(faultsOf({ ...SIGN_IN, PUBLIC_URL: url }), sound ? [] : [CROSS_RULES.SAFE_SIGN_IN])
  })
}

for (const name of Object.keys(KEYS)) {
  test(`without ${name} nothing can be signed, so the start stops`, () => {
    assert.deepEqual(faultsOf({ [name]: undefined }), [`${name} must be set (or ${name}_FILE)`])
  })
}

test('the files that keys come from are told, so that they can be read again', () => {
  const env = { ALIBABA_CLOUD_ACCESS_KEY_ID: '', ALIBABA_CLOUD_ACCESS_KEY_ID_FILE: '/run/id' }
  assert.deepEqual(parse(env, () => 'x').credentials?.files, [
    { part: 'accessKeyId', setting: 'ALIBABA_CLOUD_ACCESS_KEY_ID_FILE', path: '/run/id' },
  ])
})

test('where the chain brings the keys, none need to be set', () => {
  const none = { ALIBABA_CLOUD_ACCESS_KEY_ID: '', ALIBABA_CLOUD_ACCESS_KEY_SECRET: '' }
  assert.equal(parse({ ...none, CREDENTIALS: 'chain' }).credentials, null)
  assert.equal(parse({ CREDENTIALS: 'chain' }).credentials, null)
})

test('the chain knows nothing of files of keys, so that naming one stops the start', () => {
  const names = UPSTREAM_SECRETS.map((name) => `${name}_FILE`)
  const env = { CREDENTIALS: 'chain', ...Object.fromEntries(names.map((name) => [name, '/run/x'])) }
  assert.deepEqual(
    faultsOf(env, () => 'x'),
    names.map((name) => `${name} needs CREDENTIALS=env`),
  )
})

test('the path of the file of keys is told, so that it can be read again', () => {
  const { apiKeys } = parse({ API_KEYS: '', API_KEYS_FILE: '/run/keys' }, () => API_KEYS)
  assert.deepEqual([apiKeys.file, apiKeys.entries[0]?.caller.name], ['/run/keys', 'shop'])
})

for (const [name, entries, rule] of [
  ['no array', {}, 'must be a JSON array of {"name","sha256","scopes"}'],
  ['an empty array', [], 'must have at least one entry'],
  ['a key listed twice', [ENTRY, ENTRY], 'must not list a key twice'],
  [
    'every domain',
    [{ ...ENTRY, domains: ['*'] }],
    'entry 1, domains, 0: must be a domain, such as example.com, or *.example.com for those below it',
  ],
  ['types that are null', [{ ...ENTRY, taskTypes: null }], 'entry 1, taskTypes: must be a list of types of tasks'],
] as const) {
  test(`API_KEYS with ${name} stop the start, whether inline or in a file`, () => {
    const text = JSON.stringify(entries)
    assert.deepEqual(faultsOf({ API_KEYS: text }), [`API_KEYS ${rule}`])
    assert.deepEqual(
      faultsOf({ API_KEYS: '', API_KEYS_FILE: '/run/x' }, () => text),
      [`API_KEYS_FILE ${rule}`],
    )
  })
}

test('an entry with a field that is not known stops the start', () => {
  const [fault, ...more] = faultsOf({ API_KEYS: JSON.stringify([{ ...ENTRY, Domains: ['a.example'] }]) })
  assert.match(fault ?? '', /^API_KEYS entry 1: /)
  assert.deepEqual(more, [])
})

test('faulty keys never fall back to anonymous callers', () => {
  assert.equal(faultsOf({ API_KEYS: '[]', ALLOW_ANONYMOUS: 'true', HOST: '127.0.0.1' }).length, 1)
})

test('all faults are told at once, each by its name and rule', () => {
  const env = Object.fromEntries([...Object.keys(RULES), 'API_KEYS'].map((name) => [name, '{ {']))
  const missing = Object.fromEntries(Object.keys(KEYS).map((name) => [name, undefined]))
  const expected = [
    ...Object.entries(RULES).map(([name, rule]) => `${name} ${rule}`),
    ...Object.keys(KEYS).map((name) => `${name} must be set (or ${name}_FILE)`),
    'API_KEYS must be a JSON array of {"name","sha256","scopes"}',
  ]
  assert.deepEqual([...faultsOf({ ...env, ...missing })].sort(), expected.sort())
})

/** Every line that a fault can be told in. A line that is one of these can't hold a value, however short. */
const KNOWN_LINES: readonly string[] = [
  ...Object.entries(RULES).map(([name, rule]) => `${name} ${rule}`),
  ...Object.values(CROSS_RULES),
  ...SECRETS.flatMap((name) => [
    `${name} must be set (or ${name}_FILE)`,
    `${name} must not be set together with ${name}_FILE`,
    `${name}_FILE must name a file that can be read`,
    `${name}_FILE must name a file that is not empty`,
    `${name} must be a JSON array of {"name","sha256","scopes"}`,
    `${name}_FILE must be a JSON array of {"name","sha256","scopes"}`,
    `${name}_FILE ${RULES[name]}`,
    `${name} needs an AUDIT_URL of PostgreSQL`,
    `${name}_FILE needs an AUDIT_URL of PostgreSQL`,
    `${name} ${PLACEHOLDER_RULE}`,
    `${name}_FILE ${PLACEHOLDER_RULE}`,
  ]),
  'GRANTS_FILE must name a file that can be read',
  'GRANTS_FILE must name a file that is not empty',
  'GRANTS_FILE must be a JSON array of {"issuer","sub","scopes"}',
]
const NAME = `(${Object.keys(SETTINGS).join('|')})`
const NEEDS_LINE = new RegExp(`^${NAME} needs ${NAME}(, ${NAME})*$`)
const ENTRY_LINE =
  /^(API_KEYS|API_KEYS_FILE|GRANTS_FILE) (must have at least one entry|entry \d+(, (name|sha256|scopes|expiresAt|domains|taskTypes|\d+))*: (Invalid input: expected \w+, received \w+|must [\w ,:.*-]+|Too small: [\w ]+>=1 items))$/

const TEXT_LINE =
  /^[A-Z_]+ (must name a file, and its text )?must (not be in quotes|be one line|be a host name or an address|contain only (letters, digits and \+ \/ = \. _ ~ -|printable ASCII characters|visible characters and blanks))$/

const LINES = [ENTRY_LINE, NEEDS_LINE, TEXT_LINE] as const

const assertNoValue = (env: Env, readFile: ReadFile): void => {
  for (const line of faultsOf(env, readFile))
    assert.ok(KNOWN_LINES.includes(line) || LINES.some((it) => it.test(line)), line)
}

test('no value of any setting is shown', () => {
  const garbage = fc.oneof(fc.string({ maxLength: 3 }), fc.string({ unit: 'binary' }), fc.webUrl(), fc.ipV6())
  const text = fc.oneof(garbage, fc.constantFrom('0', '1', 'true', 'e', 'a', 'must', '[1]', '[]', '\n', ' ', '/'))
  const envs = fc.record(Object.fromEntries(SETTING_NAMES.map((name) => [name, fc.option(text, { nil: undefined })])))
  const property = fc.property(envs, text, (env, held) => assertNoValue(env, () => held))
  fc.assert(property, { numRuns: 500 })
})

test('no value in an entry of API keys is shown', () => {
  const value = fc.jsonValue({ maxDepth: 1 }).map((json) => (typeof json === 'string' ? `canary${json}` : json))
  const fields = { name: value, sha256: value, scopes: value, expiresAt: value, domains: value, taskTypes: value }
  const property = fc.property(fc.array(fc.record(fields, { requiredKeys: [] })), (entries) => {
    const [fault = '', ...more] = faultsOf({ API_KEYS: JSON.stringify(entries) })
    assert.doesNotMatch(fault, /canary/)
    assertNoValue({ API_KEYS: JSON.stringify(entries) }, noFile)
    assert.deepEqual(more, [])
  })
  fc.assert(property, { numRuns: 300 })
})

test('every setting that is named can be given', () => {
  const faulty = (name: string) => faultsOf({ ...Object.fromEntries(SECRETS.map((it) => [it, ''])), [name]: '\u0000' })
  const unread = SETTING_NAMES.filter((name) => !faulty(name).some((line) => line.startsWith(`${name} `)))
  assert.deepEqual(unread, [])
})

/** A sound value of every setting, and the settings that it needs. */
const ALL: Env = {
  ...Object.fromEntries(
    ROWS.filter(([name, { secret }]) => secret === undefined && !name.endsWith('_FILE')).map(
      ([name, { example, default: text }]) => [name, example ?? text],
    ),
  ),
  ...SIGN_IN,
  ...JWT,
  ALIBABA_CLOUD_SECURITY_TOKEN: 'CAIS/x+y==',
  API_KEYS,
  UPSTREAM_URL: 'https://domain-intl.aliyuncs.com',
  AUDIT_URL: POSTGRES_URL,
  AUDIT_ADMIN_URL: ADMIN_URL,
  REDIS_URL: 'rediss://u:canary@a.example:6380/2',
}

const reveal = (value: unknown): unknown => {
  if (value instanceof Secret) return value.reveal()
  if (Array.isArray(value)) return value.map(reveal)
  const isPlain = typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype
  return isPlain ? Object.fromEntries(Object.entries(value).map(([key, each]) => [key, reveal(each)])) : value
}

const revealed = (config: Config): string => inspect(reveal(config), { depth: 9 })

const readGrants: ReadFile = () => GRANTS

/** Texts of which at least one is sound, and another value than that of ALL. */
const otherTexts = (name: string, { example, default: text }: Setting): readonly (string | undefined)[] => [
  ...(INTEGERS[name] ?? []).flatMap((limit) => [limit - 1, limit, limit + 1]).map(String),
  ...(/^must be one of (.*)$/.exec(RULES[name] ?? '')?.[1]?.split(', ') ?? []),
  ...['true', 'false', 'x', '127.0.0.2', example, text, text?.split(',')[0], undefined, createSecret()],
  ...[ALL[name], example].flatMap((it) => [`${it}x`, `${it}/x`]),
]

for (const [name, row] of ROWS) {
  // The value of the one is a function, and that of the other is part of a rule only: both have tests of their own.
  if (name === 'TRUST_PROXY' || name === 'UPSTREAM_ALLOW_HTTP') continue
  test(`a value of ${name} changes the Config`, () => {
    const base = { ...ALL, ...KEYS, ...WIDE, [name]: { ...ALL, ...KEYS, ...WIDE }[name] }
    const before = revealed(parse(base))
    const texts = otherTexts(name, row).filter((text) => faultsOf({ ...base, [name]: text }, readGrants).length === 0)
    const isRead = texts.some((text) => revealed(parse({ ...base, [name]: text }, readGrants)) !== before)
    assert.ok(isRead, `${name} is not read, or has no example`)
  })
}

for (const [name, dress] of [
  ['a line feed', (text) => `${text}\n`],
  ['CRLF', (text) => `${text}\r\n`],
  ['blanks and tabs', (text) => ` \t${text} \t`],
  ['no-break spaces', (text) => `\u00a0${text}\u202f\u3000`],
  ['a byte order mark', (text) => `\ufeff${text}`],
  ['zero-width characters', (text) => `\u200b\u200c\u200d\u2060${text}\u2060\u200b\ufeff`],
  ['marks of direction', (text) => `\u202a${text}\u202c\u200e`],
  ['the next-line control', (text) => `\u0085${text}\u0085`],
  ['letters and marks without a shape', (text) => `\u3164\u2800${text}\ufe0f\u034f\u{e0100}`],
  ['several of them', (text) => `\ufeff \u200b${text}\u200b \r\n\n`],
] as const satisfies readonly (readonly [string, (text: string) => string])[]) {
  test(`${name} at the ends of a variable or a file of a setting is removed`, () => {
    const plain = parse(ALL)
    const dressed = Object.fromEntries(Object.entries(ALL).map(([key, text]) => [key, dress(text ?? '')]))
    assert.equal(revealed(parse(dressed)), revealed(plain))
    const secrets = SETTING_NAMES.filter((key) => `${key}_FILE` in ALL || SETTING_NAMES.includes(`${key}_FILE`))
    const asFiles = Object.fromEntries(
      secrets.flatMap((key) => [
        [key, undefined],
        [`${key}_FILE`, dress(`/run/${key}`)],
      ]),
    )
    const readFile = (path: string): string => dress({ ...ALL, ...KEYS }[path.slice('/run/'.length)] ?? '')
    const { credentials, apiKeys, ...fromFiles } = parse({ ...ALL, ...KEYS, ...asFiles }, readFile)
    assert.deepEqual(
      [
        credentials?.accessKeySecret.reveal(),
        credentials?.files.map(({ path }) => path),
        apiKeys.file,
        fromFiles.rateLimit.redisUrl?.reveal(),
      ],
      [
        KEYS.ALIBABA_CLOUD_ACCESS_KEY_SECRET,
        UPSTREAM_SECRETS.map((key) => `/run/${key}`),
        '/run/API_KEYS',
        ALL.REDIS_URL,
      ],
    )
  })
}

for (const blank of [' \n', '\ufeff', '\u200b', '\u00a0\r\n']) {
  test(`a variable of ${JSON.stringify(blank)} alone counts as not given`, () => {
    const blanks = Object.fromEntries(SETTING_NAMES.map((name) => [name, blank]))
    assert.deepEqual(parse({ ...blanks, ...SOUND }), parse())
  })
}

for (const [name, spoil] of [
  ['in quotes', (text) => `"${text}"`],
  ['in single quotes', (text) => `'${text}'`],
  ['in quotes, with a line feed after them', (text) => `"${text}"\n`],
  ['in typographic quotes', (text) => `“${text}”`],
  ['in backticks', (text) => `\`${text}\``],
  ['of two lines', (text) => `${text}\n${text}`],
  ['of two lines after CRLF', (text) => `${text}\r\nx`],
  ['with a carriage return inside', (text) => `${text}\rx`],
  ['with a line separator inside', (text) => `${text}\u2028x`],
  ['with a zero-width space inside', (text) => `${text.slice(0, 1)}\u200b${text.slice(1)}`],
  ['with a variation selector inside', (text) => `${text.slice(0, 1)}\ufe0f${text.slice(1)}`],
  ['with a filler inside', (text) => `${text.slice(0, 1)}\u3164${text.slice(1)}`],
  ['with a NUL', (text) => `${text}\u0000x`],
  ['with bytes that are no UTF-8', (text) => `${text}\ufffd`],
] as const satisfies readonly (readonly [string, (text: string) => string])[]) {
  const names = Object.entries({ ...ALL, ...KEYS }).flatMap(([it, text = '']) =>
    it === 'API_KEYS' || text.length < 2 ? [] : [it],
  )

  test(`each setting ${name} stops the start, and is named without its value`, () => {
    for (const setting of names) {
      const faults = faultsOf({ ...ALL, [setting]: spoil({ ...ALL, ...KEYS }[setting] ?? '') })
      assert.deepEqual(faults.filter((line) => line.startsWith(`${setting} must `)).length, 1, setting)
      assert.doesNotMatch(faults.join(), /canary/)
    }
  })

  test(`each file of a secret ${name} stops the start, and its setting is named`, () => {
    for (const setting of names.filter((it) => SETTING_NAMES.includes(`${it}_FILE`))) {
      const given = { ...ALL, ...KEYS, [setting]: undefined, [`${setting}_FILE`]: '/run/x' }
      const faults = faultsOf(given, () => spoil({ ...ALL, ...KEYS }[setting] ?? ''))
      assert.ok(
        faults.some((line) => line.startsWith(`${setting}_FILE must `)),
        `${setting}: ${faults}`,
      )
    }
  })
}

for (const text of ['a b', 'a,b', 'a"b', 'schlüssel', 'a<b>', '$(KEY)', 'a%20b']) {
  test(`keys that hold ${text} stop the start`, () => {
    for (const name of UPSTREAM_SECRETS) {
      assert.deepEqual(faultsOf({ [name]: text }), [`${name} must contain only letters, digits and + / = . _ ~ -`])
    }
  })
}

test('entries of callers may have line breaks, and quotes around them stop the start', () => {
  const pretty = JSON.stringify([ENTRY], null, 2).replaceAll('\n', '\r\n')
  assert.equal(parse({ API_KEYS: pretty }).apiKeys.entries.length, 1)
  assert.equal(parse({ API_KEYS: '', API_KEYS_FILE: '/run/x' }, () => `\ufeff${pretty}`).apiKeys.entries.length, 1)
  assert.deepEqual(faultsOf({ API_KEYS: `'${API_KEYS}'` }), ['API_KEYS must not be in quotes'])
})
