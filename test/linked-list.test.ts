import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createLinkedList } from '../src/collections.ts'

test('a bag is empty at first', () => {
  const bag = createLinkedList<string>()
  assert.deepEqual([bag.size, bag.first(), bag.values()], [0, undefined, []])
})

test('whatever is put in and taken out, a bag has what a list would have', () => {
  // A number puts the next value in, or takes out one of those that ever were, even again.
  const steps = fc.array(fc.oneof(fc.constant('add' as const), fc.nat(30)), { maxLength: 200 })
  const property = fc.property(steps, (given) => {
    const bag = createLinkedList<number>()
    const ways: (() => void)[] = []
    let list: number[] = []
    for (const step of given) {
      if (step === 'add') {
        list.push(ways.length)
        ways.push(bag.add(ways.length))
      } else if (ways.length > 0) {
        const chosen = step % ways.length
        ways[chosen]?.()
        list = list.filter((value) => value !== chosen)
      }
      assert.deepEqual([bag.size, bag.first(), bag.values()], [list.length, list[0], list])
    }
  })
  fc.assert(property, { numRuns: 300 })
})

test('equal values are in as often as they were put in', () => {
  const bag = createLinkedList<string>()
  const takeOut = bag.add('a')
  bag.add('a')
  takeOut()
  takeOut()
  assert.deepEqual(bag.values(), ['a'])
})
