import { type Grant, NO_GRANT } from '../../src/callers/caller.ts'
import { DEFAULT_SCOPE_CLAIM } from '../../src/callers/claims.ts'
import { createSessions } from '../../src/callers/session.ts'
import type { Env } from '../../src/config.ts'
import { Secret } from '../../src/secret.ts'
import { createLog } from '../../src/telemetry/log.ts'

const ISSUER = 'https://id.example.com'
const CLIENT_ID = 'gateway'

export const SESSION_SECRET = 'canary-session-secret-of-32-characters'

/** Settings of a gateway whose provider nobody asks: for what happens without it, or after it. */
export const SIGN_IN_ENV: Env = {
  PUBLIC_URL: 'https://gateway.example.com',
  OIDC_ISSUER: ISSUER,
  OIDC_CLIENT_ID: CLIENT_ID,
  OIDC_CLIENT_SECRET: 'canary-client-secret',
  SESSION_SECRET,
}

/** Sessions as such a gateway has them, or one with another issuer. */
const sessionsOf = (issuer: string) =>
  createSessions({
    sessionSecrets: [new Secret(SESSION_SECRET)],
    issuer,
    clientId: CLIENT_ID,
    idleMs: 900_000,
    maxMs: 3_600_000,
    grants: null,
    signOuts: { has: () => false, add: async () => undefined },
    claimNames: { scopeClaim: DEFAULT_SCOPE_CLAIM, domainsClaim: undefined, taskTypesClaim: undefined },
    log: createLog('silent'),
  })

/** The header of a browser that has signed in at such a gateway, or at one with another issuer. */
export const sessionCookie = async (
  grant: Partial<Grant> = {},
  issuer: string = ISSUER,
  sub = 'ann',
): Promise<{ readonly cookie: string }> => {
  const value = await sessionsOf(issuer).begin({ sub, grant: { ...NO_GRANT, ...grant } })
  return { cookie: `__Host-session=${value}` }
}

/** Many sessions of one person at such a gateway. */
export const sessionCookies = async (count: number): Promise<readonly string[]> => {
  const sessions = sessionsOf(ISSUER)
  const values = Array.from({ length: count }, () => sessions.begin({ sub: 'ann', grant: NO_GRANT }))
  return (await Promise.all(values)).map((value) => `__Host-session=${value}`)
}
