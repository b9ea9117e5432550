import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { openSqliteStore } from '../src/audit/sqlite.ts'
import { sha256 } from '../src/callers/api-keys.ts'
import { visible, visibleUserAgent } from '../src/visible-text.ts'
import { intentOf, outcomeOf } from './helpers/audit-events.ts'
import { startWatchedGateway } from './helpers/consistency.ts'
import { API_KEYS, asAuditor, asOperator, asReader, startGateway } from './helpers/gateway.ts'
import { startRewritingProxy } from './helpers/upstream-proxy.ts'

/** Each with its visible form. */
const ESCAPES: readonly (readonly [string, string])[] = [
  ['\0', '\\u0000'],
  ['\t', '\\u0009'],
  ['\n', '\\u000a'],
  ['\r', '\\u000d'],
  ['\x1b[31m', '\\u001b[31m'],
  ['\x7f', '\\u007f'],
  ['\x80', '\\u0080'],
  ['\x85', '\\u0085'],
  ['\x9b', '\\u009b'],
  ['\xad', '\\u00ad'],
  ['\u061c', '\\u061c'],
  ['\u200b', '\\u200b'],
  ['\u200d', '\\u200d'],
  ['\u200e\u200f', '\\u200e\\u200f'],
  ['\u2028\u2029', '\\u2028\\u2029'],
  ['\u202a\u202b\u202c\u202d\u202e', '\\u202a\\u202b\\u202c\\u202d\\u202e'],
  ['\u2060', '\\u2060'],
  ['\u2066\u2067\u2068\u2069', '\\u2066\\u2067\\u2068\\u2069'],
  ['\ufeff', '\\ufeff'],
  ['\ufff9', '\\ufff9'],
  ['\ud800', '\\ud800'],
  ['\udfff', '\\udfff'],
  ['\udc00\ud800', '\\udc00\\ud800'],
  ['\u{e0041}', '\\u{e0041}'],
]

test('invisible characters are escaped, others are not', () => {
  for (const [given, shown] of ESCAPES) assert.equal(visible(`a${given}b`), `a${shown}b`)
  for (const same of ['', 'curl/8.5 (x; y)', '域名解析 ü ß é 𝒳 🙂', '"\\\'<>&%', '\\u202e', '\u3000']) {
    assert.equal(visible(same), same)
  }
})

/** Any code unit, the interesting ones often. */
const anyText = fc
  .array(
    fc.oneof(
      fc.constantFrom(...ESCAPES.map(([given]) => given)),
      fc.nat({ max: 0xffff }).map((code) => String.fromCharCode(code)),
    ),
    {
      maxLength: 400,
    },
  )
  .map((parts) => parts.join(''))

test('what is shown has nothing invisible, is well-formed, and stays as it is when it is escaped again', () => {
  fc.assert(
    fc.property(anyText, (text) => {
      const shown = visible(text)
      assert.doesNotMatch(shown, /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u)
      assert.ok(shown.isWellFormed())
      assert.equal(visible(shown), shown)
    }),
  )
})

test('a User-Agent is cut before the escape or the pair that does not fit', () => {
  for (const [given, shown] of [...ESCAPES.filter(([text]) => visible(text).length < 9), ['🙂', '🙂']] as const) {
    const fits = 'a'.repeat(256 - shown.length)
    assert.equal(visibleUserAgent(`${fits}${given}b`), `${fits}${shown}`)
    assert.equal(visibleUserAgent(`${fits}aa${given}b`.slice(0, -1)), `${fits}aa${shown.length === 1 ? shown : ''}`)
  }
  fc.assert(
    fc.property(anyText, (text) => {
      const shown = visibleUserAgent(text) ?? ''
      assert.ok(shown.length <= 256 && visible(text).startsWith(shown) && shown.isWellFormed())
      assert.doesNotMatch(shown, /\\u([0-9a-f]{0,3}|\{[0-9a-f]*)$/)
    }),
  )
})

test('invisible characters of a User-Agent are escaped in the record', async (t) => {
  const { api, upstream, record } = await startGateway(t)
  const taskNo = upstream.addTask()
  // As bytes: Node reads each as one character.
  const userAgent = `a\x80\x9b31m\xe2\x80\xae\xad\tb${'\x85'.repeat(100)}`
  await api.delete(`/tasks/${taskNo}`).set({ ...asOperator, 'user-agent': userAgent })
  const shown = `a\\u0080\\u009b31m\xe2\\u0080\xae\\u00ad\\u0009b${'\\u0085'.repeat(100)}`
  const recorded = String((await record(taskNo)).userAgent)
  assert.equal(recorded, shown.slice(0, recorded.length))
  assert.ok(recorded.length > 250 && recorded.endsWith('\\u0085'), recorded)
})

test('a record that an earlier version wrote as it came is escaped when it is shown', async (t) => {
  const raw = `x\u202e${'\x9b'.repeat(254)}`
  const intent = intentOf({ requestedAtMs: Date.now(), userAgent: raw, caller: 'a\u2066b', taskNo: 't-1\u200b' })
  const openStore = async (path: string) => {
    const store = await openSqliteStore(path)
    await store.append([intent], [outcomeOf(intent, { upstreamCode: 'A\x85', requestId: 'r\ud800' })])
    return store
  }
  const { api } = await startGateway(t, { overrides: { openStore } })
  const { body } = await api.get('/cancellations').set(asAuditor)
  const [{ userAgent, caller, taskNo, upstreamCode, requestId }] = body.items
  assert.equal(userAgent, `x\\u202e${'\\u009b'.repeat(41)}`)
  assert.deepEqual([caller, taskNo, upstreamCode], ['a\\u2066b', 't-1\\u200b', 'A\\u0085'])
  assert.match(requestId, /^r(\\ud800|\ufffd+)$/)
})

test('invisible characters of what upstream says of a task are escaped in every answer', async (t) => {
  const evil = JSON.stringify('x\u202e\x9b\x1b\u2028\ud800y').slice(1, -1)
  const shown = 'x\\u202e\\u009b\\u001b\\u2028\\ud800y'
  const names =
    'TaskType|TaskTypeDescription|Clientip|TaskDetailNo|DomainName|InstanceId|ErrorMsg|FailReason|TaskResult'
  const rewrite = (answer: string): string =>
    answer.replace(new RegExp(`"(${names})":("[^"]*"|null)`, 'g'), (_, name) => `"${name}":"${evil}"`)
  const { api, upstream } = await startWatchedGateway(t, {
    proxy: (t, upstream) => startRewritingProxy(t, upstream.url, rewrite),
  })
  const taskNo = upstream.addTask({ domains: ['a.example'] })

  const texts = []
  for (const path of ['/tasks', `/tasks/${taskNo}`, `/tasks/${taskNo}/details`]) {
    const { status, text } = await api.get(path).set(asReader)
    assert.equal(status, 200)
    assert.doesNotMatch(text, /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u, path)
    texts.push(text)
  }

  const [list = '', one = '', details = ''] = texts
  assert.deepEqual([JSON.parse(list).items[0].type, JSON.parse(one).typeDescription], [shown, shown])
  const [{ domain, instanceId, detailNo, type }] = JSON.parse(details).items
  assert.deepEqual([domain, instanceId, detailNo, type], [shown, shown, shown, shown])
})

test('invisible characters of the name of a caller are escaped in answers and in the log', async (t) => {
  const name = 'op\u202e\u200bs'
  const entry = { name, sha256: sha256('plain').toString('hex'), scopes: ['tasks:cancel', 'tasks:read'] }
  const keys = JSON.stringify([...JSON.parse(API_KEYS), entry])
  const { api, upstream, logLines } = await startGateway(t, { env: { API_KEYS: keys } })
  const { body } = await api.get('/me').set({ 'x-api-key': 'plain' })
  await api.delete(`/tasks/${upstream.addTask()}`).set({ 'x-api-key': 'plain' })
  assert.equal(body.name, 'op\\u202e\\u200bs')
  assert.match(logLines.join(''), /"caller":"op\\\\u202e\\\\u200bs"/)
  assert.doesNotMatch(logLines.join('').replaceAll('\n', ''), /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u)
})
