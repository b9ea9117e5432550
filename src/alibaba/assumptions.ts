import type { Log, LogFields } from '../telemetry/log.ts'
import type { Meter } from '../telemetry/meter.ts'

/**
 * Labels of the assumptions about the upstream that a response can contradict. docs/assumptions.md describes each one,
 * and those that no response can contradict. In the code the label follows the mark of an assumption.
 */
export const ASSUMPTIONS = [
  'task-codes',
  'envelope-failure',
  'enum-values',
  'date-format',
  'time-zone',
  'list-order',
  'list-page-size',
  'response-shape',
  'completed-task',
] as const

export type Assumption = (typeof ASSUMPTIONS)[number]

/** Reports that a response contradicts an assumption. */
export type ReportContradiction = (label: Assumption, fields?: LogFields) => void

export interface ContradictionOptions {
  readonly log: Log
  readonly meter: Pick<Meter, 'assumptionContradicted'>
  /** A monotonic clock, milliseconds. */
  readonly now?: () => number
}

const LOG_EVERY_MS = 3_600_000

/** Counts each contradiction, and logs an assumption at most once an hour. */
export const createContradictionReport = ({
  log,
  meter,
  now = () => performance.now(),
}: ContradictionOptions): ReportContradiction => {
  const loggedAtMs = new Map<Assumption, number>()
  return (label, fields = {}) => {
    meter.assumptionContradicted(label)
    const lastMs = loggedAtMs.get(label)
    if (lastMs !== undefined && now() < lastMs + LOG_EVERY_MS) return
    loggedAtMs.set(label, now())
    log.warn('a response of the upstream contradicts an assumption', { ...fields, assumption: label })
  }
}
