import { createSandbox } from '../sandbox/src/server.ts'
import { pin } from './machine.ts'
import { type LoadRequest, type LoadResponse, median, quantile, runOpenLoop, sendBurst } from './open-loop.ts'
import { measurePromotion } from './promotion.ts'
import { startStub } from './stub.ts'
import type { Environment, Subject } from './subjects.ts'

// Scenarios beyond throughput: the gateway adds little latency, shares identical calls, and uses an account's quota
// without exceeding it. The upstreams run in this process, so that scenarios can count the calls that reach them.

/** A measured value and its target. */
export interface Finding {
  readonly what: string
  readonly found: number
  readonly aim: number
  /** Whether the target is a maximum; otherwise it is a minimum. */
  readonly isMost: boolean
  readonly unit: keyof typeof UNITS
}

const UNITS = {
  count: (value: number) => value.toFixed(0),
  rate: (value: number) => value.toFixed(1),
  share: (value: number) => `${(value * 100).toFixed(1)} %`,
  ms: (value: number) => `${value.toFixed(1)} ms`,
  bytes: (value: number) => `${value.toFixed(0)} bytes`,
  MiB: (value: number) => `${value.toFixed(0)} MiB`,
} as const

export interface Scope {
  readonly rounds: number
  readonly seconds: number
  /** The number of requests in a burst, of reads per second, and half the number of waiting requests. */
  readonly many: number
}

type Scenario = (environment: Environment, scope: Scope) => Promise<readonly Finding[]>

let tasks = 0

const cancelOf = ({ url, headers }: Subject, taskNo?: string): LoadRequest => {
  tasks += 1
  return { method: 'DELETE', url: `${url}/tasks/${taskNo ?? `bench-${tasks}`}`, headers }
}

const withStatus = (responses: readonly LoadResponse[], ...statuses: readonly number[]): readonly LoadResponse[] =>
  responses.filter(({ status }) => statuses.includes(status))

const times = (responses: readonly LoadResponse[]): readonly number[] => responses.map(({ tookMs }) => tookMs)

const atMost = (aim: number, unit: Finding['unit'], what: string, found: number): Finding => ({
  ...{ what, found, aim, unit },
  isMost: true,
})

const atLeast = (aim: number, unit: Finding['unit'], what: string, found: number): Finding => ({
  ...{ what, found, aim, unit },
  isMost: false,
})

const DELAY_MS = 50
const CANCELS_PER_SECOND = 200

/** The cores that the gateway may use. */
const PLACES = [
  { core: 'measured', where: 'pinned to one core' },
  { core: 'anywhere', where: 'on all cores' },
] as const

/** The same rate directly to an upstream of 50 ms, and through a gateway in each place, in turns. */
export const addedLatency: Scenario = async (environment, { rounds, seconds }) => {
  const stub = await startStub({ delayMs: DELAY_MS })
  const rate = { perSecond: CANCELS_PER_SECOND, seconds }
  const directRequest = (): LoadRequest => ({ method: 'POST', url: stub.url, headers: { 'content-length': 0 } })
  const gateways = []
  for (const { core, where } of PLACES) {
    const gateway = await environment.startGateway(stub.url)
    pin(gateway.pid, core)
    await runOpenLoop(() => cancelOf(gateway), rate)
    const added: { readonly p50: number[]; readonly p99: number[] } = { p50: [], p99: [] }
    gateways.push({ where, gateway, added })
  }
  for (let round = 0; round < rounds; round += 1) {
    const direct = times(await runOpenLoop(directRequest, rate))
    for (const { gateway, added } of gateways) {
      const responses = await runOpenLoop(() => cancelOf(gateway), rate)
      if (withStatus(responses, 202).length < responses.length) throw new Error('not all were accepted')
      added.p50.push(quantile(times(responses), 0.5) - quantile(direct, 0.5))
      added.p99.push(quantile(times(responses), 0.99) - quantile(direct, 0.99))
    }
  }
  for (const { gateway } of gateways) gateway.stop()
  stub.close()
  const what = `Latency added to a ${DELAY_MS} ms upstream at ${CANCELS_PER_SECOND} cancels per second`
  return gateways.flatMap(({ where, added }) => [
    atMost(1.5, 'ms', `${what}, ${where}, p50`, median(added.p50)),
    atMost(5, 'ms', `${what}, ${where}, p99`, median(added.p99)),
  ])
}

/** One caller sends the same cancellation many times at once; the upstream responds after all have arrived. */
export const duplicates: Scenario = async (environment, { many }) => {
  const stub = await startStub({ delayMs: 3000 })
  const gateway = await environment.startGateway(stub.url)
  const responses = await sendBurst(() => cancelOf(gateway, 'the-task'), many)
  gateway.stop()
  stub.close()
  const what = `${many} cancels of one task at once`
  return [
    atMost(1, 'count', `${what}: upstream calls`, stub.counts().taken),
    atLeast(many, 'count', `${what}: accepted`, withStatus(responses, 202).length),
  ]
}

const WATCHED_TASKS = 50

/** Many callers read the state of fifty tasks once a second. */
export const watching: Scenario = async (environment, { many, seconds }) => {
  const sandbox = await createSandbox({ accessKeyId: 'bench-key-id', accessKeySecret: 'bench-key-secret' })
  const taskNos = Array.from({ length: WATCHED_TASKS }, () => sandbox.addTask())
  const gateway = await environment.startGateway(sandbox.url)
  const read = (index: number): LoadRequest => ({
    method: 'GET',
    url: `${gateway.url}/tasks/${taskNos[index % WATCHED_TASKS]}`,
    headers: gateway.headers,
  })
  const responses = await runOpenLoop(read, { perSecond: many, seconds })
  gateway.stop()
  await sandbox.close()
  const what = `${many} reads per second of ${WATCHED_TASKS} tasks`
  return [
    atMost(2.5, 'rate', `${what}: upstream calls per second`, sandbox.calls.length / seconds),
    atLeast(responses.length, 'count', `${what}: succeeded`, withStatus(responses, 200).length),
  ]
}

const QUOTA = 100
/** Some requests wait this long after the end of the load. */
const QUEUE_SECONDS = 1

/** The upstream accepts a third of the offered load. */
export const quota: Scenario = async (environment, { seconds }) => {
  const stub = await startStub({ delayMs: DELAY_MS, perSecond: QUOTA })
  const gateway = await environment.startGateway(stub.url, { UPSTREAM_MAX_RPS: String(QUOTA) })
  const responses = await runOpenLoop(() => cancelOf(gateway), { perSecond: 3 * QUOTA, seconds })
  gateway.stop()
  stub.close()
  const [accepted, rejected] = [withStatus(responses, 202), withStatus(responses, 429, 503)]
  const { taken, throttled } = stub.counts()
  const what = `${3 * QUOTA} cancels per second, ${QUOTA} allowed`
  const withRetryAfter = rejected.filter(({ retryAfter }) => Number(retryAfter) > 0).length
  return [
    atLeast(95, 'rate', `${what}: accepted per second`, accepted.length / (seconds + QUEUE_SECONDS)),
    atMost(0.05, 'share', `${what}: throttled calls`, throttled / (taken + throttled)),
    atMost(1100, 'ms', `${what}: time to acceptance, p50`, quantile(times(accepted), 0.5)),
    atMost(20, 'ms', `${what}: time to rejection, p50`, quantile(times(rejected), 0.5)),
    atMost(20, 'ms', `${what}: time to rejection, p99`, quantile(times(rejected), 0.99)),
    atMost(
      0,
      'count',
      `${what}: neither accepted nor rejected with Retry-After`,
      responses.length - accepted.length - withRetryAfter,
    ),
  ]
}

/** A burst of requests waits for an upstream of three seconds. */
export const slowUpstream: Scenario = async (environment, { many }) => {
  const stub = await startStub({ delayMs: 3000 })
  const gateway = await environment.startGateway(stub.url)
  const responses = await sendBurst(() => cancelOf(gateway), 2 * many)
  const { peak } = gateway.memoryMiB()
  gateway.stop()
  stub.close()
  const what = `${2 * many} cancels in flight with a 3 s upstream`
  return [
    atLeast(2 * many, 'count', `${what}: accepted`, withStatus(responses, 202).length),
    atMost(250, 'MiB', `${what}: peak memory`, peak),
  ]
}

/** The memory that requests leave in the old generation, before and after V8 has optimized most functions. */
const promotion: Scenario = async (environment) => {
  const [first, , last] = await measurePromotion(environment, [1500, 5500, 16_000, 20_000])
  return [first, last].flatMap((measured) => {
    if (measured === undefined) throw new Error('nothing was measured')
    const what = `Requests ${measured.requests} of a process`
    return [
      atMost(1024, 'bytes', `${what}: promoted per request`, measured.bytesPerRequest),
      atMost(3, 'ms', `${what}: collection of the young generation, p50`, measured.pauseP50Ms),
      atMost(8, 'ms', `${what}: collection of the young generation, longest`, measured.pauseMaxMs),
    ]
  })
}

export const SCENARIOS: readonly Scenario[] = [promotion, addedLatency, duplicates, watching, quota, slowUpstream]

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
