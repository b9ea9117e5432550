import assert from 'node:assert/strict'
import { test } from 'node:test'
import { format, inspect } from 'node:util'
import fc from 'fast-check'
import { Secret } from '../src/secret.ts'

const secret = new Secret('canary')

const VIEWS: readonly (readonly [string, (secret: Secret) => unknown])[] = [
  ['String()', String],
  ['a template', (it) => `${it}`],
  ['joining', (it) => [it].join()],
  ['JSON', (it) => JSON.stringify({ nested: [it] })],
  ['inspection', (it) => inspect({ nested: [it] }, { showHidden: true, depth: 9 })],
  ['inspection without its own method', (it) => inspect(it, { customInspect: false, showHidden: true })],
  ['format', (it) => format('%s %o %O %j', it, it, it, it)],
  ['an error', (it) => inspect(new Error(`${it}`, { cause: it }))],
  ['its properties', (it) => inspect({ ...it, names: Reflect.ownKeys(it) })],
  ['a clone', (it) => inspect(structuredClone(it))],
]

test('a secret gives its text when asked outright', () => {
  fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => assert.equal(new Secret(text).reveal(), text)))
})

for (const [name, view] of VIEWS) {
  test(`a secret does not show its text in ${name}`, () => {
    assert.doesNotMatch(String(view(secret)), /canary/)
  })
}

test('what is shown instead says that something is hidden', () => {
  assert.deepEqual([`${secret}`, JSON.stringify(secret), inspect(secret)], ['[secret]', '"[secret]"', '[secret]'])
})

test('what is shown instead tells nothing about the text', () => {
  const shown = (it: Secret): string => VIEWS.map(([, view]) => String(view(it)).replace(/\n {4}at .*/g, '')).join('\n')
  fc.assert(fc.property(fc.string(), (text) => assert.equal(shown(new Secret(text)), shown(secret))))
})
