import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { TestContext } from 'node:test'
import { exportJWK, generateKeyPair } from 'jose'
import { z } from 'zod'
import { temporaryFolder } from '../helpers/gateway.ts'
import { closedPort } from '../helpers/ports.ts'
import {
  CLIENT_ID,
  DOMAINS,
  DOMAINS_CLAIM,
  type IdentityProvider,
  type ProviderOptions,
  requestServiceToken,
  SCOPES,
  SERVICE,
  type Visitor,
} from './identity-provider.ts'
import { needPackages, startServer } from './server.ts'

const PROGRAM = '/usr/bin/glewlwyd'
const MODULES = '/usr/lib/glewlwyd'
/** The tables, and the user `admin` with this password. */
const SCHEMA = '/usr/share/dbconfig-common/data/glewlwyd/install/sqlite3'
const ADMIN = { username: 'admin', password: 'password' }
const LOGIN = 'alice'
const PASSWORD = 'the password of alice'
/** The display name of the user. */
export const USER_NAME = 'Alice Ähren'

const configuration = (url: string, folder: string): string => `
port=${new URL(url).port}
bind_address="127.0.0.1"
external_url="${url}/"
login_url="login.html"
log_mode="console"
log_level="WARNING"
cookie_secure=0
session_key="GLEWLWYD2_SESSION_ID"
admin_session_authentication="cookie"
profile_session_authentication="cookie"
admin_scope="g_admin"
profile_scope="g_profile"
user_module_path="${MODULES}/user"
client_module_path="${MODULES}/client"
user_auth_scheme_module_path="${MODULES}/scheme"
plugin_module_path="${MODULES}/plugin"
use_secure_connection=false
secure_connection_key_file="none"
secure_connection_pem_file="none"
secure_connection_ca_file="none"
hash_algorithm="SHA512"
database={ type="sqlite3"; path="${join(folder, 'database')}"; };
`

const keySet = async (kid: string): Promise<string> => {
  const { privateKey } = await generateKeyPair('RS256', { extractable: true })
  return JSON.stringify({ keys: [{ ...(await exportJWK(privateKey)), kid, alg: 'RS256', use: 'sig' }] })
}

const scope = (name: string) => ({ name, display_name: name, description: name, password_required: false, scheme: {} })

const pluginOf = (issuer: string, audience: string, keys: string) => ({
  module: 'oidc',
  name: 'oidc',
  display_name: 'OpenID Connect',
  parameters: {
    iss: issuer,
    'jwks-private': keys,
    'default-kid': '',
    'jwks-show': true,
    'subject-type': 'public',
    'access-token-duration': 3600,
    'refresh-token-duration': 3600,
    'refresh-token-rolling': false,
    'code-duration': 600,
    'auth-type-code-enabled': true,
    'auth-type-id-token-enabled': true,
    'auth-type-token-enabled': false,
    'auth-type-none-enabled': false,
    'auth-type-password-enabled': false,
    'auth-type-device-enabled': false,
    'auth-type-refresh-enabled': false,
    // Client credentials are not part of OpenID Connect.
    'allow-non-oidc': true,
    'auth-type-client-enabled': true,
    'pkce-allowed': true,
    'pkce-required': true,
    'pkce-method-plain-allowed': false,
    'session-management-allowed': true,
    'session-cookie-name': 'GLEWLWYD2_OIDC_SID',
    'session-cookie-expiration': 3600,
    'allowed-scope': ['openid', 'profile', ...SCOPES],
    'name-claim': 'on-demand',
    'name-claim-scope': ['profile'],
    'scope-claim': 'mandatory',
    claims: [{ name: DOMAINS_CLAIM, 'user-property': 'domains', type: 'string', mandatory: true }],
    'resource-allowed': true,
    'resource-scope': Object.fromEntries(SCOPES.map((name) => [name, [audience]])),
    'resource-client-property': '',
    'resource-scope-and-client-property': false,
  },
})

const clientOf = ({ gatewayUrl, clientSecret }: ProviderOptions) => ({
  client_id: CLIENT_ID,
  name: 'Domain task gateway',
  confidential: true,
  enabled: true,
  client_secret: clientSecret,
  redirect_uri: [`${gatewayUrl}/auth/callback`],
  post_logout_redirect_uri: `${gatewayUrl}/console`,
  authorization_type: ['code'],
  token_endpoint_auth_method: ['client_secret_basic', 'client_secret_post'],
  scope: [],
})

const service = {
  client_id: SERVICE.id,
  name: 'A service',
  confidential: true,
  enabled: true,
  client_secret: SERVICE.secret,
  authorization_type: ['client_credentials'],
  token_endpoint_auth_method: ['client_secret_post'],
  scope: SCOPES,
}

const user = {
  username: LOGIN,
  password: PASSWORD,
  name: USER_NAME,
  enabled: true,
  scope: ['openid', 'profile', 'g_profile', ...SCOPES],
  domains: DOMAINS,
}

const json = (method: string, body: unknown): RequestInit => ({
  method,
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify(body),
})

const succeed = (response: Response): Response => {
  if (!response.ok) throw new Error(`Glewlwyd answers ${response.status} at ${response.url}`)
  return response
}

/** The administrator, by the API that the pages of the administrator use. */
const createAdministrator = async (api: string) => {
  const signedIn = succeed(await fetch(`${api}/auth`, json('POST', ADMIN)))
  const cookie = signedIn.headers
    .getSetCookie()
    .map((line) => line.split(';')[0])
    .join('; ')
  return async (method: string, path: string, body?: unknown): Promise<Response> => {
    const init = json(method, body)
    return succeed(await fetch(`${api}${path}`, { ...init, headers: { ...init.headers, cookie } }))
  }
}

const moduleSchema = z.looseObject({ parameters: z.looseObject({ 'data-format': z.record(z.string(), z.unknown()) }) })

/** A private Glewlwyd with a client for the gateway and a user; it ends after the test. */
export const startGlewlwyd = async (t: TestContext, options: ProviderOptions): Promise<IdentityProvider> => {
  needPackages({ glewlwyd: PROGRAM })
  const folder = await temporaryFolder(t)
  const url = `http://localhost:${await closedPort()}`
  const database = new DatabaseSync(join(folder, 'database'))
  database.exec(readFileSync(SCHEMA, 'utf8'))
  database.close()
  await writeFile(join(folder, 'glewlwyd.conf'), configuration(url, folder))
  await startServer(t, {
    command: [PROGRAM, `--config-file=${join(folder, 'glewlwyd.conf')}`],
    cwd: folder,
    readyUrl: `${url}/config`,
  })

  const api = `${url}/api`
  const issuer = `${api}/oidc`
  const audience = options.gatewayUrl
  const administer = await createAdministrator(api)
  const users = moduleSchema.parse(await (await administer('GET', '/mod/user/database')).json())
  users.parameters['data-format'].domains = { multiple: true, read: true, write: true }
  await administer('PUT', '/mod/user/database', users)
  await administer('PUT', '/mod/user/database/reset')
  for (const name of ['profile', ...SCOPES]) await administer('POST', '/scope/', scope(name))
  await administer('POST', '/user/', user)
  await administer('POST', '/client/', clientOf(options))
  await administer('POST', '/client/', service)
  await administer('POST', '/mod/plugin/', pluginOf(issuer, audience, await keySet('first')))

  const authenticate = async (visitor: Visitor, authorization: URL): Promise<URL> => {
    const page = await visitor.visit(authorization)
    const { searchParams } = new URL(page.headers.get('location') ?? '', url)
    succeed(await visitor.visit(`${api}/auth`, json('POST', { username: LOGIN, password: PASSWORD })))
    const consent = { scope: searchParams.get('scope') }
    succeed(await visitor.visit(`${api}/auth/grant/${CLIENT_ID}`, json('PUT', consent)))
    const back = await visitor.visit(`${searchParams.get('callback_url')}&g_continue`)
    return new URL(back.headers.get('location') ?? '')
  }

  return {
    env: {
      OIDC_ISSUER: issuer,
      OIDC_SCOPES: `openid profile ${SCOPES.join(' ')}`,
      JWT_ISSUER: issuer,
      JWT_AUDIENCE: audience,
    },
    authenticate,
    rotateKey: async () => {
      await administer('PUT', '/mod/plugin/oidc', pluginOf(issuer, audience, await keySet('second')))
      await administer('PUT', '/mod/plugin/oidc/reset')
    },
    serviceToken: () => requestServiceToken(`${issuer}/token`, { resource: audience }),
  }
}
