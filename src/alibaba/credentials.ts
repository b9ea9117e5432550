import type { PlainKeys } from './signing.ts'

/** Where the keys come from, and what is done once upstream no longer knows them. Never rejects. */
export interface KeySource {
  /** What to sign with now; null where there is nothing. */
  current(): Promise<PlainKeys | null>
  /** Upstream refused these: others in their place, read after that; null where there are none. */
  replacing(refused: PlainKeys): Promise<PlainKeys | null>
  /** Whether there is something to sign with, without waiting for it. */
  isReady(): boolean
  close(): void
}

/** Keys for good. */
export const fixedKeys = (keys: PlainKeys): KeySource => ({
  current: async () => keys,
  replacing: async () => null,
  isReady: () => true,
  close: () => undefined,
})

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
