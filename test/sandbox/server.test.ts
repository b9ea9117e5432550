import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type ClientRequest, createServer, type IncomingMessage } from 'node:http'
import { request } from 'node:https'
import { connect } from 'node:net'
import { test } from 'node:test'
import { signAcs3 } from '../../src/alibaba/acs3.ts'
import { signRpcV1 } from '../../src/alibaba/rpc-v1.ts'
import { createCertificate } from '../helpers/certificate.ts'
import { listenOn } from '../helpers/ports.ts'
import { KEYS, signedCall, startKeyedSandbox } from '../helpers/signed-call.ts'
import { callOpenApi, callOpenApiRpc, callPopCore, type VendorCall } from '../helpers/vendor-clients.ts'

const REQUEST_ID = /^[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}$/

type CallVendor = (call: VendorCall) => Promise<Readonly<Record<string, unknown>>>

const VENDORS = [
  ['pop-core by GET', callPopCore, 'GET'],
  ['pop-core by POST', callPopCore, 'POST'],
  ['openapi-core by GET', callOpenApi, 'GET'],
  ['openapi-core by POST', callOpenApi, 'POST'],
  ['openapi-core with a form', (request) => callOpenApi({ ...request, asForm: true }), 'POST'],
  ['openapi-core in RPC style with query and form', callOpenApiRpc, 'POST'],
] as const satisfies readonly (readonly [string, CallVendor, 'GET' | 'POST'])[]

for (const [name, callVendor, method] of VENDORS) {
  test(`${name} cancels a task`, async (t) => {
    const sandbox = await startKeyedSandbox(t)
    const params = { TaskNo: sandbox.addTask(), UserClientIp: '203.0.113.7', Lang: 'en', RegionId: 'cn-hangzhou' }
    const answer = await callVendor({ url: sandbox.url, keys: KEYS, action: 'CancelTask', params, method })
    assert.match(String(answer.RequestId), REQUEST_ID)
    assert.deepEqual(sandbox.task(params.TaskNo)?.cancelledBy, { userClientIp: '203.0.113.7', lang: 'en' })
  })

  test(`${name} lists tasks and their details`, async (t) => {
    const sandbox = await startKeyedSandbox(t)
    const params = { TaskNo: sandbox.addTask({ domains: ['例子.中国'] }), PageNum: '1', PageSize: '10' }
    const request = { url: sandbox.url, keys: KEYS, params, method }
    const list = await callVendor({ ...request, action: 'QueryTaskList' })
    const details = await callVendor({ ...request, action: 'QueryTaskDetailList' })
    assert(JSON.stringify(list.Data).includes(params.TaskNo))
    assert(JSON.stringify(details.Data).includes('例子.中国'))
  })

  test(`${name} may sign with a security token`, async (t) => {
    const sandbox = await startKeyedSandbox(t, { securityToken: 'sts/token+=' })
    const keys = { ...KEYS, securityToken: 'sts/token+=' }
    const params = { TaskNo: sandbox.addTask() }
    await callVendor({ url: sandbox.url, keys, action: 'CancelTask', params, method })
    assert.equal(sandbox.calls[0]?.effect, true)
  })

  test(`${name} is told a failure by its code`, async (t) => {
    const sandbox = await startKeyedSandbox(t)
    const request = { url: sandbox.url, keys: KEYS, action: 'CancelTask', params: { TaskNo: 'none' }, method }
    await assert.rejects(callVendor(request), { code: 'TaskNotExist' })
  })
}

for (const sign of [signRpcV1, signAcs3]) {
  test(`our own ${sign.name} cancels a task`, async (t) => {
    const sandbox = await startKeyedSandbox(t)
    const taskNo = sandbox.addTask()
    const { status, body } = await signedCall(sandbox, 'CancelTask', { TaskNo: taskNo }, { sign })
    assert.deepEqual([status, Object.keys(body)], [200, ['RequestId']])
    assert.equal(sandbox.task(taskNo)?.cancelStatus, 'CANCELLING')
  })

  test(`a call by ${sign.name} is recorded with its time, without its signature`, async (t) => {
    const atMs = Date.now()
    const sandbox = await startKeyedSandbox(t, { now: () => atMs })
    const taskNo = sandbox.addTask()
    await signedCall(sandbox, 'CancelTask', { TaskNo: taskNo }, { sign, nonce: 'n-1' })
    const [recorded] = sandbox.calls
    assert(recorded !== undefined)
    const { params, ...rest } = recorded
    const signatureVersion = sign === signRpcV1 ? 'rpc-v1' : 'acs3'
    assert.deepEqual(rest, { action: 'CancelTask', signatureVersion, nonce: 'n-1', effect: true, code: null, atMs })
    assert.deepEqual([params.TaskNo, params.Signature], [taskNo, undefined])
  })
}

test('a failure carries request id, host, code and message', async (t) => {
  const sandbox = await startKeyedSandbox(t)
  const { status, body } = await signedCall(sandbox, 'CancelTask', { TaskNo: 'none' })
  const { RequestId, ...rest } = body
  assert.match(String(RequestId), REQUEST_ID)
  assert.equal(status, 400)
  assert.deepEqual(rest, { HostId: 'domain.aliyuncs.com', Code: 'TaskNotExist', Message: 'The task does not exist.' })
})

test('Lang=zh gives Chinese messages', async (t) => {
  const sandbox = await startKeyedSandbox(t)
  const { body } = await signedCall(sandbox, 'CancelTask', { TaskNo: 'none', Lang: 'zh' })
  assert.equal(body.Message, '任务不存在。')
})

test("every answer carries the time of the sandbox's own clock", async (t) => {
  const sandbox = await startKeyedSandbox(t, { now: () => Date.UTC(2030, 0, 1) })
  sandbox.setClockOffset(60_000)
  const { headers } = await signedCall(sandbox, 'CancelTask', { TaskNo: 'none' })
  assert.equal(headers.date, 'Tue, 01 Jan 2030 00:01:00 GMT')
})

test('the next call of an action is announced once it is decided on', async (t) => {
  const sandbox = await startKeyedSandbox(t)
  const taskNo = sandbox.addTask()
  const next = sandbox.nextCall('CancelTask')
  await signedCall(sandbox, 'QueryTaskList', { PageNum: '1', PageSize: '1' })
  await signedCall(sandbox, 'CancelTask', { TaskNo: taskNo })
  assert.equal((await next).params.TaskNo, taskNo)
})

test('open connections are counted until they close', async (t) => {
  const sandbox = await startKeyedSandbox(t)
  await sandbox.socketsClosed()
  sandbox.fault('CancelTask', { reply: 'stall' })
  const next = sandbox.nextCall('CancelTask')
  const stalled = signedCall(sandbox, 'CancelTask', { TaskNo: 'none' })
  await next
  assert.equal(sandbox.sockets, 1)
  await Promise.all([assert.rejects(stalled), sandbox.close(), sandbox.socketsClosed()])
  assert.equal(sandbox.sockets, 0)
})

test('an idle connection ends at the keep-alive timeout, not a second later', async (t) => {
  const sandbox = await startKeyedSandbox(t, { keepAliveTimeoutMs: 1 })
  const halfASecond = createServer((_req, res) => res.end())
  Object.assign(halfASecond, { keepAliveTimeout: 500, keepAliveTimeoutBuffer: 0 })
  const idleOn = async (port: number): Promise<number> => {
    const socket = connect(port, '127.0.0.1').resume()
    socket.write('GET / HTTP/1.1\r\nHost: sandbox\r\n\r\n')
    await once(socket, 'close')
    return port
  }
  const ports = [await listenOn(t, halfASecond), Number(new URL(sandbox.url).port)]
  assert.equal(await Promise.race(ports.map(idleOn)), ports[1])
})

test('a port that is taken is an error', async (t) => {
  const sandbox = await startKeyedSandbox(t)
  await assert.rejects(startKeyedSandbox(t, { port: Number(new URL(sandbox.url).port) }), { code: 'EADDRINUSE' })
})

test('a body that is far too long is answered as a breakdown', async (t) => {
  const sandbox = await startKeyedSandbox(t)
  const answer = await fetch(sandbox.url, { method: 'POST', body: 'a'.repeat(2 ** 20 + 1) })
  assert.equal(answer.status, 500)
  assert.deepEqual(sandbox.calls, [])
})

const listCallTo = (url: string) => ({
  action: 'QueryTaskList',
  params: { PageNum: '1', PageSize: '1' },
  host: new URL(url).host,
})

/** A call to a sandbox under TLS, on a connection of its own, without a signature. */
const getOverTls = (url: string, ca: string): ClientRequest => request(url, { ca, agent: false }).end()

test('TLS is served with the given certificate', async (t) => {
  const { key, cert } = createCertificate()
  const sandbox = await startKeyedSandbox(t, { tls: { key, cert } })
  const [answer]: IncomingMessage[] = await once(getOverTls(sandbox.url, cert), 'response')
  assert.match(sandbox.url, /^https:/)
  assert.equal(answer?.resume().statusCode, 400)
  await sandbox.socketsClosed()
})

test('a reset goes through under TLS too', async (t) => {
  const { key, cert } = createCertificate()
  const sandbox = await startKeyedSandbox(t, { tls: { key, cert } })
  sandbox.fault('QueryTaskList', { reply: 'reset' })
  const { path, ...signed } = signAcs3(listCallTo(sandbox.url), KEYS, { nonce: 'n', at: new Date() })
  const sent = request(new URL(path, sandbox.url), { ...signed, ca: cert, agent: false }).end()
  await assert.rejects(once(sent, 'response'), { code: 'ECONNRESET' })
  await sandbox.socketsClosed()
})
