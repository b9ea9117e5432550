import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { Env } from '../../src/config.ts'
import { buildGateway } from '../helpers/build.ts'
import { createCertificate } from '../helpers/certificate.ts'
import {
  createDistantNetwork,
  DISTANT_ADDRESSES,
  type DistantNetwork,
  LOCAL_ADDRESS,
  UNREACHABLE_ADDRESSES,
  waitForLine,
} from '../helpers/distant-network.ts'
import { asOperator, baseEnv, temporaryFolder } from '../helpers/gateway.ts'
import { AUDIENCE, createIssuerKey, secondsFromNow, sign } from '../helpers/issuer.ts'
import { type Database, usePostgres } from '../helpers/postgres.ts'
import { ROOT } from '../helpers/process.ts'
import { requires } from '../helpers/requirements.ts'
import { parseObject } from '../helpers/signed-call.ts'

// The gateway as a process, in a network where each party has several addresses, some of which never respond, and the
// others are a round trip between continents away. Real packets are delayed and lost.

const servers = usePostgres()

const [FAR] = DISTANT_ADDRESSES

const HOSTS = {
  // The system sorts IPv6 without a route last, so that Node gives up the other address after its time.
  'without-route.test': [FAR, UNREACHABLE_ADDRESSES.withoutRoute[0]],
  'many-without-route.test': [...DISTANT_ADDRESSES, ...UNREACHABLE_ADDRESSES.withoutRoute],
  'lost.test': [FAR, UNREACHABLE_ADDRESSES.ipv6[0]],
  'many-lost.test': [...DISTANT_ADDRESSES, ...UNREACHABLE_ADDRESSES.ipv6],
  'third.test': [...UNREACHABLE_ADDRESSES.ipv4.slice(0, 2), FAR],
  'fourth.test': [...UNREACHABLE_ADDRESSES.ipv4.slice(0, 3), FAR],
  // IPv6, IPv4, IPv6, IPv4.
  'both.test': [UNREACHABLE_ADDRESSES.ipv4[0], FAR, ...UNREACHABLE_ADDRESSES.ipv6.slice(0, 2)],
}

const start = async (t: TestContext, roundTripMs: number): Promise<DistantNetwork> => {
  const network = await createDistantNetwork(t, roundTripMs, HOSTS)
  const keys = baseEnv('', '')
  const sandbox = network.spawn(process.execPath, [join(ROOT, 'sandbox/bin/sandbox.ts')], {
    SANDBOX_HOST: LOCAL_ADDRESS,
    SANDBOX_PORT: '8089',
    SANDBOX_ACCESS_KEY_ID: keys.ALIBABA_CLOUD_ACCESS_KEY_ID,
    SANDBOX_ACCESS_KEY_SECRET: keys.ALIBABA_CLOUD_ACCESS_KEY_SECRET,
  })
  await waitForLine(sandbox, /^Domain API sandbox/)
  return network
}

const startGateway = async (
  t: TestContext,
  network: DistantNetwork,
  env: Env,
  entry = join(ROOT, 'src/server.ts'),
): Promise<string> => {
  const auditPath = join(await temporaryFolder(t), 'audit.db')
  const usual = { ...baseEnv('', auditPath), UPSTREAM_ALLOW_HTTP: 'true', ...env }
  const gateway = network.spawn(process.execPath, [entry], usual)
  return String(parseObject(await waitForLine(gateway, /"msg":"listening"/)).address)
}

const REQUEST = `
  const [url, method, headers] = process.argv.slice(1)
  const response = await fetch(url, { method, headers: JSON.parse(headers) })
  const body = await response.json()
  console.log(JSON.stringify({ ...body, status: response.status }))
`

const request = async (network: DistantNetwork, url: string, method: string, headers = {}) => {
  const script = ['--input-type=module', '-e', REQUEST, url, method, JSON.stringify(headers)]
  return parseObject(await network.run(process.execPath, script))
}

const ROUND_TRIPS = (process.env.ROUND_TRIPS ?? '300').split(',').map(Number)

for (const roundTripMs of ROUND_TRIPS) {
  test(`with a round trip of ${roundTripMs} ms a cancel reaches the upstream, in each order of its addresses`, async (t) => {
    if (!requires(t, 'namespace')) return
    const network = await start(t, roundTripMs)
    const hosts = Object.keys(HOSTS)
    const codes = await Promise.all(
      hosts.map(async (host) => {
        const url = await startGateway(t, network, { UPSTREAM_URL: `http://${host}:8089` })
        const { code } = await request(network, `${url}/tasks/none`, 'DELETE', asOperator)
        return [host, code]
      }),
    )
    // The upstream has no such task: it was asked.
    assert.deepEqual(
      codes,
      hosts.map((host) => [host, 'task-not-found']),
    )
  })
}

/** Key set over HTTPS, trace collector, and PostgreSQL on TCP, for one name. */
const PARTIES = `
  const [here, certificate, keys, postgres] = process.argv.slice(1)
  const [http, https, net] = await Promise.all(['http', 'https', 'net'].map((name) => import('node:' + name)))
  https.createServer(JSON.parse(certificate), (req, res) => res.end(keys)).listen(8443, here)
  http.createServer((req, res) => {
    console.log('spans ' + req.url)
    req.resume().once('end', () => res.setHeader('content-type', 'application/json').end('{}'))
  }).listen(4318, here)
  net.createServer((near) => {
    const far = net.connect(postgres)
    for (const socket of [near, far]) socket.on('error', () => socket.destroy())
    near.pipe(far).pipe(near)
  }).listen(5432, here, () => console.log('ready'))
`

const startParties = async (t: TestContext, network: DistantNetwork, database: Database, socketPath: string) => {
  const [certificate, key] = [createCertificate(undefined, 'both.test'), await createIssuerKey()]
  const keys = JSON.stringify({ keys: [key.publicJwk] })
  const scripts = ['--input-type=module', '-e', PARTIES, LOCAL_ADDRESS, JSON.stringify(certificate), keys, socketPath]
  const parties = network.spawn(process.execPath, scripts)
  await waitForLine(parties, /^ready/)
  const flags = ['--port', '6379', '--bind', LOCAL_ADDRESS, '--protected-mode', 'no', '--save', '']
  await waitForLine(network.spawn('redis-server', flags), /Ready to accept connections/)
  const caPath = join(await temporaryFolder(t), 'ca.pem')
  await writeFile(caPath, certificate.cert)
  const issuer = 'https://issuer.example'
  const token = await sign(key, {
    iss: issuer,
    aud: AUDIENCE,
    sub: 'ann',
    exp: secondsFromNow(60),
    scope: 'tasks:cancel',
  })
  const atBoth = (url: string): string => url.replace(/@[^/]*/, '@both.test:5432')
  const env = {
    UPSTREAM_URL: 'http://both.test:8089',
    NODE_EXTRA_CA_CERTS: caPath,
    JWT_ISSUER: issuer,
    JWT_AUDIENCE: AUDIENCE,
    JWT_JWKS_URL: 'https://both.test:8443/keys',
    OTEL_EXPORTER_OTLP_ENDPOINT: 'http://both.test:4318',
    REDIS_URL: 'redis://both.test:6379',
    RATE_LIMIT_STORE_FAILURE: 'deny',
    AUDIT_URL: atBoth(database.url('gateway')),
    AUDIT_ADMIN_URL: atBoth(database.url('record_owner')),
  }
  return { parties, env, bearer: { authorization: `Bearer ${token}` } }
}

test('with a round trip of 320 ms issuer, Redis, PostgreSQL and trace collector serve the compiled gateway', async (t) => {
  if (!requires(t, 'namespace') || !requires(t, 'redis') || !requires(t, 'postgres')) return
  const network = await start(t, 320)
  const server = await servers(t)
  const { parties, env, bearer } = await startParties(t, network, await server.database(), server.socketPath)
  const url = await startGateway(t, network, env, await buildGateway())
  const spans = waitForLine(parties, /^spans/)
  const cancel = await request(network, `${url}/tasks/none`, 'DELETE', bearer)
  const [record, ready] = [
    await request(network, `${url}/cancellations/${cancel.cancellationId}`, 'GET', bearer),
    await request(network, `${url}/readyz`, 'GET'),
  ]
  assert.deepEqual([cancel.code, record.caller, ready.rateLimitStore], ['task-not-found', 'ann', 'redis'])
  assert.equal(await spans, 'spans /v1/traces')
})
