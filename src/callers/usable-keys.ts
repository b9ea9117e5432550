import { importJWK } from 'jose'
import * as z from 'zod'

/** The modulus of the largest RSA key that OpenSSL takes has 2,731 characters. */
const MEMBER_MAX = 4096
const OPERATIONS_MAX = 20
/** RFC 7518, 3.3 and 3.5. */
const RSA_BITS_MIN = 2048

const member = z.string().max(MEMBER_MAX).exactOptional()

const isListOfOperations = (value: unknown): boolean =>
  Array.isArray(value) && value.length <= OPERATIONS_MAX && value.every((name) => typeof name === 'string')

/** The members of public keys that verifying uses (RFC 7517, RFC 7518, RFC 8037). */
const keySchema = z.object({
  kty: z.string().max(MEMBER_MAX),
  kid: member,
  alg: member,
  use: member,
  key_ops: z.custom<string[]>(isListOfOperations).exactOptional(),
  crv: member,
  x: member,
  y: member,
  n: member,
  e: member,
})
const namedSchema = z.object({ kid: z.string().max(MEMBER_MAX) })

type Key = z.output<typeof keySchema>

/** The entries of a set that can verify signatures, and why the others can't, by the `kid` of each. */
export interface SortedKeys {
  readonly usable: readonly Key[]
  readonly unusable: ReadonlyMap<string, string>
}

/**
 * Leaves out what is no key, is not complete, is not supported or can't be imported (RFC 7517, section 5), and what is
 * for another purpose. Symmetric keys are never usable: they would be public.
 */
export const sortKeys = async (entries: readonly unknown[]): Promise<SortedKeys> => {
  const usable: Key[] = []
  const unusable = new Map<string, string>()
  for (const entry of entries) {
    const { data: key } = keySchema.safeParse(entry)
    const fault = key === undefined ? 'has a faulty member' : await faultOf(key)
    if (key !== undefined && fault === null) usable.push(withoutOperations(key))
    const kid = namedSchema.safeParse(entry).data?.kid
    if (fault !== null && kid !== undefined) unusable.set(kid, fault)
  }
  return { usable, unusable }
}

interface Kind {
  readonly algorithms: readonly [string, ...string[]]
  readonly members: readonly (keyof Key)[]
}

/** Kinds of keys by `kty` and, where there is one, `crv`. RFC 9864 names `Ed25519` beside `EdDSA`. */
const KINDS: Readonly<Record<string, Kind>> = {
  RSA: { algorithms: ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'], members: ['n', 'e'] },
  'EC P-256': { algorithms: ['ES256'], members: ['x', 'y'] },
  'EC P-384': { algorithms: ['ES384'], members: ['x', 'y'] },
  'EC P-521': { algorithms: ['ES512'], members: ['x', 'y'] },
  'OKP Ed25519': { algorithms: ['EdDSA', 'Ed25519'], members: ['x'] },
}

/**
 * Once they permit to verify: WebCrypto refuses a public key that may also sign, and operations that it does not know.
 */
const withoutOperations = ({ key_ops: _, ...key }: Key): Key => key

const faultOf = async (key: Key): Promise<string | null> => {
  const { kty, crv, alg, use = 'sig', key_ops: operations } = key
  const kind = KINDS[kty === 'RSA' ? kty : `${kty} ${crv}`]
  if (kind === undefined) return 'is of a kind that is not supported'
  if (use !== 'sig' || operations?.includes('verify') === false) return 'is not for signatures'
  if (alg !== undefined && !kind.algorithms.includes(alg)) return 'is for an algorithm that is not supported'
  if (kind.members.some((name) => key[name] === undefined)) return 'lacks a member'
  try {
    const imported = await importJWK(withoutOperations(key), alg ?? kind.algorithms[0])
    return 'algorithm' in imported ? weaknessOf(imported.algorithm) : null
  } catch {
    return 'cannot be imported'
  }
}

const weaknessOf = (algorithm: object): string | null => {
  if ('modulusLength' in algorithm && Number(algorithm.modulusLength) < RSA_BITS_MIN) return 'is too short'
  const exponent = 'publicExponent' in algorithm ? algorithm.publicExponent : null
  return exponent instanceof Uint8Array && !isSafeExponent(exponent) ? 'has an unsafe exponent' : null
}

/** Odd and at least 3 (RFC 8017, 3.1): with an exponent of 1 each text is its own signature. */
const isSafeExponent = (exponent: Uint8Array): boolean => {
  const [last = 0, ...higher] = exponent.toReversed()
  return last % 2 === 1 && (last > 1 || higher.some((byte) => byte > 0))
}
