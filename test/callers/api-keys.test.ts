import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createApiKeys, type ParsedApiKeys, parseApiKeys, sha256 } from '../../src/callers/api-keys.ts'
import { NO_GRANT } from '../../src/callers/caller.ts'

const hashOf = (key: string): string => sha256(key).toString('hex')
const ENTRY = { name: 'shop', sha256: hashOf('key'), scopes: ['tasks:cancel'] } as const
const parse = (...entries: readonly unknown[]): ParsedApiKeys => parseApiKeys(JSON.stringify(entries))
const ruleOf = (parsed: ParsedApiKeys): string | null => (parsed.ok ? null : parsed.rule)

const keysOf = (entries: readonly unknown[], now?: () => number) => {
  const parsed = parse(...entries)
  assert.ok(parsed.ok, ruleOf(parsed) ?? '')
  return createApiKeys(parsed.entries, now)
}

test('a key finds the caller that it belongs to, with the scopes of its entry', () => {
  const caller = {
    ...NO_GRANT,
    via: 'api-key',
    issuer: null,
    name: 'shop',
    displayName: null,
    scopes: ['tasks:cancel'],
  }
  assert.deepEqual(keysOf([ENTRY]).find('key'), caller)
})

for (const key of ['', 'Key', 'key ', ENTRY.sha256, 'other']) {
  test(`"${key.slice(0, 8)}" is nobody's key`, () => assert.equal(keysOf([ENTRY]).find(key), undefined))
}

const WEAK_RULE = 'must not list the SHA-256 of an empty or well-known key'

for (const key of ['', ' ', 'secret', 'changeme']) {
  test(`an entry with the hash of ${JSON.stringify(key)} is refused, wherever it stands`, () => {
    const weak = { ...ENTRY, sha256: [hashOf('reader'), hashOf(key)] }
    assert.equal(ruleOf(parse(weak)), WEAK_RULE)
    assert.equal(ruleOf(parse(ENTRY, weak)), WEAK_RULE)
  })
}

for (const key of ['', ' ', '\t', '\u00a0']) {
  test(`nothing (${JSON.stringify(key)}) finds nobody, whatever the entries say`, () => {
    const caller = { ...NO_GRANT, via: 'api-key', issuer: null, name: 'shop', displayName: null } as const
    assert.equal(createApiKeys([{ caller, hashes: [sha256(key)], expiresAtMs: null }]).find(key), undefined)
  })
}

test('no text but the key itself finds a caller', () => {
  const apiKeys = keysOf([ENTRY])
  const others = fc.string({ unit: 'binary' }).filter((text) => text !== 'key')
  fc.assert(fc.property(others, (key) => assert.equal(apiKeys.find(key), undefined)))
})

test('a caller may have several keys, so that keys can overlap', () => {
  const apiKeys = keysOf([{ ...ENTRY, sha256: [hashOf('old'), hashOf('new')] }])
  assert.deepEqual(
    [apiKeys.find('old')?.name, apiKeys.find('new')?.name, apiKeys.find('key')],
    ['shop', 'shop', undefined],
  )
})

test('a hash may be written in upper case', () => {
  assert.equal(keysOf([{ ...ENTRY, sha256: ENTRY.sha256.toUpperCase() }]).find('key')?.name, 'shop')
})

test('two keys of one name keep their own scopes', () => {
  const apiKeys = keysOf([ENTRY, { ...ENTRY, sha256: hashOf('reader'), scopes: ['tasks:read'] }])
  assert.deepEqual([apiKeys.find('key')?.scopes, apiKeys.find('reader')?.scopes], [['tasks:cancel'], ['tasks:read']])
})

test('a name is cut at its ends', () => {
  assert.equal(keysOf([{ ...ENTRY, name: ' shop\n' }]).find('key')?.name, 'shop')
})

test('an entry without scopes is a caller who may do nothing', () => {
  assert.deepEqual(keysOf([{ ...ENTRY, scopes: [] }]).find('key')?.scopes, [])
})

for (const [at, found] of [
  ['2026-12-31T22:59:59.999Z', true],
  ['2026-12-31T23:00:00.000Z', false],
  ['2027-06-01T00:00:00.000Z', false],
] as const) {
  test(`a key that expires at 2027-01-01T00:00+01:00 ${found ? 'counts' : 'no longer counts'} at ${at}`, () => {
    const apiKeys = keysOf([{ ...ENTRY, expiresAt: '2027-01-01T00:00:00+01:00' }], () => Date.parse(at))
    assert.equal(apiKeys.find('key') !== undefined, found)
  })
}

test('one expired key takes no other with it', () => {
  const old = { ...ENTRY, sha256: hashOf('old'), expiresAt: '2020-01-01T00:00:00Z' }
  const apiKeys = keysOf([old, ENTRY])
  assert.deepEqual([apiKeys.find('old'), apiKeys.find('key')?.name], [undefined, 'shop'])
})

test('an expiry that is accepted is a moment in time', () => {
  const texts = fc.oneof(
    fc.date({ noInvalidDate: true }).map((date) => date.toISOString()),
    fc.stringMatching(/^20\d\d-[01]\d-[0-3]\dT[0-2]\d:[0-6]\d:[0-6]\d(\.\d{1,9})?(Z|[+-][0-2]\d:[0-6]\d)$/),
  )
  const property = fc.property(texts, (expiresAt) => {
    const parsed = parse({ ...ENTRY, expiresAt })
    if (parsed.ok) assert.ok(Number.isFinite(parsed.entries[0]?.expiresAtMs), expiresAt)
  })
  fc.assert(property, { numRuns: 500 })
})

test('new entries take the place of all old ones', () => {
  const apiKeys = keysOf([ENTRY])
  const next = parse({ ...ENTRY, name: 'other', sha256: hashOf('next') })
  assert.ok(next.ok)
  apiKeys.replace(next.entries)
  assert.deepEqual([apiKeys.find('key'), apiKeys.find('next')?.name], [undefined, 'other'])
})

const SHAPE = 'must be a JSON array of {"name","sha256","scopes"}'
for (const text of ['', 'x', '{', '{}', 'null', '"x"', '7', `{"0":${JSON.stringify(ENTRY)}}`]) {
  test(`${JSON.stringify(text.slice(0, 9))} is no list of keys`, () => assert.equal(ruleOf(parseApiKeys(text)), SHAPE))
}

const TWICE = 'must not list a key twice'
const HASHES = 'must be a SHA-256 in 64 hex digits'
const EXPIRY = 'entry 1, expiresAt: must be an ISO 8601 date and time with a zone'
const DOMAIN = 'must be a domain, such as example.com, or *.example.com for those below it'
const TYPE = 'must be a type of task, such as CHG_DNS'

const FAULTS: readonly (readonly [string, readonly unknown[], string | RegExp])[] = [
  ['a key in two entries', [ENTRY, { ...ENTRY, name: 'other' }], TWICE],
  ['a key twice in one entry', [{ ...ENTRY, sha256: [ENTRY.sha256, ENTRY.sha256.toUpperCase()] }], TWICE],
  ['an entry that is null', [null], /^entry 1: /],
  ['a second entry that is a text', [ENTRY, 'x'], /^entry 2: /],
  ['an entry without a name', [{ ...ENTRY, name: undefined }], 'entry 1, name: must be a text'],
  ['a name that is empty', [{ ...ENTRY, name: '' }], 'entry 1, name: must not be empty'],
  ['a name of blanks', [{ ...ENTRY, name: ' \t' }], 'entry 1, name: must not be empty'],
  ['a name that is too long', [{ ...ENTRY, name: 'x'.repeat(129) }], 'entry 1, name: must have at most 128 characters'],
  ['no hash', [{ ...ENTRY, sha256: undefined }], `entry 1, sha256: ${HASHES}, or a list of them`],
  ['a hash that is short', [{ ...ENTRY, sha256: ENTRY.sha256.slice(1) }], /^entry 1, sha256: must be a SHA-256 in 64/],
  ['a hash that is long', [{ ...ENTRY, sha256: `${ENTRY.sha256}0` }], /^entry 1, sha256: must be a SHA-256 in 64/],
  ['a hash with a prefix', [{ ...ENTRY, sha256: `x${ENTRY.sha256}` }], /^entry 1, sha256: must be a SHA-256 in 64/],
  ['the key in place of its hash', [{ ...ENTRY, sha256: 'dtg_key' }], /^entry 1, sha256: must be a SHA-256 in 64/],
  ['an empty list of hashes', [{ ...ENTRY, sha256: [] }], /^entry 1, sha256: must /],
  ['a faulty hash in a list', [{ ...ENTRY, sha256: [ENTRY.sha256, 'x'] }], `entry 1, sha256, 1: ${HASHES}`],
  ['no scopes', [{ ...ENTRY, scopes: undefined }], /^entry 1, scopes: /],
  ['scopes as one text', [{ ...ENTRY, scopes: 'tasks:cancel' }], /^entry 1, scopes: /],
  [
    'an unknown scope',
    [{ ...ENTRY, scopes: ['tasks:cancel', 'x'] }],
    /^entry 1, scopes, 1: must be one of tasks:cancel, /,
  ],
  ['a scope in upper case', [{ ...ENTRY, scopes: ['TASKS:CANCEL'] }], /^entry 1, scopes, 0: must be one of /],
  ['an expiry that is a date only', [{ ...ENTRY, expiresAt: '2027-01-01' }], EXPIRY],
  ['an expiry without a zone', [{ ...ENTRY, expiresAt: '2027-01-01T00:00:00' }], EXPIRY],
  ['an expiry on a day that is none', [{ ...ENTRY, expiresAt: '2027-02-30T00:00:00Z' }], EXPIRY],
  ['an expiry that is a number', [{ ...ENTRY, expiresAt: 1 }], EXPIRY],
  ['an expiry that is null', [{ ...ENTRY, expiresAt: null }], EXPIRY],
  ['a field that is not known', [{ ...ENTRY, Domains: ['a.example'] }], /^entry 1: /],
  ['every domain', [{ ...ENTRY, domains: ['*'] }], `entry 1, domains, 0: ${DOMAIN}`],
  ['a faulty domain', [{ ...ENTRY, domains: ['a.example', 'a..example'] }], `entry 1, domains, 1: ${DOMAIN}`],
  ['a domain that is a number', [{ ...ENTRY, domains: [1] }], `entry 1, domains, 0: ${DOMAIN}`],
  ['domains as one text', [{ ...ENTRY, domains: 'a.example' }], 'entry 1, domains: must be a list of domains'],
  ['domains that are null', [{ ...ENTRY, domains: null }], 'entry 1, domains: must be a list of domains'],
  ['a type of blanks', [ENTRY, { ...ENTRY, taskTypes: ['CHG DNS'] }], `entry 2, taskTypes, 0: ${TYPE}`],
  ['types that are null', [{ ...ENTRY, taskTypes: null }], 'entry 1, taskTypes: must be a list of types of tasks'],
]

for (const [name, entries, rule] of FAULTS) {
  test(`${name}: refused, and the rule tells where`, () => {
    const broken = ruleOf(parse(...entries)) ?? ''
    if (typeof rule === 'string') assert.equal(broken, rule)
    else assert.match(broken, rule)
  })
}

for (const [given, restrictions] of [
  [{}, { domains: null, taskTypes: null }],
  [
    { domains: [], taskTypes: [] },
    { domains: [], taskTypes: [] },
  ],
  [
    { domains: ['*.Bücher.example', 'A.example.'] },
    { domains: ['*.xn--bcher-kva.example', 'a.example'], taskTypes: null },
  ],
  [{ taskTypes: ['CHG_DNS', 'x.1-2'] }, { domains: null, taskTypes: ['CHG_DNS', 'x.1-2'] }],
] as const) {
  test(`an entry with ${JSON.stringify(given)} restricts its caller to that`, () => {
    const parsed = parse({ ...ENTRY, ...given })
    assert.ok(parsed.ok)
    const { domains, taskTypes } = parsed.entries[0]?.caller ?? {}
    assert.deepEqual({ domains, taskTypes }, restrictions)
  })
}

test('one faulty entry refuses the whole list', () => {
  assert.equal(parse(ENTRY, { ...ENTRY, sha256: 'x' }).ok, false)
})

test('the name of a field that is not known is not shown', () => {
  assert.doesNotMatch(ruleOf(parse({ ...ENTRY, canary: 1 })) ?? '', /canary/)
})

test('a rule never shows a value', () => {
  const canary = fc.string().map((text) => `canary${text}`)
  const value = fc.oneof(canary, fc.array(canary), fc.dictionary(canary, canary), fc.constant([ENTRY.sha256]))
  const fields = { name: value, sha256: value, scopes: value, expiresAt: value, domains: value, taskTypes: value }
  const entries = fc.array(fc.oneof(canary, fc.record(fields, { requiredKeys: [] })), { minLength: 1 })
  const property = fc.property(entries, (list) => assert.doesNotMatch(ruleOf(parse(...list)) ?? 'canary', /canary/))
  fc.assert(property, { numRuns: 300 })
})

test('any text at all is either read or refused', () => {
  const texts = fc.oneof(fc.string(), fc.json())
  fc.assert(fc.property(texts, (text) => assert.equal(typeof parseApiKeys(text).ok, 'boolean')))
})
