import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { type TestContext, test } from 'node:test'
import { type CredentialReply, startCredentialServer } from '../helpers/credential-server.ts'
import { asOperator, CANARIES, cancelCalls, eventually, startGateway, temporaryFolder } from '../helpers/gateway.ts'
import { prepare, startProcess } from '../helpers/process.ts'

/** A process with credentials from the vendor's provider chain, and the server that the chain queries. */
const start = async (t: TestContext, reply: CredentialReply) => {
  const { sandbox, env } = await prepare(t)
  const server = await startCredentialServer(t, await temporaryFolder(t), CANARIES)
  sandbox.addKeys(CANARIES)
  server.answerWith(reply)
  const started = await startProcess(t, { ...env, ...server.env })
  const ready = async () => (await started.api.get('/readyz')).status
  return { ...started, sandbox, server, ready }
}

test('keys that the vendor’s chain brings sign cancellations, with their token', async (t) => {
  const { api, sandbox, ready } = await start(t, 'keys')
  await eventually(async () => ((await ready()) === 200 ? true : undefined))
  const { status } = await api.delete(`/tasks/${sandbox.addTask()}`).set(asOperator)
  assert.equal(status, 202)
  assert.equal(cancelCalls(sandbox)[0]?.params.SecurityToken, CANARIES.securityToken)
})

test('a chain without keys lets the process start, not ready, and it is ready once there are some', async (t) => {
  const { api, sandbox, server, line, ready, records } = await start(t, 'error')
  assert.equal(
    (await line('the provider chain returned no credentials; known ones are used until they expire')).level,
    'error',
  )
  const { status, body } = await api.get('/readyz')
  assert.deepEqual([status, body.code, (await api.get('/livez')).status], [503, 'upstream-unavailable', 200])

  const taskNo = sandbox.addTask()
  const refused = await api.delete(`/tasks/${taskNo}`).set(asOperator)
  assert.deepEqual(
    [refused.status, refused.body.code, refused.body.outcome],
    [502, 'upstream-credentials-rejected', 'not-cancelled'],
  )
  const [record] = await records({ taskNo })
  assert.deepEqual([record?.outcome, record?.attempts, sandbox.calls.length], ['failed', 0, 0])

  server.answerWith('keys')
  await eventually(async () => ((await ready()) === 200 ? true : undefined))
  assert.equal((await api.delete(`/tasks/${taskNo}`).set(asOperator)).status, 202)
})

test('a chain that hangs keeps the process neither from listening nor from stopping', async (t) => {
  const { ready, kill, ended } = await start(t, 'hanging')
  assert.equal(await ready(), 503)
  kill('SIGTERM')
  const { code, stderr } = await ended
  assert.deepEqual([code, stderr], [0, ''])
})

test('the vendor’s package is loaded where the chain is asked for, and nowhere else', async (t) => {
  const { cache } = createRequire(import.meta.url)
  const isLoaded = () => Object.keys(cache).some((path) => path.includes('@alicloud/credentials'))
  await startGateway(t)
  assert.equal(isLoaded(), false)
  const server = await startCredentialServer(t, await temporaryFolder(t), CANARIES)
  Object.assign(process.env, server.env)
  await startGateway(t, { env: server.env })
  assert.equal(isLoaded(), true)
})
