import assert from 'node:assert/strict'
import { test } from 'node:test'
import { coversDomain, toDomain, toDomainPattern } from '../../src/callers/domain-names.ts'
import { assertLinear, repeatedText } from '../helpers/growth.ts'

const LONG = 'x'.repeat(63)

/** A text of the upstream or of an entry, and the domain that it names. */
const NAMES: readonly (readonly [string, string | null])[] = [
  ['example.com', 'example.com'],
  ['EXAMPLE.Com', 'example.com'],
  ['example.com.', 'example.com'],
  ['a.b.example.com', 'a.b.example.com'],
  ['bücher.example', 'xn--bcher-kva.example'],
  ['BÜCHER.example', 'xn--bcher-kva.example'],
  ['bu\u0308cher.example', 'xn--bcher-kva.example'],
  ['xn--bcher-kva.example', 'xn--bcher-kva.example'],
  ['XN--BCHER-KVA.example', 'xn--bcher-kva.example'],
  ['例子.中国', 'xn--fsqu00a.xn--fiqs8s'],
  ['straße.example', 'xn--strae-oqa.example'],
  // The form in A-labels is that of the capital letter here.
  ['Ꮳ.example', 'xn--2be.example'],
  ['ꮳ.example', 'xn--2be.example'],
  ['xn--2be.example', 'xn--2be.example'],
  ['1and1.example', '1and1.example'],
  ['a--b.example', 'a--b.example'],
  [`${LONG}.example`, `${LONG}.example`],
  ['', null],
  ['.', null],
  ['com', null],
  ['example.com..', null],
  ['.example.com', null],
  ['a..example.com', null],
  ['*.example.com', null],
  ['exa mple.com', null],
  [' example.com', null],
  ['example.com\n', null],
  ['exam\tple.com', null],
  ['example.com\0', null],
  ['exam\u00adple.com', null],
  ['example.com\u200b', null],
  ['ｅxample.com', null],
  ['example。com', null],
  ['example.com/x', null],
  ['example.com:443', null],
  ['example.com?x', null],
  ['example.com#x', null],
  ['example.com\\x', null],
  ['user@example.com', null],
  ['example%2ecom', null],
  ['ex%61mple.com', null],
  ['example.com,evil.com', null],
  ['a_b.example', null],
  ['-a.example', null],
  ['a-.example', null],
  ['xn--bücher.example', null],
  [`${LONG}x.example`, null],
  [`${`${LONG}.`.repeat(4)}com`, null],
  ['127.0.0.1', null],
  ['0x7f.1', null],
  ['[::1]', null],
]

for (const [text, domain] of NAMES) {
  test(`${JSON.stringify(text)} names ${domain ?? 'no domain'}`, () => {
    assert.equal(toDomain(text), domain)
    assert.equal(toDomainPattern(`*.${text}`), domain === null ? null : `*.${domain}`)
    if (text !== '*.example.com') assert.equal(toDomainPattern(text), domain)
  })
}

for (const text of [
  '*',
  '*.',
  '**.example.com',
  '*.*.example.com',
  'a.*.example.com',
  '*example.com',
  '*.com',
  '*\n.a.example',
]) {
  test(`${JSON.stringify(text)} is no pattern`, () => assert.equal(toDomainPattern(text), null))
}

for (const [pattern, domain, covers] of [
  ['example.com', 'example.com', true],
  ['example.com', 'a.example.com', false],
  ['example.com', 'badexample.com', false],
  ['example.com', 'example.com.evil.example', false],
  ['*.example.com', 'example.com', false],
  ['*.example.com', 'a.example.com', true],
  ['*.example.com', 'a.b.example.com', true],
  ['*.example.com', 'badexample.com', false],
  ['*.example.com', 'a.example.com.evil.example', false],
  ['*.example.com', 'a.example.org', false],
] as const) {
  test(`${pattern} ${covers ? 'covers' : 'does not cover'} ${domain}`, () => {
    assert.equal(coversDomain(pattern, domain), covers)
  })
}

const LONGEST = `${`${LONG}.`.repeat(3)}${'x'.repeat(57)}.com`

test('the longest name is one, with or without the dot at its end', () => {
  assert.equal(LONGEST.length, 253)
  assert.deepEqual([toDomain(LONGEST), toDomain(`${LONGEST}.`), toDomain(`x${LONGEST}`)], [LONGEST, LONGEST, null])
})

test('a name in letters that come in parts is one, up to the length of the longest', () => {
  const parts = `${'bu\u0308cher.'.repeat(15)}example`
  assert.equal(toDomain(parts), `${'xn--bcher-kva.'.repeat(15)}example`)
})

for (const unit of ['\u0301\u0323', '\u0323\u0301', 'ü.', 'ß', 'Σ', 'İ', '\u1100', '.', '-', '%CC%81', 'xn--', '*.']) {
  test(`a text of ${JSON.stringify(unit)} alone is no name, and seen to be none in linear time`, () => {
    assertLinear(repeatedText('', unit, '.example', ''), 240_000, (text) => {
      assert.deepEqual([toDomain(text), toDomainPattern(text), toDomainPattern(`*.${text}`)], [null, null, null])
    })
  })
}
