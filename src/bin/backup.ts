import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import dotenv from 'dotenv'
import { type BackupFailure, backUp } from '../audit/sqlite-backup.ts'
import { parseAuditPlace } from '../config.ts'
import { ConfigError } from '../errors.ts'

const USAGE = `Usage: npm run backup -- FILE
Writes a consistent copy of the record on SQLite to FILE, which must not exist yet, beside a running gateway.
Of the settings it reads AUDIT_URL (or AUDIT_URL_FILE) alone. docs/deployment.md says how to restore it.`

const POSTGRES = `AUDIT_URL names a record on PostgreSQL, which this command does not copy: use pg_dump, as docs/deployment.md
tells under "Backup and restore".`

const FAILURES: Readonly<Record<BackupFailure, string>> = {
  'source-missing': 'AUDIT_URL names a record that does not exist. Where it is not set, that is ./data/audit.db',
  'source-unreadable': 'AUDIT_URL names a record that cannot be read, or is damaged. No copy was kept',
  'target-exists': 'FILE exists already, or a file of SQLite beside it (-journal, -wal, -shm). Nothing was changed',
  'target-reserved': 'FILE has a name of a file beside a record (-journal, -wal, -shm, -lock). Nothing was changed',
  'target-unwritable': 'FILE cannot be written. No copy was kept',
  interrupted: 'The copy was interrupted. Nothing of it was kept',
}

const fail = (reason: string, code: number): never => {
  process.stderr.write(`${reason}\n`)
  process.exit(code)
}

const readTarget = (): string => {
  try {
    const { positionals } = parseArgs({ allowPositionals: true, options: {} })
    const [target = '', ...more] = positionals
    return target === '' || more.length > 0 ? fail(`Give exactly one FILE.\n${USAGE}`, 2) : target
  } catch (error) {
    return fail(`${error instanceof Error ? error.message : 'The arguments are not understood.'}\n${USAGE}`, 2)
  }
}

const MIB = 1024 * 1024

/** On a terminal only, one line that is written over. */
const showProgress = (share: number): void => {
  if (process.stderr.isTTY) process.stderr.write(`\r${Math.floor(share * 100)} % copied`)
}

const run = async (): Promise<void> => {
  const target = readTarget()
  dotenv.config({ quiet: true, override: false })
  const place = parseAuditPlace(process.env, (path) => readFileSync(path, 'utf8'))
  if (place.kind === 'postgres') return fail(POSTGRES, 1)
  const interruption = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => interruption.abort())
  const startedAt = performance.now()
  const { path } = place
  const result = await backUp({ path, target, onProgress: showProgress, signal: interruption.signal })
  if (process.stderr.isTTY) process.stderr.write('\n')
  if (!result.ok) return fail(`${FAILURES[result.failure]} (${result.code}).`, 1)
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1)
  const size = `${(result.bytes / MIB).toFixed(1)} MiB`
  process.stdout.write(`Copied ${result.cancellations} cancellations (${size}) in ${seconds} s.\n`)
}

run().catch((error: unknown) => {
  fail(error instanceof ConfigError ? error.message : 'The record could not be copied.', 1)
})
