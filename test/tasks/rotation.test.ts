import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { mkdir, rename, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { Env } from '../../src/config.ts'
import { asOperator, CANARIES, cancelCalls, startGateway, temporaryFolder } from '../helpers/gateway.ts'
import { type StsKeys, startKeyServer } from '../helpers/key-server.ts'
import { addTasks, cancel, sawCancels } from '../helpers/process.ts'

const CANCELS = 200

const OLD: StsKeys = CANARIES
const NEW: StsKeys = { accessKeyId: 'new-id', accessKeySecret: 'new-secret', securityToken: 'new-token' }

const FILES = {
  ALIBABA_CLOUD_ACCESS_KEY_ID: 'accessKeyId',
  ALIBABA_CLOUD_ACCESS_KEY_SECRET: 'accessKeySecret',
  ALIBABA_CLOUD_SECURITY_TOKEN: 'securityToken',
} as const

interface Place {
  readonly env: Env
  put(keys: StsKeys): Promise<void>
}

/** Files behind a symbolic link, as mounted secrets are. */
const inFiles = async (t: TestContext): Promise<Place> => {
  const folder = await temporaryFolder(t)
  const put = async (keys: StsKeys): Promise<void> => {
    await mkdir(join(folder, keys.accessKeyId))
    for (const part of Object.values(FILES)) await writeFile(join(folder, keys.accessKeyId, part), keys[part])
    await symlink(keys.accessKeyId, join(folder, 'next'))
    await rename(join(folder, 'next'), join(folder, 'now'))
  }
  const env = Object.entries(FILES).flatMap(([name, part]) => [
    [name, ''],
    [`${name}_FILE`, join(folder, 'now', part)],
  ])
  await put(OLD)
  return { env: Object.fromEntries(env), put }
}

const byChain = async (t: TestContext): Promise<Place> => {
  const server = await startKeyServer(t, await temporaryFolder(t), OLD)
  const before = { ...process.env }
  Object.assign(process.env, server.env)
  t.after(() => {
    for (const name of Object.keys(server.env)) delete process.env[name]
    Object.assign(process.env, before)
  })
  return { env: server.env, put: async (keys) => server.give(keys) }
}

for (const [where, choose] of [
  ['files', inFiles],
  ['the chain', byChain],
] as const) {
  test(`keys in ${where} that are replaced and revoked under load cost no request`, async (t) => {
    const { env, put } = await choose(t)
    const readFile = (path: string) => readFileSync(path, 'utf8')
    const started = await startGateway(t, { env, readFile, sandbox: { securityToken: OLD.securityToken } })
    const { url, upstream } = started
    upstream.addKeys(NEW)

    const answers = addTasks(upstream, CANCELS).map((taskNo) => cancel(url, taskNo))
    await sawCancels(upstream, CANCELS / 10)
    await put(NEW)
    upstream.revokeKeys(OLD.accessKeyId)
    // However fast the others were, this one comes too late for the old keys.
    answers.push(cancel(url, upstream.addTask()))

    assert.deepEqual(await Promise.all(answers), Array(CANCELS + 1).fill(202))
    const refused = cancelCalls(upstream).filter(({ code }) => code === 'InvalidAccessKeyId.NotFound')
    assert.notEqual(refused.length, 0)
    assert.equal(cancelCalls(upstream).filter(({ effect }) => effect).length, CANCELS + 1)
  })

  test(`keys in ${where} that are revoked with none in their place are told as such, each call once`, async (t) => {
    const { env } = await choose(t)
    const readFile = (path: string) => readFileSync(path, 'utf8')
    const { api, upstream } = await startGateway(t, {
      env,
      readFile,
      sandbox: { securityToken: OLD.securityToken },
    })
    upstream.revokeKeys(OLD.accessKeyId)
    const { status, body } = await api.delete(`/tasks/${upstream.addTask()}`).set(asOperator)
    assert.deepEqual(
      [status, body.code, body.outcome, body.retryable],
      [502, 'upstream-credentials-rejected', 'not-cancelled', false],
    )
    assert.equal(cancelCalls(upstream).length, 1)
  })
}
