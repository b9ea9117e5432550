import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { createApiKeys, parseApiKeys, sha256 } from '../../src/callers/api-keys.ts'
import { watchFile } from '../../src/callers/watched-file.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { eventually, temporaryFolder } from '../helpers/gateway.ts'

const listOf = (key: string): string =>
  JSON.stringify([{ name: key, sha256: sha256(key).toString('hex'), scopes: ['tasks:read'] }])

/** A file of keys that holds `first`, known already, and is looked at all the time. */
const watch = async (
  t: TestContext,
  prepare = (folder: string) => writeFile(join(folder, 'keys'), listOf('first')),
) => {
  const folder = await temporaryFolder(t)
  await prepare(folder)
  const path = join(folder, 'keys')
  const lines: Readonly<Record<string, unknown>>[] = []
  const log = createLog({ level: 'info', destination: { write: (line) => void lines.push(JSON.parse(line)) } })
  const apiKeys = createApiKeys([])
  const { replace } = apiKeys
  const watcher = watchFile({ path, setting: 'API_KEYS_FILE', parse: parseApiKeys, replace, log, everyMs: 1 })
  t.after(() => watcher.close())
  const found = (key: string) => eventually(() => apiKeys.find(key))
  const logged = (level: string) => eventually(() => lines.find((line) => line.level === level))
  await found('first')
  return { folder, path, lines, apiKeys, found, logged, watcher }
}

test('a key that is added counts without a restart, and one that is removed no longer does', async (t) => {
  const { path, apiKeys, found } = await watch(t)
  await writeFile(path, listOf('second'))
  assert.equal((await found('second')).name, 'second')
  assert.equal(apiKeys.find('first'), undefined)
})

test('every change is told once, and only a change', async (t) => {
  const { path, lines, found } = await watch(t)
  for (const key of ['second', 'third']) {
    await writeFile(`${path}.new`, listOf(key))
    await rename(`${path}.new`, path)
    await found(key)
  }
  const told = lines.map(({ level, setting }) => [level, setting])
  assert.deepEqual(told, [
    ['info', 'API_KEYS_FILE'],
    ['info', 'API_KEYS_FILE'],
  ])
})

test('a mounted secret that is swapped by its symbolic link is read again', async (t) => {
  const { folder, found } = await watch(t, async (root) => {
    for (const version of ['first', 'second']) {
      await mkdir(join(root, version))
      await writeFile(join(root, version, 'keys'), listOf(version))
    }
    await symlink('first', join(root, '..data'))
    await symlink(join('..data', 'keys'), join(root, 'keys'))
  })
  await symlink('second', join(folder, '..data_tmp'))
  await rename(join(folder, '..data_tmp'), join(folder, '..data'))
  assert.equal((await found('second')).name, 'second')
})

test('byte order marks and zero-width characters around the entries do not count', async (t) => {
  const { path, found } = await watch(t)
  await writeFile(`${path}.new`, `\ufeff\u200b${listOf('second')}\u2060\r\n`)
  await rename(`${path}.new`, path)
  assert.equal((await found('second')).name, 'second')
})

for (const [name, text] of [
  ['no JSON', '{'],
  ['empty', ''],
  ['restricted in a way that is not understood', listOf('second').replace('"scopes"', '"domains":["*"],"scopes"')],
] as const) {
  test(`a new file that is ${name} changes nothing and raises an alarm`, async (t) => {
    const { path, apiKeys, logged } = await watch(t)
    await writeFile(`${path}.new`, text)
    await rename(`${path}.new`, path)
    const { msg, setting, reason } = await logged('error')
    assert.deepEqual([setting, typeof reason], ['API_KEYS_FILE', 'string'])
    assert.match(String(msg), /previous entries stay/)
    assert.equal(apiKeys.find('first')?.name, 'first')
  })
}

test('a file that is gone changes nothing and raises an alarm', async (t) => {
  const { path, apiKeys, logged } = await watch(t)
  await rm(path)
  assert.equal((await logged('error')).reason, 'cannot be read')
  assert.equal(apiKeys.find('first')?.name, 'first')
})

test('a file that lists the hash of a well-known key leaves the old entries, with an alarm', async (t) => {
  const { path, apiKeys, logged } = await watch(t)
  await writeFile(path, listOf('secret'))
  assert.match(String((await logged('error')).reason), /must not list the SHA-256 of an empty or well-known key/)
  assert.deepEqual([apiKeys.find('secret'), apiKeys.find('first')?.name], [undefined, 'first'])
})

test('a file that is gone raises one alarm, and counts again once it is back', async (t) => {
  const { path, lines, logged, found } = await watch(t)
  await rm(path)
  await logged('error')
  await writeFile(`${path}.new`, listOf('second'))
  await rename(`${path}.new`, path)
  await found('second')
  assert.deepEqual(
    lines.map((line) => line.level),
    ['error', 'info'],
  )
})

test('a file that lists nobody any more revokes the last key, with a warning', async (t) => {
  const { path, apiKeys, logged } = await watch(t)
  await writeFile(`${path}.new`, '[]')
  await rename(`${path}.new`, path)
  await logged('warn')
  assert.equal(apiKeys.find('first'), undefined)
})

test('a faulty file that is put right counts again, even with the keys it had', async (t) => {
  const { path, apiKeys, logged } = await watch(t)
  await writeFile(path, '{')
  await logged('error')
  await writeFile(`${path}.new`, listOf('first'))
  await rename(`${path}.new`, path)
  assert.equal((await logged('info')).setting, 'API_KEYS_FILE')
  assert.equal(apiKeys.find('first')?.name, 'first')
})

test('no alarm shows what the file holds', async (t) => {
  const { path, lines, logged } = await watch(t)
  await writeFile(path, '[{"name":"canary","sha256":"canary","scopes":["canary"]}]')
  await logged('error')
  assert.doesNotMatch(JSON.stringify(lines), /canary/)
})

test('a file with a byte order mark is read as it is at the start', async (t) => {
  const { path, lines, apiKeys } = await watch(t)
  await writeFile(`${path}.new`, `\ufeff${listOf('second')}`)
  await rename(`${path}.new`, path)
  await eventually(() => lines[0])
  assert.equal(apiKeys.find('second')?.name, 'second')
})

test('a pipe in the place of the file is an alarm, and nothing that is waited for', async (t) => {
  const { path, found, logged } = await watch(t)
  execFileSync('mkfifo', [`${path}.pipe`])
  await rename(`${path}.pipe`, path)
  await logged('error')
  await writeFile(`${path}.new`, listOf('second'))
  await rename(`${path}.new`, path)
  assert.equal((await found('second')).name, 'second')
})

test('a watcher that was closed looks no more', async (t) => {
  const { path, watcher, apiKeys } = await watch(t)
  watcher.close()
  const other = await watch(t)
  await writeFile(path, listOf('second'))
  await writeFile(other.path, listOf('second'))
  await other.found('second')
  assert.equal(apiKeys.find('second'), undefined)
})
