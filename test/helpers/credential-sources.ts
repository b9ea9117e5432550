import { mkdir, rename, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import type { Env } from '../../src/config.ts'
import { type StsCredentials, startCredentialServer } from './credential-server.ts'
import { temporaryFolder } from './gateway.ts'

const FILES = {
  ALIBABA_CLOUD_ACCESS_KEY_ID: 'accessKeyId',
  ALIBABA_CLOUD_ACCESS_KEY_SECRET: 'accessKeySecret',
  ALIBABA_CLOUD_SECURITY_TOKEN: 'securityToken',
} as const

interface CredentialSource {
  readonly env: Env
  put(keys: StsCredentials): Promise<void>
}

/** Files behind a symbolic link, as mounted secrets are. */
const startFileSource = async (t: TestContext, first: StsCredentials): Promise<CredentialSource> => {
  const folder = await temporaryFolder(t)
  const put = async (keys: StsCredentials): Promise<void> => {
    await mkdir(join(folder, keys.accessKeyId))
    for (const part of Object.values(FILES)) await writeFile(join(folder, keys.accessKeyId, part), keys[part])
    await symlink(keys.accessKeyId, join(folder, 'next'))
    await rename(join(folder, 'next'), join(folder, 'now'))
  }
  const env = Object.entries(FILES).flatMap(([name, part]) => [
    [name, ''],
    [`${name}_FILE`, join(folder, 'now', part)],
  ])
  await put(first)
  return { env: Object.fromEntries(env), put }
}

/** A credentials URI server. The vendor's provider chain reads its address from the environment of this process. */
const startChainSource = async (t: TestContext, first: StsCredentials): Promise<CredentialSource> => {
  const server = await startCredentialServer(t, await temporaryFolder(t), first)
  const before = { ...process.env }
  Object.assign(process.env, server.env)
  t.after(() => {
    for (const name of Object.keys(server.env)) delete process.env[name]
    Object.assign(process.env, before)
  })
  return { env: server.env, put: async (keys) => server.give(keys) }
}

export const CREDENTIAL_SOURCES = [
  ['files', startFileSource],
  ['the chain', startChainSource],
] as const
