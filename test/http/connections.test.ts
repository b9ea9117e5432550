import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { type TestContext, test } from 'node:test'
import { asOperator, asReader, eventually, type Started, startGateway } from '../helpers/gateway.ts'
import { openSocket, parseAnswers, sendBytes, sendLine } from '../helpers/raw-http.ts'
import { startResponseHoldingProxy } from '../helpers/upstream-proxy.ts'

const KEY = `X-API-Key: ${asOperator['x-api-key']}`
const KEPT = 'Connection: keep-alive'
const COUNT = 100

/** That many requests in one write; the last one ends the connection. */
const pipelined = (count: number, requestOf: (at: number) => readonly string[]): string =>
  Array.from({ length: count }, (_, at) => {
    const [start = '', ...lines] = requestOf(at)
    const kept = lines.filter((line) => line !== KEPT || at < count - 1)
    const close = at === count - 1 ? ['Connection: close'] : []
    const end = lines.includes('') ? kept : [...kept, '', '']
    return [start, 'Host: a', ...close, ...end].join('\r\n')
  }).join('')

const statusesIn = (answers: string): readonly string[] =>
  [...answers.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status = '']) => status)

const closedFor = async ({ adminUrl }: Started, reason: string, port = 'public'): Promise<number> => {
  const metrics = await (await fetch(`${adminUrl}/metrics`)).text()
  const line = `gateway_connections_closed_total{port="${port}",reason="${reason}"} `
  return Number(
    metrics
      .split('\n')
      .find((it) => it.startsWith(line))
      ?.slice(line.length),
  )
}

/** A connection that the test ends. */
const open = async (t: TestContext, url: string, localAddress?: string): Promise<Socket> => {
  const { hostname, port } = new URL(url)
  const socket = connect({ host: hostname, port: Number(port), localAddress }).on('error', () => {})
  t.after(() => socket.destroy())
  await once(socket, 'connect')
  return socket
}

/** Whether a connection is served: another one is closed without a byte. */
const isServed = async (socket: Socket, lines = ''): Promise<boolean> => {
  socket.write(`GET /livez HTTP/1.1\r\nHost: a\r\n${lines}\r\n`)
  const ended = new Promise<string>((resolve) => socket.once('close', () => resolve('')))
  const first = new Promise<string>((resolve) => socket.once('data', (chunk) => resolve(String(chunk))))
  return (await Promise.race([first, ended])).startsWith('HTTP/1.1 200 ')
}

test('of a hundred pipelined requests four are carried out at a time, and all are answered in order', async (t) => {
  const upstream = await startGateway(t)
  const proxy = await startResponseHoldingProxy(t, upstream.upstream.url)
  const started = await startGateway(t, { env: { UPSTREAM_URL: proxy.url } })
  const answers = sendBytes(
    started.url,
    pipelined(COUNT, (at) => [`GET /tasks?page=${at + 1} HTTP/1.1`, KEY]),
  )
  const inFlight = async (): Promise<number> => {
    const metrics = await (await fetch(`${started.adminUrl}/metrics`)).text()
    return Number(/^gateway_upstream_in_flight\{priority="read"\} (\d+)$/m.exec(metrics)?.[1])
  }
  await eventually(async () => ((await inFlight()) >= 4 ? true : undefined))
  await sendLine(started.url, 'GET /livez')
  assert.equal(await inFlight(), 4)
  proxy.release()
  const pages = parseAnswers(await answers).map(({ status, body }) => [status, JSON.parse(body).page])
  assert.deepEqual(
    pages,
    Array.from({ length: COUNT }, (_, at) => [200, at + 1]),
  )
})

/** Requests that are pipelined a hundred times, and the status of each. */
const PIPELINED: Readonly<Record<string, readonly [status: string, ...lines: readonly string[]]>> = {
  cancels: ['404', 'DELETE /tasks/none HTTP/1.1', KEY],
  'requests without credentials': ['401', 'GET /me HTTP/1.1'],
  'requests with a body': ['200', 'GET /livez HTTP/1.1', 'Content-Length: 5', '', '12345'],
  'requests whose body holds blank lines': ['200', 'GET /livez HTTP/1.1', 'Content-Length: 8', '', '\r\n\r\n\r\n\r\n'],
  'requests with chunks': ['200', 'GET /livez HTTP/1.1', 'Transfer-Encoding: chunked', '', '1\r\nx\r\n0\r\n\r\n'],
  'requests without a body': ['200', 'HEAD /livez HTTP/1.1'],
  'requests of HTTP/1.0': ['200', 'GET /livez HTTP/1.0', KEPT],
  'requests of an unknown method': ['405', 'PUT /livez HTTP/1.1'],
  'paths that do not exist': ['404', 'GET /nowhere HTTP/1.1'],
  'large pages': ['200', 'GET /openapi.json HTTP/1.1'],
}

for (const [name, [status, ...lines]] of Object.entries(PIPELINED)) {
  test(`a hundred pipelined ${name} are all answered`, async (t) => {
    const { url } = await startGateway(t, { env: { DOCS_ENABLED: 'true' } })
    const answers = await sendBytes(
      url,
      pipelined(COUNT, () => lines),
    )
    assert.deepEqual(statusesIn(answers), Array<string>(COUNT).fill(status))
  })
}

test('a client that sends many requests and then ends its side gets all responses', async (t) => {
  const { url } = await startGateway(t)
  const socket = openSocket(url)
  socket.end('GET /livez HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(COUNT))
  assert.deepEqual(statusesIn(await text(socket)), Array<string>(COUNT).fill('200'))
})

test('requests that come byte by byte are all answered', async (t) => {
  const { url } = await startGateway(t)
  const socket = openSocket(url).setNoDelay()
  const answers = text(socket)
  for (const byte of pipelined(3, () => ['GET /livez HTTP/1.1'])) {
    await new Promise((resolve) => socket.write(byte, resolve))
  }
  assert.deepEqual(statusesIn(await answers), ['200', '200', '200'])
})

test('rubbish behind many pipelined requests ends the connection after the answer that is being sent', async (t) => {
  const { url, api } = await startGateway(t)
  const requests = 'GET /livez HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(50)
  const answers = await sendBytes(url, `${requests}HELLO\r\n\r\n${requests}`)
  assert.ok(statusesIn(answers).every((status) => status === '200' || status === '400'))
  await api.get('/livez').expect(200)
})

/** Sends the same request for as long as the peer takes it, and reads nothing. */
const sendForever = (socket: Socket, request: string): void => {
  const requests = request.repeat(100)
  const more = (): void => void socket.write(requests)
  socket.pause().on('drain', more)
  more()
}

const PAGE = 'GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n'
const READERS = 10

test('connections that read nothing, or little at a time, are closed, and others are served meanwhile', async (t) => {
  const started = await startGateway(t, {
    env: { DOCS_ENABLED: 'true' },
    overrides: { timings: { readTimeoutMs: 2000 } },
  })
  const sockets = await Promise.all(Array.from({ length: READERS }, () => open(t, started.url)))
  for (const socket of sockets) sendForever(socket, PAGE)
  await eventually(async () => {
    // Every other one reads some bytes now and then.
    for (const [at, socket] of sockets.entries()) if (at % 2 === 0) socket.read(10)
    await started.api.get('/livez').expect(200)
    return (await closedFor(started, 'response-unread')) === READERS ? true : undefined
  })
})

test('a client that reads keeps its connection, however many responses it asks for', async (t) => {
  const started = await startGateway(t, {
    env: { DOCS_ENABLED: 'true' },
    overrides: { timings: { readTimeoutMs: 2000 } },
  })
  const answers = await sendBytes(
    started.url,
    pipelined(300, () => ['GET /openapi.json HTTP/1.1']),
  )
  assert.equal(statusesIn(answers).length, 300)
  assert.equal(await closedFor(started, 'response-unread'), 0)
})

test('a request that takes longer than a response may be read keeps its connection', async (t) => {
  const upstream = await startGateway(t)
  const proxy = await startResponseHoldingProxy(t, upstream.upstream.url)
  const started = await startGateway(t, {
    env: { UPSTREAM_URL: proxy.url },
    overrides: { timings: { readTimeoutMs: 10 } },
  })
  const answer = started.api.get('/tasks').set(asReader).then()
  await eventually(() => (upstream.upstream.calls.length > 0 ? true : undefined))
  for (let asked = 0; asked < 20; asked += 1) await sendLine(started.url, 'GET /livez')
  proxy.release()
  assert.equal((await answer).status, 200)
})

test('connections above the limit are closed at once and counted, and the admin port answers meanwhile', async (t) => {
  const started = await startGateway(t, { env: { MAX_CONNECTIONS: '3' } })
  const sockets = await Promise.all([1, 2, 3].map(() => open(t, started.url)))
  assert.deepEqual(await Promise.all(sockets.map((it) => isServed(it))), [true, true, true])
  const more = await Promise.all([1, 2].map(() => open(t, started.url)))
  assert.deepEqual(await Promise.all(more.map((it) => isServed(it))), [false, false])
  assert.equal(await closedFor(started, 'limit'), 2)
  for (const path of ['/livez', '/readyz']) assert.equal((await fetch(started.adminUrl + path)).status, 200)
  sockets[0]?.destroy()
  await eventually(async () => ((await isServed(await open(t, started.url))) ? true : undefined))
})

test('the limit per address counts the peers, and leaves others their connections', async (t) => {
  const started = await startGateway(t, { env: { MAX_CONNECTIONS_PER_ADDRESS: '2' } })
  const served = async (address: string) => isServed(await open(t, started.url, address))
  assert.deepEqual([await served('127.0.0.1'), await served('127.0.0.1')], [true, true])
  assert.equal(await served('127.0.0.1'), false)
  assert.deepEqual(
    [await served('127.0.0.2'), await served('127.0.0.2'), await served('127.0.0.2')],
    [true, true, false],
  )
  assert.equal(await closedFor(started, 'address-limit'), 2)
})

test('a peer frees a place when it leaves', async (t) => {
  const started = await startGateway(t, { env: { MAX_CONNECTIONS_PER_ADDRESS: '1' } })
  for (let at = 0; at < 5; at += 1) {
    const socket = await eventually(async () => {
      const tried = await open(t, started.url)
      return (await isServed(tried)) ? tried : undefined
    })
    socket.destroy()
  }
})

for (const [HOST, TRUST_PROXY] of [
  ['127.0.0.1', '127.0.0.1'],
  ['::', '127.0.0.0/8'],
] as const) {
  test(`the limit per address leaves out the proxies of TRUST_PROXY, with HOST=${HOST}`, async (t) => {
    const started = await startGateway(t, { env: { MAX_CONNECTIONS_PER_ADDRESS: '1', HOST, TRUST_PROXY } })
    const url = `http://127.0.0.1:${new URL(started.url).port}`
    const sockets = await Promise.all([1, 2, 3].map(() => open(t, url)))
    assert.deepEqual(await Promise.all(sockets.map((it) => isServed(it))), [true, true, true])
  })
}

test('X-Forwarded-For changes nothing about the peer that is counted', async (t) => {
  const started = await startGateway(t, { env: { MAX_CONNECTIONS_PER_ADDRESS: '1' } })
  const first = await open(t, started.url)
  assert.equal(await isServed(first), true)
  assert.equal(await isServed(await open(t, started.url), 'X-Forwarded-For: 6.6.6.6\r\n'), false)
})
