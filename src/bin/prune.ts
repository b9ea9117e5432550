import { readFileSync } from 'node:fs'
import dotenv from 'dotenv'
import { allowDistantAddresses } from '../addresses.ts'
import { prunePostgres } from '../audit/postgres-maintenance.ts'
import { parseAuditAdmin } from '../config.ts'
import { ConfigError } from '../errors.ts'

// Removes audit records that are older than AUDIT_RETENTION_DAYS from PostgreSQL. Of the settings it reads that one and
// AUDIT_ADMIN_URL (or AUDIT_ADMIN_URL_FILE) alone. On SQLite the gateway does that itself.

const fail = (reason: string): never => {
  process.stderr.write(`${reason}\n`)
  process.exit(1)
}

const run = async (): Promise<void> => {
  dotenv.config({ quiet: true, override: false })
  allowDistantAddresses()
  const readFile = (path: string): string => readFileSync(path, 'utf8')
  const { adminUrl, retentionDays } = parseAuditAdmin(process.env, readFile, process.execArgv)
  await prunePostgres(adminUrl, retentionDays)
  process.stdout.write(`No record is older than ${retentionDays} days.\n`)
}

run().catch((error: unknown) => fail(error instanceof ConfigError ? error.message : 'Old records were not removed.'))
