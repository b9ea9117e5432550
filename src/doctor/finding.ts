import type { Log, LogFields } from '../telemetry/log.ts'

/** `warning`: the gateway works, but an operator should know. `failure`: the gateway would not start or not serve. */
export type Status = 'ok' | 'warning' | 'failure'

/** The result of one check. Neither text holds a secret or a text of another system. */
export interface Finding {
  readonly status: Status
  readonly message: string
  /** The next step of the operator; null if there is none. */
  readonly advice: string | null
}

export const ok = (message: string): Finding => ({ status: 'ok', message, advice: null })
export const warning = (message: string, advice: string): Finding => ({ status: 'warning', message, advice })
export const failure = (message: string, advice: string): Finding => ({ status: 'failure', message, advice })

const RANKS: readonly Status[] = ['ok', 'warning', 'failure']

/** One finding of several: the worst status with the texts that belong to it. */
export const worstOf = (first: Finding, ...others: readonly Finding[]): Finding => {
  const all = [first, ...others]
  const status = RANKS[Math.max(...all.map((each) => RANKS.indexOf(each.status)))] ?? first.status
  const worst = all.filter((each) => each.status === status)
  const advice = [...new Set(worst.flatMap((each) => each.advice ?? []))].join(' ')
  return { status, message: worst.map(({ message }) => message).join('; '), advice: advice === '' ? null : advice }
}

interface LogLine {
  readonly level: keyof Log
  readonly message: string
  readonly fields: LogFields
}

/** A log that keeps its lines, since parts of the gateway report the reason of a failure there. */
export const createCollectingLog = (): Log & { readonly lines: readonly LogLine[] } => {
  const lines: LogLine[] = []
  const writer =
    (level: keyof Log): Log['info'] =>
    (message, fields = {}) =>
      void lines.push({ level, message, fields })
  return { lines, info: writer('info'), warn: writer('warn'), error: writer('error') }
}

/** The reason that the first warning or error gives, with the code of the error. */
export const reasonIn = (lines: readonly LogLine[]): string => {
  const { fields = {} } = lines.find(({ level }) => level !== 'info') ?? {}
  const { reason = 'no reason is known', errorCode } = fields
  return errorCode === undefined || errorCode === null ? String(reason) : `${reason} (${errorCode})`
}
