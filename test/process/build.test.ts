import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { delimiter, dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Env } from '../../src/config.ts'
import { buildGateway } from '../helpers/build.ts'
import { startCollector } from '../helpers/collector.ts'
import { startCredentialServer } from '../helpers/credential-server.ts'
import { startFakeProvider } from '../helpers/fake-provider.ts'
import { asOperator, baseEnv, CANARIES, eventually, startSandbox, temporaryFolder } from '../helpers/gateway.ts'
import { isOpen } from '../helpers/ports.ts'
import { usePostgres } from '../helpers/postgres.ts'
import { cancel, prepare, ROOT, runCommand, startProcess, waitForCancels } from '../helpers/process.ts'
import { useRedis } from '../helpers/redis.ts'
import { requires } from '../helpers/requirements.ts'
import { SIGN_IN_ENV } from '../helpers/session.ts'
import { startResponseHoldingProxy } from '../helpers/upstream-proxy.ts'

/** Each thread writes the files that it loaded to standard error, one a line, at its end. */
const LIST_FILES = `data:text/javascript,${encodeURIComponent(`
  import { writeSync } from 'node:fs'
  import { registerHooks } from 'node:module'
  const files = []
  registerHooks({ load: (url, context, next) => (url.startsWith('file:') && files.push(url), next(url, context)) })
  process.on('exit', () => writeSync(2, files.map((url) => url + '\\n').join('')))
`)}`

/** Packages that only some settings need. They would slow down every start. */
const LATE_PACKAGES =
  /node_modules\/(@alicloud|@opentelemetry\/(?!api\/)[^/]+|@redis|jose|openid-client|pg|rate-limit-redis|yaml)\//

/** A start from the sources loads about five hundred files. */
const FILES_MAX = 70

test('the built gateway cancels and records like its source, and loads few files', async (t) => {
  const { sandbox, env } = await prepare(t)

  const gateway = await startProcess(t, env, { entry: await buildGateway(), execArgv: ['--import', LIST_FILES] })
  const { status } = await gateway.api.delete(`/tasks/${sandbox.addTask()}`).set(asOperator)
  gateway.kill('SIGTERM')

  const { code, stderr } = await gateway.ended
  assert.deepEqual([status, sandbox.violations, code], [202, 0, 0])
  const files = stderr
    .trim()
    .split('\n')
    .map((url) => fileURLToPath(url))
  assert.ok(files.length > 10 && files.length < FILES_MAX, String(files.length))
  const late = files.filter((file) => LATE_PACKAGES.test(readFileSync(`${file}.map`, 'utf8')))
  assert.deepEqual(late, [])
})

const [postgres, redis] = [usePostgres(), useRedis()]

test('the build contains the packages that only some settings need', async (t) => {
  if (!requires(t, 'postgres') || !requires(t, 'redis')) return
  const [upstream, database, collector, provider] = await Promise.all([
    startSandbox(t),
    postgres(t).then((server) => server.database()),
    startCollector(t),
    startFakeProvider(t),
  ])
  const chain = await startCredentialServer(t, await temporaryFolder(t), CANARIES)
  upstream.addKeys(CANARIES)
  const env = {
    ...baseEnv(upstream.url, ''),
    ...{ AUDIT_URL: database.url('gateway'), AUDIT_ADMIN_URL: database.url('record_owner') },
    ...{ REDIS_URL: (await redis(t)).url, OTEL_EXPORTER_OTLP_ENDPOINT: collector.url },
    ...{ JWT_ISSUER: provider.url, JWT_AUDIENCE: 'gateway', ...SIGN_IN_ENV, OIDC_ISSUER: provider.url },
    ...chain.env,
  }
  const entry = await buildGateway()
  const gateway = await startProcess(t, env, { entry })
  await eventually(async () => (await gateway.api.get('/readyz')).status === 200 || undefined)

  const cancelled = await gateway.api.delete(`/tasks/${upstream.addTask()}`).set(asOperator)
  const signIn = await gateway.api.get('/auth/login')
  const doctor = await runCommand(t, join(dirname(entry), 'bin/doctor.js'), env, '--json')
  gateway.kill('SIGTERM')

  const { code, stderr } = await gateway.ended
  assert.deepEqual([cancelled.status, signIn.status, code, stderr], [202, 302, 0, ''])
  assert.match(signIn.headers.location ?? '', new RegExp(`^${provider.url}`))
  assert.notEqual(collector.bodies.length, 0)
  const { checks } = JSON.parse(doctor.stdout)
  assert.deepEqual(
    checks.filter(({ status }: { status: string }) => status === 'failure'),
    [],
  )
})

test('SIGUSR1 opens no debugger on the built gateway, with the options of npm start and without', async (t) => {
  const entry = await buildGateway()
  const { start } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')).scripts
  const options: readonly string[] = start.split(' ').slice(2, -1)
  assert.ok(options.includes('--disable-sigusr1'))
  for (const execArgv of [options, []]) {
    const { env } = await prepare(t)
    const gateway = await startProcess(t, env, { entry, execArgv: [...execArgv, '--inspect-port=127.0.0.1:0'] })

    gateway.kill('SIGUSR1')
    assert.equal((await gateway.api.get('/livez')).status, 200)
    gateway.kill('SIGTERM')

    const { code, stderr } = await gateway.ended
    assert.deepEqual([code, stderr], [0, ''])
  }
})

/** The built gateway, started by `npm start`; every process below npm ends with the test. */
const startByNpm = async (t: TestContext, env: Env) => {
  const cwd = dirname(dirname(await buildGateway()))
  const path = [dirname(process.execPath), process.env.PATH].join(delimiter)
  const ownEnv = { PATH: path, HOME: cwd, npm_config_update_notifier: 'false', ...env }
  const npm = spawn('npm', ['--silent', 'start'], {
    cwd,
    env: ownEnv,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const exited = once(npm, 'exit')
  t.after(async () => {
    try {
      if (npm.pid !== undefined) process.kill(-npm.pid, 'SIGKILL')
    } catch {
      // None of them is left.
    }
    await exited
  })
  let output = ''
  npm.stdout.on('data', (chunk) => {
    output += chunk
  })
  await eventually(() => output.includes('"listening"') || undefined)
  return { kill: (signal: NodeJS.Signals) => npm.kill(signal), exited, output: () => output }
}

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test(`${signal} to npm start reaches the gateway, which drains before npm ends`, async (t) => {
    if (process.platform === 'win32') return t.skip('needs a shell that has exec')
    const { sandbox, env } = await prepare(t)
    const proxy = await startResponseHoldingProxy(t, sandbox.url)
    const { kill, exited, output } = await startByNpm(t, { ...env, UPSTREAM_URL: proxy.url })
    const url = /"address":"([^"]+)"/.exec(output())?.[1] ?? ''
    const status = cancel(url, sandbox.addTask())
    await waitForCancels(sandbox, 1)

    kill(signal)
    await eventually(() => output().includes('"stopping"') || undefined)
    proxy.release()

    assert.equal(await status, 202)
    assert.deepEqual(await exited, [0, null])
    assert.equal(await isOpen(url), false)
  })
}
