import { textFault, trimEnds } from '../settings/text.ts'
import type { Credentials } from './signing.ts'

/** Where the keys come from, and what is done once upstream no longer knows them. Never rejects. */
export interface CredentialProvider {
  /** What to sign with now; null where there is nothing. */
  get(): Promise<Credentials | null>
  /** Upstream refused these: others in their place, read after that; null where there are none. */
  renewAfterRejection(refused: Credentials): Promise<Credentials | null>
  /** Whether there is something to sign with, without waiting for it. */
  isReady(): boolean
  /** How old the keys are that are in force, and when they end, where that is known. */
  state(): CredentialState
  /** By setting, whether the file that it names is faulty, so that the keys that it held before are in force. */
  faultyFiles(): Readonly<Record<string, boolean>>
  close(): void
}

/** In milliseconds; undefined where there are none, or nobody says. */
export interface CredentialState {
  readonly ageMs: number | undefined
  readonly expireInMs: number | undefined
}

/** Keys whose end nobody says, taken at a moment of the monotonic clock. */
export const stateSince = (takenAtMs: number): CredentialState => ({
  ageMs: performance.now() - takenAtMs,
  expireInMs: undefined,
})

/** Keys for good. */
export const fixedCredentials = (keys: Credentials): CredentialProvider => {
  const takenAtMs = performance.now()
  return {
    get: async () => keys,
    renewAfterRejection: async () => null,
    isReady: () => true,
    state: () => stateSince(takenAtMs),
    faultyFiles: () => ({}),
    close: () => undefined,
  }
}

/**
 * Keys without white space at their ends; null where a part is empty, or has a character that no key contains: a header
 * with one could not be sent.
 */
export const validCredentials = ({ accessKeyId, accessKeySecret, securityToken }: Credentials): Credentials | null => {
  const keys = { accessKeyId: trimEnds(accessKeyId), accessKeySecret: trimEnds(accessKeySecret) }
  const token = securityToken === undefined ? {} : { securityToken: trimEnds(securityToken) }
  const parts = Object.values({ ...keys, ...token })
  return parts.every((text) => text !== '' && textFault(text, 'access-key') === null) ? { ...keys, ...token } : null
}

export const sameCredentials = (a: Credentials | null, b: Credentials | null): boolean =>
  a?.accessKeyId === b?.accessKeyId &&
  a?.accessKeySecret === b?.accessKeySecret &&
  a?.securityToken === b?.securityToken

/** The latest keys, unless they are those that upstream refused. */
export const unlessRejected = (refused: Credentials, latest: Credentials | null): Credentials | null =>
  sameCredentials(latest, refused) ? null : latest

/** Readings of keys, one at a time: whoever asks while one is under way waits for it. */
export const createReadings = (read: () => Promise<void>, latest: () => Credentials | null) => {
  let underWay: Promise<void> | undefined
  const once = (): Promise<void> => {
    underWay ??= read().finally(() => {
      underWay = undefined
    })
    return underWay
  }

  return {
    once,
    underWay: () => underWay,
    replacing: async (refused: Credentials): Promise<Credentials | null> => {
      const other = (): Credentials | null => unlessRejected(refused, latest())
      // The one under way may have begun before upstream refused.
      if (other() === null) await underWay
      if (other() === null) await once()
      return other()
    },
  }
}
