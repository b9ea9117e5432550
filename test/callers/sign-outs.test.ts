import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { createSignOuts } from '../../src/callers/sign-outs.ts'

const HOUR_MS = 3_600_000

/** A wall clock, and the monotonic one, which moves on with it; `jump` moves the wall clock alone. */
const startClocks = (t: TestContext) => {
  let [wallMs, monotonicMs] = [Date.UTC(2026, 0, 1), 1000]
  t.mock.method(performance, 'now', () => monotonicMs)
  return {
    now: () => wallMs,
    jump: (ms: number) => {
      wallMs += ms
    },
    pass: (ms: number) => {
      wallMs += ms
      monotonicMs += ms
    },
  }
}

test('a sign-out is remembered until the end of its session, and then takes no memory', (t) => {
  const clocks = startClocks(t)
  const signOuts = createSignOuts(clocks.now)
  const signOut = { id: 'a', endsAtMs: clocks.now() + HOUR_MS }
  signOuts.add(signOut)
  clocks.pass(HOUR_MS - 1)
  assert.deepEqual([signOuts.has(signOut), signOuts.size()], [true, 1])
  clocks.pass(3 * 60_000)
  assert.deepEqual([signOuts.has(signOut), signOuts.size()], [false, 0])
})

test('sign-outs of any number are remembered, each until its own end', (t) => {
  const clocks = startClocks(t)
  const signOuts = createSignOuts(clocks.now)
  const all = Array.from({ length: 12_000 }, (_, index) => ({ id: `${index}`, endsAtMs: clocks.now() + index * 200 }))
  for (const signOut of all) signOuts.add(signOut)
  assert.ok(all.every(signOuts.has))
  clocks.pass(all.length * 100)
  assert.ok(all.filter(({ endsAtMs }) => endsAtMs > clocks.now()).every(signOuts.has))
  assert.ok(signOuts.size() < all.length * 0.6, String(signOuts.size()))
})

test('a wall clock that jumps ahead and back makes no sign-out forgotten', (t) => {
  const clocks = startClocks(t)
  const signOuts = createSignOuts(clocks.now)
  const signOut = { id: 'a', endsAtMs: clocks.now() + HOUR_MS }
  signOuts.add(signOut)
  clocks.pass(2 * 60_000)
  clocks.jump(24 * HOUR_MS)
  signOuts.has(signOut)
  clocks.jump(-24 * HOUR_MS)
  assert.ok(signOuts.has(signOut))
})

test('the sign-out of a session that is over is not remembered', (t) => {
  const clocks = startClocks(t)
  const signOuts = createSignOuts(clocks.now)
  signOuts.add({ id: 'a', endsAtMs: clocks.now() - 3 * 60_000 })
  assert.equal(signOuts.size(), 0)
})

test('what one memory holds makes another the same', (t) => {
  const clocks = startClocks(t)
  const [one, other] = [createSignOuts(clocks.now), createSignOuts(clocks.now)]
  const signOut = { id: 'a', endsAtMs: clocks.now() + 12_345 }
  one.add(signOut)
  for (const known of one.all()) other.add(known)
  assert.ok(other.has(signOut))
})
