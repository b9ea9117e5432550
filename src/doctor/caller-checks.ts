import { createCollectingLog, type Finding, failure, ok, reasonIn, warning } from './finding.ts'
import type { Subject } from './subject.ts'

// Packages of tokens and sign-ins are loaded only if they are used, as in the gateway.

/** The key set of the token issuer, with the metadata that name it. */
export const checkIssuer = async ({ config: { jwt } }: Subject): Promise<Finding> => {
  if (jwt === null) return ok('JWT_ISSUER is not set')
  const log = createCollectingLog()
  const { createKeySet } = await import('../callers/jwks.ts')
  const keySet = createKeySet({ ...jwt, log })
  try {
    await keySet.ready()
    return ok('the key set of the issuer was read')
  } catch {
    return failure(
      `the key set of the issuer: ${reasonIn(log.lines)}`,
      'Check JWT_ISSUER, JWT_JWKS_URL and the network to the issuer.',
    )
  } finally {
    keySet.close()
  }
}

/** The metadata of the identity provider, and its keys. */
export const checkProvider = async ({ config: { signIn } }: Subject): Promise<Finding> => {
  if (signIn === null) return ok('OIDC_ISSUER is not set')
  const log = createCollectingLog()
  const { createProvider } = await import('../callers/identity-provider.ts')
  const provider = createProvider({ ...signIn, log }, Date.now)
  try {
    const { keySet } = await provider.current()
    await keySet.ready()
    return log.lines.length === 0
      ? ok('metadata and keys of the identity provider were read')
      : warning('the sign-out page of the identity provider is not usable', 'A sign-out ends at the gateway only.')
  } catch {
    return failure(
      `the identity provider: ${reasonIn(log.lines)}`,
      'Check OIDC_ISSUER and the network to the identity provider.',
    )
  } finally {
    provider.close()
  }
}
