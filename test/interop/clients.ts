import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { promisify } from 'node:util'
import { CANARIES, startGateway } from '../helpers/gateway.ts'
import { needPackages, startTls } from './server.ts'

// Clients that use only what their language or program has, directly and through nginx with TLS and HTTP/2.

const run = promisify(execFile)

const PACKAGES = {
  curl: '/usr/bin/curl',
  'default-jdk-headless': '/usr/bin/java',
  jq: '/usr/bin/jq',
  nginx: '/usr/sbin/nginx',
  python3: '/usr/bin/python3',
} as const

/** The sandbox completes a task within two minutes. */
const COMPLETE_AFTER_MS = 600_000

/** A gateway whose fourth cancellation in a window is too many, and which learns the end of a cancellation soon. */
const start = async (t: TestContext) => {
  const { url, upstream } = await startGateway(t, {
    env: { RATE_LIMIT_MAX: '3', TRUST_PROXY: '127.0.0.1' },
    sandbox: { cancellingMs: 300 },
    overrides: { timings: { lookupTtlMs: 0, settlementPauseMs: () => 50 } },
  })
  const complete = upstream.addTask({ createdAt: Date.now() - COMPLETE_AFTER_MS })
  return { url, tasks: [upstream.addTask(), complete] }
}

const CLIENTS = {
  Python: { command: ['/usr/bin/python3', 'cancel.py'], overTls: 'HTTP/1.1' },
  Java: { command: ['/usr/bin/java', 'Cancel.java'], overTls: 'HTTP/2' },
  curl: { command: ['/bin/bash', 'cancel.sh'], overTls: 'HTTP/2' },
} as const

const cancelWith = async ([program, file]: readonly [string, string], tasks: readonly string[], env: object) => {
  const options = { cwd: join(import.meta.dirname, 'clients'), env: { PATH: process.env.PATH, ...env } }
  const { stdout } = await run(program, [file, ...tasks], options)
  return stdout
    .trim()
    .split('\n')
    .map((line) => line.trim())
}

const EXPECTED = ['202 accepted', '200 cancelled', '404 task-not-found', '409 task-not-cancellable']

for (const [name, { command, overTls }] of Object.entries(CLIENTS)) {
  for (const isTls of [false, true]) {
    test(`${name} cancels, waits and reads problems ${isTls ? 'through a proxy with TLS' : 'directly'}`, async (t) => {
      needPackages(PACKAGES)
      const { url, tasks } = await start(t)
      const place = isTls ? await startTls(t, url) : { url }
      const lines = await cancelWith(command, tasks, {
        GATEWAY_URL: place.url,
        GATEWAY_API_KEY: CANARIES.operatorKey,
        ...('authority' in place ? { GATEWAY_CA: place.authority } : {}),
      })
      assert.deepEqual(lines.slice(0, 4), EXPECTED)
      assert.match(lines[4] ?? '', /^429 too-many-requests [1-9]\d*$/)
      assert.deepEqual(lines.slice(5), [isTls ? overTls : 'HTTP/1.1'])
    })
  }
}
