import { pollFiles } from '../files.ts'
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

/**
 * Polls a file of entries and replaces the entries when its text has changed. A file that is faulty or gone changes
 * nothing and is logged as an error.
 */
export const watchFile = <T>(options: WatchOptions<T>): WatchedFile => {
  const { path, setting, parse, replace, log, everyMs } = options
  let lastText: string | null | undefined
  let isFaulty = false

  const accept = (text: string | null, first: boolean): void => {
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

  const onTexts = ([text = null]: readonly (string | null)[]): void => {
    if (text !== lastText) accept(text, lastText === undefined)
    lastText = text
  }

  const { close } = pollFiles([path], onTexts, everyMs)
  return { setting, isFaulty: () => isFaulty, close }
}
