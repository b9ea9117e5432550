import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { cp, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setInterval } from 'node:timers/promises'
import { promisify, stripVTControlCharacters } from 'node:util'
import { z } from 'zod'
import { sha256 } from '../../src/callers/api-keys.ts'
import { buildGateway } from '../helpers/build.ts'
import { startFakeProvider } from '../helpers/fake-provider.ts'
import { API_KEYS, temporaryFolder } from '../helpers/gateway.ts'
import { cancel, prepare, ROOT, startProcess } from '../helpers/process.ts'
import { SIGN_IN_ENV } from '../helpers/session.ts'
import { needPackages } from './server.ts'

// Scanners and load breakers of others against the built gateway with everything enabled. All of them send to loopback.

const run = promisify(execFile)

const SCANNER_KEY = 'the key of the scanner'

/** Its scopes open every route. */
const scanner = {
  name: 'scanner',
  sha256: sha256(SCANNER_KEY).toString('hex'),
  scopes: ['tasks:cancel', 'tasks:read', 'audit:read'],
}

const start = async (t: TestContext) => {
  const [{ sandbox, env }, provider] = await Promise.all([prepare(t), startFakeProvider(t)])
  const entry = await buildGateway()
  // Files of the image that are not part of the bundle.
  for (const path of ['openapi.yaml', 'public', 'node_modules/swagger-ui-dist']) {
    await cp(join(ROOT, path), join(dirname(dirname(entry)), path), { recursive: true })
  }
  const gateway = await startProcess(
    t,
    {
      ...{ ...env, API_KEYS: JSON.stringify([...JSON.parse(API_KEYS), scanner]) },
      ...{ DOCS_ENABLED: 'true', CONSOLE_ENABLED: 'true', CORS_ORIGINS: 'https://app.example.com' },
      ...{ JWT_ISSUER: provider.url, JWT_AUDIENCE: 'gateway', ...SIGN_IN_ENV, OIDC_ISSUER: provider.url },
    },
    { entry },
  )
  return { gateway, sandbox }
}

/** All of its modules but those that need a list of words or a server outside. */
const MODULES = [
  ...['backup', 'blindsql', 'cookieflags', 'crlf', 'csp', 'csrf', 'exec', 'file', 'htaccess', 'http_headers'],
  ...['methods', 'permanentxss', 'redirect', 'shellshock', 'sql', 'xss'],
]

const reportSchema = z.object({
  vulnerabilities: z.record(z.string(), z.array(z.object({ path: z.string(), info: z.string() }))),
  anomalies: z.record(z.string(), z.array(z.object({ path: z.string(), info: z.string() }))),
})

test('Wapiti finds nothing but an obsolete header', { timeout: 240_000 }, async (t) => {
  needPackages({ wapiti: '/usr/bin/wapiti' })
  const { gateway, sandbox } = await start(t)
  const folder = await temporaryFolder(t)
  const taskNo = sandbox.addTask()
  const pages = [
    ...['/console', '/docs', '/problems', '/openapi.json', '/me', '/livez', '/readyz', '/auth/login?returnTo=/console'],
    ...['/tasks?page=1&pageSize=20&createdFrom=2026-01-01&include=domains&lang=zh', `/tasks/${taskNo}?lang=en`],
    `/tasks/${taskNo}/details?page=1&pageSize=20&status=waiting&domain=example.com`,
    '/cancellations?taskNo=a&caller=b&outcome=pending&from=2026-01-01&limit=5&cursor=a',
    '/auth/callback?code=a&state=b&iss=c',
  ]
  const { stdout } = await run(
    '/usr/bin/wapiti',
    [
      ...['--url', `${gateway.url}/`, ...pages.flatMap((path) => ['--start', `${gateway.url}${path}`])],
      // Deeper are only the pages of problems in both languages.
      ...['--depth', '1'],
      ...['--module', MODULES.join(), '--scope', 'domain', '--header', `X-API-Key: ${SCANNER_KEY}`],
      ...['--no-bugreport', '--flush-session', '--max-scan-time', '200', '--timeout', '5'],
      ...['--store-session', folder, '--store-config', folder, '--format', 'json', '--output', join(folder, 'report')],
    ],
    { env: { PATH: process.env.PATH, HOME: folder }, maxBuffer: 1e8 },
  )

  const { vulnerabilities, anomalies } = reportSchema.parse(JSON.parse(await readFile(join(folder, 'report'), 'utf8')))
  const findings = Object.values({ ...vulnerabilities, ...anomalies }).flat()
  assert.deepEqual(findings, [{ path: '/', info: 'X-XSS-Protection is not set' }])
  for (const name of MODULES) assert.match(stdout, new RegExp(`Launching module ${name}`))
  // Its requests had the key, and reached the upstream.
  assert.ok(sandbox.calls.length > 20, String(sandbox.calls.length))
})

/** Options of SlowHTTPTest: slow head, slow body, slow reading of a large response. */
const ATTACKS = [
  ['-H', '-t', 'DELETE', '-u', '/tasks/a'],
  ['-B', '-t', 'DELETE', '-s', '8000', '-u', '/tasks/a'],
  ['-X', '-k', '5', '-u', '/openapi.json'],
] as const

const CONNECTIONS = 300

/** Longer than the gateway waits for the head or the body of a request. */
const ATTACK_SECONDS = 90

/** Its own judgement, and how it ended. */
const attack = async (base: string, options: readonly string[]) => {
  const url = `${base}${options.at(-1)}`
  const size = ['-c', String(CONNECTIONS), '-r', '150', '-i', '2', '-l', String(ATTACK_SECONDS), '-p', '3']
  const { stdout } = await run('/usr/bin/slowhttptest', [...options.slice(0, -1), url, ...size], { maxBuffer: 1e8 })
  const text = stripVTControlCharacters(stdout)
  return {
    available: new Set([...text.matchAll(/service available:\s*(\w+)/g)].map(([, answer]) => answer)),
    most: Math.max(...[...text.matchAll(/connected:\s*(\d+)/g)].map(([, count]) => Number(count))),
    end: /Exit status:\s*(.*)/.exec(text)?.[1]?.trim(),
  }
}

test('SlowHTTPTest: slow heads, bodies and readers hold up no cancellation, and slow requests end', {
  timeout: 240_000,
}, async (t) => {
  needPackages({ slowhttptest: '/usr/bin/slowhttptest' })
  const { gateway, sandbox } = await start(t)
  const results = Promise.all(ATTACKS.map((options) => attack(gateway.url, options)))
  const state = { isOver: false }
  results.finally(() => Object.assign(state, { isOver: true })).catch(() => undefined)
  const statuses: number[] = []
  for await (const _ of setInterval(100)) {
    if (state.isOver) break
    statuses.push(await cancel(gateway.url, sandbox.addTask()))
  }

  const served = { available: new Set(['YES']), most: CONNECTIONS }
  assert.deepEqual(await results, [
    { ...served, end: 'No open connections left' },
    { ...served, end: 'No open connections left' },
    // What the kernel has taken counts as read (SECURITY.md).
    { ...served, end: 'Hit test time limit' },
  ])
  assert.ok(statuses.length > ATTACK_SECONDS, String(statuses.length))
  assert.deepEqual(new Set(statuses), new Set([202]))
})
