import { execFile } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { promisify } from 'node:util'
import { z } from 'zod'
import { eventually, temporaryFolder } from '../helpers/gateway.ts'
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

const PORTAL = '/usr/share/lemonldap-ng/portal/htdocs/index.psgi'
const ROTATE_KEYS = '/usr/share/lemonldap-ng/bin/rotateOidcKeys'
// The portal does not start without the three packages after its own, which it only recommends.
const PACKAGES = {
  'liblemonldap-ng-portal-perl': PORTAL,
  'libgd-securityimage-perl': '/usr/share/perl5/GD/SecurityImage.pm',
  'libimage-magick-perl': '/usr/share/perl5/Image/Magick.pm',
  'libio-string-perl': '/usr/share/perl5/IO/String.pm',
  // For the command that replaces the keys.
  'libconvert-pem-perl': '/usr/share/perl5/Convert/PEM.pm',
  'libstring-random-perl': '/usr/share/perl5/String/Random.pm',
} as const
const TEMPLATES = '/usr/share/lemonldap-ng/portal/templates'
/** A demonstration account of LemonLDAP::NG; its password is its name. */
const LOGIN = 'dwho'

const localSettings = (folder: string): string => `
[all]
logLevel = warn
checkTime = 1
[configuration]
type = File
dirName = ${join(folder, 'conf')}
localStorage = Cache::FileCache
localStorageOptions = { namespace => 'conf', default_expires_in => 600, cache_root => '${join(folder, 'cache')}' }
[portal]
staticPrefix = /static
templateDir = ${TEMPLATES}
languages = en
`

const files = (folder: string, name: string) => ({
  Directory: join(folder, name),
  LockDirectory: join(folder, name),
  generateModule: 'Lemonldap::NG::Common::Apache::Session::Generate::SHA256',
})

const configurationOf = (url: string, folder: string, { gatewayUrl, clientSecret }: ProviderOptions) => ({
  cfgNum: 1,
  cfgAuthor: 'test',
  cfgDate: '1',
  cfgVersion: '2.16.1',
  portal: `${url}/`,
  domain: 'localhost',
  cookieName: 'lemonldap',
  securedCookie: 0,
  authentication: 'Demo',
  userDB: 'Same',
  passwordDB: 'Null',
  registerDB: 'Null',
  // This plugin sends mail.
  portalDisplayResetPassword: 0,
  demoExportedVars: { cn: 'cn', mail: 'mail', uid: 'uid' },
  whatToTrace: '_whatToTrace',
  macros: { _whatToTrace: 'lc($_user)' },
  globalStorage: 'Apache::Session::File',
  globalStorageOptions: files(folder, 'sessions'),
  persistentStorage: 'Apache::Session::File',
  persistentStorageOptions: files(folder, 'persistent-sessions'),
  localSessionStorage: 'Cache::FileCache',
  localSessionStorageOptions: { namespace: 'sessions', default_expires_in: 600, cache_root: join(folder, 'cache') },
  locationRules: { localhost: { default: 'accept' } },
  issuerDBOpenIDConnectActivation: 1,
  issuerDBOpenIDConnectPath: '^/oauth2/',
  issuerDBOpenIDConnectRule: 1,
  oidcServiceMetaDataIssuer: url,
  oidcServiceAllowAuthorizationCodeFlow: 1,
  oidcServiceAllowOnlyDeclaredScopes: 1,
  oidcServiceIgnoreScopeForClaims: 0,
  oidcRPMetaDataOptions: {
    gateway: {
      oidcRPMetaDataOptionsClientID: CLIENT_ID,
      oidcRPMetaDataOptionsClientSecret: clientSecret,
      oidcRPMetaDataOptionsRedirectUris: `${gatewayUrl}/auth/callback`,
      oidcRPMetaDataOptionsPostLogoutRedirectUris: `${gatewayUrl}/console`,
      oidcRPMetaDataOptionsRequirePKCE: 1,
      oidcRPMetaDataOptionsBypassConsent: 1,
      oidcRPMetaDataOptionsIDTokenSignAlg: 'RS256',
      oidcRPMetaDataOptionsIDTokenForceClaims: 1,
    },
    service: {
      oidcRPMetaDataOptionsClientID: SERVICE.id,
      oidcRPMetaDataOptionsClientSecret: SERVICE.secret,
      oidcRPMetaDataOptionsAllowClientCredentialsGrant: 1,
      oidcRPMetaDataOptionsAccessTokenJWT: 1,
      oidcRPMetaDataOptionsAccessTokenSignAlg: 'RS256',
      oidcRPMetaDataOptionsAdditionalAudiences: gatewayUrl,
    },
  },
  oidcRPMetaDataMacros: {
    gateway: {
      gateway_scopes: `inGroup('timelords') ? '${SCOPES.join(' ')}' : ''`,
      gateway_domains: `inGroup('timelords') ? '${DOMAINS.join('; ')}' : ''`,
    },
  },
  oidcRPMetaDataExportedVars: {
    gateway: {
      name: 'cn',
      scope: 'gateway_scopes;string;never',
      [DOMAINS_CLAIM]: 'gateway_domains;string;always',
    },
  },
  oidcRPMetaDataOptionsExtraClaims: { gateway: { profile: `name scope ${DOMAINS_CLAIM}` } },
  oidcRPMetaDataScopeRules: { service: Object.fromEntries(SCOPES.map((name) => [name, '$requested'])) },
})

const keySetSchema = z.object({ keys: z.array(z.object({ kid: z.string() })) })

/** The fields of the form of a page, hidden ones too. */
const fieldsOf = (page: string): Map<string, string> => {
  const inputs = [...page.matchAll(/<input[^>]*>/g)].map(([input]) =>
    [/\bname="([^"]*)"/, /\bvalue="([^"]*)"/].map((it) => it.exec(input)?.[1]),
  )
  return new Map(inputs.map(([name = '', value = '']) => [name, value]))
}

/** Submits the form of a page of the portal with these fields, and follows redirects to a page or until `isEnd`. */
export const submit = async (
  visitor: Visitor,
  page: Response,
  fields: Readonly<Record<string, string>>,
  isEnd: (url: URL) => boolean,
): Promise<Response | URL> => {
  const body = new URLSearchParams([...fieldsOf(await page.text()), ...Object.entries(fields)])
  const sent = await visitor.visit(page.url, { method: 'POST', body })
  const location = sent.headers.get('location')
  return location === null ? sent : visitor.follow(new URL(location, page.url), isEnd)
}

/** A private portal of LemonLDAP::NG with a client for the gateway; it ends after the test. */
export const startLemonldap = async (t: TestContext, options: ProviderOptions): Promise<IdentityProvider> => {
  needPackages(PACKAGES)
  const folder = await temporaryFolder(t)
  const port = await closedPort()
  const url = `http://localhost:${port}`
  for (const name of ['conf', 'cache', 'sessions', 'persistent-sessions']) await mkdir(join(folder, name))
  await writeFile(join(folder, 'local.ini'), localSettings(folder))
  await writeFile(join(folder, 'conf/lmConf-1.json'), JSON.stringify(configurationOf(url, folder, options)))
  const env = {
    LLNG_DEFAULTCONFFILE: join(folder, 'local.ini'),
    LLNG_DEFAULTLOGGER: 'Lemonldap::NG::Common::Logger::Std',
  }
  const generateKey = () => promisify(execFile)('perl', [ROTATE_KEYS], { env: { PATH: process.env.PATH, ...env } })
  await generateKey()
  await startServer(t, {
    command: ['/usr/bin/plackup', '--env', 'deployment', '--host', '127.0.0.1', '--port', String(port), PORTAL],
    cwd: folder,
    env,
    readyUrl: `${url}/.well-known/openid-configuration`,
  })

  const publishedKey = async (): Promise<string | undefined> =>
    keySetSchema.parse(await (await fetch(`${url}/oauth2/jwks`)).json()).keys[0]?.kid

  const authenticate = async (visitor: Visitor, authorization: URL): Promise<URL> => {
    const isCallback = ({ pathname }: URL): boolean => pathname === '/auth/callback'
    const page = await visitor.follow(authorization, isCallback)
    if (page instanceof URL) return page
    const back = await submit(visitor, page, { user: LOGIN, password: LOGIN }, isCallback)
    if (!(back instanceof URL)) throw new Error(`the portal does not send the browser back: ${await back.text()}`)
    return back
  }

  return {
    env: { OIDC_ISSUER: url, OIDC_SCOPES: 'openid profile', JWT_ISSUER: url, JWT_AUDIENCE: options.gatewayUrl },
    authenticate,
    rotateKey: async () => {
      const before = await publishedKey()
      await generateKey()
      await eventually(async () => (await publishedKey()) !== before || undefined)
    },
    serviceToken: () => requestServiceToken(`${url}/oauth2/token`),
  }
}
