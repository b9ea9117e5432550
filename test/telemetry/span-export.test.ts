import assert from 'node:assert/strict'
import { createServer, type ServerResponse } from 'node:http'
import { connect } from 'node:net'
import { type TestContext, test } from 'node:test'
import type { Timings } from '../../src/gateway.ts'
import { CANARIES, eventually, type Started, startGateway } from '../helpers/gateway.ts'
import { closedPort, listenOn } from '../helpers/ports.ts'

// A trace collector that does not accept spans: requests go on, one line says so, and spans are counted.

type Respond = (res: ServerResponse) => void

const accept: Respond = (res) => void res.setHeader('content-type', 'application/json').end('{}')

/** A collector whose responses can be changed while it runs. */
const startServer = async (t: TestContext, first: Respond) => {
  let respond = first
  let requests = 0
  const server = createServer((req, res) => {
    requests += 1
    req.resume().once('end', () => respond(res))
  })
  const url = `http://127.0.0.1:${await listenOn(t, server)}`
  return {
    url,
    requests: () => requests,
    become: (next: Respond) => {
      respond = next
    },
  }
}

/** For responses that never end. */
const QUICK = { traceTimeoutMs: 1000 }

/** A busy machine may take long to respond. */
const PATIENT = { traceTimeoutMs: 60_000 }

const start = (t: TestContext, url: string, timings: Timings = PATIENT): Promise<Started> =>
  startGateway(t, {
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: url },
    overrides: { timings: { traceDelayMs: 1, ...timings } },
  })

const lines = ({ logLines }: Started) =>
  logLines.map((line) => JSON.parse(line)).filter(({ setting }) => setting === 'OTEL_EXPORTER_OTLP_ENDPOINT')

const spans = async ({ adminUrl }: Started, result: string): Promise<number> => {
  const metrics = await (await fetch(`${adminUrl}/metrics`)).text()
  return Number(new RegExp(`^gateway_trace_spans_total\\{result="${result}"\\} (\\d+)$`, 'm').exec(metrics)?.[1])
}

/** A request makes one span. */
const request = async ({ url }: Started): Promise<void> => {
  const response = await fetch(`${url}/nowhere`)
  await response.arrayBuffer()
  assert.equal(response.status, 404)
}

const becomesMore = (started: Started, result: string, than: number) =>
  eventually(async () => ((await spans(started, result)) > than ? true : undefined))

/** A busy machine may exceed a short timeout once more: the spans of a later request are accepted. */
const recovers = (started: Started) =>
  eventually(async () => {
    await request(started)
    return (await spans(started, 'exported')) > 0 || undefined
  })

const REFUSALS: Readonly<Record<string, readonly [respond: Respond, told: Readonly<Record<string, unknown>>]>> = {
  'that refuses with 400': [(res) => res.writeHead(400).end('canary'), { reason: 'it refuses them', status: 400 }],
  'that refuses with 401': [(res) => res.writeHead(401).end(), { reason: 'it refuses them', status: 401 }],
  'that refuses with 404': [(res) => res.writeHead(404).end(), { reason: 'it refuses them', status: 404 }],
  'that redirects': [
    (res) => res.writeHead(302, { location: 'http://127.0.0.1:1/' }).end(),
    { reason: 'it refuses them', status: 302 },
  ],
  'that fails with 500': [(res) => res.writeHead(500).end(), { reason: 'it refuses them', status: 500 }],
  'that throttles with 429': [
    (res) => res.writeHead(429, { 'retry-after': '60' }).end('canary'),
    { reason: 'it throttles or is unavailable (429, 502, 503 or 504)' },
  ],
  'that is unavailable with 503': [
    (res) => res.writeHead(503, { 'retry-after': '60' }).end(),
    { reason: 'it throttles or is unavailable (429, 502, 503 or 504)' },
  ],
  'that never responds': [() => undefined, { reason: 'it takes too long' }],
  'whose response never ends': [
    (res) => {
      const timer = setInterval(() => res.write(' '), 100)
      res.once('close', () => clearInterval(timer))
    },
    { reason: 'it takes too long' },
  ],
  'that ends the connection': [(res) => res.destroy(), { reason: 'it cannot be reached', errorCode: 'ECONNRESET' }],
}

test('a collector that does not accept spans', { concurrency: true }, async (t) => {
  for (const [how, [respond, told]] of Object.entries(REFUSALS)) {
    t.test(`${how} is logged once, and once when it accepts them again`, async (t) => {
      const collector = await startServer(t, respond)
      const started = await start(t, collector.url, told.reason === 'it takes too long' ? QUICK : PATIENT)
      await request(started)
      await becomesMore(started, 'failed', 0)
      await request(started)
      await becomesMore(started, 'failed', 1)
      const [line, ...more] = lines(started)
      assert.deepEqual([line.msg, more], ['the trace collector does not accept spans; they are lost', []])
      assert.deepEqual({ ...line, ...told }, line)
      collector.become(accept)
      await recovers(started)
      const messages = lines(started).map(({ level, msg }) => [level, msg])
      assert.deepEqual(messages, [
        ['warn', 'the trace collector does not accept spans; they are lost'],
        ['info', 'the trace collector accepts spans again'],
      ])
      assert.doesNotMatch(started.logLines.join(''), new RegExp(`canary|${CANARIES.accessKeySecret}`))
    })
  }
})

test('a collector that is down is logged once, with the code of the network', async (t) => {
  const started = await start(t, `http://127.0.0.1:${await closedPort()}`)
  await request(started)
  await becomesMore(started, 'failed', 0)
  const [{ reason, errorCode }, ...more] = lines(started)
  assert.deepEqual([reason, errorCode, more], ['it cannot be reached', 'ECONNREFUSED', []])
})

test('a collector that accepts spans is counted and not logged', async (t) => {
  const started = await start(t, (await startServer(t, accept)).url)
  await request(started)
  await becomesMore(started, 'exported', 0)
  assert.deepEqual([await spans(started, 'failed'), await spans(started, 'dropped'), lines(started)], [0, 0, []])
})

test('spans beyond the queue are dropped and counted while the collector does not respond', async (t) => {
  const collector = await startServer(t, () => undefined)
  const started = await start(t, collector.url)
  const { host, hostname, port } = new URL(started.url)
  const socket = connect(Number(port), hostname).resume()
  t.after(() => socket.destroy())
  // At most 512 spans are on their way, and 2048 wait.
  socket.write(`GET /nowhere HTTP/1.1\r\nhost: ${host}\r\n\r\n`.repeat(3000))
  await becomesMore(started, 'dropped', 400)
  assert.equal(collector.requests(), 1)
})
