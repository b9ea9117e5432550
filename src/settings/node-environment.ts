/** A variable of Node or of a library that takes a protection away, and the rule that it breaks. */
export type NodeFault = readonly [name: string, rule: string]

/** The library `debug` prints URLs and headers of requests for the names in DEBUG. A flag is of another program. */
const SILENT_DEBUG = /^(true|false|\d*)$/i

const WEAKENING = /(?:^|\s)--(tls-min-v1\.[01]|tls-keylog|trace-tls|insecure-http-parser)(?=[=\s]|$)/

const RULES: readonly (readonly [name: string, holds: (value: string) => boolean, rule: string])[] = [
  [
    'NODE_TLS_REJECT_UNAUTHORIZED',
    (value) => value === '1',
    'must be 1 or not set: certificates are always verified (NODE_EXTRA_CA_CERTS names further authorities)',
  ],
  ['NODE_DEBUG', () => false, 'must not be set: Node would print headers and addresses of requests'],
  ['NODE_DEBUG_NATIVE', () => false, 'must not be set: Node would print parts of its requests and responses'],
  ['DEBUG', (value) => SILENT_DEBUG.test(value), 'must not be set: libraries would print URLs and headers of requests'],
]

/**
 * Variables and options that make Node or a library verify no certificate, accept outdated TLS, parse requests loosely,
 * or print secrets.
 * @param execArgv the options that Node was started with; those in `NODE_OPTIONS` are checked too
 */
export const nodeFaults = (
  env: Readonly<Record<string, string | undefined>>,
  execArgv: readonly string[],
): readonly NodeFault[] => {
  const faults = RULES.flatMap(([name, holds, rule]): readonly NodeFault[] => {
    const value = env[name]?.trim() ?? ''
    return value === '' || holds(value) ? [] : [[name, rule]]
  })
  // Node reads `_` as `-`, and quotes in NODE_OPTIONS as those of a shell.
  const options = [env.NODE_OPTIONS?.replace(/["\\]/g, '') ?? '', ...execArgv].join(' ').replaceAll('_', '-')
  const [, option] = WEAKENING.exec(options) ?? []
  return option === undefined
    ? faults
    : [...faults, ['NODE_OPTIONS', `and the options of Node must not contain --${option}`]]
}

const PROXY_VARIABLES = ['HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY', 'NO_PROXY']

export interface ProxyWarning {
  /** The variables, as they are spelt. Values may hold passwords. */
  readonly names: readonly string[]
  readonly message: string
}

/**
 * Variables that name an HTTP proxy, or hosts without one. The gateway ignores them. Node's own switch for them affects
 * `fetch` only, which calls the issuer and the identity provider. Null if none is set.
 */
export const proxyWarning = (
  env: Readonly<Record<string, string | undefined>>,
  execArgv: readonly string[],
): ProxyWarning | null => {
  const names = PROXY_VARIABLES.flatMap((name) => [name, name.toLowerCase()]).filter((name) => env[name]?.trim())
  if (names.length === 0) return null
  const options = [env.NODE_OPTIONS ?? '', ...execArgv].join(' ').replaceAll('_', '-')
  const isUsedByFetch = env.NODE_USE_ENV_PROXY === '1' || /(?:^|\s)--use-env-proxy(?=\s|$)/.test(options)
  const connections = isUsedByFetch ? 'connections to the upstream and the trace collector' : 'outgoing connections'
  return { names, message: `${connections} use no HTTP proxy; this variable is ignored` }
}
