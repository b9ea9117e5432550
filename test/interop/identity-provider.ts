import type { TestContext } from 'node:test'
import { z } from 'zod'
import type { Env } from '../../src/config.ts'
import type { createVisitor } from '../helpers/provider.ts'

export type Visitor = ReturnType<typeof createVisitor>

/** Scopes of the user and of the service. */
export const SCOPES = ['tasks:cancel', 'tasks:read'] as const

/** Domains of the user. */
export const DOMAINS = ['example.com', '*.example.com'] as const

/** The claim with the domains of the user. */
export const DOMAINS_CLAIM = 'domains'

/** The gateway as a client. */
export const CLIENT_ID = 'gateway'

/** A service that calls the gateway. */
export const SERVICE = { id: 'service', secret: 'canary-secret-of-the-service' } as const

export interface IdentityProvider {
  /** Settings of a gateway that uses this provider, for sign-in and for tokens. */
  readonly env: Env
  /** Completes the provider's pages from the authorization request on, and returns the callback URL. */
  authenticate(visitor: Visitor, authorization: URL): Promise<URL>
  /** Replaces the signing key by a new one. */
  rotateKey(): Promise<void>
  /** An access token of the service. */
  serviceToken(): Promise<string>
}

export interface ProviderOptions {
  readonly gatewayUrl: string
  readonly clientSecret: string
}

export type StartProvider = (t: TestContext, options: ProviderOptions) => Promise<IdentityProvider>

const tokenSchema = z.object({ access_token: z.string() })

/** Requests a token for the service by its own credentials (RFC 6749, section 4.4). */
export const requestServiceToken = async (
  tokenUrl: string,
  parameters: Readonly<Record<string, string>> = {},
): Promise<string> => {
  const credentials = { client_id: SERVICE.id, client_secret: SERVICE.secret }
  const body = { grant_type: 'client_credentials', scope: SCOPES.join(' '), ...credentials, ...parameters }
  const response = await fetch(tokenUrl, { method: 'POST', body: new URLSearchParams(body) })
  return tokenSchema.parse(await response.json()).access_token
}
