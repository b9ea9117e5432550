import { createSandbox } from '../sandbox/src/server.ts'
import { type Answer, type Asked, median, offer, quantile, storm } from './offer.ts'
import { startStub } from './stub.ts'
import type { Environment, Subject } from './subjects.ts'

// What a gateway is for besides passing calls on: to add next to nothing, to do what many ask for once, and to use an
// account's quota up without storming it. The upstreams here are in this process, so that what reached them is known.

/** What a scenario showed, and what is aimed at. */
export interface Finding {
  readonly what: string
  readonly found: number
  readonly aim: number
  /** The aim is the most that it should be, and not the least. */
  readonly isMost: boolean
  readonly unit: keyof typeof UNITS
}

const UNITS = {
  count: (value: number) => value.toFixed(0),
  rate: (value: number) => value.toFixed(1),
  share: (value: number) => `${(value * 100).toFixed(1)} %`,
  ms: (value: number) => `${value.toFixed(1)} ms`,
  MiB: (value: number) => `${value.toFixed(0)} MiB`,
} as const

export interface Scope {
  readonly rounds: number
  readonly seconds: number
  /** Of the storm, those who watch, and those who wait. */
  readonly many: number
}

type Scenario = (ground: Environment, scope: Scope) => Promise<readonly Finding[]>

let tasks = 0

const cancelOf = ({ url, headers }: Subject, taskNo?: string): Asked => {
  tasks += 1
  return { method: 'DELETE', url: `${url}/tasks/${taskNo ?? `bench-${tasks}`}`, headers }
}

const withStatus = (answers: readonly Answer[], ...statuses: readonly number[]): readonly Answer[] =>
  answers.filter(({ status }) => statuses.includes(status))

const times = (answers: readonly Answer[]): readonly number[] => answers.map(({ tookMs }) => tookMs)

const atMost = (aim: number, unit: Finding['unit'], what: string, found: number): Finding => ({
  ...{ what, found, aim, unit },
  isMost: true,
})

const atLeast = (aim: number, unit: Finding['unit'], what: string, found: number): Finding => ({
  ...{ what, found, aim, unit },
  isMost: false,
})

const DELAY_MS = 50
const PACE = 200

/** The same pace straight to an upstream of 50 ms, and through the gateway, in turns. */
export const addedLatency: Scenario = async (ground, { rounds, seconds }) => {
  const stub = await startStub({ delayMs: DELAY_MS })
  const gateway = await ground.startGateway(stub.url)
  const direct = (): Asked => ({ method: 'POST', url: stub.url, headers: { 'content-length': 0 } })
  await offer(() => cancelOf(gateway), { perSecond: PACE, seconds })
  const added: { p50: number; p99: number }[] = []
  for (let round = 0; round < rounds; round += 1) {
    const straight = times(await offer(direct, { perSecond: PACE, seconds }))
    const answers = await offer(() => cancelOf(gateway), { perSecond: PACE, seconds })
    if (withStatus(answers, 202).length < answers.length) throw new Error('not all were accepted')
    const passed = times(answers)
    const addedAt = (share: number): number => quantile(passed, share) - quantile(straight, share)
    added.push({ p50: addedAt(0.5), p99: addedAt(0.99) })
  }
  gateway.stop()
  stub.close()
  const what = `Latency added to a ${DELAY_MS} ms upstream at ${PACE} cancels per second`
  return [
    atMost(1, 'ms', `${what}, p50`, median(added.map(({ p50 }) => p50))),
    atMost(5, 'ms', `${what}, p99`, median(added.map(({ p99 }) => p99))),
  ]
}

/** One caller asks for the same cancellation many times at once; upstream answers when all have arrived. */
export const duplicates: Scenario = async (ground, { many }) => {
  const stub = await startStub({ delayMs: 3000 })
  const gateway = await ground.startGateway(stub.url)
  const answers = await storm(() => cancelOf(gateway, 'the-task'), many)
  gateway.stop()
  stub.close()
  const what = `${many} cancels of one task at once`
  return [
    atMost(1, 'count', `${what}: upstream calls`, stub.counts().taken),
    atLeast(many, 'count', `${what}: accepted`, withStatus(answers, 202).length),
  ]
}

const WATCHED = 50

/** Many who look once a second what became of fifty tasks. */
export const watching: Scenario = async (ground, { many, seconds }) => {
  const sandbox = await createSandbox({ accessKeyId: 'bench-key-id', accessKeySecret: 'bench-key-secret' })
  const taskNos = Array.from({ length: WATCHED }, () => sandbox.addTask())
  const gateway = await ground.startGateway(sandbox.url)
  const look = (index: number): Asked => ({
    method: 'GET',
    url: `${gateway.url}/tasks/${taskNos[index % WATCHED]}`,
    headers: gateway.headers,
  })
  const answers = await offer(look, { perSecond: many, seconds })
  gateway.stop()
  await sandbox.close()
  const what = `${many} clients that read one of ${WATCHED} tasks every second`
  return [
    atMost(2.5, 'rate', `${what}: upstream calls per second`, sandbox.calls.length / seconds),
    atLeast(answers.length, 'count', `${what}: answered`, withStatus(answers, 200).length),
  ]
}

const QUOTA = 100
/** For so long some wait when no more are offered. */
const QUEUE_SECONDS = 1

/** Upstream takes a third of what is offered. */
export const quota: Scenario = async (ground, { seconds }) => {
  const stub = await startStub({ delayMs: DELAY_MS, perSecond: QUOTA })
  const gateway = await ground.startGateway(stub.url, { UPSTREAM_MAX_RPS: String(QUOTA) })
  const answers = await offer(() => cancelOf(gateway), { perSecond: 3 * QUOTA, seconds })
  gateway.stop()
  stub.close()
  const [accepted, turnedAway] = [withStatus(answers, 202), withStatus(answers, 429, 503)]
  const { taken, throttled } = stub.counts()
  const what = `${3 * QUOTA} cancels per second sent, ${QUOTA} allowed`
  const told = turnedAway.filter(({ retryAfter }) => Number(retryAfter) > 0).length
  return [
    atLeast(95, 'rate', `${what}: accepted per second`, accepted.length / (seconds + QUEUE_SECONDS)),
    atMost(0.05, 'share', `${what}: throttled calls`, throttled / (taken + throttled)),
    atMost(1100, 'ms', `${what}: time to acceptance, p50`, quantile(times(accepted), 0.5)),
    atMost(20, 'ms', `${what}: time to rejection, p50`, quantile(times(turnedAway), 0.5)),
    atMost(20, 'ms', `${what}: time to rejection, p99`, quantile(times(turnedAway), 0.99)),
    atMost(
      0,
      'count',
      `${what}: neither accepted nor rejected with Retry-After`,
      answers.length - accepted.length - told,
    ),
  ]
}

/** Twice as many wait at the same moment for an upstream of three seconds. */
export const slowUpstream: Scenario = async (ground, { many }) => {
  const stub = await startStub({ delayMs: 3000 })
  const gateway = await ground.startGateway(stub.url)
  const answers = await storm(() => cancelOf(gateway), 2 * many)
  const { peak } = gateway.memoryMiB()
  gateway.stop()
  stub.close()
  const what = `${2 * many} cancels in flight with a 3 s upstream`
  return [
    atLeast(2 * many, 'count', `${what}: accepted`, withStatus(answers, 202).length),
    atMost(250, 'MiB', `${what}: peak memory`, peak),
  ]
}

export const SCENARIOS: readonly Scenario[] = [addedLatency, duplicates, watching, quota, slowUpstream]

const isReached = ({ found, aim, isMost }: Finding): boolean => (isMost ? found <= aim : found >= aim)

export const tableOfFindings = (findings: readonly Finding[]): string =>
  [
    '| | Measured | Target | Met |',
    '| --- | --- | --- | --- |',
    ...findings.map((finding) => {
      const { what, found, aim, isMost, unit } = finding
      const aimed = `${isMost ? 'at most' : 'at least'} ${UNITS[unit](aim)}`
      return `| ${what} | ${UNITS[unit](found)} | ${aimed} | ${isReached(finding) ? 'yes' : 'no'} |`
    }),
  ].join('\n')
