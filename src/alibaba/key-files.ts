import { readRegularFile } from '../regular-file.ts'
import { textFault } from '../setting-text.ts'
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
  let faults: ReadonlyMap<string, string> = new Map()
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

  const warn = (): void => {
    const [reason] = faults.values()
    log.error('the files of the keys are faulty, the old keys stay', { setting: [...faults.keys()].join(', '), reason })
  }

  const look = async (): Promise<void> => {
    const wasFaulty = faults.size > 0
    const texts = await Promise.all(files.map(({ path }) => readRegularFile(path).catch(() => null)))
    faults = faultsOf(files, texts)
    if (faults.size > 0) {
      if (!wasFaulty) warn()
      partial = null
      return
    }
    const next = { ...held, ...Object.fromEntries(files.map(({ part }, index) => [part, texts[index]])) }
    const isNew = !areSame(next, held)
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
    faultyFiles: () => Object.fromEntries(files.map(({ setting }) => [setting, faults.has(setting)])),
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

/** By setting, the rule that the text of its file breaks. */
const faultsOf = (
  files: readonly KeyFile[],
  texts: readonly (string | null | undefined)[],
): ReadonlyMap<string, string> =>
  new Map(
    files.flatMap(({ setting }, index) => {
      const rule = faultOf(texts[index] ?? null)
      return rule === null ? [] : [[setting, rule] as const]
    }),
  )

const faultOf = (text: string | null): string | null => {
  if (text === null) return 'can not be read'
  return text === '' ? 'must not be empty' : textFault(text, 'access-key')
}
