import type { Request, RequestHandler } from 'express'
import type { ApiKeys } from '../callers/api-keys.ts'
import { ANONYMOUS, type Caller, type Scope } from '../callers/caller.ts'
import { GatewayError } from '../errors.ts'

export interface AuthenticationOptions {
  readonly apiKeys: ApiKeys
  readonly allowAnonymous: boolean
}

/**
 * Finds out who asks. Leaves `context.caller` null where nobody known does, so that the attempt can be counted before
 * `requireCaller` refuses it.
 */
export const identify = ({ apiKeys, allowAnonymous }: AuthenticationOptions): RequestHandler =>
  function identifier(req, _res, next) {
    const credentials = credentialsOf(req)
    const [credential] = credentials
    if (credentials.length === 1) req.context.caller = callerOf(credential, apiKeys)
    if (credentials.length === 0 && allowAnonymous) req.context.caller = ANONYMOUS
    next()
  }

export const requireCaller: RequestHandler = function callerGuard(req, _res, next) {
  if (req.context.caller !== null) return next()
  throw new GatewayError(credentialsOf(req).length > 1 ? 'credentials-ambiguous' : 'unauthenticated')
}

/** The caller of a request that has passed `requireCaller`. @throws unauthenticated */
export const callerIn = (req: Request): Caller => {
  const { caller } = req.context
  if (caller === null) throw new GatewayError('unauthenticated')
  return caller
}

export const requireScope = (...anyOf: readonly Scope[]): RequestHandler =>
  function scopeGuard(req, _res, next) {
    if (!anyOf.some((scope) => callerIn(req).scopes.includes(scope))) throw new GatewayError('forbidden')
    next()
  }

interface Credential {
  readonly scheme: 'api-key' | 'authorization'
  readonly value: string
}

// Counted on the distinct lines: of two Authorization lines Node silently keeps the first.
const credentialsOf = ({ headersDistinct }: Request): readonly Credential[] => [
  ...(headersDistinct['x-api-key'] ?? []).map((value) => ({ scheme: 'api-key', value }) as const),
  ...(headersDistinct.authorization ?? []).map((value) => ({ scheme: 'authorization', value }) as const),
]

const callerOf = (credential: Credential | undefined, apiKeys: ApiKeys): Caller | null =>
  credential?.scheme === 'api-key' ? (apiKeys.find(credential.value) ?? null) : null
