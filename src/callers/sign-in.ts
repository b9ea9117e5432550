import * as oidc from 'openid-client'
import { z } from 'zod'
import { GatewayError } from '../errors.ts'
import { isLoopback, isSafeUrl } from '../loopback.ts'
import type { Secret } from '../secret.ts'
import { describeError, type Log } from '../telemetry/log.ts'
import { readBounded } from './bounded-body.ts'
import { type ClaimNames, type Claims, grantIn, subject } from './claims.ts'
import { createSeal } from './seal.ts'
import type { Identity } from './session.ts'

/** A browser that is on its way to the provider. */
export interface Departure {
  readonly location: URL
  /** The cookie that it has to bring back, and for how long that is taken. */
  readonly transaction: string
  readonly lifetimeMs: number
}

export interface Arrival {
  readonly identity: Identity
  /** Where the sign-in was asked for; of this origin. */
  readonly returnTo: string
}

/** Sign-in by the authorization code flow with PKCE (OpenID Connect Core 1.0, RFC 7636). Tokens stay here. */
export interface SignIn {
  /** @throws identity-provider-unavailable */
  begin(returnTo: string): Promise<Departure>
  /**
   * What the provider says of the browser that came back with that query and those cookies, of which the one that began
   * the sign-in of the query's `state` counts.
   * @throws sign-in-failed, identity-provider-unavailable
   */
  complete(query: string, transactions: readonly string[]): Promise<Arrival>
  /** Where the provider's own session ends; null where it has no such page, or did not say so yet. */
  logoutUrl(): string | null
}

export interface SignInOptions {
  readonly claimNames: ClaimNames
  readonly issuer: string
  readonly clientId: string
  readonly clientSecret: Secret
  readonly sessionSecrets: readonly [Secret, ...Secret[]]
  /** The origin that browsers see. */
  readonly publicUrl: string
  /** Where the provider sends browsers after signing out; undefined: it decides. */
  readonly signedOutUrl: string | undefined
  readonly log: Log
  /** After a failure to reach the provider, how long it is not tried again. */
  readonly pauseMs?: number | undefined
  readonly now?: (() => number) | undefined
}

const TRANSACTION_MS = 600_000
const TIMEOUT_S = 5
const METADATA_MS = 3_600_000
const PAUSE_MS = 10_000
const ANSWER_MAX_BYTES = 256 * 1024
/** No address in use is longer, and browsers are sent there with a query of some hundred characters. */
const ADDRESS_MAX = 2048

const transactionSchema = z.object({
  state: z.string(),
  nonce: z.string(),
  verifier: z.string(),
  returnTo: z.string(),
  untilMs: z.number(),
})

export const createSignIn = (options: SignInOptions): SignIn => {
  const { claimNames, issuer, clientId, sessionSecrets, publicUrl, signedOutUrl, log, now = Date.now } = options
  const seal = createSeal(sessionSecrets, JSON.stringify(['sign-in', issuer, clientId]), transactionSchema)
  const redirectUrl = new URL('/auth/callback', publicUrl)
  const provider = createProvider(options, now)

  /** Every failure becomes one of ours: the library's carry requests and answers. */
  const refuse = (error: unknown): never => {
    const reason = reasonOf(error)
    if (unusableIn(error) !== undefined) {
      log.error('the identity provider can not be asked', { setting: 'OIDC_ISSUER', reason })
      throw new GatewayError('identity-provider-unavailable')
    }
    // The provider does not know the gateway, whoever signs in.
    if (CLIENT_REFUSED.includes(reason))
      log.error('the identity provider refuses the client', { setting: 'OIDC_CLIENT_SECRET', reason })
    else log.info('a sign-in was refused', { reason })
    throw new GatewayError('sign-in-failed')
  }

  const openTransaction = async (sealed: readonly string[], callbackUrl: URL) => {
    const states = callbackUrl.searchParams.getAll('state')
    const opened = await seal.open(sealed)
    const [transaction, ...more] = opened.filter(({ state, untilMs }) => states.includes(state) && now() < untilMs)
    return transaction !== undefined && more.length === 0 ? transaction : refuse('no transaction')
  }

  return {
    begin: async (returnTo) => {
      const [state, nonce, verifier] = [oidc.randomState(), oidc.randomNonce(), oidc.randomPKCECodeVerifier()]
      const location = oidc.buildAuthorizationUrl(await provider.config(), {
        redirect_uri: redirectUrl.href,
        scope: 'openid',
        state,
        nonce,
        code_challenge: await oidc.calculatePKCECodeChallenge(verifier),
        code_challenge_method: 'S256',
      })
      const content = { state, nonce, verifier, returnTo, untilMs: now() + TRANSACTION_MS }
      return { location, transaction: await seal.seal(content), lifetimeMs: TRANSACTION_MS }
    },

    complete: async (query, sealed) => {
      const callbackUrl = new URL(query, redirectUrl)
      const { state, nonce, verifier, returnTo } = await openTransaction(sealed, callbackUrl)
      const checks = { expectedState: state, expectedNonce: nonce, pkceCodeVerifier: verifier }
      const config = await provider.config()
      const tokens = await oidc.authorizationCodeGrant(config, callbackUrl, checks).catch(refuse)
      const claims: Claims = tokens.claims() ?? {}
      const sub = subject.safeParse(claims.sub)
      if (!sub.success) return refuse('claim sub')
      return { identity: { sub: sub.data, grant: grantIn(claims, claimNames) }, returnTo }
    },

    logoutUrl: () => {
      const config = provider.known()
      if (config?.serverMetadata().end_session_endpoint === undefined) return null
      const parameters = signedOutUrl === undefined ? {} : { post_logout_redirect_uri: signedOutUrl }
      return oidc.buildEndSessionUrl(config, parameters).href
    },
  }
}

/** What the provider says of itself, read when it is first needed and now and then; the last holds while it is away. */
const createProvider = (options: SignInOptions, now: () => number) => {
  const { issuer, clientId, clientSecret, pauseMs = PAUSE_MS, log } = options
  let known: { readonly config: oidc.Configuration; readonly untilMs: number } | undefined
  let underWay: Promise<oidc.Configuration> | undefined
  let failedAtMs = Number.NEGATIVE_INFINITY
  // Basic is the one that every provider has to support (RFC 6749, section 2.3.1).
  const authentication = oidc.ClientSecretBasic(clientSecret.reveal())
  const insecure = isLoopback(new URL(issuer).hostname) ? [oidc.allowInsecureRequests] : []

  const discover = async (): Promise<oidc.Configuration> => {
    try {
      const config = await oidc.discovery(new URL(issuer), clientId, undefined, authentication, {
        execute: [...insecure, oidc.enableNonRepudiationChecks],
        timeout: TIMEOUT_S,
        [oidc.customFetch]: fetchFromProvider,
      })
      checkMetadata(config, issuer)
      known = { config, untilMs: now() + METADATA_MS }
      return config
    } catch (error) {
      failedAtMs = performance.now()
      log.error('the identity provider can not be asked about itself', {
        setting: 'OIDC_ISSUER',
        reason: reasonOf(error),
      })
      throw new GatewayError('identity-provider-unavailable')
    }
  }

  const discoverOnce = async (): Promise<oidc.Configuration> => {
    if (performance.now() < failedAtMs + pauseMs) throw new GatewayError('identity-provider-unavailable')
    underWay ??= discover().finally(() => {
      underWay = undefined
    })
    return await underWay
  }

  return {
    known: (): oidc.Configuration | undefined => known?.config,
    /** @throws identity-provider-unavailable */
    config: async (): Promise<oidc.Configuration> => {
      if (known === undefined) return await discoverOnce()
      const { config, untilMs } = known
      // Nobody waits for it: the log has what goes wrong.
      if (now() >= untilMs) void discoverOnce().catch(() => undefined)
      return config
    },
  }
}

/** The addresses that browsers are sent to are used here first, so that a faulty one fails where all else does. */
const checkMetadata = (config: oidc.Configuration, issuer: string): void => {
  const metadata = config.serverMetadata()
  const { issuer: named, end_session_endpoint: end } = metadata
  // Grants name the issuer to the letter, and so does the provider in its tokens.
  if (named !== issuer) throw new Unusable('is another issuer')
  const { authorization_endpoint: begin = '', token_endpoint: token = '', jwks_uri: keys = '' } = metadata
  if ([begin, end ?? '', token, keys].some((address) => address.length > ADDRESS_MAX)) {
    throw new Unusable('names an address that is too long')
  }
  const addresses = [oidc.buildAuthorizationUrl(config, {}), ...(end === undefined ? [] : [new URL(end)])]
  if (!addresses.every(isSafeUrl)) throw new Unusable('names an address that is not safe')
}

/** The provider's answer is of no use. The message is a fixed text. */
class Unusable extends Error {}

/** Away is whoever can't be reached, takes too long, says too much or fails by its own word. */
const fetchFromProvider: oidc.CustomFetch = async (url, options) => {
  const response = await fetch(url, { ...options, body: options.body ?? null }).catch((error) => {
    throw new Unusable(error instanceof Error && error.name === 'TimeoutError' ? 'took too long' : 'can not be reached')
  })
  const { status, headers } = response
  if (status >= 500) throw new Unusable(`answered ${status}`)
  const text = await readBounded(response, ANSWER_MAX_BYTES).catch(() => {
    throw new Unusable('stopped in the middle of its answer')
  })
  if (text === null) throw new Unusable('is too large')
  return new Response(status === 204 ? null : text, { status, headers })
}

const CLIENT_REFUSED: readonly string[] = ['invalid_client', 'unauthorized_client', 'OAUTH_WWW_AUTHENTICATE_CHALLENGE']

/** The library hands on what its fetch threw as the cause of an error of its own. */
const unusableIn = (error: unknown): Unusable | undefined =>
  error instanceof Error ? [error, error.cause].find((it) => it instanceof Unusable) : undefined

/** What may be told of a failure: a code of the library's or OAuth's or a text of ours, never a text or value of others. */
const reasonOf = (error: unknown): string => {
  if (typeof error === 'string') return error
  if (error instanceof oidc.ResponseBodyError || error instanceof oidc.AuthorizationResponseError) {
    return /^[a-z_]{1,64}$/.test(error.error) ? error.error : 'is not valid'
  }
  const { errorCode } = describeError(error)
  return unusableIn(error)?.message ?? (typeof errorCode === 'string' ? errorCode : 'is not valid')
}
