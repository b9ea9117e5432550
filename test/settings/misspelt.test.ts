import assert from 'node:assert/strict'
import { test } from 'node:test'
import { misspeltSettings } from '../../src/settings/misspelt.ts'
import { SETTING_NAMES } from '../../src/settings.ts'
import { prepare, spawnGateway, startProcess } from '../helpers/process.ts'

const settingsFor = (...variables: readonly string[]) =>
  misspeltSettings(variables, SETTING_NAMES).map(({ variable, setting }) => [variable, setting])

const MISSPELT: Readonly<Record<string, string>> = {
  // Singular and plural.
  CORS_ORIGIN: 'CORS_ORIGINS',
  API_KEY: 'API_KEYS',
  API_KEY_FILE: 'API_KEYS_FILE',
  GRANT_FILE: 'GRANTS_FILE',
  JWT_ALGORITHM: 'JWT_ALGORITHMS',
  SESSION_SECRETS: 'SESSION_SECRET',
  TRUST_PROXIES: 'TRUST_PROXY',
  UPSTREAM_MAX_ATTEMPT: 'UPSTREAM_MAX_ATTEMPTS',
  CREDENTIAL: 'CREDENTIALS',
  // URI for URL.
  REDIS_URI: 'REDIS_URL',
  REDIS_URI_FILE: 'REDIS_URL_FILE',
  AUDIT_URI: 'AUDIT_URL',
  PUBLIC_URI: 'PUBLIC_URL',
  JWT_JWKS_URI: 'JWT_JWKS_URL',
  // Underscores and case.
  LOGLEVEL: 'LOG_LEVEL',
  RATELIMIT_MAX: 'RATE_LIMIT_MAX',
  RATE_LIMITMAX: 'RATE_LIMIT_MAX',
  OIDC_CLIENTID: 'OIDC_CLIENT_ID',
  ALIBABACLOUD_ACCESS_KEY_ID: 'ALIBABA_CLOUD_ACCESS_KEY_ID',
  ALIBABA_CLOUD_ACCESSKEY_SECRET: 'ALIBABA_CLOUD_ACCESS_KEY_SECRET',
  redis_url: 'REDIS_URL',
  'cors-origins': 'CORS_ORIGINS',
  corsOrigins: 'CORS_ORIGINS',
  port: 'PORT',
  // One wrong letter.
  CORS_ORGINS: 'CORS_ORIGINS',
  COR_ORIGINS: 'CORS_ORIGINS',
  JWT_ISUSER: 'JWT_ISSUER',
  JWT_AUDIANCE: 'JWT_AUDIENCE',
  LOG_LEVLE: 'LOG_LEVEL',
  LOG_LEBEL: 'LOG_LEVEL',
  AUDT_URL: 'AUDIT_URL',
  ALIBABA_CLOUD_ACCES_KEY_ID: 'ALIBABA_CLOUD_ACCESS_KEY_ID',
  SHUTDOWN_GRACE_M: 'SHUTDOWN_GRACE_MS',
  REDIS_ULR: 'REDIS_URL',
  AUDIT_UR: 'AUDIT_URL',
  LGO_LEVEL: 'LOG_LEVEL',
  // Ending.
  UPSTREAM_TIMEOUT: 'UPSTREAM_TIMEOUT_MS',
  UPSTREAM_TIMEOUT_SECONDS: 'UPSTREAM_TIMEOUT_MS',
  AUDIT_RETENTION: 'AUDIT_RETENTION_DAYS',
  // Order of words.
  MAX_RATE_LIMIT: 'RATE_LIMIT_MAX',
  ANONYMOUS_ALLOW: 'ALLOW_ANONYMOUS',
  // A file for a setting that is not secret.
  JWT_ISSUER_FILE: 'JWT_ISSUER',
  // Names that other programs have for it.
  ACCESS_KEY_ID: 'ALIBABA_CLOUD_ACCESS_KEY_ID',
  ACCESS_KEY_SECRET_FILE: 'ALIBABA_CLOUD_ACCESS_KEY_SECRET_FILE',
  ALICLOUD_SECRET_KEY: 'ALIBABA_CLOUD_ACCESS_KEY_SECRET',
  ALIYUN_ACCESS_KEY_ID: 'ALIBABA_CLOUD_ACCESS_KEY_ID',
  CORS_ALLOWED_ORIGINS: 'CORS_ORIGINS',
  TRUSTED_PROXIES: 'TRUST_PROXY',
  JWKS_URI: 'JWT_JWKS_URL',
  OIDC_ISSUER_URL: 'OIDC_ISSUER',
  JWT_ISSUER_URI: 'JWT_ISSUER',
  CORS_ALLOW_ORIGINS: 'CORS_ORIGINS',
}

for (const [variable, setting] of Object.entries(MISSPELT)) {
  test(`${variable} is likely to mean ${setting}`, () => {
    assert.deepEqual(settingsFor(variable), [[variable, setting]])
  })
}

test('a name of eight letters or more with one letter too few, or two that are swapped, is told from its setting', () => {
  const long = SETTING_NAMES.filter((name) => name.replaceAll('_', '').length >= 8)
  const edits = long.flatMap((setting) =>
    [...setting].flatMap((letter, index) => {
      const [before, after] = [setting.slice(0, index), setting.slice(index + 1)]
      return [before + after, before + after.slice(0, 1) + letter + after.slice(1)].map(
        (name) => [name, setting] as const,
      )
    }),
  )
  const missed = edits.filter(([name]) => !SETTING_NAMES.includes(name) && settingsFor(name).length === 0)
  assert.deepEqual(missed, [])
})

for (const variable of ['PORT ', '\ufeffPORT', 'PORT\u200b']) {
  test(`the name ${JSON.stringify(variable)} is told from PORT, and shown without its invisible character`, () => {
    assert.deepEqual(settingsFor(variable), [[variable.replace(/\W/, '?'), 'PORT']])
  })
}

test('no setting is taken for another one', () => {
  assert.deepEqual(settingsFor(...SETTING_NAMES), [])
})

/** Variables that a shell, npm, a container, Kubernetes, systemd, cloud platforms, CI and common programs set. */
const ORDINARY = `
  _ PATH HOME HOSTNAME HOSTTYPE HOSTS PORTS PORT0 PWD OLDPWD SHELL SHLVL TERM USER LOGNAME LANG LC_ALL LANGUAGE TZ TMPDIR MAIL
  EDITOR DISPLAY COLORTERM LS_COLORS SSH_CLIENT SSH_CONNECTION SSH_TTY SSH_AUTH_SOCK SUDO_USER DEBIAN_FRONTEND container
  NODE NODE_ENV NODE_OPTIONS NODE_VERSION NODE_PATH NODE_EXTRA_CA_CERTS NODE_TLS_REJECT_UNAUTHORIZED YARN_VERSION INIT_CWD
  UV_THREADPOOL_SIZE SQLITE_TMPDIR COLOR FORCE_COLOR NO_COLOR DEBUG
  npm_command npm_config_cache npm_config_loglevel npm_config_user_agent npm_execpath npm_lifecycle_event npm_node_execpath
  npm_package_json npm_package_name npm_package_version npm_lifecycle_script npm_config_local_prefix npm_config_noproxy
  HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY http_proxy https_proxy no_proxy SSL_CERT_FILE SSL_CERT_DIR
  KUBERNETES_PORT KUBERNETES_PORT_443_TCP KUBERNETES_PORT_443_TCP_ADDR KUBERNETES_PORT_443_TCP_PORT KUBERNETES_SERVICE_HOST
  KUBERNETES_SERVICE_PORT KUBERNETES_SERVICE_PORT_HTTPS GATEWAY_PORT GATEWAY_SERVICE_HOST GATEWAY_SERVICE_PORT
  DOMAIN_TASK_GATEWAY_PORT DOMAIN_TASK_GATEWAY_SERVICE_HOST REDIS_PORT REDIS_PORT_6379_TCP REDIS_SERVICE_HOST
  REDIS_SERVICE_PORT REDIS_HOST REDIS_PASSWORD POSTGRES_PORT POSTGRES_USER POSTGRES_PASSWORD POSTGRES_DB POD_NAME POD_IP
  POD_NAMESPACE NODE_NAME HOST_IP SERVICE_ACCOUNT MY_POD_IP
  INVOCATION_ID JOURNAL_STREAM SYSTEMD_EXEC_PID CREDENTIALS_DIRECTORY NOTIFY_SOCKET WATCHDOG_PID WATCHDOG_USEC
  LISTEN_FDS LISTEN_PID LISTEN_FDNAMES RUNTIME_DIRECTORY STATE_DIRECTORY CACHE_DIRECTORY LOGS_DIRECTORY MAINPID
  AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_SECURITY_TOKEN AWS_REGION AWS_ROLE_ARN
  AWS_WEB_IDENTITY_TOKEN_FILE GOOGLE_APPLICATION_CREDENTIALS AZURE_CLIENT_ID AZURE_CLIENT_SECRET AZURE_TENANT_ID
  ALIBABA_CLOUD_ROLE_ARN ALIBABA_CLOUD_OIDC_PROVIDER_ARN ALIBABA_CLOUD_OIDC_TOKEN_FILE ALIBABA_CLOUD_CREDENTIALS_FILE
  ALIBABA_CLOUD_CREDENTIALS_URI ALIBABA_CLOUD_ECS_METADATA ALIBABA_CLOUD_ECS_METADATA_DISABLED ALIBABA_CLOUD_PROFILE
  ALIBABA_CLOUD_IMDSV1_DISABLED ALIBABA_CLOUD_ROLE_SESSION_NAME ALIBABA_CLOUD_CONFIG_FILE ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED
  OTEL_SERVICE_NAME OTEL_RESOURCE_ATTRIBUTES OTEL_EXPORTER_OTLP_HEADERS OTEL_EXPORTER_OTLP_PROTOCOL OTEL_TRACES_EXPORTER
  OTEL_TRACES_SAMPLER OTEL_LOG_LEVEL OTEL_EXPORTER_OTLP_TIMEOUT OTEL_EXPORTER_OTLP_TRACES_ENDPOINT
  CI GITHUB_ACTIONS GITHUB_ACTOR GITHUB_API_URL GITHUB_ENV GITHUB_EVENT_NAME GITHUB_JOB GITHUB_REF GITHUB_REPOSITORY
  GITHUB_RUN_ID GITHUB_SERVER_URL GITHUB_SHA GITHUB_TOKEN GITHUB_WORKSPACE RUNNER_OS RUNNER_TEMP GITLAB_CI CI_JOB_TOKEN
  CI_SERVER_HOST CI_SERVER_PORT CI_SERVER_URL CI_COMMIT_SHA CI_PROJECT_URL JENKINS_URL BUILD_URL JOB_URL CODECOV_TOKEN
  DATABASE_URL DATABASE_HOST APP_KEY APP_KEYS APP_URL APP_SECRET SECRET_KEY SECRET_KEY_BASE JWT_SECRET API_URL API_HOST
  BASE_URL PUBLIC_DIR SERVER_PORT HTTP_PORT HTTPS_PORT ADMIN_EMAIL ADMIN_USER ADMIN_PASSWORD SESSION_MANAGER
  SESSION_NAME XDG_SESSION_ID XDG_SESSION_TYPE XDG_RUNTIME_DIR DBUS_SESSION_BUS_ADDRESS PGHOST PGPORT PGUSER PGPASSWORD
  DYNO HEROKU_APP_NAME WEB_CONCURRENCY WEB_MEMORY K_SERVICE K_REVISION FUNCTION_TARGET GAE_SERVICE WEBSITE_HOSTNAME
  LOG_FORMAT LOG_FILE LOG_DIR LOGS_URL ELASTIC_URL SENTRY_DSN DD_AGENT_HOST DD_SERVICE DD_ENV NEW_RELIC_LICENSE_KEY
  CHROME_BIN JAVA_HOME GOPATH VIRTUAL_ENV PYTHONPATH CONDA_PREFIX NVM_DIR NVM_BIN VOLTA_HOME
  ComSpec APPDATA LOCALAPPDATA ProgramFiles ProgramFiles(x86) SystemRoot USERPROFILE USERDOMAIN COMPUTERNAME PATHEXT windir
`

test('ordinary variables of other programs raise no warning', () => {
  const ordinary = ORDINARY.trim().split(/\s+/)
  assert.ok(ordinary.length > 200)
  assert.deepEqual(settingsFor(...ordinary), [])
})

test('a start with misspelt settings logs one warning for each, without its value', async (t) => {
  const { env } = await prepare(t)
  const misspelt = {
    CORS_ORIGIN: 'https://canary.example.com',
    REDIS_URI: 'redis://:canary@localhost',
    API_KEY: 'canary',
  }
  const started = await startProcess(t, { ...env, ...misspelt, PATH: process.env.PATH, HOSTNAME: 'canary' })
  started.kill('SIGTERM')
  const { code, stdout, stderr } = await started.ended
  const lines = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  assert.deepEqual(
    lines.filter(({ level }) => level === 'warn').map(({ variable, setting }) => [variable, setting]),
    [
      ['CORS_ORIGIN', 'CORS_ORIGINS'],
      ['REDIS_URI', 'REDIS_URL'],
      ['API_KEY', 'API_KEYS'],
    ],
  )
  assert.equal(code, 0)
  assert.doesNotMatch(stdout + stderr, /canary/)
})

test('a start that fails names the misspelt setting too', async (t) => {
  const { API_KEYS, ...env } = (await prepare(t)).env
  const { code, stderr } = await (await spawnGateway(t, { ...env, API_KEY: API_KEYS })).ended
  assert.equal(code, 1)
  assert.match(stderr, /^API_KEY is not a setting\. Did you mean API_KEYS\?$/m)
  assert.doesNotMatch(stderr, /operator/)
})
