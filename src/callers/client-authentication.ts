import * as oidc from 'openid-client'
import type { Secret } from '../secret.ts'

/** How the gateway proves its identity to the provider (OpenID Connect Core, section 9). */
export type ClientAuthentication = 'client_secret_basic' | 'client_secret_post'

/**
 * The library's own Basic escapes `-`, `_`, `.` and `~`, which need no escape, and breaks providers that do not decode.
 * A space is `%20`: decoders of forms and of URLs both read it (RFC 6749, section 2.3.1).
 */
const basic =
  (secret: Secret): oidc.ClientAuth =>
  (_server, client, _body, headers) => {
    const pair = [client.client_id, secret.reveal()].map(encodeURIComponent).join(':')
    headers.set('authorization', `Basic ${Buffer.from(pair).toString('base64')}`)
  }

export const authenticateClient = (method: ClientAuthentication, secret: Secret): oidc.ClientAuth =>
  method === 'client_secret_post' ? oidc.ClientSecretPost(secret.reveal()) : basic(secret)
