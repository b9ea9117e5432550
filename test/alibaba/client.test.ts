import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { type TestContext, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import fc from 'fast-check'
import type { Fault, SandboxOptions } from '../../sandbox/src/server.ts'
import { backoffMs, createUpstream, type UpstreamOptions } from '../../src/alibaba/client.ts'
import { fixedCredentials } from '../../src/alibaba/credentials.ts'
import type { UpstreamResult } from '../../src/alibaba/response.ts'
import type { Credentials } from '../../src/alibaba/signing.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { NO_METER } from '../../src/telemetry/meter.ts'
import { NO_TRACER } from '../../src/telemetry/tracing.ts'
import { type Deadline, deadlineIn } from '../../src/time.ts'
import { eventually } from '../helpers/gateway.ts'
import { closedPort, listenOn } from '../helpers/ports.ts'
import { KEYS, startKeyedSandbox } from '../helpers/signed-call.ts'

type Changes = Partial<Omit<UpstreamOptions, 'log'>> & { readonly sandbox?: Partial<SandboxOptions> }

/** The client as the gateway builds it, against a sandbox with one task; waits between attempts are cut to nothing. */
const startClient = async (t: TestContext, { sandbox: sandboxOptions, ...changes }: Changes = {}) => {
  const sandbox = await startKeyedSandbox(t, sandboxOptions)
  const lines: Record<string, unknown>[] = []
  const log = createLog({ level: 'info', destination: { write: (line) => void lines.push(JSON.parse(line)) } })
  const upstream = createUpstream({
    url: new URL(sandbox.url),
    signature: 'rpc-v1',
    timeoutMs: 5000,
    maxAttempts: 3,
    maxConcurrency: 64,
    credentials: fixedCredentials(KEYS),
    log,
    meter: NO_METER,
    tracer: NO_TRACER,
    random: () => 0,
    ...changes,
  })
  t.after(upstream.close)
  const taskNo = sandbox.addTask()
  const script = (...faults: readonly Fault[]): void => {
    for (const fault of faults) sandbox.fault('CancelTask', fault)
  }
  const call = (deadline: Deadline = deadlineIn(15_000), signal = new AbortController().signal) =>
    upstream.call(
      'CancelTask',
      { TaskNo: taskNo, UserClientIp: '203.0.113.7', Lang: 'zh' },
      { priority: 'cancel', deadline, currentSignal: () => signal },
    )
  return { sandbox, taskNo, upstream, lines, script, call }
}

const throttled: Fault = { reply: { status: 400, code: 'Throttling.User' } }
const throttledFor = (ms: number): Fault => ({
  reply: { status: 400, code: 'Throttling.User', headers: { 'x-acs-retry-after': String(ms) } },
})
const timestampRefused: Fault = { reply: { status: 400, code: 'InvalidTimeStamp.Expired' } }

const summary = (result: UpstreamResult) => [result.ok ? 'ok' : result.code, result.attempts]

for (const signature of ['rpc-v1', 'acs3'] as const) {
  test(`a call signed by ${signature} arrives as it was meant`, async (t) => {
    const { sandbox, taskNo, call } = await startClient(t, { signature })
    const result = await call()
    assert.deepEqual(summary(result), ['ok', 1])
    const [seen] = sandbox.calls
    assert.deepEqual([seen?.signatureVersion, seen?.effect], [signature, true])
    const { TaskNo, UserClientIp, Lang } = seen?.params ?? {}
    assert.deepEqual([TaskNo, UserClientIp, Lang], [taskNo, '203.0.113.7', 'zh'])
  })

  test(`${signature} signs any characters in a parameter`, async (t) => {
    const { sandbox, upstream } = await startClient(t, { signature })
    const UserClientIp = "2001:db8::1 ~!*'()&=+/?#%25 ü 任务 😀"
    const limits = { priority: 'cancel', deadline: deadlineIn(15_000) } as const
    const result = await upstream.call('CancelTask', { TaskNo: sandbox.addTask(), UserClientIp }, limits)
    assert.equal(result.ok, true)
    assert.equal(sandbox.calls[0]?.params.UserClientIp, UserClientIp)
  })

  test(`${signature} carries the STS token`, async (t) => {
    const securityToken = 'sts/token+with=signs'
    const keys = fixedCredentials({ ...KEYS, securityToken })
    const { call } = await startClient(t, { signature, credentials: keys, sandbox: { securityToken } })
    assert.equal((await call()).ok, true)
  })

  test(`each attempt by ${signature} has a nonce of its own`, async (t) => {
    const { sandbox, script, call } = await startClient(t, { signature })
    script(throttled, throttled)
    assert.deepEqual(summary(await call()), ['ok', 3])
    assert.equal(new Set(sandbox.calls.map(({ nonce }) => nonce)).size, 3)
  })
}

test('each attempt is signed with the time that it is then', async (t) => {
  let nowMs = Date.now()
  const now = () => {
    nowMs += 1000
    return nowMs
  }
  const { sandbox, script, call } = await startClient(t, { now })
  script(throttled, throttled)
  await call()
  assert.equal(new Set(sandbox.calls.map(({ params }) => params.Timestamp)).size, 3)
})

test('keys are asked for at each attempt, so that they can change in between', async (t) => {
  const secrets = ['wrong at first', KEYS.accessKeySecret]
  const get = async () => ({ ...KEYS, accessKeySecret: secrets.shift() ?? '' })
  const keys = { ...fixedCredentials(KEYS), get }
  const { call } = await startClient(t, { credentials: keys })
  assert.deepEqual(summary(await call()), ['upstream-credentials-rejected', 1])
  assert.deepEqual(summary(await call()), ['ok', 1])
})

const SECOND = { accessKeyId: 'second-id', accessKeySecret: 'second-secret', securityToken: 'second-token' } as const

/** Keys that are refused have others in their place as often as there are any. */
const changing = (...next: readonly Credentials[]) => {
  const left = [...next]
  const refused: Credentials[] = []
  let now: Credentials = KEYS
  const renewAfterRejection = async (keys: Credentials) => {
    refused.push(keys)
    const found = left.shift() ?? null
    now = found ?? now
    return found
  }
  return { refused, source: { ...fixedCredentials(KEYS), get: async () => now, renewAfterRejection } }
}

const REPLACEABLE = [
  ...['InvalidAccessKeyId.NotFound', 'InvalidAccessKeyId.Inactive', 'InvalidSecurityToken.Expired'],
  ...['MissingSecurityToken', 'Forbidden.AccessKeyDisabled'],
] as const

for (const signature of ['rpc-v1', 'acs3'] as const) {
  for (const code of REPLACEABLE) {
    test(`keys that are ${code} by ${signature} are replaced, and the call is sent again with the new ones`, async (t) => {
      const { refused, source } = changing(SECOND)
      const { sandbox, script, call } = await startClient(t, { signature, credentials: source })
      sandbox.addKeys(SECOND)
      script({ reply: { status: 403, code } })
      assert.deepEqual(summary(await call()), ['ok', 2])
      assert.deepEqual(refused, [KEYS])
      sandbox.revokeKeys(KEYS.accessKeyId)
      assert.equal((await call()).ok || sandbox.calls.at(-1)?.code, 'TaskAlreadyCancelled')
    })
  }
}

test('keys that are refused and have not changed are not sent again', async (t) => {
  const { refused, source } = changing()
  const { sandbox, call } = await startClient(t, { credentials: source })
  sandbox.revokeKeys(KEYS.accessKeyId)
  assert.deepEqual(summary(await call()), ['upstream-credentials-rejected', 1])
  assert.deepEqual([refused.length, sandbox.calls.length], [1, 1])
})

test('keys are replaced once in a call', async (t) => {
  const { refused, source } = changing(SECOND, KEYS, SECOND)
  const { sandbox, call } = await startClient(t, { credentials: source, maxAttempts: 5 })
  sandbox.revokeKeys(KEYS.accessKeyId)
  assert.deepEqual(summary(await call()), ['upstream-credentials-rejected', 2])
  assert.equal(refused.length, 1)
})

test('a query is sent again with new keys too', async (t) => {
  const { source } = changing(SECOND)
  const { sandbox, query } = await startQueries(t, { credentials: source })
  sandbox.addKeys(SECOND)
  sandbox.revokeKeys(KEYS.accessKeyId)
  assert.deepEqual(summary(await query()), ['ok', 2])
})

for (const code of ['SignatureDoesNotMatch', 'IncompleteSignature', 'MissingAccessKeyId', 'Forbidden.RAM']) {
  test(`${code} is no reason to look for other keys`, async (t) => {
    const { refused, source } = changing(SECOND)
    const { script, call } = await startClient(t, { credentials: source })
    script({ reply: { status: 400, code } })
    assert.equal((await call()).attempts, 1)
    assert.deepEqual(refused, [])
  })
}

test('without keys nothing is sent, and it is told as a matter of keys', async (t) => {
  const { sandbox, call } = await startClient(t, { credentials: { ...fixedCredentials(KEYS), get: async () => null } })
  const result = await call()
  assert.deepEqual(summary(result), ['upstream-credentials-rejected', 0])
  assert.deepEqual([!result.ok && result.ambiguous, !result.ok && result.sent], [false, false])
  assert.equal(sandbox.calls.length, 0)
})

test('a call waits for credentials no longer than its deadline', async (t) => {
  const never = () => new Promise<null>(() => {})
  const { call } = await startClient(t, { credentials: { ...fixedCredentials(KEYS), get: never } })
  assert.deepEqual(summary(await call(frozen(10))), ['upstream-credentials-rejected', 0])
  const other = await startClient(t, { credentials: { ...fixedCredentials(KEYS), renewAfterRejection: never } })
  other.sandbox.revokeKeys(KEYS.accessKeyId)
  assert.deepEqual(summary(await other.call(frozen(500))), ['upstream-credentials-rejected', 1])
})

test('new credentials are cut from responses as the old ones are', async (t) => {
  const { source } = changing(SECOND)
  const { sandbox, script, upstream } = await startClient(t, { credentials: source })
  sandbox.addKeys(SECOND)
  const said = (keys: Credentials) => Object.values(keys).join('-')
  script(
    { reply: { status: 403, code: 'InvalidAccessKeyId', message: said(KEYS) } },
    { reply: { status: 400, code: said(SECOND) } },
  )
  const result = await upstream.call(
    'CancelTask',
    { TaskNo: 't' },
    { priority: 'cancel', deadline: deadlineIn(15_000) },
  )
  assert.deepEqual([!result.ok && result.upstreamCode, result.attempts], [null, 2])
})

test('a clock that is off is corrected once for all', async (t) => {
  const { sandbox, lines, call } = await startClient(t)
  sandbox.setClockOffset(7_200_000)
  assert.deepEqual(summary(await call()), ['ok', 2])
  assert.deepEqual(summary(await call()), ['task-not-cancellable', 1])
  const alarms = lines.filter(
    ({ level, clockSkewMs }) => level === 'error' && Math.abs(Number(clockSkewMs) - 7_200_000) < 60_000,
  )
  assert.equal(alarms.length, 1)
})

test('a clock that is refused twice in one call is not corrected again', async (t) => {
  const { sandbox, script, call } = await startClient(t, { maxAttempts: 5 })
  script(timestampRefused, throttled, timestampRefused)
  assert.deepEqual(summary(await call()), ['upstream-misconfigured', 3])
  assert.equal(sandbox.calls.length, 3)
})

for (const maxAttempts of [1, 2, 5]) {
  test(`throttling is met with ${maxAttempts} attempts where so many are allowed`, async (t) => {
    const { sandbox, script, call } = await startClient(t, { maxAttempts })
    script(...Array<Fault>(9).fill(throttled))
    assert.deepEqual(summary(await call()), ['upstream-throttled', maxAttempts])
    assert.equal(sandbox.calls.length, maxAttempts)
  })
}

const ONE_SHOT: readonly Fault['reply'][] = [
  'reset',
  'truncate',
  'not-json',
  'redirect',
  'no-request-id',
  { status: 500, code: 'InternalError' },
  { status: 503, code: 'ServiceUnavailable' },
  { status: 400, code: 'SignatureNonceUsed' },
  { status: 403, code: 'Forbidden.RAM' },
  { status: 400, code: 'TaskNotExist' },
]

for (const reply of ONE_SHOT) {
  test(`${typeof reply === 'string' ? reply : reply.code} is never met with a second attempt`, async (t) => {
    const { sandbox, script, call } = await startClient(t)
    script({ reply })
    const result = await call()
    assert.deepEqual([result.ok, result.attempts, sandbox.calls.length], [false, 1, 1])
  })
}

test('an unreachable upstream is tried as often as allowed', async (t) => {
  const { sandbox, lines, call } = await startClient(t, { url: new URL(`http://127.0.0.1:${await closedPort()}`) })
  assert.deepEqual(summary(await call()), ['upstream-unavailable', 3])
  assert.deepEqual(
    lines.map(({ attempt, reason }) => [attempt, reason]),
    [1, 2, 3].map((n) => [n, 'ECONNREFUSED']),
  )
  assert.equal(sandbox.calls.length, 0)
})

/** Time left when the call begins, and how many attempts may begin. */
const BUDGETS: readonly (readonly [number, string, number])[] = [
  [0, 'upstream-unavailable', 0],
  [-1, 'upstream-unavailable', 0],
  [2000, 'ok', 1],
]

for (const [leftMs, code, attempts] of BUDGETS) {
  test(`with ${leftMs} ms left a call has ${attempts} attempts`, async (t) => {
    const { sandbox, call } = await startClient(t)
    assert.deepEqual(summary(await call(frozen(leftMs))), [code, attempts])
    assert.equal(sandbox.calls.length, attempts)
  })
}

/** A deadline that does not come nearer. */
const frozen = (leftMs: number): Deadline => ({ remainingMs: () => leftMs, minus: (byMs) => frozen(leftMs - byMs) })

test('an attempt gets no more time than is left', async (t) => {
  const { script, call } = await startClient(t, { timeoutMs: 600_000 })
  script({ reply: 'stall' })
  assert.deepEqual(summary(await call(frozen(300))), ['outcome-unknown', 1])
})

test('a call does not wait for an attempt that could only begin after the deadline', async (t) => {
  const { sandbox, script, call } = await startClient(t)
  script(throttledFor(2000))
  const result = await call(frozen(2000))
  assert.deepEqual(summary(result), ['upstream-throttled', 1])
  assert.equal(!result.ok && result.retryAfterMs, 2000)
  assert.equal(sandbox.calls.length, 1)
})

test('a wait is x-acs-retry-after and the jitter on top', async (t) => {
  const { script, call } = await startClient(t, { random: () => 0.5, maxAttempts: 1 })
  script(throttledFor(700))
  const result = await call()
  assert.equal(!result.ok && result.retryAfterMs, 800)
})

test('an aborted call is not sent', async (t) => {
  const { sandbox, call } = await startClient(t)
  assert.deepEqual(summary(await call(deadlineIn(15_000), AbortSignal.abort())), ['upstream-unavailable', 0])
  assert.equal(sandbox.calls.length, 0)
})

test('a correction of the clock that did not help is forgotten', async (t) => {
  const { sandbox, script, call } = await startClient(t)
  sandbox.setClockOffset(7_200_000)
  // The first attempt is refused for its time, the second in spite of it.
  script(timestampRefused)
  assert.deepEqual(summary(await call()), ['upstream-misconfigured', 2])
  sandbox.setClockOffset(0)
  assert.deepEqual(summary(await call()), ['ok', 1])
})

test('an attempt that was given up before anything was sent counts for nothing', async (t) => {
  const silent = createServer()
  const port = await listenOn(t, silent)
  const { lines, call } = await startClient(t, { url: new URL(`https://127.0.0.1:${port}`) })
  const gone = new AbortController()
  const result = call(deadlineIn(15_000), gone.signal)
  await once(silent, 'connection')
  gone.abort()
  assert.deepEqual(summary(await result), ['upstream-unavailable', 0])
  assert.deepEqual(lines, [])
})

test('a wait between attempts ends with the interest in it, and nothing more is sent', async (t) => {
  const { sandbox, lines, script, call } = await startClient(t)
  const gone = new AbortController()
  script(throttledFor(60_000))
  const result = call(deadlineIn(600_000), gone.signal)
  await eventually(() => lines[0])
  gone.abort()
  assert.deepEqual(summary(await result), ['upstream-throttled', 1])
  assert.equal(sandbox.calls.length, 1)
})

test('an upstream that is ill is left alone for a while', async (t) => {
  const { lines, call } = await startClient(t, { url: new URL(`http://127.0.0.1:${await closedPort()}`) })
  for (let round = 0; round < 3; round += 1) assert.deepEqual(summary(await call()), ['upstream-unavailable', 3])
  const [last, next] = [await call(), await call()]
  assert.deepEqual(
    [summary(last), summary(next)],
    [
      ['upstream-unavailable', 1],
      ['upstream-unavailable', 0],
    ],
  )
  for (const result of [last, next]) assert.ok(!result.ok && (result.retryAfterMs ?? 0) > 4000)
  assert.equal(lines.filter(({ msg }) => String(msg).startsWith('the upstream is unhealthy')).length, 1)
})

for (const reply of ['reset', 'stall', { status: 500, code: 'InternalError' }, { status: 503, code: 'Odd' }] as const) {
  test(`it is ill where ten attempts in a row end in ${JSON.stringify(reply)}`, async (t) => {
    const { sandbox, script, call } = await startClient(t, { timeoutMs: reply === 'stall' ? 300 : 5000 })
    script(...Array.from({ length: 10 }, () => ({ reply })))
    await Promise.all(Array.from({ length: 10 }, () => call()))
    assert.deepEqual(summary(await call()), ['upstream-unavailable', 0])
    assert.equal(sandbox.calls.length, 10)
  })
}

for (const reply of [
  { status: 400, code: 'InvalidParameter' },
  { status: 400, code: 'Throttling.User' },
  { status: 503, code: 'Throttling' },
  { status: 403, code: 'Forbidden.RAM' },
  { status: 500, code: 'Forbidden.RAM' },
  { status: 200, code: 'Odd' },
  'not-json',
] as const) {
  test(`it is not ill where it answers ${JSON.stringify(reply)}, however often`, async (t) => {
    const { script, call } = await startClient(t, { maxAttempts: 1 })
    script(...Array.from({ length: 30 }, () => ({ reply })))
    for (let round = 0; round < 30; round += 1) await call()
    assert.deepEqual(summary(await call()), ['ok', 1])
  })
}

test('attempts that had no time to be answered say nothing of upstream', async (t) => {
  const { script, call } = await startClient(t)
  script(...Array.from({ length: 10 }, () => ({ reply: 'stall' }) as const))
  await Promise.all(Array.from({ length: 10 }, () => call(frozen(100))))
  assert.deepEqual(summary(await call()), ['ok', 1])
})

test('one throttled call keeps all others back, and tells them for how long', async (t) => {
  const { sandbox, lines, script, call } = await startClient(t)
  const gone = new AbortController()
  script(throttledFor(60_000))
  const throttledOne = call(deadlineIn(600_000), gone.signal)
  await eventually(() => lines[0])
  const result = await call()
  assert.deepEqual(summary(result), ['upstream-throttled', 0])
  assert.ok(!result.ok && (result.retryAfterMs ?? 0) > 50_000)
  gone.abort()
  await throttledOne
  assert.equal(sandbox.calls.length, 1)
})

test('a call that would wait too long behind others is rejected, and never sent', async (t) => {
  const { sandbox, script, call } = await startClient(t, { maxConcurrency: 1 })
  script({ reply: 'stall' })
  const called = sandbox.nextCall('CancelTask')
  const slow = call(frozen(2000))
  await called
  const result = await call(frozen(50))
  assert.deepEqual(summary(result), ['gateway-busy', 0])
  assert.ok(!result.ok && !result.ambiguous && result.retryAfterMs !== null)
  await slow
  assert.equal(sandbox.calls.length, 1)
})

test('a call that was waiting behind others when the client closed is not sent', async (t) => {
  const { sandbox, upstream, script, call } = await startClient(t, { maxConcurrency: 1 })
  script({ reply: 'stall' })
  const called = sandbox.nextCall('CancelTask')
  const [slow, waiting] = [call(frozen(2000)), call()]
  await called
  upstream.close()
  await Promise.all([slow, waiting])
  assert.equal(sandbox.calls.length, 1)
})

test('a call whose callers left while it waited is sent for a caller that joined since', async (t) => {
  const { sandbox, taskNo, upstream, script, call } = await startClient(t, { maxConcurrency: 1 })
  script({ reply: 'stall' })
  const called = sandbox.nextCall('CancelTask')
  const slow = call(frozen(500))
  await called
  let left = new AbortController()
  const limits = {
    priority: 'cancel' as const,
    deadline: deadlineIn(15_000),
    currentSignal: () => left.signal,
  }
  const waiting = upstream.call('CancelTask', { TaskNo: taskNo, UserClientIp: '203.0.113.7' }, limits)
  await setImmediate()
  const first = left
  left = new AbortController()
  first.abort()
  assert.deepEqual(summary(await waiting), ['ok', 1])
  await slow
})

test('if another attempt is rejected, the result is that of the last one', async (t) => {
  const { sandbox, script, call } = await startClient(t, { maxConcurrency: 1 })
  script(timestampRefused, { reply: 'stall' })
  const called = sandbox.nextCall('CancelTask')
  const [refused, slow] = [call(frozen(300)), call(frozen(2000))]
  await called
  assert.deepEqual(summary(await refused), ['upstream-misconfigured', 1])
  await slow
})

test('a clock that is off is told before upstream refuses it', async (t) => {
  const { sandbox, lines, call } = await startClient(t)
  sandbox.setClockOffset(120_000)
  assert.deepEqual(summary(await call()), ['ok', 1])
  const [line] = lines
  assert.ok(Math.abs(Number(line?.clockSkewMs) - 120_000) < 10_000, JSON.stringify(line))
})

test('a success carries the body for others to read', async (t) => {
  const { upstream, taskNo } = await startClient(t)
  const limits = { priority: 'cancel', deadline: deadlineIn(15_000) } as const
  const result = await upstream.call('QueryTaskList', { PageNum: '1', PageSize: '10' }, limits)
  assert.ok(result.ok)
  assert.match(JSON.stringify(result.body), new RegExp(`"TaskNo":"${taskNo}"`))
})

test('a failure is logged with listed facts only', async (t) => {
  const { lines, call } = await startClient(t, { credentials: fixedCredentials({ ...KEYS, accessKeySecret: 'wrong' }) })
  await call()
  const { time, upstreamRequestId, ...line } = lines[0] ?? {}
  assert.match(`${time} ${upstreamRequestId}`, /^\S+Z [0-9A-F-]{36}$/)
  assert.deepEqual(line, {
    level: 'warn',
    action: 'CancelTask',
    attempt: 1,
    code: 'upstream-credentials-rejected',
    reason: 'response',
    status: 400,
    upstreamCode: 'SignatureDoesNotMatch',
    msg: 'an upstream call failed',
  })
})

for (const [action, ramAction] of [
  ['CancelTask', 'domain:CancelTask'],
  ['QueryTaskList', 'domain:QueryDomainTask'],
  ['QueryTaskDetailList', 'domain:QueryDomainTask'],
] as const) {
  test(`a ${action} that RAM forbids is logged with the action to grant`, async (t) => {
    const { sandbox, upstream, taskNo, lines } = await startClient(t)
    sandbox.fault(action, { reply: { status: 403, code: 'Forbidden.RAM' } })
    const params = { TaskNo: taskNo, PageNum: '1', PageSize: '10' }
    await upstream.query(action, params, { priority: 'read', deadline: deadlineIn(15_000) })
    assert.equal(lines[0]?.ramAction, ramAction)
  })
}

test('the wait before another attempt grows, is jittered, and ends at two seconds', () => {
  assert.deepEqual(
    [1, 2, 3, 4, 5, 6, 99].map((attempt) => backoffMs(attempt, () => 1)),
    [200, 400, 800, 1600, 2000, 2000, 2000],
  )
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 100 }), fc.double({ min: 0, max: 1, noNaN: true }), (attempt, share) => {
      const waitMs = backoffMs(attempt, () => share)
      assert.ok(waitMs >= 0 && waitMs <= 2000)
    }),
  )
})

/** A query of the first page, on the same terms as `call`. */
const startQueries = async (t: TestContext, changes: Changes = {}) => {
  const { sandbox, upstream, ...rest } = await startClient(t, changes)
  const params = { PageNum: '1', PageSize: '10', UserClientIp: '203.0.113.7', Lang: 'zh' }
  const query = (deadline: Deadline = deadlineIn(15_000), signal = new AbortController().signal) =>
    upstream.query('QueryTaskList', params, { priority: 'read', deadline, currentSignal: () => signal })
  const script = (reply: Fault['reply'], times?: number) => sandbox.fault('QueryTaskList', { reply }, times)
  return { ...rest, sandbox, query, script }
}

for (const signature of ['rpc-v1', 'acs3'] as const) {
  test(`a query signed by ${signature} arrives as it was meant, and carries the body for others to read`, async (t) => {
    const { sandbox, taskNo, query } = await startQueries(t, { signature })
    const result = await query()
    assert.ok(result.ok)
    assert.match(JSON.stringify(result.body), new RegExp(`"TaskNo":"${taskNo}"`))
    const { PageNum, PageSize, UserClientIp, Lang } = sandbox.calls[0]?.params ?? {}
    assert.deepEqual([PageNum, PageSize, UserClientIp, Lang], ['1', '10', '203.0.113.7', 'zh'])
  })
}

/** Failures after which a query is repeated, and its problem code if each attempt fails so. */
const REPEATED: readonly (readonly [Fault['reply'], string])[] = [
  ['reset', 'upstream-unavailable'],
  ['truncate', 'upstream-unavailable'],
  ['stall', 'upstream-timeout'],
  [{ status: 500, code: 'InternalError' }, 'upstream-unavailable'],
  [{ status: 503, code: 'ServiceUnavailable' }, 'upstream-unavailable'],
  [{ status: 502, code: 'NeverHeardOf' }, 'upstream-unavailable'],
  [{ status: 200, code: 'NeverHeardOf' }, 'upstream-unavailable'],
  [{ status: 400, code: 'SignatureNonceUsed' }, 'upstream-unavailable'],
  [{ status: 400, code: 'Throttling.User' }, 'upstream-throttled'],
]

const nameOf = (reply: Fault['reply']): string =>
  typeof reply === 'string' ? reply : `${reply.code} with ${reply.status}`

for (const [reply, code] of REPEATED) {
  const isStall = reply === 'stall'

  test(`a query is tried again after ${nameOf(reply)}, each time with a nonce of its own`, async (t) => {
    // The last attempt must be answered in its time, however busy the machine is.
    const { sandbox, script, query } = await startQueries(t, { timeoutMs: isStall ? 2000 : 5000 })
    script(reply, 2)
    assert.deepEqual(summary(await query()), ['ok', 3])
    assert.equal(new Set(sandbox.calls.map(({ nonce }) => nonce)).size, 3)
  })

  test(`a query that meets ${nameOf(reply)} each time is ${code}, and never ambiguous`, async (t) => {
    const { sandbox, script, query } = await startQueries(t, { timeoutMs: isStall ? 300 : 5000, maxAttempts: 2 })
    script(reply, Number.POSITIVE_INFINITY)
    const result = await query()
    assert.deepEqual([...summary(result), !result.ok && result.ambiguous], [code, 2, false])
    assert.equal(sandbox.calls.length, 2)
  })
}

/** Failures after which a query is not tried again. */
const FINAL: readonly (readonly [Fault['reply'], string])[] = [
  ['not-json', 'upstream-bad-response'],
  ['redirect', 'upstream-bad-response'],
  ['no-request-id', 'upstream-bad-response'],
  ['huge', 'upstream-bad-response'],
  [{ status: 403, code: 'Forbidden.RAM' }, 'upstream-forbidden'],
  [{ status: 404, code: 'InvalidAccessKeyId.NotFound' }, 'upstream-credentials-rejected'],
  [{ status: 400, code: 'SignatureDoesNotMatch' }, 'upstream-credentials-rejected'],
  [{ status: 404, code: 'InvalidAction.NotFound' }, 'upstream-misconfigured'],
  [{ status: 400, code: 'MissingPageNum' }, 'internal'],
  [{ status: 400, code: 'TaskNotExist' }, 'task-not-found'],
  [{ status: 400, code: 'InvalidParameter' }, 'upstream-bad-response'],
  [{ status: 409, code: 'NeverHeardOf' }, 'upstream-bad-response'],
]

for (const [reply, code] of FINAL) {
  test(`a query that meets ${nameOf(reply)} is ${code} at once, and not ambiguous`, async (t) => {
    const { sandbox, script, query } = await startQueries(t)
    script(reply)
    const result = await query()
    assert.deepEqual([...summary(result), !result.ok && result.ambiguous], [code, 1, false])
    assert.equal(sandbox.calls.length, 1)
  })
}

test('a query that stays throttled says how long to wait', async (t) => {
  const { script, query } = await startQueries(t, { random: () => 0.5, maxAttempts: 1 })
  script({ status: 503, code: 'ServiceUnavailable', headers: { 'x-acs-retry-after': '700' } })
  const result = await query()
  assert.deepEqual(summary(result), ['upstream-throttled', 1])
  assert.equal(!result.ok && result.retryAfterMs, 800)
})

test('only throttling says how long to wait', async (t) => {
  const { script, query } = await startQueries(t, { random: () => 0.5, maxAttempts: 1 })
  script('reset')
  const result = await query()
  assert.equal(!result.ok && result.retryAfterMs, null)
})

test('a clock that is off is corrected for queries too', async (t) => {
  const { sandbox, query } = await startQueries(t)
  sandbox.setClockOffset(7_200_000)
  assert.deepEqual(summary(await query()), ['ok', 2])
})

test('a query of an upstream that can not be reached is tried as often as allowed', async (t) => {
  const { query } = await startQueries(t, { url: new URL(`http://127.0.0.1:${await closedPort()}`) })
  assert.deepEqual(summary(await query()), ['upstream-unavailable', 3])
})

for (const leftMs of [0, -1]) {
  test(`a query that has ${leftMs} ms left is a timeout, and nothing is sent`, async (t) => {
    const { sandbox, query } = await startQueries(t)
    assert.deepEqual(summary(await query(frozen(leftMs))), ['upstream-timeout', 0])
    assert.equal(sandbox.calls.length, 0)
  })
}

test('a query does not wait for an attempt that could only begin after the deadline', async (t) => {
  const { sandbox, script, query } = await startQueries(t, { random: () => 1 })
  script('reset')
  assert.deepEqual(summary(await query(frozen(200))), ['upstream-unavailable', 1])
  assert.equal(sandbox.calls.length, 1)
})

test('an aborted query is not repeated', async (t) => {
  const { sandbox, lines, script, query } = await startQueries(t)
  const gone = new AbortController()
  script({ status: 400, code: 'Throttling', headers: { 'x-acs-retry-after': '60000' } })
  const result = query(deadlineIn(600_000), gone.signal)
  await eventually(() => lines[0])
  gone.abort()
  assert.deepEqual(summary(await result), ['upstream-throttled', 1])
  assert.equal(sandbox.calls.length, 1)
})

test('a client that is closed sends nothing any more', async (t) => {
  const { sandbox, upstream, call } = await startClient(t)
  upstream.close()
  assert.deepEqual(summary(await call()), ['upstream-unavailable', 0])
  assert.equal(sandbox.calls.length, 0)
})

test('credentials are cut from every part of a response', async (t) => {
  const { upstream, script } = await startClient(t)
  const { accessKeyId, accessKeySecret } = KEYS
  script({ reply: { status: 400, code: accessKeyId, message: `AccessKeyId%3D${accessKeyId} ${accessKeySecret}` } })
  const result = await upstream.call(
    'CancelTask',
    { TaskNo: 't' },
    { priority: 'cancel', deadline: deadlineIn(15_000) },
  )
  assert.doesNotMatch(JSON.stringify(result), new RegExp(accessKeyId))
})

test('a page that holds the keys is read without them', async (t) => {
  const { sandbox, upstream } = await startClient(t)
  sandbox.addTask({ taskType: `${KEYS.accessKeyId} ${KEYS.accessKeySecret}` })
  const params = { PageNum: '1', PageSize: '10' }
  const result = await upstream.query('QueryTaskList', params, { priority: 'read', deadline: deadlineIn(15_000) })
  assert.match(JSON.stringify(result), /\[secret\] \[secret\]/)
})
