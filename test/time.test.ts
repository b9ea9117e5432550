import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import fc from 'fast-check'
import { deadlineIn, withDeadline } from '../src/time.ts'

const never = new Promise<never>(() => {})
const openTimers = (): number => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length

test('a deadline tells how much time is left', () => {
  const left = deadlineIn(60_000).remainingMs()
  assert.ok(left > 50_000 && left <= 60_000, String(left))
})

test('a deadline that has passed tells how long ago', () => {
  assert.ok(deadlineIn(-100).remainingMs() <= -100)
})

test('an earlier deadline lies exactly so many milliseconds before, and moves nothing', () => {
  const deadline = deadlineIn(60_000)
  const property = fc.property(fc.integer({ min: -1e6, max: 1e6 }), (byMs) => {
    const before = deadline.remainingMs()
    const earlier = deadline.minus(byMs).remainingMs()
    const after = deadline.remainingMs()
    const rounding = 1e-6
    assert.ok(earlier <= before - byMs + rounding && earlier >= after - byMs - rounding)
  })
  fc.assert(property)
})

test('a jump of the wall clock moves no deadline', (t) => {
  t.mock.timers.enable({ apis: ['Date'], now: 0 })
  const deadline = deadlineIn(60_000)
  t.mock.timers.setTime(1e12)
  const left = deadline.remainingMs()
  assert.ok(left > 50_000 && left <= 60_000, String(left))
})

test('what comes in time is what is given', async () => {
  assert.equal(await withDeadline(deadlineIn(60_000), setImmediate('answer'), 'stand-in'), 'answer')
})

for (const ms of [1, 0, -60_000]) {
  test(`what does not come within ${ms} ms is replaced by the stand-in`, async () => {
    assert.equal(await withDeadline(deadlineIn(ms), never, 'stand-in'), 'stand-in')
  })
}

test('what is there already is given even when the deadline has passed', async () => {
  assert.equal(await withDeadline(deadlineIn(-1), Promise.resolve('answer'), 'stand-in'), 'answer')
})

test('a failure in time is passed on', async () => {
  await assert.rejects(withDeadline(deadlineIn(60_000), Promise.reject(new Error('broken')), 'stand-in'), /broken/)
})

test('a failure that comes too late disturbs nobody', async () => {
  const { promise, reject } = Promise.withResolvers<string>()
  assert.equal(await withDeadline(deadlineIn(0), promise, 'stand-in'), 'stand-in')
  reject(new Error('late'))
  await setImmediate()
})

test('what is waited for goes on after the deadline', async () => {
  const { promise, resolve } = Promise.withResolvers<string>()
  await withDeadline(deadlineIn(0), promise, 'stand-in')
  resolve('answer')
  assert.equal(await promise, 'answer')
})

test('no timer is left behind, whatever comes first', async () => {
  const before = openTimers()
  await withDeadline(deadlineIn(60_000), Promise.resolve('answer'), 'stand-in')
  await withDeadline(deadlineIn(60_000), Promise.reject(new Error('broken')), 'stand-in').catch(() => {})
  await withDeadline(deadlineIn(0), never, 'stand-in')
  assert.equal(openTimers(), before)
})
