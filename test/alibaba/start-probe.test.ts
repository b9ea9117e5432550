import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { FaultReply, SandboxOptions } from '../../sandbox/src/server.ts'
import type { Env } from '../../src/config.ts'
import {
  asOperator,
  asReader,
  CANARIES,
  eventually,
  type Started,
  startGateway,
  startSandbox,
} from '../helpers/gateway.ts'

import { prepare, startProcess } from '../helpers/process.ts'

const { accessKeyId, accessKeySecret } = CANARIES
const OTHER_KEY = { accessKeyId: 'another-key' }
/** Longer than a test. */
const NEVER_MS = 3_600_000

interface Scene {
  /** The keys that the sandbox knows, where they are not those of the gateway. */
  readonly keys?: Partial<SandboxOptions>
  readonly fault?: FaultReply
  readonly pauseMs?: number
  readonly env?: Env
}

/** A gateway that checks its credentials at the start, and the sandbox that it uses. */
const start = async (t: TestContext, { keys, fault, pauseMs = NEVER_MS, env }: Scene = {}) => {
  const upstream = await startSandbox(t, keys)
  if (fault !== undefined) upstream.fault('QueryTaskList', { reply: fault }, Number.POSITIVE_INFINITY)
  const started = await startGateway(t, {
    env: { UPSTREAM_URL: upstream.url, UPSTREAM_MAX_ATTEMPTS: '1', ...env },
    overrides: { isStartProbed: true, timings: { startProbePauseMs: () => pauseMs } },
  })
  const logged = (message: string) => started.logLines.filter((line) => line.includes(message))
  return { ...started, upstream, logged }
}

const readyz = async ({ api }: Pick<Started, 'api'>) => {
  const { status, body } = await api.get('/readyz')
  return [status, body.code ?? body.status]
}

const READY = [200, 'ready']
const REJECTED = [503, 'upstream-credentials-rejected']

/** Resolves when the sandbox has received that many calls. */
const calls = ({ upstream }: Pick<Started, 'upstream'>, count: number) =>
  eventually(() => (upstream.calls.length >= count ? true : undefined))

const ready = (started: Pick<Started, 'api'>) =>
  eventually(async () => ((await readyz(started))[0] === 200 ? true : undefined))

test('a gateway queries one row at its start, once, and is ready if the upstream accepts its credentials', async (t) => {
  const started = await start(t, { pauseMs: 1 })
  assert.deepEqual(await readyz(started), READY)
  assert.equal(started.logged('the upstream accepts the credentials').length, 1)
  await started.api.get('/tasks').set(asReader).expect(200)
  const [probe, ...others] = started.upstream.calls
  assert.deepEqual([probe?.action, probe?.params.PageSize, others.length], ['QueryTaskList', '1', 1])
})

for (const [name, keys, code] of [
  ['an unknown AccessKeyId', OTHER_KEY, 'InvalidAccessKeyId.NotFound'],
  ['a wrong secret', { accessKeySecret: 'another-secret' }, 'SignatureDoesNotMatch'],
  ['a missing STS token', { securityToken: 'a-token' }, 'InvalidSecurityToken.MismatchWithAccessKey'],
] as const) {
  test(`a gateway with ${name} is not ready, from the first request on`, async (t) => {
    const started = await start(t, { keys })
    assert.deepEqual(await readyz(started), REJECTED)
    assert.equal((await fetch(`${started.adminUrl}/readyz`)).status, 503)
    assert.match(await (await fetch(`${started.adminUrl}/metrics`)).text(), /^gateway_ready 0$/m)
    const [line = ''] = started.logged('the upstream rejects the credentials; the gateway is not ready')
    assert.equal(JSON.parse(line).upstreamCode, code)
  })
}

test('it repeats the query until the upstream accepts the credentials, and stays ready after that', async (t) => {
  const started = await start(t, { keys: OTHER_KEY, pauseMs: 1 })
  assert.deepEqual(await readyz(started), REJECTED)
  await calls(started, 3)
  started.upstream.addKeys({ accessKeyId, accessKeySecret })
  await ready(started)
  started.upstream.revokeKeys(accessKeyId)
  await started.api.get('/tasks').set(asReader).expect(502)
  assert.deepEqual(await readyz(started), READY)
  assert.equal(started.logged('the gateway is not ready').length, 1)
})

test('the first call of a caller that is not refused for its credentials makes the gateway ready', async (t) => {
  const started = await start(t, { keys: OTHER_KEY })
  assert.deepEqual(await readyz(started), REJECTED)
  started.upstream.addKeys({ accessKeyId, accessKeySecret })
  const { body } = await started.api.delete('/tasks/no-such-task').set(asOperator)
  assert.equal(body.code, 'task-not-found')
  assert.deepEqual(await readyz(started), READY)
})

test('a call that the upstream throttles does not make such a gateway ready', async (t) => {
  const started = await start(t, { keys: OTHER_KEY })
  assert.deepEqual(await readyz(started), REJECTED)
  started.upstream.addKeys({ accessKeyId, accessKeySecret })
  started.upstream.fault('QueryTaskList', { reply: { code: 'Throttling.User', status: 400 } })
  await started.api.get('/tasks').set(asReader).expect(503)
  assert.deepEqual(await readyz(started), REJECTED)
})

for (const [name, fault] of [
  ['throttling', { code: 'Throttling.User', status: 400 }],
  ['a failure of the upstream', { code: 'InternalError', status: 500 }],
  ['a missing policy', { code: 'Forbidden.RAM', status: 403 }],
  ['no response', 'reset'],
  ['a response of another shape', 'not-json'],
] as const) {
  test(`${name} leaves a starting gateway ready`, async (t) => {
    const started = await start(t, { fault })
    await calls(started, 1)
    assert.deepEqual(await readyz(started), READY)
  })
}

test('a gateway whose first query has no response becomes unready if a later one is refused', async (t) => {
  const started = await start(t, { fault: 'reset', pauseMs: 1 })
  await calls(started, 1)
  assert.deepEqual(await readyz(started), READY)
  started.upstream.revokeKeys(accessKeyId)
  await eventually(async () => ((await readyz(started))[0] === 503 ? true : undefined))
})

test('an upstream that does not respond delays the first response of /readyz by a second at most', async (t) => {
  const started = await start(t, {
    fault: 'stall',
    env: { UPSTREAM_TIMEOUT_MS: '60000', REQUEST_TIMEOUT_MS: '63000', SHUTDOWN_GRACE_MS: '68000' },
  })
  const startedAtMs = performance.now()
  assert.deepEqual(await readyz(started), READY)
  assert.ok(performance.now() - startedAtMs < 30_000)
})

test('the process makes the query, and stops at once while it waits to repeat it', async (t) => {
  const { env, sandbox } = await prepare(t)
  sandbox.revokeKeys(accessKeyId)
  const { api, line, kill, ended } = await startProcess(t, env)
  assert.deepEqual(await readyz({ api }), REJECTED)
  assert.equal((await line('the upstream rejects the credentials; the gateway is not ready')).level, 'error')
  kill('SIGTERM')
  const { code, stdout } = await ended
  assert.equal(code, 0)
  assert.doesNotMatch(stdout, new RegExp(accessKeySecret))
})
