import { chmodSync, closeSync, existsSync, lstatSync, mkdirSync, openSync, realpathSync, statSync } from 'node:fs'
import { platform, userInfo } from 'node:os'
import { dirname, resolve } from 'node:path'

/** The message of the error where other users can read a file of the record, and that can't be changed. */
export const EXPOSED = 'other users can read the record'

const FOLDER_MODE = 0o700
const FILE_MODE = 0o600
/** Of the group and of others. */
const OTHERS = 0o077
/** Files that SQLite keeps beside a database. */
const SIDE_FILES = ['-wal', '-shm', '-journal']

/**
 * Creates the file, and its folder where that is missing, for this user alone, with any umask. An existing file that
 * others can read becomes private too, and so do its side files.
 * @returns the one name that all paths to the file lead to, so that two names can't have two locks
 * @throws Error EXPOSED where others can read it all the same, an error of the system where it can't be written
 */
export const createFile = (path: string): string => {
  const absolute = resolve(path)
  const folder = dirname(absolute)
  if (!existsSync(folder)) {
    mkdirSync(folder, { mode: FOLDER_MODE })
    // The umask may have taken rights from this user too.
    chmodSync(folder, FOLDER_MODE)
  }
  closeSync(openSync(absolute, 'a', FILE_MODE))
  const file = realpathSync(absolute)
  for (const each of [file, ...SIDE_FILES.map((suffix) => `${file}${suffix}`)]) hideFromOthers(each)
  return file
}

/** Whether every user can add, replace and remove files beside this one: the operator's choice, with a warning. */
export const isFolderShared = (path: string): boolean =>
  platform() !== 'win32' && (statSync(dirname(resolve(path))).mode & 0o002) !== 0

/** The user of this process by number. A user of a container may have no name, and Node finds only users with a name. */
export const processUser = (): number =>
  (platform() === 'linux' ? statSync('/proc/self', { throwIfNoEntry: false }) : undefined)?.uid ?? userInfo().uid

const hideFromOthers = (file: string): void => {
  const stats = lstatSync(file, { throwIfNoEntry: false })
  // Windows has no such modes.
  if (stats === undefined || platform() === 'win32') return
  if (!stats.isFile()) throw new Error(EXPOSED)
  if ((stats.mode & 0o777) === FILE_MODE) return
  try {
    chmodSync(file, FILE_MODE)
  } catch {
    // Of another user: that it is not exposed is enough.
  }
  if ((lstatSync(file).mode & OTHERS) !== 0) throw new Error(EXPOSED)
}
