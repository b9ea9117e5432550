import assert from 'node:assert/strict'
import { test } from 'node:test'
import { repeat, singleFlight } from '../src/async.ts'

test('callers that come while a run is in flight share it, and the next one starts another', async () => {
  let runs = 0
  const { run, current } = singleFlight(async () => {
    runs += 1
    return runs
  })
  const first = [run(), run()]
  assert.equal(current(), first[0])
  assert.deepEqual(await Promise.all(first), [1, 1])
  assert.equal(current(), undefined)
  assert.equal(await run(), 2)
})

test('a failure is shared too, and is not kept', async () => {
  const results = [() => Promise.reject(new Error('down')), async () => 'up']
  const { run } = singleFlight(() => results.shift()?.() ?? Promise.reject(new Error('called too often')))
  const settled = await Promise.allSettled([run(), run()])
  assert.deepEqual(
    settled.map(({ status }) => status),
    ['rejected', 'rejected'],
  )
  assert.equal(await run(), 'up')
})

test('repeated work never overlaps, and stops with the signal', async () => {
  const closing = new AbortController()
  let [runs, inFlight] = [0, 0]
  const work = async (): Promise<void> => {
    assert.equal(inFlight, 0)
    inFlight += 1
    await new Promise(setImmediate)
    inFlight -= 1
    runs += 1
    if (runs === 3) closing.abort()
  }
  await repeat(work, 0, closing.signal)
  assert.equal(runs, 3)
})
