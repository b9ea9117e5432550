import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { cp, readFile, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { promisify } from 'node:util'
import { asOperator, temporaryFolder } from '../helpers/gateway.ts'
import { prepare, ROOT, startProcess } from '../helpers/process.ts'

const run = promisify(execFile)

/** Compiles the gateway into a temporary folder, and returns its entry. */
const build = async (t: TestContext): Promise<string> => {
  const folder = await temporaryFolder(t)
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc')
  await run(process.execPath, [tsc, '-p', join(ROOT, 'tsconfig.build.json'), '--outDir', join(folder, 'dist')])
  await cp(join(ROOT, 'package.json'), join(folder, 'package.json'))
  await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'))
  return join(folder, 'dist/server.js')
}

test('the compiled gateway cancels and records like its source', async (t) => {
  const { sandbox, env } = await prepare(t)

  const gateway = await startProcess(t, env, { entry: await build(t) })
  const { status } = await gateway.api.delete(`/tasks/${sandbox.addTask()}`).set(asOperator)
  gateway.kill('SIGTERM')

  assert.equal(status, 202)
  assert.equal(sandbox.violations, 0)
  assert.equal((await gateway.ended).code, 0)
})

test('SIGUSR1 opens no debugger on the compiled gateway, with the options of npm start and without', async (t) => {
  const entry = await build(t)
  const { start } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')).scripts
  const options: readonly string[] = start.split(' ').slice(1, -1)
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
