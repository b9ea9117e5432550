import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import dotenv from 'dotenv'
import { allowDistantAddresses } from '../addresses.ts'
import { GATEWAY_ROLE, migratePostgres } from '../audit/postgres-maintenance.ts'
import { parseAuditAdmin } from '../config.ts'
import { ConfigError } from '../errors.ts'

const USAGE = `Usage: npm run migrate -- [--role ${GATEWAY_ROLE}]
Makes the tables of the audit trail on PostgreSQL, or brings them up to date, and lets the gateway's role read and append:
the role that is named, or each that may append already, or else "${GATEWAY_ROLE}".
Of the settings it reads AUDIT_ADMIN_URL (or AUDIT_ADMIN_URL_FILE) alone.`

const fail = (reason: string, code: number): never => {
  process.stderr.write(`${reason}\n`)
  process.exit(code)
}

const readRole = (): string | undefined => {
  try {
    return parseArgs({ options: { role: { type: 'string' } } }).values.role
  } catch (error) {
    return fail(`${error instanceof Error ? error.message : 'The arguments are not understood.'}\n${USAGE}`, 2)
  }
}

const run = async (): Promise<void> => {
  const role = readRole()
  dotenv.config({ quiet: true, override: false })
  allowDistantAddresses()
  const { adminUrl } = parseAuditAdmin(process.env, (path) => readFileSync(path, 'utf8'), process.execArgv)
  const roles = await migratePostgres(adminUrl, role)
  process.stdout.write(`The tables are those of this version. Roles that may read and append: ${roles.join(', ')}\n`)
}

run().catch((error: unknown) => fail(error instanceof ConfigError ? error.message : 'The tables were not migrated.', 1))
