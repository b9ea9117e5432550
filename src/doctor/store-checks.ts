import { accessSync, constants, existsSync, statfsSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { isFolderShared } from '../audit/record-files.ts'
import { REASONS as SQLITE_REASONS } from '../audit/sqlite.ts'
import { ConfigError } from '../errors.ts'
import { describeError } from '../telemetry/log.ts'
import { deadlineIn, withDeadline } from '../time.ts'
import { createCollectingLog, type Finding, failure, ok, reasonIn, warning, worstOf } from './finding.ts'
import type { Subject } from './subject.ts'

/** Redis: a connection, the scripts of the limits, a write and its expiry. */
export const checkRedis = async ({ config }: Subject): Promise<Finding> => {
  const { redisUrl, windowMs } = config.rateLimit
  if (redisUrl === undefined) return ok('REDIS_URL is not set: each replica counts limits by itself')
  const log = createCollectingLog()
  const { checkSharedStore } = await import('../http/middleware/redis-check.ts')
  const endsInMs = await checkSharedStore({ url: redisUrl, windowMs, hasSignIn: config.signIn !== null, log })
  if (endsInMs === null) {
    return failure(`Redis is not usable: ${reasonIn(log.lines)}`, 'See GatewayLimitsApart in docs/operations.md.')
  }
  return endsInMs > 0 && endsInMs <= windowMs
    ? ok('Redis runs the scripts, counts, and ends counts with their window')
    : failure('Redis counts, but the count would not end with its window', 'Use a server of Redis 6 or later.')
}

const PROBE_MS = 5000

/** The audit record: opened as the gateway opens it, with its schema, and written. */
export const checkAudit = async (subject: Subject): Promise<Finding> => {
  if (subject.missingFile !== null) return checkFolder(subject.missingFile)
  try {
    const store = await subject.store()
    const fault = await withDeadline(
      deadlineIn(PROBE_MS),
      store.probe().then(() => null, faultOf),
      'TIMEOUT',
    )
    if (fault !== null) {
      return failure(`the audit record cannot be written (${fault})`, 'See GatewayRecordFails in docs/operations.md.')
    }
    return ok('the audit record has the schema of this version, and can be written')
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return await refusedStore(error, subject)
  }
}

const faultOf = (error: unknown): string => {
  const { errorCode, errorName } = describeError(error)
  return String(errorCode ?? errorName)
}

const refusedStore = async ({ faults }: ConfigError, { config: { audit } }: Subject): Promise<Finding> => {
  const fault = faults.join('; ')
  if (audit.kind === 'sqlite' && fault.includes(SQLITE_REASONS.locked)) {
    return ok('the audit record is in use by a running gateway')
  }
  if (audit.kind === 'postgres' && audit.adminUrl !== undefined) {
    const { OLD_RULE } = await import('../audit/postgres-schema.ts')
    if (fault.includes(OLD_RULE)) {
      return warning('the tables are not those of this version', 'The start of the gateway migrates them.')
    }
  }
  return failure(fault, 'See "Audit trail" in docs/deployment.md.')
}

/** The role that owns the tables on PostgreSQL. */
export const checkAuditAdmin = async ({ config: { audit } }: Subject): Promise<Finding> => {
  if (audit.kind === 'sqlite' || audit.adminUrl === undefined) return ok('AUDIT_ADMIN_URL is not set')
  const { adminFault } = await import('../audit/postgres-maintenance.ts')
  const fault = await adminFault(audit.adminUrl)
  return fault === null
    ? ok('PostgreSQL accepts the role of AUDIT_ADMIN_URL')
    : failure(`AUDIT_ADMIN_URL ${fault}`, 'Correct it, or leave it to npm run migrate.')
}

/** A file that does not exist yet is created by the gateway, with its folder where only that is missing. */
const checkFolder = (path: string): Finding => {
  const folder = dirname(resolve(path))
  try {
    accessSync(existsSync(folder) ? folder : dirname(folder), constants.W_OK | constants.X_OK)
    return ok('the audit record does not exist yet, and the gateway can create it')
  } catch (error) {
    return failure(
      `AUDIT_URL: the file does not exist and cannot be created (${faultOf(error)})`,
      'Create the folder, or correct its rights.',
    )
  }
}

const MIB = 1024 * 1024
/** The log of SQLite alone needs some MiB. */
const FREE_MIN_MIB = 32
const FREE_WARNING_MIB = 1024

/** Free space, and rights of others, in the folder of the SQLite file. */
export const checkDisk = async ({ config: { audit } }: Subject): Promise<Finding> => {
  if (audit.kind === 'postgres') return ok('the disk of PostgreSQL is not visible from here')
  const folder = [dirname(resolve(audit.path)), dirname(dirname(resolve(audit.path)))].find((each) => existsSync(each))
  if (folder === undefined) return warning('not checked: the folder does not exist', 'Correct AUDIT_URL.')
  const { bavail, bsize } = statfsSync(folder)
  const mib = Math.floor((bavail * bsize) / MIB)
  const space = spaceFinding(mib)
  const isShared = existsSync(dirname(resolve(audit.path))) && isFolderShared(audit.path)
  return isShared ? worstOf(space, SHARED_FOLDER) : space
}

const SHARED_FOLDER = warning(
  'other users can replace files in the folder of AUDIT_URL',
  'Set its mode to 0700, or use another folder.',
)

const spaceFinding = (mib: number): Finding => {
  const message = `${mib} MiB are free for the audit record`
  if (mib < FREE_MIN_MIB) return failure(message, 'Free space: cancels are refused when the disk is full.')
  return mib < FREE_WARNING_MIB ? warning(message, 'A cancellation needs about 1 KB. Free space in time.') : ok(message)
}
