import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import type { Credentials } from '../../src/alibaba/signing.ts'
import { eventually } from '../helpers/gateway.ts'
import { closedPort, isOpen } from '../helpers/ports.ts'
import { KEYS, parseObject, signedCall, startKeyedSandbox } from '../helpers/signed-call.ts'

type Context = Parameters<typeof startKeyedSandbox>[0]

const startControlled = async (t: Context) => {
  const sandbox = await startKeyedSandbox(t, { control: true })
  const control = async (method: string, path: string, body?: unknown) => {
    const text = typeof body === 'string' ? body : JSON.stringify(body)
    const answer = await fetch(`${sandbox.url}/sandbox/${path}`, { method, body: text ?? null })
    return { status: answer.status, text: await answer.text() }
  }
  return { sandbox, control }
}

const TASK = { taskNo: 't-1', taskType: 'ORDER_RENEW', domains: ['a.com', 'b.com'] } as const
const FAULT = { action: 'CancelTask', fault: { reply: 'no-request-id' } } as const
const REPLY = { code: 'A', status: 500 } as const

test('a task can be added and listed', async (t) => {
  const { control } = await startControlled(t)
  const { status, text } = await control('POST', 'tasks', TASK)
  assert.deepEqual([status, parseObject(text)], [201, { taskNo: 't-1' }])
  const [task]: unknown[] = JSON.parse((await control('GET', 'tasks')).text)
  const { createdAt, ...listed } = parseObject(JSON.stringify(task))
  assert.equal(typeof createdAt, 'number')
  assert.deepEqual(listed, { ...TASK, taskStatus: 'WAITING_EXECUTE', cancelStatus: 'INIT', cancelledBy: null })
})

test('a task needs nothing said about it', async (t) => {
  const { sandbox, control } = await startControlled(t)
  const { status, text } = await control('POST', 'tasks')
  assert.equal(status, 201)
  assert.equal(sandbox.task(String(parseObject(text).taskNo))?.taskType, 'CHG_DNS')
})

test('the sandbox serves requests after the reader of its output has left', async (t) => {
  const port = await closedPort()
  const sandbox = spawn(process.execPath, ['sandbox/bin/sandbox.ts'], {
    env: { ...process.env, SANDBOX_PORT: String(port) },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  t.after(() => sandbox.kill('SIGKILL'))
  sandbox.stdout.destroy()
  const failed = text(sandbox.stderr)
  const url = `http://127.0.0.1:${port}`
  await eventually(async () => (await isOpen(url)) || undefined)
  assert.equal((await fetch(`${url}/sandbox/tasks`)).status, 200)
  sandbox.kill('SIGTERM')
  assert.deepEqual([await once(sandbox, 'close'), await failed], [[0, null], ''])
})

test('calls are listed, and control is none of them', async (t) => {
  const { sandbox, control } = await startControlled(t)
  await signedCall(sandbox, 'CancelTask', { TaskNo: 'none' })
  const { status, text } = await control('GET', 'calls')
  assert.deepEqual([status, JSON.parse(text)], [200, sandbox.calls])
  assert.equal(sandbox.calls.length, 1)
})

test('faults can be scripted and cleared', async (t) => {
  const { sandbox, control } = await startControlled(t)
  assert.deepEqual(await control('POST', 'faults', { ...FAULT, times: 2 }), { status: 204, text: '' })
  assert.deepEqual((await signedCall(sandbox, 'CancelTask', { TaskNo: 'none' })).body, {})
  assert.deepEqual(await control('DELETE', 'faults'), { status: 204, text: '' })
  assert.equal((await signedCall(sandbox, 'CancelTask', { TaskNo: 'none' })).body.Code, 'TaskNotExist')
})

test('a fault may be any failure, and be carried out first', async (t) => {
  const { sandbox, control } = await startControlled(t)
  const reply = { ...REPLY, message: 'down', headers: { 'x-acs-retry-after': '50' } }
  await control('POST', 'faults', { action: 'CancelTask', fault: { reply, effect: true } })
  const { status, headers, body } = await signedCall(sandbox, 'CancelTask', { TaskNo: sandbox.addTask() })
  assert.deepEqual([status, headers['x-acs-retry-after'], body.Code, body.Message], [500, '50', 'A', 'down'])
  assert.equal(sandbox.calls[0]?.effect, true)
})

test('the clock can be set', async (t) => {
  const { sandbox, control } = await startControlled(t)
  assert.equal((await control('PUT', 'clock', { offsetMs: 3_600_000 })).status, 204)
  assert.equal((await signedCall(sandbox, 'CancelTask', { TaskNo: 'none' })).body.Code, 'InvalidTimeStamp.Expired')
})

const BAD = [
  ['POST', 'tasks', '{', 'the body must be JSON'],
  ['POST', 'tasks', '[]', 'the body must be a JSON object'],
  ['POST', 'tasks', { taskNo: 7 }, 'taskNo must be a text that is not empty'],
  ['POST', 'tasks', { taskType: '' }, 'taskType must be a text that is not empty'],
  ['POST', 'tasks', { domains: 'a.com' }, 'domains must be a list of texts'],
  ['POST', 'tasks', { domains: [7] }, 'each of domains must be a text that is not empty'],
  ['POST', 'faults', { ...FAULT, action: 'X' }, 'action must be one of CancelTask, QueryTaskList, QueryTaskDetailList'],
  ['POST', 'faults', { ...FAULT, times: 0 }, 'times must be a positive integer'],
  ['POST', 'faults', { action: 'CancelTask' }, 'fault must be an object with a reply'],
  ['POST', 'faults', { ...FAULT, fault: { reply: 'slow', effect: 1 } }, 'fault.effect must be true or false'],
  [
    'POST',
    'faults',
    { ...FAULT, fault: { reply: { ...REPLY, code: 1 } } },
    'fault.reply.code must be a text that is not empty',
  ],
  [
    'POST',
    'faults',
    { ...FAULT, fault: { reply: { ...REPLY, status: 99 } } },
    'fault.reply.status must be from 200 to 599',
  ],
  ['POST', 'faults', { ...FAULT, fault: { reply: { ...REPLY, headers: 1 } } }, 'fault.reply.headers must be an object'],
  ['PUT', 'clock', { offsetMs: '1' }, 'offsetMs must be an integer, in milliseconds'],
] as const

for (const [method, path, body, error] of BAD) {
  test(`${method} ${path} with ${JSON.stringify(body)} is refused`, async (t) => {
    const { control } = await startControlled(t)
    const { status, text } = await control(method, path, body)
    assert.deepEqual([status, parseObject(text)], [400, { error }])
  })
}

test('a fault of an unknown kind is refused with the kinds that there are', async (t) => {
  const { control } = await startControlled(t)
  const { status, text } = await control('POST', 'faults', { ...FAULT, fault: { reply: 'explode' } })
  assert.equal(status, 400)
  assert.match(text, /stall, reset, truncate, not-json, huge, redirect, no-request-id, envelope, slow/)
})

test('a header that HTTP does not allow is refused', async (t) => {
  const { control } = await startControlled(t)
  const reply = { ...REPLY, headers: { 'x-a': 'a\nb' } }
  assert.equal((await control('POST', 'faults', { ...FAULT, fault: { reply } })).status, 400)
})

test('a task number that is taken is refused', async (t) => {
  const { control } = await startControlled(t)
  await control('POST', 'tasks', TASK)
  const { status, text } = await control('POST', 'tasks', TASK)
  assert.deepEqual([status, parseObject(text)], [400, { error: 'task t-1 exists already' }])
})

test('an unknown route is answered with those that there are', async (t) => {
  const { control } = await startControlled(t)
  const { status, text } = await control('GET', 'nothing')
  assert.equal(status, 404)
  assert.match(text, /GET \/sandbox\/tasks/)
})

test('control is not served unless it is asked for', async (t) => {
  const sandbox = await startKeyedSandbox(t)
  const answer = await fetch(`${sandbox.url}/sandbox/tasks`)
  assert.deepEqual([answer.status, parseObject(await answer.text()).Code], [400, 'MissingAccessKeyId'])
})

test('keys can be added and revoked while it runs', async (t) => {
  const { sandbox, control } = await startControlled(t)
  const keys = { accessKeyId: 'second', accessKeySecret: 'its-secret', securityToken: 'its-token' } as const
  const codeFor = async (used: Credentials) =>
    (await signedCall(sandbox, 'CancelTask', { TaskNo: 'none' }, { keys: used })).body.Code
  assert.equal(await codeFor(keys), 'InvalidAccessKeyId.NotFound')
  assert.deepEqual(await control('POST', 'keys', keys), { status: 204, text: '' })
  assert.deepEqual([await codeFor(keys), await codeFor(KEYS)], ['TaskNotExist', 'TaskNotExist'])
  assert.equal(await codeFor({ ...keys, securityToken: 'another' }), 'InvalidSecurityToken.MismatchWithAccessKey')
  assert.deepEqual(await control('DELETE', 'keys', { accessKeyId: KEYS.accessKeyId }), { status: 204, text: '' })
  assert.deepEqual([await codeFor(keys), await codeFor(KEYS)], ['TaskNotExist', 'InvalidAccessKeyId.NotFound'])
})
