import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import type { FaultReply, Sandbox, SandboxOptions } from '../../sandbox/src/server.ts'
import type { Env } from '../../src/config.ts'
import { CHECK_NAMES, runDoctor } from '../../src/doctor/doctor.ts'
import type { Finding, Status } from '../../src/doctor/finding.ts'
import { createCertificate } from '../helpers/certificate.ts'
import { startCollector } from '../helpers/collector.ts'
import { startFakeProvider } from '../helpers/fake-provider.ts'
import { baseEnv, CANARIES, cancelCalls, startGateway, startSandbox, temporaryFolder } from '../helpers/gateway.ts'
import { startIssuer } from '../helpers/issuer.ts'
import { closedPort, listenOn } from '../helpers/ports.ts'
import { PASSWORDS, usePostgres } from '../helpers/postgres.ts'
import { startOwnRedis } from '../helpers/redis.ts'
import { mountTmpfs, requires } from '../helpers/requirements.ts'

const postgres = usePostgres()

interface Scene {
  readonly env?: Env
  readonly sandbox?: Partial<SandboxOptions>
  readonly isCancelProbed?: boolean
}

interface Diagnosis {
  readonly isSound: boolean
  readonly findings: ReadonlyMap<string, Finding>
  readonly upstream: Sandbox
  readonly auditPath: string
}

const SECRETS = new RegExp([...Object.values(CANARIES), ...Object.values(PASSWORDS), 'canary', 'hunter2'].join('|'))

/** Runs all checks against a sandbox; no finding may quote a secret. */
const diagnose = async (t: TestContext, scene: Scene = {}, upstream?: Sandbox): Promise<Diagnosis> => {
  const sandbox = upstream ?? (await startSandbox(t, scene.sandbox))
  const auditPath = join(await temporaryFolder(t), 'audit.db')
  const findings = new Map<string, Finding>()
  const isSound = await runDoctor({
    env: { ...baseEnv(sandbox.url, auditPath), ...scene.env },
    execArgv: [],
    readFile: (path) => readFileSync(path, 'utf8'),
    isCancelProbed: scene.isCancelProbed ?? false,
    onFinding: (check, finding) => void findings.set(check, finding),
  })
  assert.doesNotMatch(JSON.stringify([...findings]), SECRETS)
  return { isSound, findings, upstream: sandbox, auditPath }
}

/** The check of that name has that status and text, and only a failure makes the set-up unsound. */
const finds = ({ isSound, findings }: Diagnosis, check: string, status: Status, message: RegExp): void => {
  const finding = findings.get(check)
  assert.match(finding?.message ?? '', message)
  assert.equal(finding?.status, status)
  assert.equal(finding?.advice === null, status === 'ok')
  const hasFailure = [...findings.values()].some((each) => each.status === 'failure')
  assert.equal(isSound, !hasFailure)
  if (status === 'failure') assert.equal(isSound, false)
}

const faulty = async (t: TestContext, action: string, reply: FaultReply, scene: Scene = {}) => {
  const upstream = await startSandbox(t)
  upstream.fault(action, { reply }, Number.POSITIVE_INFINITY)
  const timeoutMs = reply === 'stall' ? '500' : '5000'
  const env = { UPSTREAM_MAX_ATTEMPTS: '1', UPSTREAM_TIMEOUT_MS: timeoutMs, ...scene.env }
  return await diagnose(t, { ...scene, env }, upstream)
}

const secretFile = async (t: TestContext, mode: number): Promise<string> => {
  const path = join(await temporaryFolder(t), 'secret')
  writeFileSync(path, CANARIES.accessKeySecret)
  chmodSync(path, mode)
  return path
}

const FROM_FILE = 'ALIBABA_CLOUD_ACCESS_KEY_SECRET_FILE'
const withFile = (path: string): Env => ({ ALIBABA_CLOUD_ACCESS_KEY_SECRET: '', [FROM_FILE]: path })

type Row = readonly [
  fault: string,
  run: (t: TestContext) => Promise<Diagnosis | null>,
  check: string,
  status: Status,
  message: RegExp,
]

const ROWS: readonly Row[] = [
  ['a faulty setting', (t) => diagnose(t, { env: { PORT: 'hunter2' } }), 'settings', 'failure', /^PORT must be/],
  [
    'a variable with almost the name of a setting',
    (t) => diagnose(t, { env: { CORS_ORIGIN: 'x' } }),
    'names',
    'warning',
    /^CORS_ORIGIN is not a setting$/,
  ],
  [
    'a secret file that does not exist',
    (t) => diagnose(t, { env: withFile('/nowhere/secret') }),
    'files',
    'failure',
    /^ALIBABA_CLOUD_ACCESS_KEY_SECRET_FILE names no file$/,
  ],
  [
    'a secret file that other users can read',
    async (t) => diagnose(t, { env: withFile(await secretFile(t, 0o644)) }),
    'files',
    'warning',
    /^ALIBABA_CLOUD_ACCESS_KEY_SECRET_FILE: other users .*\(mode 644\)$/,
  ],
  [
    'a private secret file',
    async (t) => diagnose(t, { env: withFile(await secretFile(t, 0o400)) }),
    'files',
    'ok',
    /private/,
  ],
  [
    'an HTTP proxy in the environment',
    (t) => diagnose(t, { env: { HTTPS_PROXY: 'http://user:hunter2@proxy' } }),
    'HTTP proxy',
    'warning',
    /^HTTPS_PROXY: /,
  ],
  [
    'an endpoint whose name does not resolve',
    (t) => diagnose(t, { env: { UPSTREAM_URL: 'https://domain.invalid', UPSTREAM_MAX_ATTEMPTS: '1' } }),
    'endpoint name',
    'failure',
    /^domain\.invalid does not resolve \(\w+\)$/,
  ],
  [
    'an endpoint that refuses connections',
    async (t) => diagnose(t, { env: { UPSTREAM_URL: `http://127.0.0.1:${await closedPort()}` } }),
    'endpoint',
    'failure',
    /^no connection \(ECONNREFUSED\)$/,
  ],
  [
    'a certificate of an unknown authority',
    (t) => diagnose(t, { sandbox: { tls: createCertificate() }, env: { UPSTREAM_MAX_ATTEMPTS: '1' } }),
    'endpoint',
    'failure',
    /^TLS: the certificate is not accepted \(DEPTH_ZERO_SELF_SIGNED_CERT\)$/,
  ],
  [
    'an endpoint without TLS',
    async (t) => {
      const upstream = await startSandbox(t)
      const env = { UPSTREAM_URL: upstream.url.replace('http:', 'https:'), UPSTREAM_MAX_ATTEMPTS: '1' }
      return diagnose(t, { env }, upstream)
    },
    'endpoint',
    'failure',
    /^TLS fails \((EPROTO|ERR_SSL_\w+)\)$/,
  ],
  [
    'an endpoint that does not respond',
    (t) => faulty(t, 'QueryTaskList', 'stall'),
    'endpoint',
    'failure',
    /^no response \(ETIMEDOUT\)$/,
  ],
  [
    'an endpoint that is not the Domain API',
    (t) => faulty(t, 'QueryTaskList', 'not-json'),
    'endpoint',
    'failure',
    /^the response is not one of/,
  ],
  [
    'an endpoint that redirects',
    (t) => faulty(t, 'QueryTaskList', 'redirect'),
    'endpoint',
    'failure',
    /^the response is not one of/,
  ],
  [
    'an endpoint of another version',
    (t) => faulty(t, 'QueryTaskList', { code: 'InvalidVersion', status: 400 }),
    'endpoint',
    'failure',
    /\(InvalidVersion\)$/,
  ],
  [
    'a clock that the upstream rejects',
    async (t) => {
      const upstream = await startSandbox(t)
      upstream.setClockOffset(3_600_000)
      return diagnose(t, {}, upstream)
    },
    'clock',
    'failure',
    /differs from this machine's by 3(59\d|600) s, and the upstream rejects the time$/,
  ],
  [
    'a clock that differs by two minutes',
    async (t) => {
      const upstream = await startSandbox(t)
      upstream.setClockOffset(-120_000)
      return diagnose(t, {}, upstream)
    },
    'clock',
    'warning',
    /by -12\d s$/,
  ],
  [
    'an unknown AccessKeyId',
    (t) => diagnose(t, { sandbox: { accessKeyId: 'other' } }),
    'credentials',
    'failure',
    /does not know the AccessKeyId \(InvalidAccessKeyId\.NotFound\)$/,
  ],
  [
    'a wrong secret',
    (t) => diagnose(t, { sandbox: { accessKeySecret: 'other' } }),
    'credentials',
    'failure',
    /^the secret does not belong .*\(SignatureDoesNotMatch\)$/,
  ],
  [
    'a missing STS token',
    (t) => diagnose(t, { sandbox: { securityToken: 'token' } }),
    'credentials',
    'failure',
    /^the STS token is missing/,
  ],
  [
    'a disabled AccessKey',
    (t) => faulty(t, 'QueryTaskList', { code: 'InvalidAccessKeyId.Inactive', status: 403 }),
    'credentials',
    'failure',
    /^the AccessKey is disabled/,
  ],
  [
    'a throttled account',
    (t) => faulty(t, 'QueryTaskList', { code: 'Throttling.User', status: 400 }),
    'credentials',
    'warning',
    /throttles the account \(Throttling\.User\)$/,
  ],
  [
    'a policy without the right to read',
    (t) => faulty(t, 'QueryTaskList', { code: 'Forbidden.RAM', status: 403 }),
    'read policy',
    'failure',
    /does not permit domain:QueryDomainTask \(Forbidden\.RAM\)$/,
  ],
  [
    'an account without balance',
    (t) => faulty(t, 'QueryTaskList', { code: 'InsufficientBalance', status: 400 }),
    'read policy',
    'failure',
    /^the account cannot use/,
  ],
  [
    'a policy without the right to cancel',
    (t) => faulty(t, 'CancelTask', { code: 'Forbidden.RAM', status: 403 }, { isCancelProbed: true }),
    'cancel policy',
    'failure',
    /does not permit domain:CancelTask \(Forbidden\.RAM\)$/,
  ],
  [
    'an upstream that cancels a task that does not exist',
    async (t) => {
      return diagnose(t, { isCancelProbed: true, env: { UPSTREAM_URL: await acceptingUpstream(t) } })
    },
    'cancel policy',
    'warning',
    /^the upstream accepted to cancel/,
  ],
  [
    'an audit file that is damaged',
    async (t) => {
      const path = join(await temporaryFolder(t), 'audit.db')
      writeFileSync(path, randomBytes(10_000), { mode: 0o600 })
      return diagnose(t, { env: { AUDIT_URL: `sqlite:${path}` } })
    },
    'audit record',
    'failure',
    /^AUDIT_URL must name a file that holds a sound record/,
  ],
  [
    'an audit file that cannot be created',
    async (t) => diagnose(t, { env: { AUDIT_URL: `sqlite:${await temporaryFolder(t)}/a/b/audit.db` } }),
    'audit record',
    'failure',
    /does not exist and cannot be created \(ENOENT\)$/,
  ],
  [
    'an audit folder that other users can write',
    async (t) => {
      const folder = await temporaryFolder(t)
      chmodSync(folder, 0o777)
      return diagnose(t, { env: { AUDIT_URL: `sqlite:${folder}/audit.db` } })
    },
    'audit disk',
    'warning',
    /^other users can replace files/,
  ],
  [
    'a disk that is almost full',
    async (t) => {
      if (!requires(t, 'mount')) return null
      const folder = mountTmpfs(t, 'size=8m')
      return diagnose(t, { env: { AUDIT_URL: `sqlite:${folder}/audit.db` } })
    },
    'audit disk',
    'failure',
    /^[0-8] MiB are free/,
  ],
  [
    'a PostgreSQL server that is away',
    async (t) =>
      diagnose(t, { env: { AUDIT_URL: `postgres://gateway:hunter2@127.0.0.1:${await closedPort()}/record` } }),
    'audit record',
    'failure',
    /ECONNREFUSED/,
  ],
  [
    'an owner of the audit record whose server is away',
    async (t) => {
      const server = `127.0.0.1:${await closedPort()}`
      const env = {
        AUDIT_URL: `postgres://gateway:hunter2@${server}/record`,
        AUDIT_ADMIN_URL: `postgres://record_owner:hunter2@${server}/record`,
      }
      return diagnose(t, { env })
    },
    'audit owner',
    'failure',
    /^AUDIT_ADMIN_URL .*ECONNREFUSED/,
  ],
  [
    'an owner of the audit record with another password',
    async (t) => {
      if (!requires(t, 'postgres')) return null
      const database = await (await postgres(t)).database()
      const admin = new URL(database.url('record_owner'))
      admin.password = 'hunter2'
      return diagnose(t, { env: { AUDIT_URL: database.url('gateway'), AUDIT_ADMIN_URL: admin.href } })
    },
    'audit owner',
    'failure',
    /^AUDIT_ADMIN_URL .*28P01/,
  ],
  [
    'an STS token that has expired',
    (t) => faulty(t, 'QueryTaskList', { code: 'InvalidSecurityToken.Expired', status: 400 }),
    'credentials',
    'failure',
    /^the STS token is missing, expired/,
  ],
  [
    'an issuer that is away',
    async (t) =>
      diagnose(t, { env: { JWT_ISSUER: `http://127.0.0.1:${await closedPort()}`, JWT_AUDIENCE: 'gateway' } }),
    'issuer',
    'failure',
    /cannot be reached \(ECONNREFUSED\)$/,
  ],
  [
    'an issuer without a key set',
    async (t) => {
      const issuer = await startIssuer(t)
      issuer.answerWith('no-key-set')
      return diagnose(t, { env: issuer.env })
    },
    'issuer',
    'failure',
    /is no key set$/,
  ],
  [
    'an identity provider that names another issuer',
    async (t) => {
      const provider = await startFakeProvider(t)
      provider.metadata = { issuer: 'http://localhost:1' }
      return diagnose(t, { env: provider.env })
    },
    'identity provider',
    'failure',
    /^the identity provider: /,
  ],
  [
    'an identity provider whose sign-out page is not safe',
    async (t) => {
      const provider = await startFakeProvider(t)
      provider.metadata = { end_session_endpoint: 'http://id.example.com/logout' }
      return diagnose(t, { env: provider.env })
    },
    'identity provider',
    'warning',
    /sign-out page/,
  ],
  [
    'a Redis that is away',
    async (t) => diagnose(t, { env: { REDIS_URL: `redis://:hunter2@127.0.0.1:${await closedPort()}` } }),
    'Redis',
    'failure',
    /cannot be reached \(ECONNREFUSED\)$/,
  ],
  [
    'a Redis that does not accept the password',
    async (t) => {
      if (!requires(t, 'redis')) return null
      const redis = await startOwnRedis(t)
      return diagnose(t, { env: { REDIS_URL: redis.url.replace(/:[^:@]+@/, ':hunter2@') } })
    },
    'Redis',
    'failure',
    /password or the user name is not accepted/,
  ],
  [
    'a trace collector that is away',
    async (t) => diagnose(t, { env: { OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${await closedPort()}` } }),
    'trace collector',
    'warning',
    /cannot be reached \(ECONNREFUSED\)$/,
  ],
  [
    'a port that another program uses',
    async (t) =>
      diagnose(t, {
        env: {
          PORT: String(
            await listenOn(
              t,
              createServer((_req, res) => res.end('no')),
            ),
          ),
        },
      }),
    'ports',
    'failure',
    /^PORT is in use by another process$/,
  ],
  [
    'one port for both listeners',
    async (t) => {
      const port = String(await closedPort())
      return diagnose(t, { env: { PORT: port, ADMIN_PORT: port } })
    },
    'ports',
    'failure',
    /^ADMIN_PORT is in use/,
  ],
  [
    'a public address without a trusted proxy',
    (t) => diagnose(t, { env: { PUBLIC_URL: 'https://gateway.example.com' } }),
    'trusted proxies',
    'warning',
    /TRUST_PROXY names none/,
  ],
  [
    'a proxy on this machine that is not trusted',
    (t) => diagnose(t, { env: { PUBLIC_URL: 'https://gateway.example.com', TRUST_PROXY: '10.0.0.10' } }),
    'trusted proxies',
    'warning',
    /TRUST_PROXY does not name it/,
  ],
]

/** Accepts every call, like an upstream that checks tasks later. */
const acceptingUpstream = async (t: TestContext) => {
  const page = { TotalItemNum: 0, TotalPageNum: 0, CurrentPageNum: 1, PageSize: 1, Data: { TaskInfo: [] } }
  const body = JSON.stringify({ RequestId: 'C1D1FD6D-3F68-4BDF-A479-11548DCD6DC9', ...page })
  const server = createServer((req, res) => {
    req.resume().on('end', () => res.setHeader('content-type', 'application/json').end(body))
  })
  return `http://127.0.0.1:${await listenOn(t, server)}`
}

for (const [fault, run, check, status, message] of ROWS) {
  test(`the doctor finds ${fault}`, async (t) => {
    const diagnosis = await run(t)
    if (diagnosis !== null) finds(diagnosis, check, status, message)
  })
}

test('the faults above are many, and each check finds one', () => {
  const broken = ROWS.filter(([, , , status]) => status !== 'ok')
  assert.ok(broken.length >= 20)
  assert.deepEqual([...new Set(broken.map(([, , check]) => check))].sort(), [...CHECK_NAMES].sort())
})

test('a sound set-up has no warning, changes nothing, and makes one query', async (t) => {
  const [issuer, provider, collector] = [await startIssuer(t), await startFakeProvider(t), await startCollector(t)]
  const services = { ...provider.env, ...issuer.env, OTEL_EXPORTER_OTLP_ENDPOINT: collector.url }
  const env = { ...services, TRUST_PROXY: '127.0.0.1' }
  const { isSound, findings, upstream, auditPath } = await diagnose(t, { env })
  assert.deepEqual([...findings.keys()], CHECK_NAMES)
  assert.deepEqual(
    [...findings].filter(([, { status }]) => status !== 'ok'),
    [],
  )
  assert.equal(isSound, true)
  assert.equal(upstream.calls.length, 1)
  assert.equal(existsSync(auditPath), false)
})

test('Redis and PostgreSQL in order are found so, and no tables are made', async (t) => {
  if (!requires(t, 'redis') || !requires(t, 'postgres')) return
  const [redis, server] = [await startOwnRedis(t), await postgres(t)]
  const database = await server.database()
  const urls = { AUDIT_URL: database.url('gateway'), REDIS_URL: redis.url }
  finds(await diagnose(t, { env: urls }), 'audit record', 'failure', /without the tables of this version/)
  const env = { ...urls, AUDIT_ADMIN_URL: database.url('record_owner') }
  const before = await diagnose(t, { env })
  finds(before, 'audit record', 'warning', /not those of this version/)
  for (const check of ['Redis', 'audit owner']) finds(before, check, 'ok', /accepts|counts/)
  await startGateway(t, { env })
  finds(await diagnose(t, { env, isCancelProbed: true }), 'audit record', 'ok', /can be written/)
})

test('ports and the audit record of a running gateway are sound, and no cancel is probed beside it', async (t) => {
  const { url, adminUrl, upstream, auditPath } = await startGateway(t)
  const env = {
    ...{ PORT: new URL(url).port, ADMIN_PORT: new URL(adminUrl).port },
    AUDIT_URL: `sqlite:${auditPath}`,
  }
  const beside = await diagnose(t, { env }, upstream)
  finds(beside, 'ports', 'ok', /a running gateway uses PORT, ADMIN_PORT/)
  finds(beside, 'audit record', 'ok', /in use by a running gateway/)
  assert.equal(beside.isSound, true)
  const probing = await diagnose(t, { env, isCancelProbed: true }, upstream)
  finds(probing, 'cancel policy', 'failure', /^nothing was sent: the audit record cannot be written/)
  assert.equal(cancelCalls(upstream).length, 0)
})

test('a probe of the right to cancel has an intent before it is sent, of the caller doctor', async (t) => {
  const auditPath = join(await temporaryFolder(t), 'audit.db')
  const upstream = await startSandbox(t, { auditPath })
  const env = { AUDIT_URL: `sqlite:${auditPath}` }
  finds(await diagnose(t, { env, isCancelProbed: true }, upstream), 'cancel policy', 'ok', /permits domain:CancelTask/)
  const [call] = cancelCalls(upstream)
  assert.deepEqual([call?.params.UserClientIp, upstream.violations], ['127.0.0.1', 0])
  const db = new DatabaseSync(auditPath, { readOnly: true })
  const [row] = db.prepare('SELECT * FROM intents JOIN outcomes ON cancellation_id = id').all()
  db.close()
  assert.deepEqual([row?.caller, row?.task_no, row?.outcome], ['doctor', call?.params.TaskNo, 'rejected'])
})
