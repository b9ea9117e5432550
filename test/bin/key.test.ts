import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'node:test'
import { createApiKeys, parseApiKeys } from '../../src/callers/api-keys.ts'

const COMMAND = join(import.meta.dirname, '../../src/bin/key.ts')

const run = (...args: readonly string[]) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [COMMAND, ...args], { encoding: 'utf8' })
  return { status, stdout, stderr }
}

/** The key and the line of its entry, as the command prints them. */
const make = (...args: readonly string[]): { readonly key: string; readonly entry: string } => {
  const { status, stdout, stderr } = run(...args)
  assert.deepEqual([status, stderr], [0, ''])
  const [, key = ''] = /^ {2}(dtg_\S+)$/m.exec(stdout) ?? []
  const [, entry = ''] = /^ {2}(\{.*\})$/m.exec(stdout) ?? []
  assert.equal(stdout.split(key).length, 2, 'the key is shown exactly once')
  return { key, entry }
}

const callerOf = ({ key, entry }: ReturnType<typeof make>) => {
  const parsed = parseApiKeys(`[${entry}]`)
  assert.ok(parsed.ok, parsed.ok ? '' : parsed.rule)
  return createApiKeys(parsed.entries).find(key)
}

test('the key is printed once, and its entry proves its caller', () => {
  const scopes = ['tasks:cancel', 'tasks:read']
  const rest = { displayName: null, domains: null, taskTypes: null }
  assert.deepEqual(callerOf(make('shop')), { via: 'api-key', issuer: null, name: 'shop', scopes, ...rest })
})

test('a key holds 256 random bits, and the entry nothing of it but its hash', () => {
  const [one, other] = [make('shop'), make('shop')]
  assert.match(one.key, /^dtg_[\w-]{43}$/)
  assert.notEqual(one.key, other.key)
  assert.ok(!one.entry.includes(one.key.slice(4)))
  assert.deepEqual(Object.keys(JSON.parse(one.entry)), ['name', 'sha256', 'scopes'])
})

test('scopes can be chosen', () => {
  assert.deepEqual(callerOf(make('shop', '--scopes', 'audit:read, tasks:read'))?.scopes, ['audit:read', 'tasks:read'])
})

test('the caller can be restricted to domains and types of tasks', () => {
  const caller = callerOf(make('shop', '--domains', 'A.example, *.bücher.example', '--task-types', 'CHG_DNS'))
  assert.deepEqual([caller?.domains, caller?.taskTypes], [['a.example', '*.xn--bcher-kva.example'], ['CHG_DNS']])
})

test('a name may hold whatever JSON can', () => {
  const name = 'shop "1"\\ 商店'
  assert.equal(callerOf(make('--scopes=tasks:read', name))?.name, name)
})

test('an expiry is written in UTC, and holds', () => {
  const made = make('shop', '--expires-at', '2027-01-31T00:00:00+08:00')
  assert.equal(JSON.parse(made.entry).expiresAt, '2027-01-30T16:00:00.000Z')
  assert.equal(callerOf(make('shop', '--expires-at', '2020-01-31T00:00:00Z')), undefined)
})

test('the longest name that the command takes is one that the gateway takes', () => {
  assert.equal(callerOf(make('x'.repeat(128)))?.name.length, 128)
})

for (const [name, ...args] of [
  ['no name'],
  ['an empty name', ''],
  ['a name of blanks', ' \t'],
  ['a name that is too long', 'x'.repeat(129)],
  ['two names', 'shop', 'other'],
  ['an unknown scope', 'shop', '--scopes', 'tasks:cancel,tasks:write'],
  ['no scope', 'shop', '--scopes', ''],
  ['scopes without a value', 'shop', '--scopes'],
  ['an expiry that is no date', 'shop', '--expires-at', 'tomorrow'],
  ['an empty expiry', 'shop', '--expires-at', ''],
  ['every domain', 'shop', '--domains', '*'],
  ['an empty list of domains', 'shop', '--domains', ''],
  ['a type that is none', 'shop', '--task-types', 'CHG DNS'],
  ['an unknown option', 'shop', '--owner', 'a.example'],
] as const) {
  test(`${name}: no key, the usage on stderr, and exit code 2`, () => {
    const { status, stdout, stderr } = run(...args)
    assert.deepEqual([status, stdout], [2, ''])
    assert.match(stderr, /^\S.*\nUsage: npm run key -- NAME /)
  })
}

for (const expiresAt of ['12027-01-31', '99999', '+012027-01-31T00:00:00Z']) {
  test(`an expiry that the gateway would refuse (${expiresAt}) is refused`, () => {
    assert.equal(run('shop', '--expires-at', expiresAt).status, 2)
  })
}
