import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  canonicalRequest,
  sha256Hex,
  signAcs3,
  signedHeaderFields,
  signedHeaderNames,
  stringToSign,
} from '../../src/alibaba/acs3.ts'
import { openApiAuthorization } from '../helpers/vendor-clients.ts'

const EMPTY_HASH = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
const KEYS = { accessKeyId: 'testid', accessKeySecret: 'testsecret' } as const
const STAMP = { nonce: 'n-1', at: new Date('2023-10-26T10:22:32.789Z') } as const
const CALL = { action: 'CancelTask', params: { TaskNo: 't 1' }, host: 'domain.aliyuncs.com' } as const

const texts = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({ unit: 'grapheme' }),
  fc.constantFrom('', "!'()*~ +&=%"),
)
// The vendor's client leaves names as they are, so only names that encoding does not change can be compared.
const names = fc.stringMatching(/^[A-Za-z][\w.~-]{0,8}$/)
const headerText = fc.string({ minLength: 1 })
const inputs = fc.record({
  call: fc.record({
    action: fc.constantFrom('CancelTask', 'QueryTaskList'),
    params: fc.dictionary(fc.oneof(fc.constantFrom('A', 'A1', 'AB', 'A-', 'a'), names), texts, { maxKeys: 8 }),
    host: fc.constantFrom('domain.aliyuncs.com', '127.0.0.1:8089'),
  }),
  keys: fc.record({
    accessKeyId: fc.stringMatching(/^[A-Za-z0-9.]{1,30}$/),
    accessKeySecret: fc.string({ unit: 'binary', minLength: 1 }),
    securityToken: fc.option(headerText, { nil: undefined }),
  }),
  stamp: fc.record({ nonce: headerText, at: fc.date({ min: new Date(0), max: new Date(4e12), noInvalidDate: true }) }),
})

test('the signed headers include the caller, the request and the time', () => {
  assert.equal(
    signedHeaderNames(signedHeaderFields(CALL, KEYS, STAMP)),
    'host;x-acs-accesskey-id;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version',
  )
})

test('a security token is signed too', () => {
  const fields = signedHeaderFields(CALL, { ...KEYS, securityToken: 'token' }, STAMP)
  assert.equal(fields['x-acs-security-token'], 'token')
})

test('the canonical request lists method, path, query, headers, their names and the hash', () => {
  assert.equal(
    canonicalRequest('POST', 'A=1', { 'x-acs-content-sha256': EMPTY_HASH, host: ' h ' }),
    `POST\n/\nA=1\nhost:h\nx-acs-content-sha256:${EMPTY_HASH}\n\nhost;x-acs-content-sha256\n${EMPTY_HASH}`,
  )
})

test('the string to sign holds the algorithm and the hash of the canonical request', () => {
  assert.equal(stringToSign(''), `ACS3-HMAC-SHA256\n${EMPTY_HASH}`)
})

test('the parameters stand in the query and the body is empty', () => {
  const { method, path, headers, body } = signAcs3(CALL, KEYS, STAMP)
  assert.deepEqual({ method, path, body }, { method: 'POST', path: '/?TaskNo=t%201', body: '' })
  assert.equal(headers['x-acs-content-sha256'], EMPTY_HASH)
  assert.equal(headers['x-acs-date'], '2023-10-26T10:22:32Z')
})

test("the whole Authorization header is that of the vendor's client", () => {
  const property = fc.property(inputs, ({ call, keys, stamp }) => {
    const { authorization, ...headers } = signAcs3(call, keys, stamp).headers
    const request = { method: 'POST', query: call.params, headers }
    assert.equal(authorization, openApiAuthorization(request, sha256Hex(''), keys))
  })
  fc.assert(property, { numRuns: 200 })
})
