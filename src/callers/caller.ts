export const SCOPES = ['tasks:cancel', 'tasks:read', 'audit:read'] as const

export type Scope = (typeof SCOPES)[number]

/** How a caller proved who they are. */
export type Via = 'api-key' | 'jwt' | 'session' | 'anonymous'

/** What a caller may do, and to which tasks. */
export interface Grant {
  readonly scopes: readonly Scope[]
  /** Patterns in A-labels, one of which must cover each detail of a task; null: any. An empty list leaves nothing. */
  readonly domains: readonly string[] | null
  /** Likewise, the types that each detail may have. */
  readonly taskTypes: readonly string[] | null
}

/** Who asks us. A caller is the same as another where via, issuer and name are. */
export interface Caller extends Grant {
  readonly via: Via
  /** Who vouches for the name; null where we do. */
  readonly issuer: string | null
  readonly name: string
}

export const NO_GRANT: Grant = { scopes: [], domains: null, taskTypes: null }

/** One text per caller, for counting what each asks. */
export const callerKey = ({ via, issuer, name }: Caller): string => JSON.stringify([via, issuer, name])

/** Who everybody is where `ALLOW_ANONYMOUS` is set; the record stays readable to operators on the machine only. */
export const ANONYMOUS: Caller = {
  via: 'anonymous',
  issuer: null,
  name: 'anonymous',
  scopes: ['tasks:cancel', 'tasks:read'],
  domains: null,
  taskTypes: null,
}
