import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { delimiter, dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { Env } from '../../src/config.ts'
import { buildGateway } from '../helpers/build.ts'
import { asOperator, eventually } from '../helpers/gateway.ts'
import { isOpen } from '../helpers/ports.ts'
import { cancel, prepare, ROOT, startProcess, waitForCancels } from '../helpers/process.ts'
import { startResponseHoldingProxy } from '../helpers/upstream-proxy.ts'

test('the compiled gateway cancels and records like its source', async (t) => {
  const { sandbox, env } = await prepare(t)

  const gateway = await startProcess(t, env, { entry: await buildGateway(t) })
  const { status } = await gateway.api.delete(`/tasks/${sandbox.addTask()}`).set(asOperator)
  gateway.kill('SIGTERM')

  assert.equal(status, 202)
  assert.equal(sandbox.violations, 0)
  assert.equal((await gateway.ended).code, 0)
})

test('SIGUSR1 opens no debugger on the compiled gateway, with the options of npm start and without', async (t) => {
  const entry = await buildGateway(t)
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

/** The compiled gateway, started by `npm start`; every process below npm ends with the test. */
const startByNpm = async (t: TestContext, env: Env) => {
  const cwd = dirname(dirname(await buildGateway(t)))
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
