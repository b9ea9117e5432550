import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { ROOT } from '../helpers/process.ts'

const PUBLIC = join(ROOT, 'public')
const { TEXTS } = await import(pathToFileURL(join(PUBLIC, 'texts.js')).href)
const texts: readonly (readonly [string, { readonly en: string; readonly zh: string }])[] = Object.entries(TEXTS)
const code = globSync('*.js', { cwd: PUBLIC })
  .filter((name) => name !== 'texts.js')
  .map((name) => readFileSync(join(PUBLIC, name), 'utf8'))
  .join('\n')

const placeholders = (text: string): readonly string[] => [...text.matchAll(/\{\w+\}/g)].map(([name]) => name).sort()

/** Says the same in both languages, or stands for another language's own name. */
const NEUTRAL: readonly string[] = ['none', 'language.other']

test('every text is there in both languages, with the same values', () => {
  assert.ok(texts.length > 100, String(texts.length))
  for (const [key, { en, zh, ...more }] of texts) {
    assert.deepEqual(more, {}, key)
    assert.deepEqual(placeholders(en), placeholders(zh), key)
    if (NEUTRAL.includes(key)) continue
    assert.doesNotMatch(en, /[\p{Script=Han}，。：；（）]/u, key)
    const words = zh.replace(/\{\w+\}/g, '')
    assert.match(words, /\p{Script=Han}|（）/u, key)
    assert.doesNotMatch(words, /\p{Script=Han}\s*[,.:;?!()]|[,.:;?!()]\s*\p{Script=Han}/u, key)
  }
})

/** Keys as the code writes them: to the letter, with parts that it fills in, or as a kind of badge. */
const used: readonly RegExp[] = [
  ...[...code.matchAll(/'([a-z][\w:.-]*)'/g)].map(([, key = '']) => new RegExp(`^${key}$`)),
  ...[...code.matchAll(/`([a-z-]+\.[^`]+)`/g)].map(
    ([, key = '']) => new RegExp(`^${key.replace(/\$\{[^}]+\}/g, '[^.]+')}$`),
  ),
  ...[...code.matchAll(/badge\('([a-z-]+)'/g)].map(([, kind = '']) => new RegExp(`^${kind}\\.`)),
]

test('no text is there for nothing', () => {
  const unused = texts.map(([key]) => key).filter((key) => !used.some((it) => it.test(key)))
  assert.deepEqual(unused, [])
})

test('no data can become markup', () => {
  assert.doesNotMatch(
    code,
    /innerHTML|outerHTML|insertAdjacent|document\.write|DOMParser|\beval\b|setHTML|createContextual/,
  )
})
