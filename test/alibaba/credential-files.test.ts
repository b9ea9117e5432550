import assert from 'node:assert/strict'
import { mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { createCredentialFiles } from '../../src/alibaba/credential-files.ts'
import type { Credentials } from '../../src/alibaba/signing.ts'
import { trimEnds } from '../../src/settings/text.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { eventually, temporaryFolder } from '../helpers/gateway.ts'

const PARTS = ['accessKeyId', 'accessKeySecret', 'securityToken'] as const
const NEVER_MS = 3_600_000

const setOf = (version: string) => ({
  accessKeyId: `id-${version}`,
  accessKeySecret: `secret-${version}`,
  securityToken: `token-${version}`,
})

const writeSet = async (folder: string, keys: Credentials): Promise<void> => {
  for (const part of PARTS) await writeFile(join(folder, part), `${keys[part]}\n`)
}

/** A set is complete at once: files in a folder behind a symbolic link that is replaced, as mounted secrets are. */
const swap = async (folder: string, keys: Credentials): Promise<void> => {
  const version = trimEnds(keys.accessKeyId)
  await mkdir(join(folder, version))
  await writeSet(join(folder, version), keys)
  await symlink(version, join(folder, '..data_tmp'))
  await rename(join(folder, '..data_tmp'), join(folder, '..data'))
}

const watch = async (t: TestContext, everyMs = 1) => {
  const folder = await temporaryFolder(t)
  await swap(folder, setOf('1'))
  for (const part of PARTS) await symlink(join('..data', part), join(folder, part))
  const lines: Readonly<Record<string, unknown>>[] = []
  const log = createLog({ level: 'info', destination: { write: (line) => void lines.push(JSON.parse(line)) } })
  const files = PARTS.map((part) => ({ part, setting: `${part}_FILE`, path: join(folder, part) }))
  const source = createCredentialFiles({ credentials: setOf('1'), files, log, everyMs })
  t.after(source.close)
  const became = (id: string) =>
    eventually(async () => {
      const keys = await source.get()
      return keys?.accessKeyId === id ? keys : undefined
    })
  const logged = (level: string) => eventually(() => lines.find((line) => line.level === level))
  return { folder, lines, source, became, logged }
}

test('keys that are swapped by a symbolic link are taken, all parts together', async (t) => {
  const { folder, lines, became } = await watch(t)
  await swap(folder, setOf('2'))
  assert.deepEqual(await became('id-2'), setOf('2'))
  assert.deepEqual(
    lines.map(({ level, msg }) => [level, msg]),
    [['info', 'new credentials are in use']],
  )
})

test('files that are written one after the other count once the last is written', async (t) => {
  // Looked at by refusals alone, which come at any moment.
  const { folder, source } = await watch(t, NEVER_MS)
  for (const part of PARTS) {
    assert.equal(await source.renewAfterRejection(setOf('1')), null, part)
    await rm(join(folder, part))
    assert.equal(await source.renewAfterRejection(setOf('1')), null, part)
    await writeFile(join(folder, part), setOf('2')[part])
  }
  assert.deepEqual(await source.renewAfterRejection(setOf('1')), setOf('2'))
  assert.deepEqual(await source.get(), setOf('2'))
})

test('one file that is put right counts after a while', async (t) => {
  const { folder, source, logged } = await watch(t)
  await writeFile(join(folder, 'right'), 'right')
  await symlink('right', join(folder, 'link'))
  await rename(join(folder, 'link'), join(folder, 'accessKeySecret'))
  await logged('info')
  assert.deepEqual(await source.get(), { ...setOf('1'), accessKeySecret: 'right' })
})

for (const [fault, spoil] of [
  ['gone', (path: string) => rm(path)],
  ['empty', (path: string) => writeFile(path, ' \n')],
  ['nothing but a byte order mark and a zero-width space', (path: string) => writeFile(path, '\ufeff\u200b\n')],
  ['in quotes', (path: string) => writeFile(path, '"new"\n')],
  ['of two lines', (path: string) => writeFile(path, 'new\nother\n')],
  ['of two lines after CRLF', (path: string) => writeFile(path, 'new\r\nother')],
  ['with a blank inside', (path: string) => writeFile(path, 'new key')],
  ['with a zero-width space inside', (path: string) => writeFile(path, 'new\u200bkey')],
  ['with a NUL', (path: string) => writeFile(path, 'new\u0000')],
  ['in another encoding', (path: string) => writeFile(path, 'new\n', 'utf16le')],
] as const) {
  for (const part of PARTS) {
    test(`a file of the ${part} that is ${fault}: it changes nothing, and raises one alarm until it is put right`, async (t) => {
      const { folder, lines, source, became, logged } = await watch(t)
      await spoil(join(folder, '..data', part))
      const alarm = await logged('error')
      assert.match(String(alarm.msg), /old credentials stay/)
      assert.match(String(alarm.setting), new RegExp(`${part}_FILE`))
      assert.deepEqual(await source.get(), setOf('1'))
      const ofPart = (isFaulty: boolean) => PARTS.map((it) => [`${it}_FILE`, it === part && isFaulty])
      assert.deepEqual(Object.entries(source.faultyFiles()), ofPart(true))
      await swap(folder, setOf('2'))
      assert.deepEqual(await became('id-2'), setOf('2'))
      assert.deepEqual(Object.entries(source.faultyFiles()), ofPart(false))
      assert.deepEqual(
        lines.map(({ level }) => level),
        ['error', 'info'],
      )
    })
  }
}

test('white space, byte order marks and zero-width characters at the ends of a file of keys do not count', async (t) => {
  const { folder, became } = await watch(t)
  const dressed = Object.entries(setOf('2')).map(([part, text]) => [part, `\ufeff\u200b ${text}\u2060\r\n\n`])
  await swap(folder, { ...setOf('2'), ...Object.fromEntries(dressed) })
  assert.deepEqual(await became('id-2'), setOf('2'))
})

test('refused keys are read again at once, and there are others only where they changed', async (t) => {
  const { folder, source } = await watch(t, NEVER_MS)
  assert.equal(await source.renewAfterRejection(setOf('1')), null)
  await swap(folder, setOf('2'))
  const found = await Promise.all(Array.from({ length: 100 }, () => source.renewAfterRejection(setOf('1'))))
  for (const keys of found) assert.deepEqual(keys, setOf('2'))
})

test('no log line contains the content of the files', async (t) => {
  const { folder, lines, became, logged } = await watch(t)
  await rm(join(folder, '..data', 'accessKeyId'))
  await logged('error')
  await swap(folder, setOf('2'))
  await became('id-2')
  assert.doesNotMatch(JSON.stringify(lines), /(id|secret|token)-[12]/)
})

test('a source that was closed looks no more', async (t) => {
  const { folder, source } = await watch(t)
  source.close()
  const other = await watch(t)
  await swap(folder, setOf('2'))
  await swap(other.folder, setOf('2'))
  await other.became('id-2')
  assert.deepEqual(await source.get(), setOf('1'))
})
