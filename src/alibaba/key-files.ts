import { readRegularFile } from '../regular-file.ts'
import type { Log } from '../telemetry/log.ts'
import { areSame, createReadings, type KeySource, lastingState } from './credentials.ts'
import type { PlainKeys } from './signing.ts'

/** A part of the keys that stands in a file. */
export interface KeyFile {
  readonly part: keyof PlainKeys
  /** The setting that names it, for the log. */
  readonly setting: string
  readonly path: string
}

export interface KeyFilesOptions {
  /** What the files held at the start, and the parts that come from elsewhere. */
  readonly keys: PlainKeys
  readonly files: readonly KeyFile[]
  readonly log: Log
  readonly everyMs?: number | undefined
}

const EVERY_MS = 2000

/**
 * Keys that follow their files. All files are read together and taken together; what is faulty or gone changes nothing.
 * By polling, since mounted secrets are swapped by a symbolic link that file watchers don't follow.
 */
export const createKeyFiles = ({ keys, files, log, everyMs = EVERY_MS }: KeyFilesOptions): KeySource => {
  const setting = files.map((file) => file.setting).join(', ')
  let held = keys
  let takenAtMs = performance.now()
  let isFaulty = false
  let partial: { readonly keys: PlainKeys; readonly sinceMs: number } | null = null

  const hasLasted = (next: PlainKeys): boolean => {
    const nowMs = performance.now()
    if (partial === null || !areSame(next, partial.keys)) partial = { keys: next, sinceMs: nowMs }
    return nowMs >= partial.sinceMs + everyMs
  }

  const take = (next: PlainKeys): void => {
    held = next
    takenAtMs = performance.now()
    log.info('new keys are in force', { setting })
  }

  const look = async (): Promise<void> => {
    const next = await readTogether(held, files)
    if (next === null && !isFaulty) log.error('the files of the keys are faulty, the old keys stay', { setting })
    isFaulty = next === null
    const isNew = next !== null && !areSame(next, held)
    if (isNew && (isWhole(next, held, files) || hasLasted(next))) take(next)
    else if (!isNew) partial = null
  }

  const readings = createReadings(look, () => held)

  const lookRegularly = async (): Promise<void> => {
    await readings.once()
    if (!isClosed) timer = setTimeout(lookRegularly, everyMs).unref()
  }

  let isClosed = false
  let timer = setTimeout(lookRegularly, everyMs).unref()
  return {
    current: async () => held,
    replacing: readings.replacing,
    isReady: () => true,
    state: () => lastingState(takenAtMs),
    close: () => {
      isClosed = true
      clearTimeout(timer)
    },
  }
}

/**
 * Files that are written one after the other, or swapped while they are read, give parts of two sets for a moment. New keys
 * are new in each part; what changed in some parts only counts once it has stayed so.
 */
const isWhole = (next: PlainKeys, held: PlainKeys, files: readonly KeyFile[]): boolean =>
  files.every(({ part }) => next[part] !== held[part])

/** Everything as it is now; null where a file can't be read or is empty. */
const readTogether = async (held: PlainKeys, files: readonly KeyFile[]): Promise<PlainKeys | null> => {
  const texts = await Promise.all(files.map(({ path }) => readRegularFile(path).catch(() => null)))
  const parts = files.map(({ part }, index) => [part, texts[index]?.trim()] as const)
  return parts.every(([, text]) => text) ? { ...held, ...Object.fromEntries(parts) } : null
}
