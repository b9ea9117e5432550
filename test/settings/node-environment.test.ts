import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Env, parseAuditPlace, parseConfig } from '../../src/config.ts'
import { ConfigError } from '../../src/errors.ts'

const SOUND: Env = {
  ALIBABA_CLOUD_ACCESS_KEY_ID: 'id',
  ALIBABA_CLOUD_ACCESS_KEY_SECRET: 'secret',
  ALLOW_ANONYMOUS: 'true',
  HOST: '127.0.0.1',
}

/** The names of faulty variables, by each of the two functions that read settings. */
const namedBy = (env: Env, execArgv: readonly string[] = []): readonly string[] =>
  [parseConfig, parseAuditPlace].map((parse) => {
    try {
      parse({ ...SOUND, ...env }, () => '', execArgv)
      return ''
    } catch (error) {
      assert.ok(error instanceof ConfigError, String(error))
      return error.message
        .split('\n')
        .slice(1)
        .map((line) => line.trim().split(' ')[0])
        .join()
    }
  })

const REFUSED: readonly (readonly [Env, readonly string[], string])[] = [
  ...['0', ' 0', '00', 'false', 'no', '-1'].map(
    (value) => [{ NODE_TLS_REJECT_UNAUTHORIZED: value }, [], 'NODE_TLS_REJECT_UNAUTHORIZED'] as const,
  ),
  ...['http', 'tls,net', '*'].map((value) => [{ NODE_DEBUG: value }, [], 'NODE_DEBUG'] as const),
  [{ NODE_DEBUG_NATIVE: 'TLS' }, [], 'NODE_DEBUG_NATIVE'],
  ...['*', 'express:*', 'httpx', 'router'].map((value) => [{ DEBUG: value }, [], 'DEBUG'] as const),
  ...[
    '--tls-min-v1.0',
    '--tls-min-v1.1 --max-old-space-size=256',
    '--max-old-space-size=256 --tls_min_v1.0',
    '"--tls-min-v1.0"',
    '--tls-keylog=/tmp/keys',
    '--tls-keylog /tmp/keys',
    '--trace-tls',
    '--insecure-http-parser',
    '--insecure_http_parser',
  ].flatMap((options) => [
    [{ NODE_OPTIONS: options }, [], 'NODE_OPTIONS'] as const,
    [{}, options.replaceAll('"', '').split(' '), 'NODE_OPTIONS'] as const,
  ]),
]

for (const [env, execArgv, name] of REFUSED) {
  test(`${JSON.stringify(env)} with the options [${execArgv}] of Node stops the start`, () => {
    assert.deepEqual(namedBy(env, execArgv), [name, name])
  })
}

test('a variable that removes no protection is accepted', () => {
  const accepted: readonly (readonly [Env, readonly string[]])[] = [
    [{ NODE_TLS_REJECT_UNAUTHORIZED: '1' }, []],
    [{ NODE_TLS_REJECT_UNAUTHORIZED: '', NODE_DEBUG: '', DEBUG: '', NODE_OPTIONS: '' }, []],
    [{ DEBUG: 'false' }, []],
    [{ DEBUG: '1' }, []],
    [{ NODE_EXTRA_CA_CERTS: '/etc/ca.pem', NODE_OPTIONS: '--max-old-space-size=256 --tls-min-v1.3' }, []],
    [{}, ['--disable-sigusr1', '--import', './tls-keylog.ts', '--tls-min-v1.2']],
  ]
  for (const [env, execArgv] of accepted) assert.deepEqual(namedBy(env, execArgv), ['', ''], JSON.stringify(env))
})

test('every variable that takes a protection away is named at once, without its value', () => {
  const env = { NODE_TLS_REJECT_UNAUTHORIZED: '0', NODE_DEBUG: 'canary', DEBUG: 'canary', NODE_OPTIONS: '--trace-tls' }
  assert.deepEqual(namedBy(env), Array(2).fill('NODE_TLS_REJECT_UNAUTHORIZED,NODE_DEBUG,DEBUG,NODE_OPTIONS'))
  assert.throws(
    () => parseConfig({ ...SOUND, ...env }, () => ''),
    (error) => error instanceof ConfigError && !error.message.includes('canary'),
  )
})
