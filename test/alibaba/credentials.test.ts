import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { renewAfterRejection } from '../../src/alibaba/credentials.ts'
import type { Credentials } from '../../src/alibaba/signing.ts'
import { singleFlight } from '../../src/async.ts'

const OLD: Credentials = { accessKeyId: 'old', accessKeySecret: 'secret' }
const NEW: Credentials = { accessKeyId: 'new', accessKeySecret: 'secret' }

/** Reads that each wait for their turn, and return the content of the source at their start. */
const start = () => {
  const turns: (() => void)[] = []
  let [source, latest] = [OLD, OLD]
  const reads = singleFlight(async () => {
    const found = source
    await new Promise<void>((resolve) => turns.push(resolve))
    latest = found
  })
  const renew = (refused: Credentials) => renewAfterRejection(refused, reads, () => latest)
  const change = (): void => {
    source = NEW
  }
  return { reads, renew, turns, change }
}

const settle = async (turns: readonly (() => void)[]): Promise<void> => {
  await setImmediate()
  for (let done = 0; done < turns.length; done += 1) {
    turns[done]?.()
    await setImmediate()
  }
}

test('a refusal is not answered by a reading that began before it', async () => {
  const { reads, renew, turns, change } = start()
  void reads.run()
  change()
  const others = renew(OLD)
  await settle(turns)
  assert.deepEqual(await others, NEW)
  assert.equal(turns.length, 2)
})

test('however many are refused at once, one reading serves them', async () => {
  const { renew, turns, change } = start()
  change()
  const others = Array.from({ length: 100 }, () => renew(OLD))
  await settle(turns)
  for (const keys of await Promise.all(others)) assert.deepEqual(keys, NEW)
  assert.equal(turns.length, 1)
})

test('a rejection of credentials that have been replaced since needs no read', async () => {
  const { renew, turns } = start()
  assert.deepEqual(await renew(NEW), OLD)
  assert.equal(turns.length, 0)
})
