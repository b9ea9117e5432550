import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createClock } from '../../src/alibaba/clock.ts'
import { createLog } from '../../src/telemetry/log.ts'

const start = () => {
  const lines: Record<string, unknown>[] = []
  const log = createLog({ level: 'info', destination: { write: (line) => void lines.push(JSON.parse(line)) } })
  const ours = { atMs: Date.UTC(2026, 0, 1) }
  const clock = createClock({ log, now: () => ours.atMs })
  const told = () => lines.splice(0).map(({ level, clockSkewMs }) => [level, clockSkewMs])
  return { clock, ours, told, upstream: (aheadMs: number) => new Date(ours.atMs + aheadMs) }
}

test('a clock that is off by more than a minute is told once, and once that it agrees again', () => {
  const { clock, told, upstream } = start()
  for (const aheadMs of [60_000, -60_000, 0]) clock.observe(upstream(aheadMs))
  assert.deepEqual(told(), [])
  for (const aheadMs of [-60_001, -70_000, 90_000]) clock.observe(upstream(aheadMs))
  assert.deepEqual(told(), [['warn', -60_001]])
  for (const aheadMs of [1000, 0]) clock.observe(upstream(aheadMs))
  assert.deepEqual(told(), [['info', 1000]])
})

test('an observation does not change the signed time, a correction does until it is forgotten', () => {
  const { clock, ours, told, upstream } = start()
  clock.observe(upstream(3_600_000))
  assert.equal(clock.now().getTime(), ours.atMs)
  told()
  clock.correct(upstream(-3_600_000))
  assert.deepEqual(told(), [['error', -3_600_000]])
  ours.atMs += 5000
  assert.equal(clock.now().getTime(), ours.atMs - 3_600_000)
  clock.forget()
  assert.equal(clock.now().getTime(), ours.atMs)
})
