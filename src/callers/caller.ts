export const SCOPES = ['tasks:cancel', 'tasks:read', 'audit:read'] as const

export type Scope = (typeof SCOPES)[number]

/** The claim of a token that lists its scopes, where no other is named. */
export const DEFAULT_SCOPE_CLAIM = 'scope'

/** How a caller proved who they are. */
export type Via = 'api-key' | 'jwt' | 'anonymous'

/** Who asks us. A caller is the same as another where via, issuer and name are. */
export interface Caller {
  readonly via: Via
  /** Who vouches for the name; null where we do. */
  readonly issuer: string | null
  readonly name: string
  readonly scopes: readonly Scope[]
}

/** One text per caller, for counting what each asks. */
export const callerKey = ({ via, issuer, name }: Caller): string => JSON.stringify([via, issuer, name])

/** Who everybody is where `ALLOW_ANONYMOUS` is set; the record stays readable to operators on the machine only. */
export const ANONYMOUS: Caller = {
  via: 'anonymous',
  issuer: null,
  name: 'anonymous',
  scopes: ['tasks:cancel', 'tasks:read'],
}
