import { hkdfSync } from 'node:crypto'
import { CompactEncrypt, compactDecrypt } from 'jose'
import type { Secret } from '../secret.ts'

/** Hides a text from whoever carries it, and tells whether it came back unchanged (JWE, RFC 7516: `dir`, `A256GCM`). */
export interface Seal {
  seal(text: string): Promise<string>
  /** Undefined for whatever was not sealed here, for this purpose. */
  open(sealed: string): Promise<string | undefined>
}

const HEADER = { alg: 'dir', enc: 'A256GCM' } as const
const ALGORITHMS = { keyManagementAlgorithms: [HEADER.alg], contentEncryptionAlgorithms: [HEADER.enc] }
const KEY_BYTES = 32

/**
 * `purpose` keeps what was sealed for one use from being taken for another. The first secret seals, each of them opens:
 * so one can follow the other.
 */
export const createSeal = (secrets: readonly [Secret, ...Secret[]], purpose: string): Seal => {
  const keyOf = (secret: Secret) => new Uint8Array(hkdfSync('sha256', secret.reveal(), '', purpose, KEY_BYTES))
  const keys = secrets.map(keyOf)
  const first = keyOf(secrets[0])

  return {
    seal: (text) => new CompactEncrypt(Buffer.from(text)).setProtectedHeader(HEADER).encrypt(first),
    open: async (sealed) => {
      for (const key of keys) {
        const opened = await compactDecrypt(sealed, key, ALGORITHMS).catch(() => undefined)
        if (opened !== undefined) return Buffer.from(opened.plaintext).toString('utf8')
      }
      return undefined
    },
  }
}
