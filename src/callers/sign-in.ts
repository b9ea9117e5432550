import { setTimeout as delay } from 'node:timers/promises'
import { type CompactVerifyResult, compactVerify, errors } from 'jose'
import * as oidc from 'openid-client'
import { GatewayError } from '../errors.ts'
import type { Secret } from '../secret.ts'
import { type ClaimNames, type Claims, displayNameIn, grantIn, subject } from './claims.ts'
import { failedWithoutName, verifyByFittingKey } from './fitting-keys.ts'
import {
  createProvider,
  logoutPageOf,
  type Provider,
  type ProviderOptions,
  ProviderUnreachable,
  providerErrorIn,
  reasonOf,
} from './identity-provider.ts'
import type { KeySet } from './jwks.ts'
import { CodeUsed, createSentCodes } from './sent-codes.ts'
import type { Identity } from './session.ts'
import {
  createTransactions,
  MARKER_MS,
  TRANSACTION_MS,
  type Transaction,
  transactionIdOf,
} from './sign-in-transaction.ts'

/** A browser that is on its way to the provider. */
export interface AuthorizationRequest {
  readonly location: URL
  /** Names the cookie. */
  readonly id: string
  /** The cookie that it has to bring back, and for how long that is taken. */
  readonly transaction: string
  readonly lifetimeMs: number
}

export interface SignInResult {
  /** Names the cookie. */
  readonly id: string
  readonly identity: Identity
  /** The session that this sign-in begins. */
  readonly sessionId: string
  /** The target after the sign-in: a path of this origin with query and fragment, or a URL of another origin. */
  readonly returnTo: string
  /** The marker that replaces the cookie of the sign-in, and its lifetime. */
  readonly marker: string
  readonly markerLifetimeMs: number
  /** The sign-in is complete from now on: its code is of no use again. Returns false where it was so before. */
  complete(): boolean
}

/** A browser that comes back from the provider. */
export interface Callback {
  readonly query: string
  /** The values of the cookie that the identifier in the query names. */
  readonly transactions: readonly string[]
  /** Called where the sign-in has come to its end without success, and must be begun anew. */
  readonly onUsedUp: () => void
}

/** Sign-in by the authorization code flow with PKCE (OpenID Connect Core 1.0, RFC 7636). Tokens stay here. */
export interface SignIn {
  /** @throws identity-provider-unavailable */
  begin(returnTo: string): Promise<AuthorizationRequest>
  /** Names the cookie of the sign-in that the query of a callback is about; null where it names none. */
  idOf(query: string): string | null
  /** Where a sign-in leads to that was completed a short time ago; undefined where those values prove none. */
  completedBefore(query: string, markers: readonly string[]): Promise<string | undefined>
  /**
   * What the provider says of the browser. The code is sent once, after the keys that verify its response are at hand;
   * a second request meanwhile gets the same response. @throws sign-in-failed, identity-provider-unavailable
   */
  complete(callback: Callback): Promise<SignInResult>
  /** Where the provider's own session ends; null where it has no such page, or did not say so yet. */
  logoutUrl(): string | null
  close(): void
}

export interface SignInOptions extends ProviderOptions {
  readonly claimNames: ClaimNames
  /** The claim with the name of the person; null: none. */
  readonly nameClaim: string | null
  /** Requested from the provider, separated by blanks. */
  readonly scopes: string
  readonly sessionSecrets: readonly [Secret, ...Secret[]]
  /** The origin that browsers see. */
  readonly publicUrl: string
  /** Where the provider sends browsers after signing out; undefined: it decides. */
  readonly signedOutUrl: string | undefined
  readonly now?: (() => number) | undefined
}

export const createSignIn = (options: SignInOptions): SignIn => {
  const { claimNames, nameClaim, scopes, publicUrl, signedOutUrl, log, now = Date.now } = options
  const transactions = createTransactions({ ...options, now })
  const codes = createSentCodes<oidc.TokenEndpointResponse & oidc.TokenEndpointResponseHelpers>(TRANSACTION_MS)
  const redirectUrl = new URL('/auth/callback', publicUrl)
  const provider = createProvider(options, now)

  /** Every failure becomes one of ours: the library's carry requests and answers. */
  const refuse = (error: unknown): never => {
    if (error instanceof GatewayError) throw error
    const reason = reasonOf(error)
    if (providerErrorIn(error) !== undefined) {
      log.error('the identity provider is not available', { setting: 'OIDC_ISSUER', reason })
      throw new GatewayError('identity-provider-unavailable')
    }
    // The provider does not know the gateway, so that every sign-in fails.
    if (CLIENT_REFUSED.includes(reason))
      log.error('the identity provider rejected the gateway as a client', { setting: 'OIDC_CLIENT_SECRET', reason })
    else log.info('a sign-in was refused', { reason })
    throw new GatewayError('sign-in-failed', reason === CONSENT_DENIED ? { reason: 'consent-denied' } : {})
  }

  const identityIn = (tokens: oidc.TokenEndpointResponseHelpers): Identity => {
    const claims: Claims = tokens.claims() ?? {}
    const sub = subject.safeParse(claims.sub)
    if (!sub.success) return refuse('claim sub')
    return { sub: sub.data, displayName: displayNameIn(claims, nameClaim), grant: grantIn(claims, claimNames) }
  }

  /** The library validates the claims, and the keys of the provider the signature. */
  const exchange = async (
    { config, keySet }: Provider,
    callbackUrl: URL,
    { state, nonce, verifier }: Transaction,
  ): Promise<Identity> => {
    const checks = { expectedState: state, expectedNonce: nonce, pkceCodeVerifier: verifier }
    try {
      const tokens = await codes.once(state, () => oidc.authorizationCodeGrant(config, callbackUrl, checks))
      await verify(tokens.id_token ?? '', keySet)
      return identityIn(tokens)
    } catch (error) {
      if (providerErrorIn(error) instanceof ProviderUnreachable) codes.forget(state)
      throw error instanceof CodeUsed ? refuse('code used') : error
    }
  }

  return {
    begin: async (returnTo) => {
      const { config } = await provider.current()
      const { state, nonce, verifier, id, sealed } = await transactions.begin(returnTo)
      const location = oidc.buildAuthorizationUrl(config, {
        redirect_uri: redirectUrl.href,
        scope: scopes,
        state,
        nonce,
        code_challenge: await oidc.calculatePKCECodeChallenge(verifier),
        code_challenge_method: 'S256',
      })
      return { location, id, transaction: sealed, lifetimeMs: TRANSACTION_MS }
    },

    idOf: (query) => transactionIdOf(stateIn(query)),

    completedBefore: (query, markers) => transactions.findMarker(markers, stateIn(query)),

    complete: async ({ query, transactions: sealed, onUsedUp }) => {
      const transaction = await transactions.find(sealed, stateIn(query))
      if (transaction === undefined) {
        onUsedUp()
        return refuse('no transaction')
      }
      const current = await provider.current()
      // A code that was sent before its response could be verified would be lost.
      await current.keySet.ready()
      const identity = await exchange(current, new URL(query, redirectUrl), transaction).catch((error) => {
        if (!isStillPending(error)) onUsedUp()
        return refuse(error)
      })
      return {
        id: transaction.id,
        identity,
        sessionId: transaction.sessionId,
        returnTo: transaction.returnTo,
        marker: await transactions.sealMarker(transaction),
        markerLifetimeMs: MARKER_MS,
        complete: () => codes.complete(transaction.state),
      }
    },

    logoutUrl: () => {
      const config = provider.known()
      if (config === undefined || logoutPageOf(config) === null) return null
      const parameters = signedOutUrl === undefined ? {} : { post_logout_redirect_uri: signedOutUrl }
      return oidc.buildEndSessionUrl(config, parameters).href
    },

    close: provider.close,
  }
}

const stateIn = (query: string): string => new URLSearchParams(query).get('state') ?? ''

/** The code was not sent, or its response could not be verified yet: the same request can succeed later. */
const isStillPending = (error: unknown): boolean =>
  providerErrorIn(error) instanceof ProviderUnreachable ||
  (error instanceof GatewayError && error.code === 'identity-provider-unavailable')

/** Symmetric ones are not among them: whether the provider may use one of these is in its metadata. */
const ALGORITHMS = [
  ...['RS', 'PS', 'ES'].flatMap((family) => ['256', '384', '512'].map((size) => `${family}${size}`)),
  'EdDSA',
  'Ed25519',
]

/**
 * An unknown key has the key set read again, and so has a token that names none and fails. Where the set was read too
 * short a time ago for that, wait until it may be: the code was sent, and can't be sent again.
 */
const verify = async (idToken: string, keySet: KeySet): Promise<void> => {
  const attempt = () =>
    verifyByFittingKey(
      async (): Promise<CompactVerifyResult> => compactVerify(idToken, keySet.keyFor, { algorithms: ALGORITHMS }),
      (key) => compactVerify(idToken, key, { algorithms: ALGORITHMS }),
    )
  const pausedMs = keySet.pausedMs()
  try {
    await attempt()
  } catch (error) {
    const isPaused = pausedMs > 0 && error instanceof errors.JWKSNoMatchingKey
    const mayBeOfNewKey = failedWithoutName(error, idToken)
    if (!isPaused && !mayBeOfNewKey) throw error
    await delay(keySet.pausedMs() + CLOCK_STEP_MS)
    if (mayBeOfNewKey) await keySet.renew()
    await attempt()
  }
}

/** A timer can end a moment too early. */
const CLOCK_STEP_MS = 10

/** Error code of RFC 6749, section 4.1.2.1. */
const CONSENT_DENIED = 'access_denied'

const CLIENT_REFUSED: readonly string[] = ['invalid_client', 'unauthorized_client', 'OAUTH_WWW_AUTHENTICATE_CHALLENGE']
