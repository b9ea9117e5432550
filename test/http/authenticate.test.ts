import assert from 'node:assert/strict'
import { test } from 'node:test'
import { asAuditor, asOperator, asReader, CANARIES, startGateway } from '../helpers/gateway.ts'
import { sendLine, sendRaw, statusAndCode } from '../helpers/raw-http.ts'

const KEY = CANARIES.operatorKey
const anonymous = { env: { ALLOW_ANONYMOUS: 'true' } }

/** Header lines that prove nothing. */
const UNKNOWN: readonly (readonly string[])[] = [
  [],
  ['X-API-Key: wrong'],
  ['X-API-Key:'],
  ['X-API-Key: \t '],
  ['X-API-Key: \u00a0'],
  ['X-API-Key: ""'],
  ['Authorization:'],
  ['Authorization: Bearer'],
  ['Authorization: Bearer  '],
  ['Cookie: __Host-session='],
  [`X-API-Key: ${KEY}x`],
  [`X-API-Key: ${KEY}, ${KEY}`],
  [`X-API-Key: ${KEY.toUpperCase()}`],
  [`Authorization: Bearer ${KEY}`],
  [`Authorization: ${KEY}`],
  [`Authorization: Basic ${Buffer.from(`operator:${KEY}`).toString('base64')}`],
  [`Cookie: X-API-Key=${KEY}`],
  [`Api-Key: ${KEY}`],
]

test('only the header of API keys, given once and to the letter, is a credential', async (t) => {
  const { url, upstream, record } = await startGateway(t)
  for (const lines of UNKNOWN) {
    await t.test(`${lines.join(' and ') || 'nothing'} is none`, async () => {
      const answer = await sendLine(url, `DELETE /tasks/x?X-API-Key=${KEY}`, ...lines)
      assert.deepEqual(statusAndCode(answer), [401, 'unauthenticated'])
      assert.equal(answer.headers['www-authenticate'], 'ApiKey realm="gateway"')
      assert.deepEqual([upstream.calls.length, await record('x')], [0, undefined])
    })
  }
})

/** Header lines of which no one can say which counts. */
const AMBIGUOUS: readonly (readonly string[])[] = [
  [`X-API-Key: ${KEY}`, `X-API-Key: ${KEY}`],
  [`X-API-Key: ${KEY}`, 'X-API-Key: wrong'],
  ['X-API-Key: wrong', `X-API-Key: ${KEY}`],
  [`X-API-Key: ${KEY}`, 'X-API-Key:'],
  [`X-API-Key: ${KEY}`, 'Authorization: Bearer x'],
  [`X-API-Key: ${KEY}`, 'Authorization:'],
  ['Authorization: Bearer x', 'Authorization: Bearer x'],
]

for (const options of [{}, anonymous]) {
  test(`two credentials are too many${'env' in options ? ', for anonymous callers too' : ''}`, async (t) => {
    const { url, upstream } = await startGateway(t, options)
    for (const lines of AMBIGUOUS) {
      await t.test(lines.join(' and '), async () => {
        assert.deepEqual(statusAndCode(await sendLine(url, 'DELETE /tasks/x', ...lines)), [
          400,
          'credentials-ambiguous',
        ])
        assert.equal(upstream.calls.length, 0)
      })
    }
  })
}

for (const [credential, expected] of [
  [asOperator, { name: 'operator', via: 'api-key', scopes: ['tasks:cancel', 'tasks:read'], callerDisplayName: null }],
  [asReader, { name: 'operator', via: 'api-key', scopes: ['tasks:read'], callerDisplayName: null }],
  [asAuditor, { name: 'auditor', via: 'api-key', scopes: ['audit:read', 'tasks:cancel'], callerDisplayName: null }],
] as const) {
  test(`${expected.name} with ${expected.scopes.join(' and ')} learns who they are`, async (t) => {
    const { api } = await startGateway(t)
    const { status, body } = await api.get('/me').set(credential)
    assert.deepEqual([status, body], [200, expected])
  })
}

test('anonymous callers are somebody where that was asked for outright, and each start warns', async (t) => {
  const { api, logLines } = await startGateway(t, anonymous)
  const { body } = await api.get('/me')
  const scopes = ['tasks:cancel', 'tasks:read']
  assert.deepEqual(body, { name: 'anonymous', via: 'anonymous', scopes, callerDisplayName: null })
  assert.match(logLines.join(''), /"level":"warn"[^\n]*ALLOW_ANONYMOUS/)
})

test('anonymous callers may cancel, on record as such, but not read the record', async (t) => {
  const { api, upstream, record } = await startGateway(t, anonymous)
  const taskNo = upstream.addTask()
  assert.equal((await api.delete(`/tasks/${taskNo}`)).status, 202)
  const { caller, via, outcome } = await record(taskNo)
  assert.deepEqual([caller, via, outcome], ['anonymous', 'anonymous', 'accepted'])
  assert.equal((await api.get('/cancellations')).body.code, 'forbidden')
})

test('a wrong key is refused even where nobody needs one', async (t) => {
  const { api } = await startGateway(t, anonymous)
  const { body } = await api.get('/me').set('x-api-key', 'wrong')
  assert.equal(body.code, 'unauthenticated')
})

const HOSTS: readonly (readonly [string, number])[] = [
  ['localhost', 200],
  ['LOCALHOST:3000', 200],
  ['127.0.0.1', 200],
  ['127.0.0.1:3000', 200],
  ['127.9.9.9', 200],
  ['[::1]:3000', 200],
  ['evil.example', 421],
  ['evil.example:3000', 421],
  ['localhost.evil.example', 421],
  ['127.0.0.1.evil.example', 421],
  ['localhost:3000.evil.example', 421],
  ['evil.example#localhost', 421],
  ['192.0.2.1', 421],
  ['', 421],
]

test('where nobody needs a credential, requests must name this machine', async (t) => {
  const { url } = await startGateway(t, anonymous)
  for (const [host, status] of HOSTS) {
    await t.test(`a request for "${host}" is answered ${status}`, async () => {
      const answer = await sendRaw(url, `GET /me HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`)
      assert.equal(answer.status, status)
    })
  }
})

test('where credentials are needed any host will do', async (t) => {
  const { url } = await startGateway(t)
  const answer = await sendRaw(url, 'GET /livez HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n')
  assert.equal(answer.status, 200)
})

test('one who names no host in HTTP/1.0 names no machine of ours either', async (t) => {
  const { url } = await startGateway(t, anonymous)
  assert.deepEqual(statusAndCode(await sendRaw(url, 'GET /me HTTP/1.0\r\n\r\n')), [421, 'misdirected'])
})
