import { ConfigError } from '../errors.ts'
import type { Secret } from '../secret.ts'
import { prunedAgeMs } from './maintenance.ts'
import { ADMIN_TIMING, prune } from './postgres.ts'
import { type Connections, createConnections } from './postgres-connections.ts'
import { migrate, ruleOf } from './postgres-schema.ts'

// Work of the role that owns the tables, done by commands, so that no gateway needs its password.

/** The gateway's role where no other is named, as the documents create it. */
export const GATEWAY_ROLE = 'gateway'

/**
 * Makes the tables or brings them up to date, and lets the gateway's role read and append.
 * @param role the name of that role; where absent, each role that may append already, or else `gateway`
 * @returns the roles that may read and append now
 * @throws ConfigError where that can't be done
 */
export const migratePostgres = (adminUrl: Secret, role: string | undefined): Promise<readonly string[]> =>
  withAdmin(adminUrl, async (admin) => {
    const roles = await rolesFor(admin, role)
    if (roles.length === 0) {
      throw new ConfigError([`AUDIT_ADMIN_URL names a server without the role ${role ?? GATEWAY_ROLE} (see --role)`])
    }
    for (const each of roles) await migrate(admin, each)
    return roles
  })

/** Removes all records that are older. @throws ConfigError where that can't be done */
export const prunePostgres = (adminUrl: Secret, retentionDays: number): Promise<void> =>
  withAdmin(adminUrl, async (admin) => {
    for (let isThereMore = true; isThereMore; ) isThereMore = await prune(admin, prunedAgeMs(retentionDays))
  })

/** The rule that AUDIT_ADMIN_URL breaks; null if the server accepts the role. */
export const adminFault = (adminUrl: Secret): Promise<string | null> =>
  withAdmin(adminUrl, async ({ query }) => {
    const answer = await query('SELECT 1')
    return answer.ok ? null : ruleOf(answer.reason)
  })

const withAdmin = async <T>(url: Secret, work: (admin: Connections) => Promise<T>): Promise<T> => {
  const admin = createConnections({ url, max: 1, ...ADMIN_TIMING })
  try {
    return await work(admin)
  } finally {
    await admin.close()
  }
}

// Quoted, as `migrate` takes them.
const NAMED = 'SELECT quote_ident(rolname) AS name FROM pg_roles WHERE rolname = $1'
const GRANTED = `
  SELECT DISTINCT quote_ident(rolname) AS name
  FROM pg_class, aclexplode(relacl) AS granted JOIN pg_roles ON pg_roles.oid = grantee
  WHERE pg_class.oid = to_regclass('audit.intents') AND privilege_type = 'INSERT' AND grantee <> relowner
  ORDER BY name
`

const rolesFor = async ({ query }: Connections, role: string | undefined): Promise<readonly string[]> => {
  const names = async (sql: string, ...values: readonly string[]): Promise<readonly string[]> => {
    const answer = await query(sql, values)
    if (!answer.ok) throw new ConfigError([`AUDIT_ADMIN_URL ${ruleOf(answer.reason)}`])
    return answer.rows.map(({ name }) => String(name))
  }
  const granted = role === undefined ? await names(GRANTED) : []
  return granted.length > 0 ? granted : names(NAMED, role ?? GATEWAY_ROLE)
}
