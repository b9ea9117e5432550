import {
  type Dashboard,
  type DashboardLink,
  FieldColorModeId,
  type Panel,
  StackingMode,
  type Threshold,
  ThresholdsMode,
  TooltipDisplayMode,
  VariableHide,
} from '@grafana/schema'

// `npm run docs` writes `deploy/grafana/dashboard.json` from the rows of this file. The types are those that Grafana
// publishes for its dashboards.

/** Units of Grafana. Each panel has one. */
type Unit = 'bytes' | 'cps' | 'none' | 'percentunit' | 'reqps' | 's' | 'short'

/** A query of Prometheus, and the name of its series. `I` stands for the filter by replica. */
type Query = readonly [expr: string, legend: string]

interface Chart {
  readonly title: string
  readonly description: string
  readonly unit: Unit
  readonly queries: readonly Query[]
  /** Value from which the panel is yellow, and red. */
  readonly thresholds?: readonly [warning: number | null, critical: number | null]
  /** Smaller values are worse. */
  readonly isLowBad?: boolean
  readonly isStacked?: boolean
  /** Alerts whose section in the runbook explains the panel. */
  readonly alerts?: readonly string[]
}

const DATA_SOURCE = { type: 'prometheus', uid: '$' + '{datasource}' } as const
const RUNBOOK = '$' + '{runbook}'
const INTERVAL = '$__rate_interval'

const rate = (metric: string, filter = ''): string => `rate(${metric}{I${filter}}[${INTERVAL}])`

const quantile = (q: number, metric: string, filter = ''): string =>
  `histogram_quantile(${q}, sum by (le) (${rate(`${metric}_bucket`, filter)}))`

const quantiles = (metric: string): readonly Query[] =>
  [50, 95, 99].map((percent) => [quantile(percent / 100, metric), `p${percent}`] as const)

const NOT_WAITED = ',waited="no"'

/** The first row: one number each. */
const STATS: readonly Chart[] = [
  {
    title: 'Ready replicas',
    description: 'Replicas that receive requests. Yellow: only one, so its end interrupts the service.',
    unit: 'none',
    queries: [['sum(gateway_ready{I})', 'ready']],
    thresholds: [2, 1],
    isLowBad: true,
    alerts: ['GatewayNotReady', 'GatewayDown'],
  },
  {
    title: 'Cancels per hour',
    description: 'Cancellations that Alibaba Cloud accepted during the last hour.',
    unit: 'short',
    queries: [['sum(increase(gateway_cancellations_total{I,outcome="accepted"}[1h]))', 'accepted']],
  },
  {
    title: 'Unknown now',
    description: 'Cancellations of which nobody knows whether they took effect. The gateway reads their tasks.',
    unit: 'none',
    queries: [['sum(gateway_unsettled{I})', 'unknown']],
    thresholds: [1, 10],
    alerts: ['GatewayOutcomesUnknown'],
  },
  {
    title: 'Followed now',
    description: 'Cancellations without a final outcome, whose tasks the gateway reads in the background.',
    unit: 'none',
    queries: [['sum(gateway_follow_up_open{I}) + sum(gateway_follow_up_deferred{I})', 'followed']],
    thresholds: [5_000, null],
    alerts: ['GatewayFollowUpDeferred'],
  },
  {
    title: 'Share of 5xx',
    description: 'Responses with a status of 500 to 599, of all responses.',
    unit: 'percentunit',
    queries: [
      [
        `(sum(${rate('gateway_requests_total', ',status=~"5.."')}) or vector(0)) / sum(${rate('gateway_requests_total')})`,
        '5xx',
      ],
    ],
    thresholds: [0.01, 0.05],
  },
  {
    title: 'p95 without waits',
    description: 'Duration of requests (95th percentile), without those that waited because their caller asked for it.',
    unit: 's',
    queries: [[quantile(0.95, 'gateway_request_duration_seconds', NOT_WAITED), 'p95']],
    thresholds: [1, 5],
    alerts: ['GatewaySlow'],
  },
]

const CHARTS: readonly Chart[] = [
  {
    title: 'Requests per second, by status',
    description: 'An empty status: the caller closed the connection before the response.',
    unit: 'reqps',
    queries: [[`sum by (status) (${rate('gateway_requests_total')})`, '{{status}}']],
    isStacked: true,
  },
  {
    title: 'Problems per second, by code',
    description: 'Each code has a page at /problems.',
    unit: 'reqps',
    queries: [[`sum by (code) (${rate('gateway_problems_total')}) > 0`, '{{code}}']],
    isStacked: true,
    alerts: ['GatewayBug', 'GatewayForbiddenUpstream'],
  },
  {
    title: 'Cancellations, by outcome',
    description:
      'Counted each time that an outcome is found: an accepted cancellation counts again when it is cancelled.',
    unit: 'short',
    queries: [[`sum by (outcome) (increase(gateway_cancellations_total{I}[${INTERVAL}]))`, '{{outcome}}']],
    isStacked: true,
  },
  {
    title: 'Duration of requests',
    description: 'From the head of the request to the end of the response, waits included.',
    unit: 's',
    queries: quantiles('gateway_request_duration_seconds'),
    alerts: ['GatewaySlow'],
  },
  {
    title: 'Duration of upstream attempts',
    description: 'From the signature to the end of the response of Alibaba Cloud.',
    unit: 's',
    queries: quantiles('gateway_upstream_attempt_duration_seconds'),
  },
  {
    title: 'Upstream attempts per second, by result',
    description: 'Every result but "ok" is a failure class of the gateway.',
    unit: 'reqps',
    queries: [[`sum by (result) (${rate('gateway_upstream_attempts_total')})`, '{{result}}']],
    isStacked: true,
    alerts: ['GatewayThrottled', 'GatewayKeysRejected'],
  },
  {
    title: 'Attempts in flight and waiting',
    description:
      'Attempts that wait have no permit yet, because UPSTREAM_MAX_CONCURRENCY or UPSTREAM_MAX_RPS is reached.',
    unit: 'none',
    queries: [
      ['sum by (instance, priority) (gateway_upstream_in_flight{I})', '{{instance}} {{priority}} in flight'],
      ['sum by (instance, priority) (gateway_upstream_queue_length{I})', '{{instance}} {{priority}} waiting'],
    ],
    alerts: ['GatewayBusy'],
  },
  {
    title: 'Circuit open',
    description: '1 while the gateway holds attempts back: Alibaba Cloud is unhealthy, or throttles.',
    unit: 'none',
    queries: [
      [
        'max by (instance, reason, priority) (gateway_upstream_circuit_open{I})',
        '{{instance}} {{reason}} {{priority}}',
      ],
    ],
    thresholds: [null, 1],
    alerts: ['GatewayUpstreamUnhealthy', 'GatewayThrottled'],
  },
  {
    title: 'Cancellations being followed',
    description: 'Cancellations without a place in memory are read less often.',
    unit: 'none',
    queries: [
      ['sum(gateway_follow_up_open{I})', 'in memory'],
      ['sum(gateway_follow_up_deferred{I})', 'no place in memory'],
      ['sum(gateway_requests_waiting{I})', 'requests that wait'],
    ],
    alerts: ['GatewayFollowUpDeferred'],
  },
  {
    title: 'Unknown outcomes',
    description: 'Cancellations of which nobody knows whether they took effect.',
    unit: 'none',
    queries: [['sum by (instance) (gateway_unsettled{I})', '{{instance}}']],
    thresholds: [1, 10],
    alerts: ['GatewayOutcomesUnknown'],
  },
  {
    title: 'Duration of writes to the audit trail',
    description: '99th percentile. A cancel waits for one write before it is sent.',
    unit: 's',
    queries: [
      [
        `histogram_quantile(0.99, sum by (le, result) (${rate('gateway_audit_write_duration_seconds_bucket')}))`,
        '{{result}}',
      ],
    ],
    alerts: ['GatewayRecordFails'],
  },
  {
    title: 'Outcomes not yet in the audit trail',
    description: 'The gateway writes these again until they are durable.',
    unit: 'none',
    queries: [['sum by (instance) (gateway_audit_unwritten{I})', '{{instance}}']],
    thresholds: [null, 1],
    alerts: ['GatewayOutcomesUnwritten'],
  },
  {
    title: 'Ready and audit trail writable',
    description: '1: yes. A replica that is not ready receives no requests.',
    unit: 'none',
    queries: [
      ['gateway_ready{I}', '{{instance}} ready'],
      ['gateway_audit_writable{I}', '{{instance}} audit trail writable'],
    ],
    alerts: ['GatewayNotReady', 'GatewayRecordFails'],
  },
  {
    title: 'Faulty files',
    description: '1 while the file of a setting is faulty: the last valid content stays in force.',
    unit: 'none',
    queries: [['max by (instance, setting) (gateway_file_faulty{I})', '{{instance}} {{setting}}']],
    thresholds: [null, 1],
    alerts: ['GatewayFileFaulty'],
  },
  {
    title: 'Contradicted assumptions per hour',
    description: 'Responses of Alibaba Cloud that the gateway did not expect. docs/assumptions.md lists the labels.',
    unit: 'short',
    queries: [['sum by (assumption) (increase(gateway_assumption_contradicted_total{I}[1h])) > 0', '{{assumption}}']],
    thresholds: [1, null],
  },
  {
    title: 'Credentials, clock and keys of the issuer',
    description: 'Ages, the time until the credentials expire, and the difference between the clocks.',
    unit: 's',
    queries: [
      ['gateway_credentials_age_seconds{I}', '{{instance}} age of the credentials'],
      ['gateway_credentials_expire_in_seconds{I}', '{{instance}} credentials expire in'],
      ['gateway_clock_skew_seconds{I}', '{{instance}} clock difference'],
      ['gateway_jwks_age_seconds{I}', '{{instance}} age of the issuer keys'],
    ],
    alerts: ['GatewayKeysExpire', 'GatewayClockOff', 'GatewayIssuerAway'],
  },
  {
    title: 'Requests over a limit, per second',
    description: 'Requests that the gateway refused with 429, by limit.',
    unit: 'reqps',
    queries: [[`sum by (limit) (${rate('gateway_rate_limited_total')})`, '{{limit}}']],
    isStacked: true,
  },
  {
    title: 'Shared limits',
    description: '1 while Redis responds. Otherwise each replica counts by itself, or refuses.',
    unit: 'none',
    queries: [['gateway_rate_limit_store_up{I}', '{{instance}}']],
    alerts: ['GatewayLimitsApart'],
  },
  {
    title: 'Open connections',
    description: 'Connections of the public port.',
    unit: 'none',
    queries: [['sum by (instance) (gateway_connections{I})', '{{instance}}']],
    isStacked: true,
  },
  {
    title: 'Connections closed for a limit, per second',
    description: 'By port and reason.',
    unit: 'cps',
    queries: [[`sum by (port, reason) (${rate('gateway_connections_closed_total')})`, '{{port}} {{reason}}']],
    alerts: ['GatewayConnectionsLimited'],
  },
  {
    title: 'Memory',
    description: 'Resident memory of the process, and the used heap of V8.',
    unit: 'bytes',
    queries: [
      ['process_resident_memory_bytes{I}', '{{instance}} resident'],
      ['nodejs_heap_size_used_bytes{I}', '{{instance}} heap'],
    ],
  },
  {
    title: 'CPU',
    description: 'Cores in use. One thread serves all requests, so values near 1 delay them.',
    unit: 'percentunit',
    queries: [[rate('process_cpu_seconds_total'), '{{instance}}']],
    alerts: ['GatewaySlow'],
  },
  {
    title: 'Event-loop delay',
    description: '99th percentile.',
    unit: 's',
    queries: [['nodejs_eventloop_lag_p99_seconds{I}', '{{instance}}']],
    thresholds: [0.1, null],
    alerts: ['GatewaySlow'],
  },
  {
    title: 'Log lines dropped per second',
    description: 'The reader of the log is too slow, has gone, or the disk is full.',
    unit: 'cps',
    queries: [[rate('gateway_log_lines_dropped_total'), '{{instance}}']],
    thresholds: [null, 0.001],
    alerts: ['GatewayLogLinesDropped'],
  },
]

const GREEN = 'green'

const stepsOf = ({ thresholds = [null, null], isLowBad = false }: Chart): Threshold[] => {
  const [warning, critical] = thresholds
  const base = isLowBad ? 'red' : GREEN
  const colored = isLowBad
    ? [
        [critical, 'yellow'],
        [warning, GREEN],
      ]
    : [
        [warning, 'yellow'],
        [critical, 'red'],
      ]
  const steps = colored.flatMap(([value, color]) =>
    typeof value === 'number' && typeof color === 'string' ? [{ value, color }] : [],
  )
  // Null is minus infinity in the JSON of Grafana; the published type has no null.
  return [{ value: Number.NEGATIVE_INFINITY, color: base }, ...steps]
}

const targetsOf = ({ queries }: Chart) =>
  queries.map(([expr, legendFormat], index) => ({
    refId: String.fromCharCode(65 + index),
    expr: expr.replace(/\{I(?=[,}])/g, '{instance=~"$instance"'),
    legendFormat,
  }))

const linkTo = (title: string, url: string): DashboardLink => ({
  type: 'link',
  title,
  url,
  icon: 'doc',
  tooltip: '',
  tags: [],
  asDropdown: false,
  targetBlank: true,
  includeVars: false,
  keepTime: false,
})

const shared = (chart: Chart) => ({
  title: chart.title,
  description: chart.description,
  datasource: DATA_SOURCE,
  targets: targetsOf(chart),
  links: (chart.alerts ?? []).map((alert) => linkTo(`Runbook: ${alert}`, `${RUNBOOK}#${alert.toLowerCase()}`)),
})

const STAT = { width: 4, height: 4 } as const
const CHART = { width: 8, height: 7 } as const
const COLUMNS = 24

const stat = (chart: Chart, index: number): Panel => ({
  id: index + 1,
  type: 'stat',
  ...shared(chart),
  gridPos: { x: index * STAT.width, y: 0, w: STAT.width, h: STAT.height },
  fieldConfig: {
    defaults: {
      unit: chart.unit,
      decimals: chart.unit === 'none' || chart.unit === 'short' ? 0 : 2,
      color: { mode: FieldColorModeId.Thresholds },
      thresholds: { mode: ThresholdsMode.Absolute, steps: stepsOf(chart) },
      noValue: '–',
    },
    overrides: [],
  },
  options: { colorMode: 'value', graphMode: 'area', reduceOptions: { calcs: ['lastNotNull'] } },
})

const chart = (chart: Chart, index: number): Panel => ({
  id: STATS.length + index + 1,
  type: 'timeseries',
  ...shared(chart),
  gridPos: {
    x: (index * CHART.width) % COLUMNS,
    y: STAT.height + Math.floor((index * CHART.width) / COLUMNS) * CHART.height,
    w: CHART.width,
    h: CHART.height,
  },
  fieldConfig: {
    defaults: {
      unit: chart.unit,
      ...(chart.unit === 's' ? {} : { min: 0 }),
      ...(chart.thresholds === undefined
        ? {}
        : { thresholds: { mode: ThresholdsMode.Absolute, steps: stepsOf(chart) } }),
      custom: {
        fillOpacity: 10,
        stacking: { mode: chart.isStacked === true ? StackingMode.Normal : StackingMode.None },
        ...(chart.thresholds === undefined ? {} : { thresholdsStyle: { mode: 'line' } }),
      },
    },
    overrides: [],
  },
  options: {
    legend: { displayMode: 'list', placement: 'bottom' },
    tooltip: { mode: TooltipDisplayMode.Multi },
  },
})

// A variable, because the type does not list the members that the data source adds, such as the formats.
const ALERTS = {
  name: 'Alerts',
  datasource: DATA_SOURCE,
  enable: true,
  iconColor: 'red',
  target: { refId: 'alerts', expr: 'ALERTS{alertname=~"Gateway.+",alertstate="firing"}' },
  titleFormat: '{{alertname}}',
  textFormat: '{{instance}}',
}

const DASHBOARD: Dashboard = {
  title: 'Domain task gateway',
  uid: 'domain-task-gateway',
  description: 'Health, cancellations and load of the gateway. The first row is green if nothing needs attention.',
  tags: ['domain-task-gateway'],
  timezone: 'browser',
  schemaVersion: 39,
  version: 1,
  editable: true,
  graphTooltip: 1,
  refresh: '30s',
  time: { from: 'now-3h', to: 'now' },
  templating: {
    list: [
      { name: 'datasource', type: 'datasource', query: 'prometheus', label: 'Data source' },
      {
        name: 'instance',
        type: 'query',
        label: 'Replica',
        datasource: DATA_SOURCE,
        query: { query: 'label_values(gateway_upstream_in_flight, instance)', refId: 'instance' },
        refresh: 2,
        includeAll: true,
        multi: true,
        current: { text: 'All', value: '$__all' },
      },
      {
        name: 'runbook',
        type: 'constant',
        label: 'Address of the runbook',
        hide: VariableHide.hideVariable,
        query: 'https://git.example.com/domain-task-gateway/blob/main/docs/operations.md',
      },
    ],
  },
  annotations: {
    list: [ALERTS],
  },
  links: [linkTo('Runbook', RUNBOOK)],
  panels: [...STATS.map(stat), ...CHARTS.map(chart)],
}

/** The dashboard in the format that Grafana imports. */
export const dashboardJson = (): string =>
  `${JSON.stringify(DASHBOARD, (_name, value) => (value === Number.NEGATIVE_INFINITY ? null : value), 2)}\n`
