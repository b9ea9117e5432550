import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { KeySetTiming } from '../../src/callers/key-set.ts'
import { eventually, startGateway } from '../helpers/gateway.ts'
import { assertUnblocked, filled } from '../helpers/growth.ts'
import { createIssuerKey, type Issuer, type IssuerReply, sign, startIssuer } from '../helpers/issuer.ts'

/** Longer than any test: what it paces happens once. */
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
  const started = await startGateway(t, { env: { ...issuer.env, ...env }, overrides: { keySetTiming } })
  const codeFor = async (token: string): Promise<string | number> => {
    const { status, body } = await started.api.get('/me').set('authorization', `Bearer ${token}`)
    return body.code ?? status
  }
  return { ...started, issuer, codeFor }
}

const readings = ({ requests }: Issuer): number => requests.filter((path) => path === '/jwks').length

const USELESS: readonly (readonly [IssuerReply, RegExp])[] = [
  ['down', /can not be reached/],
  ['slow', /took too long/],
  ['slow-body', /took too long/],
  ['huge', /is too large/],
  ['redirect', /answered 302/],
  ['not-json', /is not JSON/],
  ['no-key-set', /is no key set/],
  ['error', /answered 500/],
]

for (const [reply, reason] of USELESS) {
  test(`keys that are ${reply} are none: an unknown token is not checked, with an alarm`, async (t) => {
    const timing = reply.startsWith('slow') ? { timeoutMs: 200 } : {}
    const { issuer, codeFor, logLines } = await start(t, { reply, timing })
    assert.equal(await codeFor(await issuer.token()), 'identity-provider-unavailable')
    assert.match(logLines.find((line) => line.includes('"level":"error"')) ?? '', reason)
    assert.ok(!issuer.requests.includes('/elsewhere'))
  })

  test(`keys that become ${reply} leave known ones as they are`, async (t) => {
    const { issuer, codeFor } = await start(t, { timing: { timeoutMs: 200 } })
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
  assert.match(logLines.join(''), /can not be reached/)
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

/** Key sets that are no longer than one may be, and why they are of no use. */
const HOSTILE_SETS = [
  ['zeros', filled('{"keys":[', '0', ']}'), /has too many keys/],
  ['empty keys', filled('{"keys":[', '{}', ']}'), /has too many keys/],
  ['thousands of keys', filled('{"keys":[', JSON.stringify(PLAIN_KEY), ']}'), /has too many keys/],
  [
    'lists in lists',
    (length: number) => `{"keys":${'['.repeat(length / 2 - 9)}${']'.repeat(length / 2 - 9)}}`,
    /no key/,
  ],
  ['a list in place of the set', filled('[', '0', ']'), /is no key set/],
  ['a key without a kind', () => JSON.stringify({ keys: [PLAIN_KEY, {}] }), /is no key set/],
  ['a key that is a number', () => JSON.stringify({ keys: [PLAIN_KEY, 0] }), /is no key set/],
] as const

for (const [name, textOf, reason] of HOSTILE_SETS) {
  test(`a set of ${name} is none, and reading it keeps the gateway from nothing else`, async (t) => {
    const { issuer, codeFor, logLines } = await start(t)
    assert.equal(await codeFor(await issuer.token()), 200)
    issuer.say('/jwks', textOf(MAX_BYTES))
    const stranger = await createIssuerKey()
    await assertUnblocked(async () => {
      const token = await sign(stranger, issuer.claims())
      assert.equal(await codeFor(token), 'identity-provider-unavailable')
    })
    assert.match(logLines.find((line) => line.includes('"level":"error"')) ?? '', reason)
  })
}

/** Keys that are left out of a set, whose others count. */
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
    issuer.say('/jwks', JSON.stringify({ keys: [key, issuer.key.publicJwk] }))
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
  issuer.say('/jwks', JSON.stringify({ keys: [...others, certified] }))
  assert.equal(await codeFor(await issuer.token()), 200)
})

test('metadata that names an address longer than any in use names no keys', async (t) => {
  const { issuer, codeFor, logLines } = await start(t)
  const metadataOf = (query: string) => JSON.stringify({ issuer: issuer.url, jwks_uri: `${issuer.url}/jwks?${query}` })
  issuer.say('/.well-known/openid-configuration', metadataOf('x'.repeat(2048)))
  assert.equal(await codeFor(await issuer.token()), 'identity-provider-unavailable')
  assert.match(logLines.join(''), /has no metadata of this issuer/)
})
