import assert from 'node:assert/strict'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { Env } from '../../src/config.ts'
import { CHECK_NAMES } from '../../src/doctor/doctor.ts'
import { CANARIES } from '../helpers/gateway.ts'
import { prepare, runCommand } from '../helpers/process.ts'

const COMMAND = join(import.meta.dirname, '../../src/bin/doctor.ts')

const run = (t: TestContext, env: Env, ...args: readonly string[]) => runCommand(t, COMMAND, env, ...args)

test('a sound set-up has one line for each check, and the exit code 0', async (t) => {
  const { env } = await prepare(t)
  const { code, stdout, stderr } = await run(t, env)
  const lines = stdout.trimEnd().split('\n')
  assert.deepEqual([code, stderr, lines.length], [0, '', CHECK_NAMES.length])
  for (const [index, name] of CHECK_NAMES.entries())
    assert.match(lines[index] ?? '', new RegExp(`^ok +${name} +\\S.*\\.$`))
})

test('a failure has its advice on the same line, no secret, and the exit code 1', async (t) => {
  const { env, sandbox } = await prepare(t)
  sandbox.revokeKeys(CANARIES.accessKeyId)
  const { code, stdout } = await run(t, env)
  assert.equal(code, 1)
  assert.match(stdout, /^failure {2}credentials +the upstream does not know the AccessKeyId \(.*\)\. Check ALIBABA.*$/m)
  assert.doesNotMatch(stdout, new RegExp(Object.values(CANARIES).join('|')))
})

test('--json prints one object, also if the settings are faulty', async (t) => {
  const { env } = await prepare(t)
  const { code, stdout } = await run(t, { ...env, PORT: 'x' }, '--json')
  const { ok, checks } = JSON.parse(stdout)
  assert.deepEqual([code, ok, checks[0].check, checks[0].status], [1, false, 'settings', 'failure'])
  assert.match(checks[0].message, /^PORT must be/)
  assert.equal(checks.length, 4)
})

test('an option that is not known is refused, and nothing is checked', async (t) => {
  const { code, stdout, stderr } = await run(t, {}, '--probe')
  assert.deepEqual([code, stdout], [1, ''])
  assert.match(stderr, /Usage: npm run doctor/)
})
