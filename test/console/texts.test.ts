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

const { TASK_TYPES } = await import(pathToFileURL(join(PUBLIC, 'task-types.js')).href)
const types: typeof texts = Object.entries(TASK_TYPES)

const placeholders = (text: string): readonly string[] => [...text.matchAll(/\{\w+\}/g)].map(([name]) => name).sort()

/** Says the same in both languages, has values only, or stands for another language's own name. */
const NEUTRAL: readonly string[] = ['none', 'language.other', 'task.changed']

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

test('the texts of both languages, in one table', (t) => {
  const all = [...texts, ...types]
  for (const [key, { en, zh }] of all) {
    assert.ok(en.trim() !== '' && zh.trim() !== '', key)
    t.diagnostic(`${key} | ${en} | ${zh}`)
  }
  assert.equal(new Set(all.map(([key]) => key)).size, all.length)
})

/** Terms of the protocol, and of the gateway's own parts. */
const JARGON =
  /\b(HTTP|header|route|URL|endpoint|GET|POST|DELETE|status code|scope|gateway|API|user agent|audit|poll)\b/i

test('no text for people has a term of the protocol', () => {
  for (const [key, { en, zh }] of texts) for (const text of [en, zh]) assert.doesNotMatch(text, JARGON, key)
  for (const [key, { zh }] of texts) assert.doesNotMatch(zh, /网关|请求头|路由|状态码|接口/, key)
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
