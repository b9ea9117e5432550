import assert from 'node:assert/strict'
import { createHmac, KeyObject, sign as signBytes } from 'node:crypto'
import { type TestContext, test } from 'node:test'
import { CompactEncrypt, exportSPKI, importJWK } from 'jose'
import { sha256 } from '../../src/callers/api-keys.ts'
import type { Grant } from '../../src/callers/caller.ts'
import { grantIn } from '../../src/callers/claims.ts'
import { createKeySet } from '../../src/callers/jwks.ts'
import { createTokens } from '../../src/callers/jwt.ts'
import type { Env } from '../../src/config.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { asAuditor, CANARIES, type StartOptions, startGateway } from '../helpers/gateway.ts'
import {
  AUDIENCE,
  type Claims,
  createIssuerKey,
  type Issuer,
  secondsFromNow,
  sign,
  startIssuer,
} from '../helpers/issuer.ts'
import { sendLine, statusAndCode } from '../helpers/raw-http.ts'

const bearer = (token: string) => ({ authorization: `Bearer ${token}` })

/** A gateway that trusts an issuer of its own. */
const start = async (t: TestContext, { env, ...options }: StartOptions = {}) => {
  const issuer = await startIssuer(t)
  const started = await startGateway(t, { env: { ...issuer.env, ...env }, ...options })
  const whoIs = async (token: string) => (await started.api.get('/me').set(bearer(token))).body
  return { ...started, issuer, whoIs }
}

test('a token of the issuer cancels, on record under the name that it gives', async (t) => {
  const { api, upstream, record, issuer } = await start(t)
  const taskNo = upstream.addTask()
  assert.equal((await api.delete(`/tasks/${taskNo}`).set(await issuer.bearer())).status, 202)
  const { caller, via, outcome } = await record(taskNo)
  assert.deepEqual([caller, via, outcome], ['shop', 'jwt', 'accepted'])
})

/** Claims in addition to those of a valid token, and the scopes that result. */
const SCOPES: readonly (readonly [Claims, readonly string[]])[] = [
  [{ scope: 'tasks:cancel' }, ['tasks:cancel']],
  [{ scope: 'openid audit:read tasks:read' }, ['tasks:read', 'audit:read']],
  [{ scope: ['tasks:read', 'x'] }, ['tasks:read']],
  [{ scope: undefined, scp: 'tasks:read' }, ['tasks:read']],
  [{ scope: undefined, scp: ['tasks:read'] }, ['tasks:read']],
  [{ scope: undefined }, []],
  [{ scope: '' }, []],
  [{ scope: 'TASKS:READ tasks:reader tasks:' }, []],
  [{ scope: '*' }, []],
  [{ scope: ['tasks:read tasks:cancel'] }, []],
  [{ scope: ['tasks:read', 1] }, []],
  [{ scope: { 'tasks:read': true } }, []],
  [{ scope: true }, []],
  [{ scope: 'x', scp: 'tasks:read' }, []],
  [{ scope: undefined, scopes: 'tasks:read', roles: ['tasks:read'] }, []],
]

test('a token has the scopes that it lists, as far as they are known', async (t) => {
  const { issuer, whoIs } = await start(t)
  for (const [claims, scopes] of SCOPES) {
    await t.test(`${JSON.stringify(claims)}: ${scopes.join(', ') || 'none'}`, async () => {
      const expected = { name: 'shop', via: 'jwt', scopes, callerDisplayName: null }
      assert.deepEqual(await whoIs(await issuer.token(claims)), expected)
    })
  }
})

test('another claim can be named to list the scopes, and then it alone does', async (t) => {
  const { issuer, whoIs } = await start(t, { env: { SCOPE_CLAIM: 'https://a.example/scopes' } })
  const named = await issuer.token({ scope: 'audit:read', 'https://a.example/scopes': ['tasks:read'] })
  const unnamed = await issuer.token({ scope: 'audit:read', scp: 'audit:read' })
  assert.deepEqual([(await whoIs(named)).scopes, (await whoIs(unnamed)).scopes], [['tasks:read'], []])
})

const CLAIMED: readonly (readonly [Claims, Partial<Grant>])[] = [
  [{ domains: ['*.A.example', 'bücher.example.'] }, { domains: ['*.a.example', 'xn--bcher-kva.example'] }],
  [{ types: ['CHG_DNS'] }, { taskTypes: ['CHG_DNS'] }],
  [{}, { domains: [], taskTypes: [] }],
  [
    { domains: [], types: [] },
    { domains: [], taskTypes: [] },
  ],
  [
    { domains: 'a.example', types: 'CHG_DNS' },
    { domains: [], taskTypes: [] },
  ],
  [
    { domains: null, types: { 0: 'CHG_DNS' } },
    { domains: [], taskTypes: [] },
  ],
  [
    { domains: ['a.example', 1], types: ['CHG_DNS', null] },
    { domains: [], taskTypes: [] },
  ],
  [
    { domains: ['a.example', '*'], types: ['CHG_DNS', ''] },
    { domains: [], taskTypes: [] },
  ],
]

for (const [claims, expected] of CLAIMED) {
  test(`${JSON.stringify(claims)} restricts to ${JSON.stringify(expected)}, where those claims are named`, () => {
    const granted = grantIn(claims, { scopeClaim: 'scope', domainsClaim: 'domains', taskTypesClaim: 'types' })
    assert.deepEqual(granted, { scopes: [], domains: [], taskTypes: [], ...expected })
  })
}

test('claims that are not named restrict nothing', () => {
  const claims = { domains: ['a.example'], taskTypes: ['CHG_DNS'] }
  const granted = grantIn(claims, { scopeClaim: 'scope', domainsClaim: undefined, taskTypesClaim: undefined })
  assert.deepEqual([granted.domains, granted.taskTypes], [null, null])
})

const encode = (part: unknown): string => Buffer.from(JSON.stringify(part)).toString('base64url')

const unsigned = (header: object, claims: Claims): string => `${encode(header)}.${encode(claims)}.`

/** A well-known attack: the public key is used as a shared secret. */
const signedByPublicKey = async (issuer: Issuer): Promise<string> => {
  const { publicJwk, kid } = issuer.key
  const key = await importJWK(publicJwk)
  if (key instanceof Uint8Array) throw new Error('not a public key')
  const input = `${encode({ alg: 'HS256', kid })}.${encode(issuer.claims())}`
  return `${input}.${createHmac('sha256', await exportSPKI(key))
    .update(input)
    .digest('base64url')}`
}

const tampered = async (issuer: Issuer): Promise<string> => {
  const [header = '', , signature = ''] = (await issuer.token()).split('.')
  return [header, encode(issuer.claims({ scope: 'audit:read' })), signature].join('.')
}

type Forge = (issuer: Issuer) => Promise<string> | string

const claiming =
  (changes: () => Claims): Forge =>
  (issuer) =>
    issuer.token(changes())

/** Signed by a key of the attacker, with various claims about it in the header. */
const signedByStranger =
  (headerOf: (stranger: Awaited<ReturnType<typeof createIssuerKey>>, issuer: Issuer) => object): Forge =>
  async (issuer) => {
    const stranger = await createIssuerKey()
    return sign(stranger, issuer.claims(), headerOf(stranger, issuer))
  }

/** Signed by the issuer itself, with various headers and payloads. */
const signedText = ({ key: { privateKey } }: Issuer, header: string, payload: string): string => {
  const input = [header, payload].map((part) => Buffer.from(part).toString('base64url')).join('.')
  const key = { key: KeyObject.from(privateKey), dsaEncoding: 'ieee-p1363' } as const
  return `${input}.${signBytes('sha256', Buffer.from(input), key).toString('base64url')}`
}

/** Signed by the issuer, with a header that says more than usual. */
const withHeader =
  (more: object, payloadOf = async (issuer: Issuer) => JSON.stringify(issuer.claims())): Forge =>
  async (issuer) => {
    const { alg, kid } = issuer.key
    return signedText(issuer, JSON.stringify({ alg, kid, ...more }), await payloadOf(issuer))
  }

/** Encrypted for the issuer's key, which any client can do: inside is a valid token. */
const encrypted: Forge = async (issuer) => {
  const alg = issuer.key.alg === 'RS256' ? 'RSA-OAEP-256' : 'ECDH-ES'
  const key = await importJWK(issuer.key.publicJwk, alg)
  const jwe = new CompactEncrypt(Buffer.from(await issuer.token()))
  return jwe.setProtectedHeader({ alg, enc: 'A256GCM', cty: 'JWT', kid: issuer.key.kid }).encrypt(key)
}

const FORGED: Readonly<Record<string, Forge>> = {
  'no signature, as alg none': (issuer) => unsigned({ alg: 'none' }, issuer.claims()),
  'no signature, as alg nOnE with a kid': (issuer) => unsigned({ alg: 'nOnE', kid: issuer.key.kid }, issuer.claims()),
  'no signature under an alg that has one': (issuer) =>
    unsigned({ alg: issuer.key.alg, kid: issuer.key.kid }, issuer.claims()),
  'the public key as the secret of HS256': signedByPublicKey,
  'claims that were changed after signing': tampered,
  'another issuer': claiming(() => ({ iss: 'https://other.example' })),
  'the issuer with a slash more': async (issuer) => issuer.token({ iss: `${issuer.url}/` }),
  'no issuer': claiming(() => ({ iss: undefined })),
  'another audience': claiming(() => ({ aud: 'other' })),
  'other audiences': claiming(() => ({ aud: ['other', 'gateway2'] })),
  'no audience': claiming(() => ({ aud: undefined })),
  'an expiry that is over': claiming(() => ({ exp: secondsFromNow(-6) })),
  'no expiry': claiming(() => ({ exp: undefined })),
  'an expiry that is a text': (issuer) => issuer.token({ exp: '9999999999' }),
  'a beginning that is to come': claiming(() => ({ nbf: secondsFromNow(60) })),
  'an issue that is to come': claiming(() => ({ iat: secondsFromNow(60) })),
  'no subject': claiming(() => ({ sub: undefined })),
  'an empty subject': claiming(() => ({ sub: '' })),
  'a subject of blanks': claiming(() => ({ sub: '  ' })),
  'a subject with a blank at its end': claiming(() => ({ sub: 'shop ' })),
  'a subject that is too long': claiming(() => ({ sub: 'x'.repeat(257) })),
  'a subject of two lines': claiming(() => ({ sub: 'a\nb' })),
  'a subject that turns what follows round': claiming(() => ({ sub: 'a\u202eb' })),
  'a key that nobody knows': signedByStranger(() => ({})),
  "a stranger's key under the name of a known one": signedByStranger((_stranger, { key }) => ({ kid: key.kid })),
  'its own key in the header': signedByStranger(({ publicJwk }, { key }) => ({ kid: key.kid, jwk: publicJwk })),
  "the address of a stranger's keys in the header": signedByStranger((_stranger, { key, url }) => ({
    kid: key.kid,
    jku: `${url}/jwks-of-a-stranger`,
    x5u: `${url}/x5u-of-a-stranger`,
  })),
  "a certificate of a stranger's in the header": signedByStranger((_stranger, { key }) => ({
    kid: key.kid,
    x5c: [Buffer.from('a certificate').toString('base64')],
  })),
  'a kid that is a path': signedByStranger(() => ({ kid: '../../../../dev/null' })),
  'a kid that is a query': signedByStranger(() => ({ kid: "' OR '1'='1" })),
  'a kid that is an address': signedByStranger((_stranger, { url }) => ({ kid: `${url}/jwks-of-a-stranger` })),
  'a kid that every object has': signedByStranger(() => ({ kid: '__proto__' })),
  'a kid that is a list': (issuer) =>
    `${encode({ alg: issuer.key.alg, kid: [issuer.key.kid] })}.${encode(issuer.claims())}.AAAA`,
  'a signature of noughts': (issuer) => {
    const { alg, kid } = issuer.key
    const noughts = Buffer.alloc(alg === 'ES256' ? 64 : 256).toString('base64url')
    return `${encode({ alg, kid })}.${encode(issuer.claims())}.${noughts}`
  },
  'no signature, under a second alg': (issuer) => {
    const header = `{"alg":"${issuer.key.alg}","kid":"${issuer.key.kid}","alg":"none"}`
    return `${Buffer.from(header).toString('base64url')}.${encode(issuer.claims())}.`
  },
  'an alg that is a list': withHeader({ alg: ['ES256', 'RS256'] }),
  'an alg that is inherited': (issuer) =>
    signedText(issuer, `{"__proto__":{"alg":"${issuer.key.alg}"}}`, JSON.stringify(issuer.claims())),
  'a header of many levels': (issuer) => {
    const header = `{"alg":"${issuer.key.alg}","x":${'['.repeat(3000)}${']'.repeat(3000)}}`
    return `${Buffer.from(header).toString('base64url')}.${encode(issuer.claims())}.AAAA`
  },
  'an extension that must be understood': withHeader({ crit: ['x'], x: 1 }),
  'an empty list of extensions': withHeader({ crit: [] }),
  'a payload that is not encoded': withHeader({ crit: ['b64'], b64: false }),
  'a token inside a token': withHeader({ cty: 'JWT' }, (issuer) => issuer.token()),
  'a payload that is a list': withHeader({}, async (issuer) => JSON.stringify([issuer.claims()])),
  'a token inside an envelope': encrypted,
  'the type of a proof of possession': withHeader({ typ: 'dpop+jwt' }),
  'the type of an order to sign out': withHeader({ typ: 'logout+jwt' }),
  'the type of an event': withHeader({ typ: 'application/secevent+jwt' }),
  'an empty type': withHeader({ typ: '' }),
  garbage: () => 'garbage',
  'three parts of garbage': () => 'a.b.c',
  'five parts, as if encrypted': () => 'a.b.c.d.e',
}

for (const alg of ['ES256', 'RS256']) {
  test(`a token with a flaw proves nothing, where the issuer signs by ${alg}`, async (t) => {
    const issuer = await startIssuer(t, await createIssuerKey(alg))
    const { url, upstream, record } = await startGateway(t, { env: issuer.env })
    for (const [flaw, forge] of Object.entries(FORGED)) {
      await t.test(flaw, async () => {
        const answer = await sendLine(url, 'DELETE /tasks/x', `Authorization: Bearer ${await forge(issuer)}`)
        assert.deepEqual(statusAndCode(answer), [401, 'unauthenticated'])
        assert.equal(answer.headers['www-authenticate'], 'Bearer realm="gateway", error="invalid_token"')
        assert.deepEqual([upstream.calls.length, await record('x')], [0, undefined])
      })
    }
    assert.deepEqual(
      issuer.requests.filter((path) => path.includes('stranger')),
      [],
    )
  })
}

/** Types that say no more than that it is a token for access, or nothing. */
const TYPES = [undefined, 'JWT', 'jwt', 'at+jwt', 'application/at+jwt', 'application/jwt'] as const

test('a token of a type that fits counts', async (t) => {
  const { issuer, whoIs } = await start(t)
  for (const typ of TYPES) {
    await t.test(String(typ), async () => {
      assert.equal((await whoIs(await withHeader({ typ })(issuer))).name, 'shop')
    })
  }
})

/** Unusual, but valid. */
const SOUND: Readonly<Record<string, () => Claims>> = {
  'several audiences, ours among them': () => ({ aud: ['other', AUDIENCE] }),
  'an expiry within the tolerance of clocks': () => ({ exp: secondsFromNow(-1) }),
  'an issue within the tolerance of clocks': () => ({ iat: secondsFromNow(3) }),
  'no time of issue': () => ({ iat: undefined }),
  'a subject in another script': () => ({ sub: '客户 é 🙂' }),
  'a subject of the greatest length': () => ({ sub: 'x'.repeat(256) }),
}

test('a token that is odd but right counts', async (t) => {
  const { issuer, whoIs } = await start(t)
  for (const [oddity, changes] of Object.entries(SOUND)) {
    await t.test(oddity, async () => {
      const claims = issuer.claims(changes())
      assert.equal((await whoIs(await issuer.token(claims))).name, claims.sub)
    })
  }
})

test('an algorithm that is not among those set proves nothing, even by a key of the issuer', async (t) => {
  const issuer = await startIssuer(t)
  const { api } = await startGateway(t, { env: { ...issuer.env, JWT_ALGORITHMS: 'RS256,EdDSA' } })
  assert.equal((await api.get('/me').set(await issuer.bearer())).status, 401)
})

test('a token of 100 kB is refused before it is looked at', async (t) => {
  const { url, issuer } = await start(t)
  const answer = await sendLine(
    url,
    'GET /me',
    `Authorization: Bearer ${await issuer.token({ pad: 'x'.repeat(75_000) })}`,
  )
  assert.deepEqual(statusAndCode(answer), [431, 'headers-too-large'])
})

/** The place of a valid token, and the response to it. */
const PLACES: readonly (readonly [string, (token: string) => readonly string[], number, string | undefined])[] = [
  ['in the header', (token) => [`Authorization: Bearer ${token}`], 200, undefined],
  ['under a scheme in lower case', (token) => [`Authorization: bearer ${token}`], 200, undefined],
  ['under a scheme in upper case', (token) => [`authorization: BEARER  ${token}`], 200, undefined],
  ['under another scheme', (token) => [`Authorization: Basic ${token}`], 401, 'Bearer realm="gateway"'],
  ['under no scheme', (token) => [`Authorization: ${token}`], 401, 'Bearer realm="gateway"'],
  ['as a key', (token) => [`X-API-Key: ${token}`], 401, 'Bearer realm="gateway"'],
  ['in a cookie', (token) => [`Cookie: token=${token}`], 401, 'Bearer realm="gateway"'],
  [
    'twice in one header',
    (token) => [`Authorization: Bearer ${token}, Bearer ${token}`],
    401,
    'Bearer realm="gateway", error="invalid_token"',
  ],
  [
    'in two headers',
    (token) => [`Authorization: Bearer ${token}`, `Authorization: Bearer ${token}`],
    400,
    'Bearer realm="gateway", error="invalid_request"',
  ],
  [
    'beside an empty header',
    (token) => ['Authorization:', `Authorization: Bearer ${token}`],
    400,
    'Bearer realm="gateway", error="invalid_request"',
  ],
  [
    'beside a key',
    (token) => [`Authorization: Bearer ${token}`, `X-API-Key: ${CANARIES.operatorKey}`],
    400,
    'Bearer realm="gateway", error="invalid_request"',
  ],
]

test('a faulty query of a caller with a token is told in the challenge too', async (t) => {
  const { api, issuer } = await start(t)
  for (const ask of [api.get('/tasks?page=0'), api.delete('/tasks/x?lang=fr')]) {
    const { status, headers } = await ask.set(await issuer.bearer())
    assert.deepEqual([status, headers['www-authenticate']], [400, 'Bearer realm="gateway", error="invalid_request"'])
  }
})

test('a token counts in one place', async (t) => {
  const { url, issuer } = await start(t)
  for (const [place, linesOf, status, challenge] of PLACES) {
    await t.test(`${place}: ${status}`, async () => {
      const answer = await sendLine(url, 'GET /me', ...linesOf(await issuer.token()))
      assert.deepEqual([answer.status, answer.headers['www-authenticate']], [status, challenge])
    })
  }
})

test('in the query or the body a token is none', async (t) => {
  const { api, issuer } = await start(t)
  assert.equal((await api.get(`/me?access_token=${await issuer.token()}`)).status, 401)
})

test('a token that lacks a scope is told which', async (t) => {
  const { api, issuer } = await start(t)
  const headers = await issuer.bearer({ scope: 'x' })
  const lacks = (scope: string) => `Bearer realm="gateway", error="insufficient_scope", scope="${scope}"`
  const answers = [await api.delete('/tasks/x').set(headers), await api.get('/tasks').set(headers)]
  assert.deepEqual(
    answers.map((answer) => [answer.status, answer.get('www-authenticate')]),
    [
      [403, lacks('tasks:cancel')],
      [403, lacks('tasks:read')],
    ],
  )
})

test('whoever came with a key is not told of tokens', async (t) => {
  const { api } = await start(t)
  const answer = await api.get('/tasks').set(asAuditor)
  assert.deepEqual([answer.status, answer.get('www-authenticate')], [403, undefined])
})

test('a subject with the name of a key is not its owner', async (t) => {
  const { api, upstream, issuer } = await start(t)
  const { body } = await api.delete(`/tasks/${upstream.addTask()}`).set({ 'x-api-key': CANARIES.operatorKey })
  const own = await api.get(`/cancellations/${body.cancellationId}`).set(await issuer.bearer({ sub: 'operator' }))
  assert.equal(own.body.code, 'not-found')
})

test('a subject of another issuer is not the same caller', async (t) => {
  const first = await start(t)
  const { body } = await first.api.delete(`/tasks/${first.upstream.addTask()}`).set(await first.issuer.bearer())
  const path = `/cancellations/${body.cancellationId}`
  assert.equal((await first.api.get(path).set(await first.issuer.bearer())).status, 200)
  await first.stop()
  const second = await start(t, { env: { AUDIT_URL: `sqlite:${first.auditPath}` } })
  assert.equal((await second.api.get(path).set(await second.issuer.bearer())).body.code, 'not-found')
  assert.equal((await second.api.get(path).set(await first.issuer.bearer())).status, 401)
})

/** Tokens as the gateway has them, on a clock of the test's own. */
const startClock = async (t: TestContext, domainsClaim?: string) => {
  const issuer = await startIssuer(t)
  const log = createLog({ level: 'silent' })
  const keySet = createKeySet({ issuer: issuer.url, jwksUrl: undefined, log })
  t.after(() => keySet.close())
  let nowMs = Date.now()
  const claimNames = { scopeClaim: 'scope', domainsClaim, taskTypesClaim: undefined }
  const rules = { issuer: issuer.url, audience: AUDIENCE, algorithms: ['ES256'] }
  const tokens = createTokens({ ...rules, claimNames, nameClaim: 'name', keySet, grants: null, log, now: () => nowMs })
  const pass = (seconds: number): void => {
    nowMs += seconds * 1000
  }
  return { issuer, tokens, pass }
}

test('of very many large tokens the first are forgotten, and one that stays in use is not', async (t) => {
  const { issuer, tokens } = await startClock(t, 'domains')
  const domains = Array.from({ length: 100 }, (_, index) => `${index}${`.${'a'.repeat(60)}`.repeat(3)}`)
  const tokenOf = (jti: string) => issuer.token({ jti, domains, iat: undefined })
  const verify = async (token: string) => assert.equal((await tokens.verify(token))?.domains?.length, 100)
  const [first, comesAgain] = [await tokenOf('first'), await tokenOf('comes again')]
  for (const token of [first, comesAgain]) await verify(token)
  for (let index = 0; index < 500; index += 1) {
    await verify(await tokenOf(String(index)))
    assert.notEqual(tokens.cached(comesAgain), undefined)
  }
  assert.equal(tokens.cached(first), undefined)
})

for (const [lifetime, passed, isRemembered] of [
  [600, 299, true],
  [600, 301, false],
  [60, 58, true],
  [60, 61, false],
] as const) {
  test(`a token of ${lifetime} s is ${isRemembered ? '' : 'not '}remembered after ${passed} s`, async (t) => {
    const { issuer, tokens, pass } = await startClock(t)
    const token = await issuer.token({ exp: secondsFromNow(lifetime) })
    assert.equal(tokens.cached(token), undefined)
    assert.equal((await tokens.verify(token))?.name, 'shop')
    pass(passed)
    assert.equal(tokens.cached(token)?.name, isRemembered ? 'shop' : undefined)
  })
}

const statuses = (answers: readonly { readonly status: number }[]) =>
  Object.fromEntries([200, 401, 429].map((status) => [status, answers.filter((each) => each.status === status).length]))

test('whoever begins with many requests at once is verified once, and not taken for many who fail', async (t) => {
  const { api, issuer } = await start(t, { env: { RATE_LIMIT_UNKNOWN_MAX: '5' } })
  const credentials = await issuer.bearer()
  const answers = await Promise.all(Array.from({ length: 40 }, () => api.get('/me').set(credentials)))
  assert.deepEqual(statuses(answers), { 200: 40, 401: 0, 429: 0 })
})

test('of many requests at once with a new token as many pass as may', async (t) => {
  const { api, issuer } = await start(t, { env: { RATE_LIMIT_READ_MAX: '30' } })
  const credentials = await issuer.bearer()
  const answers = await Promise.all(Array.from({ length: 40 }, () => api.get('/me').set(credentials)))
  assert.deepEqual(statuses(answers), { 200: 30, 401: 0, 429: 10 })
})

test('many requests at once with a token that proves nothing are as many failures', async (t) => {
  const { api, issuer } = await start(t, { env: { RATE_LIMIT_UNKNOWN_MAX: '5' } })
  const credentials = await issuer.bearer({ aud: 'other' })
  const answers = await Promise.all(Array.from({ length: 40 }, () => api.get('/me').set(credentials)))
  assert.deepEqual(statuses(answers), { 200: 0, 401: 5, 429: 35 })
})

test('who waits in vain for the verification of another has failed too', async (t) => {
  const env = { RATE_LIMIT_UNKNOWN_MAX: '5', UPSTREAM_TIMEOUT_MS: '1000', REQUEST_TIMEOUT_MS: '4000' }
  const { api, issuer } = await start(t, { env, overrides: { timings: { keySet: { timeoutMs: 20_000 } } } })
  issuer.answerWith('slow')
  const credentials = await issuer.bearer()
  const answers = await Promise.all(Array.from({ length: 40 }, () => api.get('/me').set(credentials)))
  assert.deepEqual(
    [503, 429].map((status) => answers.filter((each) => each.status === status).length),
    [5, 35],
  )
})

test('who waits for the verification of another learns what it comes to', async (t) => {
  const { issuer, tokens } = await startClock(t)
  const [sound, faulty] = [await issuer.token(), await issuer.token({ aud: 'other' })]
  const verified = [tokens.verify(sound), tokens.verify(faulty)]
  const recalled = [sound, faulty].map((token) => tokens.pending(token))
  assert.deepEqual(
    recalled.map((each) => each instanceof Promise),
    [true, true],
  )
  assert.deepEqual(await Promise.all(recalled), await Promise.all(verified))
  assert.equal(issuer.requests.filter((path) => path === '/jwks').length, 1)
})

test('who waits for a verification that fails for want of keys is told nothing, and asks itself', async (t) => {
  const { issuer, tokens } = await startClock(t)
  issuer.answerWith('down')
  const token = await issuer.token()
  const verified = tokens.verify(token)
  const recalled = tokens.pending(token)
  await assert.rejects(verified, { code: 'identity-provider-unavailable' })
  assert.equal(await recalled, undefined)
})

test('a token is remembered by all of it', async (t) => {
  const { issuer, tokens } = await startClock(t)
  const token = await issuer.token()
  await tokens.verify(token)
  const others = [`${token}A`, token.slice(0, -1), sha256(token).toString('base64'), '']
  assert.deepEqual(
    others.filter((other) => tokens.cached(other) !== undefined),
    [],
  )
})

test('a token that was refused is not remembered', async (t) => {
  const { issuer, tokens } = await startClock(t)
  const token = await issuer.token({ aud: 'other' })
  assert.deepEqual([await tokens.verify(token), tokens.cached(token)], [undefined, undefined])
})

// Shapes of metadata, key sets and tokens as the public documentation of each provider describes them. They are written
// by hand, with keys of this test: none of these providers took part.
interface ProviderShape {
  /** The path of the issuer. */
  readonly path: string
  readonly metadata?: Claims
  /** Members of the signing key besides its numbers. */
  readonly key: Claims
  readonly otherKeys?: readonly Claims[]
  readonly header: Claims
  readonly claims: Claims
  readonly env: Env
  readonly caller: { readonly name: string; readonly scopes: readonly string[]; readonly displayName: string | null }
}

const CERTIFICATE = { x5t: 'q1w2e3', x5c: ['MIIDBTCCAe2gAwIBAgIQ'] }

const PROVIDER_SHAPES: Readonly<Record<string, ProviderShape>> = {
  'Keycloak, client credentials': {
    path: '/realms/shop',
    metadata: { token_endpoint_auth_methods_supported: ['private_key_jwt', 'client_secret_basic'] },
    key: { use: 'sig', alg: 'RS256', ...CERTIFICATE },
    otherKeys: [{ kty: 'RSA', use: 'enc', alg: 'RSA-OAEP', kid: 'encryption', n: 'AQAB', e: 'AQAB' }],
    header: { typ: 'JWT' },
    claims: {
      aud: [AUDIENCE, 'account'],
      sub: '8d5f1f3e-1111-4222-8333-444455556666',
      typ: 'Bearer',
      azp: 'shop',
      realm_access: { roles: ['offline_access'] },
      scope: 'tasks:cancel profile email',
      preferred_username: 'service-account-shop',
    },
    env: { NAME_CLAIM: 'preferred_username' },
    caller: {
      name: '8d5f1f3e-1111-4222-8333-444455556666',
      scopes: ['tasks:cancel'],
      displayName: 'service-account-shop',
    },
  },
  'Microsoft Entra ID, a person': {
    path: '/11111111-2222-4333-8444-555555555555/v2.0',
    // The keys of Entra ID name no algorithm.
    key: { use: 'sig', ...CERTIFICATE, issuer: 'https://login.microsoftonline.com/{tenantid}/v2.0' },
    header: { typ: 'JWT' },
    claims: { sub: 'pairwise_AAAA', oid: '9a', tid: '11', scp: 'tasks:read tasks:cancel', name: 'Ann Li', ver: '2.0' },
    env: {},
    caller: { name: 'pairwise_AAAA', scopes: ['tasks:cancel', 'tasks:read'], displayName: 'Ann Li' },
  },
  'Microsoft Entra ID, a service': {
    path: '/11111111-2222-4333-8444-555555555555/v2.0',
    key: { use: 'sig', ...CERTIFICATE },
    header: { typ: 'JWT' },
    claims: { sub: '9a', oid: '9a', azp: '5b', azpacr: '1', idtyp: 'app', roles: ['tasks:cancel'], ver: '2.0' },
    env: { SCOPE_CLAIM: 'roles' },
    caller: { name: '9a', scopes: ['tasks:cancel'], displayName: null },
  },
  Okta: {
    path: '/oauth2/default',
    key: { use: 'sig', alg: 'RS256' },
    header: {},
    claims: { ver: 1, jti: 'AT.x', cid: '0oa1', uid: '00u1', sub: 'ann@example.com', scp: ['openid', 'tasks:read'] },
    env: {},
    caller: { name: 'ann@example.com', scopes: ['tasks:read'], displayName: null },
  },
  'Auth0, roles': {
    path: '/',
    key: { use: 'sig', alg: 'RS256', ...CERTIFICATE },
    header: { typ: 'at+jwt' },
    claims: {
      aud: [AUDIENCE, 'https://tenant.example.com/userinfo'],
      sub: 'auth0|63f1',
      azp: '7c',
      scope: 'openid profile',
      permissions: ['tasks:cancel', 'audit:read'],
    },
    env: { SCOPE_CLAIM: 'permissions' },
    caller: { name: 'auth0|63f1', scopes: ['tasks:cancel', 'audit:read'], displayName: null },
  },
  'Alibaba Cloud IDaaS': {
    path: '/api/v2/iauths_system/oauth2',
    key: { use: 'sig', alg: 'RS256' },
    header: { typ: 'JWT' },
    claims: { sub: 'user_m5v', name: '李安', preferred_username: 'ann', ent: { roles: [] }, scope: 'tasks:cancel' },
    env: {},
    caller: { name: 'user_m5v', scopes: ['tasks:cancel'], displayName: '李安' },
  },
}

test('tokens in the shapes that providers document name the caller and its scopes', async (t) => {
  const key = await createIssuerKey('RS256')
  const { alg: _alg, use: _use, ...numbers } = key.publicJwk
  for (const [name, shape] of Object.entries(PROVIDER_SHAPES)) {
    await t.test(name, async (t) => {
      const issuer = await startIssuer(t, key)
      const iss = `${issuer.url}${shape.path}`
      const jwks = `${issuer.url}/keys`
      const keys = { keys: [...(shape.otherKeys ?? []), { ...numbers, ...shape.key }] }
      const metadata = { issuer: iss, jwks_uri: jwks, ...shape.metadata }
      issuer.setResponse(`${shape.path.replace(/\/$/, '')}/.well-known/openid-configuration`, JSON.stringify(metadata))
      issuer.setResponse('/keys', JSON.stringify(keys))
      const { api } = await startGateway(t, { env: { ...issuer.env, JWT_ISSUER: iss, ...shape.env } })
      const token = await sign(key, issuer.claims({ scope: undefined, iss, ...shape.claims }), shape.header)
      const { name: caller, scopes, displayName } = shape.caller
      const { body } = await api.get('/me').set(bearer(token))
      assert.deepEqual(body, { name: caller, via: 'jwt', scopes, callerDisplayName: displayName })
    })
  }
})
