import pino, { type DestinationStream } from 'pino'

/** Every field that a log line can have. What is not listed is not written, whoever passes it. */
const FIELDS = [
  'action',
  'address',
  'attempt',
  'caller',
  'cancellationId',
  'clientIp',
  'clockSkewMs',
  'code',
  'correlationId',
  'durationMs',
  'errorCode',
  'errorName',
  'instanceId',
  'method',
  'outcome',
  'reason',
  'recovered',
  'requestId',
  'route',
  'setting',
  'signal',
  'stack',
  'status',
  'taskNo',
  'upstreamCode',
  'upstreamRequestId',
  'via',
  'waitMs',
] as const

export type LogFields = { readonly [F in (typeof FIELDS)[number]]?: string | number | boolean | null | undefined }

export interface Log {
  info(message: string, fields?: LogFields): void
  warn(message: string, fields?: LogFields): void
  error(message: string, fields?: LogFields): void
}

/** JSON lines on the given stream (default: standard output), with listed fields of plain types only. */
export const createLog = (level: string, destination?: DestinationStream): Log => {
  const options = { level, base: null, timestamp: pino.stdTimeFunctions.isoTime, formatters: { level: nameLevel } }
  const logger = destination === undefined ? pino(options) : pino(options, destination)
  return {
    info: (message, fields = {}) => logger.info(pick(fields), message),
    warn: (message, fields = {}) => logger.warn(pick(fields), message),
    error: (message, fields = {}) => logger.error(pick(fields), message),
  }
}

/** What may be told of an error that is not ours: its kind and where it arose, never its message. */
export const describeError = (error: unknown): LogFields => {
  if (!(error instanceof Error)) return { errorName: typeof error }
  const code = 'code' in error && typeof error.code === 'string' ? error.code : null
  const frames = error.stack?.split('\n').filter((line) => /^\s+at /.test(line))
  return { errorName: error.name, errorCode: code, stack: frames?.join('\n') ?? null }
}

const nameLevel = (level: string): { level: string } => ({ level })

const pick = (fields: LogFields): LogFields =>
  Object.fromEntries(
    FIELDS.flatMap((name) => {
      const value = fields[name]
      return value === undefined || typeof value === 'object' ? [] : [[name, value]]
    }),
  )
