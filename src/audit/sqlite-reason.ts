// Result codes of SQLite by number. https://www.sqlite.org/rescode.html
const NAMES = [
  ...['OK', 'ERROR', 'INTERNAL', 'PERM', 'ABORT', 'BUSY', 'LOCKED', 'NOMEM', 'READONLY', 'INTERRUPT', 'IOERR'],
  ...['CORRUPT', 'NOTFOUND', 'FULL', 'CANTOPEN', 'PROTOCOL', 'EMPTY', 'SCHEMA', 'TOOBIG', 'CONSTRAINT', 'MISMATCH'],
  ...['MISUSE', 'NOLFS', 'AUTH', 'FORMAT', 'RANGE', 'NOTADB'],
]
/** An extended code is the number of a name and, in the higher bytes, a detail. */
const NAME_MASK = 0xff

/** The reason of an error in one word: `SQLITE_FULL`, `SQLITE_IOERR_778` (an extended code) or `EACCES`. */
export const reasonOf = (error: unknown): string => {
  if (!(error instanceof Error)) return 'UNKNOWN'
  if ('errcode' in error && typeof error.errcode === 'number') {
    const name = `SQLITE_${NAMES[error.errcode & NAME_MASK] ?? 'ERROR'}`
    return error.errcode > NAME_MASK ? `${name}_${error.errcode}` : name
  }
  return 'code' in error && typeof error.code === 'string' ? error.code : error.name
}
