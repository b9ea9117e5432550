import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ChargeCall } from '../../src/alibaba/task-queries.ts'
import type { Priority } from '../../src/priority.ts'
import { createSharedCache } from '../../src/tasks/shared-cache.ts'

const START_MS = 1

/** Reads that the test ends, on a clock that the test advances. */
const start = ({ ttlMs = 1500, maxBytes = 10_000 } = {}) => {
  let nowMs = START_MS
  const started: PromiseWithResolvers<string>[] = []
  const reads = createSharedCache<string>({ ttlMs, maxBytes, now: () => nowMs })
  const get = (key = 'a', startedAfterMs = 0, priority: Priority = 'read', chargeCall?: ChargeCall) => {
    const read = async (charge: ChargeCall | undefined) => {
      const pending = Promise.withResolvers<string>()
      started.push(pending)
      await pending.promise
      await charge?.()
      return pending.promise
    }
    return reads.get(key, read, { priority, startedAfterMs, chargeCall })
  }
  const advance = (ms: number): void => {
    nowMs += ms
  }
  /** Resolves after the continuations of settled promises have run. */
  const settled = () => new Promise((resolve) => setImmediate(resolve))
  return { get, started, advance, settled }
}

test('a request joins a read in flight, however long it takes', async () => {
  const { get, started, advance } = start()
  const asked = [get()]
  advance(60_000)
  asked.push(get(), get())
  started[0]?.resolve('one')
  assert.deepEqual(await Promise.all(asked), ['one', 'one', 'one'])
  assert.equal(started.length, 1)
})

for (const [ageMs, count] of [
  [0, 1],
  [1499, 1],
  [1500, 2],
] as const) {
  test(`a read that ended ${ageMs} ms ago is ${count === 1 ? 'still' : 'not'} served`, async () => {
    const { get, started, advance } = start()
    const first = get()
    advance(5000)
    started[0]?.resolve('one')
    await first
    advance(ageMs)
    void get()
    assert.equal(started.length, count)
  })
}

test('a failure is shared like a value, for the same time', async () => {
  const { get, started, advance } = start()
  const asked = [get(), get()]
  started[0]?.reject(new Error('down'))
  for (const one of [...asked, get()]) await assert.rejects(one, /down/)
  assert.equal(started.length, 1)
  advance(1500)
  void get()
  assert.equal(started.length, 2)
})

test('requests that need a later read than the one in flight share the next', async () => {
  const { get, started, advance, settled } = start()
  const early = get()
  advance(10)
  const late = [get('a', START_MS + 5), get('a', START_MS + 10)]
  assert.equal(started.length, 1)
  started[0]?.resolve('early')
  assert.equal(await early, 'early')
  await settled()
  assert.equal(started.length, 2)
  started[1]?.resolve('late')
  assert.deepEqual(await Promise.all(late), ['late', 'late'])
})

test('the end of a failed read starts the later read that requests wait for', async () => {
  const { get, started, advance, settled } = start()
  const early = get()
  advance(10)
  const late = get('a', START_MS + 10)
  started[0]?.reject(new Error('down'))
  await assert.rejects(early)
  await settled()
  started[1]?.resolve('late')
  assert.equal(await late, 'late')
})

test('a cached read that started too early is not served', async () => {
  const { get, started, advance } = start()
  const first = get()
  started[0]?.resolve('one')
  await first
  advance(1)
  void get('a', START_MS + 1)
  void get('a', START_MS + 1)
  assert.equal(started.length, 2)
})

test('each key is read separately, and above the limit of bytes the least recently used read is evicted', async () => {
  const { get, started, settled } = start({ maxBytes: 10_000 })
  for (const key of ['a', 'b', 'c']) {
    void get(key)
    started.at(-1)?.resolve('x'.repeat(2000))
    await settled()
  }
  assert.equal(started.length, 3)
  for (const key of ['b', 'c']) void get(key)
  assert.equal(started.length, 3)
  void get('a')
  assert.equal(started.length, 4)
})

test('each read in flight can be joined, however many there are', async () => {
  const { get, started } = start({ maxBytes: 1000 })
  const keys = Array.from({ length: 100 }, (_, index) => `key ${index}`)
  for (const key of [...keys, ...keys]) void get(key)
  assert.equal(started.length, 100)
})

test('a request of higher priority does not join a read of lower priority; its own read then serves both', async () => {
  const { get, started } = start()
  const read = get('a', undefined, 'read')
  const cancel = get('a', undefined, 'follow-up')
  assert.equal(started.length, 2)
  started[1]?.resolve('of the cancel')
  assert.equal(await cancel, 'of the cancel')
  assert.equal(await get('a', undefined, 'read'), 'of the cancel')
  started[0]?.resolve('of the read')
  assert.equal(await read, 'of the read')
  assert.equal(await get('a', undefined, 'read'), 'of the cancel')
  assert.equal(started.length, 2)
})

test('nor does it wait for the end of a read that started too early', async () => {
  const { get, started, advance } = start()
  void get('a', undefined, 'read')
  advance(10)
  void get('a', START_MS + 5, 'follow-up')
  assert.equal(started.length, 2)
})

test('a failed read of lower priority does not serve a request of higher priority, whose own read then serves both', async () => {
  const { get, started } = start()
  const read = get('a', undefined, 'read')
  started[0]?.reject(new Error('down'))
  await assert.rejects(read, /down/)
  const cancel = get('a', undefined, 'follow-up')
  assert.equal(started.length, 2)
  const next = get('a', undefined, 'read')
  started[1]?.resolve('of the cancel')
  assert.deepEqual(await Promise.all([cancel, next]), ['of the cancel', 'of the cancel'])
})

test('the failure of a read of lower priority does not replace the value of one of higher priority', async () => {
  const { get, started } = start()
  const read = get('a', undefined, 'read')
  const cancel = get('a', undefined, 'follow-up')
  started[1]?.resolve('of the cancel')
  await cancel
  started[0]?.reject(new Error('down'))
  await assert.rejects(read, /down/)
  for (const priority of ['read', 'follow-up'] as const) assert.equal(await get('a', 0, priority), 'of the cancel')
  assert.equal(started.length, 2)
})

test('after the end of a read of lower priority the one of higher priority in flight can still be joined', async () => {
  const { get, started } = start()
  const read = get('a', undefined, 'read')
  const asked = [get('a', undefined, 'follow-up')]
  started[0]?.reject(new Error('down'))
  await assert.rejects(read, /down/)
  asked.push(get('a', undefined, 'read'), get('a', undefined, 'follow-up'))
  started[1]?.resolve('of the cancel')
  for (const one of asked) assert.equal(await one, 'of the cancel')
  assert.equal(started.length, 2)
})

test('a read of lower priority that succeeded serves all requests', async () => {
  const { get, started } = start()
  const read = get('a', undefined, 'read')
  started[0]?.resolve('one')
  await read
  assert.equal(await get('a', undefined, 'follow-up'), 'one')
  assert.equal(started.length, 1)
})

test('a read of higher priority serves requests of lower priority, and so does its failure', async () => {
  const { get, started } = start()
  const asked = [get('a', undefined, 'follow-up'), get('a', undefined, 'read')]
  started[0]?.reject(new Error('down'))
  for (const one of asked) await assert.rejects(one, /down/)
  await assert.rejects(get('a', undefined, 'read'), /down/)
  assert.equal(started.length, 1)
})

const REFUSED = async () => assert.fail('nothing is left')
const FREE = async () => undefined

test('requests that joined a read whose starter cannot be charged share a new one', async () => {
  const { get, started, settled } = start()
  const first = get('a', 0, 'read', REFUSED)
  const joined = [get('a', 0, 'read', FREE), get('a'), get('a', 0, 'read', FREE)]
  started[0]?.resolve('unpaid')
  await assert.rejects(first, /nothing is left/)
  await settled()
  assert.equal(started.length, 2)
  started[1]?.resolve('paid')
  assert.deepEqual(await Promise.all(joined), ['paid', 'paid', 'paid'])
  assert.equal(await get('a', 0, 'read', REFUSED), 'paid')
  assert.equal(started.length, 2)
})

test('a read whose starter cannot be charged is not cached', async () => {
  const { get, started } = start()
  const first = get('a', 0, 'read', REFUSED)
  started[0]?.resolve('unpaid')
  await assert.rejects(first)
  const second = get('a', 0, 'read', FREE)
  started[1]?.resolve('paid')
  assert.equal(await second, 'paid')
})

test('requests that joined an uncharged read share the read of a request of higher priority without a charge', async () => {
  const { get, started, settled } = start()
  const first = get('a', 0, 'read', REFUSED)
  const joined = [get('a', 0, 'read', REFUSED), get('a', 0, 'read', FREE)]
  const cancel = get('a', 0, 'follow-up')
  started[0]?.resolve('unpaid')
  await assert.rejects(first, /nothing is left/)
  await settled()
  started[1]?.resolve('of the cancel')
  assert.deepEqual(await Promise.all([...joined, cancel]), ['of the cancel', 'of the cancel', 'of the cancel'])
  assert.equal(await get('a', 0, 'read', REFUSED), 'of the cancel')
  assert.equal(started.length, 2)
})
