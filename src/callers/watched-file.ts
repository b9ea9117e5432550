import { readRegularFile } from '../regular-file.ts'
import type { Log } from '../telemetry/log.ts'
import type { ParsedEntries } from './entry-schema.ts'

export interface WatchOptions<T> {
  readonly path: string
  /** The setting that names the file, for the log. */
  readonly setting: string
  readonly parse: (text: string) => ParsedEntries<T>
  /** Takes new entries in place of the old ones. */
  readonly replace: (entries: readonly T[]) => void
  readonly log: Log
  readonly everyMs?: number | undefined
}

export interface WatchedFile {
  readonly setting: string
  /** The file is faulty or gone, so that its old entries are in force. */
  isFaulty(): boolean
  close(): void
}

const EVERY_MS = 2000

/**
 * Re-reads a file of entries and takes what changed; a file that is faulty or gone changes nothing and raises an alarm.
 * By polling, since mounted secrets are swapped by a symbolic link that file watchers don't follow.
 */
export const watchFile = <T>(options: WatchOptions<T>): WatchedFile => {
  const { path, setting, parse, replace, log, everyMs = EVERY_MS } = options
  let seen: string | null | undefined
  let isFaulty = false

  const take = (text: string | null, first: boolean): void => {
    const parsed = text === null ? { ok: false as const, rule: 'cannot be read' } : parse(text)
    isFaulty = !parsed.ok
    if (!parsed.ok) {
      log.error('the file is not valid; its previous entries stay in force', { setting, reason: parsed.rule })
      return
    }
    replace(parsed.entries)
    if (parsed.entries.length === 0) log.warn('the file has no entries any more', { setting })
    else if (!first) log.info('the new entries of the file are in force', { setting })
  }

  // The next look begins after the last has ended: an old reading must not overtake a newer one.
  const look = async (): Promise<void> => {
    const text = await readRegularFile(path).catch(() => null)
    if (closed) return
    if (text !== seen) take(text, seen === undefined)
    seen = text
    timer = setTimeout(look, everyMs).unref()
  }

  let closed = false
  let timer = setTimeout(look, everyMs).unref()
  return {
    setting,
    isFaulty: () => isFaulty,
    close: () => {
      closed = true
      clearTimeout(timer)
    },
  }
}
