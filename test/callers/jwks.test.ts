import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { type TestContext, test } from 'node:test'
import { type JWTPayload, SignJWT } from 'jose'
import type { KeySetTiming } from '../../src/callers/jwks.ts'
import { eventually, startGateway } from '../helpers/gateway.ts'
import { assertUnblocked, repeatedText } from '../helpers/growth.ts'
import { createIssuerKey, type Issuer, type IssuerKey, type IssuerReply, sign, startIssuer } from '../helpers/issuer.ts'

/** Longer than any test, so that a repeated action happens once. */
const NEVER = 3_600_000

interface Options {
  readonly timing?: Partial<KeySetTiming>
  readonly env?: Readonly<Record<string, string>>
  readonly reply?: IssuerReply
}

/** A gateway that trusts an issuer of its own. */
const start = async (t: TestContext, { timing, env, reply = 'keys' }: Options = {}) => {
  const issuer = await startIssuer(t)
  issuer.answerWith(reply)
  const keySetTiming = { cooldownMs: 0, refreshMs: NEVER, ...timing }
  const started = await startGateway(t, {
    env: { ...issuer.env, ...env },
    overrides: { timings: { keySet: keySetTiming } },
  })
  const codeFor = async (token: string): Promise<string | number> => {
    const { status, body } = await started.api.get('/me').set('authorization', `Bearer ${token}`)
    return body.code ?? status
  }
  return { ...started, issuer, codeFor }
}

const readings = ({ requests }: Issuer): number => requests.filter((path) => path === '/jwks').length

const USELESS: readonly (readonly [IssuerReply, RegExp])[] = [
  ['down', /cannot be reached/],
  ['slow', /took too long/],
  ['slow-body', /took too long/],
  ['huge', /is too large/],
  ['redirect', /answered 302/],
  ['not-json', /is not JSON/],
  ['no-key-set', /is no key set/],
  ['error', /answered 500/],
]

for (const [reply, reason] of USELESS) {
  // The keys that come before a slow response arrive within the timeout on a busy machine too.
  const timing = reply.startsWith('slow') ? { timeoutMs: 2000 } : {}

  test(`keys that are ${reply} are none: an unknown token is not checked, with an alarm`, async (t) => {
    const { issuer, codeFor, logLines } = await start(t, { reply, timing })
    assert.equal(await codeFor(await issuer.token()), 'identity-provider-unavailable')
    assert.match(logLines.find((line) => line.includes('"level":"error"')) ?? '', reason)
    assert.ok(!issuer.requests.includes('/elsewhere'))
  })

  test(`keys that become ${reply} leave known ones as they are`, async (t) => {
    const { issuer, codeFor } = await start(t, { timing })
    assert.equal(await codeFor(await issuer.token({ sub: 'first' })), 200)
    issuer.answerWith(reply)
    const stranger = await sign(await createIssuerKey(), issuer.claims())
    assert.equal(await codeFor(stranger), 'identity-provider-unavailable')
    assert.equal(await codeFor(await issuer.token({ sub: 'second' })), 200)
  })
}

test('an issuer that comes back is believed again without a restart', async (t) => {
  const { issuer, codeFor } = await start(t, { reply: 'down' })
  const token = await issuer.token()
  assert.equal(await codeFor(token), 'identity-provider-unavailable')
  issuer.answerWith('keys')
  assert.equal(await codeFor(token), 200)
})

test('an issuer that is away is not asked again at once', async (t) => {
  const { issuer, codeFor } = await start(t, { reply: 'error', timing: { cooldownMs: NEVER } })
  const token = await issuer.token()
  for (let time = 0; time < 3; time += 1) assert.equal(await codeFor(token), 'identity-provider-unavailable')
  assert.equal(readings(issuer), 1)
})

test('a key that is new counts without a restart, and one that is withdrawn no longer does', async (t) => {
  const { issuer, codeFor } = await start(t)
  const old = await issuer.token()
  assert.equal(await codeFor(old), 200)
  issuer.rotate(await createIssuerKey())
  assert.equal(await codeFor(await issuer.token()), 200)
  assert.equal(await codeFor(old), 'unauthenticated')
})

for (const backMs of [2000, 60_000]) {
  test(`a key that is new counts after a clock was set back by ${backMs} ms, too`, async (t) => {
    const { issuer, codeFor } = await start(t)
    assert.equal(await codeFor(await issuer.token()), 200)
    const { now } = Date
    t.mock.method(Date, 'now', () => now() - backMs)
    issuer.rotate(await createIssuerKey())
    assert.equal(await codeFor(await issuer.token()), 200)
  })
}

test('a key that is withdrawn counts no longer, even if nobody comes with a new one', async (t) => {
  const { issuer, codeFor } = await start(t, { timing: { refreshMs: 5 } })
  const old = await issuer.token()
  assert.equal(await codeFor(old), 200)
  issuer.rotate(await createIssuerKey())
  await eventually(async () => ((await codeFor(old)) === 'unauthenticated' ? true : undefined))
})

test('a new set that holds an old key too keeps its tokens', async (t) => {
  const { issuer, codeFor } = await start(t)
  const old = await issuer.token()
  assert.equal(await codeFor(old), 200)
  issuer.rotate(await createIssuerKey(), issuer.key)
  assert.deepEqual([await codeFor(await issuer.token()), await codeFor(old)], [200, 200])
})

test('unknown keys make the set be read no more often than the pause allows', async (t) => {
  const { issuer, codeFor } = await start(t, { timing: { cooldownMs: NEVER } })
  assert.equal(await codeFor(await issuer.token()), 200)
  const before = readings(issuer)
  const stranger = await createIssuerKey()
  for (let time = 0; time < 3; time += 1) {
    assert.equal(await codeFor(await sign(stranger, issuer.claims({ jti: String(time) }))), 'unauthenticated')
  }
  assert.equal(readings(issuer), before)
})

test('whoever needs the set at one moment shares one reading of it', async (t) => {
  const { issuer, codeFor } = await start(t, { reply: 'slow', timing: { timeoutMs: 500, cooldownMs: NEVER } })
  const codes = await Promise.all(['a', 'b', 'c'].map(async (sub) => codeFor(await issuer.token({ sub }))))
  assert.deepEqual(new Set(codes), new Set(['identity-provider-unavailable']))
  assert.equal(readings(issuer), 1)
})

test('a set that is named is read without a look at metadata', async (t) => {
  const named = await startIssuer(t)
  const { codeFor, issuer } = await start(t, { env: { JWT_JWKS_URL: `${named.url}/jwks` } })
  assert.equal(await codeFor(await sign(named.key, issuer.claims())), 200)
  assert.deepEqual([issuer.requests, named.requests], [[], ['/jwks']])
})

test('metadata of another issuer names no keys', async (t) => {
  const { codeFor, issuer, logLines } = await start(t, { env: { JWT_ISSUER: 'http://127.0.0.1:1' } })
  assert.equal(await codeFor(await issuer.token({ iss: 'http://127.0.0.1:1' })), 'identity-provider-unavailable')
  assert.match(logLines.join(''), /cannot be reached/)
  const other = await startIssuer(t)
  const misled = await startGateway(t, { env: { ...other.env, JWT_ISSUER: `${other.url}/` } })
  const { body } = await misled.api.get('/me').set(await other.bearer({ iss: `${other.url}/` }))
  assert.equal(body.code, 'identity-provider-unavailable')
  assert.match(misled.logLines.join(''), /has no metadata of this issuer/)
})

test('a gateway that is stopped leaves its issuer alone', async (t) => {
  const { issuer, codeFor, stop } = await start(t, { timing: { refreshMs: 5 } })
  assert.equal(await codeFor(await issuer.token()), 200)
  await stop()
  const before = issuer.requests.length
  await new Promise((resolve) => setTimeout(resolve, 50))
  assert.equal(issuer.requests.length, before)
})

test('a gateway that is stopped while it waits for keys raises no alarm', async (t) => {
  const { issuer, stop, logLines } = await start(t, { reply: 'slow' })
  await eventually(() => (readings(issuer) > 0 ? true : undefined))
  await stop()
  await new Promise((resolve) => setTimeout(resolve, 50))
  assert.doesNotMatch(logLines.join(''), /"level":"error"/)
})

test('nobody waits for the keys for longer than their request has time', async (t) => {
  const env = { UPSTREAM_TIMEOUT_MS: '10', REQUEST_TIMEOUT_MS: '3010' }
  const { issuer, codeFor } = await start(t, { reply: 'slow', timing: { timeoutMs: NEVER }, env })
  assert.equal(await codeFor(await issuer.token()), 'identity-provider-unavailable')
})

const MAX_BYTES = 256 * 1024
const PLAIN_KEY = { kty: 'EC', crv: 'P-256', x: 'x', y: 'y' } as const
const LONG = 'x'.repeat(4097)

/** A sound public key: the base point of P-256, whose private key is 1. */
const CURVE_POINT = {
  kty: 'EC',
  crv: 'P-256',
  x: 'axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY',
  y: 'T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU',
} as const

/** Key sets that are no longer than one may be, and why they are of no use. */
const HOSTILE_SETS = [
  ['zeros', repeatedText('{"keys":[', '0', ']}'), /has too many keys/],
  ['empty keys', repeatedText('{"keys":[', '{}', ']}'), /has too many keys/],
  ['thousands of keys', repeatedText('{"keys":[', JSON.stringify(PLAIN_KEY), ']}'), /has too many keys/],
  [
    'lists in lists',
    (length: number) => `{"keys":${'['.repeat(length / 2 - 9)}${']'.repeat(length / 2 - 9)}}`,
    /has no usable key/,
  ],
  ['a list in place of the set', repeatedText('[', '0', ']'), /is no key set/],
  ['no key', () => JSON.stringify({ keys: [] }), /has no usable key/],
  ['a key without a kind', () => JSON.stringify({ keys: [{}] }), /has no usable key/],
  ['a key that is a number', () => JSON.stringify({ keys: [PLAIN_KEY, 0] }), /has no usable key/],
  ['a secret', () => JSON.stringify({ keys: [{ kty: 'oct', k: 'AAAA' }] }), /has no usable key/],
  ['a key for encryption', () => JSON.stringify({ keys: [{ ...CURVE_POINT, use: 'enc' }] }), /has no usable key/],
] as const

for (const [name, textOf, reason] of HOSTILE_SETS) {
  test(`a set of ${name} is none, and reading it keeps the gateway from nothing else`, async (t) => {
    const { issuer, codeFor, logLines } = await start(t)
    assert.equal(await codeFor(await issuer.token()), 200)
    issuer.setResponse('/jwks', textOf(MAX_BYTES))
    const stranger = await createIssuerKey()
    await assertUnblocked(async () => {
      const token = await sign(stranger, issuer.claims())
      assert.equal(await codeFor(token), 'identity-provider-unavailable')
    })
    assert.match(logLines.find((line) => line.includes('"level":"error"')) ?? '', reason)
  })
}

/** Keys that are left out of a set; its other keys stay usable. */
const FAULTY_KEYS: Readonly<Record<string, object>> = {
  'a giant name': { ...PLAIN_KEY, kid: 'x'.repeat(200_000) },
  'a name that is longer than any': { ...PLAIN_KEY, kid: LONG },
  'a name that is no text': { ...PLAIN_KEY, kid: [0] },
  'a giant modulus': { kty: 'RSA', n: 'x'.repeat(200_000), e: 'AQAB' },
  'a giant exponent': { kty: 'RSA', n: 'x'.repeat(342), e: LONG },
  'an algorithm that is longer than any': { ...PLAIN_KEY, alg: LONG },
  'a great many operations': { ...PLAIN_KEY, key_ops: Array(60_000).fill(0) },
  'operations that are no texts': { ...PLAIN_KEY, key_ops: [0] },
}

for (const [name, faulty] of Object.entries(FAULTY_KEYS)) {
  test(`a key with ${name} proves nothing, and takes no other with it`, async (t) => {
    const { issuer, codeFor } = await start(t)
    const key = { ...faulty, ...('kid' in faulty ? {} : { kid: 'faulty' }) }
    issuer.setResponse('/jwks', JSON.stringify({ keys: [key, issuer.key.publicJwk] }))
    await assertUnblocked(async () => {
      assert.equal(await codeFor(await issuer.token()), 200)
      assert.equal(await codeFor(await sign({ ...issuer.key, kid: 'faulty' }, issuer.claims())), 'unauthenticated')
    })
  })
}

test('a set of a hundred keys is read, certificates and all', async (t) => {
  const { issuer, codeFor } = await start(t)
  const others = Array.from({ length: 99 }, (_, index) => ({ ...PLAIN_KEY, kid: `other-${index}` }))
  const certified = { ...issuer.key.publicJwk, x5c: ['x'.repeat(10_000)], x5t: null }
  issuer.setResponse('/jwks', JSON.stringify({ keys: [...others, certified] }))
  assert.equal(await codeFor(await issuer.token()), 200)
})

test('metadata that names an address longer than any in use names no keys', async (t) => {
  const { issuer, codeFor, logLines } = await start(t)
  const metadataOf = (query: string) => JSON.stringify({ issuer: issuer.url, jwks_uri: `${issuer.url}/jwks?${query}` })
  issuer.setResponse('/.well-known/openid-configuration', metadataOf('x'.repeat(2048)))
  assert.equal(await codeFor(await issuer.token()), 'identity-provider-unavailable')
  assert.match(logLines.join(''), /has no metadata of this issuer/)
})

/** Entries that are no keys at all, or say nothing of which key they are. */
const NO_KEYS: readonly unknown[] = [
  {},
  null,
  'x',
  7,
  true,
  [],
  [[]],
  { kty: null },
  { kty: 7 },
  { kid: 'x' },
  { kty: '' },
]

for (const entry of NO_KEYS) {
  test(`an entry ${JSON.stringify(entry)} is ignored, and the other keys count`, async (t) => {
    const { issuer, codeFor } = await start(t)
    issuer.setResponse('/jwks', JSON.stringify({ keys: [entry, issuer.key.publicJwk, entry] }))
    assert.equal(await codeFor(await issuer.token()), 200)
    assert.equal(await codeFor(await sign(await createIssuerKey(), issuer.claims())), 'unauthenticated')
  })
}

const { y: _, ...WITHOUT_Y } = CURVE_POINT
const LONG_RSA = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey.export({ format: 'jwk' })
const SHORT_RSA = generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey.export({ format: 'jwk' })

for (const operations of [['verify'], ['sign', 'verify'], ['verify', 'attest'], ['verify', 'verify']]) {
  test(`a key for the operations ${operations.join(' and ')} verifies tokens`, async (t) => {
    const { issuer, codeFor } = await start(t)
    issuer.setResponse('/jwks', JSON.stringify({ keys: [{ ...issuer.key.publicJwk, key_ops: operations }] }))
    assert.equal(await codeFor(await issuer.token()), 200)
  })
}

/** Keys that can't verify a token, and the reason in the log. */
const UNUSABLE: Readonly<Record<string, readonly [object, RegExp]>> = {
  'that is a certificate only': [{ kty: 'EC', crv: 'P-256', x5c: ['AAAA'] }, /lacks a member/],
  'of RSA that is a certificate only': [{ kty: 'RSA', x5c: ['AAAA'] }, /lacks a member/],
  'that lacks a member': [WITHOUT_Y, /lacks a member/],
  'without a curve': [{ ...CURVE_POINT, crv: undefined }, /not supported/],
  'of another curve': [{ ...CURVE_POINT, crv: 'secp256k1' }, /not supported/],
  'whose point is not on the curve': [{ ...CURVE_POINT, y: CURVE_POINT.x }, /cannot be imported/],
  'whose members are of the wrong length': [{ ...CURVE_POINT, x: 'AAAA' }, /cannot be imported/],
  'that is too short': [SHORT_RSA, /is too short/],
  'that is a secret': [{ kty: 'oct', k: 'AAAA' }, /not supported/],
  'that only agrees on keys': [{ kty: 'OKP', crv: 'X25519', x: CURVE_POINT.x }, /not supported/],
  'for encryption': [{ ...CURVE_POINT, use: 'enc' }, /not for signatures/],
  'for signing alone': [{ ...CURVE_POINT, key_ops: ['sign'] }, /not for signatures/],
  'of another algorithm': [{ ...CURVE_POINT, alg: 'ES384' }, /algorithm that is not supported/],
  'whose exponent is 1': [{ ...LONG_RSA, e: 'AQ' }, /unsafe exponent/],
  'whose exponent is 1, with zeros': [{ ...LONG_RSA, e: 'AAAB' }, /unsafe exponent/],
  'whose exponent is 0': [{ ...LONG_RSA, e: 'AA' }, /unsafe exponent/],
  'whose exponent is even': [{ ...LONG_RSA, e: 'AQAA' }, /unsafe exponent/],
  'with a faulty member': [{ ...CURVE_POINT, use: 7 }, /faulty member/],
  'of the kind null': [{ ...CURVE_POINT, kty: null }, /faulty member/],
}

for (const [name, [key, reason]] of Object.entries(UNUSABLE)) {
  test(`a token that names a key ${name} is refused with that reason, and other keys count`, async (t) => {
    const { issuer, codeFor, logLines } = await start(t)
    issuer.setResponse('/jwks', JSON.stringify({ keys: [{ ...key, kid: 'bad' }, issuer.key.publicJwk] }))
    assert.equal(await codeFor(await sign({ ...issuer.key, kid: 'bad' }, issuer.claims())), 'unauthenticated')
    assert.match(logLines.find((line) => line.includes('a token was refused')) ?? '', reason)
    assert.equal(await codeFor(await issuer.token()), 200)
    assert.doesNotMatch(logLines.join(''), /"level":"error"/)
  })
}

for (const keys of [[], [{}], [{ kty: 'RSA', kid: 'x', x5c: ['AAAA'] }], [{ kty: 'oct', k: 'AAAA' }]]) {
  test(`a new set of ${JSON.stringify(keys)} has no usable key, and the known one stays`, async (t) => {
    const { issuer, codeFor, logLines } = await start(t)
    assert.equal(await codeFor(await issuer.token({ sub: 'first' })), 200)
    issuer.setResponse('/jwks', JSON.stringify({ keys }))
    assert.equal(await codeFor(await sign(await createIssuerKey(), issuer.claims())), 'identity-provider-unavailable')
    assert.equal(await codeFor(await issuer.token({ sub: 'second' })), 200)
    assert.match(logLines.join(''), /has no usable key/)
  })
}

test('a byte order mark before the set and the metadata is skipped', async (t) => {
  const { issuer, codeFor } = await start(t)
  const metadata = { issuer: issuer.url, jwks_uri: `${issuer.url}/jwks` }
  issuer.setResponse('/.well-known/openid-configuration', `\ufeff${JSON.stringify(metadata)}`)
  issuer.setResponse('/jwks', `\ufeff${JSON.stringify({ keys: [issuer.key.publicJwk] })}`)
  assert.equal(await codeFor(await issuer.token()), 200)
})

/** A token of that key whose header names none. */
const signNameless = (key: IssuerKey, claims: JWTPayload): Promise<string> => sign(key, claims, { kid: undefined })

const createKeys = (count: number, alg?: string): Promise<readonly IssuerKey[]> =>
  Promise.all(Array.from({ length: count }, () => createIssuerKey(alg)))

for (const [count, expected] of [
  [1, 200],
  [2, 200],
  [4, 200],
  [5, 'unauthenticated'],
  [20, 'unauthenticated'],
] as const) {
  test(`a token without a kid, of the last of ${count} keys that fit, is answered by ${expected}`, async (t) => {
    const { issuer, codeFor, logLines } = await start(t)
    const keys = await createKeys(count)
    const others = [
      { kty: 'oct', k: 'AAAA' },
      {},
      CURVE_POINT_OF_ENCRYPTION,
      (await createIssuerKey('RS256')).publicJwk,
    ]
    issuer.setResponse('/jwks', JSON.stringify({ keys: [...others, ...keys.map(({ publicJwk }) => publicJwk)] }))
    const last = keys.at(-1)
    assert.ok(last)
    // A name that is not known makes the new set be read.
    assert.equal(await codeFor(await sign(last, issuer.claims({ sub: 'named' }))), 200)
    assert.equal(await codeFor(await signNameless(last, issuer.claims())), expected)
    if (expected !== 200) assert.match(logLines.join(''), /its key is one of too many that fit/)
  })
}

const CURVE_POINT_OF_ENCRYPTION = { ...CURVE_POINT, use: 'enc' } as const

test('a token without a kid makes the set be read again where no known key has signed it', async (t) => {
  const { issuer, codeFor } = await start(t)
  assert.equal(await codeFor(await signNameless(issuer.key, issuer.claims())), 200)
  const next = await createIssuerKey()
  issuer.rotate(next)
  assert.equal(await codeFor(await signNameless(next, issuer.claims({ sub: 'new' }))), 200)
})

test('tokens without a kid make the set be read no more often than the pause allows', async (t) => {
  const { issuer, codeFor } = await start(t, { timing: { cooldownMs: NEVER } })
  assert.equal(await codeFor(await issuer.token()), 200)
  const before = readings(issuer)
  const stranger = await createIssuerKey()
  for (const sub of ['a', 'b', 'c']) {
    assert.equal(await codeFor(await signNameless(stranger, issuer.claims({ sub }))), 'unauthenticated')
  }
  assert.equal(readings(issuer), before)
})

test('a token without a kid that no key has signed is refused', async (t) => {
  const { issuer, codeFor } = await start(t)
  const [first, second, stranger] = [await createIssuerKey(), await createIssuerKey(), await createIssuerKey()]
  issuer.rotate(first, second)
  assert.equal(await codeFor(await signNameless(stranger, issuer.claims())), 'unauthenticated')
  assert.equal(await codeFor(await signNameless(second, issuer.claims({ exp: 1 }))), 'unauthenticated')
})

test('two keys of one name are both tried', async (t) => {
  const { issuer, codeFor } = await start(t)
  const [first, second] = [await createIssuerKey(), { ...(await createIssuerKey()), kid: 'twice' }]
  const keys = [first, second].map(({ publicJwk }) => ({ ...publicJwk, kid: 'twice' }))
  issuer.setResponse('/jwks', JSON.stringify({ keys }))
  assert.equal(await codeFor(await sign({ ...first, kid: 'twice' }, issuer.claims({ sub: 'first' }))), 200)
  assert.equal(await codeFor(await sign(second, issuer.claims({ sub: 'second' }))), 200)
})

test('a secret in the set verifies nothing', async (t) => {
  const { issuer, codeFor } = await start(t)
  const secret = new Uint8Array(32)
  const k = Buffer.from(secret).toString('base64url')
  issuer.setResponse('/jwks', JSON.stringify({ keys: [{ kty: 'oct', k, kid: 'secret' }, issuer.key.publicJwk] }))
  for (const kid of ['secret', undefined]) {
    const token = await new SignJWT(issuer.claims())
      .setProtectedHeader({ alg: 'HS256', ...(kid && { kid }) })
      .sign(secret)
    assert.equal(await codeFor(token), 'unauthenticated')
  }
})

for (const alg of ['Ed25519', 'EdDSA', 'RS256', 'ES256', 'PS256']) {
  test(`${alg} is accepted where no algorithms are set`, async (t) => {
    const { issuer, codeFor } = await start(t)
    const key = await createIssuerKey(alg)
    issuer.rotate(key)
    assert.equal(await codeFor(await sign(key, issuer.claims())), 200)
    const { alg: _, use, ...plain } = key.publicJwk
    issuer.setResponse('/jwks', JSON.stringify({ keys: [plain] }))
    assert.equal(await codeFor(await signNameless(key, issuer.claims({ sub: 'nameless' }))), 200)
  })
}
