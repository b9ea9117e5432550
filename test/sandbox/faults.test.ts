import assert from 'node:assert/strict'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import type { Fault } from '../../sandbox/src/server.ts'
import { signAcs3 } from '../../src/alibaba/acs3.ts'
import { signRpcV1 } from '../../src/alibaba/rpc-v1.ts'
import type { SignedRequest } from '../../src/alibaba/signing.ts'
import { KEYS, openSignedCall, parseObject, signedCall, startKeyedSandbox } from '../helpers/signed-call.ts'

type Context = Parameters<typeof startKeyedSandbox>[0]

/** A sandbox with one task, whose next cancellation meets the fault. */
const startFaulty = async (t: Context, fault: Fault) => {
  const sandbox = await startKeyedSandbox(t)
  const taskNo = sandbox.addTask()
  sandbox.fault('CancelTask', fault)
  const cancelStatus = () => sandbox.task(taskNo)?.cancelStatus
  return { sandbox, params: { TaskNo: taskNo }, cancelStatus }
}

test('stall never answers', async (t) => {
  const { sandbox, params, cancelStatus } = await startFaulty(t, { reply: 'stall' })
  const decided = sandbox.nextCall('CancelTask')
  const stalled = signedCall(sandbox, 'CancelTask', params)
  assert.equal((await decided).effect, false)
  assert.equal(cancelStatus(), 'INIT')
  await Promise.all([assert.rejects(stalled, { code: 'ECONNRESET' }), sandbox.close()])
})

test('effect carries the action out before the reply goes wrong', async (t) => {
  const { sandbox, params, cancelStatus } = await startFaulty(t, { reply: 'reset', effect: true })
  await assert.rejects(signedCall(sandbox, 'CancelTask', params))
  assert.deepEqual([sandbox.calls[0]?.effect, sandbox.calls[0]?.code], [true, null])
  assert.equal(cancelStatus(), 'CANCELLING')
})

test('right is the right answer, and the next fault follows it', async (t) => {
  const { sandbox, params, cancelStatus } = await startFaulty(t, { reply: 'right' })
  sandbox.fault('CancelTask', { reply: { status: 400, code: 'Later' } })
  const answers = [await signedCall(sandbox, 'CancelTask', params), await signedCall(sandbox, 'CancelTask', params)]
  assert.deepEqual(
    answers.map(({ status, body }) => [status, body.Code]),
    [
      [200, undefined],
      [400, 'Later'],
    ],
  )
  assert.equal(cancelStatus(), 'CANCELLING')
})

test('wrong-total counts a row that is not there', async (t) => {
  const sandbox = await startKeyedSandbox(t)
  const params = { TaskNo: sandbox.addTask({ domains: ['a.com', 'b.com'] }), PageNum: '1', PageSize: '10' }
  sandbox.fault('QueryTaskDetailList', { reply: 'wrong-total' })
  const { status, body } = await signedCall(sandbox, 'QueryTaskDetailList', params)
  assert.deepEqual([status, body.TotalItemNum, body.TotalPageNum], [200, 3, 1])
})

test('reset ends the connection with RST', async (t) => {
  const { sandbox, params, cancelStatus } = await startFaulty(t, { reply: 'reset' })
  await assert.rejects(signedCall(sandbox, 'CancelTask', params), { code: 'ECONNRESET', message: 'read ECONNRESET' })
  assert.equal(cancelStatus(), 'INIT')
})

test('truncate ends the connection before the announced length', async (t) => {
  const { sandbox, params } = await startFaulty(t, { reply: 'truncate' })
  const answer = await openSignedCall(sandbox, 'CancelTask', params)
  assert.equal(answer.statusCode, 200)
  await assert.rejects(text(answer), { code: 'ECONNRESET' })
})

test('not-json answers 200 with a page', async (t) => {
  const { sandbox, params } = await startFaulty(t, { reply: 'not-json' })
  const answer = await openSignedCall(sandbox, 'CancelTask', params)
  assert.deepEqual([answer.statusCode, answer.headers['content-type']], [200, 'text/html'])
  assert.match(await text(answer), /^<html>/)
})

test('huge goes on until the caller goes away', async (t) => {
  const { sandbox, params } = await startFaulty(t, { reply: 'huge' })
  const answer = await openSignedCall(sandbox, 'CancelTask', params)
  let bytes = 0
  for await (const chunk of answer) {
    bytes += chunk.length
    if (bytes > 5_000_000) break
  }
  await sandbox.socketsClosed()
})

test('huge ends at 64 MiB', async (t) => {
  const { sandbox, params } = await startFaulty(t, { reply: 'huge' })
  const answer = await openSignedCall(sandbox, 'CancelTask', params)
  let bytes = 0
  answer.on('data', (chunk) => {
    bytes += chunk.length
  })
  await once(answer, 'end')
  assert.equal(Math.floor(bytes / 2 ** 20), 64)
})

test('redirect answers 302 with another address', async (t) => {
  const { sandbox, params } = await startFaulty(t, { reply: 'redirect' })
  const answer = await openSignedCall(sandbox, 'CancelTask', params)
  answer.resume()
  assert.deepEqual([answer.statusCode, answer.headers.location], [302, `${sandbox.url}/elsewhere`])
})

test('no-request-id answers 200 with an empty object', async (t) => {
  const { sandbox, params } = await startFaulty(t, { reply: 'no-request-id' })
  const { status, body } = await signedCall(sandbox, 'CancelTask', params)
  assert.deepEqual([status, body], [200, {}])
})

const signatureOf = ({ body, headers }: SignedRequest): string | undefined =>
  new URLSearchParams(body).get('Signature') ?? headers.authorization?.split('Signature=')[1]

for (const sign of [signRpcV1, signAcs3]) {
  test(`envelope gives key and signature of ${sign.name} back in its url`, async (t) => {
    const { sandbox, params } = await startFaulty(t, { reply: 'envelope' })
    let signature: string | undefined
    const tamper = (signed: SignedRequest) => {
      signature = signatureOf(signed)
      return {}
    }
    const { body } = await signedCall(sandbox, 'CancelTask', params, { sign, tamper })
    const { searchParams } = new URL(String(body.url))
    assert.deepEqual([searchParams.get('AccessKeyId'), searchParams.get('Signature')], ['key-id', signature])
  })
}

test('envelope answers in the form of the vendor page, and carries the action out', async (t) => {
  const { sandbox, params, cancelStatus } = await startFaulty(t, { reply: 'envelope' })
  const { status, body } = await signedCall(sandbox, 'CancelTask', params)
  assert.deepEqual([status, body.code, body.name, body.message], [200, '200', 'TaskCancellSuccess', 'success'])
  assert.match(
    JSON.stringify(body.data),
    /"HostId":"domain.aliyuncs.com","Code":"200","Message":"success","RequestId":/,
  )
  assert.equal(cancelStatus(), 'CANCELLING')
})

test('slow gives the right answer in many pieces, and carries the action out', async (t) => {
  const { sandbox, params, cancelStatus } = await startFaulty(t, { reply: 'slow' })
  const answer = await openSignedCall(sandbox, 'CancelTask', params)
  let pieces = 0
  answer.on('data', () => {
    pieces += 1
  })
  assert.equal(Object.keys(parseObject(await text(answer)))[0], 'RequestId')
  assert(pieces > 5)
  assert.equal(cancelStatus(), 'CANCELLING')
})

test('slow can be told not to carry the action out', async (t) => {
  const { sandbox, params, cancelStatus } = await startFaulty(t, { reply: 'slow', effect: false })
  const { status } = await signedCall(sandbox, 'CancelTask', params)
  assert.deepEqual([status, cancelStatus()], [200, 'INIT'])
})

test('a code is answered with its status, message and headers', async (t) => {
  const headers = { 'x-acs-retry-after': '50' }
  const { sandbox, params } = await startFaulty(t, { reply: { code: 'Throttling.User', status: 429, headers } })
  const answer = await signedCall(sandbox, 'CancelTask', params)
  assert.deepEqual([answer.status, answer.headers['x-acs-retry-after']], [429, '50'])
  assert.deepEqual([answer.body.Code, answer.body.Message], ['Throttling.User', 'sandbox fault'])
  assert.equal(sandbox.calls[0]?.code, 'Throttling.User')
})

test('faults of an action are met in the order in which they were scripted, each its number of times', async (t) => {
  const sandbox = await startKeyedSandbox(t)
  sandbox.fault('CancelTask', { reply: { code: 'A', status: 500 } }, 2)
  sandbox.fault('CancelTask', { reply: { code: 'B', status: 500 } })
  for (let sent = 0; sent < 4; sent += 1) await signedCall(sandbox, 'CancelTask', { TaskNo: 'none' })
  assert.deepEqual(
    sandbox.calls.map(({ code }) => code),
    ['A', 'A', 'B', 'TaskNotExist'],
  )
})

test('a fault of one action does not meet another one', async (t) => {
  const sandbox = await startKeyedSandbox(t)
  sandbox.fault('QueryTaskList', { reply: 'stall' })
  assert.equal((await signedCall(sandbox, 'CancelTask', { TaskNo: 'none' })).body.Code, 'TaskNotExist')
})

test('a request that is not verified uses up no fault', async (t) => {
  const { sandbox, params } = await startFaulty(t, { reply: { code: 'A', status: 500 } })
  await signedCall(sandbox, 'CancelTask', params, { keys: { ...KEYS, accessKeySecret: 'wrong' } })
  assert.equal((await signedCall(sandbox, 'CancelTask', params)).body.Code, 'A')
})

test('a fault for ever lasts until faults are cleared', async (t) => {
  const sandbox = await startKeyedSandbox(t)
  sandbox.fault('CancelTask', { reply: { code: 'A', status: 500 } }, Number.POSITIVE_INFINITY)
  for (let sent = 0; sent < 3; sent += 1) await signedCall(sandbox, 'CancelTask', { TaskNo: 'none' })
  sandbox.clearFaults()
  await signedCall(sandbox, 'CancelTask', { TaskNo: 'none' })
  assert.deepEqual(
    sandbox.calls.map(({ code }) => code),
    ['A', 'A', 'A', 'TaskNotExist'],
  )
})

test('a call is recorded with the code that its caller was told, not with the one behind a fault', async (t) => {
  const sandbox = await startKeyedSandbox(t)
  sandbox.fault('CancelTask', { reply: 'no-request-id', effect: true })
  await signedCall(sandbox, 'CancelTask', { TaskNo: 'none' })
  assert.deepEqual([sandbox.calls[0]?.code, sandbox.calls[0]?.effect], [null, false])
})

test('a fault that happens no times is a mistake', async (t) => {
  const sandbox = await startKeyedSandbox(t)
  assert.throws(() => sandbox.fault('CancelTask', { reply: 'stall' }, 0), /at least 1/)
})
