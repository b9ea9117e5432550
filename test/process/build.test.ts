import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { cp, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { asOperator, temporaryFolder } from '../helpers/gateway.ts'
import { prepare, ROOT, startProcess } from '../helpers/process.ts'

const run = promisify(execFile)

test('the compiled gateway cancels and records like its source', async (t) => {
  const folder = await temporaryFolder(t)
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc')
  await run(process.execPath, [tsc, '-p', join(ROOT, 'tsconfig.build.json'), '--outDir', join(folder, 'dist')])
  await cp(join(ROOT, 'package.json'), join(folder, 'package.json'))
  await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'))
  const { sandbox, env } = await prepare(t)

  const gateway = await startProcess(t, env, { entry: join(folder, 'dist/server.js') })
  const { status } = await gateway.api.delete(`/tasks/${sandbox.addTask()}`).set(asOperator)
  gateway.kill('SIGTERM')

  assert.equal(status, 202)
  assert.equal(sandbox.violations, 0)
  assert.equal((await gateway.ended).code, 0)
})
