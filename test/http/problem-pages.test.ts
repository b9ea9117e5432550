import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import type { ErrorCode, Lang } from '../../src/errors.ts'
import { PROBLEMS, REASONS } from '../../src/http/presentation/problems.ts'
import { asOperator, startGateway } from '../helpers/gateway.ts'
import { sendLine } from '../helpers/raw-http.ts'

const LANGS = ['en', 'zh'] as const

const escaped = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('"', '&quot;').replaceAll('<', '&lt;')

/** Everything that the table says of a problem, in the order of the page. */
const partsOf = (code: ErrorCode, lang: Lang): readonly string[] => {
  const { status, [lang]: text } = PROBLEMS[code]
  const technical = 'technical' in text ? [text.technical] : []
  const parts = [text.title, text.happened, text.advice, '<details>', code, `HTTP ${status}`, ...technical]
  return [`<html lang="${lang}">`, ...parts.map((part) => (part.startsWith('<') ? part : escaped(part)))]
}

const CODES = Object.keys(PROBLEMS).filter((code): code is ErrorCode => code in PROBLEMS)

test('every problem has a page in both languages, open to anyone', async (t) => {
  const { api } = await startGateway(t)
  for (const code of CODES) {
    for (const lang of LANGS) {
      const { status, headers, text } = await api.get(`/problems/${code}`).set('accept-language', lang)
      assert.deepEqual([status, headers['content-type']], [200, 'text/html; charset=utf-8'])
      assert.deepEqual([headers['content-language'], headers['cache-control']], [lang, 'no-store'])
      let from = 0
      for (const part of partsOf(code, lang)) {
        const at = text.indexOf(part, from)
        assert.notEqual(at, -1, `${code} in ${lang}: ${part}`)
        from = at + part.length
      }
    }
  }
})

test('the index leads to the page of every problem, in its language', async (t) => {
  const { api, url } = await startGateway(t)
  for (const lang of LANGS) {
    const { status, text } = await api.get(`/problems?lang=${lang}`)
    const links = [...text.matchAll(/<li><a href="([^"]*)">(.*?)<\/a>/g)].map(([, href = '', title]) => [href, title])
    const expected = CODES.map((code) => [`problems/${code}?lang=${lang}`, escaped(PROBLEMS[code][lang].title)])
    assert.deepEqual([status, links], [200, expected])
    const [[first = ''] = []] = links
    const page = await fetch(new URL(first, `${url}/problems`))
    assert.match(await page.text(), new RegExp(`<a href="../problems\\?lang=${lang}">`))
  }
})

const PARTS = ['title', 'happened', 'advice'] as const
/** Terms of HTTP and of the interface, which only developers know. */
const TECHNICAL =
  /header|route|\bHTTP|\bmethod|query param|\b(GET|POST|DELETE) |[A-Z]+_[A-Z]|\bX-|请求头|响应头|路由|接口|请求方法|请求体/i

test('the texts for people name no header, route or term of HTTP', (t) => {
  const rows = Object.entries({ ...PROBLEMS, ...REASONS }).flatMap(([name, texts]) =>
    PARTS.map((part) => [`${name}.${part}`, texts.en[part], texts.zh[part]]),
  )
  for (const row of rows) t.diagnostic(row.join(' | '))
  assert.deepEqual(
    rows.filter(([, ...texts]) => texts.some((text) => TECHNICAL.test(text))),
    [],
  )
})

test('a problem with a known cause states it, and keeps the title of its code', async (t) => {
  const { api } = await startGateway(t, { env: { JWT_ISSUER: 'https://id.example.com', JWT_AUDIENCE: 'gateway' } })
  const sent = [
    [{}, PROBLEMS.unauthenticated.en],
    [{ 'x-api-key': 'nobody-has-this-key' }, REASONS['key-invalid'].en],
    [{ 'x-api-key': '' }, REASONS['key-invalid'].en],
    [{ authorization: 'Bearer x' }, REASONS['token-invalid'].en],
    [{ authorization: 'Basic eDp5' }, PROBLEMS.unauthenticated.en],
  ] as const
  for (const [headers, { happened, advice }] of sent) {
    const { status, body } = await api.get('/me').set(headers)
    const expected = [401, PROBLEMS.unauthenticated.en.title, `${happened} ${advice}`]
    assert.deepEqual([status, body.title, body.detail], expected, JSON.stringify(headers))
  }
})

const HAN = /\p{Script=Han}/u

test('a page is in one language, but for the link to the other', async (t) => {
  const { api } = await startGateway(t)
  for (const code of CODES) {
    const [en, zh] = [await api.get(`/problems/${code}?lang=en`), await api.get(`/problems/${code}?lang=zh`)]
    assert.doesNotMatch(en.text.replace('<a href="?lang=zh" hreflang="zh" lang="zh">中文</a>', ''), HAN)
    assert.match(zh.text, /<a href="\?lang=en" hreflang="en" lang="en">English<\/a>/)
    for (const [, text = ''] of zh.text.matchAll(/<(?:title|h1|h2|p)>([^<].*)<\//g)) assert.match(text, HAN)
  }
})

/** The statements of a page on the effect of a cancellation and on retries. */
const ANSWERS = [
  ['task-not-found', /^No\. .* changed nothing/, /^Not as it is/],
  ['upstream-unavailable', /^No\. .* changed nothing/, /^Yes/],
  ['outcome-unknown', /^Possibly\. .* cannot tell/, /^Not as it is/],
  ['upstream-bad-response', /^Possibly\. .* cannot tell/, /^Not as it is/],
  ['method-not-allowed', /^No\. .* never became a cancellation/, /^Not as it is/],
  ['internal', /^Possibly\. .*response states/, /^Not as it is/],
] as const

for (const [code, effect, retry] of ANSWERS) {
  test(`the page of ${code} says whether it may have taken effect, and be tried again`, async (t) => {
    const { api } = await startGateway(t)
    const { text } = await api.get(`/problems/${code}`)
    const [, mayHaveEffect = '', mayBeRetried = ''] = [...text.matchAll(/<p>(.*?)<\/p>/g)].map(([, it]) => it ?? '')
    assert.match(mayHaveEffect, effect)
    assert.match(mayBeRetried, retry)
  })
}

test('the type of a problem leads to its page', async (t) => {
  for (const PUBLIC_URL of ['', 'https://gateway.example.com']) {
    const { api, url } = await startGateway(t, { env: { PUBLIC_URL } })
    const problem = await api.delete('/tasks/nobody-s').set(asOperator)
    const type = new URL(problem.body.type, url)
    assert.equal(type.origin, PUBLIC_URL || url)
    const page = await api.get(type.pathname)
    assert.equal(page.status, 200)
    assert.ok(page.text.includes(problem.body.title))
  }
})

test('lang in the query wins over the header, and what is no language is English', async (t) => {
  const { api } = await startGateway(t)
  const langOf = async (query: string, header: string) =>
    (await api.get(`/problems/forbidden${query}`).set('accept-language', header)).headers['content-language']
  assert.equal(await langOf('?lang=zh', 'en'), 'zh')
  assert.equal(await langOf('?lang=en', 'zh'), 'en')
  assert.equal(await langOf('?lang=fr', 'zh-CN,zh;q=0.9'), 'zh')
  assert.equal(await langOf('', 'fr'), 'en')
})

const sha256 = (text: string): string => createHash('sha256').update(text).digest('base64')

test('a page may use its own style, and nothing else', async (t) => {
  const { api } = await startGateway(t)
  const { headers, text } = await api.get('/problems/internal')
  const styles = [...text.matchAll(/<style>(.*?)<\/style>/gs)].map(([, style = '']) => style)
  assert.equal(styles.length, 1)
  const directives = new Map(
    String(headers['content-security-policy'])
      .split(';')
      .map((it) => [it.split(' ')[0], it]),
  )
  assert.deepEqual([...directives.values()].sort(), [
    "base-uri 'none'",
    "default-src 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    `style-src 'sha256-${sha256(styles[0] ?? '')}'`,
  ])
  assert.doesNotMatch(text, /<script| style=| on\w+=|https?:/i)
})

test('a problem about a page keeps the policy of every other answer', async (t) => {
  const { api } = await startGateway(t)
  const { status, headers, body } = await api.get('/problems/nothing')
  assert.deepEqual([status, body.code], [404, 'not-found'])
  assert.doesNotMatch(headers['content-security-policy'] ?? '', /style-src/)
})

for (const code of ['nothing', 'toString', '__proto__', 'constructor', 'NOT-FOUND', '%3Cscript%3E', 'not-found%00']) {
  test(`there is no page for ${code}`, async (t) => {
    const { url } = await startGateway(t)
    const { status, body } = await sendLine(url, `GET /problems/${code}`)
    assert.deepEqual([status, JSON.parse(body).code], [404, 'not-found'])
  })
}

test('nothing of the request is on the page', async (t) => {
  const { api } = await startGateway(t)
  const plain = await api.get('/problems/forbidden')
  const { text } = await api
    .get('/problems/forbidden?lang=%3Cb%3E&x=%3Cscript%3E')
    .set({ 'user-agent': '<i>', 'x-request-id': 'abc', referer: 'http://evil.example' })
  assert.equal(text, plain.text)
})

test('a page counts against no limit', async (t) => {
  const env = { RATE_LIMIT_READ_MAX: '1', RATE_LIMIT_UNKNOWN_MAX: '1' }
  const { api } = await startGateway(t, { env })
  for (let time = 0; time < 3; time += 1) {
    const { status, headers } = await api.get('/problems/forbidden')
    assert.deepEqual([status, headers.ratelimit], [200, undefined])
  }
})
