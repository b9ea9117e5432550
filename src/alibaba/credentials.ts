import { textFault, trimEnds } from '../setting-text.ts'
import type { PlainKeys } from './signing.ts'

/** Where the keys come from, and what is done once upstream no longer knows them. Never rejects. */
export interface KeySource {
  /** What to sign with now; null where there is nothing. */
  current(): Promise<PlainKeys | null>
  /** Upstream refused these: others in their place, read after that; null where there are none. */
  replacing(refused: PlainKeys): Promise<PlainKeys | null>
  /** Whether there is something to sign with, without waiting for it. */
  isReady(): boolean
  /** How old the keys are that are in force, and when they end, where that is known. */
  state(): KeysState
  /** By setting, whether the file that it names is faulty, so that the keys that it held before are in force. */
  faultyFiles(): Readonly<Record<string, boolean>>
  close(): void
}

/** In milliseconds; undefined where there are none, or nobody says. */
export interface KeysState {
  readonly ageMs: number | undefined
  readonly expireInMs: number | undefined
}

/** Keys whose end nobody says, taken at a moment of the monotonic clock. */
export const lastingState = (takenAtMs: number): KeysState => ({
  ageMs: performance.now() - takenAtMs,
  expireInMs: undefined,
})

/** Keys for good. */
export const fixedKeys = (keys: PlainKeys): KeySource => {
  const takenAtMs = performance.now()
  return {
    current: async () => keys,
    replacing: async () => null,
    isReady: () => true,
    state: () => lastingState(takenAtMs),
    faultyFiles: () => ({}),
    close: () => undefined,
  }
}

/**
 * Keys without white space at their ends; null where a part is empty, or has a character that no key contains: a header
 * with one could not be sent.
 */
export const soundKeys = ({ accessKeyId, accessKeySecret, securityToken }: PlainKeys): PlainKeys | null => {
  const keys = { accessKeyId: trimEnds(accessKeyId), accessKeySecret: trimEnds(accessKeySecret) }
  const token = securityToken === undefined ? {} : { securityToken: trimEnds(securityToken) }
  const parts = Object.values({ ...keys, ...token })
  return parts.every((text) => text !== '' && textFault(text, 'access-key') === null) ? { ...keys, ...token } : null
}

export const areSame = (a: PlainKeys | null, b: PlainKeys | null): boolean =>
  a?.accessKeyId === b?.accessKeyId &&
  a?.accessKeySecret === b?.accessKeySecret &&
  a?.securityToken === b?.securityToken

/** The latest keys, unless they are those that upstream refused. */
export const otherThan = (refused: PlainKeys, latest: PlainKeys | null): PlainKeys | null =>
  areSame(latest, refused) ? null : latest

/** Readings of keys, one at a time: whoever asks while one is under way waits for it. */
export const createReadings = (read: () => Promise<void>, latest: () => PlainKeys | null) => {
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
    replacing: async (refused: PlainKeys): Promise<PlainKeys | null> => {
      const other = (): PlainKeys | null => otherThan(refused, latest())
      // The one under way may have begun before upstream refused.
      if (other() === null) await underWay
      if (other() === null) await once()
      return other()
    },
  }
}
