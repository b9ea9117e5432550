import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { startGateway } from '../helpers/gateway.ts'
import { type RawAnswer, sendLine, statusAndCode } from '../helpers/raw-http.ts'
import { SIGN_IN_ENV, sessionCookie } from '../helpers/session.ts'

// Cookies that others plant beside a session: a sibling subdomain, or a program between. Header bytes are Latin-1.

const cookieValueOf = ({ cookie }: { readonly cookie: string }): string => cookie.slice('__Host-session='.length)

const VICTIM = cookieValueOf(await sessionCookie({ scopes: ['tasks:read'] }, undefined, 'victim'))
const ATTACKER = cookieValueOf(await sessionCookie({ scopes: ['tasks:read'] }, undefined, 'attacker'))

const OWN_PAGE = [`Origin: ${SIGN_IN_ENV.PUBLIC_URL}`, 'X-CSRF: 1']

const nameOf = (answer: RawAnswer): unknown =>
  answer.status === 200 ? JSON.parse(answer.body).name : statusAndCode(answer)

const start = async (t: TestContext) => {
  const { url } = await startGateway(t, { env: SIGN_IN_ENV })
  return {
    /** The name of the caller with those cookies, or the problem. */
    me: async (...cookies: readonly string[]) =>
      nameOf(await sendLine(url, 'GET /me', `Cookie: ${cookies.join('; ')}`)),
    signOut: (...cookies: readonly string[]) =>
      sendLine(url, 'POST /auth/logout', 'Content-Length: 0', ...OWN_PAGE, `Cookie: ${cookies.join('; ')}`),
  }
}

/** Bytes that are white space to JavaScript, or to other programs, and a part of the name to a browser. */
const ODD_BYTES = [
  '\xa0',
  '\x85',
  '\xef\xbb\xbf',
  '\xc2\xa0',
  '\xe2\x80\x80',
  '\xe3\x80\x80',
  '\xad',
  '"',
  ',',
  '=',
  '%20',
]

/** Cookies that resemble a session, but are not the victim's. */
const PLANTED: readonly string[] = [
  ...ODD_BYTES.map((odd) => `${odd}__Host-session=${ATTACKER}`),
  ...ODD_BYTES.map((odd) => `__Host-session${odd}=${ATTACKER}`),
  ...ODD_BYTES.map((odd) => `__Host-session=${odd}${ATTACKER}`),
  ...ODD_BYTES.map((odd) => `__Host-session=${ATTACKER}${odd}`),
  `__host-session=${ATTACKER}`,
  `__HOST-SESSION=${ATTACKER}`,
  `__Host-Session=${ATTACKER}`,
  `"__Host-session"=${ATTACKER}`,
  `__Host-session="${ATTACKER}"`,
  `__Host-session =${ATTACKER}`,
  `__Host-session= ${ATTACKER}`,
  `__Host-session\t=${ATTACKER}`,
  `x=__Host-session=${ATTACKER}`,
  `__Host-session.=${ATTACKER}`,
  `$Version=1; __Host-session=${ATTACKER.slice(0, -9)}`,
  `__Host-session=${ATTACKER.slice(0, -1)}`,
  '__Host-session',
  '__Host-session=',
  '__Host-session=x',
  '__Host-session=a.b.c.d.e',
  '=; ;;; =x',
  '__proto__=x; constructor=x',
]

test('a session keeps working beside any other cookie, which never counts in its place', async (t) => {
  const { me } = await start(t)
  const session = `__Host-session=${VICTIM}`
  for (const planted of PLANTED) {
    assert.equal(await me(planted, session), 'victim', `before: ${JSON.stringify(planted)}`)
    assert.equal(await me(session, planted), 'victim', `after: ${JSON.stringify(planted)}`)
    assert.deepEqual(await me(planted), [401, 'unauthenticated'], `alone: ${JSON.stringify(planted)}`)
  }
})

test('of control characters in cookies nothing but a refusal comes', async (t) => {
  const { me } = await start(t)
  for (const control of ['\0', '\x01', '\v', '\f', '\x1f', '\x7f']) {
    const planted = `${control}__Host-session=${ATTACKER}`
    const answer = JSON.stringify(await me(planted, `__Host-session=${VICTIM}`))
    assert.match(answer, /^("victim"|\[400,"bad-request"\])$/, JSON.stringify(control))
  }
})

test('spaces and tabs around a cookie are no part of it', async (t) => {
  const { me } = await start(t)
  assert.equal(await me(`x=y;\t \t__Host-session=${VICTIM} \t`, ' z=1'), 'victim')
})

test('of two sessions none counts, and signing out ends both', async (t) => {
  const { me, signOut } = await start(t)
  const both = [`__Host-session=${ATTACKER}`, `__Host-session=${VICTIM}`]
  assert.deepEqual(await me(...both), [400, 'credentials-ambiguous'])
  assert.deepEqual(await me(...both.toReversed()), [400, 'credentials-ambiguous'])
  assert.equal((await signOut(...both)).status, 200)
  for (const one of both) assert.deepEqual(await me(one), [401, 'unauthenticated'])
  const again = cookieValueOf(await sessionCookie({}, undefined, 'victim'))
  assert.equal(await me(`__Host-session=${ATTACKER}`, `__Host-session=${again}`), 'victim')
})

const CHEAP = Array<string>(900).fill('__Host-session=')
const [HEADER = '', , , , TAG = ''] = ATTACKER.split('.')
const COSTLY = Array.from(
  { length: 60 },
  (_, index) => `__Host-session=${HEADER}..${'A'.repeat(14)}${String(index).padStart(2, '0')}.AAAA.${TAG}`,
)

for (const [kind, cookies] of [
  ['900 cookies', CHEAP],
  ['many cookies that look like sessions', COSTLY],
] as const) {
  test(`${kind} beside a session cost a few decryptions, to read and to sign out`, async (t) => {
    const { me, signOut } = await start(t)
    const decrypt = t.mock.method(crypto.subtle, 'decrypt')
    assert.equal(await me(...cookies, `__Host-session=${VICTIM}`), 'victim')
    assert.ok(decrypt.mock.callCount() >= 1 && decrypt.mock.callCount() <= 4, `${decrypt.mock.callCount()} to read`)
    decrypt.mock.resetCalls()
    assert.equal((await signOut(...cookies, `__Host-session=${VICTIM}`)).status, 200)
    assert.ok(decrypt.mock.callCount() <= 4, `${decrypt.mock.callCount()} to sign out`)
    assert.deepEqual(await me(`__Host-session=${VICTIM}`), [401, 'unauthenticated'])
  })

  test(`a session works before and behind ${kind}, and signing out ends it`, async (t) => {
    const { me, signOut } = await start(t)
    const session = `__Host-session=${VICTIM}`
    for (const sent of [
      [session, ...cookies],
      [...cookies, session],
      [...cookies.slice(0, 1), session, ...cookies.slice(1)],
      [...cookies.slice(0, -1), session, ...cookies.slice(-1)],
    ])
      assert.equal(await me(...sent), 'victim')
    assert.equal((await signOut(session, ...cookies)).status, 200)
    assert.deepEqual(await me(session), [401, 'unauthenticated'])
  })
}
