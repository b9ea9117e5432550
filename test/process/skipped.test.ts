import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { temporaryFolder } from '../helpers/gateway.ts'
import { ROOT } from '../helpers/process.ts'

const REQUIREMENTS = JSON.stringify(join(ROOT, 'test/helpers/requirements.ts'))

const NEEDS_MOUNT = `
  import { requires } from ${REQUIREMENTS}
  test('mounts', (t) => { if (requires(t, 'mount')) throw new Error('nothing to mount with') })`

/** Runs a test file with the reporter alone, on a machine where no program is found. */
const report = async (t: TestContext, source: string, env: Readonly<Record<string, string>> = {}) => {
  const file = join(await temporaryFolder(t), 'some.test.mjs')
  await writeFile(file, `import { test } from 'node:test'\n${source}`)
  const reporter = join(ROOT, 'test/helpers/skipped-reporter.ts')
  const args = ['--test', '--test-reporter', reporter, '--test-reporter-destination', 'stdout', file]
  const { status, stdout } = spawnSync(process.execPath, args, { env: { PATH: '', ...env }, encoding: 'utf8' })
  return { status, stdout }
}

test('a test that lacks something is skipped, and named at the end with the reason', async (t) => {
  assert.deepEqual(await report(t, NEEDS_MOUNT), {
    status: 0,
    stdout: 'skipped: mounts (needs root and the right to mount a tmpfs)\n',
  })
})

test('in CI a test that lacks something fails', async (t) => {
  assert.deepEqual(await report(t, NEEDS_MOUNT, { CI: 'true' }), { status: 1, stdout: '' })
})

test('nothing is said where nothing is skipped', async (t) => {
  assert.deepEqual(await report(t, `test('runs', () => {})`), { status: 0, stdout: '' })
})

test('a skipped test without a reason is named too', async (t) => {
  const source = `test('later', { skip: true }, () => {}); test('runs', () => {})`
  assert.deepEqual(await report(t, source), { status: 0, stdout: 'skipped: later (no reason given)\n' })
})
