import { hkdfSync } from 'node:crypto'
import { CompactEncrypt, compactDecrypt } from 'jose'
import type { z } from 'zod'
import type { Secret } from '../secret.ts'

/** Hides a value from whoever carries it, and tells whether it came back unchanged (JWE, RFC 7516: `dir`, `A256GCM`). */
export interface Seal<T> {
  seal(value: T): Promise<string>
  /** Undefined for whatever was not sealed here, for this purpose; also for what another version sealed that looks different. */
  open(sealed: string): Promise<T | undefined>
}

const HEADER = { alg: 'dir', enc: 'A256GCM' } as const
const ALGORITHMS = { keyManagementAlgorithms: [HEADER.alg], contentEncryptionAlgorithms: [HEADER.enc] }
const KEY_BYTES = 32

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

  return {
    seal: (value) => new CompactEncrypt(Buffer.from(JSON.stringify(value))).setProtectedHeader(HEADER).encrypt(first),
    open: async (sealed) => {
      for (const key of keys) {
        const opened = await compactDecrypt(sealed, key, ALGORITHMS).catch(() => undefined)
        if (opened !== undefined)
          return schema.safeParse(JSON.parse(Buffer.from(opened.plaintext).toString('utf8'))).data
      }
      return undefined
    },
  }
}
