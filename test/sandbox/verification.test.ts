import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createNonces, VALIDITY_MS } from '../../sandbox/src/verification.ts'
import { signAcs3 } from '../../src/alibaba/acs3.ts'
import { signRpcV1 } from '../../src/alibaba/rpc-v1.ts'
import type { SignedRequest } from '../../src/alibaba/signing.ts'
import { type CallOptions, KEYS, signedCall, startKeyedSandbox } from '../helpers/signed-call.ts'
import { callOpenApi, callPopCore } from '../helpers/vendor-clients.ts'

const NOW_MS = Date.UTC(2026, 0, 1)
const now = () => NOW_MS
const at = new Date(NOW_MS)

interface Refusal extends CallOptions {
  readonly name: string
  readonly status: number
  readonly code: string
  readonly action?: string
}

const edit =
  (from: string | RegExp, to: string) =>
  ({ path, headers, body }: SignedRequest) => ({
    path: path.replace(from, to),
    headers: Object.fromEntries(Object.entries(headers).map(([name, text]) => [name, text.replace(from, to)])),
    body: body.replace(from, to),
  })

const without =
  (name: string) =>
  ({ headers }: SignedRequest) => ({
    headers: Object.fromEntries(Object.entries(headers).filter(([header]) => header !== name)),
  })

const aroundNow = (ms: number): Date => new Date(NOW_MS + ms)

const COMMON = [
  { name: 'an unknown key', keys: { ...KEYS, accessKeyId: 'x' }, status: 404, code: 'InvalidAccessKeyId.NotFound' },
  { name: 'a wrong secret', keys: { ...KEYS, accessKeySecret: 'x' }, status: 400, code: 'SignatureDoesNotMatch' },
  {
    name: 'a token where none belongs',
    keys: { ...KEYS, securityToken: 'x' },
    status: 400,
    code: 'InvalidSecurityToken.MismatchWithAccessKey',
  },
  { name: 'a time too early', at: aroundNow(-VALIDITY_MS - 1000), status: 400, code: 'InvalidTimeStamp.Expired' },
  { name: 'a time too late', at: aroundNow(VALIDITY_MS + 1000), status: 400, code: 'InvalidTimeStamp.Expired' },
  { name: 'a changed parameter', tamper: edit('t-1', 't-2'), status: 400, code: 'SignatureDoesNotMatch' },
  { name: 'a changed method', tamper: () => ({ method: 'PUT' }), status: 400, code: 'UnsupportedHTTPMethod' },
  { name: 'an unknown action', action: 'Nothing', status: 404, code: 'InvalidAction.NotFound' },
  {
    name: 'another path',
    tamper: ({ path }) => ({ path: path.replace('/', '/other') }),
    status: 404,
    code: 'InvalidApi.NotFound',
  },
  { name: 'no nonce', nonce: '', status: 400, code: 'MissingSignatureNonce' },
] as const satisfies readonly Refusal[]

const RPC_V1 = [
  { name: 'nothing signed', tamper: () => ({ body: '' }), status: 400, code: 'MissingAccessKeyId' },
  { name: 'no time', tamper: edit(/&Timestamp=[^&]+/, ''), status: 400, code: 'InvalidTimeStamp.Format' },
  {
    name: 'milliseconds in the time',
    tamper: edit('%3A00Z', '%3A00.000Z'),
    status: 400,
    code: 'InvalidTimeStamp.Format',
  },
  { name: 'no signature', tamper: edit(/&Signature=.+/, ''), status: 400, code: 'IncompleteSignature' },
  {
    name: 'GET signed as POST',
    tamper: ({ body }) => ({ method: 'GET', path: `/?${body}`, body: '' }),
    status: 400,
    code: 'SignatureDoesNotMatch',
  },
] as const satisfies readonly Refusal[]

const ACS3 = [
  { name: 'no credential', tamper: edit('Credential=key-id,', ''), status: 400, code: 'MissingAccessKeyId' },
  { name: 'no time', tamper: without('x-acs-date'), status: 400, code: 'InvalidTimeStamp.Format' },
  {
    name: 'an action outside the signature',
    tamper: edit('x-acs-action;', ''),
    status: 400,
    code: 'IncompleteSignature',
  },
  { name: 'another host', tamper: edit('127.0.0.1', 'localhost'), status: 400, code: 'SignatureDoesNotMatch' },
  {
    name: 'a body that was not hashed',
    tamper: () => ({ body: 'TaskNo=t-2' }),
    status: 400,
    code: 'SignatureDoesNotMatch',
  },
  { name: 'a changed version', tamper: edit('2018-01-29', '2018-01-30'), status: 400, code: 'SignatureDoesNotMatch' },
] as const satisfies readonly Refusal[]

const CASES = [
  ...COMMON.flatMap((refusal) => [signRpcV1, signAcs3].map((sign) => ({ sign, ...refusal }))),
  ...RPC_V1.map((refusal) => ({ sign: signRpcV1, ...refusal })),
  ...ACS3.map((refusal) => ({ sign: signAcs3, ...refusal })),
] satisfies readonly Refusal[]

for (const refusal of CASES) {
  const { name, status, code, action = 'CancelTask', ...options }: Refusal = refusal
  test(`${refusal.sign.name} with ${name} is refused as ${code}`, async (t) => {
    const sandbox = await startKeyedSandbox(t, { now })
    sandbox.addTask({ taskNo: 't-1' })
    const answer = await signedCall(sandbox, action, { TaskNo: 't-1' }, { at, ...options })
    assert.deepEqual([answer.status, answer.body.Code], [status, code])
    assert.deepEqual([sandbox.calls[0]?.code, sandbox.calls[0]?.effect], [code, false])
    assert.equal(sandbox.task('t-1')?.cancelStatus, 'INIT')
  })
}

for (const sign of [signRpcV1, signAcs3]) {
  test(`${sign.name} without the token that the keys need is refused`, async (t) => {
    const sandbox = await startKeyedSandbox(t, { securityToken: 'token' })
    const { body } = await signedCall(sandbox, 'CancelTask', { TaskNo: 't-1' }, { sign })
    assert.equal(body.Code, 'InvalidSecurityToken.MismatchWithAccessKey')
  })

  test(`the same bytes of ${sign.name} are refused the second time`, async (t) => {
    const sandbox = await startKeyedSandbox(t, { now })
    const taskNo = sandbox.addTask()
    const first = await signedCall(sandbox, 'CancelTask', { TaskNo: taskNo }, { sign, at, nonce: 'n-1' })
    const second = await signedCall(sandbox, 'CancelTask', { TaskNo: taskNo }, { sign, at, nonce: 'n-1' })
    assert.deepEqual([first.status, second.status, second.body.Code], [200, 400, 'SignatureNonceUsed'])
  })
}

for (const callVendor of [callPopCore, callOpenApi]) {
  test(`${callVendor.name} with another version is refused as NoSuchVersion`, async (t) => {
    const { url } = await startKeyedSandbox(t)
    const request = { url, keys: KEYS, action: 'CancelTask', params: { TaskNo: 't-1' }, method: 'POST' } as const
    await assert.rejects(callVendor({ ...request, version: '2017-12-14' }), { code: 'NoSuchVersion' })
  })
}

test('a refused signature does not use up its nonce', async (t) => {
  const sandbox = await startKeyedSandbox(t)
  await signedCall(
    sandbox,
    'CancelTask',
    { TaskNo: 'x' },
    { nonce: 'n-1', keys: { ...KEYS, accessKeySecret: 'wrong' } },
  )
  const { body } = await signedCall(sandbox, 'CancelTask', { TaskNo: 'x' }, { nonce: 'n-1' })
  assert.equal(body.Code, 'TaskNotExist')
})

test('a wrong signature is answered with the text that the sandbox signed', async (t) => {
  const sandbox = await startKeyedSandbox(t)
  const { body } = await signedCall(
    sandbox,
    'CancelTask',
    { TaskNo: 'x' },
    { keys: { ...KEYS, accessKeySecret: 'wrong' } },
  )
  assert.match(
    String(body.Message),
    /^Specified signature is not matched with our calculation\. server string to sign is:POST&%2F&AccessKeyId%3Dkey-id/,
  )
})

test('a time within 31 minutes passes', async (t) => {
  const sandbox = await startKeyedSandbox(t, { now })
  const { body } = await signedCall(sandbox, 'CancelTask', { TaskNo: 'x' }, { at: aroundNow(-VALIDITY_MS) })
  assert.equal(body.Code, 'TaskNotExist')
})

test('a clock that is set wrong refuses the right time', async (t) => {
  const sandbox = await startKeyedSandbox(t, { now })
  sandbox.setClockOffset(VALIDITY_MS + 1000)
  const { body } = await signedCall(sandbox, 'CancelTask', { TaskNo: 'x' }, { at })
  assert.equal(body.Code, 'InvalidTimeStamp.Expired')
})

test('a nonce is free again once the timestamp that came with it is too old', () => {
  const nonces = createNonces()
  assert.equal(nonces.take('n', 0), true)
  assert.equal(nonces.take('n', VALIDITY_MS), false)
  assert.equal(nonces.take('n', VALIDITY_MS + 1), true)
})

test('only as many nonces are kept as memory allows, the oldest going first', () => {
  const nonces = createNonces(2)
  for (const nonce of ['a', 'b', 'c']) nonces.take(nonce, 0)
  assert.deepEqual([nonces.take('c', 0), nonces.take('a', 0)], [false, true])
})
