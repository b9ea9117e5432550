import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { waitSeconds } from '../../src/http/routes/prefer.ts'

/** Header fields as RFC 7240 lets them be, and the wait that they ask for. */
const FIELDS: readonly (readonly [string | undefined, number | null])[] = [
  ['wait=10', 10],
  ['wait=0', 0],
  ['wait=007', 7],
  ['Wait=10', 10],
  ['WAIT=10', 10],
  ['wait = 10', 10],
  ['  \twait\t=\t10\t ', 10],
  ['wait="10"', 10],
  ['wait = "10" ', 10],
  // With parameters, which mean nothing here.
  ['wait=10; foo=bar', 10],
  ['wait=10;foo', 10],
  ['wait="10" ; foo="a, b"', 10],
  // Among others.
  ['respond-async, wait=10', 10],
  ['wait=10, respond-async', 10],
  ['respond-async,wait=10,handling=lenient', 10],
  [', ,wait=10,', 10],
  ['foo; wait=9, wait=10', 10],
  ['foo="a, wait=9, b", wait=10', 10],
  ['foo="a\\", wait=9, b", wait=10', 10],
  ['foo; bar="x, wait=9;", wait=10', 10],
  // Of several, only the first is considered.
  ['wait=10, wait=20', 10],
  ['wait=10, Wait=abc', 10],
  ['wait=abc, wait=10', null],
  ['wait, wait=10', null],
  ['wait="", wait=10', null],
  // Longer than anyone waits: how long it is in the end is for others to say.
  ['wait=99999999999', 99_999_999_999],
  // Nonsense.
  [undefined, null],
  ['', null],
  ['wait', null],
  ['wait=', null],
  ['wait=""', null],
  ['wait=abc', null],
  ['wait=-1', null],
  ['wait=+1', null],
  ['wait=1.5', null],
  ['wait=1e3', null],
  ['wait=0x10', null],
  ['wait=10 seconds', null],
  ['wait=10 20', null],
  ["wait='10'", null],
  ['wait="10', null],
  ['wait=10"', null],
  ['wait=" 10"', null],
  ['wait=１０', null],
  ['wait:10', null],
  ['waiting=10', null],
  ['await=10', null],
  ['x-wait=10', null],
  ['foo=wait=10', null],
  ['foo; wait=10', null],
  ['foo="wait=10"', null],
  ['foo="a, wait=10', null],
]

for (const [field, seconds] of FIELDS) {
  test(`${JSON.stringify(field)} is ${seconds === null ? 'no wait' : `a wait of ${seconds} s`}`, () => {
    assert.equal(waitSeconds(field), seconds)
  })
}

test('nothing throws, and a wait is never negative', () => {
  const pieces = fc.constantFrom('wait', 'WAIT', '=', '"', '\\', ';', ',', ' ', '\t', '1', '20', 'a', '-', '.')
  const field = fc.oneof(
    fc.string(),
    fc.array(pieces).map((parts) => parts.join('')),
  )
  fc.assert(
    fc.property(field, (prefer) => {
      const seconds = waitSeconds(prefer)
      assert.ok(seconds === null || seconds >= 0)
    }),
  )
})

const preference = fc.constantFrom(
  'respond-async',
  'return=minimal',
  'foo="a, wait=1"',
  'foo; wait=1',
  'handling=strict',
)

test('a wait is found wherever it stands among other preferences', () => {
  fc.assert(
    fc.property(fc.array(preference), fc.nat(), fc.array(preference), (before, seconds, after) => {
      assert.equal(waitSeconds([...before, `wait=${seconds}`, ...after].join(', ')), seconds)
    }),
  )
})

/** Pieces that a careless pattern would try again from each place. */
const REPEATED = [
  'wait',
  'wait ',
  ' ',
  ',',
  ', ',
  '"',
  '"a',
  '\\',
  '"\\',
  'wait=1 ',
  'wait=',
  '1',
  '=',
  ';',
  'wait="1,',
] as const

for (const piece of REPEATED) {
  test(`a field of many times ${JSON.stringify(piece)} takes a time that grows no faster than it`, () => {
    const timeOf = (times: number): number => {
      const startedAt = performance.now()
      waitSeconds(`wait${piece.repeat(times)}`)
      return performance.now() - startedAt
    }
    timeOf(1000)
    // Quadratic would be ten thousand times as long.
    assert.ok(timeOf(100_000) < 1000 * (timeOf(1_000) + 1))
  })
}
