import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ChargeCall } from '../../src/alibaba/task-queries.ts'
import type { Priority } from '../../src/priority.ts'
import { createSharedCache } from '../../src/tasks/shared-cache.ts'

const START_MS = 1

/** Reads that end when they are told to, on a clock that moves when it is told to. */
const start = ({ ttlMs = 1500, maxBytes = 10_000 } = {}) => {
  let nowMs = START_MS
  const begun: PromiseWithResolvers<string>[] = []
  const reads = createSharedCache<string>({ ttlMs, maxBytes, now: () => nowMs })
  const get = (key = 'a', startedAfterMs = 0, priority: Priority = 'read', chargeCall?: ChargeCall) => {
    const read = async (charge: ChargeCall | undefined) => {
      const reading = Promise.withResolvers<string>()
      begun.push(reading)
      await reading.promise
      await charge?.()
      return reading.promise
    }
    return reads.get(key, read, { priority, startedAfterMs, chargeCall })
  }
  const advance = (ms: number): void => {
    nowMs += ms
  }
  /** Lets whatever was resolved have its consequences. */
  const settled = () => new Promise((resolve) => setImmediate(resolve))
  return { get, begun, advance, settled }
}

test('who comes while a reading is under way gets that reading, however long it takes', async () => {
  const { get, begun, advance } = start()
  const asked = [get()]
  advance(60_000)
  asked.push(get(), get())
  begun[0]?.resolve('one')
  assert.deepEqual(await Promise.all(asked), ['one', 'one', 'one'])
  assert.equal(begun.length, 1)
})

for (const [ageMs, count] of [
  [0, 1],
  [1499, 1],
  [1500, 2],
] as const) {
  test(`a reading that ended ${ageMs} ms ago ${count === 1 ? 'still serves' : 'serves nobody'}`, async () => {
    const { get, begun, advance } = start()
    const first = get()
    advance(5000)
    begun[0]?.resolve('one')
    await first
    advance(ageMs)
    void get()
    assert.equal(begun.length, count)
  })
}

test('a failure is shared like a value, for as long', async () => {
  const { get, begun, advance } = start()
  const asked = [get(), get()]
  begun[0]?.reject(new Error('down'))
  for (const one of [...asked, get()]) await assert.rejects(one, /down/)
  assert.equal(begun.length, 1)
  advance(1500)
  void get()
  assert.equal(begun.length, 2)
})

test('many who need a later reading than the one under way share the next', async () => {
  const { get, begun, advance, settled } = start()
  const early = get()
  advance(10)
  const late = [get('a', START_MS + 5), get('a', START_MS + 10)]
  assert.equal(begun.length, 1)
  begun[0]?.resolve('early')
  assert.equal(await early, 'early')
  await settled()
  assert.equal(begun.length, 2)
  begun[1]?.resolve('late')
  assert.deepEqual(await Promise.all(late), ['late', 'late'])
})

test('the end of a reading that fails lets those begin who wait for a later one', async () => {
  const { get, begun, advance, settled } = start()
  const early = get()
  advance(10)
  const late = get('a', START_MS + 10)
  begun[0]?.reject(new Error('down'))
  await assert.rejects(early)
  await settled()
  begun[1]?.resolve('late')
  assert.equal(await late, 'late')
})

test('a remembered reading that began too early does not serve', async () => {
  const { get, begun, advance } = start()
  const first = get()
  begun[0]?.resolve('one')
  await first
  advance(1)
  void get('a', START_MS + 1)
  void get('a', START_MS + 1)
  assert.equal(begun.length, 2)
})

test('keys are read apart, and above the limit of bytes the least recently used is forgotten', async () => {
  const { get, begun, settled } = start({ maxBytes: 10_000 })
  for (const key of ['a', 'b', 'c']) {
    void get(key)
    begun.at(-1)?.resolve('x'.repeat(2000))
    await settled()
  }
  assert.equal(begun.length, 3)
  for (const key of ['b', 'c']) void get(key)
  assert.equal(begun.length, 3)
  void get('a')
  assert.equal(begun.length, 4)
})

test('however many readings are under way, each can be joined', async () => {
  const { get, begun } = start({ maxBytes: 1000 })
  const keys = Array.from({ length: 100 }, (_, index) => `key ${index}`)
  for (const key of [...keys, ...keys]) void get(key)
  assert.equal(begun.length, 100)
})

test('a less important reading in flight serves no more important one, whose own reading then serves both', async () => {
  const { get, begun } = start()
  const read = get('a', undefined, 'read')
  const cancel = get('a', undefined, 'follow-up')
  assert.equal(begun.length, 2)
  begun[1]?.resolve('of the cancel')
  assert.equal(await cancel, 'of the cancel')
  assert.equal(await get('a', undefined, 'read'), 'of the cancel')
  begun[0]?.resolve('of the read')
  assert.equal(await read, 'of the read')
  assert.equal(await get('a', undefined, 'read'), 'of the cancel')
  assert.equal(begun.length, 2)
})

test('nor does it wait for the end of one that began too early', async () => {
  const { get, begun, advance } = start()
  void get('a', undefined, 'read')
  advance(10)
  void get('a', START_MS + 5, 'follow-up')
  assert.equal(begun.length, 2)
})

test('a less important reading that failed serves no more important one, whose own then serves both', async () => {
  const { get, begun } = start()
  const read = get('a', undefined, 'read')
  begun[0]?.reject(new Error('down'))
  await assert.rejects(read, /down/)
  const cancel = get('a', undefined, 'follow-up')
  assert.equal(begun.length, 2)
  const next = get('a', undefined, 'read')
  begun[1]?.resolve('of the cancel')
  assert.deepEqual(await Promise.all([cancel, next]), ['of the cancel', 'of the cancel'])
})

test('the failure of a less important reading does not replace what a more important one has read', async () => {
  const { get, begun } = start()
  const read = get('a', undefined, 'read')
  const cancel = get('a', undefined, 'follow-up')
  begun[1]?.resolve('of the cancel')
  await cancel
  begun[0]?.reject(new Error('down'))
  await assert.rejects(read, /down/)
  for (const priority of ['read', 'follow-up'] as const) assert.equal(await get('a', 0, priority), 'of the cancel')
  assert.equal(begun.length, 2)
})

test('the end of a less important reading leaves a more important one in flight to be joined', async () => {
  const { get, begun } = start()
  const read = get('a', undefined, 'read')
  const asked = [get('a', undefined, 'follow-up')]
  begun[0]?.reject(new Error('down'))
  await assert.rejects(read, /down/)
  asked.push(get('a', undefined, 'read'), get('a', undefined, 'follow-up'))
  begun[1]?.resolve('of the cancel')
  for (const one of asked) assert.equal(await one, 'of the cancel')
  assert.equal(begun.length, 2)
})

test('a less important reading that succeeded serves everything', async () => {
  const { get, begun } = start()
  const read = get('a', undefined, 'read')
  begun[0]?.resolve('one')
  await read
  assert.equal(await get('a', undefined, 'follow-up'), 'one')
  assert.equal(begun.length, 1)
})

test('a more important reading serves less important ones, its failure too', async () => {
  const { get, begun } = start()
  const asked = [get('a', undefined, 'follow-up'), get('a', undefined, 'read')]
  begun[0]?.reject(new Error('down'))
  for (const one of asked) await assert.rejects(one, /down/)
  await assert.rejects(get('a', undefined, 'read'), /down/)
  assert.equal(begun.length, 1)
})

const REFUSED = async () => assert.fail('nothing is left')
const FREE = async () => undefined

test('requests that joined a reading that its starter cannot pay for share a new one', async () => {
  const { get, begun, settled } = start()
  const first = get('a', 0, 'read', REFUSED)
  const joined = [get('a', 0, 'read', FREE), get('a'), get('a', 0, 'read', FREE)]
  begun[0]?.resolve('unpaid')
  await assert.rejects(first, /nothing is left/)
  await settled()
  assert.equal(begun.length, 2)
  begun[1]?.resolve('paid')
  assert.deepEqual(await Promise.all(joined), ['paid', 'paid', 'paid'])
  assert.equal(await get('a', 0, 'read', REFUSED), 'paid')
  assert.equal(begun.length, 2)
})

test('a reading that its starter cannot pay for is not remembered', async () => {
  const { get, begun } = start()
  const first = get('a', 0, 'read', REFUSED)
  begun[0]?.resolve('unpaid')
  await assert.rejects(first)
  const second = get('a', 0, 'read', FREE)
  begun[1]?.resolve('paid')
  assert.equal(await second, 'paid')
})

test('requests that joined an unpaid reading share that of a more important request, which costs them nothing', async () => {
  const { get, begun, settled } = start()
  const first = get('a', 0, 'read', REFUSED)
  const joined = [get('a', 0, 'read', REFUSED), get('a', 0, 'read', FREE)]
  const cancel = get('a', 0, 'follow-up')
  begun[0]?.resolve('unpaid')
  await assert.rejects(first, /nothing is left/)
  await settled()
  begun[1]?.resolve('of the cancel')
  assert.deepEqual(await Promise.all([...joined, cancel]), ['of the cancel', 'of the cancel', 'of the cancel'])
  assert.equal(await get('a', 0, 'read', REFUSED), 'of the cancel')
  assert.equal(begun.length, 2)
})
