import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { PRIORITIES } from '../../src/priority.ts'
import {
  API_KEYS,
  asAuditor,
  asOperator,
  asReader,
  cancelCalls,
  eventually,
  type Started,
  startGateway,
  temporaryFolder,
} from '../helpers/gateway.ts'
import { startIssuer } from '../helpers/issuer.ts'
import { sendBytes } from '../helpers/raw-http.ts'

type Labels = Readonly<Record<string, string>>

interface Sample {
  readonly name: string
  readonly labels: Labels
  readonly value: number
}

const SAMPLE = /^(?<name>[a-zA-Z_:][\w:]*)(?:\{(?<labels>.*)\})? (?<value>\S+)$/

const samplesIn = (text: string): readonly Sample[] =>
  text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const { name = '', labels = '', value } = SAMPLE.exec(line)?.groups ?? {}
      const pairs = [...labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key = '', text = '']) => [key, text])
      return { name, labels: Object.fromEntries(pairs), value: Number(value) }
    })

const scrape = async ({ adminUrl }: Started): Promise<readonly Sample[]> => {
  const answer = await fetch(`${adminUrl}/metrics`)
  assert.equal(answer.status, 200)
  assert.match(answer.headers.get('content-type') ?? '', /^text\/plain; version=0\.0\.4/)
  return samplesIn(await answer.text())
}

/** The value of the only sample of that name with these labels among its own. */
const sampleOf = (samples: readonly Sample[], name: string, labels: Labels = {}): number | undefined => {
  const found = samples.filter(
    (sample) => sample.name === name && Object.entries(labels).every(([key, text]) => sample.labels[key] === text),
  )
  assert.ok(found.length <= 1, `${name} ${JSON.stringify(labels)} is there ${found.length} times`)
  return found[0]?.value
}

test('requests are counted by route, method, status and code, and timed', async (t) => {
  const started = await startGateway(t)
  const { api, upstream, url } = started
  await api.delete(`/tasks/${upstream.addTask()}`).set(asOperator)
  await api.delete('/tasks/none').set(asOperator)
  await api.get('/nowhere/at/all')
  await sendBytes(url, 'BREW / HTCPCP/1.0\r\n\r\n')
  const samples = await scrape(started)
  const counted = (labels: Labels) => sampleOf(samples, 'gateway_requests_total', labels)
  assert.equal(counted({ route: '/tasks/:taskNo', method: 'DELETE', status: '202', code: '' }), 1)
  assert.equal(counted({ route: '/tasks/:taskNo', method: 'DELETE', status: '404', code: 'task-not-found' }), 1)
  assert.equal(counted({ route: 'other', method: 'GET', status: '404', code: 'not-found' }), 1)
  assert.equal(counted({ route: 'other', method: 'other', status: '400', code: 'bad-request' }), 1)
  const timed = { route: '/tasks/:taskNo', method: 'DELETE', waited: 'no' }
  assert.equal(sampleOf(samples, 'gateway_request_duration_seconds_count', timed), 2)
  const seconds = sampleOf(samples, 'gateway_request_duration_seconds_sum', timed) ?? 0
  assert.ok(seconds > 0 && seconds < 20, `${seconds} s`)
})

test('a request whose body can not be read is one request', async (t) => {
  const started = await startGateway(t)
  const head = 'DELETE /tasks/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n'
  const answer = await sendBytes(started.url, `${head}zz\r\n`)
  assert.match(answer, /^HTTP\/1\.1 400 /)
  const counted = (await scrape(started)).filter(({ name }) => name === 'gateway_requests_total')
  assert.deepEqual(
    counted.map(({ value, labels }) => [value, labels.code]),
    [[1, 'bad-request']],
  )
  const [line, ...more] = started.logLines.filter((text) => text.includes('"msg":"request"'))
  assert.ok(line !== undefined && answer.includes(JSON.parse(line).requestId))
  assert.deepEqual(more, [])
})

test('cancellations are counted by outcome, and attempts by action, result and number', async (t) => {
  const started = await startGateway(t)
  const { api, upstream } = started
  upstream.fault('CancelTask', { reply: { status: 400, code: 'Throttling.User' } })
  await api.delete(`/tasks/${upstream.addTask()}`).set(asOperator).expect(202)
  await api.delete('/tasks/none').set(asOperator)
  await api.delete('/tasks/none').set(asReader)
  const samples = await scrape(started)
  for (const [outcome, count] of [
    ['accepted', 1],
    ['rejected', 1],
    ['refused', 1],
    ['unknown', 0],
  ] as const) {
    assert.equal(sampleOf(samples, 'gateway_cancellations_total', { outcome }), count, outcome)
  }
  const attempts = (result: string, attempt: string) =>
    sampleOf(samples, 'gateway_upstream_attempts_total', { action: 'CancelTask', result, attempt })
  assert.deepEqual([attempts('throttled', '1'), attempts('ok', '2'), attempts('task-not-found', '1')], [1, 1, 1])
  const timed = sampleOf(samples, 'gateway_upstream_attempt_duration_seconds_count', { action: 'CancelTask' })
  assert.equal(timed, cancelCalls(upstream).length)
  assert.ok((sampleOf(samples, 'gateway_audit_write_duration_seconds_count', { result: 'done' }) ?? 0) >= 3)
})

test('who is over a limit is counted by limit', async (t) => {
  const started = await startGateway(t, { env: { RATE_LIMIT_READ_MAX: '1' } })
  for (let asked = 0; asked < 3; asked += 1) await started.api.get('/me').set(asReader)
  assert.equal(sampleOf(await scrape(started), 'gateway_rate_limited_total', { limit: 'reads' }), 2)
})

test('attempts in flight and in the queue are reported by priority, and so are open circuits', async (t) => {
  const started = await startGateway(t, { env: { UPSTREAM_MAX_CONCURRENCY: '1', UPSTREAM_MAX_ATTEMPTS: '1' } })
  const { api, upstream } = started
  upstream.fault('CancelTask', { reply: 'stall' })
  const asked = [0, 1].map(() =>
    api
      .delete(`/tasks/${upstream.addTask()}`)
      .set(asOperator)
      .then(() => undefined),
  )
  const gauge = async (name: string, labels: Labels = {}) => sampleOf(await scrape(started), name, labels)
  await eventually(async () =>
    (await gauge('gateway_upstream_queue_length', { priority: 'cancel' })) === 1 ? true : undefined,
  )
  assert.equal(await gauge('gateway_upstream_in_flight', { priority: 'cancel' }), 1)
  assert.equal(await gauge('gateway_upstream_in_flight', { priority: 'read' }), 0)
  assert.equal(await gauge('gateway_upstream_circuit_open', { reason: 'throttled' }), 0)
  upstream.fault('QueryTaskList', {
    reply: { status: 400, code: 'Throttling', headers: { 'x-acs-retry-after': '50000' } },
  })
  await Promise.all(asked)
  await api.get('/tasks').set(asReader)
  assert.equal(await gauge('gateway_upstream_circuit_open', { reason: 'throttled' }), 1)
  for (const priority of PRIORITIES) {
    assert.equal(await gauge('gateway_upstream_circuit_open', { reason: 'unhealthy', priority }), 0, priority)
  }
})

test('what is not there is not told, and what is has its age', async (t) => {
  const bare = await scrape(await startGateway(t))
  for (const name of [
    'gateway_jwks_age_seconds',
    'gateway_rate_limit_store_up',
    'gateway_credentials_expire_in_seconds',
  ]) {
    assert.equal(sampleOf(bare, name), undefined, name)
  }
  assert.equal(sampleOf(bare, 'gateway_clock_skew_seconds'), undefined)
  assert.ok((sampleOf(bare, 'gateway_credentials_age_seconds') ?? -1) >= 0)
  assert.equal(sampleOf(bare, 'gateway_audit_unwritten'), 0)

  const issuer = await startIssuer(t)
  issuer.answerWith('down')
  const apart = await scrape(await startGateway(t, { env: issuer.env }))
  assert.ok((sampleOf(apart, 'gateway_jwks_age_seconds') ?? -1) >= 0)
  issuer.answerWith('keys')
  const started = await startGateway(t, { env: issuer.env })
  started.upstream.setClockOffset(-120_000)
  await started.api
    .get('/tasks')
    .set(await issuer.bearer())
    .expect(200)
  const samples = await scrape(started)
  assert.ok((sampleOf(samples, 'gateway_jwks_age_seconds') ?? -1) >= 0)
  const skew = sampleOf(samples, 'gateway_clock_skew_seconds') ?? 0
  assert.ok(skew > -125 && skew < -115, `${skew} s`)
})

test('a file of callers that is faulty is told', async (t) => {
  const path = join(await temporaryFolder(t), 'keys.json')
  await writeFile(path, API_KEYS)
  const started = await startGateway(t, {
    env: { API_KEYS: undefined, API_KEYS_FILE: path },
    readFile: () => API_KEYS,
    overrides: { timings: { watchEveryMs: 5 } },
  })
  const isFaulty = async () => sampleOf(await scrape(started), 'gateway_file_faulty', { setting: 'API_KEYS_FILE' })
  assert.equal(await isFaulty(), 0)
  await writeFile(path, '{')
  await eventually(async () => ((await isFaulty()) === 1 ? true : undefined))
  await writeFile(path, API_KEYS)
  await eventually(async () => ((await isFaulty()) === 0 ? true : undefined))
})

test('the process and its event loop are told of', async (t) => {
  const samples = await scrape(await startGateway(t))
  for (const name of [
    'process_resident_memory_bytes',
    'nodejs_eventloop_lag_p99_seconds',
    'process_cpu_seconds_total',
  ]) {
    assert.ok((sampleOf(samples, name) ?? 0) > 0, name)
  }
})

test('metrics stand on their own port alone, with nothing beside them but probes', async (t) => {
  const { api, adminUrl } = await startGateway(t)
  await api.get('/metrics').set(asAuditor).expect(404)
  for (const [path, method] of [
    ['/', 'GET'],
    ['/me', 'GET'],
    ['/metrics/', 'GET'],
    ['/METRICS', 'GET'],
    ['/openapi.json', 'GET'],
    ['/', 'POST'],
  ] as const) {
    assert.equal((await fetch(adminUrl + path, { method })).status, 404, `${method} ${path}`)
  }
})

test('whatever is asked, no label takes more than a few values', async (t) => {
  const started = await startGateway(t)
  for (let at = 0; at < 50; at += 1) {
    await started.api.get(`/nowhere/${at}`)
    await started.api.get(`/tasks/${at}?page=${at}`).set(asReader).set('x-request-id', String(at))
    await sendBytes(started.url, `X${at} / HTTP/1.1\r\n\r\n`)
    await sendBytes(started.url, `PROPFIND /${at} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`)
  }
  const ours = (await scrape(started)).filter(({ name }) => name === 'gateway_requests_total')
  assert.ok(ours.length <= 8, `${ours.length} series`)
})
