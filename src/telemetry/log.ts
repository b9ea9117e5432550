import { isIPv4 } from 'node:net'
import pino, { type DestinationStream } from 'pino'
import { visible } from '../visible-text.ts'
import { createLineOutput } from './line-output.ts'

/** Every field that a log line can have. Other fields are not written. */
const FIELDS = [
  'action',
  'adminAddress',
  'address',
  'assumption',
  'attempt',
  'caller',
  'cancellationId',
  'clientIp',
  'clockSkewMs',
  'code',
  'correlationId',
  'droppedLines',
  'durationMs',
  'errorCode',
  'errorName',
  'field',
  'instanceId',
  'method',
  'origin',
  'outcome',
  'peerIp',
  'priority',
  'ramAction',
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
  'variable',
  'via',
  'waitMs',
] as const

export type LogFields = { readonly [F in (typeof FIELDS)[number]]?: string | number | boolean | null | undefined }

export interface Log {
  info(message: string, fields?: LogFields): void
  warn(message: string, fields?: LogFields): void
  error(message: string, fields?: LogFields): void
}

/** The log of the process, which also knows how its lines fare. */
export interface ProcessLog extends Log {
  /** Lines that could not be written since the start. */
  dropped(): number
  /** Writes lines that wait for a slow reader, for at most half a second: for the end of the process. */
  flush(): void
}

/** How much of callers' addresses a line tells: all, or only the network (IPv4: /24, IPv6: /48). */
export type LogAddresses = 'full' | 'truncated'

export interface LogOptions {
  readonly level: string
  /** Standard output where undefined. */
  readonly destination?: DestinationStream | undefined
  readonly addresses?: LogAddresses | undefined
}

/**
 * JSON lines with listed fields of plain types only. A line that can't be written is dropped and counted: a full disk
 * under the log, or a reader that has stopped, must not decide about a cancellation.
 */
export const createLog = ({ level, destination, addresses = 'full' }: LogOptions): ProcessLog => {
  const options = { level, base: null, timestamp: pino.stdTimeFunctions.isoTime, formatters: { level: nameLevel } }
  let failed = 0
  const onResumed = (droppedLines: number): void => reportDropped(droppedLines)
  const output = destination === undefined ? createLineOutput({ fd: STANDARD_OUTPUT, onResumed }) : null
  const logger = pino(options, output ?? destination)
  const write = (severity: 'info' | 'warn' | 'error', message: string, fields: LogFields): void => {
    try {
      const picked = pick(fields)
      logger[severity](addresses === 'truncated' ? truncateAddresses(picked) : picked, message)
    } catch {
      failed += 1
    }
  }
  const reportDropped = (droppedLines: number): void =>
    write('warn', 'log lines were dropped because the output did not accept them', { droppedLines })
  return {
    info: (message, fields = {}) => write('info', message, fields),
    warn: (message, fields = {}) => write('warn', message, fields),
    error: (message, fields = {}) => write('error', message, fields),
    dropped: () => failed + (output?.dropped() ?? 0),
    flush: () => output?.flush(FLUSH_MS),
  }
}

const STANDARD_OUTPUT = 1
const FLUSH_MS = 500

/** The loggable part of a foreign error: its kind and its stack frames, never its message. */
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

/** A name such as `TypeError` or `ECONNRESET`; any other text is left out, since it may hold secrets. */
const wordIn = (value: unknown): string | null => (typeof value === 'string' && /^\w{1,64}$/.test(value) ? value : null)

const truncateAddresses = (fields: LogFields): LogFields => {
  const cut: Record<string, unknown> = { ...fields }
  for (const name of ['clientIp', 'peerIp'] as const) {
    const address = fields[name]
    if (typeof address === 'string') cut[name] = truncate(address)
  }
  return cut
}

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
