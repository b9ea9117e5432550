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

/** The header of a browser that has signed in at such a gateway, or at one with another issuer. */
export const sessionCookie = async (
  grant: Partial<Grant> = {},
  issuer: string = ISSUER,
): Promise<{ readonly cookie: string }> => {
  const sessionSecrets = [new Secret(SESSION_SECRET)] as const
  const options = {
    sessionSecrets,
    issuer,
    clientId: CLIENT_ID,
    idleMs: 900_000,
    maxMs: 3_600_000,
    grants: null,
    claimNames: { scopeClaim: DEFAULT_SCOPE_CLAIM, domainsClaim: undefined, taskTypesClaim: undefined },
    log: createLog('silent'),
  }
  const value = await createSessions(options).begin({ sub: 'ann', grant: { ...NO_GRANT, ...grant } })
  return { cookie: `__Host-session=${value}` }
}
