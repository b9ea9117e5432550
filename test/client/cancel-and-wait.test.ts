import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type CancelResult, createCancelAndWait } from '../../client/src/cancel-and-wait.ts'
import { createGatewayClient } from '../../client/src/index.ts'
import type { ErrorCode } from '../../src/errors.ts'
import { PROBLEMS } from '../../src/http/presentation/problems.ts'
import { asOperator, cancelCalls, startGateway } from '../helpers/gateway.ts'

// Scripted responses on a clock of the test, and then the same function against a real gateway.

type Reply = Response | Error

interface Script {
  /** The responses to cancel requests, and to reads of the audit record. The last one repeats. */
  readonly cancels: readonly (() => Reply)[]
  readonly records?: readonly (() => Reply)[]
  /** The time that the gateway takes for a read with `Prefer: wait`. */
  readonly waitMs?: number
}

const play = ({ cancels, records = [], waitMs = 0 }: Script) => {
  const sent: { readonly line: string; readonly atMs: number; readonly prefer: string | null }[] = []
  let nowMs = 0
  const counts = { DELETE: 0, GET: 0 }
  const fetch = async ({ method, url, headers }: Request): Promise<Response> => {
    const replies = method === 'DELETE' ? cancels : records
    const kind = method === 'DELETE' ? 'DELETE' : 'GET'
    sent.push({ line: `${method} ${new URL(url).pathname}`, atMs: nowMs, prefer: headers.get('prefer') })
    if (kind === 'GET') nowMs += waitMs
    const reply = replies[Math.min(counts[kind], replies.length - 1)]?.()
    counts[kind] += 1
    if (reply instanceof Response) return reply
    throw reply ?? new TypeError('fetch failed')
  }
  const client = createGatewayClient({ baseUrl: 'http://gateway', fetch })
  const pause = async (ms: number): Promise<void> => {
    nowMs += ms
  }
  const cancelAndWait = createCancelAndWait(client, fetch, { now: () => nowMs, pause })
  const run = (timeoutMs = 60_000): Promise<CancelResult> => cancelAndWait('t-1', { timeoutMs })
  return { run, sent, lines: () => sent.map(({ line }) => line), nowMs: () => nowMs }
}

const ID = '01a22620-63cb-74b8-b3a8-323591a0050a'

const cancelled = (cancelStatus: string) => () =>
  Response.json({ taskNo: 't-1', cancellationId: ID, requestId: 'r', cancelStatus }, { status: 202 })

const problem =
  (code: ErrorCode, extra: object = {}, headers: Readonly<Record<string, string>> = {}) =>
  () => {
    const { status, retryable, outcome } = PROBLEMS[code]
    const body = { code, status, retryable, outcome: outcome ?? undefined, ...extra }
    return Response.json(body, { status, headers })
  }

const record = (outcome: string, isFinal?: boolean) => () => Response.json({ id: ID, outcome, isFinal })

const lost = (): Error => new TypeError('fetch failed')

const isCode = (code: string): code is ErrorCode => code in PROBLEMS

for (const code of Object.keys(PROBLEMS).filter(isCode)) {
  const { retryable, outcome, status } = PROBLEMS[code]
  test(`cancelAndWait after ${code} (retryable: ${retryable}, outcome: ${outcome}) sends what the recipe says`, async () => {
    const { run, lines } = play({
      cancels: [problem(code, { cancellationId: ID }), cancelled('cancelled')],
      records: [record('cancelled', true)],
    })
    const result = await run()
    if (retryable) {
      assert.deepEqual([result.outcome, lines()], ['cancelled', ['DELETE /tasks/t-1', 'DELETE /tasks/t-1']])
    } else if (outcome === 'unknown') {
      assert.deepEqual([result.outcome, lines()], ['cancelled', ['DELETE /tasks/t-1', `GET /cancellations/${ID}`]])
    } else {
      const expected = outcome === 'not-cancelled' || status < 500 ? 'not-cancelled' : 'unknown'
      assert.deepEqual([result.outcome, lines()], [expected, ['DELETE /tasks/t-1']])
      assert.deepEqual([result.problem?.code, result.cancellationId], [code, ID])
    }
  })
}

test('a retryable problem is followed by a request after Retry-After, and not before', async () => {
  const busy = problem('gateway-busy', {}, { 'retry-after': '7' })
  const { run, sent } = play({ cancels: [busy, busy, cancelled('cancelled')] })
  assert.equal((await run()).outcome, 'cancelled')
  assert.deepEqual(
    sent.map(({ atMs }) => atMs),
    [0, 7000, 14_000],
  )
})

test('without Retry-After the pauses grow, and the last problem is the result at the end of the time', async () => {
  const { run, sent, nowMs } = play({ cancels: [problem('upstream-unavailable')] })
  const { outcome, problem: last } = await run(20_000)
  assert.deepEqual([outcome, last?.code], ['not-cancelled', 'upstream-unavailable'])
  assert.deepEqual(
    sent.map(({ atMs }) => atMs),
    [0, 1000, 3000, 7000, 15_000],
  )
  assert.ok(nowMs() <= 20_000)
})

test('a Retry-After beyond the time ends the wait at once', async () => {
  const { run, lines, nowMs } = play({ cancels: [problem('too-many-requests', {}, { 'retry-after': '60' })] })
  assert.equal((await run(10_000)).outcome, 'not-cancelled')
  assert.deepEqual([lines().length, nowMs()], [1, 0])
})

const LOST: Readonly<Record<string, () => Reply>> = {
  'a broken connection': lost,
  'a page of a proxy': () => new Response('<h1>Bad gateway</h1>', { status: 502 }),
  'a 503 of a proxy with Retry-After': () => new Response('', { status: 503, headers: { 'retry-after': '1' } }),
  'an empty response': () => new Response(null, { status: 502, headers: { 'content-length': '0' } }),
  'a truncated body': () => new Response('{"taskNo":', { status: 202 }),
  'outcome-unknown without an id': problem('outcome-unknown'),
}

for (const [name, reply] of Object.entries(LOST)) {
  test(`after ${name} nothing is sent, and the outcome is unknown`, async () => {
    const { run, lines } = play({ cancels: [reply, cancelled('cancelled')], records: [record('cancelled', true)] })
    const { outcome, cancellationId } = await run()
    assert.deepEqual([outcome, cancellationId, lines()], ['unknown', null, ['DELETE /tasks/t-1']])
  })
}

test('a response whose body is lost is followed by the Link of its header', async () => {
  const link = `</console>; rel="next", <https://gateway/cancellations/${ID}>; rel="monitor"`
  const { run, lines } = play({
    cancels: [() => new Response('{"task', { status: 202, headers: { link } })],
    records: [record('cancelled', true)],
  })
  assert.equal((await run()).outcome, 'cancelled')
  assert.deepEqual(lines(), ['DELETE /tasks/t-1', `GET /cancellations/${ID}`])
})

const ENDS = [
  ['cancelled', 'cancelled'],
  ['too-late', 'too-late'],
  ['rejected', 'not-cancelled'],
  ['failed', 'not-cancelled'],
  ['refused', 'not-cancelled'],
] as const

for (const [recorded, expected] of ENDS) {
  for (const isFinal of [true, undefined]) {
    test(`an accepted cancellation with the record ${recorded} (isFinal: ${isFinal}) is ${expected}`, async () => {
      const records = [record('accepted', isFinal && false), record(recorded, isFinal)]
      const { run, lines } = play({ cancels: [cancelled('accepted')], records })
      assert.equal((await run()).outcome, expected)
      assert.equal(lines().length, 3)
    })
  }
}

test('an outcome that was given up is the last one known', async () => {
  for (const [status, given, expected] of [
    [cancelled('cancelling'), 'accepted', 'accepted'],
    [cancelled('accepted'), 'unknown', 'accepted'],
    [problem('outcome-unknown', { cancellationId: ID }), 'unknown', 'unknown'],
  ] as const) {
    const { run, lines } = play({ cancels: [status], records: [record(given, true)] })
    assert.deepEqual([(await run()).outcome, lines().length], [expected, 2])
  }
})

test('a gateway that waits is read again at once, with as many seconds as are left', async () => {
  const { run, sent } = play({ cancels: [cancelled('accepted')], records: [record('accepted', false)], waitMs: 9000 })
  assert.equal((await run(30_000)).outcome, 'accepted')
  assert.deepEqual(
    sent.map(({ atMs, prefer }) => [atMs, prefer]),
    [
      [0, 'wait=10'],
      [0, 'wait=10'],
      [9000, 'wait=10'],
      [18_000, 'wait=10'],
      [27_000, 'wait=1'],
    ],
  )
})

test('a gateway that does not wait is polled with growing pauses', async () => {
  const { run, sent } = play({ cancels: [cancelled('accepted')], records: [record('accepted')] })
  assert.equal((await run(30_000)).outcome, 'accepted')
  assert.deepEqual(
    sent.slice(1).map(({ atMs }) => atMs),
    [0, 1000, 3000, 7000, 15_000, 25_000],
  )
})

test('a record that cannot be read for a while is read again, and one that may not be read is not', async () => {
  const faults = [
    lost,
    () => new Response('', { status: 502 }),
    problem('too-many-requests', {}, { 'retry-after': '5' }),
  ]
  const patient = play({ cancels: [cancelled('accepted')], records: [...faults, record('cancelled', true)] })
  assert.equal((await patient.run()).outcome, 'cancelled')
  assert.deepEqual(
    patient.sent.map(({ atMs }) => atMs),
    [0, 0, 1000, 3000, 8000],
  )
  const refused = play({ cancels: [cancelled('accepted')], records: [problem('not-found')] })
  assert.equal((await refused.run()).outcome, 'accepted')
  assert.equal(refused.sent.length, 2)
})

test('an error before anything is sent is thrown', async () => {
  const headers = () => Promise.reject(new Error('no token'))
  const client = createGatewayClient({ baseUrl: 'http://gateway', headers, fetch: async () => Response.json({}) })
  await assert.rejects(client.cancelAndWait('t-1'), /no token/)
})

test('against a gateway: cancelled, refused and unknown, each with one call upstream', async (t) => {
  const { url, upstream, record: recordOf } = await startGateway(t, { sandbox: { cancellingMs: 0 } })
  const client = createGatewayClient({ baseUrl: url, headers: asOperator })
  const taskNo = upstream.addTask()
  const result = await client.cancelAndWait(taskNo, { timeoutMs: 10_000 })
  assert.deepEqual(result, { outcome: 'cancelled', cancellationId: (await recordOf(taskNo)).id, problem: null })
  const absent = await client.cancelAndWait('absent', { timeoutMs: 10_000 })
  assert.deepEqual([absent.outcome, absent.problem?.code], ['not-cancelled', 'task-not-found'])

  upstream.fault('CancelTask', { reply: 'reset', effect: false })
  const open = upstream.addTask()
  const before = cancelCalls(upstream).length
  const unknown = await client.cancelAndWait(open, { timeoutMs: 2000 })
  assert.deepEqual([unknown.outcome, unknown.problem?.code], ['unknown', 'outcome-unknown'])
  assert.equal(unknown.cancellationId, (await recordOf(open)).id)
  assert.equal(cancelCalls(upstream).length, before + 1)
})
