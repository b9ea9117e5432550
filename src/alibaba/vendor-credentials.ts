import vendor from '@alicloud/credentials'
import * as z from 'zod'
import type { ExpiringCredentials } from './credential-chain.ts'

const credentialsSchema = z.object({
  accessKeyId: z.string().min(1),
  accessKeySecret: z.string().min(1),
  securityToken: z.string().min(1).optional().catch(undefined),
})

/** The vendor's providers contain each other, and the innermost its session. Not part of their interface. */
const providerSchema = z.object({
  lastUsedProvider: z.unknown().optional(),
  innerProvider: z.unknown().optional(),
  session: z.object({ expiration: z.string() }).optional().catch(undefined),
})

/**
 * Reads from the vendor's default chain (environment, RRSA, profiles, ECS role, URI) once. Each read makes a new chain:
 * the vendor's own cache outlives changed profiles, returns expired credentials, and after a total failure tries only
 * the last provider.
 */
export const fetchVendorCredentials = async (): Promise<ExpiringCredentials> => {
  const chain = vendor.DefaultCredentialsProvider.builder().build()
  const credentials = credentialsSchema.parse(await chain.getCredentials())
  return { credentials, expiresAtMs: expirationOf(chain) }
}

const expirationOf = (provider: unknown): number => {
  const parsed = providerSchema.safeParse(provider)
  if (!parsed.success) return Number.POSITIVE_INFINITY
  const { lastUsedProvider, innerProvider, session } = parsed.data
  if (session === undefined) return expirationOf(lastUsedProvider ?? innerProvider)
  const atMs = Date.parse(session.expiration)
  return Number.isNaN(atMs) ? Number.POSITIVE_INFINITY : atMs
}
