import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'node:test'
import { parseConfig } from '../../src/config.ts'
import { SIGN_IN_ENV } from '../helpers/session.ts'

const COMMAND = join(import.meta.dirname, '../../src/bin/secret.ts')

const make = (): string => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [COMMAND], { encoding: 'utf8' })
  assert.deepEqual([status, stderr], [0, ''])
  return stdout
}

test('the command prints a secret of 256 bits, another each time, and nothing else', () => {
  const [one, other] = [make(), make()]
  assert.match(one, /^[\w-]{43}\n$/)
  assert.notEqual(one, other)
})

test('the gateway starts with what the command printed, alone and beside an old one', () => {
  const keys = { ALIBABA_CLOUD_ACCESS_KEY_ID: 'id', ALIBABA_CLOUD_ACCESS_KEY_SECRET: 'secret' }
  const [one, other] = [make(), make()]
  for (const text of [one, `${one.trim()},${other}`]) {
    const { signIn } = parseConfig({ ...SIGN_IN_ENV, ...keys, SESSION_SECRET: text }, () => '')
    assert.deepEqual(
      signIn?.sessionSecrets.map((it) => it.reveal()),
      text.trim().split(','),
    )
  }
})
