import assert from 'node:assert/strict'
import { AsyncLocalStorage } from 'node:async_hooks'
import { describe, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { bytesOf, createCache } from '../src/collections.ts'
import { eventually } from './helpers/gateway.ts'

const LASTING_MS = 3_600_000

setFlagsFromString('--expose-gc')
const collectGarbage: () => void = runInNewContext('gc')

describe('a cache is bounded by bytes', () => {
  for (const [name, key, value] of [
    ['large values', (index: number) => `key ${index}`, { text: 'x'.repeat(10_000) }],
    ['long keys', (index: number) => `${index} ${'x'.repeat(10_000)}`, { text: '' }],
    ['many small entries', (index: number) => `key ${index}`, { text: '' }],
  ] as const) {
    test(name, () => {
      const cache = createCache<typeof value>({ maxBytes: 1_000_000, ttlMs: LASTING_MS })
      for (let index = 0; index < 5000; index += 1) cache.set(key(index), value)
      const kept = cache.size
      assert.ok(kept * (bytesOf(key(4999)) + bytesOf(value)) <= 1_000_000, String(kept))
      assert.deepEqual([cache.get(key(4999)), cache.get(key(0))], [value, undefined])
    })
  }

  test('and a value that is larger than all of it is not kept, nor the value that it would replace', () => {
    const cache = createCache<{ text: string }>({ maxBytes: 1000, ttlMs: LASTING_MS })
    cache.set('a', { text: '' })
    cache.set('a', { text: 'x'.repeat(1000) })
    assert.equal(cache.size, 0)
  })

  test('an entry that is used stays, and each evicted entry is reported', () => {
    const evicted: number[] = []
    const cache = createCache<number>({ maxBytes: 10_000, ttlMs: LASTING_MS, onEvicted: (n) => void evicted.push(n) })
    for (let index = 0; index < 100; index += 1) {
      cache.set(`key ${index}`, index)
      cache.get('key 0')
    }
    assert.equal(cache.get('key 0'), 0)
    assert.equal(evicted.length, 100 - cache.size)
    cache.delete('key 0')
    assert.equal(evicted.includes(0), false)
  })
})

test('an entry keeps nothing of the text that its key was cut from', () => {
  const cache = createCache<number>({ maxBytes: 1_000_000, ttlMs: LASTING_MS })
  collectGarbage()
  const before = process.memoryUsage().heapUsed
  for (let index = 0; index < 300; index += 1) {
    const [key = ''] = `${String(index).padStart(20, 'k')},${'x'.repeat(100_000)}`.split(',')
    cache.set(key, index)
  }
  collectGarbage()
  assert.ok(process.memoryUsage().heapUsed - before < 4_000_000)
  assert.equal(cache.get('7'.padStart(20, 'k')), 7)
})

test('expired entries are removed although the cache is not used', async () => {
  const cache = createCache<number>({ maxBytes: 1_000_000, ttlMs: 10 })
  for (let index = 0; index < 100; index += 1) cache.set(`key ${index}`, index)
  await eventually(() => (cache.size === 0 ? true : undefined))
})

test('an entry keeps nothing of the request that made it', async () => {
  const requests = new AsyncLocalStorage<object>()
  const cache = createCache<number>({ maxBytes: 1_000_000, ttlMs: LASTING_MS })
  const store = (): WeakRef<object> => {
    const request = {}
    requests.run(request, () => cache.set('a', 1))
    return new WeakRef(request)
  }
  const request = store()
  await eventually(() => {
    collectGarbage()
    return request.deref() === undefined ? true : undefined
  })
  assert.equal(cache.get('a'), 1)
})

test('entries may last for longer than a timer can', async (t) => {
  const warnings: Error[] = []
  const note = (warning: Error): void => void warnings.push(warning)
  process.on('warning', note)
  t.after(() => process.off('warning', note))
  const cache = createCache<number>({ maxBytes: 1_000_000, ttlMs: 2 ** 31 })
  cache.set('a', 1)
  await setImmediate()
  assert.deepEqual([cache.get('a'), warnings], [1, []])
})

test('bytes of plain data are counted with all that it holds', () => {
  const text = 'x'.repeat(1000)
  assert.ok(bytesOf(text) >= 2000)
  assert.ok(bytesOf([text, text]) >= 2 * bytesOf(text))
  assert.ok(bytesOf({ a: { b: [text] } }) >= bytesOf(text))
  assert.ok([null, undefined, 1, true, '', {}, []].every((value) => bytesOf(value) > 0))
})
