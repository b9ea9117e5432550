import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { parseConfig } from '../../src/config.ts'
import { SETTING_NAMES } from '../../src/settings.ts'
import { API_KEYS, temporaryFolder } from '../helpers/gateway.ts'
import { ROOT } from '../helpers/process.ts'
import { requires } from '../helpers/requirements.ts'

const UNIT = readFileSync(join(ROOT, 'deploy/systemd/domain-task-gateway.service'), 'utf8')

const valuesOf = (name: string): readonly string[] =>
  UNIT.split('\n')
    .filter((line) => line.startsWith(`${name}=`))
    .map((line) => line.slice(name.length + 1))

const ENV = Object.fromEntries(valuesOf('Environment').map((text) => text.split('=', 2)))

/** Settings that programs below the gateway read: Node's libraries, and SQLite. */
const OF_OTHERS = ['NODE_ENV', 'SQLITE_TMPDIR']

/** Runs systemd-analyze on the unit, with this Node and a folder that exists in place of those of an installation. */
const analyze = async (t: TestContext, ...args: readonly string[]) => {
  const folder = await temporaryFolder(t)
  await mkdir(join(folder, 'gateway'))
  const path = join(folder, 'domain-task-gateway.service')
  const unit = UNIT.replace('/usr/bin/node', process.execPath).replaceAll(
    '/opt/domain-task-gateway',
    join(folder, 'gateway'),
  )
  await writeFile(path, unit)
  const { status, stdout, stderr } = spawnSync('systemd-analyze', [...args, path], { encoding: 'utf8' })
  return { status, output: stdout + stderr }
}

test('systemd finds no fault with the unit', async (t) => {
  if (!requires(t, 'systemd')) return
  assert.deepEqual(await analyze(t, 'verify'), { status: 0, output: '' })
})

test('systemd counts the unit among the well protected', async (t) => {
  if (!requires(t, 'systemd')) return
  const { status, output } = await analyze(t, 'security', '--offline=true', '--threshold=20')
  assert.equal(status, 0, output)
})

test('the unit starts the gateway with the command of npm start, without npm and a shell', () => {
  const { start } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')).scripts
  assert.deepEqual(valuesOf('ExecStart'), [start.replace(/^exec node /, '/usr/bin/node ')])
})

test('the unit gives sound settings, and secrets as files of systemd alone', () => {
  const credentials = valuesOf('LoadCredential').map((text) => text.split(':')[0])
  const files = Object.entries(ENV).filter(([name]) => name.endsWith('_FILE'))
  assert.deepEqual(
    files.map(([, path]) => path),
    credentials.map((name) => `%d/${name}`),
  )
  assert.deepEqual(
    Object.keys(ENV).filter((name) => ![...SETTING_NAMES, ...OF_OTHERS].includes(name)),
    [],
  )
  const config = parseConfig(ENV, (path) => (path === '%d/api-keys.json' ? API_KEYS : 'key'))
  assert.equal(config.apiKeys.entries.length, 3)
})

test('systemd waits for longer than the gateway takes to stop', () => {
  const { shutdown } = parseConfig(ENV, (path) => (path === '%d/api-keys.json' ? API_KEYS : 'key'))
  const [seconds] = valuesOf('TimeoutStopSec').map(Number)
  assert.ok((seconds ?? 0) * 1000 >= shutdown.delayMs + shutdown.graceMs + 5000)
})
