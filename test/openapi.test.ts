import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import express from 'express'
import { openSqliteStore } from '../src/audit/sqlite.ts'
import type { Env } from '../src/config.ts'
import { PROBLEMS } from '../src/http/presentation/problems.ts'
import { DOCUMENT, findViolations, GENERAL_PROBLEMS, OPERATIONS, problemCodesOf } from './helpers/contract.ts'
import { asAuditor, asOperator, asReader, type Started, type StartOptions, startGateway } from './helpers/gateway.ts'
import { startIssuer } from './helpers/issuer.ts'
import { createVisitor, startProvider } from './helpers/provider.ts'
import { SIGN_IN_ENV } from './helpers/session.ts'

// openapi.yaml describes the gateway, no more and no less: every documented response is produced here, and every
// response in any test is held against it.

interface Answered {
  readonly status: number
  readonly body: Readonly<Record<string, unknown>>
}

/** Makes the gateway give an answer, which its client holds against the document. */
type Provoke = (t: TestContext) => Promise<Answered>

type Headers = Readonly<Record<string, string>>
type Method = 'get' | 'delete' | 'post'

interface Scene extends StartOptions {
  readonly headers?: Headers
  /** How often it is asked; the last answer counts. */
  readonly times?: number
  readonly prepare?: (started: Started, taskNo: string) => unknown
}

const asking =
  (method: Method, path: string, { headers = asOperator, times = 1, prepare, ...options }: Scene = {}): Provoke =>
  async (t) => {
    const started = await startGateway(t, options)
    const taskNo = started.upstream.addTask()
    await prepare?.(started, taskNo)
    const ask = () => started.api[method](path.replace(':taskNo', taskNo)).set(headers)
    for (let time = 1; time < times; time += 1) await ask()
    return await ask()
  }

const ONE_ATTEMPT = { UPSTREAM_MAX_ATTEMPTS: '1' }

/** A failure of the upstream, and the problem of the gateway for it. */
const failing = (action: string, code: string, status = 400): Scene => ({
  env: ONE_ATTEMPT,
  prepare: ({ upstream }) => upstream.fault(action, { reply: { status, code } }, 10),
})

const stalling = (action: string): Scene => ({
  env: { ...ONE_ATTEMPT, UPSTREAM_TIMEOUT_MS: '1000' },
  prepare: ({ upstream }) => upstream.fault(action, { reply: 'stall' }),
})

const TWICE: Scene = { env: { RATE_LIMIT_MAX: '1', RATE_LIMIT_READ_MAX: '1' }, times: 2 }

const WITHOUT_RECORD: Scene = {
  headers: asAuditor,
  overrides: {
    openStore: async (path) => ({
      ...(await openSqliteStore(path)),
      list: () => Promise.reject(new Error('gone')),
      find: () => Promise.reject(new Error('gone')),
      probe: () => Promise.reject(new Error('gone')),
    }),
  },
}

const SIGN_IN: Scene = { env: SIGN_IN_ENV, headers: {} }

/** An address may begin, fail to complete or end one sign-in. The provider is not there. */
const ONE_SIGN_IN: Scene = {
  env: { ...SIGN_IN_ENV, OIDC_ISSUER: 'http://127.0.0.1:1', RATE_LIMIT_UNKNOWN_MAX: '1' },
  headers: {},
  times: 2,
}

/** Comes back from the provider, which is away by then or not. */
const comingBack =
  (isAway: boolean): Provoke =>
  async (t) => {
    const provider = await startProvider(t)
    const { api, url } = await startGateway(t, { env: provider.env })
    const visitor = createVisitor()
    const { pathname, search } = await visitor.authenticate(url, 'ann')
    provider.setUnavailable(isAway)
    return await api.get(pathname + search).set('cookie', visitor.cookieHeader(url))
  }

const startingToSignIn: Provoke = async (t) => {
  const { env } = await startProvider(t)
  const { api } = await startGateway(t, { env })
  return await api.get('/auth/login').redirects(0)
}

const OWN_PAGE: Headers = { origin: 'https://gateway.example.com', 'x-csrf': '1' }

const DOCS: Scene = { env: { DOCS_ENABLED: 'true' } }
const EVERYTHING: Env = { ...SIGN_IN_ENV, DOCS_ENABLED: 'true', CONSOLE_ENABLED: 'true' }
const CONSOLE: Scene = { env: { CONSOLE_ENABLED: 'true' } }

/** Possible problems of every operation that needs a caller. */
const forCallers = (method: Method, path: string, stranger: Headers, known: Headers = asOperator) => ({
  400: asking(method, path, { headers: { ...known, authorization: 'Bearer x' } }),
  401: asking(method, path, { headers: {} }),
  403: asking(method, path, { headers: stranger }),
  429: asking(method, path, { ...TWICE, headers: known }),
})

/** Possible problems of every operation that reads from the upstream. */
const forReads = (path: string, action: string) => ({
  ...forCallers('get', path, asAuditor),
  200: asking('get', path),
  502: asking('get', path, failing(action, 'Forbidden.RAM')),
  503: asking('get', path, failing(action, 'Throttling.User')),
  504: asking('get', path, stalling(action)),
})

const ofRecord: Provoke = async (t) => {
  const { api, upstream } = await startGateway(t)
  const { body } = await api.delete(`/tasks/${upstream.addTask()}`).set(asOperator)
  return await api.get(`/cancellations/${body.cancellationId}`).set(asOperator)
}

const unchangedRecord: Provoke = async (t) => {
  const { api, upstream } = await startGateway(t)
  const { body } = await api.delete(`/tasks/${upstream.addTask()}`).set(asOperator)
  const headers = { ...asOperator, 'if-none-match': '*' }
  return await api.get(`/cancellations/${body.cancellationId}`).set(headers)
}

const unchanged: Provoke = async (t) => {
  const { api, upstream } = await startGateway(t)
  const path = `/tasks/${upstream.addTask()}`
  const { headers } = await api.get(path).set(asOperator)
  return await api.get(path).set({ ...asOperator, 'if-none-match': String(headers.etag) })
}

const withoutKeys: Provoke = async (t) => {
  const issuer = await startIssuer(t)
  issuer.answerWith('down')
  const { api } = await startGateway(t, { env: issuer.env })
  return await api.get('/me').set(await issuer.bearer())
}

const ANSWERS: Readonly<Record<string, Readonly<Record<number, Provoke>>>> = {
  listTasks: forReads('/tasks', 'QueryTaskList'),
  getTask: {
    ...forReads('/tasks/:taskNo', 'QueryTaskList'),
    304: unchanged,
    404: asking('get', '/tasks/nowhere'),
  },
  listTaskDetails: {
    ...forReads('/tasks/:taskNo/details', 'QueryTaskDetailList'),
    404: asking('get', '/tasks/nowhere/details'),
  },
  cancelTask: {
    ...forCallers('delete', '/tasks/:taskNo', asReader),
    200: asking('delete', '/tasks/:taskNo', {
      headers: { ...asOperator, prefer: 'wait=10' },
      sandbox: { cancellingMs: 0 },
    }),
    202: asking('delete', '/tasks/:taskNo'),
    404: asking('delete', '/tasks/nowhere'),
    409: asking('delete', '/tasks/:taskNo', failing('CancelTask', 'TaskIsDone')),
    502: asking('delete', '/tasks/:taskNo', failing('CancelTask', 'NoSuchVersion')),
    503: asking('delete', '/tasks/:taskNo', failing('CancelTask', 'Throttling')),
    504: asking('delete', '/tasks/:taskNo', failing('CancelTask', 'InternalError', 500)),
  },
  listCancellations: {
    ...forCallers('get', '/cancellations', asOperator, asAuditor),
    200: asking('get', '/cancellations', { headers: asAuditor }),
    503: asking('get', '/cancellations', WITHOUT_RECORD),
  },
  getCancellation: {
    ...forCallers('get', '/cancellations/x', asReader, asAuditor),
    200: ofRecord,
    304: unchangedRecord,
    404: asking('get', '/cancellations/x', { headers: asAuditor }),
    503: asking('get', '/cancellations/00000000-0000-4000-8000-000000000000', WITHOUT_RECORD),
  },
  getCaller: {
    200: asking('get', '/me'),
    400: asking('get', '/me', { headers: { ...asOperator, authorization: 'Bearer x' } }),
    401: asking('get', '/me', { headers: {} }),
    429: asking('get', '/me', TWICE),
    503: withoutKeys,
  },
  startSignIn: {
    302: startingToSignIn,
    400: asking('get', '/auth/login?returnTo=x', SIGN_IN),
    404: asking('get', '/auth/login', { headers: {} }),
    429: asking('get', '/auth/login', ONE_SIGN_IN),
    503: asking('get', '/auth/login', { ...SIGN_IN, env: { ...SIGN_IN_ENV, OIDC_ISSUER: 'http://127.0.0.1:1' } }),
  },
  completeSignIn: {
    200: comingBack(false),
    400: asking('get', '/auth/callback', SIGN_IN),
    404: asking('get', '/auth/callback', { headers: {} }),
    429: asking('get', '/auth/callback', ONE_SIGN_IN),
    503: comingBack(true),
  },
  signOut: {
    200: asking('post', '/auth/logout', { ...SIGN_IN, headers: OWN_PAGE }),
    403: asking('post', '/auth/logout', SIGN_IN),
    404: asking('post', '/auth/logout', { headers: {} }),
    429: asking('post', '/auth/logout', { ...ONE_SIGN_IN, headers: OWN_PAGE }),
  },
  getLiveness: { 200: asking('get', '/livez', { headers: {} }) },
  getReadiness: { 200: asking('get', '/readyz', { headers: {} }), 503: asking('get', '/readyz', WITHOUT_RECORD) },
  getOpenapi: {
    200: asking('get', '/openapi.json', { ...DOCS, headers: {} }),
    404: asking('get', '/openapi.json', { headers: {} }),
  },
  getDocs: { 200: asking('get', '/docs', { ...DOCS, headers: {} }), 404: asking('get', '/docs', { headers: {} }) },
  getConsole: {
    200: asking('get', '/console', { ...CONSOLE, headers: {} }),
    404: asking('get', '/console', { headers: {} }),
  },
  getStart: {
    302: asking('get', '/', { ...CONSOLE, headers: {} }),
    404: asking('get', '/', { headers: {} }),
  },
  listProblemPages: { 200: asking('get', '/problems', { headers: {} }) },
  getProblemPage: {
    200: asking('get', '/problems/not-found', { headers: {} }),
    404: asking('get', '/problems/nowhere', { headers: {} }),
  },
}

describe('every documented answer is given', { concurrency: 2 }, () => {
  for (const { operation } of OPERATIONS) {
    const { operationId, responses } = operation
    for (const status of Object.keys(responses)) {
      test(`${operationId} answers ${status}`, async (t) => {
        const provoke = ANSWERS[operationId]?.[Number(status)]
        assert.ok(provoke, 'nothing here produces it')
        assert.equal((await provoke(t)).status, Number(status))
      })
    }
  }
})

test('nothing is produced here that is not documented', () => {
  const documented = OPERATIONS.flatMap(({ operation: { operationId, responses } }) =>
    Object.keys(responses).map((status) => `${operationId} ${status}`),
  )
  const produced = Object.entries(ANSWERS).flatMap(([id, answers]) =>
    Object.keys(answers).map((status) => `${id} ${status}`),
  )
  assert.deepEqual(produced.sort(), documented.sort())
})

test('the methods that a path knows are those that are documented', async (t) => {
  const { api } = await startGateway(t, { env: EVERYTHING })
  const allowed = async (path: string): Promise<string> => {
    const { headers } = await api.patch(path.replace(/\{\w+\}/, 'x'))
    return `${path} ${headers.allow}`
  }
  const paths = [...new Set(OPERATIONS.map(({ path }) => path))]
  const documented = paths.map((path) => {
    const methods = OPERATIONS.filter((it) => it.path === path).map(({ method }) => method)
    return `${path} ${[...methods, ...(methods.includes('GET') ? ['HEAD'] : [])].sort().join(', ')}`
  })
  assert.deepEqual(await Promise.all(paths.map(allowed)), documented)
})

/**
 * Files that a page loads are a part of that page. Metrics are only on the admin port, and no part of the callers'
 * interface.
 */
const UNDOCUMENTED: readonly string[] = ['GET /docs/:file', 'GET /console/:file', 'GET /metrics']

test('every route of the app is documented', async (t) => {
  // An app takes its methods from there when it is made.
  const { mock } = t.mock.method(express.application, 'route')
  await startGateway(t, { env: EVERYTHING })
  const routes = mock.calls.flatMap(({ result }) => result?.stack.map((it) => [it.method, result.path]) ?? [])
  // Without a method: the refusal of all others.
  const known = routes.flatMap(([method, path]) => (method ? [`${method.toUpperCase()} ${path}`] : []))
  const documented = OPERATIONS.map(({ method, path }) => `${method} ${path.replace(/\{(\w+)\}/g, ':$1')}`)
  assert.deepEqual([...new Set(known)].sort(), [...documented, ...UNDOCUMENTED].sort())
})

test('the codes that are documented are those that there are, each with the status that it has', () => {
  const codes = Object.keys(PROBLEMS).sort()
  assert.deepEqual([...DOCUMENT.components.schemas.ProblemCode.enum].sort(), codes)
  const ofOperations = OPERATIONS.flatMap(({ operation }) =>
    Object.entries(operation.responses).flatMap(([status, response]) =>
      (problemCodesOf(response) ?? []).map((code): readonly [string, number] => [code, Number(status)]),
    ),
  )
  const documented = [...ofOperations, ...GENERAL_PROBLEMS]
  assert.deepEqual([...new Set(documented.map(([code]) => code))].sort(), codes)
  const statuses = new Map<string, number>(Object.entries(PROBLEMS).map(([code, { status }]) => [code, status]))
  for (const [code, status] of documented) {
    const isOfReadiness = code === 'upstream-credentials-rejected' && status === 503
    if (!isOfReadiness) assert.equal(statuses.get(code), status, code)
  }
})

/** Their detail names the faulty field and its rule instead. */
const NAMES_FIELD: readonly string[] = ['query-invalid', 'task-no-invalid']

test('an example of a problem says what a problem of that code says', () => {
  const problems = new Map<string, (typeof PROBLEMS)[keyof typeof PROBLEMS]>(Object.entries(PROBLEMS))
  for (const [code, { value }] of Object.entries(DOCUMENT.components.examples)) {
    const { status, retryable, en } = problems.get(code) ?? PROBLEMS.internal
    const { type, title, status: itsStatus, retryable: itsRetryable, code: itsCode, detail } = value
    if (!NAMES_FIELD.includes(code)) assert.equal(detail, `${en.happened} ${en.advice}`)
    assert.deepEqual(
      [type, title, itsStatus, itsRetryable, itsCode],
      [`/problems/${code}`, en.title, status, retryable, code],
    )
  }
})

const TASK = {
  taskNo: 't',
  type: null,
  typeDescription: null,
  status: 'executing',
  cancelStatus: 'none',
  domainCount: 1,
  createdAt: '2026-11-24T12:02:24.000Z',
  clientIp: null,
}

/** Answers that look right, and the fault of each. */
const WRONG: readonly (readonly [string, Partial<Parameters<typeof findViolations>[0]>, RegExp])[] = [
  ['a member that is not documented', { text: JSON.stringify({ ...TASK, url: 'x' }) }, /additional properties/],
  ['a member that is missing', { text: JSON.stringify({ ...TASK, clientIp: undefined }) }, /clientIp/],
  ['a value that is not among those documented', { text: JSON.stringify({ ...TASK, status: 'COMPLETE' }) }, /status/],
  ['a time that is none', { text: JSON.stringify({ ...TASK, createdAt: '2017-11-01 17:22:51' }) }, /date-time/],
  ['no JSON', { text: '<html>' }, /body/],
  ['another type', { headers: { 'content-type': 'text/html' } }, /text\/html/],
  ['a header that is missing', { headers: { 'content-type': 'application/json' } }, /X-Request-Id is missing/],
  ['a status that is not documented', { status: 418 }, /not documented/],
  ['a path that is not documented', { path: '/tasks/a/b', status: 200 }, /not documented/],
  ['a problem of another status', { status: 404, text: '{"code":"forbidden"}' }, /not documented/],
]

describe('it would be noticed', () => {
  const right = {
    method: 'GET',
    path: '/tasks/t?lang=en',
    status: 200,
    headers: {
      'content-type': 'application/json; charset=utf-8',
      'x-request-id': 'b8b9431d-5e1f-45bd-9d13-3e72d05e5e03',
      ratelimit: '"reads"; r=58; t=59',
      'ratelimit-policy': '"reads"; q=60; w=60; pk=:NzI0MTc1NmJkOTA0:',
      etag: '"x"',
    },
    text: JSON.stringify(TASK),
  }

  test('that nothing is wrong', () => {
    assert.deepEqual(findViolations(right), [])
  })

  for (const [name, change, expected] of WRONG) {
    test(name, () => {
      assert.match(findViolations({ ...right, ...change }).join('\n'), expected)
    })
  }
})
