import assert from 'node:assert/strict'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { CLIENT_ADDRESS, cancelFromClient, forgedLines } from '../helpers/forged-addresses.ts'
import { cancelCalls, startGateway, temporaryFolder } from '../helpers/gateway.ts'
import { NGINX_ADDRESS, startNginx } from '../helpers/nginx.ts'
import { prepare, startProcess } from '../helpers/process.ts'
import { requires } from '../helpers/requirements.ts'

const APPENDS = 'proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;'
const SENDS_ONCE = 'proxy_next_upstream off;'

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
    assert.equal((await cancelFromClient(nginx, taskNo, headers)).status, 202)
    const { clientIp, peerIp } = await record(taskNo)
    return { sent: cancelCalls(upstream).at(-1)?.params.UserClientIp, clientIp, peerIp }
  }
}

test('behind nginx, with nothing but nginx trusted, upstream and the record get the true address', async (t) => {
  if (!requires(t, 'nginx')) return
  const addressesFor = await start(t, { trustProxy: NGINX_ADDRESS })
  for (const lines of forgedLines(NGINX_ADDRESS)) {
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
    const answer = cancelFromClient(nginx, sandbox.addTask())
    await called
    first.kill('SIGKILL')
    assert.equal((await answer).status, status)
    assert.equal(cancelCalls(sandbox).length, sent)
  })
}
