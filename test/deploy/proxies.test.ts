import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Agent, createServer, request } from 'node:http'
import { connect } from 'node:http2'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { after, type TestContext, test } from 'node:test'
import type { Sandbox } from '../../sandbox/src/server.ts'
import { CLIENT_ADDRESS, cancelFromClient, forgedLines } from '../helpers/forged-addresses.ts'
import { asOperator, baseEnv, cancelCalls, eventually, startSandbox, temporaryFolder } from '../helpers/gateway.ts'
import { closedPort, listenOn } from '../helpers/ports.ts'
import { type RunningGateway, startProcess } from '../helpers/process.ts'
import { PROXY_NAMES, type ProxyName, type RunningProxy, startProxy } from '../helpers/proxies.ts'
import { writeFigures } from '../helpers/reliability-doc.ts'
import { requires } from '../helpers/requirements.ts'
import type { Edit } from '../helpers/substitute.ts'

// Each proxy is the real program, with the configuration of deploy/ at other addresses, in front of two gateways.

/** Rolling restarts of each proxy; in the short form only one replica is restarted. */
const ROUNDS = Number(process.env.PROXY_ROUNDS ?? 0)
const IS_LONG = ROUNDS > 0
/** Which of the two replicas is restarted, one after the other. */
const RESTARTS: readonly number[] = IS_LONG ? Array(ROUNDS).fill([0, 1]).flat() : [0]

/** The address from which all proxies connect. */
const PROXY_ADDRESS = '127.0.0.1'

/** The value that docs/deployment.md advises. */
const SHUTDOWN_DELAY_MS = 5000

interface Replica extends RunningGateway {
  readonly adminUrl: string
}

interface Scene {
  readonly proxy: RunningProxy
  readonly sandbox: Sandbox
  readonly replicas: Replica[]
  /** Starts a replica on that port. */
  readonly launch: (port: number) => Promise<Replica>
}

/** A proxy in front of two replicas that call one sandbox. */
const start = async (t: TestContext, name: ProxyName, edits: readonly Edit[] = []): Promise<Scene> => {
  const sandbox = await startSandbox(t)
  const launch = async (port: number): Promise<Replica> => {
    const env = baseEnv(sandbox.url, join(await temporaryFolder(t), 'audit.db'))
    const settings = { TRUST_PROXY: PROXY_ADDRESS, PORT: String(port), SHUTDOWN_DELAY_MS: String(SHUTDOWN_DELAY_MS) }
    const replica = await startProcess(t, { ...env, ...settings })
    const { adminAddress } = await replica.line('listening')
    return { ...replica, adminUrl: String(adminAddress) }
  }
  const ports = await Promise.all([closedPort(), closedPort()])
  const replicas = await Promise.all(ports.map(launch))
  const proxy = await startProxy(t, name, urlsOf(replicas), edits)
  return { proxy, sandbox, replicas, launch }
}

const urlsOf = (replicas: readonly RunningGateway[]): readonly string[] => replicas.map(({ url }) => url)

interface SendOptions {
  readonly headers?: Readonly<Record<string, string>>
  readonly agent?: Agent | false
}

/** Status of the complete response, with the code of a problem; or how it failed. */
const send = (
  method: string,
  url: string,
  { headers = {}, agent = false }: SendOptions = {},
): Promise<number | string> =>
  new Promise((resolve) => {
    const outgoing = request(url, { method, headers: { ...asOperator, ...headers }, agent }, async (response) => {
      const body = await text(response).catch(() => null)
      if (body === null) return resolve('cut short')
      const code = /"code":"([a-z-]+)"/.exec(body)?.[1]
      resolve(code === undefined ? (response.statusCode ?? 0) : `${response.statusCode} ${code}`)
    })
    outgoing.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.name))
    outgoing.end()
  })

/** How often each task was cancelled upstream, if more than once. */
const repeated = (sandbox: Sandbox): readonly (string | undefined)[] => {
  const sent = cancelCalls(sandbox).map(({ params }) => params.TaskNo)
  return sent.filter((taskNo, at) => sent.indexOf(taskNo) !== at)
}

/** The address is that of the client, or the proxy has refused the request. */
const checkForgedAddresses = async (
  proxy: RunningProxy,
  sandbox: Sandbox,
  replicas: readonly Replica[],
): Promise<void> => {
  for (const lines of forgedLines(PROXY_ADDRESS)) {
    const taskNo = sandbox.addTask()
    const { status } = await cancelFromClient(proxy.url, taskNo, lines)
    const calls = cancelCalls(sandbox).filter(({ params }) => params.TaskNo === taskNo)
    if (status === 400) {
      assert.equal(calls.length, 0)
      continue
    }
    assert.equal(status, 202, lines.join())
    const records = (await Promise.all(replicas.map(({ records }) => records({ taskNo })))).flat()
    assert.deepEqual(
      [calls.map(({ params }) => params.UserClientIp), records.map(({ clientIp, peerIp }) => [clientIp, peerIp])],
      [[CLIENT_ADDRESS], [[CLIENT_ADDRESS, PROXY_ADDRESS]]],
      lines.join(),
    )
  }
}

/** Fifty cancels a second; every 25th waits for two seconds. */
const startLoad = (t: TestContext, proxy: RunningProxy, sandbox: Sandbox) => {
  // nginx closes kept connections when it reloads, also those on which a request has just been sent.
  const kept = proxy.use === undefined ? new Agent({ keepAlive: true }) : false
  t.after(() => kept === false || kept.destroy())
  const sent: Promise<number | string>[] = []
  const timer = setInterval(() => {
    const headers = sent.length % 25 === 0 ? { Prefer: 'wait=2' } : {}
    const agent = sent.length % 2 === 0 ? kept : false
    sent.push(send('DELETE', `${proxy.url}/tasks/${sandbox.addTask()}`, { headers, agent }))
  }, 20)
  t.after(() => clearInterval(timer))
  return async () => {
    clearInterval(timer)
    return await Promise.all(sent)
  }
}

/** The responses to all cancels during the restarts, each of which follows docs/deployment.md. */
const restartUnderLoad = async (
  t: TestContext,
  { proxy, sandbox, replicas, launch }: Scene,
  restarts: readonly number[],
) => {
  const finish = startLoad(t, proxy, sandbox)
  for (const at of restarts) {
    const replica = replicas[at]
    assert.ok(replica)
    await proxy.use?.(urlsOf(replicas.filter((other) => other !== replica)))
    replica.kill('SIGTERM')
    assert.equal((await replica.ended).code, 0)
    const restarted = await launch(Number(new URL(replica.url).port))
    replicas[at] = restarted
    await proxy.use?.(urlsOf(replicas))
    // It receives requests again.
    await restarted.line('cancellation')
  }
  return await finish()
}

/** The client's response if the replica that has sent its cancel upstream dies; or `sent again`. */
const dieDuringCancel = async (
  { proxy, sandbox, replicas }: Scene,
  options: SendOptions,
  signal: NodeJS.Signals = 'SIGKILL',
): Promise<number | string> => {
  sandbox.fault('CancelTask', { reply: 'stall' }, 2)
  const called = sandbox.nextCall('CancelTask')
  const response = send('DELETE', `${proxy.url}/tasks/${sandbox.addTask()}`, options)
  await called
  const sentAgain = sandbox.nextCall('CancelTask').then(() => 'sent again')
  const busy = await eventually(async () => {
    const inFlight = await Promise.all(replicas.map(cancelsInFlight))
    return replicas.find((_, at) => inFlight[at] !== 0)
  })
  busy.kill(signal)
  return await Promise.race([response, sentAgain])
}

const cancelsInFlight = async ({ adminUrl }: Replica): Promise<number> => {
  const metrics = await (await fetch(`${adminUrl}/metrics`)).text()
  return Number(/^gateway_upstream_in_flight\{priority="cancel"\} (\d+)$/m.exec(metrics)?.[1])
}

/** A client whose next request goes out on a connection that it has used before, like that of the proxy. */
const keptConnection = async (t: TestContext, { url }: RunningProxy): Promise<Agent> => {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  t.after(() => agent.destroy())
  for (const _ of Array(4)) assert.equal(await send('GET', `${url}/me`, { agent }), 200)
  return agent
}

/** Go, in which Caddy is written, sends a request with this header again. */
const WITH_KEY = { 'Idempotency-Key': 'a' }

/** Of each proxy, for docs/deployment.md. */
const figures: Record<string, string | number>[] = []
after(() => {
  if (figures.length === PROXY_NAMES.length) writeFigures('proxies', figures, 'docs/deployment.md')
})

for (const name of PROXY_NAMES) {
  test(`behind ${name}`, async (t) => {
    if (!requires(t, name)) return
    const scene = await start(t, name)
    const { proxy, sandbox, replicas } = scene

    await t.test('no forged address is believed', () => checkForgedAddresses(proxy, sandbox, replicas))

    await t.test('a restart under load loses no cancel', async (t) => {
      const responses = await restartUnderLoad(t, scene, RESTARTS)
      assert.deepEqual(
        responses.filter((response) => response !== 202),
        [],
      )
      figures.push({ Proxy: name, Restarts: RESTARTS.length, Cancels: responses.length, Accepted: responses.length })
    })

    await t.test('a request with as many bytes of headers as the gateway accepts reaches it', async () => {
      assert.equal(await send('GET', `${proxy.url}/me`, { headers: { 'X-Padding': 'a'.repeat(16_000) } }), 200)
    })

    await t.test('a cancel whose replica dies gets a response', async (t) => {
      const agent = await keptConnection(t, proxy)
      assert.equal(await dieDuringCancel(scene, { agent, headers: WITH_KEY }), 502)
    })

    await t.test('no cancel was sent twice', () => assert.deepEqual(repeated(sandbox), []))
  })
}

/** A server that is ready, and sends 7 KiB of headers. The gateway sends at most 4 KiB of cookies. */
const startLargeServer = async (t: TestContext): Promise<string> => {
  const cookies = ['a', 'b'].map((name) => `${name}=${'a'.repeat(3500)}`)
  const server = createServer((_req, res) => res.writeHead(200, { 'Set-Cookie': cookies }).end())
  return `http://127.0.0.1:${await listenOn(t, server)}`
}

for (const name of PROXY_NAMES) {
  test(`behind ${name}, a response with large cookies arrives`, async (t) => {
    if (!requires(t, name)) return
    const proxy = await startProxy(t, name, await Promise.all([startLargeServer(t), startLargeServer(t)]))
    assert.equal(await send('GET', proxy.url), 200)
  })
}

test('HAProxy refuses HTTP/2, on which it tells clients to repeat a request whose replica has died', async (t) => {
  if (!requires(t, 'haproxy')) return
  const { url } = await startProxy(t, 'haproxy', await Promise.all([startLargeServer(t), startLargeServer(t)]))
  const session = connect(url)
  t.after(() => session.destroy())
  await assert.rejects(once(session, 'remoteSettings'), { code: 'ERR_HTTP2_ERROR' })
})

/** The effect on a cancel, if its replica dies and the operator left a line out or chose another value. */
const MISTAKES: Readonly<Record<string, readonly [ProxyName, readonly Edit[], number | string]>> = {
  'nginx may ask the next replica': ['nginx', [[/proxy_next_upstream off;/, '']], 'sent again'],
  'HAProxy repeats a request after any failure': [
    'haproxy',
    [[/retry-on conn-failure/, 'retry-on all-retryable-errors']],
    'sent again',
  ],
  'HAProxy keeps connections of clients': ['haproxy', [[/option httpclose/, '']], 'ECONNRESET'],
  'Caddy keeps connections to replicas': [
    'caddy',
    [
      [/keepalive off/, ''],
      [/lb_try_duration 2s/, 'lb_try_duration 20s'],
    ],
    'sent again',
  ],
  'Apache keeps connections of clients': ['apache', [[/KeepAlive Off/, '']], 'ECONNRESET'],
}

if (IS_LONG) {
  for (const [mistake, [name, edits, expected]] of Object.entries(MISTAKES)) {
    test(`where ${mistake}, a death leads to: ${expected}`, async (t) => {
      if (!requires(t, name)) return
      const scene = await start(t, name, edits)
      const agent = await keptConnection(t, scene.proxy)
      assert.equal(await dieDuringCancel(scene, { agent, headers: WITH_KEY }), expected)
    })
  }

  test('where Caddy checks no health, a restart loses cancels', async (t) => {
    if (!requires(t, 'caddy')) return
    const scene = await start(t, 'caddy', [[/\thealth_.*\n/g, '\n']])
    const responses = await restartUnderLoad(t, scene, [0])
    assert.notEqual(responses.filter((response) => response !== 202).length, 0)
  })

  test('where nginx is not reloaded, a restart loses cancels', async (t) => {
    if (!requires(t, 'nginx')) return
    const scene = await start(t, 'nginx')
    const responses = await restartUnderLoad(t, { ...scene, proxy: { ...scene.proxy, use: undefined } }, [0])
    assert.notEqual(responses.filter((response) => response !== 202).length, 0)
  })

  for (const name of PROXY_NAMES) {
    test(`behind ${name}, a cancel whose replica freezes gets a response in the end, and is sent once`, async (t) => {
      if (!requires(t, name)) return
      const scene = await start(t, name)
      const agent = await keptConnection(t, scene.proxy)
      const response = await dieDuringCancel(scene, { agent, headers: WITH_KEY }, 'SIGSTOP')
      assert.match(String(response), /^50[24]$/)
      assert.deepEqual(repeated(scene.sandbox), [])
    })
  }
}
