import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { createServer as createHttpServer, type ServerResponse } from 'node:http'
import { createServer } from 'node:net'
import { type TestContext, test } from 'node:test'
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from 'node:zlib'
import type { Sandbox } from '../../sandbox/src/server.ts'
import { signAcs3 } from '../../src/alibaba/acs3.ts'
import { signRpcV1 } from '../../src/alibaba/rpc-v1.ts'
import type { SignedRequest } from '../../src/alibaba/signing.ts'
import { createTransport, type RawResult, type SendOptions } from '../../src/alibaba/transport.ts'
import { createCertificate } from '../helpers/certificate.ts'
import { closedPort, listenOn } from '../helpers/ports.ts'
import { KEYS, startKeyedSandbox } from '../helpers/signed-call.ts'
import { startPausedProxy } from '../helpers/upstream-proxy.ts'

const never = new AbortController().signal

/** One exchange to that address; `send` signs anew each time. */
const openExchange = (
  t: TestContext,
  origin: string,
  options: Omit<Parameters<typeof createTransport>[0], 'origin'> = {},
) => {
  const url = new URL(origin)
  const exchange = createTransport({ origin: url, ...options })
  t.after(exchange.close)
  const send = (taskNo: string, budget: Partial<SendOptions> = {}, sign = signRpcV1): Promise<RawResult> =>
    exchange.send(signed(url.host, taskNo, sign), { timeoutMs: 5000, signal: never, ...budget })
  return { send, close: exchange.close }
}

const signed = (host: string, taskNo: string, sign = signRpcV1): SignedRequest =>
  sign({ action: 'CancelTask', params: { TaskNo: taskNo }, host }, KEYS, { nonce: randomUUID(), at: new Date() })

/** A server that answers each request in the given way. */
const startServer = async (t: TestContext, answer: (res: ServerResponse) => void): Promise<string> =>
  `http://127.0.0.1:${await listenOn(
    t,
    createHttpServer((req, res) => {
      req.resume()
      req.on('end', () => answer(res))
    }),
  )}`

for (const sign of [signRpcV1, signAcs3]) {
  test(`an answer to ${sign.name} comes back with status, body and date`, async (t) => {
    const sandbox = await startKeyedSandbox(t)
    const { send } = openExchange(t, sandbox.url)
    const exchanged = await send(sandbox.addTask(), {}, sign)
    assert.equal(exchanged.kind, 'response')
    assert.ok(exchanged.kind === 'response' && exchanged.date !== null)
    assert.match(exchanged.response.body, /^\{"RequestId":"[0-9A-F-]{36}"\}$/)
    assert.deepEqual([exchanged.response.status, exchanged.response.retryAfterMs], [200, null])
  })
}

const LOSSES = [
  ['stall', 'ETIMEDOUT'],
  ['reset', 'ECONNRESET'],
  ['truncate', 'ERR_HTTP_CONTENT_LENGTH_MISMATCH'],
] as const

for (const [reply, reason] of LOSSES) {
  test(`a call that ends in a ${reply} is lost after it was sent`, async (t) => {
    const sandbox = await startKeyedSandbox(t)
    sandbox.fault('CancelTask', { reply })
    const { send } = openExchange(t, sandbox.url)
    const lost = await send(sandbox.addTask(), { timeoutMs: reply === 'stall' ? 2000 : 5000 })
    assert.deepEqual(lost, { kind: 'no-response', sent: true, reason })
  })
}

const NEVER_ANSWERED = 'a TLS handshake that is never answered'

type Unreachable = readonly [string, (t: TestContext) => Promise<string>, RegExp]

const UNREACHABLE: readonly Unreachable[] = [
  ['a closed port', async () => `http://127.0.0.1:${await closedPort()}`, /^ECONNREFUSED$/],
  ['a name that does not exist', async () => `https://${'a'.repeat(64)}.invalid`, /^(ENOTFOUND|EAI_\w+|EINVAL)$/],
  ['a certificate that is not trusted', async (t) => (await startTls(t)).sandbox.url, /^DEPTH_ZERO_SELF_SIGNED_CERT$/],
  [
    'a TLS handshake that is cut',
    async (t) =>
      `https://127.0.0.1:${await listenOn(
        t,
        createServer((socket) => socket.destroy()),
      )}`,
    /^ECONNRESET$/,
  ],
  [NEVER_ANSWERED, async (t) => `https://127.0.0.1:${await listenOn(t, createServer())}`, /^ETIMEDOUT$/],
]

const startTls = async (t: TestContext): Promise<{ sandbox: Sandbox; ca: string }> => {
  const tls = createCertificate()
  return { sandbox: await startKeyedSandbox(t, { tls }), ca: tls.cert }
}

for (const [name, addressOf, reason] of UNREACHABLE) {
  test(`${name} means that nothing was sent`, async (t) => {
    const { send } = openExchange(t, await addressOf(t))
    const lost = await send('t-1', { timeoutMs: name === NEVER_ANSWERED ? 300 : 5000 })
    assert.ok(lost.kind === 'no-response')
    assert.equal(lost.sent, false)
    assert.match(lost.reason, reason)
  })
}

test('over TLS a call counts as sent from the end of the handshake on', async (t) => {
  const { sandbox, ca } = await startTls(t)
  sandbox.fault('CancelTask', { reply: 'reset' })
  const lost = await openExchange(t, sandbox.url, { ca }).send(sandbox.addTask())
  assert.deepEqual(lost, { kind: 'no-response', sent: true, reason: 'ECONNRESET' })
})

test('a request that is aborted during the handshake is not sent', async (t) => {
  const { sandbox, ca } = await startTls(t)
  const proxy = await startPausedProxy(t, sandbox.url)
  const gone = new AbortController()
  const lost = openExchange(t, `https://127.0.0.1:${proxy.port}`, { ca }).send('t-1', { signal: gone.signal })
  await proxy.connected
  gone.abort()
  assert.deepEqual(await lost, { kind: 'no-response', sent: false, reason: 'aborted' })
  proxy.resume()
  await sandbox.socketsClosed()
  assert.equal(sandbox.calls.length, 0)
})

test('a request that is aborted before it starts is not sent, not even on an open connection', async (t) => {
  const sandbox = await startKeyedSandbox(t)
  const { send, close } = openExchange(t, sandbox.url)
  await send(sandbox.addTask())
  const lost = await send(sandbox.addTask(), { signal: AbortSignal.abort() })
  assert.deepEqual(lost, { kind: 'no-response', sent: false, reason: 'aborted' })
  close()
  await sandbox.socketsClosed()
  assert.equal(sandbox.calls.length, 1)
})

test('a request that is aborted after it was sent still gets its response', async (t) => {
  const sandbox = await startKeyedSandbox(t)
  const proxy = await startPausedProxy(t, sandbox.url)
  const gone = new AbortController()
  const { send } = openExchange(t, `http://127.0.0.1:${proxy.port}`)
  const exchanged = send(sandbox.addTask(), { signal: gone.signal })
  await proxy.firstByte
  gone.abort()
  proxy.resume()
  assert.equal((await exchanged).kind, 'response')
})

test('a revoked exchange ends at once, even after it was sent, and its connection with it', async (t) => {
  const sandbox = await startKeyedSandbox(t)
  sandbox.fault('CancelTask', { reply: 'stall' })
  const revocation = new AbortController()
  const { send } = openExchange(t, sandbox.url)
  const called = sandbox.nextCall('CancelTask')
  const exchanged = send(sandbox.addTask(), { revoked: revocation.signal })
  await called
  revocation.abort()
  assert.deepEqual(await exchanged, { kind: 'no-response', sent: true, reason: 'revoked' })
  await sandbox.socketsClosed()
})

test('an exchange that is revoked before it begins sends nothing', async (t) => {
  const sandbox = await startKeyedSandbox(t)
  const { send, close } = openExchange(t, sandbox.url)
  const lost = await send(sandbox.addTask(), { revoked: AbortSignal.abort() })
  assert.deepEqual(lost, { kind: 'no-response', sent: false, reason: 'revoked' })
  close()
  await sandbox.socketsClosed()
  assert.equal(sandbox.calls.length, 0)
})

test('the connection is used again', async (t) => {
  const sandbox = await startKeyedSandbox(t)
  const { send } = openExchange(t, sandbox.url)
  for (const taskNo of [sandbox.addTask(), sandbox.addTask(), sandbox.addTask()]) await send(taskNo)
  assert.deepEqual([sandbox.calls.length, sandbox.sockets], [3, 1])
})

test('a connection that is not used for a while is given up', async (t) => {
  const sandbox = await startKeyedSandbox(t)
  const { send } = openExchange(t, sandbox.url, { idleMs: 20 })
  await send(sandbox.addTask())
  await sandbox.socketsClosed()
  assert.equal((await send(sandbox.addTask())).kind, 'response')
})

test('a call that outlasts the idle time is not cut', async (t) => {
  const sandbox = await startKeyedSandbox(t)
  sandbox.fault('CancelTask', { reply: 'slow' })
  const { send } = openExchange(t, sandbox.url, { idleMs: 1 })
  assert.equal((await send(sandbox.addTask())).kind, 'response')
})

test('a used connection that dies with the next call may have carried it', async (t) => {
  const sandbox = await startKeyedSandbox(t)
  const { send } = openExchange(t, sandbox.url)
  await send(sandbox.addTask())
  sandbox.fault('CancelTask', { reply: 'reset' })
  assert.deepEqual(await send(sandbox.addTask()), { kind: 'no-response', sent: true, reason: 'ECONNRESET' })
  assert.equal(sandbox.calls.length, 2)
})

for (const [bytes, kind] of [
  [1000, 'response'],
  [1001, 'too-large'],
] as const) {
  test(`an answer of ${bytes} bytes, where 1000 are let through, is ${kind}`, async (t) => {
    const origin = await startServer(t, (res) => res.end('x'.repeat(bytes)))
    const exchanged = await openExchange(t, origin, { maxResponseBytes: 1000 }).send('t-1')
    assert.equal(exchanged.kind, kind)
  })
}

const TEXT = JSON.stringify({ RequestId: 'R-1', text: '修改DNS'.repeat(50) })

const ENCODED: readonly (readonly [string, Buffer, string])[] = [
  ['gzip', gzipSync(TEXT), TEXT],
  ['x-gzip', gzipSync(TEXT), TEXT],
  ['GZIP', gzipSync(TEXT), TEXT],
  ['deflate', deflateSync(TEXT), TEXT],
  ['deflate', deflateRawSync(TEXT), TEXT],
  ['br', brotliCompressSync(TEXT), TEXT],
  ['deflate, gzip', gzipSync(deflateSync(TEXT)), TEXT],
  ['identity', Buffer.from(TEXT), TEXT],
  ['gzip', Buffer.from(TEXT), TEXT],
  ['gzip', Buffer.alloc(0), ''],
]

for (const [encoding, bytes, expected] of ENCODED) {
  test(`a body of ${bytes.length} bytes with Content-Encoding ${encoding} is understood`, async (t) => {
    const origin = await startServer(t, (res) => res.setHeader('content-encoding', encoding).end(bytes))
    const exchanged = await openExchange(t, origin).send('t-1')
    assert.equal(exchanged.kind === 'response' && exchanged.response.body, expected)
  })
}

for (const [fault, encoding, bytes] of [
  ['was cut', 'gzip', gzipSync(TEXT).subarray(0, -9)],
  ['has an unknown encoding', 'compress', gzipSync(TEXT)],
] as const) {
  test(`an encoded body that ${fault} is unreadable`, async (t) => {
    const origin = await startServer(t, (res) => res.setHeader('content-encoding', encoding).end(bytes))
    const exchanged = await openExchange(t, origin).send('t-1')
    assert.ok(exchanged.kind === 'response')
    assert.throws(() => JSON.parse(exchanged.response.body))
  })
}

for (const [name, encoding, compress] of [
  ['gzip', 'gzip', gzipSync],
  ['deflate', 'deflate', deflateSync],
  ['raw deflate', 'deflate', deflateRawSync],
  ['br', 'br', brotliCompressSync],
  ['gzip inside gzip', 'gzip, gzip', (text: string) => gzipSync(gzipSync(text))],
] as const) {
  for (const [bytes, kind] of [
    [10_000, 'response'],
    [10_001, 'too-large'],
    [10_000_000, 'too-large'],
  ] as const) {
    test(`a body of ${bytes} bytes in ${name}, where 10000 are let through, is ${kind}`, async (t) => {
      const body = compress('x'.repeat(bytes))
      const origin = await startServer(t, (res) => res.setHeader('content-encoding', encoding).end(body))
      const exchanged = await openExchange(t, origin, { maxResponseBytes: 10_000 }).send('t-1')
      assert.equal(exchanged.kind, kind)
    })
  }
}

test('no encoding is asked for', async (t) => {
  const { promise, resolve } = Promise.withResolvers<string | undefined>()
  const server = createHttpServer((req, res) => {
    resolve(req.headers['accept-encoding'])
    res.end()
  })
  await openExchange(t, `http://127.0.0.1:${await listenOn(t, server)}`).send('t-1')
  assert.equal(await promise, 'identity')
})

test('a response that is too large is not read to its end', async (t) => {
  const sandbox = await startKeyedSandbox(t)
  sandbox.fault('CancelTask', { reply: 'huge' })
  const { send } = openExchange(t, sandbox.url)
  assert.deepEqual(await send(sandbox.addTask()), { kind: 'too-large' })
  await sandbox.socketsClosed()
})

test('a redirect is a response, and is not followed', async (t) => {
  const sandbox = await startKeyedSandbox(t)
  sandbox.fault('CancelTask', { reply: 'redirect' })
  const exchanged = await openExchange(t, sandbox.url).send(sandbox.addTask())
  assert.ok(exchanged.kind === 'response')
  assert.deepEqual([exchanged.response.status, sandbox.calls.length], [302, 1])
})

const RETRY_AFTER: readonly (readonly [string, number | null])[] = [
  ['250', 250],
  ['0', 0],
  ['999999999', 999_999_999],
  ['1000000000', null],
  ['-1', null],
  ['1.5', null],
  ['soon', null],
  ['1, 2', null],
]

for (const [header, retryAfterMs] of RETRY_AFTER) {
  test(`x-acs-retry-after "${header}" is read as ${retryAfterMs}`, async (t) => {
    const origin = await startServer(t, (res) => res.setHeader('x-acs-retry-after', header).end())
    const exchanged = await openExchange(t, origin).send('t-1')
    assert.ok(exchanged.kind === 'response')
    assert.equal(exchanged.response.retryAfterMs, retryAfterMs)
  })
}

test('a date that can not be read is none', async (t) => {
  const origin = await startServer(t, (res) => res.setHeader('date', 'yesterday').end())
  const exchanged = await openExchange(t, origin).send('t-1')
  assert.equal(exchanged.kind === 'response' && exchanged.date, null)
})

test('nothing that got says about a loss leaves', async (t) => {
  const sandbox = await startKeyedSandbox(t)
  const { send } = openExchange(t, sandbox.url)
  for (const reply of ['stall', 'reset', 'truncate'] as const) {
    sandbox.fault('CancelTask', { reply })
    const lost = await send('t-1', { timeoutMs: 200 })
    assert.deepEqual(Object.keys(lost), ['kind', 'sent', 'reason'])
    assert.match(lost.kind === 'no-response' ? lost.reason : '', /^[A-Z_]{3,40}$/)
  }
})

test('an answer that never ends is over with the time', async (t) => {
  const origin = await startServer(t, (res) => res.writeHead(200).write('{'))
  assert.deepEqual(await openExchange(t, origin).send('t-1', { timeoutMs: 200 }), {
    kind: 'no-response',
    sent: true,
    reason: 'ETIMEDOUT',
  })
})
