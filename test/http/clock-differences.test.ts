import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { SESSION_COOKIE } from '../../src/http/middleware/cookies.ts'
import { startGateway } from '../helpers/gateway.ts'
import { createVisitor, startProvider } from '../helpers/provider.ts'

// Replicas whose clocks differ. None of them has a Redis: all that they share is the secret of sessions.

const IDLE_MS = 900_000
const MAX_MS = 3_600_000
const TOLERANCE_MS = 5000

/** Two replicas, the second of which has another clock, and a session that the first has just issued. */
const start = async (t: TestContext, skewMs: number, env: Readonly<Record<string, string>> = {}) => {
  let frozenMs: number | null = null
  let offsetMs = 0
  const provider = await startProvider(t)
  const own = { origin: provider.gatewayUrl, 'x-csrf': '1' }
  const replica = (port: string, ownSkewMs: number) =>
    startGateway(t, {
      env: { ...provider.env, PORT: port, ...env },
      overrides: { now: () => (frozenMs ?? Date.now()) + ownSkewMs + offsetMs },
    })
  const [first, second] = [await replica(provider.env.PORT ?? '', 0), await replica('0', skewMs)]
  const visitor = createVisitor()
  const back = await visitor.authenticate(first.url, 'ann')
  // The identity provider has the real time, and issues its token now.
  let nowMs = Date.now()
  frozenMs = nowMs
  await visitor.visit(back)
  let session = visitor.cookie(first.url, SESSION_COOKIE.name) ?? ''

  const me = async ({ api }: typeof first): Promise<number> =>
    (await api.get('/me').set({ cookie: `${SESSION_COOKIE.name}=${session}` })).status

  /** Activity of the user, which renews the cookie. */
  const act = async ({ api }: typeof first): Promise<number> => {
    const { status, headers } = await api.get('/me').set({ ...own, cookie: `${SESSION_COOKIE.name}=${session}` })
    session = /__Host-session=([^;]+)/.exec(String(headers['set-cookie'] ?? ''))?.[1] ?? session
    return status
  }

  const signOut = ({ api }: typeof first) =>
    api.post('/auth/logout').set({ ...own, cookie: `${SESSION_COOKIE.name}=${session}` })

  return {
    first,
    second,
    me,
    act,
    signOut,
    later: (ms: number) => {
      nowMs += ms
      frozenMs = nowMs
    },
    setClocks: (ms: number) => {
      offsetMs += ms
    },
  }
}

const SKEWS = [50, 500, 2000, TOLERANCE_MS].flatMap((ms) => [ms, -ms])

for (const skewMs of SKEWS) {
  test(`a session is accepted and renewed by a replica whose clock differs by ${skewMs} ms, to and fro`, async (t) => {
    const { first, second, me, act, later } = await start(t, skewMs)
    for (const replica of [second, first, second, second, first]) {
      assert.deepEqual([await me(replica), await act(replica)], [200, 200])
      later(1)
    }
  })
}

for (const skewMs of SKEWS.filter((ms) => Math.abs(ms) < TOLERANCE_MS)) {
  test(`a short idle time is not used up by a clock that differs by ${skewMs} ms`, async (t) => {
    const { first, second, me, act, later } = await start(t, skewMs, { SESSION_IDLE_MS: '1000' })
    for (const replica of [second, first, second]) {
      assert.deepEqual([await me(replica), await act(replica)], [200, 200])
      later(900)
    }
  })
}

for (const skewMs of [TOLERANCE_MS + 1000, 60_000]) {
  test(`a session from a clock that is ${skewMs} ms ahead is refused, since it would last too long`, async (t) => {
    const { second, me } = await start(t, -skewMs)
    assert.equal(await me(second), 401)
  })
}

for (const backMs of [1, 2000, TOLERANCE_MS]) {
  test(`a clock that is set back by ${backMs} ms ends no session`, async (t) => {
    const { first, me, act, setClocks } = await start(t, 0)
    assert.equal(await act(first), 200)
    setClocks(-backMs)
    assert.deepEqual([await me(first), await act(first), await me(first)], [200, 200, 200])
  })
}

for (const skewMs of [0, TOLERANCE_MS, -TOLERANCE_MS]) {
  test(`a session ends an hour after the sign-in, and the tolerance, however renewed at a clock off by ${skewMs} ms`, async (t) => {
    const { first, second, me, act, later } = await start(t, skewMs)
    for (let agedMs = 0; agedMs < MAX_MS; agedMs += IDLE_MS / 2) {
      assert.deepEqual([await act(second), await act(first)], [200, 200])
      later(IDLE_MS / 2)
    }
    // The first replica issued it, so its clock says when the hour is over.
    assert.equal(await me(first), 200)
    later(TOLERANCE_MS - 1)
    await act(second)
    assert.equal(await me(first), 200)
    later(1)
    assert.equal(await me(first), 401)
    later(TOLERANCE_MS)
    assert.equal(await me(second), 401)
  })

  test(`idle time ends a session at a clock off by ${skewMs} ms, with the tolerance and not later`, async (t) => {
    const { first, second, act, me, later } = await start(t, skewMs)
    assert.equal(await act(second), 200)
    later(IDLE_MS + skewMs + TOLERANCE_MS - 1)
    assert.equal(await me(first), 200)
    later(1)
    assert.equal(await me(first), 401)
  })
}

test('a session that was signed out stays ended until the tolerance after its hour, at a clock that is set back too', async (t) => {
  const { first, me, signOut, later, setClocks } = await start(t, 0, { SESSION_IDLE_MS: String(MAX_MS) })
  await signOut(first)
  later(MAX_MS + TOLERANCE_MS - 1)
  assert.equal(await me(first), 401)
  setClocks(-TOLERANCE_MS)
  assert.equal(await me(first), 401)
})
