import credentials from '@alicloud/credentials'
import { z } from 'zod'
import type { ExpiringCredentials } from './credential-chain.ts'

const keysSchema = z.object({
  accessKeyId: z.string().min(1),
  accessKeySecret: z.string().min(1),
  securityToken: z.string().min(1).optional().catch(undefined),
})

/** How the vendor's providers hold each other, and the innermost its session. Not part of their interface. */
const providerSchema = z.object({
  lastUsedProvider: z.unknown().optional(),
  innerProvider: z.unknown().optional(),
  session: z.object({ expiration: z.string() }).optional().catch(undefined),
})

/**
 * Goes through the vendor's default chain (environment, RRSA, profiles, ECS role, URI) once. Each time anew: the vendor's
 * own memory outlives changed profiles, hands out expired keys, and after a total failure tries the last provider only.
 */
export const fetchVendorCredentials = async (): Promise<ExpiringCredentials> => {
  const chain = credentials.DefaultCredentialsProvider.builder().build()
  const keys = keysSchema.parse(await chain.getCredentials())
  return { credentials: keys, expiresAtMs: expirationOf(chain) }
}

const expirationOf = (provider: unknown): number => {
  const parsed = providerSchema.safeParse(provider)
  if (!parsed.success) return Number.POSITIVE_INFINITY
  const { lastUsedProvider, innerProvider, session } = parsed.data
  if (session === undefined) return expirationOf(lastUsedProvider ?? innerProvider)
  const atMs = Date.parse(session.expiration)
  return Number.isNaN(atMs) ? Number.POSITIVE_INFINITY : atMs
}
