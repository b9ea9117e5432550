import { readFileSync, readlinkSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { nullOnError } from '../errors.ts'
import { reasonOf } from './sqlite-reason.ts'

// The lock is a second file, held in BEGIN EXCLUSIVE: Node has no flock, and an exclusive WAL would shut readers out.
// It ends with its process, so a start that gets it knows that the gateway before has ended, provided that it is the
// same file. The database therefore names the lock file and the process of its last writer.

export const LOCK_SCHEMA = `
  CREATE TABLE IF NOT EXISTS last_writer (
    id INTEGER PRIMARY KEY CHECK (id = 0),
    lock_file TEXT,
    process TEXT
  ) STRICT;
`

/**
 * Whether no other gateway has the database open. It is shown by the lock file where that is the one of the last
 * writer. Where it is another, since it was removed or replaced, the last writer must have ended, or no other program
 * may have the database open at all.
 */
export const isOnlyWriter = (path: string, lockIdentity: string | null, timeoutMs: number): boolean => {
  const last = lastWriterOf(path)
  if (lockIdentity !== null && lockIdentity === last?.lock_file) return true
  return hasEnded(String(last?.process)) || isOpenNowhereElse(path, timeoutMs)
}

/**
 * Names the lock file and the process that holds it, for the next start. On a full disk the name of the process may
 * stay that of the last one, where the lock file is the same: the lock file alone shows enough then.
 */
export const noteWriter = (db: DatabaseSync, lockIdentity: string | null): void => {
  const { space, id, startedAt } = thisProcess()
  const name = JSON.stringify([space, id, startedAt])
  try {
    db.prepare('INSERT OR REPLACE INTO last_writer (id, lock_file, process) VALUES (0, ?, ?)').run(lockIdentity, name)
  } catch (error) {
    const known = db.prepare('SELECT lock_file FROM last_writer').get()?.lock_file
    if (reasonOf(error) !== 'SQLITE_FULL' || known !== lockIdentity) throw error
  }
}

const lastWriterOf = (path: string): Readonly<Record<string, unknown>> | undefined => {
  const db = new DatabaseSync(path)
  try {
    const isKnown = db.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'last_writer'").get()
    return isKnown === undefined ? undefined : db.prepare('SELECT lock_file, process FROM last_writer').get()
  } finally {
    db.close()
  }
}

const isOpenNowhereElse = (path: string, timeoutMs: number): boolean => {
  const db = new DatabaseSync(path, { timeout: timeoutMs })
  try {
    // Every connection in WAL mode, those of readers too, holds a shared lock on the file for as long as it is open.
    db.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT')
    return true
  } catch (error) {
    if (isBusy(error)) return false
    throw error
  } finally {
    db.close()
  }
}

export const isBusy = (error: unknown): boolean => reasonOf(error).startsWith('SQLITE_BUSY')

/** A process by the boot and the namespace in which its number counts, that number, and the time of its start. */
interface ProcessName {
  /** Null where the system has no /proc, as Linux has it. */
  readonly space: string | null
  readonly id: string
  readonly startedAt: string | null
}

const thisProcess = (): ProcessName => {
  const id = nullOnError(() => readlinkSync('/proc/self')) ?? ''
  return { space: spaceOfProcesses(), id, startedAt: startOf(id) }
}

const spaceOfProcesses = (): string | null =>
  nullOnError(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim() + readlinkSync('/proc/self/ns/pid'))

/** Whether it is certain that the process is there no more; of another machine or container that can't be seen. */
const hasEnded = (name: string): boolean => {
  const parsed: unknown = nullOnError(() => JSON.parse(name))
  if (!Array.isArray(parsed)) return false
  const [space, id, startedAt] = parsed
  if (typeof space !== 'string' || space !== spaceOfProcesses()) return false
  return startOf(String(id)) !== startedAt
}

const ENDED_STATES: readonly (string | undefined)[] = ['Z', 'X']
/**
 * Fields after the name of the program, which can hold anything.
 * https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
 */
const [STATE, START] = [0, 19]

/** In clock ticks since the boot; null where there is no such process. */
const startOf = (id: string): string | null => {
  const text = nullOnError(() => readFileSync(`/proc/${id}/stat`, 'utf8'))
  const fields = text?.slice(text.lastIndexOf(')') + 2).split(' ')
  return fields === undefined || ENDED_STATES.includes(fields[STATE]) ? null : (fields[START] ?? null)
}
