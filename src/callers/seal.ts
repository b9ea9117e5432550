import { hkdfSync } from 'node:crypto'
import { CompactEncrypt, compactDecrypt } from 'jose'
import type { z } from 'zod'
import type { Secret } from '../secret.ts'

/** Encrypts a value for its carrier, and verifies that it comes back unchanged (JWE, RFC 7516: `dir`, `A256GCM`). */
export interface Seal<T> {
  seal(value: T): Promise<string>
  /**
   * The values that were sealed here for this purpose, of those texts; not those of another version that look
   * different. Of the texts that have the form of a sealed value only the first and last few are decrypted, so that
   * many cost no more than one. A browser sends a `__Host-` cookie, whose path is the shortest, after those of longer
   * paths; among those of its path the oldest comes first.
   */
  unseal(texts: readonly string[]): Promise<readonly T[]>
}

const HEADER = { alg: 'dir', enc: 'A256GCM' } as const
const ALGORITHMS = { keyManagementAlgorithms: [HEADER.alg], contentEncryptionAlgorithms: [HEADER.enc] }
const KEY_BYTES = 32
/** From the first on, and likewise up to the last. */
const OPENED_AT_ENDS = 2

/** Header, no key, initialisation vector of 96 bits, ciphertext, tag of 128 bits (RFC 7516, section 7.1). */
const FORM = new RegExp(
  `^${Buffer.from(JSON.stringify(HEADER)).toString('base64url')}\\.\\.[\\w-]{16}\\.[\\w-]+\\.[\\w-]{22}$`,
)

/**
 * `purpose` keeps what was sealed for one use from being taken for another. The first secret seals, each of them opens:
 * so one can follow the other.
 */
export const createSeal = <T>(
  secrets: readonly [Secret, ...Secret[]],
  purpose: string,
  schema: z.ZodType<T>,
): Seal<T> => {
  const keyOf = (secret: Secret) => new Uint8Array(hkdfSync('sha256', secret.reveal(), '', purpose, KEY_BYTES))
  const keys = secrets.map(keyOf)
  const first = keyOf(secrets[0])

  const openOne = async (text: string): Promise<T | undefined> => {
    for (const key of keys) {
      const opened = await compactDecrypt(text, key, ALGORITHMS).catch(() => undefined)
      if (opened !== undefined) return schema.safeParse(JSON.parse(Buffer.from(opened.plaintext).toString('utf8'))).data
    }
    return undefined
  }

  return {
    seal: (value) => new CompactEncrypt(Buffer.from(JSON.stringify(value))).setProtectedHeader(HEADER).encrypt(first),
    unseal: async (texts) => {
      const sealed = texts.filter((text) => FORM.test(text))
      const outer = sealed.filter((_, at) => Math.min(at, sealed.length - 1 - at) < OPENED_AT_ENDS)
      const opened = await Promise.all(outer.map(openOne))
      return opened.filter((value) => value !== undefined)
    },
  }
}
