import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import credentials from '@alicloud/credentials'
import { createCredentialChain } from '../../src/alibaba/credential-chain.ts'
import { fetchVendorCredentials } from '../../src/alibaba/vendor-credentials.ts'
import type { Env } from '../../src/config.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { type CredentialReply, startCredentialServer } from '../helpers/credential-server.ts'
import { temporaryFolder } from '../helpers/gateway.ts'

const STS = { accessKeyId: 'STS.id', accessKeySecret: 'canary-secret', securityToken: 'canary-token' } as const
const PAIR = { accessKeyId: 'LTAI-id', accessKeySecret: 'canary-secret' } as const

/** The vendor's chain reads the environment of the process itself. */
const setEnvironment = (t: TestContext, env: Env): void => {
  const before = { ...process.env }
  Object.assign(process.env, env)
  t.after(() => {
    for (const name of Object.keys(env)) delete process.env[name]
    Object.assign(process.env, before)
  })
}

const start = async (t: TestContext) => {
  const home = await temporaryFolder(t)
  const server = await startCredentialServer(t, home, STS)
  setEnvironment(t, server.env)
  return { home, server }
}

const open = (t: TestContext, timeoutMs?: number) => {
  const lines: Readonly<Record<string, unknown>>[] = []
  const log = createLog({ level: 'info', destination: { write: (line) => void lines.push(JSON.parse(line)) } })
  const source = createCredentialChain({ fetchCredentials: fetchVendorCredentials, log, timeoutMs })
  t.after(source.close)
  return { source, lines }
}

test('keys of a URI come with their token and their end', async (t) => {
  const { server } = await start(t)
  const expiresAt = new Date('2100-01-02T03:04:05Z')
  server.give(STS, expiresAt)
  assert.deepEqual(await fetchVendorCredentials(), { credentials: STS, expiresAtMs: expiresAt.getTime() })
})

test('the keys are those that the vendor’s own client has', async (t) => {
  await start(t)
  const { accessKeyId, accessKeySecret, securityToken } = await new credentials.default().getCredential()
  assert.deepEqual((await fetchVendorCredentials()).credentials, { accessKeyId, accessKeySecret, securityToken })
})

test('each way through the chain asks anew, however long the keys last', async (t) => {
  const { server } = await start(t)
  await fetchVendorCredentials()
  server.give({ ...STS, accessKeyId: 'STS.second' })
  assert.equal((await fetchVendorCredentials()).credentials.accessKeyId, 'STS.second')
  assert.equal(server.requests, 2)
})

test('keys of the environment come before all others, and have no end', async (t) => {
  const { server } = await start(t)
  const { accessKeyId, accessKeySecret } = PAIR
  setEnvironment(t, { ALIBABA_CLOUD_ACCESS_KEY_ID: accessKeyId, ALIBABA_CLOUD_ACCESS_KEY_SECRET: accessKeySecret })
  const { credentials: keys, expiresAtMs } = await fetchVendorCredentials()
  assert.deepEqual({ ...keys }, { ...PAIR, securityToken: undefined })
  assert.deepEqual([expiresAtMs, server.requests], [Number.POSITIVE_INFINITY, 0])
})

const iniOf = (id: string): string =>
  `[default]\ntype = access_key\naccess_key_id = ${id}\naccess_key_secret = ${PAIR.accessKeySecret}\n`

test('a profile file is followed when it changes', async (t) => {
  const { home } = await start(t)
  const path = join(home, 'profiles')
  setEnvironment(t, { ALIBABA_CLOUD_CREDENTIALS_FILE: path })
  for (const id of ['first', 'second']) {
    await writeFile(path, iniOf(id))
    assert.equal((await fetchVendorCredentials()).credentials.accessKeyId, id)
  }
})

test('a profile of the command line tool counts too, and one that is rotated by a command has an end', async (t) => {
  const { home } = await start(t)
  await mkdir(join(home, '.aliyun'))
  const expiration = '2100-01-01T00:00:00Z'
  const { accessKeyId, accessKeySecret, securityToken } = STS
  const answer = {
    mode: 'StsToken',
    access_key_id: accessKeyId,
    access_key_secret: accessKeySecret,
    sts_token: securityToken,
    expiration,
  }
  await writeFile(join(home, 'answer.json'), JSON.stringify(answer))
  const profile = { name: 'a', mode: 'External', process_command: `cat ${join(home, 'answer.json')}` }
  await writeFile(join(home, '.aliyun/config.json'), JSON.stringify({ current: 'a', profiles: [profile] }))
  assert.deepEqual(await fetchVendorCredentials(), { credentials: STS, expiresAtMs: Date.parse(expiration) })
})

for (const reply of ['error', 'garbage', 'incomplete'] as const satisfies readonly CredentialReply[]) {
  test(`a URI that answers with ${reply} gives no keys, shows none, and is asked again`, async (t) => {
    const { server } = await start(t)
    server.answerWith(reply)
    const { source, lines } = open(t)
    assert.equal(await source.get(), null)
    assert.deepEqual(
      lines.map(({ level, reason }) => [level, reason]),
      [['error', 'has no credentials']],
    )
    assert.doesNotMatch(JSON.stringify(lines), /STS\.id|canary/)
    server.answerWith('keys')
    assert.deepEqual((await fetchVendorCredentials()).credentials, STS)
  })
}

for (const reply of ['hanging', 'slow-body'] as const satisfies readonly CredentialReply[]) {
  test(`a URI that is ${reply} is given up`, async (t) => {
    const { server } = await start(t)
    server.answerWith(reply)
    const { source, lines } = open(t, 100)
    assert.equal(await source.get(), null)
    assert.deepEqual(
      lines.map(({ level, reason }) => [level, reason]),
      [['error', 'took too long']],
    )
  })
}

test('a hundred callers at once ask the URI once', async (t) => {
  const { server } = await start(t)
  const { source } = open(t)
  const found = await Promise.all(Array.from({ length: 100 }, source.get))
  for (const keys of found) assert.deepEqual(keys, STS)
  assert.equal(server.requests, 1)
})
