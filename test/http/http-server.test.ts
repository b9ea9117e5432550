import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { CANARIES, startGateway } from '../helpers/gateway.ts'
import { openSocket, parseAnswer, sendLine, sendRaw, statusAndCode } from '../helpers/raw-http.ts'

const HEAD = 'GET /livez HTTP/1.1\r\nHost: a\r\n'
const CLOSE = 'Connection: close\r\n'
const LARGE = 'x'.repeat(8193)
const chunk = (text: string): string => `${text.length.toString(16)}\r\n${text}\r\n`

/** Bytes as they are sent, and the response. */
const REFUSED: readonly (readonly [string, string, number, string])[] = [
  ['rubbish', 'HELLO\r\n\r\n', 400, 'bad-request'],
  ['a TLS handshake', '\x16\x03\x01\x02\x00\x01\x00', 400, 'bad-request'],
  ['the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 400, 'bad-request'],
  ['no Host', `GET /livez HTTP/1.1\r\n${CLOSE}\r\n`, 400, 'bad-request'],
  ['two lengths', `${HEAD}Content-Length: 1\r\nContent-Length: 2\r\n\r\nx`, 400, 'bad-request'],
  [
    'a length and chunks',
    `${HEAD}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    400,
    'bad-request',
  ],
  ['a length that is none', `${HEAD}Content-Length: one\r\n\r\n`, 400, 'bad-request'],
  ['a header without a name', `${HEAD}: value\r\n\r\n`, 400, 'bad-request'],
  ['a header with a space in its name', `${HEAD}X Y: value\r\n\r\n`, 400, 'bad-request'],
  ['a header with a NUL', `${HEAD}X-Y: a\0b\r\n\r\n`, 400, 'bad-request'],
  ['a body that is too large', `${HEAD}${CLOSE}Content-Length: 8193\r\n\r\n${LARGE}`, 413, 'content-too-large'],
  [
    'chunks that are too large together',
    `${HEAD}${CLOSE}Transfer-Encoding: chunked\r\n\r\n${chunk(LARGE.slice(0, 4000)).repeat(3)}0\r\n\r\n`,
    413,
    'content-too-large',
  ],
  [
    'a chunk extension that is too long',
    `${HEAD}Transfer-Encoding: chunked\r\n\r\n1;${'x'.repeat(20_000)}\r\nx\r\n0\r\n\r\n`,
    413,
    'content-too-large',
  ],
  ['a chunk that is none', `${HEAD}Transfer-Encoding: chunked\r\n\r\nZZ\r\n`, 400, 'bad-request'],
  ['an expectation that can not be met', `${HEAD}${CLOSE}Expect: a-miracle\r\n\r\n`, 417, 'expectation-failed'],
  ['a header that is too large', `${HEAD}X-Y: ${'x'.repeat(17_000)}\r\n\r\n`, 431, 'headers-too-large'],
  ['a path that is too long', `GET /${'x'.repeat(17_000)} HTTP/1.1\r\nHost: a\r\n\r\n`, 431, 'headers-too-large'],
]

test('what is no request, or too large a one, is told so as a problem', async (t) => {
  const { url } = await startGateway(t)
  for (const [name, bytes, status, code] of REFUSED) {
    await t.test(`${name} is ${code}`, async () => {
      const answer = await sendRaw(url, bytes)
      assert.deepEqual(statusAndCode(answer), [status, code])
      assert.match(answer.headers['content-type'] ?? '', /^application\/problem\+json/)
      assert.equal(answer.headers.connection, 'close')
      assert.equal(Number(answer.headers['content-length']), Buffer.byteLength(answer.body))
    })
  }
})

/** Bodies that are too large before they have ended. */
const ENDLESS: readonly (readonly [string, string])[] = [
  ['announced as too large', `${HEAD}Content-Length: 8193\r\n\r\n`],
  ['of chunks without an end', `${HEAD}Transfer-Encoding: chunked\r\n\r\n${chunk(LARGE)}`],
]

for (const [name, bytes] of ENDLESS) {
  test(`a body ${name} is refused before it has come`, { timeout: 20_000 }, async (t) => {
    const sockets: Socket[] = []
    // First of all: an open connection would keep the gateway from ending.
    t.after(() => sockets.forEach((socket) => void socket.destroy()))
    const { url } = await startGateway(t)
    const socket = openSocket(url)
    sockets.push(socket)
    socket.write(bytes)
    const [first] = await once(socket, 'data')
    assert.deepEqual(statusAndCode(parseAnswer(String(first))), [413, 'content-too-large'])
  })
}

/** Unusual requests that get a normal response. */
const TAKEN: readonly (readonly [string, string])[] = [
  ['HTTP/1.0 without a Host', 'GET /livez HTTP/1.0\r\n\r\n'],
  ['a body of the largest size', `${HEAD}${CLOSE}Content-Length: 8192\r\n\r\n${LARGE.slice(1)}`],
  ['chunks of the largest size', `${HEAD}${CLOSE}Transfer-Encoding: chunked\r\n\r\n${chunk(LARGE.slice(1))}0\r\n\r\n`],
  ['a body in an encoding that it is not in', `${HEAD}${CLOSE}Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx`],
  ['a body that is no JSON', `${HEAD}${CLOSE}Content-Type: application/json\r\nContent-Length: 1\r\n\r\n{`],
  ['an absolute address', `GET http://a/livez HTTP/1.1\r\nHost: a\r\n${CLOSE}\r\n`],
  ['headers of 15 KiB', `${HEAD}${CLOSE}X-Y: ${'x'.repeat(15_000)}\r\n\r\n`],
]

test('what is a request is answered', async (t) => {
  const { url } = await startGateway(t)
  for (const [name, bytes] of TAKEN) {
    await t.test(name, async () => assert.equal((await sendRaw(url, bytes)).status, 200))
  }
})

test('one who asks first whether to send the body is told to', async (t) => {
  const { url } = await startGateway(t)
  const socket = openSocket(url)
  socket.write(`${HEAD}${CLOSE}Expect: 100-continue\r\nContent-Length: 1\r\n\r\n`)
  const [first] = await once(socket, 'data')
  assert.match(String(first), /^HTTP\/1\.1 100 Continue/)
  socket.write('x')
  const [second] = await once(socket, 'data')
  assert.match(String(second), /^HTTP\/1\.1 200 OK/)
})

const lastLine = async (t: TestContext, bytes: string) => {
  const { url, logLines } = await startGateway(t)
  const answer = await sendRaw(url, bytes)
  const { time: _, ...line } = JSON.parse(logLines.at(-1) ?? '')
  return { answer, line, all: logLines.join('') }
}

test('what the parser turns away is logged without its content', async (t) => {
  const { answer, line, all } = await lastLine(t, `BREW /${CANARIES.operatorKey} HTCPCP/1.0\r\nX-Y: content\r\n\r\n`)
  const requestId = answer.headers['x-request-id']
  assert.deepEqual(line, { level: 'info', code: 'bad-request', requestId, status: 400, msg: 'request' })
  assert.doesNotMatch(all, /BREW|content|canary/)
})

test('rubbish behind a request does not spoil its answer', async (t) => {
  const { url } = await startGateway(t)
  const { status, body } = await sendRaw(url, `${HEAD}\r\nHELLO\r\n\r\n`)
  assert.deepEqual([status, body.startsWith('{"status":"ok"}')], [200, true])
})

test('requests in one packet are answered in order', async (t) => {
  const { url } = await startGateway(t)
  const { status, body } = await sendRaw(url, `${HEAD}\r\nGET /nowhere HTTP/1.1\r\nHost: a\r\n${CLOSE}\r\n`)
  assert.deepEqual([status, /\{"status":"ok"\}HTTP\/1\.1 404 Not Found/.test(body)], [200, true])
})

test('a body is read and means nothing', async (t) => {
  const { url, upstream } = await startGateway(t)
  const lines = [`X-API-Key: ${CANARIES.operatorKey}`, 'Content-Type: application/json', 'Content-Length: 14']
  const bytes = ['DELETE /tasks/x HTTP/1.1', 'Host: a', 'Connection: close', ...lines, '', '{"TaskNo":"y"}'].join(
    '\r\n',
  )
  assert.deepEqual(statusAndCode(await sendRaw(url, bytes)), [404, 'task-not-found'])
  assert.equal(upstream.calls[0]?.params.TaskNo, 'x')
})

test('a request to the path of a proxy is none of ours', async (t) => {
  const { url } = await startGateway(t)
  assert.deepEqual(statusAndCode(await sendLine(url, 'GET http://evil.example/nowhere')), [404, 'not-found'])
  assert.notEqual((await sendRaw(url, `CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n`)).status, 200)
})
