import { type CryptoKey, decodeProtectedHeader, errors } from 'jose'
import { KeyRefusal } from './jwks.ts'

/** Each verification costs, and a token that names no key could ask for as many as the set has. */
const KEYS_TRIED_MAX = 4

/**
 * The result of `verify`, which looks the key up itself; where several fit, that of `verifyBy` with the first that
 * verifies the signature. So a token is verified that names no key, or one that is there several times (RFC 7515,
 * 4.1.4).
 * @throws KeyRefusal where more than four fit; what the two throw
 */
export const verifyByFittingKey = async <T>(
  verify: () => Promise<T>,
  verifyBy: (key: CryptoKey) => Promise<T>,
): Promise<T> => {
  try {
    return await verify()
  } catch (error) {
    if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error
    for (const key of await collect(error)) {
      const verified = await verifyBy(key).catch(unlessSignatureFails)
      if (verified !== null) return verified
    }
    throw new errors.JWSSignatureVerificationFailed()
  }
}

const collect = async (fitting: AsyncIterable<CryptoKey>): Promise<readonly CryptoKey[]> => {
  const keys: CryptoKey[] = []
  for await (const key of fitting) {
    if (keys.length === KEYS_TRIED_MAX) throw new KeyRefusal('is one of too many that fit')
    keys.push(key)
  }
  return keys
}

const unlessSignatureFails = (error: unknown): null => {
  if (error instanceof errors.JWSSignatureVerificationFailed) return null
  throw error
}

/** The token names no key, and none that is known has signed it: it can be of a key that was not read yet. */
export const failedWithoutName = (error: unknown, token: string): boolean =>
  error instanceof errors.JWSSignatureVerificationFailed && decodeProtectedHeader(token).kid === undefined
