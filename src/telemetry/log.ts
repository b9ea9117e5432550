import { isIPv4 } from 'node:net'
import pino, { type DestinationStream } from 'pino'
import { visible } from '../visible-text.ts'

/** Every field that a log line can have. What is not listed is not written, whoever passes it. */
const FIELDS = [
  'action',
  'adminAddress',
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
  'field',
  'instanceId',
  'method',
  'outcome',
  'priority',
  'reason',
  'recovered',
  'refusals',
  'requestId',
  'route',
  'setting',
  'settledBy',
  'signal',
  'stack',
  'status',
  'taskNo',
  'traceId',
  'upstreamCode',
  'upstreamRequestId',
  'value',
  'via',
  'waitMs',
] as const

export type LogFields = { readonly [F in (typeof FIELDS)[number]]?: string | number | boolean | null | undefined }

export interface Log {
  info(message: string, fields?: LogFields): void
  warn(message: string, fields?: LogFields): void
  error(message: string, fields?: LogFields): void
}

/** How much of callers' addresses a line tells: all, or only the network (IPv4: /24, IPv6: /48). */
export type LogAddresses = 'full' | 'truncated'

/**
 * JSON lines on the given stream (default: standard output), with listed fields of plain types only. A line that can't
 * be written is lost: a full disk under the log must not decide about a cancellation.
 */
export const createLog = (
  level: string,
  destination: DestinationStream = standardOutput(),
  addresses: LogAddresses = 'full',
): Log => {
  const options = { level, base: null, timestamp: pino.stdTimeFunctions.isoTime, formatters: { level: nameLevel } }
  const logger = pino(options, destination)
  const write = (severity: 'info' | 'warn' | 'error', message: string, fields: LogFields): void => {
    try {
      const picked = pick(fields)
      const { clientIp } = picked
      const isCut = addresses === 'truncated' && typeof clientIp === 'string'
      logger[severity](isCut ? { ...picked, clientIp: truncate(clientIp) } : picked, message)
    } catch {
      // See above.
    }
  }
  return {
    info: (message, fields = {}) => write('info', message, fields),
    warn: (message, fields = {}) => write('warn', message, fields),
    error: (message, fields = {}) => write('error', message, fields),
  }
}

/** Written at once, so that a crash takes no line along. */
const standardOutput = (): DestinationStream => pino.destination({ fd: 1, sync: true }).on('error', () => undefined)

/** What may be told of an error that is not ours: its kind and where it arose, never its message. */
export const describeError = (error: unknown): LogFields => {
  if (!(error instanceof Error)) return { errorName: typeof error }
  const code = 'code' in error ? wordIn(error.code) : null
  // A line of the message can look like a frame, so the message goes first.
  const frames = error.stack
    ?.replace(error.message, '')
    .split('\n')
    .filter((line) => /^\s+at .*:\d+:\d+\)?$/.test(line))
  return { errorName: wordIn(error.name), errorCode: code, stack: frames?.join('\n') ?? null }
}

/** A name such as `TypeError` or `ECONNRESET`; what is none may be anything. */
const wordIn = (value: unknown): string | null => (typeof value === 'string' && /^\w{1,64}$/.test(value) ? value : null)

const truncate = (address: string): string => {
  if (isIPv4(address)) return address.replace(/\d+$/, '0')
  const [head = ''] = address.split('::')
  const groups = [...head.split(':').filter((group) => group !== ''), '0', '0', '0'].slice(0, 3)
  return `${groups.join(':')}::`
}

const nameLevel = (level: string): { level: string } => ({ level })

const LISTED: ReadonlySet<string> = new Set(FIELDS)

const pick = (fields: LogFields): LogFields => {
  const picked: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(fields)) {
    if (!LISTED.has(name) || value === undefined || typeof value === 'object') continue
    // Names of callers come from elsewhere. A stack has lines of its own.
    picked[name] = typeof value === 'string' && name !== 'stack' ? visible(value) : value
  }
  return picked
}
