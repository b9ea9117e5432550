export const SCOPES = ['tasks:cancel', 'tasks:read', 'audit:read'] as const

export type Scope = (typeof SCOPES)[number]

/** How a caller was authenticated. */
export type Via = 'api-key' | 'jwt' | 'session' | 'anonymous'

/** The scopes of a caller, and the tasks that they apply to. */
export interface Grant {
  readonly scopes: readonly Scope[]
  /** Patterns in A-labels, one of which must cover each detail of a task; null: any. An empty list leaves nothing. */
  readonly domains: readonly string[] | null
  /** Likewise, the types that each detail may have. */
  readonly taskTypes: readonly string[] | null
}

/** The caller of a request. Two callers are the same if via, issuer and name are equal. */
export interface Caller extends Grant {
  readonly via: Via
  /** The issuer that vouches for the name; null for the gateway's own keys. */
  readonly issuer: string | null
  readonly name: string
  /** The name of the person, as the issuer states it; null if it states none. For display beside `name` only. */
  readonly displayName: string | null
}

export const NO_GRANT: Grant = { scopes: [], domains: null, taskTypes: null }

/** One text per caller, for counting its requests. */
export const callerKey = ({ via, issuer, name }: Caller): string => JSON.stringify([via, issuer, name])

/** The caller of every request if `ALLOW_ANONYMOUS` is set. Only operators on the machine read the audit trail then. */
export const ANONYMOUS: Caller = {
  via: 'anonymous',
  issuer: null,
  name: 'anonymous',
  displayName: null,
  scopes: ['tasks:cancel', 'tasks:read'],
  domains: null,
  taskTypes: null,
}
