import assert from 'node:assert/strict'
import { chmod, stat, writeFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { asOperator, temporaryFolder } from '../helpers/gateway.ts'
import { prepare, spawnGateway, startProcess } from '../helpers/process.ts'
import { mountTmpfs, requires } from '../helpers/requirements.ts'

test('a second gateway on the same record does not start, and the first goes on', async (t) => {
  const { sandbox, env } = await prepare(t)
  const first = await startProcess(t, env)

  const { code, stderr } = await (await spawnGateway(t, env)).ended
  const { status } = await first.api.delete(`/tasks/${sandbox.addTask()}`).set(asOperator)

  assert.equal(code, 1)
  assert.match(stderr, /^The gateway did not start\. Faulty settings:\n {2}AUDIT_URL is in use by another gateway/)
  assert.equal(status, 202)
})

test('a port of metrics that is in use stops the start', async (t) => {
  const { env } = await prepare(t)
  const first = await startProcess(t, env)
  const { port } = new URL(String((await first.line('listening')).adminAddress))
  const other = await prepare(t)
  const { code, stdout, stderr } = await (await spawnGateway(t, { ...other.env, ADMIN_PORT: port })).ended
  assert.deepEqual([code, stdout], [1, ''])
  assert.match(stderr, /ADMIN_PORT is in use by another process/)
})

test('faulty settings stop the start, all of them named at once and none of their values shown', async (t) => {
  const faulty = {
    PORT: 'canary',
    PUBLIC_URL: 'https://canary.example.com/path',
    UPSTREAM_URL: 'http://user:canary@example.com',
    API_KEYS: '[{"name":"canary"}]',
    ALIBABA_CLOUD_ACCESS_KEY_SECRET_FILE: '/canary',
    TRUST_PROXY: 'canary',
    AUDIT_URL: 'mysql://user:canary@localhost/audit',
    REDIS_URL: 'redis://user:canary@localhost/canary',
    LOG_LEVEL: 'canary',
  }
  const { ALIBABA_CLOUD_ACCESS_KEY_SECRET: _, ...env } = (await prepare(t)).env

  const { code, stdout, stderr } = await (await spawnGateway(t, { ...env, ...faulty })).ended

  assert.equal(code, 1)
  assert.equal(stdout, '')
  const named = stderr.split('\n').flatMap((line) => /^ {2}([A-Z_]+) /.exec(line)?.[1] ?? [])
  assert.deepEqual(named.sort(), Object.keys(faulty).sort())
  assert.doesNotMatch(stderr, /canary/)
})

for (const [name, execArgv, env] of [
  ['NODE_TLS_REJECT_UNAUTHORIZED', [], { NODE_TLS_REJECT_UNAUTHORIZED: '0' }],
  ['NODE_OPTIONS', ['--tls-min-v1.0'], {}],
  ['NODE_OPTIONS', [], { NODE_OPTIONS: '--insecure-http-parser' }],
] as const) {
  test(`a process with ${[...execArgv, JSON.stringify(env)].join(' and ')} does not start`, async (t) => {
    const { env: sound } = await prepare(t)
    const { code, stdout, stderr } = await (await spawnGateway(t, { ...sound, ...env }, { execArgv })).ended
    assert.deepEqual([code, stdout], [1, ''])
    assert.match(stderr, new RegExp(`^ {2}${name} `, 'm'))
  })
}

test('a variable in .env that switches the verification of certificates off stops the start', async (t) => {
  const { env } = await prepare(t)
  const cwd = await temporaryFolder(t)
  await writeFile(join(cwd, '.env'), 'NODE_TLS_REJECT_UNAUTHORIZED=0\n')
  const { code, stderr } = await (await spawnGateway(t, env, { cwd })).ended
  assert.equal(code, 1)
  assert.match(stderr, /NODE_TLS_REJECT_UNAUTHORIZED must be 1 or not set/)
})

test('a record in a folder that can only be read stops the start with the reason, the file and the user', async (t) => {
  if (!requires(t, 'mount')) return
  const { auditPath, env } = await prepare(t, mountTmpfs(t, 'ro'))

  const { code, stdout, stderr } = await (await spawnGateway(t, env)).ended

  assert.equal(code, 1)
  assert.equal(stdout, '')
  assert.match(stderr, /^The gateway did not start\. Faulty settings:\n {2}AUDIT_URL must name a file that can be/)
  assert.ok(stderr.endsWith(` (EROFS; file ${auditPath}, user ${userInfo().uid})\n`), stderr)
  assert.equal(stderr.split('\n').length, 3)
})

test('a start with an audit database in a folder that others can change logs a warning, and changes nothing there', async (t) => {
  const folder = await temporaryFolder(t)
  await chmod(folder, 0o777)
  const started = await startProcess(t, (await prepare(t, folder)).env)
  const { level } = await started.line('other users can replace files in the folder of the audit database')
  assert.equal(level, 'warn')
  assert.equal((await stat(folder)).mode & 0o777, 0o777)
})

test('a start that works says nothing but log lines', async (t) => {
  const { env } = await prepare(t)
  const started = await startProcess(t, env)
  await started.line('the upstream accepts the credentials')
  started.kill('SIGTERM')
  const { code, stdout, stderr } = await started.ended
  assert.equal(code, 0)
  assert.equal(stderr, '')
  assert.deepEqual(
    stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).msg),
    ['listening', 'the upstream accepts the credentials', 'stopping', 'stopped'],
  )
})

const BUGS = {
  'an uncaught exception': `throw new Error('canary')`,
  'an unhandled rejection': `Promise.reject(Object.assign(new Error('canary'), { request: 'canary' }))`,
} as const

for (const [name, bug] of Object.entries(BUGS)) {
  test(`${name} ends the process with a log line that says where, and nothing else of it`, async (t) => {
    const { env } = await prepare(t)
    const preload = join(await temporaryFolder(t), 'bug.mjs')
    await writeFile(preload, `process.once('SIGUSR2', () => { ${bug} })`)
    const started = await startProcess(t, env, { execArgv: ['--import', preload] })

    started.kill('SIGUSR2')
    const { code, stdout, stderr } = await started.ended

    assert.equal(code, 1)
    assert.match(
      stdout,
      /"errorName":"Error","stack":"[^"]+bug\.mjs:1[^"]+","msg":"an internal error ends the process"/,
    )
    assert.doesNotMatch(stdout + stderr, /canary/)
  })
}

const PROXY = 'http://user:canary@proxy.example:3128'

for (const [what, env, execArgv, connections] of [
  [
    'variables in upper case',
    { HTTPS_PROXY: PROXY, HTTP_PROXY: PROXY, ALL_PROXY: PROXY, NO_PROXY: 'canary' },
    [],
    'outgoing connections',
  ],
  ['variables in lower case', { https_proxy: PROXY, no_proxy: '.canary' }, [], 'outgoing connections'],
  [
    "Node's variable for them",
    { HTTPS_PROXY: PROXY, NODE_USE_ENV_PROXY: '1' },
    [],
    'connections to the upstream and the trace collector',
  ],
  [
    "Node's option for them",
    { HTTPS_PROXY: PROXY },
    ['--use-env-proxy'],
    'connections to the upstream and the trace collector',
  ],
] as const) {
  test(`a start with an HTTP proxy in its environment warns that it is not used, and calls the upstream: ${what}`, async (t) => {
    const { sandbox, env: sound } = await prepare(t)
    const started = await startProcess(t, { ...sound, ...env }, { execArgv })
    const { status } = await started.api.delete(`/tasks/${sandbox.addTask()}`).set(asOperator)
    started.kill('SIGTERM')
    const { stdout, stderr } = await started.ended
    const message = `${connections} use no HTTP proxy; this variable is ignored`
    const warned = stdout.split('\n').flatMap((line) => (line.includes(message) ? [JSON.parse(line).variable] : []))
    assert.deepEqual(
      [status, warned.sort()],
      [
        202,
        Object.keys(env)
          .filter((name) => /_proxy$/i.test(name) && name !== 'NODE_USE_ENV_PROXY')
          .sort(),
      ],
    )
    assert.doesNotMatch(stdout + stderr, /canary/)
  })
}

test('a start without an HTTP proxy in its environment warns of none', async (t) => {
  const { env } = await prepare(t)
  const started = await startProcess(t, { ...env, HTTPS_PROXY: ' ' })
  started.kill('SIGTERM')
  assert.doesNotMatch((await started.ended).stdout, /proxy/i)
})
