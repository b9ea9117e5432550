import {
  ClientClosedError,
  ClientOfflineError,
  ConnectionTimeoutError,
  DisconnectsClientError,
  ErrorReply,
  SocketClosedUnexpectedlyError,
} from '@redis/client'
import { describeError } from '../../telemetry/log.ts'

/** Why Redis could not be used. Fixed texts and codes only: messages of Redis quote commands, keys and values. */
export interface RedisFailure {
  /** `refused`: Redis can be reached, but the operator has to change a setting of the gateway or of Redis. */
  readonly kind: 'away' | 'refused'
  readonly reason: string
  readonly code: string | null
}

/** Redis took longer than a command or a connection may take. */
export class RedisTimeout extends Error {}

/**
 * Patterns of replies, the first that matches counts. Source: redis.io, "Redis serialization protocol", simple errors.
 */
const REPLIES: readonly (readonly [pattern: RegExp, reason: string])[] = [
  [/^(WRONGPASS|NOAUTH|ERR invalid password|ERR AUTH)\b/, 'the password or the user name is not accepted'],
  [/^ERR .*without any password configured/, 'the password or the user name is not accepted'],
  // A script quotes the reply to its command, under the code ERR.
  [/^NOPERM\b|can't run this command|can't access|no permissions/, 'the user lacks a permission'],
  [
    /^(MOVED|ASK|TRYAGAIN|CLUSTERDOWN|CROSSSLOT)\b|cluster mode/,
    'it is a node of a cluster, and clusters are not supported',
  ],
  [/^LOADING\b/, 'it still loads its data'],
  [/^READONLY\b/, 'it is a replica, which takes no writes'],
  [/^MASTERDOWN\b/, 'it is a replica without its primary'],
  [/^OOM\b/, 'its memory is full'],
  [/^MISCONF\b/, 'it cannot save its data, and takes no writes'],
  [/^NOREPLICAS\b/, 'it has too few replicas, and takes no writes'],
  [/^BUSY\b/, 'a script keeps it busy'],
  [/^DENIED\b/, 'its protected mode refuses other machines'],
  [/^ERR DB index/, 'it has no database of that number'],
  [/^ERR max number of clients/, 'it has too many connections'],
  [/^NOPROTO\b|^ERR unknown command/, 'it does not know a command (Redis 6 or later is needed)'],
]

const CERTIFICATE = /CERT|SIGNATURE|HOSTNAME_MISMATCH/
const TLS = /^(ERR_SSL_|ERR_TLS_|EPROTO$)/

const refused = (reason: string, code: string | null): RedisFailure => ({ kind: 'refused', reason, code })
const away = (reason: string, code: string | null): RedisFailure => ({ kind: 'away', reason, code })

/** @param opening the protocol of a connection that never served a command: `redis:` or `rediss:` */
export const readRedisFailure = (error: unknown, opening: string | null): RedisFailure => {
  if (error instanceof ErrorReply) return readReply(error.message)
  if (error instanceof RedisTimeout || error instanceof ConnectionTimeoutError) {
    const isTls = opening === 'rediss:'
    return away(isTls ? 'it does not begin TLS in time (a server without TLS needs redis:)' : 'it takes too long', null)
  }
  const { errorCode } = describeError(error)
  const code = typeof errorCode === 'string' ? errorCode : null
  if (isConnectionClosed(error))
    return away(opening === 'redis:' ? CLOSED_UNANSWERED : 'it closed the connection', code)
  if (code === null) return refused('it does not speak the protocol of Redis, or expects TLS (rediss:)', null)
  if (CERTIFICATE.test(code)) return refused('its certificate is not accepted', code)
  if (TLS.test(code)) return refused('TLS fails (redis: is without TLS, rediss: with it)', code)
  return away('it cannot be reached', code)
}

const CLOSED_UNANSWERED = 'it closed the connection before a reply, as a server does that expects TLS (rediss:)'

const readReply = (message: string): RedisFailure => {
  const [, reason = 'it refuses a command'] = REPLIES.find(([pattern]) => pattern.test(message)) ?? []
  return refused(reason, /^[A-Z]{2,32}(?= )/.exec(message)?.[0] ?? null)
}

/** The command was not sent. */
export const isUnsent = (error: unknown): boolean =>
  error instanceof ClientClosedError || error instanceof ClientOfflineError

/** The other side ended the connection; a command that was sent on it may have been executed. */
export const isConnectionClosed = (error: unknown): boolean =>
  isUnsent(error) ||
  error instanceof SocketClosedUnexpectedlyError ||
  error instanceof DisconnectsClientError ||
  CLOSED_CODES.has(String(describeError(error).errorCode))

const CLOSED_CODES: ReadonlySet<string> = new Set(['ECONNRESET', 'EPIPE', 'ERR_STREAM_DESTROYED'])
