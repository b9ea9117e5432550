import { closeSync, openSync, readSync, statSync } from 'node:fs'
import { createLogGuard } from './sqlite-log-guard.ts'
import { reasonOf } from './sqlite-reason.ts'

export interface FileGuardOptions {
  /** The path from the settings, and where it led to when the database was opened. */
  readonly givenPath: string
  readonly path: string
  /** Of the main file, taken before the database was opened. */
  readonly identity: string | null
  /** Reads the whole database past all caches. Returns the fault in one word, or null. */
  readonly verify: () => string | null
}

/** Device and inode, which no other file has as long as one of the process's is open; null where there is no file. */
export const identityOf = (path: string): string | null => {
  const found = statSync(path, { bigint: true, throwIfNoEntry: false })
  return found === undefined ? null : `${found.dev}:${found.ino}`
}

const DAMAGED_LOG: readonly string[] = ['WAL_TRUNCATED', 'WAL_OVERWRITTEN']

/** Reading the database takes seconds where it is large, so changes by other programs are verified no more often. */
const VERIFY_EVERY_MS = 60_000

/**
 * Detects that the files of an open database are no longer those that a later start would open: deleted, moved,
 * replaced, truncated or overwritten, the write-ahead log included. SQLite does not notice in WAL mode: it goes on with
 * the files that it holds open. Both checks return the fault in one word, or null. Call it once SQLite has made all of
 * the files.
 */
export const createFileGuard = ({ givenPath, path, identity, verify }: FileGuardOptions) => {
  // The path may be a symbolic link. The side files stand beside the file that it leads to.
  const places = [
    { name: 'FILE', path: givenPath, identity },
    { name: 'FILE', path, identity },
    ...['wal', 'shm'].map((name) => {
      const side = `${path}-${name}`
      return { name: name.toUpperCase(), path: side, identity: identityOf(side) }
    }),
  ]
  // Stays open as long as the database: closing any descriptor of a file gives up all locks of the process on it
  // (POSIX).
  const descriptor = openSync(path, 'r')
  const log = createLogGuard(path)
  let known = readContent(path, descriptor)
  let contentFault: string | null = null
  let isVerified = true
  let verifiedAtMs = Number.NEGATIVE_INFINITY

  const misplaced = (): string | null => {
    for (const { name, path, identity } of places) {
      const current = identityOf(path)
      if (current === null) return `${name}_DELETED`
      if (current !== identity) return `${name}_REPLACED`
    }
    return null
  }

  /** The main file is only written when pages are moved there, so another time of change means another program. */
  const altered = (isOurs: boolean): string | null => {
    if (!isEqual(readStamp(path), known.stamp)) {
      const current = readContent(path, descriptor)
      const fault = regressed(known, current)
      const isVacuumed = fault !== null && isVacuumedFrom(known, current)
      if (fault !== null && !isVacuumed) return fault
      known = current
      if (!isOurs || isVacuumed) isVerified = false
      if (isVacuumed) verifiedAtMs = Number.NEGATIVE_INFINITY
    }
    if (isVerified || performance.now() - verifiedAtMs < VERIFY_EVERY_MS) return null
    verifiedAtMs = performance.now()
    isVerified = true
    return verify()
  }

  const logFault = (isOurs: boolean): string | null => {
    if (isOurs) log.noteWritten()
    return log.check() ?? log.checkFrames()
  }

  const check = (isOurs: boolean): string | null => {
    try {
      // A file that was moved back is the same again. Content that was damaged stays damaged.
      const fault = misplaced() ?? contentFault
      if (fault !== null) return fault
      contentFault = logFault(isOurs) ?? altered(isOurs)
      return contentFault
    } catch (error) {
      return reasonOf(error)
    }
  }

  return {
    /** Before a commit. */
    check: () => check(false),
    /** After a commit, which may have moved pages from the write-ahead log to the main file. */
    checkCommitted: () => check(true),
    /** Whether the write-ahead log is damaged, so that none of it may be moved to the main file. */
    isLogDamaged: () => contentFault !== null && DAMAGED_LOG.includes(contentFault),
    close: (): void => {
      log.close()
      closeSync(descriptor)
    },
  }
}

interface Stamp {
  readonly size: bigint
  readonly mtimeNs: bigint
}

interface Content {
  readonly stamp: Stamp
  readonly header: Buffer
}

const readStamp = (path: string): Stamp => statSync(path, { bigint: true })

const isEqual = (a: Stamp, b: Stamp): boolean => a.size === b.size && a.mtimeNs === b.mtimeNs

const HEADER_BYTES = 100

const readContent = (path: string, descriptor: number): Content => {
  const stamp = readStamp(path)
  const header = Buffer.alloc(HEADER_BYTES)
  readSync(descriptor, header, 0, HEADER_BYTES, 0)
  return { stamp, header }
}

// The header of a database. https://www.sqlite.org/fileformat2.html#the_database_header
/** Magic text, size of pages, journal mode: they never change. A copy by VACUUM INTO has another journal mode. */
const FIXED_BYTES = 20
const [PAGE_SIZE_AT, PAGES_AT, SCHEMA_VERSION_AT] = [16, 28, 40]
/** Counter of changes, number of pages, version of the schema: they never decrease, and do in an older copy. */
const GROWING_AT = [24, PAGES_AT, SCHEMA_VERSION_AT] as const

/** VACUUM by another program makes the file smaller, as large as its header says, and counts the schema on. */
const isVacuumedFrom = (known: Content, { stamp, header }: Content): boolean => {
  const size = header.readUInt16BE(PAGE_SIZE_AT)
  const bytes = header.readUInt32BE(PAGES_AT) * (size === 1 ? 65_536 : size)
  const isNewSchema = header.readUInt32BE(SCHEMA_VERSION_AT) > known.header.readUInt32BE(SCHEMA_VERSION_AT)
  return isSameKind(known, header) && isNewSchema && stamp.size === BigInt(bytes)
}

const isSameKind = (known: Content, header: Buffer): boolean =>
  header.subarray(0, FIXED_BYTES).equals(known.header.subarray(0, FIXED_BYTES))

const regressed = (known: Content, current: Content): string | null => {
  if (current.stamp.size < known.stamp.size) return 'FILE_TRUNCATED'
  const isNewer = GROWING_AT.every((at) => current.header.readUInt32BE(at) >= known.header.readUInt32BE(at))
  return isSameKind(known, current.header) && isNewer ? null : 'FILE_OVERWRITTEN'
}
