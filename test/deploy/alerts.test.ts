import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { parse } from 'yaml'
import { openSqliteStore } from '../../src/audit/sqlite.ts'
import type { OpenedStore } from '../../src/audit/store.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { startCredentialServer } from '../helpers/credential-server.ts'
import {
  API_KEYS,
  asAuditor,
  asOperator,
  asReader,
  CANARIES,
  type Started,
  type StartOptions,
  startGateway,
  temporaryFolder,
} from '../helpers/gateway.ts'
import { startIssuer } from '../helpers/issuer.ts'
import { closedPort } from '../helpers/ports.ts'
import { prepare, ROOT, startProcess } from '../helpers/process.ts'
import { ALERT_RULES_PATH, promtool, startPrometheus } from '../helpers/prometheus.ts'
import { sendLine } from '../helpers/raw-http.ts'
import { requires } from '../helpers/requirements.ts'

const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8')

const ruleNames = (): readonly string[] =>
  [...readFileSync(ALERT_RULES_PATH, 'utf8').matchAll(/^ +- alert: (\w+)$/gm)].map(([, name = '']) => name)

test('the rules are sound, and fire in the cases that they were written for', (t) => {
  if (!requires(t, 'prometheus')) return
  assert.match(promtool('check', 'rules', 'alerts.yaml'), /SUCCESS/)
  assert.match(promtool('test', 'rules', 'alerts.test.yaml'), /SUCCESS/)
  assert.match(promtool('check', 'config', 'prometheus.yaml'), /SUCCESS/)
})

interface Panel {
  readonly title: string
  readonly description: string
  readonly targets: readonly { readonly expr: string }[]
  readonly links: readonly { readonly url: string }[]
}

const panels = (): readonly Panel[] => JSON.parse(read('deploy/grafana/dashboard.json')).panels

test('each query of the dashboard is valid for Prometheus', async (t) => {
  if (!requires(t, 'prometheus')) return
  const queries = panels().flatMap(({ targets }) =>
    targets.map(({ expr }) => expr.replaceAll('$__rate_interval', '1m')),
  )
  const rules = queries.map((expr, index) => ({ record: `dashboard:query:${index}`, expr }))
  const path = join(await temporaryFolder(t), 'rules.json')
  await writeFile(path, JSON.stringify({ groups: [{ name: 'dashboard', rules }] }))
  assert.ok(rules.length > 30)
  assert.match(promtool('check', 'rules', path), /SUCCESS/)
})

test('each panel of the dashboard is described, and links to sections of the runbook that exist', () => {
  const anchors = ruleNames().map((name) => `$\{runbook}#${name.toLowerCase()}`)
  for (const { title, description, links } of panels()) {
    assert.match(description, /\.$/, title)
    assert.deepEqual(
      links.map(({ url }) => url).filter((url) => !anchors.includes(url)),
      [],
      title,
    )
  }
})

test('the runbook contains meaning and actions for each alert, and for no other', () => {
  const described = [...read('docs/operations.md').matchAll(/^### (Gateway\w+)\n\n(.+)/gm)]
  assert.deepEqual(described.map(([, name]) => name).sort(), [...ruleNames()].sort())
})

const ASK_EVERY_MS = 400
/** Some twenty gateways start meanwhile, and a Prometheus. */
const PATIENCE_MS = 90_000

/** Requests that are sent repeatedly, so that counters move while Prometheus scrapes. */
type Ask = (started: Started) => Promise<unknown>

const cancel: Ask = ({ api, upstream }) => api.delete(`/tasks/${upstream.addTask()}`).set(asOperator)

/** A gateway with a fault, and the requests to it in the meantime. */
const ail = async (
  t: TestContext,
  options: StartOptions,
  ask: Ask,
  prepareIt: (it: Started) => void = () => undefined,
) => {
  const started = await startGateway(t, options)
  prepareIt(started)
  return { url: started.adminUrl, ask: () => ask(started) }
}

const withStore = (change: (store: OpenedStore) => Partial<OpenedStore>): StartOptions => ({
  overrides: {
    openStore: async (path) => {
      const store = await openSqliteStore(path)
      return { ...store, ...change(store) }
    },
  },
})

const fails = () => Promise.reject(new Error('no space'))

/** Where no log line can be written. */
const FULL = {
  write: () => {
    throw new Error('no space')
  },
}

/** More than have a place in memory. */
const MANY_OPEN = Array.from({ length: 10_100 }, (_, seq) => {
  const requestedAtMs = Date.now() - 60_000
  return { id: `c-${seq}`, taskNo: `t-${seq}`, requestedAtMs, seq, instanceId: 'other', outcome: 'accepted' as const }
})

interface Ailing {
  readonly url: string
  ask(): Promise<unknown>
}

/** How each alert is provoked on a gateway of its own. */
const AILMENTS: Readonly<Record<string, (t: TestContext) => Promise<Ailing>>> = {
  GatewayDown: async () => ({ url: `http://127.0.0.1:${await closedPort()}`, ask: async () => undefined }),
  GatewayNotReady: (t) =>
    ail(
      t,
      withStore(() => ({ probe: fails })),
      async () => undefined,
    ),
  GatewayBug: (t) =>
    ail(
      t,
      withStore(() => ({ list: async () => JSON.parse('null') })),
      ({ api }) => api.get('/cancellations').set(asAuditor),
    ),
  GatewayRecordFails: (t) =>
    ail(
      t,
      withStore(() => ({ append: fails })),
      cancel,
    ),
  GatewayOutcomesUnwritten: (t) =>
    ail(
      t,
      withStore(({ append }) => ({
        append: (intents, outcomes) => (outcomes.length > 0 ? fails() : append(intents, [])),
      })),
      cancel,
    ),
  GatewayKeysRejected: (t) => ail(t, {}, cancel, ({ upstream }) => upstream.revokeKeys(CANARIES.accessKeyId)),
  GatewayKeysExpire: async (t) => {
    const { env, sandbox } = await prepare(t)
    sandbox.addKeys(CANARIES)
    const server = await startCredentialServer(t, await temporaryFolder(t), CANARIES)
    server.give(CANARIES, new Date(Date.now() + 200_000))
    const { line, api } = await startProcess(t, { ...env, ...server.env })
    return { url: String((await line('listening')).adminAddress), ask: () => api.get('/readyz') }
  },
  GatewayForbiddenUpstream: (t) =>
    ail(t, {}, cancel, ({ upstream }) =>
      upstream.fault('CancelTask', { reply: { status: 403, code: 'Forbidden.RAM' } }, 1e6),
    ),
  GatewayUpstreamUnhealthy: (t) =>
    ail(
      t,
      {},
      ({ api }) => api.get('/tasks').set(asReader),
      ({ upstream }) => upstream.fault('QueryTaskList', { reply: { status: 500, code: 'InternalError' } }, 1e6),
    ),
  GatewayThrottled: (t) =>
    ail(t, {}, cancel, ({ upstream }) =>
      upstream.fault('CancelTask', { reply: { status: 400, code: 'Throttling.User' } }, 1e6),
    ),
  GatewayBusy: (t) =>
    ail(
      t,
      { env: { UPSTREAM_MAX_CONCURRENCY: '1', UPSTREAM_TIMEOUT_MS: '2000', UPSTREAM_MAX_ATTEMPTS: '1' } },
      (started) => Promise.all(Array.from({ length: 5 }, () => cancel(started))),
      ({ upstream }) => upstream.fault('CancelTask', { reply: 'stall' }, 1e6),
    ),
  GatewayOutcomesUnknown: (t) =>
    ail(t, { env: { UPSTREAM_MAX_ATTEMPTS: '1' } }, cancel, ({ upstream }) => {
      upstream.fault('CancelTask', { reply: 'reset' }, 1e6)
      upstream.fault('QueryTaskList', { reply: { status: 403, code: 'Forbidden.RAM' } }, 1e6)
    }),
  GatewayFollowUpDeferred: (t) =>
    ail(
      t,
      {
        overrides: {
          ...withStore(() => ({ listOpen: async () => ({ records: MANY_OPEN, next: null }) })).overrides,
          timings: { settlementPauseMs: () => 1, followUpCallEveryMs: 3_600_000 },
        },
      },
      async () => undefined,
    ),
  GatewayClockOff: (t) => ail(t, {}, cancel, ({ upstream }) => upstream.setClockOffset(-120_000)),
  GatewayLimitsApart: async (t) => ail(t, { env: { REDIS_URL: `redis://127.0.0.1:${await closedPort()}` } }, cancel),
  GatewayFileFaulty: async (t) => {
    const path = join(await temporaryFolder(t), 'keys.json')
    await writeFile(path, '{')
    const env = { API_KEYS: undefined, API_KEYS_FILE: path }
    return ail(t, { env, readFile: () => API_KEYS, overrides: { timings: { watchEveryMs: 5 } } }, cancel)
  },
  GatewayLogLinesDropped: (t) =>
    ail(t, { overrides: { log: createLog({ level: 'info', destination: FULL }) } }, cancel),
  GatewayIssuerAway: async (t) => {
    const issuer = await startIssuer(t)
    const ailing = await ail(t, { env: issuer.env, overrides: { timings: { keySet: { refreshMs: 10 } } } }, cancel)
    return {
      url: ailing.url,
      ask: async () => {
        issuer.answerWith('down')
        await ailing.ask()
      },
    }
  },
  GatewayConnectionsLimited: (t) =>
    ail(t, { env: { MAX_CONNECTIONS: '1' } }, ({ url }) =>
      Promise.all([1, 2, 3].map(() => sendLine(url, 'GET /livez').catch(() => undefined))),
    ),
  GatewaySlow: async (t) => {
    const { env } = await prepare(t)
    const preload = join(await temporaryFolder(t), 'slow.mjs')
    const busy = 'const end = performance.now() + 130; while (performance.now() < end);'
    await writeFile(preload, `let slow; process.on('SIGUSR2', () => { slow ??= setInterval(() => { ${busy} }, 140) })`)
    const { line, kill } = await startProcess(t, env, { execArgv: ['--import', preload] })
    return { url: String((await line('listening')).adminAddress), ask: async () => kill('SIGUSR2') }
  },
}

/** In a process of its own: the others share one, and delay each other. */
const startHealthy = async (t: TestContext): Promise<Ailing> => {
  const { env, sandbox } = await prepare(t)
  const { line, api } = await startProcess(t, env)
  const ask = () => api.delete(`/tasks/${sandbox.addTask()}`).set(asOperator)
  return { url: String((await line('listening')).adminAddress), ask }
}

test('each alert fires on a gateway with its fault, and none on a healthy one', async (t) => {
  if (!requires(t, 'prometheus')) return
  assert.deepEqual(Object.keys(AILMENTS).sort(), [...ruleNames()].sort())
  const well = await startHealthy(t)
  const ailing = await Promise.all(
    Object.entries(AILMENTS).map(async ([name, provoke]) => [name, await provoke(t)] as const),
  )
  const all = new Map<string, Ailing>([...ailing, ['well', well]])
  const { firing } = await startPrometheus(t, new Map([...all].map(([name, { url }]) => [name, url])))
  const seen = new Set<string>()
  const unseen = (): readonly string[] => ruleNames().filter((name) => !seen.has(`${name} of ${name}`))

  let isOver = false
  const asking = [...all].map(async ([name, { ask }]) => {
    while (!isOver && (name === 'well' || unseen().includes(name))) await Promise.all([ask(), delay(ASK_EVERY_MS)])
  })
  for (const endMs = performance.now() + PATIENCE_MS; unseen().length > 0 && performance.now() < endMs; ) {
    for (const alert of await firing()) seen.add(alert)
    await delay(ASK_EVERY_MS)
  }
  isOver = true
  await Promise.all(asking)

  assert.deepEqual(unseen(), [])
  assert.deepEqual(
    [...seen].filter((alert) => alert.endsWith(' of well')),
    [],
  )
})

test('rules and dashboard ask for nothing that a gateway does not tell', async (t) => {
  const { adminUrl } = await startGateway(t)
  const known = new Set(
    [...(await (await fetch(`${adminUrl}/metrics`)).text()).matchAll(/^# TYPE (\S+) (\w+)$/gm)].flatMap(
      ([, name = '', type]) => (type === 'histogram' ? [`${name}_bucket`, `${name}_count`, `${name}_sum`] : [name]),
    ),
  )
  const asked = [read('deploy/prometheus/alerts.yaml'), read('deploy/grafana/dashboard.json')].flatMap((text) =>
    [...text.matchAll(/\b(gateway|nodejs|process)_[a-z0-9_]+/g)].map(([name]) => name),
  )
  assert.ok(asked.length > 30)
  assert.deepEqual(
    [...new Set(asked)].filter((name) => !known.has(name)),
    [],
  )
  assert.ok(Array.isArray(parse(read('deploy/prometheus/alerts.yaml')).groups))
})
