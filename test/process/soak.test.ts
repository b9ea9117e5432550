import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { Sandbox } from '../../sandbox/src/server.ts'
import { asAuditor, asOperator, asReader, cancelCalls } from '../helpers/gateway.ts'
import { type Issuer, startIssuer } from '../helpers/issuer.ts'
import { prepare, type RunningGateway, startProcess } from '../helpers/process.ts'
import { writeFigures } from '../helpers/reliability-doc.ts'
import { createVitalsReader, heapOf, mebibytes, VITALS_ARGS, type Vitals } from '../helpers/vitals.ts'

// On demand for longer: npm run soak.

const SECONDS = Number(process.env.SOAK_SECONDS ?? 6)
const A_SECOND = 50
/** The first of so many looks is the one that the last is held against. */
const LOOKS = 12
const FIRST = 3

/** Allowed growth until the end: caches are bounded, and far smaller than a leak. */
const MOST_GROWTH = 6 * 2 ** 20
const MOST_NEW_HANDLES = 10

interface Target {
  readonly gateway: RunningGateway
  readonly sandbox: Sandbox
  readonly issuer: Issuer
}

type Headers = Readonly<Record<string, string>>
type Ask = (target: Target) => Promise<readonly [path: string, method: string, headers: Headers, status: number]>

const latest = ({ sandbox }: Target): string => cancelCalls(sandbox).at(-1)?.params.TaskNo ?? sandbox.addTask()

/** The requests of a team to a gateway in a day, one after the other. */
const ASKED: readonly Ask[] = [
  async ({ sandbox }) => [`/tasks/${sandbox.addTask()}`, 'DELETE', asOperator, 202],
  async (target) => [`/tasks/${latest(target)}`, 'GET', asReader, 200],
  async ({ sandbox }) => [`/tasks/${sandbox.addTask()}`, 'DELETE', asOperator, 202],
  async () => ['/tasks?pageSize=50', 'GET', asReader, 200],
  async ({ sandbox, issuer }) => [`/tasks/${sandbox.addTask()}`, 'DELETE', await issuer.bearer(), 202],
  async (target) => [`/tasks/${latest(target)}/details`, 'GET', asReader, 200],
  async ({ sandbox }) => {
    sandbox.fault('CancelTask', { reply: 'reset', effect: true })
    return [`/tasks/${sandbox.addTask()}`, 'DELETE', asOperator, 202]
  },
  async () => ['/cancellations?limit=50', 'GET', asAuditor, 200],
  async ({ issuer }) => ['/me', 'GET', { authorization: `Bearer ${await issuer.token()}x` }, 401],
  async () => ['/readyz', 'GET', {}, 200],
]

/** Sends this many requests at an even pace, independently of responses. Returns the unexpected responses. */
const load = async (target: Target, count: number): Promise<readonly string[]> => {
  const startedAt = performance.now()
  const answers: Promise<string | null>[] = []
  for (let sent = 0; sent < count; sent += 1) {
    await delay(Math.max(0, startedAt + (sent * 1000) / A_SECOND - performance.now()))
    const ask = ASKED[sent % ASKED.length]
    if (ask !== undefined) answers.push(answerTo(target, ask))
  }
  return (await Promise.all(answers)).filter((wrong) => wrong !== null)
}

const answerTo = async (target: Target, ask: Ask): Promise<string | null> => {
  const [path, method, headers, expected] = await ask(target)
  const answer = await fetch(target.gateway.url + path, { method, headers })
  const body = await answer.text()
  return answer.status === expected ? null : `${method} ${path}: ${answer.status} ${body}`
}

const start = async (t: TestContext): Promise<Target> => {
  const { sandbox, env } = await prepare(t)
  const issuer = await startIssuer(t)
  const gateway = await startProcess(t, { ...env, ...issuer.env }, { execArgv: VITALS_ARGS })
  return { gateway, sandbox, issuer }
}

const rowOf = (seconds: number, vitals: Vitals) => ({
  'After (s)': Math.round(seconds),
  'Heap (MiB)': mebibytes(heapOf(vitals)),
  'Process (MiB)': mebibytes(vitals.rss),
  Handles: vitals.handles,
  'Event-loop delay p99 (ms)': vitals.eventLoopDelayP99.toFixed(1),
})

test('at a moderate load neither memory nor handles grow', async (t) => {
  const target = await start(t)
  const vitals = createVitalsReader(target.gateway)
  const seen: Vitals[] = []
  const wrong: string[] = []
  for (let look = 1; look <= LOOKS; look += 1) {
    wrong.push(...(await load(target, Math.ceil((SECONDS * A_SECOND) / LOOKS))))
    const now = await vitals()
    seen.push(now)
    t.diagnostic(JSON.stringify(rowOf((SECONDS * look) / LOOKS, now)))
  }
  writeFigures(
    'soak',
    seen.map((now, at) => rowOf((SECONDS * (at + 1)) / LOOKS, now)),
  )
  assert.deepEqual(wrong, [])
  assert.equal(target.sandbox.violations, 0)
  const [first, last] = [seen[FIRST - 1], seen.at(-1)]
  assert.ok(first !== undefined && last !== undefined)
  assert.ok(heapOf(last) < heapOf(first) + MOST_GROWTH, 'memory grows')
  assert.ok(last.handles <= first.handles + MOST_NEW_HANDLES, 'handles are left')
})
