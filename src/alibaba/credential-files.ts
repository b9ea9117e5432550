import { readRegularFile } from '../regular-file.ts'
import { textFault } from '../settings/text.ts'
import type { Log } from '../telemetry/log.ts'
import { type CredentialProvider, createReadings, sameCredentials, stateSince } from './credentials.ts'
import type { Credentials } from './signing.ts'

/** A part of the keys that stands in a file. */
export interface CredentialFile {
  readonly part: keyof Credentials
  /** The setting that names it, for the log. */
  readonly setting: string
  readonly path: string
}

export interface CredentialFilesOptions {
  /** What the files held at the start, and the parts that come from elsewhere. */
  readonly keys: Credentials
  readonly files: readonly CredentialFile[]
  readonly log: Log
  readonly everyMs?: number | undefined
}

const EVERY_MS = 2000

/**
 * Keys that follow their files. All files are read together and taken together; what is faulty or gone changes nothing.
 * By polling, since mounted secrets are swapped by a symbolic link that file watchers don't follow.
 */
export const createCredentialFiles = ({
  keys,
  files,
  log,
  everyMs = EVERY_MS,
}: CredentialFilesOptions): CredentialProvider => {
  const setting = files.map((file) => file.setting).join(', ')
  let held = keys
  let takenAtMs = performance.now()
  let faults: ReadonlyMap<string, string> = new Map()
  let partial: { readonly keys: Credentials; readonly sinceMs: number } | null = null

  const hasLasted = (next: Credentials): boolean => {
    const nowMs = performance.now()
    if (partial === null || !sameCredentials(next, partial.keys)) partial = { keys: next, sinceMs: nowMs }
    return nowMs >= partial.sinceMs + everyMs
  }

  const accept = (next: Credentials): void => {
    held = next
    takenAtMs = performance.now()
    log.info('new keys are in force', { setting })
  }

  const warn = (): void => {
    const [reason] = faults.values()
    log.error('the files of the keys are faulty, the old keys stay', { setting: [...faults.keys()].join(', '), reason })
  }

  const poll = async (): Promise<void> => {
    const wasFaulty = faults.size > 0
    const texts = await Promise.all(files.map(({ path }) => readRegularFile(path).catch(() => null)))
    faults = faultsOf(files, texts)
    if (faults.size > 0) {
      if (!wasFaulty) warn()
      partial = null
      return
    }
    const next = { ...held, ...Object.fromEntries(files.map(({ part }, index) => [part, texts[index]])) }
    const isNew = !sameCredentials(next, held)
    if (isNew && (isWhole(next, held, files) || hasLasted(next))) accept(next)
    else if (!isNew) partial = null
  }

  const readings = createReadings(poll, () => held)

  const pollRegularly = async (): Promise<void> => {
    await readings.once()
    if (!isClosed) timer = setTimeout(pollRegularly, everyMs).unref()
  }

  let isClosed = false
  let timer = setTimeout(pollRegularly, everyMs).unref()
  return {
    get: async () => held,
    renewAfterRejection: readings.replacing,
    isReady: () => true,
    state: () => stateSince(takenAtMs),
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
const isWhole = (next: Credentials, held: Credentials, files: readonly CredentialFile[]): boolean =>
  files.every(({ part }) => next[part] !== held[part])

/** By setting, the rule that the text of its file breaks. */
const faultsOf = (
  files: readonly CredentialFile[],
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
