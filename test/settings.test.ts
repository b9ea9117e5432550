import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { generate } from '../docs/generate.ts'
import { GROUPS, SETTING_NAMES, SETTINGS, type Setting } from '../src/settings.ts'

const ROWS = Object.entries<Setting>(SETTINGS)

for (const [path, text] of Object.entries(generate())) {
  test(`${path} is up to date with its source (npm run docs)`, () => {
    assert.equal(readFileSync(join(import.meta.dirname, '..', path), 'utf8'), text)
  })
}

test('every setting has a group, and so a place in the documents', () => {
  assert.deepEqual(
    Object.values(GROUPS).flatMap((group) => Object.keys(group)),
    Object.keys(SETTINGS),
  )
})

test('a setting is described in sentences', () => {
  const sentences = ROWS.flatMap(([name, { description }]) => description.map((sentence) => [name, sentence] as const))
  assert.ok(sentences.length > ROWS.length)
  for (const [name, sentence] of sentences) assert.match(sentence, /^[A-Z\d`].*\.$/, name)
})

test('a setting needs only settings that exist', () => {
  const needed = ROWS.flatMap(([, { needs = [], needsOneOf = [] }]) => [...needs, ...needsOneOf])
  assert.notEqual(needed.length, 0)
  assert.deepEqual(
    needed.filter((name) => !SETTING_NAMES.includes(name)),
    [],
  )
})

test('a setting without a default may be absent, and one with a default never is', () => {
  for (const [name, { schema, default: text }] of ROWS) {
    assert.equal(schema.safeParse(text).success, true, name)
    assert.equal(schema.safeParse(undefined).success, text === undefined, name)
  }
})
