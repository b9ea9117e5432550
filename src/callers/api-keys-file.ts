import { readFile, stat } from 'node:fs/promises'
import type { Log } from '../telemetry/log.ts'
import { type ApiKeys, parseApiKeys } from './api-keys.ts'

export interface WatchOptions {
  readonly path: string
  readonly apiKeys: ApiKeys
  readonly log: Log
  readonly everyMs?: number
}

const EVERY_MS = 2000

/** A pipe would be waited for for ever. */
const readRegularFile = async (path: string): Promise<string | null> =>
  (await stat(path)).isFile() ? readFile(path, 'utf8') : null

/**
 * Re-reads `API_KEYS_FILE` and takes what changed; a file that is faulty or gone changes nothing and raises an alarm.
 * By polling, since mounted secrets are swapped by a symbolic link that file watchers don't follow.
 */
export const watchApiKeysFile = ({ path, apiKeys, log, everyMs = EVERY_MS }: WatchOptions): { close(): void } => {
  let seen: string | null | undefined

  const take = (text: string | null, first: boolean): void => {
    const parsed = text === null ? { ok: false as const, rule: 'can not be read' } : parseApiKeys(text)
    if (!parsed.ok) {
      log.error('the file of API keys is faulty, the old keys stay', { setting: 'API_KEYS_FILE', reason: parsed.rule })
      return
    }
    apiKeys.replace(parsed.entries)
    if (parsed.entries.length === 0) log.warn('no API key is in force any more', { setting: 'API_KEYS_FILE' })
    else if (!first) log.info('new API keys are in force', { setting: 'API_KEYS_FILE' })
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
    close: () => {
      closed = true
      clearTimeout(timer)
    },
  }
}
