import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { allows, isRestricted, type Restrictions, type TaskContents, type TaskPart } from '../../src/callers/policy.ts'

const part = (changes: Partial<TaskPart> = {}): TaskPart => ({
  taskNo: 't',
  detailNo: null,
  type: 'CHG_DNS',
  domain: 'a.example.com',
  ...changes,
})

/** A task that was read to its end. */
const whole = (...parts: readonly Partial<TaskPart>[]): TaskContents => ({
  taskNo: 't',
  details: parts.map((changes, index) => part({ detailNo: String(index), ...changes })),
  totals: [parts.length],
})

const DOMAINS: Restrictions = { domains: ['*.example.com', 'xn--bcher-kva.example'], taskTypes: null }
const TYPES: Restrictions = { domains: null, taskTypes: ['CHG_DNS'] }
const BOTH: Restrictions = { ...DOMAINS, taskTypes: TYPES.taskTypes }

const TABLE: readonly (readonly [string, Restrictions, TaskContents, boolean])[] = [
  ['one detail inside', BOTH, whole({}), true],
  ['details inside', BOTH, whole({}, { domain: 'b.c.example.com' }, { domain: 'xn--bcher-kva.example' }), true],
  ['a name in upper case, with a dot at its end', BOTH, whole({ domain: 'A.EXAMPLE.COM.' }), true],
  ['a name in its own letters', BOTH, whole({ domain: 'Bücher.example' }), true],
  ['no details', BOTH, whole(), false],
  ['no details and no page', BOTH, { ...whole(), totals: [] }, false],
  ['a foreign domain last', BOTH, whole({}, {}, { domain: 'a.example.org' }), false],
  ['the domain of a wildcard itself', BOTH, whole({ domain: 'example.com' }), false],
  ['no domain', BOTH, whole({}, { domain: null }), false],
  ['an empty domain', BOTH, whole({ domain: '' }), false],
  ['a domain that is none', BOTH, whole({ domain: 'a.example.com/' }), false],
  ['a foreign type', BOTH, whole({}, { type: 'ORDER_RENEW' }), false],
  ['a type in lower case', BOTH, whole({ type: 'chg_dns' }), false],
  ['no type', BOTH, whole({ type: null }), false],
  ['no type, where only domains count', DOMAINS, whole({ type: null }), true],
  ['no domain, where only types count', TYPES, whole({ domain: null }), false],
  ['an empty domain, where only types count', TYPES, whole({}, { domain: '' }), false],
  ['a foreign domain, where only types count', TYPES, whole({ domain: 'a.example.org' }), true],
  ['a foreign type, where only types count', TYPES, whole({ type: 'ORDER_RENEW' }), false],
  ['a row less than there are', BOTH, { ...whole({}), totals: [2] }, false],
  ['a row more than there are', BOTH, { ...whole({}, {}), totals: [1] }, false],
  ['pages that agree', BOTH, { ...whole({}, {}), totals: [2, 2] }, true],
  ['pages that do not agree', BOTH, { ...whole({}, {}), totals: [3, 2] }, false],
  ['a detail that was read twice', BOTH, whole({ detailNo: 'd' }, { detailNo: 'd' }), false],
  ['details of their own', BOTH, whole({ detailNo: 'd' }, { detailNo: 'e' }), true],
  ['a detail without a number', BOTH, whole({ detailNo: null }), true],
  ['details that nothing tells apart', BOTH, whole({ detailNo: null }, { detailNo: null }), false],
  ["another task's detail", BOTH, whole({}, { taskNo: 'u' }), false],
  ['a list of domains that is empty', { domains: [], taskTypes: null }, whole({}), false],
  ['a list of types that is empty', { domains: null, taskTypes: [] }, whole({}), false],
  ['a list of types that is empty next to domains', { ...DOMAINS, taskTypes: [] }, whole({}), false],
]

for (const [name, restrictions, task, allowed] of TABLE) {
  test(`${name}: ${allowed ? 'allowed' : 'not allowed'}`, () => assert.equal(allows(restrictions, task), allowed))
}

for (const [restrictions, restricted] of [
  [{ domains: null, taskTypes: null }, false],
  [{ domains: [], taskTypes: null }, true],
  [{ domains: null, taskTypes: [] }, true],
] as const) {
  test(`${JSON.stringify(restrictions)} ${restricted ? 'restricts' : 'does not restrict'}`, () => {
    assert.equal(isRestricted(restrictions), restricted)
  })
}

// The oracle compares lists of labels that the generator knows, where the policy compares texts that it converts.

interface Named {
  readonly text: string | null
  /** Null where the text names no domain. */
  readonly labels: readonly string[] | null
}

/** Each label in A-label form, and how else it can be written. */
const LABELS: ReadonlyMap<string, readonly string[]> = new Map([
  ['a', ['a', 'A']],
  ['b', ['b']],
  ['example', ['example', 'EXAMPLE', 'Example']],
  ['com', ['com', 'COM']],
  ['xn--bcher-kva', ['bücher', 'BÜCHER', 'xn--bcher-kva', 'XN--bcher-kva']],
  ['xn--fiqs8s', ['中国', 'xn--fiqs8s']],
])

const aLabel = fc.constantFrom(...LABELS.keys())
const written = (label: string) => fc.constantFrom(...(LABELS.get(label) ?? []))

const named: fc.Arbitrary<Named> = fc
  .array(aLabel, { minLength: 2, maxLength: 4 })
  .chain((labels) =>
    fc
      .tuple(fc.tuple(...labels.map(written)), fc.constantFrom('', '.'))
      .map(([texts, end]) => ({ text: `${texts.join('.')}${end}`, labels })),
  )
const absurd: fc.Arbitrary<Named> = fc
  .oneof(
    fc.constantFrom(null, '', '.', '*', '*.example.com', 'com', '127.0.0.1'),
    fc
      .tuple(named, fc.constantFrom('/', ':1', ' ', '..', '%2e', '@', '\0', '_', '。', '\u00ad'))
      .map(([it, end]) => `${it.text}${end}`),
  )
  .map((text) => ({ text, labels: null }))

const type = fc.constantFrom(null, '', 'CHG_DNS', 'ORDER_RENEW', 'chg_dns')
const detail = fc.record({
  domain: fc.oneof({ weight: 8, arbitrary: named }, { weight: 1, arbitrary: absurd }),
  type,
  detailNo: fc.option(fc.nat({ max: 20 }).map(String)),
  taskNo: fc.oneof({ weight: 20, arbitrary: fc.constant('t') }, { weight: 1, arbitrary: fc.constant('u') }),
})
const pattern = fc.record({ labels: fc.array(aLabel, { minLength: 2, maxLength: 3 }), wildcard: fc.boolean() })
const grant = fc.record({
  domains: fc.option(fc.array(pattern, { maxLength: 5 })),
  taskTypes: fc.option(fc.subarray(['CHG_DNS', 'ORDER_RENEW'])),
})

interface Pattern {
  readonly labels: readonly string[]
  readonly wildcard: boolean
}

const isBelow = (labels: readonly string[], { labels: asked, wildcard }: Pattern): boolean => {
  const tail = labels.slice(-asked.length)
  const depth = labels.length - asked.length
  return asked.every((label, index) => label === tail[index]) && (wildcard ? depth > 0 : depth === 0)
}

test('nothing but what is inside in every part is ever allowed, and all of that is', () => {
  const property = fc.property(
    grant,
    fc.array(detail, { maxLength: 3 }),
    fc.array(
      fc.integer({ min: -1, max: 1 }).map((off) => (off === 1 ? 1 : 0)),
      { minLength: 1, maxLength: 2 },
    ),
    ({ domains, taskTypes }, details, off) => {
      const restrictions = {
        domains: domains?.map(({ labels, wildcard }) => `${wildcard ? '*.' : ''}${labels.join('.')}`) ?? null,
        taskTypes,
      }
      const isInside = details.every(
        (it) =>
          (it.domain.text ?? '') !== '' &&
          (domains === null || domains.some((each) => it.domain.labels !== null && isBelow(it.domain.labels, each))) &&
          (taskTypes === null || taskTypes.some((each) => each === it.type)),
      )
      const numbers = details.map(({ detailNo }) => detailNo)
      const isWhole =
        off.every((by) => by === 0) &&
        details.every(({ taskNo }) => taskNo === 't') &&
        !numbers.some((number, index) => numbers.indexOf(number) < index)
      const task = {
        taskNo: 't',
        details: details.map((it) => ({ ...it, domain: it.domain.text })),
        totals: off.map((by) => details.length + by),
      }
      assert.equal(allows(restrictions, task), details.length > 0 && isInside && isWhole)
    },
  )
  fc.assert(property, { numRuns: 3000 })
})

test('whatever upstream says of domains, a grant of one domain allows that one alone', () => {
  const texts = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.webAuthority(),
    fc.domain(),
    fc.string().map((it) => `a.example${it}`),
  )
  const property = fc.property(texts, (domain) => {
    const allowed = allows({ domains: ['a.example'], taskTypes: null }, whole({ domain }))
    if (allowed) assert.match(domain, /^a\.example\.?$/i)
  })
  fc.assert(property, { numRuns: 3000 })
})
