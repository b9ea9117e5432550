import { readFile } from 'node:fs/promises'
import type { Log } from '../telemetry/log.ts'
import { type ApiKeys, parseApiKeys } from './api-keys.ts'

export interface WatchOptions {
  readonly path: string
  readonly apiKeys: ApiKeys
  readonly log: Log
  readonly everyMs?: number
}

const EVERY_MS = 2000

/**
 * Re-reads `API_KEYS_FILE` and takes what changed; a file that is faulty or gone changes nothing and raises an alarm.
 * By polling, since mounted secrets are swapped by a symbolic link that file watchers don't follow.
 */
export const watchApiKeysFile = ({ path, apiKeys, log, everyMs = EVERY_MS }: WatchOptions): { close(): void } => {
  let seen: string | null | undefined

  const look = async (): Promise<void> => {
    const text = await readFile(path, 'utf8').catch(() => null)
    if (text === seen) return
    const first = seen === undefined
    seen = text
    const parsed = text === null ? { ok: false as const, rule: 'can not be read' } : parseApiKeys(text)
    if (!parsed.ok) {
      log.error('the file of API keys is faulty, the old keys stay', { setting: 'API_KEYS_FILE', reason: parsed.rule })
      return
    }
    apiKeys.replace(parsed.entries)
    if (!first) log.info('new API keys are in force', { setting: 'API_KEYS_FILE' })
  }

  const timer = setInterval(() => void look(), everyMs)
  timer.unref()
  return { close: () => clearInterval(timer) }
}
