import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { asOperator, CANARIES, cancelCalls, startGateway } from '../helpers/gateway.ts'
import { KEY_PLACES } from '../helpers/key-places.ts'
import type { StsKeys } from '../helpers/key-server.ts'
import { addTasks, cancel, sawCancels } from '../helpers/process.ts'

const CANCELS = 200

const NEW: StsKeys = { accessKeyId: 'new-id', accessKeySecret: 'new-secret', securityToken: 'new-token' }

for (const [where, choose] of KEY_PLACES) {
  test(`keys in ${where} that are replaced and revoked under load cost no request`, async (t) => {
    const { env, put } = await choose(t, CANARIES)
    const readFile = (path: string) => readFileSync(path, 'utf8')
    const started = await startGateway(t, { env, readFile, sandbox: { securityToken: CANARIES.securityToken } })
    const { url, upstream } = started
    upstream.addKeys(NEW)

    const answers = addTasks(upstream, CANCELS).map((taskNo) => cancel(url, taskNo))
    await sawCancels(upstream, CANCELS / 10)
    await put(NEW)
    upstream.revokeKeys(CANARIES.accessKeyId)
    // However fast the others were, this one comes too late for the old keys.
    answers.push(cancel(url, upstream.addTask()))

    assert.deepEqual(await Promise.all(answers), Array(CANCELS + 1).fill(202))
    const refused = cancelCalls(upstream).filter(({ code }) => code === 'InvalidAccessKeyId.NotFound')
    assert.notEqual(refused.length, 0)
    assert.equal(cancelCalls(upstream).filter(({ effect }) => effect).length, CANCELS + 1)
  })

  test(`keys in ${where} that are revoked with none in their place are told as such, each call once`, async (t) => {
    const { env } = await choose(t, CANARIES)
    const readFile = (path: string) => readFileSync(path, 'utf8')
    const { api, upstream } = await startGateway(t, {
      env,
      readFile,
      sandbox: { securityToken: CANARIES.securityToken },
    })
    upstream.revokeKeys(CANARIES.accessKeyId)
    const { status, body } = await api.delete(`/tasks/${upstream.addTask()}`).set(asOperator)
    assert.deepEqual(
      [status, body.code, body.outcome, body.retryable],
      [502, 'upstream-credentials-rejected', 'not-cancelled', false],
    )
    assert.equal(cancelCalls(upstream).length, 1)
  })
}
