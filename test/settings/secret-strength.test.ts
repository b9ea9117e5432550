import assert from 'node:assert/strict'
import { createHash, randomBytes, randomInt, randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { createSecret, isPlaceholder, isStrongSecret, isWeakHash } from '../../src/settings/secret-strength.ts'

const WEAK = [
  '',
  '<at least thirty-two random characters>',
  'x'.repeat(32),
  '0'.repeat(64),
  ' '.repeat(40),
  `${'x'.repeat(31)}y`,
  'ab'.repeat(20),
  'abcdefgh'.repeat(5),
  'password'.repeat(4),
  'password1password2password3password4',
  'secret-secret-secret-secret-secret-',
  '1234567890'.repeat(4),
  '0123456789abcdef'.repeat(3),
  'abcdefghijklmnopqrstuvwxyz0123456789',
  'zyxwvutsrqponmlkjihgfedcba9876543210',
  'changeme-1f8a62c0d7e94b35a1f8e62c0d7e94b35',
  'CHANGE_ME_to_a_long_and_random_string_of_text',
  'please-change-this-to-something-really-secret',
  'replace-with-32-random-characters-or-more',
  'your-session-secret-of-32-characters-here',
  'this-is-a-placeholder-for-the-session-key',
  `${'a'.repeat(24)}bcdefghi`,
  'abbabaabbaababbabaababbaabbabaab',
  '"<the output of npm run secret>"',
  "'<the output of npm run secret>'",
  '" <the output of npm run secret> "',
  '[the output of npm run secret goes here]',
  '$SESSION_SECRET_OF_THE_GATEWAY_2026',
  ['$', '{SESSION_SECRET_OF_THE_GATEWAY_2026}'].join(''),
  '%SESSION_SECRET_OF_THE_GATEWAY_2026%',
  ...[0, 1, 100, 224].flatMap((first) => {
    const bytes = Buffer.from(Array.from({ length: 32 }, (_, index) => (first + index) % 256))
    return [bytes.toString('hex'), bytes.toString('hex').toUpperCase(), bytes.toString('base64')]
  }),
  Buffer.from(Array.from({ length: 32 }, (_, index) => 255 - 3 * index)).toString('base64url'),
  Buffer.from(Array.from({ length: 32 }, (_, index) => index))
    .toString('hex')
    .replace(/..(?=.)/g, '$&:'),
] as const

for (const text of WEAK) {
  test(`${JSON.stringify(text)} is no secret`, () => assert.equal(isStrongSecret(text), false))
}

/** Commands that people make secrets with. */
const MAKERS: Readonly<Record<string, () => string>> = {
  'npm run secret': createSecret,
  'openssl rand -base64 32': () => randomBytes(32).toString('base64'),
  'openssl rand -base64 24': () => randomBytes(24).toString('base64'),
  'openssl rand -hex 32': () => randomBytes(32).toString('hex'),
  'openssl rand -hex 16': () => randomBytes(16).toString('hex'),
  uuidgen: () => randomUUID(),
  'two UUIDs': () => `${randomUUID()}${randomUUID()}`,
  'a password generator, with a dollar first': () => `$${randomBytes(32).toString('base64url')}`,
  'forty dice and digits': () => Array.from({ length: 40 }, () => randomInt(10)).join(''),
}

for (const [name, make] of Object.entries(MAKERS)) {
  test(`the output of ${name} is a secret`, () => {
    const refused = Array.from({ length: 300 }, make).filter((text) => !isStrongSecret(text))
    assert.deepEqual(refused, [])
  })
}

test('the id and the secret of an AccessKey are no placeholders', () => {
  for (const text of [
    'LTAI5tQnKxxxxG7',
    'xX3',
    'dGhpcyBpcyBhIHNlY3JldA==',
    'p<a>ss',
    'x',
    '"',
    "'x",
    '$2b$10$nOUIs5kJ7naTuTFkBy1veu',
  ])
    assert.equal(isPlaceholder(text), false)
})

test('the hash of a well-known key is weak, in capitals and with the line end that echo adds too', () => {
  const hashOf = (text: string): string => createHash('sha256').update(text).digest('hex')
  for (const text of ['', '\n', 'secret', 'Secret', 'SECRET\n', 'changeme\r\n', 'YOUR_API_KEY', 'changeme123', '""'])
    assert.ok(isWeakHash(hashOf(text)), text)
  assert.ok(isWeakHash('E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855'))
  assert.equal(isWeakHash(hashOf('dtg_secret')), false)
})
