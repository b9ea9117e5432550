import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseUpstreamTime } from '../../src/alibaba/upstream-time.ts'

/** As upstream spells it, and the moment in UTC; null where there is none. */
const TEXTS: readonly (readonly [string, string | null])[] = [
  // The vendor's own samples.
  ['Dec 26,2017 11:00:54', '2017-12-26T03:00:54.000Z'],
  ['2017-11-01 17:22:51', '2017-11-01T09:22:51.000Z'],
  // Eight hours earlier can be another day, month or year.
  ['2018-01-01 07:59:59', '2017-12-31T23:59:59.000Z'],
  ['2018-01-01 08:00:00', '2018-01-01T00:00:00.000Z'],
  ['Mar 1,2017 00:00:00', '2017-02-28T16:00:00.000Z'],
  // Single digits, and a space after the comma.
  ['Dec 6,2017 1:00:54', '2017-12-05T17:00:54.000Z'],
  ['Dec 06,2017 01:00:54', '2017-12-05T17:00:54.000Z'],
  ['Dec 26, 2017 11:00:54', '2017-12-26T03:00:54.000Z'],
  // With the half of the day, and any space before it.
  ['Dec 26, 2017, 11:00:54 AM', '2017-12-26T03:00:54.000Z'],
  ['Dec 26, 2017, 11:00:54\u202fAM', '2017-12-26T03:00:54.000Z'],
  ['Dec 26, 2017, 11:00:54\u00a0PM', '2017-12-26T15:00:54.000Z'],
  ['Dec 26, 2017 11:00:54 AM', '2017-12-26T03:00:54.000Z'],
  ['Dec 26,2017 11:00:54 pm', '2017-12-26T15:00:54.000Z'],
  ['Dec 26, 2017, 12:00:54 AM', '2017-12-25T16:00:54.000Z'],
  ['Dec 26, 2017, 12:00:54 PM', '2017-12-26T04:00:54.000Z'],
  ['Dec 6, 2017, 1:00:54 PM', '2017-12-06T05:00:54.000Z'],
  ['Dec 26, 2017, 11:00:54', '2017-12-26T03:00:54.000Z'],
  // ISO 8601; without a zone it is the same clock.
  ['2017-11-01T17:22:51', '2017-11-01T09:22:51.000Z'],
  ['2017-11-01T17:22:51Z', '2017-11-01T17:22:51.000Z'],
  ['2017-11-01T17:22:51.5Z', '2017-11-01T17:22:51.500Z'],
  ['2017-11-01T17:22:51.123456789Z', '2017-11-01T17:22:51.123Z'],
  ['2017-11-01T17:22Z', '2017-11-01T17:22:00.000Z'],
  ['2017-11-01T17:22:51+08:00', '2017-11-01T09:22:51.000Z'],
  ['2017-11-01T17:22:51+0800', '2017-11-01T09:22:51.000Z'],
  ['2017-11-01T17:22:51+08', '2017-11-01T09:22:51.000Z'],
  ['2017-11-01T17:22:51-03:30', '2017-11-01T20:52:51.000Z'],
  ['2017-11-01 17:22:51Z', '2017-11-01T17:22:51.000Z'],
  ['2017-11-01 17:22:51 +0000', '2017-11-01T17:22:51.000Z'],
  ['2017-11-01 17:22:51.0', '2017-11-01T09:22:51.000Z'],
  // Milliseconds since the epoch.
  ['1509528171000', '2017-11-01T09:22:51.000Z'],
  ['100000000000', '1973-03-03T09:46:40.000Z'],
  // Days that only some years have.
  ['2020-02-29 12:00:00', '2020-02-29T04:00:00.000Z'],
  ['Feb 29,2000 12:00:00', '2000-02-29T04:00:00.000Z'],
  ['2019-02-29 12:00:00', null],
  ['Feb 29,1900 12:00:00', null],
  ['2017-04-31 12:00:00', null],
  // Texts that are no moment.
  ['', null],
  ['2017-13-01 12:00:00', null],
  ['2017-00-10 12:00:00', null],
  ['2017-01-00 12:00:00', null],
  ['0000-00-00 00:00:00', null],
  ['2017-01-01 24:00:00', null],
  ['2017-01-01 12:60:00', null],
  ['2017-01-01 12:00:60', null],
  ['Foo 26,2017 11:00:54', null],
  ['dec 26,2017 11:00:54', null],
  ['Dec 32,2017 11:00:54', null],
  // Times of another clock.
  ['2017-11-01', null],
  ['2017-1-1 17:22:51', null],
  [' 2017-11-01 17:22:51', null],
  ['2017-11-01 17:22:51\n', null],
  ['1509528171', null],
  ['150952817', null],
  ['-1509528171000', null],
  ['1509528171000.5', null],
  ['2017-11-01T17:22:51+15:00', null],
  ['2017-11-01T17:22:51+08:60', null],
  ['2017-11-01T17:22:51 CST', null],
  ['2017-11-01T17:22:51.', null],
  ['2017-11-01T24:00:00Z', null],
  ['2017-02-29T12:00:00Z', null],
  ['Dec 26, 2017, 13:00:54 PM', null],
  ['Dec 26, 2017, 0:00:54 AM', null],
  ['Dec 26, 2017, 11:00:54 XM', null],
  ['Dec 26, 2017, 11:00:54 AMPM', null],
  ['dec 26, 2017, 11:00:54 AM', null],
  ['２０１７-11-01 17:22:51', null],
]

for (const [text, utc] of TEXTS) {
  test(`${JSON.stringify(text)} is ${utc ?? 'no moment'}`, () => {
    const at = parseUpstreamTime(text)
    assert.equal(at === null ? null : new Date(at).toISOString(), utc)
  })
}

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'] as const

for (const [index, month] of MONTHS.entries()) {
  test(`${month} is month ${index + 1}`, () => {
    const dashed = parseUpstreamTime(`2017-${String(index + 1).padStart(2, '0')}-05 09:10:11`)
    assert.equal(parseUpstreamTime(`${month} 5,2017 9:10:11`), dashed)
    assert.notEqual(dashed, null)
  })
}

/** Whole seconds from 1970 to 2100. */
const seconds = fc.integer({ min: 0, max: 4_102_444_800 })

test('a moment that was written in either form is read back', () => {
  fc.assert(
    fc.property(seconds, (second) => {
      const wall = new Date((second + 8 * 3600) * 1000).toISOString()
      const [date = '', time = ''] = wall.slice(0, 19).split('T')
      const [year, month, day] = date.split('-').map(Number)
      assert.equal(parseUpstreamTime(`${date} ${time}`), second * 1000)
      assert.equal(parseUpstreamTime(`${MONTHS[Number(month) - 1]} ${day},${year} ${time}`), second * 1000)
    }),
  )
})

test('no text throws, and each result is a moment', () => {
  const digits = fc.stringMatching(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/)
  const named = fc.stringMatching(/^[A-Z][a-z]{2} \d{1,2}, ?\d{4} \d{1,2}:\d\d:\d\d$/)
  fc.assert(
    fc.property(fc.oneof(fc.string(), digits, named), (text) => {
      const at = parseUpstreamTime(text)
      assert.ok(at === null || !Number.isNaN(new Date(at).getTime()))
    }),
  )
})
