import assert from 'node:assert/strict'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { CANARIES, eventually, type StartOptions, startGateway } from '../helpers/gateway.ts'
import { isOpen } from '../helpers/ports.ts'
import { openSocket, parseAnswer, sendBytes } from '../helpers/raw-http.ts'

const APP = 'https://app.example.com'
const LOCAL = 'http://localhost:5173'
const CORS_ORIGINS = `${APP}, ${LOCAL}`

/** The values of the lines of `Origin`, and the origin whose pages may read the answer. */
const ORIGINS: readonly (readonly [readonly string[], string | null])[] = [
  [[APP], APP],
  [[LOCAL], LOCAL],
  [[], null],
  [[''], null],
  [['null'], null],
  [['*'], null],
  [['https://evil.example'], null],
  [['https://app.example.com.evil.example'], null],
  [['https://evil-app.example.com'], null],
  [['https://evil.example/https://app.example.com'], null],
  [['https://sub.app.example.com'], null],
  [['https://APP.example.com'], null],
  [['HTTPS://app.example.com'], null],
  [['http://app.example.com'], null],
  [['https://app.example.com:443'], null],
  [['https://app.example.com:8443'], null],
  [['https://app.example.com/'], null],
  [['https://app.example.com.'], null],
  [['http://localhost'], null],
  [[`${APP}, ${LOCAL}`], null],
  [[`${APP} ${LOCAL}`], null],
  [[APP, APP], null],
  [[APP, 'https://evil.example'], null],
  [['https://evil.example', APP], null],
]

const READABLE = {
  'access-control-allow-credentials': 'true',
  'access-control-expose-headers':
    'Location, Link, ETag, RateLimit, RateLimit-Policy, Retry-After, Preference-Applied, X-Request-Id, WWW-Authenticate',
}

const PREFLIGHT = {
  'access-control-allow-methods': 'GET, HEAD, DELETE, POST',
  'access-control-allow-headers':
    'Authorization, Prefer, X-CSRF, If-None-Match, traceparent, tracestate, baggage, Accept-Language, Content-Type, X-Request-Id',
  'access-control-max-age': '7200',
}

/** The headers of a response about other origins, and that `Vary` names each header once. */
const corsIn = (answer: string): Readonly<Record<string, string>> => {
  const head = answer.slice(0, answer.indexOf('\r\n\r\n'))
  assert.deepEqual(head.match(/^vary:.*$/gim), ['Vary: Accept-Language, Origin'])
  const lines = head.match(/^access-control-.*$/gim) ?? []
  const { headers } = parseAnswer(answer)
  const said = Object.entries(headers).filter(([name]) => name.startsWith('access-control-'))
  assert.equal(said.length, lines.length, 'no header twice')
  return Object.fromEntries(said)
}

const readableBy = (origin: string | null) =>
  origin === null ? {} : { 'access-control-allow-origin': origin, ...READABLE }

const requestFrom = (origins: readonly string[], start: string, ...lines: readonly string[]): string => {
  const head = [`${start} HTTP/1.1`, 'Connection: close', ...origins.map((origin) => `Origin: ${origin}`), ...lines]
  const host = lines.some((line) => /^host:/i.test(line)) ? [] : ['Host: 127.0.0.1']
  return [...head, ...host, '', ''].join('\r\n')
}

const OPERATOR = `X-API-Key: ${CANARIES.operatorKey}`
const READER = `X-API-Key: ${CANARIES.readerKey}`
const PREFLIGHT_LINE = 'Access-Control-Request-Method: DELETE'

interface Scene extends StartOptions {
  readonly request: readonly [string, ...string[]]
  readonly status: number
}

/** Every kind of answer, from wherever in the gateway it comes. `:taskNo` stands for a task that is there. */
const ANSWERS: Readonly<Record<string, Scene>> = {
  'a probe': { request: ['GET /livez'], status: 200 },
  'a read': { request: ['GET /tasks', READER], status: 200 },
  'a read without its body': { request: ['HEAD /tasks', READER], status: 200 },
  'a cancel': { request: ['DELETE /tasks/:taskNo', OPERATOR], status: 202 },
  'what has not changed': { request: ['GET /tasks/:taskNo', READER, 'If-None-Match: *'], status: 304 },
  'a page': { request: ['GET /problems/not-found'], status: 200 },
  'a document': { request: ['GET /openapi.json'], status: 200, env: { DOCS_ENABLED: 'true' } },
  'a target with a fragment': { request: ['GET /livez#x'], status: 400 },
  'a target that is no URL': { request: ['GET http://[/livez'], status: 400 },
  'a task number that is none': { request: ['DELETE /tasks/a.b', OPERATOR], status: 400 },
  'two credentials': { request: ['DELETE /tasks/x', OPERATOR, READER], status: 400 },
  'a query that is none': { request: ['GET /tasks?page=0', READER], status: 400 },
  'no credential': { request: ['DELETE /tasks/x'], status: 401 },
  'no scope': { request: ['DELETE /tasks/x', READER], status: 403 },
  'no route': { request: ['GET /nowhere'], status: 404 },
  'no task': { request: ['DELETE /tasks/nobody-s', OPERATOR], status: 404 },
  'no method': { request: ['PUT /tasks/x'], status: 405 },
  'a plain OPTIONS': { request: ['OPTIONS /tasks/x'], status: 405 },
  'what can not be cancelled': {
    request: ['DELETE /tasks/:taskNo', OPERATOR],
    status: 409,
    sandbox: { waitingMs: 0, executingMs: 0 },
  },
  'a body that is too large': { request: ['DELETE /tasks/x', 'Content-Length: 8193'], status: 413 },
  'a preflight with a body that is too large': {
    request: ['OPTIONS /tasks/x', PREFLIGHT_LINE, 'Content-Length: 8193'],
    status: 413,
  },
  'an expectation': { request: ['DELETE /tasks/x', OPERATOR, 'Expect: a-miracle'], status: 417 },
  'a foreign host': {
    request: ['DELETE /tasks/x', 'Host: evil.example'],
    status: 421,
    env: { ALLOW_ANONYMOUS: 'true' },
  },
  'a preflight for a foreign host': {
    request: ['OPTIONS /tasks/x', PREFLIGHT_LINE, 'Host: evil.example'],
    status: 421,
    env: { ALLOW_ANONYMOUS: 'true' },
  },
  'what fails upstream': {
    request: ['DELETE /tasks/:taskNo', OPERATOR],
    status: 502,
    env: { ALIBABA_CLOUD_ACCESS_KEY_SECRET: 'another' },
  },
}

for (const [name, { request, status, env, ...options }] of Object.entries(ANSWERS)) {
  test(`the answer ${status} to ${name} can be read by pages of listed origins, and by no others`, async (t) => {
    const { url, upstream } = await startGateway(t, { env: { CORS_ORIGINS, ...env }, ...options })
    for (const [origins, reader] of ORIGINS) {
      const [start, ...lines] = request
      const target = start.replace(':taskNo', start.includes(':taskNo') ? upstream.addTask() : '')
      const answer = await sendBytes(url, requestFrom(origins, target, ...lines))
      assert.equal(parseAnswer(answer).status, status)
      assert.deepEqual(corsIn(answer), readableBy(reader), origins.join(' and '))
    }
  })
}

test('what a limit refuses can be read, and no preflight counts', async (t) => {
  const { url } = await startGateway(t, { env: { CORS_ORIGINS, RATE_LIMIT_UNKNOWN_MAX: '1' } })
  const send = (start: string, ...lines: readonly string[]) => sendBytes(url, requestFrom([APP], start, ...lines))
  for (let time = 0; time < 3; time += 1) {
    assert.equal(parseAnswer(await send('OPTIONS /me', 'Access-Control-Request-Method: GET')).status, 204)
  }
  const answers = [await send('GET /me'), await send('GET /me')]
  assert.deepEqual(
    answers.map((answer) => parseAnswer(answer).status),
    [401, 429],
  )
  for (const answer of answers) assert.deepEqual(corsIn(answer), readableBy(APP))
  assert.equal(parseAnswer(await send('OPTIONS /me', 'Access-Control-Request-Method: GET')).status, 204)
})

for (const path of ['/tasks/x', '/tasks', '/me', '/cancellations', '/livez', '/nowhere']) {
  test(`a preflight for ${path} is answered to listed origins`, async (t) => {
    const { url, upstream } = await startGateway(t, { env: { CORS_ORIGINS } })
    for (const [origins, reader] of ORIGINS) {
      const answer = await sendBytes(url, requestFrom(origins, `OPTIONS ${path}`, PREFLIGHT_LINE))
      const { status, headers, body } = parseAnswer(answer)
      if (reader === null) {
        assert.deepEqual([status, corsIn(answer)], [path === '/nowhere' ? 404 : 405, {}])
      } else {
        assert.deepEqual([status, body], [204, ''])
        assert.deepEqual(corsIn(answer), { ...readableBy(reader), ...PREFLIGHT })
        assert.deepEqual([headers.ratelimit, headers['www-authenticate']], [undefined, undefined])
      }
    }
    assert.equal(upstream.calls.length, 0)
  })
}

test('a preflight is told the same whatever it asks for: keys of services are never allowed', async (t) => {
  const { url } = await startGateway(t, { env: { CORS_ORIGINS } })
  const answer = await sendBytes(
    url,
    requestFrom(
      [APP],
      'OPTIONS /tasks/x',
      'Access-Control-Request-Method: PUT',
      'Access-Control-Request-Headers: x-api-key',
    ),
  )
  assert.deepEqual([parseAnswer(answer).status, corsIn(answer)], [204, { ...readableBy(APP), ...PREFLIGHT }])
})

test('what else looks like a preflight is none', async (t) => {
  const { url, upstream } = await startGateway(t, { env: { CORS_ORIGINS } })
  const taskNo = upstream.addTask()
  const answer = await sendBytes(url, requestFrom([APP], `DELETE /tasks/${taskNo}`, PREFLIGHT_LINE))
  assert.deepEqual([parseAnswer(answer).status, corsIn(answer)], [401, readableBy(APP)])
})

test('with no origins listed nothing is said of any, and preflights are refused', async (t) => {
  const { url } = await startGateway(t)
  for (const origin of [APP, 'null', '', '*', 'undefined']) {
    for (const [start, status, ...lines] of [
      ['GET /livez', 200],
      ['GET /livez#x', 400],
      ['DELETE /tasks/x', 401],
      ['GET /livez', 417, 'Expect: a-miracle'],
      ['OPTIONS /tasks/x', 405, PREFLIGHT_LINE],
    ] as const) {
      const answer = await sendBytes(url, requestFrom([origin], start, ...lines))
      assert.deepEqual([parseAnswer(answer).status, corsIn(answer)], [status, {}])
    }
  }
})

/** Bytes that are sent before the gateway stops, and after it. */
const HALVES: Readonly<Record<string, readonly [string, string]>> = {
  'a request that ends': ['DELETE /tasks/x HTTP/1.1\r\nHost: a\r\nOrigin: ORIGIN\r\n', '\r\n'],
  'a preflight that ends': [`OPTIONS /tasks/x HTTP/1.1\r\nHost: a\r\nOrigin: ORIGIN\r\n`, `${PREFLIGHT_LINE}\r\n\r\n`],
  'a request whose body does not come': [
    'DELETE /tasks/x HTTP/1.1\r\nHost: a\r\nOrigin: ORIGIN\r\nContent-Length: 5\r\n\r\nonly',
    '',
  ],
}

for (const [name, [before, after]] of Object.entries(HALVES)) {
  test(`${name} while the gateway stops is refused as others are, and can be read`, async (t) => {
    const { url, upstream, stop } = await startGateway(t, { env: { CORS_ORIGINS } })
    upstream.fault('CancelTask', { reply: 'stall' })
    const called = upstream.nextCall('CancelTask')
    const held = openSocket(url)
    t.after(() => held.destroy())
    held.write(requestFrom([], `DELETE /tasks/${upstream.addTask()}`, OPERATOR))
    const senders = [APP, 'https://evil.example'].map((origin) => {
      const socket = openSocket(url)
      socket.write(before.replace('ORIGIN', origin))
      return { origin, socket, answered: text(socket) }
    })
    await Promise.all([called, ...senders.map(({ socket }) => once(socket, 'connect'))])
    await sendBytes(url, requestFrom([], 'GET /livez'))
    const stopped = stop()
    await eventually(async () => ((await isOpen(url)) ? undefined : true))
    for (const { origin, socket, answered } of senders) {
      socket.write(after)
      const answer = await answered
      assert.equal(parseAnswer(answer).status, 503)
      assert.deepEqual(corsIn(answer), readableBy(origin === APP ? APP : null))
    }
    await upstream.close()
    await stopped
  })
}

/** The origins that lines about refused origins name, in their order. */
const refusedOrigins = (logLines: readonly string[]): readonly unknown[] =>
  logLines
    .map((line) => JSON.parse(line))
    .filter((line) => line.setting === 'CORS_ORIGINS')
    .map((line) => line.origin)

test('an origin that is refused is logged once, with the setting that would list it', async (t) => {
  const { url, logLines } = await startGateway(t, { env: { CORS_ORIGINS } })
  for (const origin of ['https://evil.example', 'http://[::1]:8080', 'null', 'https://evil.example']) {
    for (const start of ['GET /livez', 'OPTIONS /tasks/x', 'DELETE /tasks/x']) {
      await sendBytes(url, requestFrom([origin], start, PREFLIGHT_LINE))
    }
  }
  assert.deepEqual(refusedOrigins(logLines), ['https://evil.example', 'http://[::1]:8080', 'null'])
})

test('without CORS_ORIGINS a refused origin is logged as well', async (t) => {
  const { url, logLines } = await startGateway(t)
  await sendBytes(url, requestFrom([APP], 'GET /livez'))
  assert.deepEqual(refusedOrigins(logLines), [APP])
})

test('origins that may read, and those of the gateway itself, are not logged', async (t) => {
  const env = { CORS_ORIGINS, PUBLIC_URL: 'https://gateway.example.com' }
  const { url, logLines } = await startGateway(t, { env })
  for (const [origin, ...lines] of [
    [APP],
    ['https://gateway.example.com'],
    [url, `Host: ${new URL(url).host}`],
    ['https://10.0.0.1', 'Sec-Fetch-Site: same-origin'],
  ] as const) {
    await sendBytes(url, requestFrom([origin], 'DELETE /tasks/x', ...lines))
  }
  await sendBytes(url, requestFrom([], 'GET /livez'))
  assert.deepEqual(refusedOrigins(logLines), [])
})

test('of an origin that no browser sends nothing is logged but that', async (t) => {
  const odd = [
    'canary',
    'https://canary.example/path',
    'https://canary:canary@evil.example',
    'https://evil.example, https://canary.example',
    `https://${'canary'.repeat(100)}`,
    'https://canary"}\t{"x":"',
    'https://CANARY.example',
  ]
  const { url, logLines } = await startGateway(t)
  for (const origin of odd) await sendBytes(url, requestFrom([origin], 'GET /livez'))
  assert.deepEqual(refusedOrigins(logLines), ['not valid'])
  assert.doesNotMatch(logLines.join(''), /canary/i)
})

test('however many origins are refused, a few lines tell of them, and a minute later others are told', async (t) => {
  let nowMs = 0
  const { url, logLines } = await startGateway(t)
  const sendAll = async (round: string) => {
    for (let index = 0; index < 30; index += 1) {
      await sendBytes(url, requestFrom([`https://${round}-${index}.example`], 'GET /livez'))
    }
  }
  const startedAtMs = performance.now()
  t.mock.method(performance, 'now', () => startedAtMs + nowMs)
  await sendAll('a')
  assert.equal(refusedOrigins(logLines).length, 10)
  nowMs = 60_000
  await sendAll('b')
  assert.equal(refusedOrigins(logLines).length, 20)
})
