import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import express, { type ErrorRequestHandler } from 'express'
import supertest from 'supertest'
import { createRateLimits } from '../../src/http/middleware/rate-limit.ts'
import { NO_METER } from '../../src/telemetry/meter.ts'
import { asAuditor, asOperator, asReader, type Started, startGateway } from '../helpers/gateway.ts'
import { startIssuer } from '../helpers/issuer.ts'

type Headers = Readonly<Record<string, string>>

const PROXY = { TRUST_PROXY: '127.0.0.1' }

const statusesOf = async ({ api }: Started, path: string, all: readonly Headers[]): Promise<readonly number[]> => {
  const statuses = []
  for (const headers of all) statuses.push((await api.get(path).set(headers)).status)
  return statuses
}

const from = (address: string): Headers => ({ 'x-forwarded-for': address })

test('whoever fails to authenticate too often is told to wait', async (t) => {
  const { api } = await startGateway(t, { env: { RATE_LIMIT_UNKNOWN_MAX: '2' } })
  const wrong = () => api.get('/me').set('x-api-key', 'wrong')
  const [first, second, third] = [await wrong(), await wrong(), await wrong()]
  assert.deepEqual([first.status, second.status, third.status], [401, 401, 429])
  assert.match(third.get('retry-after') ?? '', /^([1-9]|[1-5]\d|60)$/)
  assert.match(third.get('ratelimit') ?? '', /^"unknown"; r=0; t=\d+$/)
})

test('whoever is turned away in the last moment of a window is told to wait all the same', async () => {
  const over = async () => ({ totalHits: 2, resetTime: new Date(0) })
  const store = { increment: over, decrement: async () => undefined, resetKey: async () => undefined }
  const rules = { max: 1, readMax: 1, unknownMax: 1, windowMs: 1000, meter: NO_METER, storeFor: () => store }
  const assign: express.RequestHandler = (req, _res, next) => {
    Object.assign(req, { context: { caller: null, clientIp: '127.0.0.1' } })
    next()
  }
  const told: ErrorRequestHandler = (error, _req, res, _next) => void res.status(429).send(error.code)
  const app = express().use(assign, createRateLimits(rules).unauthenticated, told)
  const { text, headers } = await supertest(app).get('/')
  assert.deepEqual([text, headers['retry-after']], ['too-many-requests', '1'])
})

test('known keys pass where the address is over its limit', async (t) => {
  const started = await startGateway(t, { env: { RATE_LIMIT_UNKNOWN_MAX: '1' } })
  assert.deepEqual(await statusesOf(started, '/me', [{}, {}, asOperator, {}, asOperator]), [401, 429, 200, 429, 200])
})

test('known keys use up nothing of their address', async (t) => {
  const started = await startGateway(t, { env: { RATE_LIMIT_UNKNOWN_MAX: '1' } })
  assert.deepEqual(await statusesOf(started, '/me', [asOperator, asOperator, asOperator, {}]), [200, 200, 200, 401])
})

test('ambiguous credentials count as a failure', async (t) => {
  const started = await startGateway(t, { env: { RATE_LIMIT_UNKNOWN_MAX: '1' } })
  const both = { ...asOperator, authorization: 'Bearer x' }
  assert.deepEqual(await statusesOf(started, '/me', [both, both]), [400, 429])
})

/** Two addresses, and whether they count as one. */
const NEIGHBOURS: readonly (readonly [string, string, boolean])[] = [
  ['2001:db8:0:1100::1', '2001:db8:0:1100::2', true],
  ['2001:db8:0:1100::1', '2001:db8:0:11ff:ffff::1', true],
  ['2001:db8:0:1100::1', '2001:db8:0:1200::1', false],
  ['2001:db8:0:1100::1', '2001:db8:1:1100::1', false],
  ['203.0.113.1', '203.0.113.1', true],
  ['203.0.113.1', '::ffff:203.0.113.1', true],
  ['203.0.113.1', '203.0.113.1:8080', true],
  ['203.0.113.1', '203.0.113.2', false],
]

for (const [one, other, isSame] of NEIGHBOURS) {
  test(`${one} and ${other} count ${isSame ? 'together' : 'apart'}`, async (t) => {
    const started = await startGateway(t, { env: { ...PROXY, RATE_LIMIT_UNKNOWN_MAX: '1' } })
    assert.deepEqual(await statusesOf(started, '/me', [from(one), from(other)]), [401, isSame ? 429 : 401])
  })
}

test('without a trusted proxy nobody chooses the address that they are counted by', async (t) => {
  const started = await startGateway(t, { env: { RATE_LIMIT_UNKNOWN_MAX: '1' } })
  assert.deepEqual(await statusesOf(started, '/me', [from('203.0.113.1'), from('203.0.113.2')]), [401, 429])
})

test('cancels are counted by caller, whatever the key and the address', async (t) => {
  const { api, upstream } = await startGateway(t, { env: { ...PROXY, RATE_LIMIT_MAX: '2' } })
  const cancel = async (headers: Headers) => (await api.delete(`/tasks/${upstream.addTask()}`).set(headers)).status
  const statuses = [await cancel({ ...asOperator, ...from('203.0.113.1') }), await cancel(asReader)]
  assert.deepEqual([...statuses, await cancel(asOperator), await cancel(asAuditor)], [202, 403, 429, 202])
})

test('a cancel over the limit sends nothing and is not on record', async (t) => {
  const { api, upstream, record } = await startGateway(t, { env: { RATE_LIMIT_MAX: '1' } })
  await api.delete(`/tasks/${upstream.addTask()}`).set(asOperator)
  const { body } = await api.delete('/tasks/second').set(asOperator)
  assert.deepEqual([body.code, body.outcome], ['too-many-requests', 'not-cancelled'])
  assert.deepEqual([upstream.calls.length, await record('second')], [1, undefined])
})

test('reads have a limit of their own', async (t) => {
  const started = await startGateway(t, { env: { RATE_LIMIT_MAX: '1', RATE_LIMIT_READ_MAX: '2' } })
  assert.equal((await started.api.delete('/tasks/x').set(asReader)).status, 403)
  assert.deepEqual(await statusesOf(started, '/me', [asReader, asReader, asReader]), [200, 200, 429])
})

test('all reads of a caller count together', async (t) => {
  const started = await startGateway(t, { env: { RATE_LIMIT_READ_MAX: '2' } })
  const { api } = started
  const paths = ['/me', '/cancellations', '/cancellations/x']
  const statuses = []
  for (const path of paths) statuses.push((await api.get(path).set(asAuditor)).status)
  assert.deepEqual(statuses, [200, 200, 429])
})

test('what is left is told with each answer', async (t) => {
  const { api, upstream } = await startGateway(t, { env: { RATE_LIMIT_MAX: '3', RATE_LIMIT_WINDOW_MS: '90000' } })
  const answer = await api.delete(`/tasks/${upstream.addTask()}`).set(asOperator)
  assert.match(answer.get('ratelimit') ?? '', /^"cancels"; r=2; t=(89|90)$/)
  assert.match(answer.get('ratelimit-policy') ?? '', /^"cancels"; q=3; w=90; pk=:\S+:$/)
  assert.deepEqual([answer.get('x-ratelimit-limit'), answer.get('retry-after')], [undefined, undefined])
})

test('probes are never counted', async (t) => {
  const started = await startGateway(t, { env: { RATE_LIMIT_UNKNOWN_MAX: '1', RATE_LIMIT_READ_MAX: '1' } })
  assert.deepEqual(await statusesOf(started, '/livez', [{}, {}, {}]), [200, 200, 200])
  assert.deepEqual(await statusesOf(started, '/readyz', [{}, {}, {}]), [200, 200, 200])
})

/** A gateway that lets an address fail once, and an issuer that it trusts. */
const startWithIssuer = async (t: TestContext) => {
  const issuer = await startIssuer(t)
  const started = await startGateway(t, { env: { ...issuer.env, RATE_LIMIT_UNKNOWN_MAX: '1' } })
  return { started, issuer, wrong: { authorization: 'Bearer a.b.c' } }
}

test('over the limit keys and remembered tokens pass, and no new token is checked', async (t) => {
  const { started, issuer, wrong } = await startWithIssuer(t)
  const [known, another] = [await issuer.bearer({ jti: 'a' }), await issuer.bearer({ jti: 'b' })]
  assert.deepEqual(
    await statusesOf(started, '/me', [known, wrong, wrong, known, asOperator, another, known]),
    [200, 401, 429, 200, 200, 429, 200],
  )
})

test('over the limit nobody makes the gateway ask the issuer for keys', async (t) => {
  const issuer = await startIssuer(t)
  issuer.answerWith('error')
  const env = { ...issuer.env, RATE_LIMIT_UNKNOWN_MAX: '1' }
  const started = await startGateway(t, { env, overrides: { timings: { keySet: { cooldownMs: 0 } } } })
  const token = await issuer.bearer()
  assert.deepEqual(await statusesOf(started, '/me', [token]), [503])
  const asked = issuer.requests.length
  assert.deepEqual(await statusesOf(started, '/me', [token, token]), [429, 429])
  assert.equal(issuer.requests.length, asked)
})

test('tokens that prove good use up nothing of their address', async (t) => {
  const { started, issuer, wrong } = await startWithIssuer(t)
  const tokens = await Promise.all(['a', 'b', 'c'].map((jti) => issuer.bearer({ jti })))
  assert.deepEqual(await statusesOf(started, '/me', [...tokens, wrong, wrong]), [200, 200, 200, 401, 429])
})

test('a token that proves good is told of the limit of its caller alone', async (t) => {
  const { started, issuer } = await startWithIssuer(t)
  const answer = await started.api.get('/me').set(await issuer.bearer())
  assert.match(answer.get('ratelimit') ?? '', /^"reads"; r=\d+; t=\d+$/)
})
