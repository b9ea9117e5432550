import type { SingleFlight } from '../async.ts'
import { textFault, trimEnds } from '../settings/text.ts'
import type { Credentials } from './signing.ts'

/** The source of the credentials, and of new ones after the upstream rejected them. Its promises never reject. */
export interface CredentialProvider {
  /** The credentials in force; null if there are none. */
  get(): Promise<Credentials | null>
  /** The upstream rejected these. Others in their place, read after the rejection; null if there are none. */
  renewAfterRejection(refused: Credentials): Promise<Credentials | null>
  /** Whether credentials are in force, without waiting for them. */
  isReady(): boolean
  /** The age of the credentials in force, and the time until they expire, if known. */
  state(): CredentialState
  /** By setting, whether the file that it names is faulty, so that its earlier content is in force. */
  faultyFiles(): Readonly<Record<string, boolean>>
  close(): void
}

/** In milliseconds; undefined if there are no credentials, or if the source does not say. */
export interface CredentialState {
  readonly ageMs: number | undefined
  readonly expireInMs: number | undefined
}

/** Credentials without a known expiration, accepted at a moment of the monotonic clock. */
export const stateSince = (takenAtMs: number): CredentialState => ({
  ageMs: performance.now() - takenAtMs,
  expireInMs: undefined,
})

/** Credentials that never change. */
export const fixedCredentials = (credentials: Credentials): CredentialProvider => {
  const takenAtMs = performance.now()
  return {
    get: async () => credentials,
    renewAfterRejection: async () => null,
    isReady: () => true,
    state: () => stateSince(takenAtMs),
    faultyFiles: () => ({}),
    close: () => undefined,
  }
}

/**
 * Credentials without white space at the ends of their parts; null if a part is empty, or has a character that no key
 * contains: a header with such a character could not be sent.
 */
export const validCredentials = ({ accessKeyId, accessKeySecret, securityToken }: Credentials): Credentials | null => {
  const pair = { accessKeyId: trimEnds(accessKeyId), accessKeySecret: trimEnds(accessKeySecret) }
  const token = securityToken === undefined ? {} : { securityToken: trimEnds(securityToken) }
  const parts = Object.values({ ...pair, ...token })
  return parts.every((text) => text !== '' && textFault(text, 'access-key') === null) ? { ...pair, ...token } : null
}

export const sameCredentials = (a: Credentials | null, b: Credentials | null): boolean =>
  a?.accessKeyId === b?.accessKeyId &&
  a?.accessKeySecret === b?.accessKeySecret &&
  a?.securityToken === b?.securityToken

/** The latest credentials, unless they are the rejected ones. */
export const unlessRejected = (refused: Credentials, latest: Credentials | null): Credentials | null =>
  sameCredentials(latest, refused) ? null : latest

/** Credentials other than the rejected ones, read again if the latest are the same; null where there are none. */
export const renewAfterRejection = async (
  refused: Credentials,
  reads: SingleFlight<void>,
  latest: () => Credentials | null,
): Promise<Credentials | null> => {
  const other = (): Credentials | null => unlessRejected(refused, latest())
  // The read in flight may have begun before the rejection.
  if (other() === null) await reads.current()
  if (other() === null) await reads.run()
  return other()
}
