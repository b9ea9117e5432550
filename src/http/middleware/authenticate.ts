import { setImmediate } from 'node:timers/promises'
import type { Request, RequestHandler, Response } from 'express'
import type { ApiKeys } from '../../callers/api-keys.ts'
import { ANONYMOUS, type Caller, type Scope } from '../../callers/caller.ts'
import type { Tokens } from '../../callers/jwt.ts'
import type { Sessions } from '../../callers/session.ts'
import { type ErrorReason, GatewayError } from '../../errors.ts'
import { type Deadline, withDeadline } from '../../time.ts'
import { type Context, type Credential, withinRequestDeadline } from './context.ts'
import { cookieValues, SESSION_COOKIE } from './cookies.ts'

export interface AuthenticationOptions {
  readonly apiKeys: ApiKeys
  /** Null where no tokens are accepted. */
  readonly tokens: Tokens | null
  /** Null where sign-in is not configured. */
  readonly sessions: Sessions | null
  readonly allowAnonymous: boolean
}

/**
 * Identifies the caller by a hash, or by a cookie that only the gateway can have sealed. Leaves `context.caller` null
 * for an unknown caller, so that the attempt is counted before a signature is verified, or `requireCaller` refuses it.
 */
export const identify = (options: AuthenticationOptions): RequestHandler =>
  async function identifier(req, _res, next) {
    const credentials = credentialsOf(req, options)
    const { context } = req
    context.credentials = credentials
    const [credential] = credentials
    if (credential === undefined) context.caller = options.allowAnonymous ? ANONYMOUS : null
    else if (credentials.every(({ scheme }) => scheme === 'session')) await resumeSession(context, options.sessions)
    else if (credentials.length === 1) context.caller = await callerOf(credential, options, context.deadline)
    next()
  }

/** Verifies a token that is not known yet. `refund` takes back the count of the attempt. */
export const verifyToken = (tokens: Tokens | null, refund: Refund): RequestHandler =>
  async function tokenVerifier(req, res, next) {
    const [credential, ...more] = req.context.credentials
    const token = more.length === 0 ? bearerTokenIn(credential) : null
    if (tokens === null || token === null || req.context.caller !== null) return next()
    req.context.caller =
      (await withinRequestDeadline(req, tokens.verify(token), 'identity-provider-unavailable')) ?? null
    if (req.context.caller !== null) await refund(req, res)
    next()
  }

/**
 * Others can plant cookies in a browser, so cookies that open no session are ignored beside one that does. Of several
 * sessions none counts: nothing shows which of them belongs to the person at the browser.
 */
const resumeSession = async (context: Context, sessions: Sessions | null): Promise<void> => {
  const { credentials } = context
  const [session, ...more] = (await sessions?.resume(credentials.map(({ value }) => value))) ?? []
  if (more.length > 0) return
  context.credentials = credentials.slice(0, 1)
  context.session = session ?? null
  context.caller = session?.caller ?? null
}

type Refund = (req: Request, res: Response) => Promise<void>

export const requireCaller: RequestHandler = function callerGuard(req, _res, next) {
  if (req.context.caller !== null) return next()
  const [credential, ...more] = req.context.credentials
  if (more.length > 0) throw new GatewayError('credentials-ambiguous')
  const reason = credential === undefined ? undefined : reasonFor(credential, req)
  throw new GatewayError('unauthenticated', reason === undefined ? {} : { reason })
}

/** Why a credential that was sent identifies nobody; undefined for `Authorization` without a bearer token. */
const reasonFor = ({ scheme }: Credential, req: Request): ErrorReason | undefined => {
  if (scheme === 'api-key') return 'key-invalid'
  if (scheme === 'session') return 'session-ended'
  return carriesToken(req) ? 'token-invalid' : undefined
}

/** The caller of a request that has passed `requireCaller`. @throws unauthenticated */
export const callerIn = (req: Request): Caller => {
  const { caller } = req.context
  if (caller === null) throw new GatewayError('unauthenticated')
  return caller
}

export const requireScope = (...anyOf: readonly Scope[]): RequestHandler =>
  function scopeGuard(req, _res, next) {
    const [scope = ''] = anyOf
    if (!anyOf.some((it) => callerIn(req).scopes.includes(it))) throw new GatewayError('forbidden', { scope })
    next()
  }

// Counted on the distinct lines: of two Authorization lines Node silently keeps the first.
const credentialsOf = (req: Request, { sessions }: AuthenticationOptions): readonly Credential[] => {
  const { authorization = [], 'x-api-key': keys = [] } = req.headersDistinct
  // Without sign-in, such a cookie belongs to another program: browsers send a host's cookies to all its ports.
  const cookies = sessions === null ? [] : cookieValues(req, SESSION_COOKIE)
  return [
    ...keys.map((value) => ({ scheme: 'api-key', value }) as const),
    ...authorization.map((value) => ({ scheme: 'authorization', value }) as const),
    ...cookies.map((value) => ({ scheme: 'session', value }) as const),
  ]
}

const callerOf = async (
  credential: Credential,
  { apiKeys, tokens }: AuthenticationOptions,
  deadline: Deadline,
): Promise<Caller | null> => {
  if (credential.scheme === 'api-key') return apiKeys.find(credential.value) ?? null
  const token = bearerTokenIn(credential)
  if (token === null || tokens === null) return null
  const cached = tokens.cached(token)
  const pending = cached === undefined ? tokens.pending(token) : undefined
  if (pending === undefined) return cached ?? null
  const caller = await withDeadline(deadline, pending, undefined)
  // In a turn of its own: requests that the memory store counts in one turn are all told the count of the last one.
  await setImmediate()
  return caller ?? null
}

/** RFC 6750, section 2.1; null for everything else. */
const bearerTokenIn = (credential: Credential | undefined): string | null =>
  credential?.scheme === 'authorization' ? (/^Bearer +([\w.~+/-]+=*)$/i.exec(credential.value)?.[1] ?? null) : null

/** Whether the request carries a bearer token, also one that is not well-formed. */
const carriesToken = (req: Request): boolean =>
  req.context.credentials.some(({ scheme, value }) => scheme === 'authorization' && /^Bearer +[^ ]/i.test(value))

/** The value of `WWW-Authenticate` for a problem; null for none. Source: RFC 6750, section 3. */
export const challengeOf = (
  { code, facts }: Pick<GatewayError, 'code' | 'facts'>,
  req: Request,
  acceptsTokens: boolean,
): string | null => {
  if (!acceptsTokens) return code === 'unauthenticated' ? 'ApiKey realm="gateway"' : null
  const bearer = 'Bearer realm="gateway"'
  if (code === 'unauthenticated') return carriesToken(req) ? `${bearer}, error="invalid_token"` : bearer
  const isBearer = req.context.caller?.via === 'jwt'
  const isInvalid = code === 'credentials-ambiguous' ? carriesToken(req) : code === 'query-invalid' && isBearer
  if (isInvalid) return `${bearer}, error="invalid_request"`
  if (code !== 'forbidden' || !isBearer) return null
  const scope = facts.scope === undefined ? '' : `, scope="${facts.scope}"`
  return `${bearer}, error="insufficient_scope"${scope}`
}
