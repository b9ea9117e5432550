import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import type { StsCredentials } from '../helpers/credential-server.ts'
import { CREDENTIAL_SOURCES } from '../helpers/credential-sources.ts'
import { asOperator, CANARIES, cancelCalls, eventually, startGateway, temporaryFolder } from '../helpers/gateway.ts'
import { addTasks, cancel, waitForCancels } from '../helpers/process.ts'

const CANCELS = 200

const NEW: StsCredentials = { accessKeyId: 'new-id', accessKeySecret: 'new-secret', securityToken: 'new-token' }

for (const [where, choose] of CREDENTIAL_SOURCES) {
  test(`keys in ${where} that are replaced and revoked under load cost no request`, async (t) => {
    const { env, put } = await choose(t, CANARIES)
    const readFile = (path: string) => readFileSync(path, 'utf8')
    const started = await startGateway(t, { env, readFile, sandbox: { securityToken: CANARIES.securityToken } })
    const { url, upstream } = started
    upstream.addKeys(NEW)

    const answers = addTasks(upstream, CANCELS).map((taskNo) => cancel(url, taskNo))
    await waitForCancels(upstream, CANCELS / 10)
    await put(NEW)
    upstream.revokeKeys(CANARIES.accessKeyId)
    // Even if the others were fast, this one comes too late for the old keys.
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

for (const signature of ['rpc-v1', 'acs3']) {
  for (const [name, spoiled] of [
    ['of two lines', 'new\nkey\n'],
    ['with a character that no header can carry', 'schl\u00fcssel\u200b\u4e2d'],
    ['in quotes', '"new-key"\n'],
    ['with control characters', 'new\u0000\u0007key'],
  ] as const) {
    test(`with ${signature}, files of keys that become texts ${name} leave the old keys in use`, async (t) => {
      const folder = await temporaryFolder(t)
      const { accessKeyId, accessKeySecret, securityToken } = CANARIES
      const files = Object.entries({
        ALIBABA_CLOUD_ACCESS_KEY_ID: accessKeyId,
        ALIBABA_CLOUD_ACCESS_KEY_SECRET: accessKeySecret,
        ALIBABA_CLOUD_SECURITY_TOKEN: securityToken,
      })
      for (const [setting, text] of files) await writeFile(join(folder, setting), `\ufeff${text}\r\n`)
      const env = Object.fromEntries(
        files.flatMap(([setting]) => [
          [setting, undefined],
          [`${setting}_FILE`, join(folder, setting)],
        ]),
      )
      const { url, upstream, adminUrl, logLines } = await startGateway(t, {
        env: { ...env, UPSTREAM_SIGNATURE: signature },
        readFile: (path) => readFileSync(path, 'utf8'),
        sandbox: { securityToken },
        overrides: { timings: { watchEveryMs: 5 } },
      })
      for (const [setting] of files) await writeFile(join(folder, setting), spoiled)
      await eventually(async () => {
        const text = await (await fetch(`${adminUrl}/metrics`)).text()
        return (
          text.match(/^gateway_file_faulty\{setting="ALIBABA_CLOUD_\w+_FILE"\} 1$/gm)?.length === files.length ||
          undefined
        )
      })
      const statuses = await Promise.all(addTasks(upstream, 20).map((taskNo) => cancel(url, taskNo)))

      assert.deepEqual(statuses, Array(20).fill(202))
      assert.equal(logLines.filter((line) => line.includes('old credentials stay')).length, 1)
      assert.doesNotMatch(logLines.join(), /schl|new-key/)
    })
  }
}
