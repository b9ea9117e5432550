import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseBoundedJson } from '../../src/alibaba/bounded-json.ts'

/** A number in JSON, and the parsed value. */
const NUMBERS: readonly (readonly [string, unknown])[] = [
  ['7', 7],
  ['0', 0],
  ['-7', -7],
  ['43.0', 43],
  ['1e3', 1000],
  ['0.5', 0.5],
  ['9007199254740991', 9_007_199_254_740_991],
  ['9007199254740993', '9007199254740993'],
  ['-9007199254740993', '-9007199254740993'],
  ['12345678901234567890', '12345678901234567890'],
  ['9007199254740992', '9007199254740992'],
  ['-9007199254740992', '-9007199254740992'],
  ['12345678901234567000', '12345678901234567000'],
  ['100000000000000000000', '100000000000000000000'],
  ['18446744073709551615', '18446744073709551615'],
  ['0.12345678901234567890', '0.12345678901234567890'],
  ['1.2345678901234567E18', '1.2345678901234567E18'],
]

for (const [text, expected] of NUMBERS) {
  test(`${text} is read as ${JSON.stringify(expected)}`, () => {
    assert.deepEqual(parseBoundedJson(`{"a":[${text}],"b":${text}}`), { a: [expected], b: expected })
  })
}

test('every whole number keeps its digits', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: -(10n ** 40n), max: 10n ** 40n }), (number) => {
      assert.equal(String(parseBoundedJson(String(number))), String(number))
    }),
  )
})

const isLongId = (value: unknown): boolean =>
  typeof value === 'number' && !Number.isSafeInteger(value) && /^-?\d+$/.test(String(value))

test('the result is that of JSON.parse, except that whole numbers above 2^53 are texts', () => {
  fc.assert(
    fc.property(fc.jsonValue({ noUnicodeString: false }), (value) => {
      const text = JSON.stringify(value)
      assert.deepEqual(
        parseBoundedJson(text),
        JSON.parse(text, (_name, each) => (isLongId(each) ? String(each) : each)),
      )
    }),
  )
})

test('strings are edited without their escapes, and names are not', () => {
  const edited = parseBoundedJson('{"LTAI":"\\u004cTAI\\/x","b":["\\u004C\\u0054AI"]}', (text) =>
    text.replace('LTAI', '-'),
  )
  assert.deepEqual(edited, { LTAI: '-/x', b: ['-'] })
})

test('a hundred levels are read, and one more is none', () => {
  const nested = (depth: number): string => `${'['.repeat(depth)}${']'.repeat(depth)}`
  assert.notEqual(parseBoundedJson(nested(100)), undefined)
  assert.equal(parseBoundedJson(nested(101)), undefined)
  assert.notEqual(parseBoundedJson(`[${Array(900).fill(nested(50)).join()}]`), undefined)
})
