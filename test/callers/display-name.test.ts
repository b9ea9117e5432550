import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { z } from 'zod'
import { displayNameIn } from '../../src/callers/claims.ts'
import { createSeal } from '../../src/callers/seal.ts'
import { Secret } from '../../src/secret.ts'
import { startCollector } from '../helpers/collector.ts'
import { beginSignIn, startFakeProvider } from '../helpers/fake-provider.ts'
import { asAuditor, asOperator, type StartOptions, startGateway } from '../helpers/gateway.ts'
import { startIssuer } from '../helpers/issuer.ts'
import { createVisitor } from '../helpers/provider.ts'
import { SESSION_SECRET, SIGN_IN_ENV, sessionCookie } from '../helpers/session.ts'

const NAMES: readonly (readonly [name: string, claim: unknown, expected: string | null])[] = [
  ['a name', 'Ann Lee', 'Ann Lee'],
  ['another script', '李安', '李安'],
  ['white space around it', ' \u3000Ann\n', 'Ann'],
  ['a letter and its mark', 'Zoe\u0308', 'Zo\u00eb'],
  ['marks of direction', 'Ann\u202eeeL', 'Ann\\u202eeeL'],
  ['a control character', 'Ann\u0007\u001b[2J', 'Ann\\u0007\\u001b[2J'],
  ['a line end', 'Ann\nLee', 'Ann\\u000aLee'],
  ['half of a surrogate pair', 'Ann\ud800', 'Ann\\ud800'],
  ['128 characters', 'a'.repeat(128), 'a'.repeat(128)],
  ['129 characters', 'a'.repeat(129), 'a'.repeat(128)],
  ['a surrogate pair at the limit', `${'a'.repeat(127)}😀`, 'a'.repeat(127)],
  ['an escape at the limit', `${'a'.repeat(123)}\u202e`, 'a'.repeat(123)],
  ['nothing', '', null],
  ['white space', ' \t', null],
  ['no claim', undefined, null],
  ['a number', 7, null],
  ['a list', ['Ann'], null],
  ['an object', { formatted: 'Ann' }, null],
]

for (const [name, claim, expected] of NAMES) {
  test(`the display name of a claim with ${name} is ${JSON.stringify(expected)}`, () => {
    assert.equal(displayNameIn({ name: claim }, 'name'), expected)
  })
}

test('a display name is short, visible, in NFC, and the same if it is read again', () => {
  const unit = fc.oneof(
    fc.constantFrom('\u202e', '\u0301', '\u0338', 'e', 'K', '\u0958', ' '),
    fc.string({ unit: 'binary' }),
  )
  fc.assert(
    fc.property(fc.array(unit, { maxLength: 200 }), (units) => {
      const shown = displayNameIn({ n: units.join('') }, 'n') ?? ''
      assert.ok(shown.length <= 128)
      assert.doesNotMatch(shown, /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u)
      assert.equal(shown, shown.normalize('NFC'))
      assert.equal(displayNameIn({ n: shown }, 'n') ?? '', shown.trim())
    }),
  )
})

/** A gateway that trusts an issuer, and the trace collector that it sends its spans to. */
const start = async (t: TestContext, { env, ...options }: StartOptions = {}) => {
  const [issuer, collector] = [await startIssuer(t), await startCollector(t)]
  const overrides = { ...options.overrides, timings: { traceDelayMs: 10 } }
  const tracing = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url }
  const gateway = await startGateway(t, { ...options, overrides, env: { ...issuer.env, ...tracing, ...env } })
  return { ...gateway, issuer, collector }
}

test('the name in a token is in /me and in the audit record, and in no log, metric or trace', async (t) => {
  const { api, issuer, upstream, record, logLines, adminUrl, collector } = await start(t)
  const ann = await issuer.bearer({ sub: 'u-1', name: 'Ann-canary Lee' })
  const { body } = await api.get('/me').set(ann)
  assert.deepEqual([body.name, body.callerDisplayName], ['u-1', 'Ann-canary Lee'])
  const [taskNo, refused] = [upstream.addTask(), upstream.addTask()]
  const trace = '0af7651916cd43dd8448eb211c80319c'
  await api
    .delete(`/tasks/${taskNo}`)
    .set(ann)
    .set({ traceparent: `00-${trace}-b7ad6b7169203331-01` })
    .expect(202)
  const reader = await issuer.bearer({ sub: 'u-1', name: 'Ann-canary Lee', scope: 'tasks:read' })
  await api.delete(`/tasks/${refused}`).set(reader).expect(403)
  for (const each of [taskNo, refused]) {
    const { caller, callerDisplayName } = await record(each)
    assert.deepEqual([caller, callerDisplayName], ['u-1', 'Ann-canary Lee'])
  }
  const spans = await collector.trace(trace, 4)
  const metrics = await (await fetch(`${adminUrl}/metrics`)).text()
  assert.match(logLines.join(''), /"caller":"u-1"/)
  assert.doesNotMatch(logLines.join('') + metrics + JSON.stringify(spans), /canary Lee/)
})

test('an API key and an anonymous caller have no display name', async (t) => {
  const { api, upstream, record } = await startGateway(t)
  assert.equal((await api.get('/me').set(asOperator)).body.callerDisplayName, null)
  const taskNo = upstream.addTask()
  await api.delete(`/tasks/${taskNo}`).set(asOperator).expect(202)
  assert.equal((await record(taskNo)).callerDisplayName, null)
  const open = await startGateway(t, { env: { ALLOW_ANONYMOUS: 'true', API_KEYS: '' } })
  assert.equal((await open.api.get('/me')).body.callerDisplayName, null)
})

test('NAME_CLAIM names another claim, and turns names off if it is empty', async (t) => {
  const claims = { name: 'Ann', email: 'ann@example.com' }
  for (const [nameClaim, expected] of [
    ['email', 'ann@example.com'],
    ['', null],
    [' ', null],
    ['nickname', null],
  ] as const) {
    const { api, issuer } = await start(t, { env: { NAME_CLAIM: nameClaim } })
    assert.equal((await api.get('/me').set(await issuer.bearer(claims))).body.callerDisplayName, expected, nameClaim)
  }
})

test('a display name decides nothing: not whose record it is, and no filter', async (t) => {
  const { api, issuer, upstream } = await start(t)
  const scopes = { scope: 'tasks:cancel' }
  const ann = await issuer.bearer({ ...scopes, sub: 'ann', name: 'Ann' })
  const impostor = await issuer.bearer({ ...scopes, sub: 'eve', name: 'ann' })
  const { body } = await api.delete(`/tasks/${upstream.addTask()}`).set(ann).expect(202)
  await api.get(`/cancellations/${body.cancellationId}`).set(ann).expect(200)
  await api.get(`/cancellations/${body.cancellationId}`).set(impostor).expect(404)
  const found = await api.get('/cancellations').query({ caller: 'Ann' }).set(asAuditor)
  assert.deepEqual(found.body.items, [])
})

test('the name in an ID token is that of the session, and OIDC_SCOPES asks for it', async (t) => {
  const provider = await startFakeProvider(t)
  provider.claims = { name: 'Ann Lee' }
  const { url } = await startGateway(t, { env: { ...provider.env, OIDC_SCOPES: 'openid  profile' } })
  const visitor = createVisitor()
  const login = await visitor.visit(`${url}/auth/login`)
  assert.equal(new URL(login.headers.get('location') ?? '').searchParams.get('scope'), 'openid profile')
  await visitor.visit(await beginSignIn(provider, visitor, url))
  const me = await (await visitor.visit(`${url}/me`)).json()
  assert.deepEqual(me, { name: 'ann', via: 'session', scopes: [], callerDisplayName: 'Ann Lee' })
})

const CLAIM_NAMES = { scopeClaim: 'scope', domainsClaim: undefined, taskTypesClaim: undefined }

test('a session of the version before goes on, without a name', async (t) => {
  const { api } = await startGateway(t, { env: SIGN_IN_ENV })
  const purpose = JSON.stringify(['session', SIGN_IN_ENV.OIDC_ISSUER, SIGN_IN_ENV.OIDC_CLIENT_ID, CLAIM_NAMES])
  const seal = createSeal([new Secret(SESSION_SECRET)], purpose, z.unknown())
  const [idleAtMs, endsAtMs] = [Date.now() + 60_000, Date.now() + 120_000]
  const grant = { scopes: ['tasks:read'], domains: null, taskTypes: null }
  const cookie = `__Host-session=${await seal.seal({ id: 'x', sub: 'ann', grant, idleAtMs, endsAtMs })}`
  const { status, body } = await api.get('/me').set({ cookie })
  assert.deepEqual(
    [status, body],
    [200, { name: 'ann', via: 'session', scopes: ['tasks:read'], callerDisplayName: null }],
  )
})

test('a session that began with a name has none once names are turned off', async (t) => {
  const headers = await sessionCookie({}, SIGN_IN_ENV.OIDC_ISSUER, 'ann', 'Ann Lee')
  for (const [nameClaim, expected] of [
    ['name', 'Ann Lee'],
    ['', null],
  ] as const) {
    const { api } = await startGateway(t, { env: { ...SIGN_IN_ENV, NAME_CLAIM: nameClaim } })
    assert.equal((await api.get('/me').set(headers)).body.callerDisplayName, expected)
  }
})

test('a name that does not fit into the cookie beside the grants is left out', async (t) => {
  const scopes = ['tasks:cancel'] as const
  const grantOf = (count: number) => ({
    scopes,
    domains: Array.from({ length: count }, (_, at) => `d${at}.example.com`),
  })
  const { api } = await startGateway(t, { env: SIGN_IN_ENV })
  const nameFor = async (count: number) => {
    const headers = await sessionCookie(grantOf(count), SIGN_IN_ENV.OIDC_ISSUER, 'ann', '李'.repeat(128))
    return (await api.get('/me').set(headers).expect(200)).body.callerDisplayName
  }
  assert.equal(await nameFor(1), '李'.repeat(128))
  assert.equal(await nameFor(130), null)
})
