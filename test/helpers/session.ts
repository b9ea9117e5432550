import { type Grant, NO_GRANT } from '../../src/callers/caller.ts'
import { DEFAULT_SCOPE_CLAIM } from '../../src/callers/claims.ts'
import { createSessions } from '../../src/callers/session.ts'
import type { Env } from '../../src/config.ts'
import { Secret } from '../../src/secret.ts'
import { createLog } from '../../src/telemetry/log.ts'

const ISSUER = 'https://id.example.com'
const CLIENT_ID = 'gateway'

export const SESSION_SECRET = 'canary-session-secret-of-32-characters'

/** Settings of a gateway for tests that send no request to the OpenID provider. */
export const SIGN_IN_ENV: Env = {
  PUBLIC_URL: 'https://gateway.example.com',
  OIDC_ISSUER: ISSUER,
  OIDC_CLIENT_ID: CLIENT_ID,
  OIDC_CLIENT_SECRET: 'canary-client-secret',
  SESSION_SECRET,
}

const sessionsOf = (issuer: string) =>
  createSessions({
    sessionSecrets: [new Secret(SESSION_SECRET)],
    issuer,
    clientId: CLIENT_ID,
    idleMs: 900_000,
    maxMs: 3_600_000,
    grants: null,
    signOuts: { has: () => false, add: async () => undefined },
    nameClaim: 'name',
    claimNames: { scopeClaim: DEFAULT_SCOPE_CLAIM, domainsClaim: undefined, taskTypesClaim: undefined },
    log: createLog({ level: 'silent' }),
  })

/** The `Cookie` header of a signed-in browser; the issuer may differ from that of `SIGN_IN_ENV`. */
export const sessionCookie = async (
  grant: Partial<Grant> = {},
  issuer: string = ISSUER,
  sub = 'ann',
  displayName: string | null = null,
): Promise<{ readonly cookie: string }> => {
  const value = await sessionsOf(issuer).begin({ sub, displayName, grant: { ...NO_GRANT, ...grant } })
  return { cookie: `__Host-session=${value}` }
}

/** Cookies of several sessions of one user. */
export const sessionCookies = async (count: number): Promise<readonly string[]> => {
  const sessions = sessionsOf(ISSUER)
  const values = Array.from({ length: count }, () => sessions.begin({ sub: 'ann', displayName: null, grant: NO_GRANT }))
  return (await Promise.all(values)).map((value) => `__Host-session=${value}`)
}
