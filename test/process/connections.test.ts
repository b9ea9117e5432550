import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { prepare, startProcess } from '../helpers/process.ts'

const MIB = 2 ** 20
const CONNECTIONS = 20
/** Far more than the connections may have unanswered together, and enough for a leak to show. */
const REQUESTS = 4000

/** Sends the same request for as long as the other side takes it, and reads nothing. */
const flood = async (t: TestContext, url: string, request: string): Promise<Socket> => {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname).on('error', () => {})
  t.after(() => socket.destroy())
  await once(socket, 'connect')
  const requests = request.repeat(1000)
  const more = (): void => void socket.write(requests)
  socket.pause().on('drain', more)
  more()
  return socket
}

const readMetrics = async (adminUrl: string) => {
  const text = await (await fetch(`${adminUrl}/metrics`)).text()
  const sum = (name: string): number =>
    [...text.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'gm'))].reduce(
      (n, [, value]) => n + Number(value),
      0,
    )
  return { requests: sum('gateway_requests_total'), residentBytes: sum('process_resident_memory_bytes') }
}

/** Requests that need no credentials, one line each. */
const ASKED: Readonly<Record<string, string>> = {
  'a page that needs credentials': 'GET /me HTTP/1.1\r\nHost: a\r\n\r\n',
  'a cancel without credentials': 'DELETE /tasks/x HTTP/1.1\r\nHost: a\r\n\r\n',
  'a page that does not exist': 'GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n',
}

for (const [name, request] of Object.entries(ASKED)) {
  test(`connections that ask for ${name} and read nothing take a bounded amount of memory`, async (t) => {
    const { env } = await prepare(t)
    const gateway = await startProcess(t, env, { execArgv: ['--max-old-space-size=256'] })
    const adminUrl = String((await gateway.line('listening')).adminAddress)
    await fetch(`${gateway.url}/livez`)
    const idle = await readMetrics(adminUrl)

    await Promise.all(Array.from({ length: CONNECTIONS }, () => flood(t, gateway.url, request)))

    for (let answered = 0; answered < REQUESTS; ) {
      assert.equal((await fetch(`${gateway.url}/livez`)).status, 200)
      assert.equal((await fetch(`${adminUrl}/livez`)).status, 200)
      const { requests, residentBytes } = await readMetrics(adminUrl)
      const grownMib = (residentBytes - idle.residentBytes) / MIB
      assert.ok(grownMib < 200, `${Math.round(grownMib)} MiB more than idle`)
      answered = requests - idle.requests
    }
  })
}

/** More than Node lets wait by itself. A system can permit fewer than the gateway asks for. */
const WAITING = Math.min(1000, Number(readFileSync('/proc/sys/net/core/somaxconn', 'utf8')))

test('connections that arrive while the event loop is busy wait, and are served', async (t) => {
  const { env } = await prepare(t)
  const gateway = await startProcess(t, env)
  const { hostname, port } = new URL(gateway.url)
  gateway.kill('SIGSTOP')
  const sockets = Array.from({ length: WAITING }, () => connect(Number(port), hostname))
  t.after(() => {
    for (const socket of sockets) socket.destroy()
  })
  await Promise.all(sockets.map((socket) => once(socket, 'connect', { signal: t.signal })))

  gateway.kill('SIGCONT')
  const answers = sockets.map(async (socket) => {
    socket.write('GET /livez HTTP/1.1\r\nHost: a\r\n\r\n')
    const [answer] = await once(socket, 'data')
    return String(answer).slice(0, 12)
  })
  assert.deepEqual(new Set(await Promise.all(answers)), new Set(['HTTP/1.1 200']))
})
