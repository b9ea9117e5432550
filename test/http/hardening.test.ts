import assert from 'node:assert/strict'
import { test } from 'node:test'
import { asOperator, startGateway } from '../helpers/gateway.ts'
import { sendRaw, statusAndCode } from '../helpers/raw-http.ts'

const CLOSE = 'Connection: close\r\n'
const ANYONE = { API_KEYS: '', ALLOW_ANONYMOUS: 'true' }

test('a body that is not there when the time of the request is up is not waited for', async (t) => {
  const { url, upstream } = await startGateway(t, { env: { UPSTREAM_TIMEOUT_MS: '10', REQUEST_TIMEOUT_MS: '3010' } })
  const key = `X-API-Key: ${asOperator['x-api-key']}`
  const head = `DELETE /tasks/x HTTP/1.1\r\nHost: a\r\n${key}\r\nContent-Length: 5\r\n\r\nabc`
  const answer = await sendRaw(url, head)
  assert.deepEqual(
    [...statusAndCode(answer), JSON.parse(answer.body).outcome],
    [408, 'request-timeout', 'not-cancelled'],
  )
  assert.equal(upstream.calls.length, 0)
})

test('two Host lines are refused', async (t) => {
  const { url } = await startGateway(t)
  const answer = await sendRaw(url, `GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n${CLOSE}\r\n`)
  assert.deepEqual(statusAndCode(answer), [400, 'bad-request'])
})

test('a task number with a fragment reaches nobody', async (t) => {
  const { url, upstream } = await startGateway(t, { env: ANYONE })
  const answer = await sendRaw(url, `DELETE /tasks/a#b HTTP/1.1\r\nHost: localhost\r\n${CLOSE}\r\n`)
  assert.deepEqual(statusAndCode(answer), [400, 'bad-request'])
  assert.equal(answer.headers['content-language'], 'en')
  assert.equal(upstream.calls.length, 0)
})

for (const [target, expected] of [
  ['/livez', 200],
  ['http://localhost:1/livez', 200],
  ['http://evil.example/livez', 421],
  ['HTTP://evil.example/livez', 421],
  ['http://localhost:1\\livez', 400],
  ['http://localhost:1/readyz\\..\\livez', 400],
] as const) {
  test(`without credentials, ${target} with a loopback Host is ${expected}`, async (t) => {
    const { url } = await startGateway(t, { env: ANYONE })
    const answer = await sendRaw(url, `GET ${target} HTTP/1.1\r\nHost: localhost\r\n${CLOSE}\r\n`)
    assert.equal(answer.status, expected)
  })
}
