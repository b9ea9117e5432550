import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import { PRIORITIES, type Priority } from '../priority.ts'
import type { Meter } from './meter.ts'

/** Values that are read at each scrape, as the `help` of their gauges describes them; undefined: the gauge is absent. */
export interface GaugeSources {
  readonly connections: () => number
  readonly inFlight: (priority: Priority) => number
  readonly waiting: (priority: Priority) => number
  readonly isUnhealthy: (priority: Priority) => boolean
  readonly isThrottled: () => boolean
  readonly clockSkewMs: () => number | undefined
  readonly credentialsAgeMs: () => number | undefined
  readonly credentialsExpireInMs: () => number | undefined
  /** Since the last reading of the issuer's keys that brought any. */
  readonly keySetAgeMs: () => number | undefined
  /** Whether `/readyz` would say so. */
  readonly isReady: () => Promise<boolean>
  readonly isRateLimitStoreUp: () => boolean | undefined
  readonly unsharedSignOuts: () => number | undefined
  /** Whether a write to the record works; undefined where the process is about to stop. */
  readonly isAuditWritable: () => Promise<boolean | undefined>
  readonly unwritten: () => number
  /** Cancellations that are followed: all in memory, those of unknown outcome, and those without a place in memory. */
  /** Requests that wait for a final outcome. */
  readonly waitingForEnds: () => number
  readonly followedUp: () => { readonly open: number; readonly unknown: number; readonly deferred: number }
  readonly faultyFiles: () => Readonly<Record<string, boolean>>
  readonly droppedLogLines: () => number
}

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]

/** Labels for a request without a route, and for methods and attempts beyond the listed ones. */
const OTHER = 'other'
const METHODS = ['GET', 'HEAD', 'DELETE', 'POST', 'OPTIONS']
const ATTEMPTS_MAX = 5

/** Label values whose series start at zero: for a series that starts at one, Prometheus sees no increase. */
export interface InitialLabels {
  readonly codes: readonly string[]
  readonly outcomes: readonly string[]
  readonly closeReasons: readonly string[]
  readonly assumptions: readonly string[]
}

export const createMetrics = ({ codes, outcomes, closeReasons, assumptions }: InitialLabels) => {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry })

  const requests = new Counter({
    name: 'gateway_requests_total',
    help: 'Requests by route, method, status and problem code. The status is empty if the caller closed the connection.',
    labelNames: ['route', 'method', 'status', 'code'],
    registers,
  })
  const problems = new Counter({
    name: 'gateway_problems_total',
    help: 'Problem responses by code, for all routes.',
    labelNames: ['code'],
    registers,
  })
  const requestSeconds = new Histogram({
    name: 'gateway_request_duration_seconds',
    help: 'Time from the request head to the end of the response, by whether the request waited for an outcome (Prefer: wait).',
    labelNames: ['route', 'method', 'waited'],
    buckets: SECONDS,
    registers,
  })
  const cancellations = new Counter({
    name: 'gateway_cancellations_total',
    help: 'Outcomes of cancellations. A cancellation counts again with each later outcome.',
    labelNames: ['outcome'],
    registers,
  })
  const attempts = new Counter({
    name: 'gateway_upstream_attempts_total',
    help: 'Attempts of upstream calls, by action, result and number of the attempt.',
    labelNames: ['action', 'result', 'attempt'],
    registers,
  })
  const attemptSeconds = new Histogram({
    name: 'gateway_upstream_attempt_duration_seconds',
    help: 'Time from the signature of an attempt to the end of its response.',
    labelNames: ['action'],
    buckets: SECONDS,
    registers,
  })
  const auditSeconds = new Histogram({
    name: 'gateway_audit_write_duration_seconds',
    help: 'Time until a write to the audit record was durable, or failed.',
    labelNames: ['result'],
    buckets: SECONDS,
    registers,
  })
  const limited = new Counter({
    name: 'gateway_rate_limited_total',
    help: 'Requests rejected by a rate limit of the gateway, by limit.',
    labelNames: ['limit'],
    registers,
  })
  const closed = new Counter({
    name: 'gateway_connections_closed_total',
    help: 'Connections closed by the gateway, by port and reason: too many, too many from one address, response not read.',
    labelNames: ['port', 'reason'],
    registers,
  })
  const spans = new Counter({
    name: 'gateway_trace_spans_total',
    help: 'Spans for the trace collector: exported, failed (not accepted), dropped (queue full).',
    labelNames: ['result'],
    registers,
  })
  const contradicted = new Counter({
    name: 'gateway_assumption_contradicted_total',
    help: 'Responses of the upstream that contradict an assumption of the gateway, by its label.',
    labelNames: ['assumption'],
    registers,
  })
  for (const label of assumptions) contradicted.inc({ assumption: label }, 0)
  for (const result of ['exported', 'failed', 'dropped']) spans.inc({ result }, 0)
  for (const code of codes) problems.inc({ code }, 0)
  for (const outcome of outcomes) cancellations.inc({ outcome }, 0)
  for (const reason of closeReasons) for (const port of ['public', 'admin']) closed.inc({ port, reason }, 0)
  for (const result of ['done', 'failed']) auditSeconds.zero({ result })

  const meter: Meter = {
    request: ({ method: given, route: pattern, status, code, durationMs, hasWaited }) => {
      const [route, method] = [pattern ?? OTHER, METHODS.includes(given) ? given : OTHER]
      requests.inc({ route, method, status: String(status ?? ''), code: code ?? '' })
      if (code !== null) problems.inc({ code })
      requestSeconds.observe({ route, method, waited: hasWaited ? 'yes' : 'no' }, durationMs / 1000)
    },
    cancellation: (outcome) => cancellations.inc({ outcome }),
    attempt: ({ action, attempt, result, durationMs }) => {
      attempts.inc({ action, result, attempt: attempt < ATTEMPTS_MAX ? String(attempt) : `${ATTEMPTS_MAX}+` })
      attemptSeconds.observe({ action }, durationMs / 1000)
    },
    auditWrite: ({ isDone, durationMs }) =>
      auditSeconds.observe({ result: isDone ? 'done' : 'failed' }, durationMs / 1000),
    rateLimited: (limit) => limited.inc({ limit }),
    connectionClosed: ({ port, reason }) => closed.inc({ port, reason }),
    assumptionContradicted: (label) => contradicted.inc({ assumption: label }),
    spans: (result, count) => spans.inc({ result }, count),
  }
  return {
    ...meter,
    /** Reads these at every scrape. */
    registerGauges: (readings: GaugeSources): void => addGauges(registry, readings),
    contentType: registry.contentType,
    /** Everything, in the text format of Prometheus. */
    text: (): Promise<string> => registry.metrics(),
  }
}

type GaugeValue = number | undefined

const addGauges = (registry: Registry, readings: GaugeSources): void => {
  const seconds = (ms: GaugeValue): GaugeValue => (ms === undefined ? undefined : ms / 1000)
  const numberOf = (flag: boolean | undefined): GaugeValue => (flag === undefined ? undefined : Number(flag))
  const gauges: readonly (readonly [name: string, help: string, read: () => GaugeValue | Promise<GaugeValue>])[] = [
    [
      'gateway_ready',
      '1 if credentials are available, the audit record is writable and the process is not shutting down.',
      async () => numberOf(await readings.isReady()),
    ],
    ['gateway_connections', 'Open connections of the public port.', readings.connections],
    [
      'gateway_clock_skew_seconds',
      'The clock of the upstream minus the clock of this machine, from the last upstream response.',
      () => seconds(readings.clockSkewMs()),
    ],
    [
      'gateway_credentials_age_seconds',
      'Age of the current upstream credentials.',
      () => seconds(readings.credentialsAgeMs()),
    ],
    [
      'gateway_credentials_expire_in_seconds',
      'Time until the current upstream credentials expire. Absent if their expiry is unknown.',
      () => seconds(readings.credentialsExpireInMs()),
    ],
    [
      'gateway_jwks_age_seconds',
      'Time since the key set of the token issuer was read.',
      () => seconds(readings.keySetAgeMs()),
    ],
    [
      'gateway_rate_limit_store_up',
      '1 if replicas share rate limits, 0 while Redis is unavailable. Absent without Redis.',
      () => numberOf(readings.isRateLimitStoreUp()),
    ],
    [
      'gateway_sign_outs_unshared',
      'Sign-outs that are not yet stored in Redis. Absent without Redis or sign-in.',
      readings.unsharedSignOuts,
    ],
    [
      'gateway_audit_writable',
      '1 if the audit record is writable. Absent while the process shuts down.',
      async () => numberOf(await readings.isAuditWritable()),
    ],
    ['gateway_audit_unwritten', 'Outcomes that are not yet written to the audit record.', readings.unwritten],
    [
      'gateway_unsettled',
      'Cancellations of unknown outcome, whose task is read repeatedly.',
      () => readings.followedUp().unknown,
    ],
    ['gateway_requests_waiting', 'Requests that wait for a final outcome.', readings.waitingForEnds],
    [
      'gateway_follow_up_open',
      'Cancellations without a final outcome, whose task this replica reads.',
      () => readings.followedUp().open,
    ],
    [
      'gateway_follow_up_deferred',
      'Cancellations without a final outcome that exceed the memory limit. Their tasks are read less often.',
      () => readings.followedUp().deferred,
    ],
  ]
  for (const [name, help, read] of gauges) {
    new Gauge({
      name,
      help,
      registers: [registry],
      async collect() {
        const value = await read()
        if (value === undefined) this.remove()
        else this.set(value)
      },
    })
  }
  addLabelledGauges(registry, readings)
  addCounters(registry, readings)
}

const addCounters = (registry: Registry, { droppedLogLines }: GaugeSources): void => {
  new Counter({
    name: 'gateway_log_lines_dropped_total',
    help: 'Log lines that were dropped, because standard output was not read or the disk was full.',
    registers: [registry],
    collect() {
      this.reset()
      this.inc(droppedLogLines())
    },
  })
}

const addLabelledGauges = (registry: Registry, readings: GaugeSources): void => {
  const { inFlight, waiting, isUnhealthy, isThrottled, faultyFiles } = readings
  for (const [name, help, read] of [
    ['gateway_upstream_in_flight', 'Attempts in flight, by priority.', inFlight],
    ['gateway_upstream_queue_length', 'Attempts that wait for a permit, by priority.', waiting],
  ] as const) {
    new Gauge({
      name,
      help,
      labelNames: ['priority'],
      registers: [registry],
      collect() {
        for (const priority of PRIORITIES) this.set({ priority }, read(priority))
      },
    })
  }
  new Gauge({
    name: 'gateway_upstream_circuit_open',
    help: '1 from the time that the circuit breaker holds back attempts until one succeeds, by reason; failures by priority.',
    labelNames: ['reason', 'priority'],
    registers: [registry],
    collect() {
      for (const priority of PRIORITIES) this.set({ reason: 'unhealthy', priority }, Number(isUnhealthy(priority)))
      this.set({ reason: 'throttled' }, Number(isThrottled()))
    },
  })
  new Gauge({
    name: 'gateway_file_faulty',
    help: '1 while the file of a setting is invalid. The gateway then uses its last valid content.',
    labelNames: ['setting'],
    registers: [registry],
    collect() {
      for (const [setting, isFaulty] of Object.entries(faultyFiles())) this.set({ setting }, Number(isFaulty))
    },
  })
}
