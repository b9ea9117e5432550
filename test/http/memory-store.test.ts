import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createMemoryStore } from '../../src/http/middleware/memory-store.ts'
import { eventually } from '../helpers/gateway.ts'

const LASTING_MS = 3_600_000

const hits = async (store: ReturnType<typeof createMemoryStore>, key: string): Promise<number> =>
  (await store.increment(key)).totalHits

test('requests of a window are counted by key, and can be taken back', async () => {
  const store = createMemoryStore(LASTING_MS)
  assert.deepEqual([await hits(store, 'a'), await hits(store, 'a'), await hits(store, 'b')], [1, 2, 1])
  await store.decrement('a')
  await store.decrement('nowhere')
  assert.deepEqual([await hits(store, 'a'), await hits(store, 'nowhere')], [2, 1])
  await store.resetKey('a')
  assert.equal(await hits(store, 'a'), 1)
})

test('each of several requests at the same moment is told its own count', async () => {
  const store = createMemoryStore(LASTING_MS)
  const counts = await Promise.all(Array.from({ length: 5 }, () => hits(store, 'a')))
  assert.deepEqual(counts, [1, 2, 3, 4, 5])
})

test('a window begins with its first request and ends at the time that is told', async () => {
  const store = createMemoryStore(LASTING_MS)
  const told = async () => (await store.increment('a')).resetTime?.getTime() ?? 0
  const beganAtMs = Date.now()
  const [first, second] = [await told(), await told()]
  assert.ok(first >= beganAtMs + LASTING_MS - 1000 && first <= Date.now() + LASTING_MS, String(first - beganAtMs))
  assert.ok(Math.abs(second - first) < 1000)
})

test('a count is over when its window is', async () => {
  const store = createMemoryStore(20)
  assert.equal(await hits(store, 'a'), 1)
  await eventually(async () => ((await hits(store, 'a')) === 1 ? true : undefined))
})

test('of very many addresses the first are removed, and one that keeps sending requests is not', async () => {
  const store = createMemoryStore(LASTING_MS)
  await store.increment('first')
  for (let index = 1; index <= 50_000; index += 1) {
    await store.increment(`2001:db8:${index.toString(16)}::/56`)
    if (index % 100 === 0) await store.increment('comes again')
  }
  assert.deepEqual([await hits(store, 'first'), await hits(store, 'comes again')], [1, 501])
})
