import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { type TestContext, test } from 'node:test'
import { asOperator, cancelCalls, startGateway, temporaryFolder } from '../helpers/gateway.ts'
import { NGINX_ADDRESS, startNginx } from '../helpers/nginx.ts'
import { prepare, startProcess } from '../helpers/process.ts'
import { parseAnswer, type RawAnswer } from '../helpers/raw-http.ts'
import { requires } from '../helpers/requirements.ts'

const CLIENT_ADDRESS = '127.0.0.2'
const APPENDS = 'proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;'
const SENDS_ONCE = 'proxy_next_upstream off;'

/** A cancel from an address of its own, with further header lines as they are. */
const cancelFrom = async (url: string, taskNo: string, lines: readonly string[] = []): Promise<RawAnswer> => {
  const socket = connect({ host: '127.0.0.1', port: Number(new URL(url).port), localAddress: CLIENT_ADDRESS })
  const key = `X-API-Key: ${asOperator['x-api-key']}`
  socket.write([`DELETE /tasks/${taskNo} HTTP/1.1`, 'Host: a', 'Connection: close', key, ...lines, '', ''].join('\r\n'))
  return parseAnswer(await text(socket))
}

interface Scene {
  readonly trustProxy: string
  readonly lines?: readonly string[]
}

/** A gateway behind nginx, and which address goes upstream and on record for a cancel with these header lines. */
const start = async (t: TestContext, { trustProxy, lines = [APPENDS, SENDS_ONCE] }: Scene) => {
  const { url, upstream, record } = await startGateway(t, { env: { TRUST_PROXY: trustProxy } })
  const nginx = await startNginx(t, { gateways: [url], lines })
  return async (...headers: readonly string[]) => {
    const taskNo = upstream.addTask()
    assert.equal((await cancelFrom(nginx, taskNo, headers)).status, 202)
    const { clientIp, peerIp } = await record(taskNo)
    return { sent: cancelCalls(upstream).at(-1)?.params.UserClientIp, clientIp, peerIp }
  }
}

/** Header lines in which a client states its own address; they are ignored. */
const FORGED: readonly (readonly string[])[] = [
  [],
  ['X-Forwarded-For: 6.6.6.6'],
  ['X-Forwarded-For: 6.6.6.6', 'X-Forwarded-For: 7.7.7.7'],
  ['X-Forwarded-For: 6.6.6.6', 'X-Forwarded-For:', `X-Forwarded-For: ${NGINX_ADDRESS}`],
  [`X-Forwarded-For: 6.6.6.6, ${NGINX_ADDRESS}`],
  [`X-Forwarded-For: 6.6.6.6, ::ffff:${NGINX_ADDRESS}, [::ffff:7f00:3]:80`],
  ['X-Forwarded-For: 2001:db8::1'],
  ['X-Forwarded-For: [2001:DB8::1]:443'],
  ['X-Forwarded-For: ::ffff:6.6.6.6'],
  ['X-Forwarded-For: fe80::1%eth0'],
  ['X-Forwarded-For: 6.6.6.6:80'],
  ['X-Forwarded-For: ::1'],
  ['X-Forwarded-For: unknown'],
  ['X-Forwarded-For: "6.6.6.6"'],
  ['X-Forwarded-For: 6.6.6.6,'],
  ['X-Forwarded-For: ,,,'],
  ['X-Forwarded-For:'],
  ['X-Forwarded-For: garbage \t; drop table'],
  ['X-Forwarded-For: \xff\xfe'],
  [`X-Forwarded-For: ${'6.6.6.6, '.repeat(300)}6.6.6.6`],
  ['x-forwarded-for: 6.6.6.6'],
  ['X_Forwarded_For: 6.6.6.6'],
  ['Forwarded: for=6.6.6.6', 'X-Real-IP: 6.6.6.6', 'X-Client-IP: 6.6.6.6', 'True-Client-IP: 6.6.6.6'],
  ['Connection: close, X-Forwarded-For', 'X-Forwarded-For: 6.6.6.6'],
]

test('behind nginx, with nothing but nginx trusted, upstream and the record get the true address', async (t) => {
  if (!requires(t, 'nginx')) return
  const addressesFor = await start(t, { trustProxy: NGINX_ADDRESS })
  for (const lines of FORGED) {
    await t.test(lines.join(' and ').slice(0, 60) || 'no header', async () => {
      const expected = { sent: CLIENT_ADDRESS, clientIp: CLIENT_ADDRESS, peerIp: NGINX_ADDRESS }
      assert.deepEqual(await addressesFor(...lines), expected)
    })
  }
})

/** Mistakes that the README warns of, and the address that is used then. */
const MISTAKES: Readonly<Record<string, Scene & { readonly taken: string }>> = {
  'nginx is not trusted': { trustProxy: '', taken: NGINX_ADDRESS },
  'more than nginx is trusted': { trustProxy: '127.0.0.0/8', taken: '6.6.6.6' },
  'nginx passes on what the client says': { trustProxy: NGINX_ADDRESS, lines: [SENDS_ONCE], taken: '6.6.6.6' },
}

for (const [mistake, { taken, ...scene }] of Object.entries(MISTAKES)) {
  test(`where ${mistake}, the address ${taken} is taken for the client's`, async (t) => {
    if (!requires(t, 'nginx')) return
    const addressesFor = await start(t, scene)
    assert.equal((await addressesFor('X-Forwarded-For: 6.6.6.6')).sent, taken)
  })
}

for (const [how, lines, sent, status] of [
  ['with proxy_next_upstream off it is sent once', [APPENDS, SENDS_ONCE], 1, 502],
  ['without, nginx sends it again', [APPENDS], 2, 202],
] as const) {
  test(`when a gateway dies over a cancel, ${how}`, async (t) => {
    if (!requires(t, 'nginx')) return
    const { sandbox, env } = await prepare(t)
    const first = await startProcess(t, env)
    const second = await startProcess(t, { ...env, AUDIT_URL: `sqlite:${join(await temporaryFolder(t), 'audit.db')}` })
    const nginx = await startNginx(t, { gateways: [first.url, second.url], lines })
    sandbox.fault('CancelTask', { reply: 'stall' })
    const called = sandbox.nextCall('CancelTask')
    const answer = cancelFrom(nginx, sandbox.addTask())
    await called
    first.kill('SIGKILL')
    assert.equal((await answer).status, status)
    assert.equal(cancelCalls(sandbox).length, sent)
  })
}
