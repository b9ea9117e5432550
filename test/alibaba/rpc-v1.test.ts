import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { text } from 'node:stream/consumers'
import { after, before, test } from 'node:test'
import fc from 'fast-check'
import { signature, signRpcV1, stringToSign } from '../../src/alibaba/rpc-v1.ts'
import { type Credentials, canonicalQuery } from '../../src/alibaba/signing.ts'
import { callPopCore } from '../helpers/vendor-clients.ts'

const PUBLISHED = {
  AccessKeyId: 'testid',
  Action: 'DescribeRegions',
  Format: 'XML',
  SignatureMethod: 'HMAC-SHA1',
  SignatureNonce: '3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf',
  SignatureVersion: '1.0',
  Timestamp: '2016-02-23T12:46:24Z',
  Version: '2014-05-26',
} as const

/** Echoes every request, so that the test sees the request that the vendor's client signed. */
const echo = createServer(async (req, res) => {
  const target = req.url ?? ''
  res.end(JSON.stringify({ sent: req.method === 'GET' ? target.replace('/?', '') : await text(req) }))
})

const echoUrl = (): string => {
  const address = echo.address()
  if (address === null || typeof address === 'string') throw new Error('the echo server does not listen')
  return `http://127.0.0.1:${address.port}`
}

before(() => once(echo.listen(0, '127.0.0.1'), 'listening'))

after(() => {
  echo.close()
  echo.closeAllConnections()
})

const texts = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({ unit: 'grapheme' }),
  fc.constantFrom('', "!'()*~ +&=%"),
)
const names = fc.oneof(
  fc.constantFrom('A', 'A1', 'AB', 'A-', 'A.1', 'a', 'TaskNo', 'UserClientIp', 'Lang'),
  fc.string({ unit: 'grapheme', minLength: 1 }).map((name) => `x${name}`),
)
const keysOf = (token: string | undefined): Credentials => ({
  accessKeyId: 'testid',
  accessKeySecret: 'test/secret+',
  securityToken: token,
})
const inputs = fc.record({
  params: fc.dictionary(names, texts, { maxKeys: 8 }),
  keys: fc.option(fc.string({ minLength: 1 }), { nil: undefined }).map(keysOf),
})

const vendorRequest = async (method: 'GET' | 'POST', params: Record<string, string>, keys: Credentials) => {
  const { sent } = await callPopCore({ url: echoUrl(), method, action: 'CancelTask', params, keys })
  assert(typeof sent === 'string')
  const { Signature = '', ...signed } = Object.fromEntries(new URLSearchParams(sent))
  return { sent, signed, signature: Signature }
}

test('the published example is signed as the vendor publishes it', () => {
  assert.equal(signature('testsecret', stringToSign('GET', canonicalQuery(PUBLISHED))), 'OLeaidS1JvxuMvnyHOwuJ+uX5qY=')
})

test("the vector of the vendor's own test suite is signed alike", () => {
  assert.equal(
    signature('secret', stringToSign('GET', canonicalQuery({ query: 'test', body: 'test' }))),
    'XlUyV4sXjOuX5FnjUz9IF9tm5rU=',
  )
})

test('the string to sign holds method, path and query, each encoded', () => {
  assert.equal(stringToSign('POST', canonicalQuery({ A: '1 ~', A1: '*' })), 'POST&%2F&A%3D1%2520~%26A1%3D%252A')
})

test('a name that is the beginning of another one comes first', () => {
  assert.equal(canonicalQuery({ A1: 'c', AB: 'd', A: 'b', 'A-': 'a' }), 'A=b&A-=a&A1=c&AB=d')
})

test("a signed POST is byte for byte that of the vendor's client", async () => {
  const property = fc.asyncProperty(inputs, async ({ params, keys }) => {
    const { sent, signed } = await vendorRequest('POST', params, keys)
    const stamp = { nonce: signed.SignatureNonce ?? '', at: new Date(signed.Timestamp ?? '') }
    assert.equal(signRpcV1({ action: 'CancelTask', params, host: 'h' }, keys, stamp).body, sent)
  })
  await fc.assert(property, { numRuns: 150 })
})

test("query, string to sign and signature of a GET are those of the vendor's client", async () => {
  const property = fc.asyncProperty(inputs, async ({ params, keys }) => {
    const vendor = await vendorRequest('GET', params, keys)
    assert.equal(`${canonicalQuery(vendor.signed)}&Signature=${encodeURIComponent(vendor.signature)}`, vendor.sent)
    assert.equal(signature(keys.accessKeySecret, stringToSign('GET', canonicalQuery(vendor.signed))), vendor.signature)
  })
  await fc.assert(property, { numRuns: 50 })
})
