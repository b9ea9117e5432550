import { POLL_EVERY_MS, pollFiles } from '../files.ts'
import { textFault } from '../settings/text.ts'
import type { Log } from '../telemetry/log.ts'
import { type CredentialProvider, renewAfterRejection, sameCredentials, stateSince } from './credentials.ts'
import type { Credentials } from './signing.ts'

/** A part of the credentials that is stored in a file. */
export interface CredentialFile {
  readonly part: keyof Credentials
  /** The setting that names it, for the log. */
  readonly setting: string
  readonly path: string
}

export interface CredentialFilesOptions {
  /** The content of the files at the start, and the parts from other sources. */
  readonly credentials: Credentials
  readonly files: readonly CredentialFile[]
  readonly log: Log
  readonly everyMs?: number | undefined
}

/**
 * Credentials that follow their files. All files are read together and accepted together; a faulty or missing file
 * changes nothing.
 */
export const createCredentialFiles = ({
  credentials,
  files,
  log,
  everyMs = POLL_EVERY_MS,
}: CredentialFilesOptions): CredentialProvider => {
  const setting = files.map((file) => file.setting).join(', ')
  let held = credentials
  let takenAtMs = performance.now()
  let faults: ReadonlyMap<string, string> = new Map()
  let partial: { readonly credentials: Credentials; readonly sinceMs: number } | null = null

  const hasLasted = (next: Credentials): boolean => {
    const nowMs = performance.now()
    if (partial === null || !sameCredentials(next, partial.credentials)) partial = { credentials: next, sinceMs: nowMs }
    return nowMs >= partial.sinceMs + everyMs
  }

  const accept = (next: Credentials): void => {
    held = next
    takenAtMs = performance.now()
    log.info('new credentials are in use', { setting })
  }

  const warn = (): void => {
    const [reason] = faults.values()
    log.error('a credential file is not valid; old credentials stay', {
      setting: [...faults.keys()].join(', '),
      reason,
    })
  }

  const onTexts = (texts: readonly (string | null)[]): void => {
    const wasFaulty = faults.size > 0
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

  const paths = files.map(({ path }) => path)
  const poller = pollFiles(paths, onTexts, everyMs)
  return {
    get: async () => held,
    renewAfterRejection: (refused) => renewAfterRejection(refused, poller, () => held),
    isReady: () => true,
    state: () => stateSince(takenAtMs),
    faultyFiles: () => Object.fromEntries(files.map(({ setting }) => [setting, faults.has(setting)])),
    close: poller.close,
  }
}

/**
 * Files that are written one after the other, or swapped while they are read, give parts of two sets for a moment. New
 * credentials differ in each part. A change of only some parts is accepted after it has lasted for one interval.
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
  if (text === null) return 'cannot be read'
  return text === '' ? 'must not be empty' : textFault(text, 'access-key')
}
