import * as oidc from 'openid-client'
import * as z from 'zod'
import { isLoopback, isSafeUrl } from '../addresses.ts'
import { singleFlight } from '../async.ts'
import { GatewayError } from '../errors.ts'
import type { Secret } from '../secret.ts'
import { describeError, type Log } from '../telemetry/log.ts'
import { readBounded } from './bounded-body.ts'
import { authenticateClient, type ClientAuthentication } from './client-authentication.ts'
import { createKeySet, KeyRefusal, type KeySet, type KeySetTiming } from './jwks.ts'

export interface ProviderOptions {
  readonly issuer: string
  readonly clientId: string
  readonly clientSecret: Secret
  readonly clientAuthentication: ClientAuthentication
  readonly log: Log
  /** How the provider's keys are read; the pause after a failure to reach the provider is that of the keys. */
  readonly timing?: Partial<KeySetTiming> | undefined
}

const TIMEOUT_S = 5
const METADATA_MS = 3_600_000
const PAUSE_MS = 10_000
const ANSWER_MAX_BYTES = 256 * 1024
/** No address in use is longer, and browsers are sent there with a query of some hundred characters. */
const ADDRESS_MAX = 2048

/** The metadata of the provider, and its keys. */
export interface Provider {
  readonly config: oidc.Configuration
  readonly keySet: KeySet
}

/** The provider's metadata: read at the first use and again at intervals; kept while the provider is down. */
export const createProvider = (options: ProviderOptions, now: () => number) => {
  const { issuer, clientId, clientSecret, clientAuthentication, timing, log } = options
  const { cooldownMs: pauseMs = PAUSE_MS } = timing ?? {}
  let known: (Provider & { readonly untilMs: number }) | undefined
  let keys: { readonly url: URL; readonly keySet: KeySet } | undefined
  let failedAtMs = Number.NEGATIVE_INFINITY
  const authentication = authenticateClient(clientAuthentication, clientSecret)
  const insecure = isLoopback(new URL(issuer).hostname) ? [oidc.allowInsecureRequests] : []

  const keySetAt = (url: URL): KeySet => {
    if (keys?.url.href === url.href) return keys.keySet
    keys?.keySet.close()
    keys = { url, keySet: createKeySet({ issuer, jwksUrl: url, setting: 'OIDC_ISSUER', timing, log }) }
    return keys.keySet
  }

  const discover = async (): Promise<Provider> => {
    try {
      const config = await oidc.discovery(new URL(issuer), clientId, undefined, authentication, {
        execute: insecure,
        timeout: TIMEOUT_S,
        [oidc.customFetch]: fetchFromProvider,
      })
      const keySet = keySetAt(checkMetadata(config, issuer))
      const { end_session_endpoint: end } = config.serverMetadata()
      if (end && logoutPageOf(config) === null) {
        log.warn('the sign-out page of the identity provider is not usable', { setting: 'OIDC_ISSUER' })
      }
      known = { config, keySet, untilMs: now() + METADATA_MS }
      return known
    } catch (error) {
      failedAtMs = performance.now()
      log.error('the metadata of the identity provider could not be read', {
        setting: 'OIDC_ISSUER',
        reason: reasonOf(error),
      })
      throw new GatewayError('identity-provider-unavailable')
    }
  }

  const discovery = singleFlight(discover)

  const discoverOnce = async (): Promise<Provider> => {
    if (performance.now() < failedAtMs + pauseMs) throw new GatewayError('identity-provider-unavailable')
    return await discovery.run()
  }

  return {
    known: (): oidc.Configuration | undefined => known?.config,
    /** @throws identity-provider-unavailable */
    current: async (): Promise<Provider> => {
      if (known === undefined) return await discoverOnce()
      // No request waits for it. Failures are logged.
      if (now() >= known.untilMs) void discoverOnce().catch(() => undefined)
      return known
    },
    close: () => keys?.keySet.close(),
  }
}

/** Where the keys are. Addresses are checked here, before a browser is sent on its way. */
const checkMetadata = (config: oidc.Configuration, issuer: string): URL => {
  const metadata = config.serverMetadata()
  // Grants name the issuer to the letter, and so does the provider in its tokens.
  if (metadata.issuer !== issuer) throw new ProviderError('is another issuer')
  const { authorization_endpoint: begin = '', token_endpoint: token = '', jwks_uri: keys = '' } = metadata
  if ([begin, token, keys].some((address) => address.length > ADDRESS_MAX)) {
    throw new ProviderError('names an address that is too long')
  }
  const jwksUrl = new URL(keys)
  const addresses = [oidc.buildAuthorizationUrl(config, {}), new URL(token), jwksUrl]
  // A provider over https: leads to no address without it, loopback or not.
  const isSafe = (url: URL): boolean => isSafeUrl(url) && (url.protocol === 'https:' || issuer.startsWith('http:'))
  if (!addresses.every(isSafe)) throw new ProviderError('names an address that is not safe')
  return jwksUrl
}

/** Null if the provider names no usable page. Metadata can hold any value: their type is not checked by the library. */
export const logoutPageOf = (config: oidc.Configuration): URL | null => {
  const { end_session_endpoint: end } = config.serverMetadata()
  const url = typeof end === 'string' && end.length <= ADDRESS_MAX ? URL.parse(end) : null
  return url !== null && isSafeUrl(url) ? url : null
}

/** The provider's answer is of no use. The message is a fixed text. */
class ProviderError extends Error {}

/**
 * The token endpoint rejects the gateway as a client, without the error code of RFC 6749, section 5.2. The message is a
 * fixed text.
 */
class ClientRejected extends Error {}

/** Nothing was sent. */
export class ProviderUnreachable extends ProviderError {}

const NEVER_SENT = new Set([
  'EAI_AGAIN',
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'UND_ERR_CONNECT_TIMEOUT',
])

/** A provider is unavailable if it can't be reached, is too slow, sends too much, or reports a failure of its own. */
const fetchFromProvider: oidc.CustomFetch = async (url, options) => {
  const response = await fetch(url, { ...options, body: options.body ?? null }).catch((error) => {
    const { errorCode } = describeError(error instanceof Error ? error.cause : error)
    if (NEVER_SENT.has(String(errorCode))) throw new ProviderUnreachable('cannot be reached')
    throw new ProviderError(
      error instanceof Error && error.name === 'TimeoutError' ? 'took too long' : 'cannot be reached',
    )
  })
  const { status, headers } = response
  if (status >= 500) throw new ProviderError(`answered ${status}`)
  const text = await readBounded(response, ANSWER_MAX_BYTES).catch(() => {
    throw new ProviderError('stopped in the middle of its answer')
  })
  if (text === null) throw new ProviderError('is too large')
  const isToken = options.method === 'POST'
  if (isToken && (status === 401 || status === 403) && !hasErrorCode(text)) {
    throw new ClientRejected(`answered ${status} without an error code`)
  }
  const content = isToken && status === 200 ? idTokenIn(text) : text
  return new Response(status === 204 ? null : content, { status, headers })
}

const objectSchema = z.record(z.string(), z.unknown())

/** The JSON object in a response; undefined if there is none. */
const objectIn = (text: string): Readonly<Record<string, unknown>> | undefined => {
  try {
    return objectSchema.parse(JSON.parse(text.replace(/^\uFEFF/, '')))
  } catch {
    return undefined
  }
}

/** Only the ID token of a token response is used: no other member, in any form, may make a sign-in fail. */
const idTokenIn = (text: string): string => {
  const response = objectIn(text)
  if (response === undefined) return text
  return JSON.stringify({ access_token: 'unused', token_type: 'bearer', id_token: response.id_token })
}

const hasErrorCode = (text: string): boolean => typeof objectIn(text)?.error === 'string'

/** The library wraps an error of its fetch as the cause of its own error. */
const withCause = (error: unknown): readonly unknown[] => (error instanceof Error ? [error, error.cause] : [])

export const providerErrorIn = (error: unknown): ProviderError | undefined =>
  withCause(error).find((it) => it instanceof ProviderError)

export const rejectionIn = (error: unknown): ClientRejected | undefined =>
  withCause(error).find((it) => it instanceof ClientRejected)

/** The loggable reason of a failure: a code of the library or of OAuth, or a fixed text; never a foreign text. */
export const reasonOf = (error: unknown): string => {
  if (typeof error === 'string') return error
  if (error instanceof KeyRefusal) return error.message
  if (error instanceof oidc.ResponseBodyError || error instanceof oidc.AuthorizationResponseError) {
    return /^[a-z_]{1,64}$/.test(error.error) ? error.error : 'is not valid'
  }
  const { errorCode } = describeError(error)
  const { message } = providerErrorIn(error) ?? rejectionIn(error) ?? {}
  return message ?? (typeof errorCode === 'string' ? errorCode : 'is not valid')
}
