import { readFileSync } from 'node:fs'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { parseArgs } from 'node:util'
import dotenv from 'dotenv'
import { allowDistantAddresses } from '../addresses.ts'
import { recordToJson } from '../audit/record-json.ts'
import type { AuditPage, AuditReader } from '../audit/store.ts'
import { type AuditPlace, parseAuditPlace } from '../config.ts'
import { ConfigError } from '../errors.ts'
import { parseMoment } from '../time.ts'

const USAGE = `Usage: npm run --silent export -- [--from 2026-01-01] [--to 2026-02-01T00:00:00Z]
Writes the record of cancellations from one moment to before another, newest first, one JSON object a line, as
GET /cancellations shows them.
Of the settings it reads AUDIT_URL (or AUDIT_URL_FILE) alone, and it can run beside the gateway.`

const PAGE = 1000
const TOLD_EVERY = 50 * PAGE

const fail = (reason: string, code: number): never => {
  process.stderr.write(`${reason}\n`)
  process.exit(code)
}

const readArguments = () => {
  try {
    return parseArgs({ options: { from: { type: 'string' }, to: { type: 'string' } } }).values
  } catch (error) {
    return fail(`${error instanceof Error ? error.message : 'The arguments are not understood.'}\n${USAGE}`, 2)
  }
}

const momentOf = (name: string, text: string | undefined): number | undefined => {
  if (text === undefined) return undefined
  return parseMoment(text) ?? fail(`--${name} must be a date, or date and time with a zone (ISO 8601).\n${USAGE}`, 2)
}

const open = async (place: AuditPlace): Promise<AuditReader> => {
  if (place.kind === 'sqlite') return (await import('../audit/sqlite.ts')).openSqliteReader(place.path)
  return (await import('../audit/postgres.ts')).openPostgresReader(place)
}

/** Page by page, so that memory does not grow with the audit trail and writers are not delayed. */
async function* linesOf(reader: AuditReader, times: { fromMs: number | undefined; toMs: number | undefined }) {
  let count = 0
  for (let before: AuditPage['next'] = null, more = true; more; more = before !== null) {
    const { records, next }: AuditPage = await reader.list({ ...times, limit: PAGE, before })
    yield records.map((record) => `${JSON.stringify(recordToJson(record))}\n`).join('')
    count += records.length
    before = next
    if (process.stderr.isTTY && (count % TOLD_EVERY === 0 || next === null)) process.stderr.write(`${count} records\n`)
  }
}

const run = async (): Promise<void> => {
  const { from, to } = readArguments()
  const times = { fromMs: momentOf('from', from), toMs: momentOf('to', to) }
  dotenv.config({ quiet: true, override: false })
  allowDistantAddresses()
  const reader = await open(parseAuditPlace(process.env, (path) => readFileSync(path, 'utf8'), process.execArgv))
  try {
    await pipeline(Readable.from(linesOf(reader, times)), process.stdout)
  } finally {
    await reader.close()
  }
}

run().catch((error: unknown) => {
  // The reader has closed the pipe.
  if (error instanceof Error && 'code' in error && error.code === 'EPIPE') process.exit(0)
  fail(error instanceof ConfigError ? error.message : 'The record could not be read to its end.', 1)
})
