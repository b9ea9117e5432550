import assert from 'node:assert/strict'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { connect, createServer as createTlsServer, type TlsOptions } from 'node:tls'
import type { Sandbox } from '../../sandbox/src/server.ts'
import type { Env } from '../../src/config.ts'
import { createCertificate } from '../helpers/certificate.ts'
import { cancelDuringFault, describeResponse } from '../helpers/consistency.ts'
import { asOperator, baseEnv, CANARIES, startSandbox, temporaryFolder } from '../helpers/gateway.ts'
import { listenOn } from '../helpers/ports.ts'
import { type RunningGateway, startProcess } from '../helpers/process.ts'
import { checkTable, type FaultRow } from '../helpers/reliability-doc.ts'
import { type FaultProxy, NETWORK_FAULTS, type NetworkFault, startFaultProxy } from '../helpers/upstream-proxy.ts'

// The real process with network faults between it and its upstream.

const TIMES = { UPSTREAM_TIMEOUT_MS: '1500', REQUEST_TIMEOUT_MS: '9000', UPSTREAM_MAX_ATTEMPTS: '2' }

const portOf = (url: string): number => Number(new URL(url).port)

interface Route {
  readonly gateway: RunningGateway
  readonly sandbox: Sandbox
  readonly proxy: FaultProxy
}

/** A gateway whose calls go through a proxy to a sandbox. */
const startRoute = async (
  t: TestContext,
  env: Env,
  tls?: { readonly key: string; readonly cert: string },
): Promise<Route> => {
  const folder = await temporaryFolder(t)
  const sandbox = await startSandbox(t, { tls })
  const proxy = await startFaultProxy(t, portOf(sandbox.url))
  const upstreamUrl = `${tls === undefined ? 'http' : 'https'}://localhost:${proxy.port}`
  const gateway = await startProcess(t, { ...baseEnv(upstreamUrl, join(folder, 'audit.db')), ...TIMES, ...env })
  return { gateway, sandbox, proxy }
}

const read = async ({ gateway }: Route, fault: string): Promise<FaultRow> => {
  const { status, body } = await gateway.api.get('/tasks').set(asOperator)
  return { fault, request: 'GET', answer: describeResponse(status, body), record: '–', upstream: '–' }
}

/** Later requests are served normally. */
const isWell = async (route: Route): Promise<void> => {
  const [row, { answer }] = [await cancelDuringFault(route, 'none'), await read(route, 'none')]
  assert.deepEqual([row.answer, row.record, answer], ['202 accepted', 'accepted', '200'])
}

/** Ends it, and looks through all that it said. */
const keptQuiet = async ({ gateway }: Route): Promise<void> => {
  gateway.kill('SIGTERM')
  const { code, stdout, stderr } = await gateway.ended
  assert.equal(code, 0)
  for (const canary of Object.values(CANARIES)) assert.ok(!(stdout + stderr).includes(canary))
}

const signatures = ['rpc-v1', 'acs3'] as const

const spoilt = async (route: Route, fault: NetworkFault): Promise<readonly FaultRow[]> => {
  const rows: FaultRow[] = []
  route.proxy.setFault(fault, 'CancelTask')
  rows.push(await cancelDuringFault(route, fault))
  route.proxy.setFault(fault, 'QueryTaskList')
  rows.push(await read(route, fault))
  route.proxy.setFault(null)
  await isWell(route)
  return rows
}

/** No call reaches the upstream, so the task cannot be read afterwards either. */
const cutOff = async (route: Route, fault: NetworkFault): Promise<FaultRow> => {
  route.proxy.setFault(fault)
  const row = await cancelDuringFault(route, `${fault}, also for later queries`)
  route.proxy.setFault(null)
  await isWell(route)
  return row
}

const refused = async (route: Route): Promise<readonly FaultRow[]> => {
  await route.proxy.redirect(null)
  const rows = [await cancelDuringFault(route, 'connection refused'), await read(route, 'connection refused')]
  await route.proxy.redirect(portOf(route.sandbox.url))
  await isWell(route)
  return rows
}

test('on a spoilt way to upstream the answer, the record and upstream agree', { concurrency: 2 }, async (t) => {
  const found = await Promise.all(
    signatures.map(async (signature) => {
      const rows: FaultRow[] = []
      await t.test(`signed by ${signature}`, async (t) => {
        const route = await startRoute(t, { UPSTREAM_SIGNATURE: signature })
        rows.push(...(await refused(route)))
        for (const fault of NETWORK_FAULTS) rows.push(...(await spoilt(route, fault)))
        for (const fault of ['black hole', 'response lost'] as const) rows.push(await cutOff(route, fault))
        await keptQuiet(route)
      })
      return rows
    }),
  )
  const [rows = [], others] = found
  assert.deepEqual(others, rows)
  await t.test('and the document tells what was found', () => checkTable('way', rows))
})

/** A server that speaks TLS, and nothing of upstream's. */
const startStranger = (t: TestContext, options: TlsOptions): Promise<number> => listenOn(t, createTlsServer(options))

/** The TLS version that a client negotiates if it trusts this server and accepts every version. */
const protocolOf = async (t: TestContext, port: number, ca: string): Promise<string | null> => {
  const socket = connect({ port, host: 'localhost', ca, minVersion: 'TLSv1', ciphers: 'DEFAULT@SECLEVEL=0' })
  t.after(() => socket.destroy())
  await once(socket, 'secureConnect')
  return socket.getProtocol()
}

test('where upstream cannot prove who it is, nothing is sent', async (t) => {
  const [own, expired, wrongName, unknown] = [
    createCertificate(),
    createCertificate('expired'),
    createCertificate('wrong name'),
    createCertificate(),
  ]
  const trusted = join(await temporaryFolder(t), 'authorities.pem')
  await writeFile(trusted, [own, expired, wrongName].map(({ cert }) => cert).join(''))
  const route = await startRoute(t, { NODE_EXTRA_CA_CERTS: trusted }, own)
  await isWell(route)
  const old = { ...own, minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const
  const rows: FaultRow[] = []
  for (const [fault, options] of [
    ['TLS: certificate expired', expired],
    ['TLS: certificate of another name', wrongName],
    ['TLS: unknown authority', unknown],
    ['TLS 1.1 only', old],
  ] as const) {
    const port = await startStranger(t, options)
    if (options === old) assert.equal(await protocolOf(t, port, own.cert), 'TLSv1.1')
    await route.proxy.redirect(port)
    rows.push(await cancelDuringFault(route, fault), await read(route, fault))
    await route.proxy.redirect(portOf(route.sandbox.url))
    await isWell(route)
  }
  await route.proxy.redirect(portOf(route.sandbox.url))
  route.proxy.setFault('black hole')
  rows.push(
    await cancelDuringFault(route, 'TLS handshake not answered'),
    await read(route, 'TLS handshake not answered'),
  )
  route.proxy.setFault(null)
  await isWell(route)
  await keptQuiet(route)
  checkTable('tls', rows)
})

/** No resolver is asked for a name of which a part has more than 63 characters. */
const NO_NAME = `https://${'x'.repeat(64)}.example`

test('where its name leads nowhere, nothing is sent', async (t) => {
  const route = await startRoute(t, { UPSTREAM_URL: NO_NAME })
  const rows = [await cancelDuringFault(route, 'name does not resolve'), await read(route, 'name does not resolve')]
  await keptQuiet(route)
  checkTable('name', rows)
})

/** The wall clock of a process, which jumps by an hour, forward first and then back by two, whenever it is told to. */
const JUMPING_CLOCK = `
  const now = Date.now
  let ahead = 0
  Date.now = () => now() + ahead
  process.on('SIGUSR2', () => {
    ahead = ahead > 0 ? -3_600_000 : 3_600_000
  })`

test('where the clock jumps, one attempt is lost and no cancel', async (t) => {
  const preload = join(await temporaryFolder(t), 'clock.mjs')
  await writeFile(preload, JUMPING_CLOCK)
  const route = await startRoute(t, { NODE_OPTIONS: `--import=${preload}` })
  await isWell(route)
  const rows: FaultRow[] = []
  for (const fault of ['clock an hour ahead', 'clock an hour behind']) {
    route.gateway.kill('SIGUSR2')
    rows.push(await cancelDuringFault(route, fault), await read(route, fault))
    await isWell(route)
  }
  await keptQuiet(route)
  checkTable('clock', rows)
})
