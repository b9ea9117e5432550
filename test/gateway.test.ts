import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { parseConfig } from '../src/config.ts'
import { createParts } from '../src/gateway.ts'
import { Secret } from '../src/secret.ts'
import { createLog } from '../src/telemetry/log.ts'
import { baseEnv, temporaryFolder } from './helpers/gateway.ts'
import { SIGN_IN_ENV } from './helpers/session.ts'

/** Paths of all objects below the value that are Secrets, or the given object. */
const pathsTo = (forbidden: object, value: unknown, path = 'http', seen = new Set<unknown>()): readonly string[] => {
  if ((typeof value !== 'object' && typeof value !== 'function') || value === null || seen.has(value)) return []
  seen.add(value)
  if (value === forbidden || value instanceof Secret) return [path]
  const items = value instanceof Map || value instanceof Set ? [...value].flat() : []
  const properties = Object.entries(Object.getOwnPropertyDescriptors(value)).map(([name, { value }]) => [name, value])
  return [...properties, ...items.entries()].flatMap(([name, next]) =>
    pathsTo(forbidden, next, `${path}.${name}`, seen),
  )
}

test('http/ receives neither the Config nor a Secret', async (t) => {
  const env = { ...baseEnv('http://127.0.0.1:1', join(await temporaryFolder(t), 'audit.db')), ...SIGN_IN_ENV }
  const more = { REDIS_URL: 'redis://:canary@127.0.0.1:1', DOCS_ENABLED: 'true', CONSOLE_ENABLED: 'true' }
  const config = parseConfig({ ...env, ...more }, () => '')
  const parts = await createParts(config, { log: createLog({ level: 'silent' }) })
  t.after(() => parts.close())
  assert.deepEqual(pathsTo(config, parts.http), [])

  // The search finds both where they are.
  assert.deepEqual(pathsTo(config, { app: { ...parts.http.app, config } }), ['http.app.config'])
  const secrets = pathsTo(config, { ...parts.http.app, ...config })
  assert.deepEqual(secrets.map((path) => path.split('.')[1]).sort(), [
    ...['credentials', 'credentials', 'rateLimit', 'signIn', 'signIn'],
  ])
})
