import { randomUUID } from 'node:crypto'
import { closeSync, fchmodSync, fsyncSync, linkSync, lstatSync, openSync, renameSync, rmSync, statSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { backup, DatabaseSync } from 'node:sqlite'
import { reasonOf } from './sqlite-reason.ts'

/** Why there is no copy. The code is the reason of SQLite or of the system. */
export type BackupResult =
  | { readonly ok: true; readonly bytes: number; readonly cancellations: number }
  | { readonly ok: false; readonly failure: BackupFailure; readonly code: string }

export type BackupFailure =
  | 'source-missing'
  | 'source-unreadable'
  | 'target-exists'
  | 'target-reserved'
  | 'target-unwritable'
  | 'interrupted'

export interface BackupOptions {
  /** The record, and the file to be made. */
  readonly path: string
  readonly target: string
  /** Of the copy, from 0 to 1. */
  readonly onProgress: (share: number) => void
  readonly signal: AbortSignal
}

/** So many pages are copied between two reports. */
const PAGES_AT_ONCE = 200
/** SQLite names its other files after the database. */
const SIDES = ['-journal', '-wal', '-shm'] as const

/**
 * Beside a record SQLite would take such a file for its own and delete it, and the gateway's lock would be found taken.
 */
const RESERVED = [...SIDES, '-lock']

/**
 * Makes a consistent copy of the record, beside a gateway that writes it: all that was committed when it begins. It is
 * written under another name, checked, made durable and given its name last, with mode 0600. An existing file is never
 * replaced.
 */
export const backUp = async ({ path, target, onProgress, signal }: BackupOptions): Promise<BackupResult> => {
  if (!isFile(path)) return failed('source-missing', 'ENOENT')
  if (RESERVED.some((suffix) => basename(target).endsWith(suffix))) return failed('target-reserved', 'EINVAL')
  const draft = join(dirname(resolve(target)), `.backup-${randomUUID()}`)
  try {
    if (['', ...SIDES].some((side) => isThere(target + side))) return failed('target-exists', 'EEXIST')
    create(draft)
    const cancellations = await copy(path, draft, (share) => {
      onProgress(share)
      signal.throwIfAborted()
    })
    signal.throwIfAborted()
    return publish(draft, target, cancellations)
  } catch (error) {
    if (signal.aborted) return failed('interrupted', 'ABORTED')
    const code = reasonOf(error)
    const isUnreadable = error instanceof UnreadableError || /^SQLITE_(CORRUPT|NOTADB)/.test(code)
    return failed(isUnreadable ? 'source-unreadable' : 'target-unwritable', code)
  } finally {
    for (const side of ['', ...SIDES]) rmSync(draft + side, { force: true })
  }
}

/** For this user alone, with any umask. */
const create = (path: string): void => {
  const descriptor = openSync(path, 'wx', 0o600)
  fchmodSync(descriptor, 0o600)
  closeSync(descriptor)
}

/** The source can't be read, or its content is damaged. */
class UnreadableError extends Error {
  readonly code: string

  constructor(code: string) {
    super(`the record can't be read (${code})`)
    this.code = code
  }
}

/**
 * Page by page inside one read transaction: without it SQLite would begin anew at each commit of the gateway. In WAL
 * mode readers hold up no writer.
 */
const copy = async (path: string, draft: string, onProgress: (share: number) => void): Promise<number> => {
  const source = open(path)
  try {
    const cancellations = begin(source)
    await backup(source, draft, {
      rate: PAGES_AT_ONCE,
      progress: ({ totalPages, remainingPages }) => onProgress(1 - remainingPages / totalPages),
    })
    check(draft)
    return cancellations
  } finally {
    source.close()
  }
}

const BUSY_MS = 5000

const open = (path: string): DatabaseSync => {
  try {
    return new DatabaseSync(path, { readOnly: true, timeout: BUSY_MS })
  } catch (error) {
    throw new UnreadableError(reasonOf(error))
  }
}

/** Returns how many cancellations the record has. A database without that table is no record. */
const begin = (source: DatabaseSync): number => {
  try {
    source.exec('BEGIN')
    return Number(source.prepare('SELECT count(*) AS count FROM intents').get()?.count)
  } catch (error) {
    throw new UnreadableError(reasonOf(error))
  }
}

/** Makes it one file, and reads it. A copy of a damaged record is damaged. */
const check = (draft: string): void => {
  const copied = new DatabaseSync(draft)
  try {
    copied.exec('PRAGMA journal_mode = DELETE')
    const found = copied.prepare('PRAGMA quick_check(1)').get()?.quick_check
    if (found !== 'ok') throw new UnreadableError('FILE_DAMAGED')
  } finally {
    copied.close()
  }
}

const publish = (draft: string, target: string, cancellations: number): BackupResult => {
  sync(draft)
  const { size: bytes } = statSync(draft)
  try {
    // Unlike a rename it replaces nothing.
    linkSync(draft, target)
  } catch (error) {
    if (reasonOf(error) === 'EEXIST') return failed('target-exists', 'EEXIST')
    // Some file systems have no links.
    renameSync(draft, target)
  }
  sync(dirname(resolve(target)))
  return { ok: true, bytes, cancellations }
}

const sync = (path: string): void => {
  const descriptor = openSync(path, 'r')
  fsyncSync(descriptor)
  closeSync(descriptor)
}

const isFile = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isFile() === true

const isThere = (path: string): boolean => lstatSync(path, { throwIfNoEntry: false }) !== undefined

const failed = (failure: BackupFailure, code: string): BackupResult => ({ ok: false, failure, code })
