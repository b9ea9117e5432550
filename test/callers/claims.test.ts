import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type ClaimNames, grantIn } from '../../src/callers/claims.ts'
import { assertLinear, type TextOf } from '../helpers/growth.ts'

const NAMES: ClaimNames = { scopeClaim: 'scope', domainsClaim: 'domains', taskTypesClaim: 'types' }
const NOTHING = { scopes: [], domains: [], taskTypes: [] }

/** The maximum length of a provider's response, and so of its claims. */
const MAX_BYTES = 256 * 1024

const repeated =
  (claim: string, element: string): TextOf =>
  (length) =>
    JSON.stringify({ [claim]: Array(Math.floor(length / (element.length + 3))).fill(element) })

const zeros =
  (claim: string): TextOf =>
  (length) =>
    JSON.stringify({ [claim]: Array(Math.floor(length / 2)).fill(0) })

const text =
  (claim: string, element: string): TextOf =>
  (length) =>
    JSON.stringify({ [claim]: element.repeat(length / element.length) })

const SHAPES: Readonly<Record<string, TextOf>> = {
  'scopes that are zeros': zeros('scope'),
  'scopes without end': text('scope', 'x '),
  'scopes that are spaces': text('scope', ' '),
  'a list of scopes without end': repeated('scope', 'tasks:read'),
  'domains that are zeros': zeros('domains'),
  'domains that are none': repeated('domains', 'x'),
  'domains without end': repeated('domains', 'a.b'),
  'domains in other letters without end': repeated('domains', 'ü.example'),
  'a domain of combining marks': (length) => JSON.stringify({ domains: ['\u0301\u0323'.repeat(length / 2)] }),
  'types that are zeros': zeros('types'),
  'types without end': repeated('types', 'CHG_DNS'),
}

for (const [name, textOf] of Object.entries(SHAPES)) {
  test(`${name} grant nothing, in linear time`, () => {
    assert.deepEqual(grantIn(JSON.parse(textOf(MAX_BYTES)), NAMES), NOTHING)
    // The yardstick is that of a larger text: the smallest times can't be compared.
    assertLinear(
      (length) => textOf(length / 4),
      4 * MAX_BYTES,
      (json) => grantIn(JSON.parse(json), NAMES),
    )
  })
}

test('a list of a thousand is read, and a longer one leaves nothing', () => {
  const domains = Array.from({ length: 1001 }, (_, index) => `${index}.example`)
  const scope = Array(1001).fill('tasks:read')
  assert.deepEqual(grantIn({ domains, scope, types: Array(1001).fill('A') }, NAMES), NOTHING)
  const claims = { domains: domains.slice(1), scope: scope.slice(1), types: Array(1000).fill('A') }
  const { scopes, ...lists } = grantIn(claims, NAMES)
  assert.deepEqual([scopes, lists.domains?.length, lists.taskTypes?.length], [['tasks:read'], 1000, 1000])
})
