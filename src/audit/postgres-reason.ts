import { DatabaseError } from 'pg'

// Errors of pg without a code, by their messages.
const REASONS: readonly (readonly [message: RegExp, reason: string])[] = [
  [/does not support SSL/, 'NO_TLS'],
  [/establishing an SSL connection/, 'TLS_FAILED'],
  [/time ?out/i, 'TIMEOUT'],
  [/^Connection terminated|not queryable/, 'CONNECTION_LOST'],
  [/^SASL|password/, 'AUTHENTICATION_FAILED'],
]

/**
 * The reason of a failure in one word, never its message: an SQLSTATE such as `28P01`, a code of the network or of TLS
 * such as `ECONNREFUSED` and `CERT_HAS_EXPIRED`, or a word of ours.
 */
export const reasonOf = (error: unknown): string => {
  if (!(error instanceof Error)) return 'UNKNOWN'
  if ('code' in error && typeof error.code === 'string') return error.code
  return REASONS.find(([message]) => message.test(error.message))?.[1] ?? 'CONNECTION_FAILED'
}

/** The server's own word for a failure, its SQLSTATE; undefined where it is not the server that failed. */
export const sqlStateOf = (error: unknown): string | undefined =>
  error instanceof DatabaseError ? error.code : undefined

const LOGIN_RULE = 'names a role or a password that the server does not accept'
const UNTRUSTED_RULE = 'names a server whose certificate no trusted authority has signed: see NODE_EXTRA_CA_CERTS'
const NAME_RULE = 'names a server by a name that does not resolve'
const TIMEOUT_RULE = 'names a server that does not answer in time'

// SQLSTATE: https://www.postgresql.org/docs/current/errcodes-appendix.html
// TLS: https://docs.openssl.org/master/man1/openssl-verification-options/#diagnostics, as Node names it.
const RULES: Readonly<Record<string, string>> = {
  '28P01': LOGIN_RULE,
  '28000': 'names a role, or a way to connect, that the server does not accept',
  AUTHENTICATION_FAILED: LOGIN_RULE,
  '3D000': 'names a database that the server does not have',
  '08P01': 'names a server, or a pooler before it, that does not accept the way to connect',
  '53300': 'names a server that has no connection left for the role',
  '57P03': 'names a server that is starting up or shutting down',
  '25006': 'must name a server that can be written',
  ENOTFOUND: NAME_RULE,
  EAI_AGAIN: NAME_RULE,
  TIMEOUT: TIMEOUT_RULE,
  ETIMEDOUT: TIMEOUT_RULE,
  NO_TLS: 'names a server that offers no TLS, which its sslmode requires',
  TLS_FAILED: 'names a server whose TLS handshake failed',
  CERT_HAS_EXPIRED: 'names a server whose certificate has expired',
  CERT_NOT_YET_VALID: 'names a server whose certificate is not valid yet',
  ERR_TLS_CERT_ALTNAME_INVALID: 'names a server whose certificate is for another name',
  DEPTH_ZERO_SELF_SIGNED_CERT: UNTRUSTED_RULE,
  SELF_SIGNED_CERT_IN_CHAIN: UNTRUSTED_RULE,
  UNABLE_TO_GET_ISSUER_CERT: UNTRUSTED_RULE,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: UNTRUSTED_RULE,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: UNTRUSTED_RULE,
}

const REACH_RULE = 'must name a PostgreSQL server that can be reached'
const SQLSTATE = /^[0-9A-Z]{5}$/

/** The rule that a setting breaks where a statement failed for that reason. */
export const ruleFor = (reason: string, rules: Readonly<Record<string, string>>): string => {
  const rule =
    rules[reason] ?? RULES[reason] ?? (SQLSTATE.test(reason) ? "names a database that can't be used" : REACH_RULE)
  return `${rule} (${reason})`
}
