import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { test } from 'node:test'
import { openSqliteStore } from '../../src/audit/sqlite.ts'
import { eventually, startGateway } from '../helpers/gateway.ts'
import { sendRaw, statusAndCode } from '../helpers/raw-http.ts'

const CLOSE = 'Connection: close\r\n\r\n'

/** Names that a browser on the operator's machine, a scraper or a probe can use, and whether they are served. */
const HOSTS: readonly (readonly [host: string, isServed: boolean])[] = [
  ['127.0.0.1:9464', true],
  ['10.1.2.3:9464', true],
  ['203.0.113.7', true],
  ['[::1]:9464', true],
  ['[2001:db8::1]', true],
  ['localhost:9464', true],
  ['LOCALHOST', true],
  ['metrics.localhost', true],
  ['gateway:9464', true],
  ['gateway-metrics', true],
  ['gateway-metrics.shop.svc:9464', true],
  ['gateway-metrics.shop.svc.cluster.local', true],
  ['gateway-metrics.shop.svc.cluster.local.:9464', true],
  ['10-1-2-3.shop.pod.cluster.local:9464', true],
  ['ip-10-1-2-3.eu-west-1.compute.internal:9464', true],
  ['evil.example:9464', false],
  ['EVIL.example', false],
  ['evil.example.', false],
  ['localhost.evil.example', false],
  ['127.0.0.1.evil.example', false],
  ['127.0.0.1.nip.io', false],
  ['gateway.svc.evil.example', false],
  ['svc.cluster.local.evil.example', false],
  ['evilsvc.example', false],
  ['cluster.local', false],
  ['cluster.local.', false],
  ['example.', false],
  ['gateway-metrics.shop.svc.cluster.local..', false],
  ['evil.local', false],
  ['localhost@evil.example', false],
  ['evil.example@localhost', false],
  ['evil.example:80:9464', false],
  ['evil.example#localhost', false],
  ['evil.example/localhost', false],
  ['[evil.example]', false],
  ['xn--vil-dma.example', false],
]

test('the admin port serves only names that no page on the web can have', async (t) => {
  const { adminUrl } = await startGateway(t)
  for (const [host, isServed] of HOSTS) {
    for (const path of ['/metrics', '/livez', '/readyz']) {
      await t.test(`${path} of ${host} is ${isServed ? 'served' : 'refused'}`, async () => {
        const answer = await sendRaw(adminUrl, `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n${CLOSE}`)
        if (isServed) return assert.equal(answer.status, 200)
        assert.deepEqual(statusAndCode(answer), [421, 'misdirected'])
        assert.doesNotMatch(answer.body, /gateway_/)
      })
    }
  }
})

for (const [name, bytes, expected] of [
  ['two names', `GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n${CLOSE}`, 400],
  ['no name', `GET /metrics HTTP/1.1\r\n${CLOSE}`, 400],
  ['a target of another host', `GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost\r\n${CLOSE}`, 421],
  ['a target of this host', `GET http://localhost/metrics HTTP/1.1\r\nHost: evil.example\r\n${CLOSE}`, 200],
  ['HTTP/1.0 without a name', 'GET /livez HTTP/1.0\r\n\r\n', 200],
  ['rubbish', 'HELLO\r\n\r\n', 400],
  ['a target that is none', `GET //[ HTTP/1.1\r\nHost: localhost\r\n${CLOSE}`, 400],
  ['a body that is too large', `GET /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n${CLOSE}`, 413],
] as const) {
  test(`the admin port answers ${name} with ${expected}`, async (t) => {
    const { adminUrl } = await startGateway(t)
    assert.equal((await sendRaw(adminUrl, bytes)).status, expected)
  })
}

test('a name that ADMIN_HOST gives is served', async (t) => {
  const { adminUrl } = await startGateway(t, { env: { ADMIN_HOST: 'localhost' } })
  assert.equal((await sendRaw(adminUrl, `GET /metrics HTTP/1.1\r\nHost: localhost\r\n${CLOSE}`)).status, 200)
})

test('probes are answered on the admin port as on the other, and neither logged nor counted', async (t) => {
  const { adminUrl, api, logLines } = await startGateway(t)
  const before = logLines.length
  for (const [path, body] of [
    ['/livez', { status: 'ok' }],
    ['/readyz', { status: 'ready' }],
  ] as const) {
    const answer = await fetch(adminUrl + path)
    assert.deepEqual([answer.status, await answer.json()], [200, body])
    assert.equal((await fetch(adminUrl + path, { method: 'HEAD' })).status, 200)
  }
  assert.equal(logLines.length, before)
  assert.doesNotMatch(await (await fetch(`${adminUrl}/metrics`)).text(), /route="\/(livez|readyz|metrics)"/)
  await api.get('/livez').expect(200)
})

test('a gateway that can not record is live and not ready on the admin port too', async (t) => {
  const openStore = async (path: string) => ({
    ...(await openSqliteStore(path)),
    probe: () => Promise.reject(new Error('disk full')),
  })
  const { adminUrl } = await startGateway(t, { overrides: { openStore } })
  assert.equal((await fetch(`${adminUrl}/livez`)).status, 200)
  const ready = await fetch(`${adminUrl}/readyz`, { headers: { 'accept-language': 'zh' } })
  assert.equal(ready.status, 503)
  assert.match(await ready.text(), /"code":"audit-unavailable"/)
  assert.equal(ready.headers.get('content-language'), 'zh')
})

test('another method on a path of the admin port is refused with those that it knows', async (t) => {
  const { adminUrl } = await startGateway(t)
  for (const path of ['/metrics', '/livez', '/readyz']) {
    const answer = await fetch(adminUrl + path, { method: 'POST' })
    assert.deepEqual([answer.status, answer.headers.get('allow')], [405, 'GET, HEAD'])
  }
})

test('no page of another origin may read the metrics', async (t) => {
  const { adminUrl } = await startGateway(t, { env: { CORS_ORIGINS: 'https://app.example.com' } })
  const answer = await fetch(`${adminUrl}/metrics`, { headers: { origin: 'https://app.example.com' } })
  assert.equal(answer.headers.get('access-control-allow-origin'), null)
  assert.equal(answer.headers.get('cross-origin-resource-policy'), 'same-origin')
})

test('one peer can not take all connections of the admin port', async (t) => {
  const { adminUrl } = await startGateway(t)
  const { hostname, port } = new URL(adminUrl)
  const openAll = Array.from({ length: 100 }, async () => {
    const socket = connect({ host: hostname, port: Number(port), localAddress: '127.0.0.3' }).on('error', () => {})
    t.after(() => socket.destroy())
    const closed = once(socket, 'close')
    await once(socket, 'connect')
    return { socket, closed }
  })
  const opened = await Promise.all(openAll)
  let closed = 0
  for (const it of opened) it.closed.then(() => (closed += 1))
  await eventually(() => (closed > 0 ? true : undefined))
  const metrics = await (await fetch(`${adminUrl}/metrics`)).text()
  assert.match(metrics, /^gateway_connections_closed_total\{port="admin",reason="address-limit"\} \d\d$/m)
})
