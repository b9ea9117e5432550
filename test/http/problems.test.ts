import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { type TestContext, test } from 'node:test'
import type { FaultReply } from '../../sandbox/src/server.ts'
import { openSqliteStore } from '../../src/audit/sqlite.ts'
import type { ErrorCode, Lang } from '../../src/errors.ts'
import { asOperator, asReader, eventually, type Started, type StartOptions, startGateway } from '../helpers/gateway.ts'
import { startIssuer } from '../helpers/issuer.ts'
import { closedPort, isOpen } from '../helpers/ports.ts'
import { openSocket, parseAnswer, sendRaw, startCancel } from '../helpers/raw-http.ts'
import { SIGN_IN_ENV, sessionCookie } from '../helpers/session.ts'

// One row for each code of the contract's table that this version knows; one that is added does not compile until it is
// here.

interface Seen {
  readonly status: number
  readonly headers: Readonly<Record<string, string | undefined>>
  readonly body: Readonly<Record<string, unknown>>
}

interface Row {
  readonly status: number
  readonly retryable: boolean
  readonly outcome?: 'not-cancelled' | 'unknown'
  /** Members and headers that only this one has. */
  readonly upstreamCode?: string
  readonly headers?: Readonly<Record<string, RegExp>>
  /** Answered before anything is known of languages. */
  readonly isRaw?: boolean
  provoke(t: TestContext, lang: Lang): Promise<Seen>
}

const PUBLIC_URL = 'https://gateway.example.com'

type Headers = Readonly<Record<string, string>>

interface CancelOptions extends StartOptions {
  readonly reply?: FaultReply
  readonly taskNo?: string
  readonly headers?: Headers
  readonly body?: string
  readonly times?: number
}

/** Cancels once, or several times, and returns the last response. */
const cancel =
  ({ reply, taskNo, headers = asOperator, body, times = 1, ...options }: CancelOptions): Row['provoke'] =>
  async (t, lang) => {
    const { api, upstream } = await startGateway(t, { ...options, env: { PUBLIC_URL, ...options.env } })
    if (reply !== undefined) upstream.fault('CancelTask', { reply })
    const path = `/tasks/${taskNo ?? upstream.addTask()}`
    const ask = () =>
      api
        .delete(path)
        .set({ ...headers, 'accept-language': lang })
        .send(body)
    for (let time = 1; time < times; time += 1) await ask()
    return await ask()
  }

const raw =
  (bytes: string, options: StartOptions = {}): Row['provoke'] =>
  async (t) => {
    const { url } = await startGateway(t, { ...options, env: { PUBLIC_URL, ...options.env } })
    return read(await sendRaw(url, bytes))
  }

const read = ({ status, headers, body }: Awaited<ReturnType<typeof sendRaw>>): Seen => ({
  status,
  headers,
  body: JSON.parse(body),
})

/** A connection that has begun a request before the gateway takes nothing new, while it still waits for another. */
const whileDraining: Row['provoke'] = async (t, lang) => {
  const { url, upstream, stop } = await startGateway(t, { env: { PUBLIC_URL } })
  upstream.fault('CancelTask', { reply: 'stall' })
  const called = upstream.nextCall('CancelTask')
  startCancel(url, '/tasks/held', asOperator)
  const socket = openSocket(url)
  socket.write(`DELETE /tasks/t-1 HTTP/1.1\r\nHost: gateway\r\nAccept-Language: ${lang}\r\n`)
  await called
  const stopped = stop()
  await eventually(async () => ((await isOpen(url)) ? undefined : true))
  socket.write('\r\n')
  const answer = read(parseAnswer(await text(socket)))
  await upstream.close()
  await stopped
  return answer
}

/** Node looks for late requests twice a minute; this does at once the same as Node then. The rest comes after all. */
const tooLate = async (t: TestContext, bytes: string, rest: string): Promise<Seen> => {
  const { url } = await startGateway(t, { env: { PUBLIC_URL } })
  const { socket, server, peer } = await halfARequest(t, url, bytes)
  server.emit('clientError', Object.assign(new Error('late'), { code: 'ERR_HTTP_REQUEST_TIMEOUT' }), peer)
  socket.write(rest)
  return read(parseAnswer(await text(socket)))
}

interface Half {
  readonly socket: Socket
  readonly server: Server
  readonly peer: Socket
}

/** A connection on which one request has been answered, and the given bytes of the next have been taken. */
const halfARequest = async (t: TestContext, url: string, bytes: string): Promise<Half> => {
  const begun: { server: Server; socket: Socket }[] = []
  const note = (message: unknown): void => void begun.push(message as { server: Server; socket: Socket })
  subscribe('http.server.request.start', note)
  t.after(() => unsubscribe('http.server.request.start', note))
  const socket = openSocket(url)
  socket.write('GET /livez HTTP/1.1\r\nHost: gateway\r\n\r\n')
  await once(socket, 'data')
  socket.write(bytes)
  const last = await eventually(() => begun[bytes.includes('\r\n\r\n') ? 1 : 0])
  return { socket, server: last.server, peer: last.socket }
}

const brokenStore: StartOptions['overrides'] = {
  openStore: async (path) => ({
    ...(await openSqliteStore(path)),
    append: async () => {
      throw new Error('disk full')
    },
  }),
}

const failing = (status: number, code: string, headers?: Headers): FaultReply => ({
  status,
  code,
  ...(headers && { headers }),
})

const ONE_CANCEL = { RATE_LIMIT_MAX: '1' }
const refusal = { retryable: false, outcome: 'not-cancelled' } as const
const later = { retryable: true, outcome: 'not-cancelled' } as const
const unknown = { retryable: false, outcome: 'unknown' } as const
const early = { retryable: false, isRaw: true } as const

const ROWS = {
  'audit-unavailable': { status: 503, ...later, provoke: cancel({ overrides: brokenStore }) },
  'bad-request': { status: 400, ...early, provoke: raw('NONSENSE\r\n\r\n') },
  'content-too-large': { status: 413, ...refusal, provoke: cancel({ body: 'x'.repeat(8193) }) },
  'credentials-ambiguous': {
    status: 400,
    ...refusal,
    provoke: cancel({ headers: { ...asOperator, authorization: 'Bearer x' } }),
  },
  'csrf-rejected': {
    status: 403,
    ...refusal,
    provoke: async (t, lang) => {
      const { api, upstream } = await startGateway(t, { env: SIGN_IN_ENV })
      return await api
        .delete(`/tasks/${upstream.addTask()}`)
        .set({ ...(await sessionCookie()), 'accept-language': lang })
    },
  },
  'expectation-failed': {
    status: 417,
    ...early,
    outcome: 'not-cancelled',
    provoke: raw('DELETE /tasks/x HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\nConnection: close\r\n\r\n'),
  },
  forbidden: { status: 403, ...refusal, provoke: cancel({ headers: asReader }) },
  'gateway-busy': {
    status: 503,
    ...later,
    headers: { 'retry-after': /^2$/ },
    provoke: async (t, lang) => {
      const { api, upstream } = await startGateway(t, { env: { PUBLIC_URL, UPSTREAM_MAX_RPS: '1' } })
      const headers = { ...asOperator, 'accept-language': lang }
      const ask = () => api.delete(`/tasks/${upstream.addTask()}`).set(headers)
      const answers = await Promise.all([ask(), ask(), ask()])
      return answers.find(({ status }) => status === 503) ?? assert.fail('nothing was refused')
    },
  },
  'headers-too-large': {
    status: 431,
    ...early,
    provoke: raw(`GET /livez HTTP/1.1\r\nHost: a\r\nX-Long: ${'x'.repeat(20_000)}\r\n\r\n`),
  },
  'identity-provider-unavailable': {
    status: 503,
    ...later,
    provoke: async (t, lang) => {
      const issuer = await startIssuer(t)
      issuer.answerWith('down')
      const headers = await issuer.bearer()
      return cancel({ env: issuer.env, headers })(t, lang)
    },
  },
  internal: {
    status: 500,
    ...refusal,
    provoke: cancel({ reply: failing(400, 'MissingTaskNo') }),
  },
  'method-not-allowed': {
    status: 405,
    retryable: false,
    headers: { allow: /^DELETE, GET, HEAD$/ },
    provoke: async (t, lang) => {
      const { api } = await startGateway(t, { env: { PUBLIC_URL } })
      return api.put('/tasks/x').set('accept-language', lang)
    },
  },
  misdirected: {
    status: 421,
    ...refusal,
    provoke: cancel({ env: { ALLOW_ANONYMOUS: 'true' }, headers: { host: 'evil.example' } }),
  },
  'not-found': {
    status: 404,
    ...refusal,
    provoke: async (t, lang) => {
      const { api } = await startGateway(t, { env: { PUBLIC_URL } })
      return api.delete('/tasks/x/y').set('accept-language', lang)
    },
  },
  'outcome-unknown': { status: 504, ...unknown, provoke: cancel({ reply: 'reset' }) },
  'query-invalid': { status: 400, ...refusal, provoke: cancel({ taskNo: 'x?lang=fr' }) },
  'request-timeout': {
    status: 408,
    ...early,
    retryable: true,
    provoke: (t) => tooLate(t, 'DELETE /tasks/x HTTP/1.1\r\nHost: a\r\n', '\r\n'),
  },
  'shutting-down': { status: 503, ...later, headers: { connection: /^close$/ }, provoke: whileDraining },
  'sign-in-failed': {
    status: 400,
    retryable: true,
    provoke: async (t, lang) => {
      const { api } = await startGateway(t, { env: SIGN_IN_ENV })
      return await api.get('/auth/callback').set('accept-language', lang)
    },
  },
  'task-no-invalid': { status: 400, ...refusal, provoke: cancel({ taskNo: 'a.b' }) },
  'task-not-cancellable': {
    status: 409,
    ...refusal,
    upstreamCode: 'TaskIsDone',
    provoke: cancel({ reply: failing(400, 'TaskIsDone') }),
  },
  'task-not-found': { status: 404, ...refusal, upstreamCode: 'TaskNotExist', provoke: cancel({ taskNo: 'nobody-s' }) },
  'too-many-requests': {
    status: 429,
    ...later,
    headers: {
      'retry-after': /^[1-9]\d*$/,
      ratelimit: /^"cancels"; r=0; t=\d+$/,
      'ratelimit-policy': /^"cancels"; q=1; w=60; pk=:\S+:$/,
    },
    provoke: cancel({ env: ONE_CANCEL, times: 2 }),
  },
  unauthenticated: {
    status: 401,
    ...refusal,
    headers: { 'www-authenticate': /^ApiKey realm="gateway"$/ },
    provoke: cancel({ headers: {} }),
  },
  'upstream-bad-response': { status: 502, ...unknown, provoke: cancel({ reply: 'not-json' }) },
  'upstream-credentials-rejected': {
    status: 502,
    ...refusal,
    upstreamCode: 'SignatureDoesNotMatch',
    provoke: cancel({ env: { ALIBABA_CLOUD_ACCESS_KEY_SECRET: 'another' } }),
  },
  'upstream-forbidden': {
    status: 502,
    ...refusal,
    upstreamCode: 'Forbidden.RAM',
    provoke: cancel({ reply: failing(403, 'Forbidden.RAM') }),
  },
  'upstream-misconfigured': {
    status: 502,
    ...refusal,
    upstreamCode: 'NoSuchVersion',
    provoke: cancel({ reply: failing(404, 'NoSuchVersion') }),
  },
  'upstream-throttled': {
    status: 503,
    ...later,
    upstreamCode: 'Throttling.User',
    headers: { 'retry-after': /^6[01]$/ },
    provoke: cancel({ reply: failing(400, 'Throttling.User', { 'x-acs-retry-after': '60000' }) }),
  },
  'upstream-timeout': {
    status: 504,
    retryable: true,
    provoke: async (t, lang) => {
      const { api, upstream } = await startGateway(t, {
        env: { PUBLIC_URL, UPSTREAM_TIMEOUT_MS: '100', UPSTREAM_MAX_ATTEMPTS: '1' },
      })
      upstream.fault('QueryTaskList', { reply: 'stall' })
      return await api.get('/tasks').set({ ...asOperator, 'accept-language': lang })
    },
  },
  'upstream-unavailable': {
    status: 503,
    ...later,
    provoke: async (t, lang) =>
      cancel({ env: { UPSTREAM_URL: `http://127.0.0.1:${await closedPort()}`, UPSTREAM_MAX_ATTEMPTS: '1' } })(t, lang),
  },
} as const satisfies Record<ErrorCode, Row>

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

/** Headers that only some problems carry: a problem without a row for a header must not send it. */
const SPECIAL = ['allow', 'retry-after', 'www-authenticate'] as const

const checkCommon = ({ headers, body, status }: Seen, code: string, row: Row): void => {
  assert.deepEqual([status, body.status, body.code], [row.status, row.status, code])
  assert.equal(body.type, `${PUBLIC_URL}/problems/${code}`)
  assert.match(headers['content-type'] ?? '', /^application\/problem\+json(; charset=utf-8)?$/)
  assert.deepEqual([headers.vary, headers['cache-control']], ['Accept-Language, Origin', 'no-store'])
  assert.match(headers['x-request-id'] ?? '', UUID)
  assert.equal(body.instance, `urn:uuid:${headers['x-request-id']}`)
}

const checkOwn = ({ headers, body }: Seen, row: Row): void => {
  const { retryable, outcome, upstreamCode } = body
  assert.deepEqual([retryable, outcome, upstreamCode], [row.retryable, row.outcome, row.upstreamCode])
  for (const [name, pattern] of Object.entries(row.headers ?? {})) assert.match(headers[name] ?? '', pattern, name)
  const unexpected = SPECIAL.filter((name) => headers[name] !== undefined && row.headers?.[name] === undefined)
  assert.deepEqual(unexpected, [])
}

const HAN = /\p{Script=Han}/u

const checkTexts = ({ headers, body }: Seen, lang: Lang): void => {
  for (const member of [body.title, body.detail]) {
    assert.match(String(member), /^.{2,200}$/u)
    assert.equal(HAN.test(String(member)), lang === 'zh')
  }
  assert.equal(headers['content-language'] ?? 'en', lang)
}

for (const [code, row] of Object.entries<Row>(ROWS)) {
  for (const lang of row.isRaw ? (['en'] as const) : (['en', 'zh'] as const)) {
    test(`${code} is told in full, in ${lang}`, async (t) => {
      const seen = await row.provoke(t, lang)
      checkCommon(seen, code, row)
      checkOwn(seen, row)
      checkTexts(seen, lang)
    })
  }
}

const start = (t: TestContext, options: StartOptions = {}): Promise<Started> => startGateway(t, options)

test('without PUBLIC_URL the type is a path', async (t) => {
  const { api } = await start(t)
  const { body } = await api.get('/nowhere')
  assert.equal(body.type, '/problems/not-found')
})

const MEMBERS = ['code', 'detail', 'instance', 'retryable', 'status', 'title', 'type'] as const

test('a problem has no members without a value', async (t) => {
  const { api } = await start(t)
  const [read, cancelled] = [await api.get('/me'), await api.delete('/tasks/x')]
  assert.deepEqual(Object.keys(read.body).sort(), MEMBERS)
  assert.deepEqual(Object.keys(cancelled.body).sort(), [...MEMBERS, 'outcome'].sort())
})

test('what is not a cancel has no outcome', async (t) => {
  const { api } = await start(t)
  for (const path of ['/me', '/cancellations?x=1', '/nowhere']) {
    assert.equal('outcome' in (await api.get(path)).body, false)
  }
})

test('of a bug nothing is told', async (t) => {
  const { api, upstream, logLines } = await start(t)
  upstream.fault('CancelTask', { reply: { status: 400, code: 'MissingTaskNo', message: 'TaskNo is mandatory' } })
  const answer = await api.delete(`/tasks/${upstream.addTask()}`).set(asOperator)
  assert.doesNotMatch(answer.text, /mandatory|stack|\.ts\b|at [^ ]+ \(/)
  assert.match(logLines.join(''), /"level":"error"[^\n]*"msg":"internal error"/)
})

const HEAD = 'DELETE /tasks/x HTTP/1.1\r\nHost: a\r\n'

test('a request whose body does not come in time is told so', async (t) => {
  const { status, body } = await tooLate(t, `${HEAD}Content-Length: 5\r\n\r\n`, 'after')
  assert.deepEqual([status, body.code], [408, 'request-timeout'])
})
