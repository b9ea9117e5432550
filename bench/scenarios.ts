import { createSandbox } from '../src/sandbox/server.ts'
import type { Contestant, Ground } from './contestants.ts'
import { type Answer, type Asked, median, offer, quantile, storm } from './offer.ts'
import { startStub } from './stub.ts'

// What a gateway is for besides passing calls on: to add next to nothing, to do what many ask for once, and to use an
// account's quota up without storming it. The upstreams here are in this process, so that what reached them is known.

/** What a scenario showed, and whether that is what is aimed at. */
export interface Finding {
  readonly what: string
  readonly found: string
  readonly aim: string
  readonly holds: boolean
}

export interface Scope {
  readonly rounds: number
  readonly seconds: number
  /** Of the storm, those who watch, and those who wait. */
  readonly many: number
}

type Scenario = (ground: Ground, scope: Scope) => Promise<readonly Finding[]>

let tasks = 0

const cancelOf = ({ url, headers }: Contestant, taskNo?: string): Asked => {
  tasks += 1
  return { method: 'DELETE', url: `${url}/tasks/${taskNo ?? `bench-${tasks}`}`, headers }
}

const withStatus = (answers: readonly Answer[], ...statuses: readonly number[]): readonly Answer[] =>
  answers.filter(({ status }) => statuses.includes(status))

const times = (answers: readonly Answer[]): readonly number[] => answers.map(({ tookMs }) => tookMs)

const ms = (value: number): string => `${value.toFixed(1)} ms`

const compare = (
  what: string,
  found: number,
  aim: number,
  show: (value: number) => string,
  isMost = true,
): Finding => ({
  what,
  found: show(found),
  aim: `${isMost ? 'at most' : 'at least'} ${show(aim)}`,
  holds: isMost ? found <= aim : found >= aim,
})

const whole = (value: number): string => value.toFixed(0)
const tenths = (value: number): string => value.toFixed(1)
const percent = (value: number): string => `${(value * 100).toFixed(1)} %`

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
  const what = `Added to an upstream of ${DELAY_MS} ms at ${PACE} cancels a second`
  return [
    compare(`${what}, p50`, median(added.map(({ p50 }) => p50)), 1, ms),
    compare(`${what}, p99`, median(added.map(({ p99 }) => p99)), 5, ms),
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
    compare(`${what}: calls upstream`, stub.counts().taken, 1, whole),
    compare(`${what}: accepted`, withStatus(answers, 202).length, many, whole, false),
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
  const what = `${many} who look once a second at ${WATCHED} tasks`
  return [
    compare(`${what}: calls upstream a second`, sandbox.calls.length / seconds, 2.5, tenths),
    compare(`${what}: answered`, withStatus(answers, 200).length, answers.length, whole, false),
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
  const what = `${3 * QUOTA} a second offered, ${QUOTA} allowed`
  const told = turnedAway.filter(({ retryAfter }) => Number(retryAfter) > 0).length
  return [
    compare(`${what}: accepted a second`, accepted.length / (seconds + QUEUE_SECONDS), 95, tenths, false),
    compare(`${what}: calls throttled`, throttled / (taken + throttled), 0.05, percent),
    compare(`${what}: accepted after, p50`, quantile(times(accepted), 0.5), 1500, ms),
    compare(`${what}: turned away after, p50`, quantile(times(turnedAway), 0.5), 20, ms),
    compare(`${what}: turned away after, p99`, quantile(times(turnedAway), 0.99), 20, ms),
    compare(
      `${what}: others than accepted, or turned away with Retry-After`,
      answers.length - accepted.length - told,
      0,
      whole,
    ),
  ]
}

/** Twice as many wait at the same moment for an upstream of three seconds. */
export const slowUpstream: Scenario = async (ground, { many }) => {
  const stub = await startStub({ delayMs: 3000 })
  const gateway = await ground.startGateway(stub.url)
  const answers = await storm(() => cancelOf(gateway), 2 * many)
  const { peak, own } = gateway.memoryMiB()
  gateway.stop()
  stub.close()
  const what = `${2 * many} waiting for an upstream of 3 s`
  return [
    compare(`${what}: accepted`, withStatus(answers, 202).length, 2 * many, whole, false),
    compare(`${what}: memory at its peak (MiB)`, peak, 250, whole),
    compare(`${what}: memory of its own after it (MiB)`, own, 250, whole),
  ]
}

export const SCENARIOS: readonly Scenario[] = [addedLatency, duplicates, watching, quota, slowUpstream]

export const tableOfFindings = (findings: readonly Finding[]): string =>
  [
    '| | Found | Aim | Reached |',
    '| --- | --- | --- | --- |',
    ...findings.map(({ what, found, aim, holds }) => `| ${what} | ${found} | ${aim} | ${holds ? 'yes' : 'no'} |`),
  ].join('\n')
