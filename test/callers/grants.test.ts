import assert from 'node:assert/strict'
import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { NO_GRANT } from '../../src/callers/caller.ts'
import { createGrants, parseGrants } from '../../src/callers/grants.ts'
import { eventually, startGateway, temporaryFolder } from '../helpers/gateway.ts'
import { startIssuer } from '../helpers/issuer.ts'

const GRANT = { issuer: 'https://a.example', sub: 'ops', scopes: ['tasks:read'] } as const

const ruleOf = (...entries: readonly unknown[]): string | null => {
  const parsed = parseGrants(JSON.stringify(entries))
  return parsed.ok ? null : parsed.rule
}

for (const [issuer, sub, scopes] of [
  ['https://a.example', 'ops', ['tasks:read']],
  ['https://a.example/', 'ops', []],
  ['https://A.example', 'ops', []],
  ['https://b.example', 'ops', []],
  ['https://a.example', 'Ops', []],
  ['https://a.example', 'ops ', []],
  ['https://a.example', '', []],
  ['https://a.example', '__proto__', []],
] as const) {
  test(`"${sub}" of ${issuer} is granted ${scopes.join(', ') || 'nothing'}`, () => {
    assert.deepEqual(createGrants([{ ...NO_GRANT, ...GRANT }]).grantOf(issuer, sub).scopes, scopes)
  })
}

for (const [name, entries, rule] of [
  ['no issuer', [{ ...GRANT, issuer: undefined }], 'entry 1, issuer: must be a text'],
  ['an empty subject', [{ ...GRANT, sub: '' }], 'entry 1, sub: must not be empty'],
  ['a number as subject', [{ ...GRANT, sub: 1 }], 'entry 1, sub: must be a text'],
  ['scopes as a text', [{ ...GRANT, scopes: 'tasks:read' }], 'entry 1, scopes: must be a list of scopes'],
  [
    'an unknown scope',
    [{ ...GRANT, scopes: ['x'] }],
    'entry 1, scopes, 0: must be one of tasks:cancel, tasks:read, audit:read',
  ],
  ['an unknown field', [{ ...GRANT, name: 'ops' }], 'entry 1: has a field that is not known'],
  [
    'a faulty domain',
    [GRANT, { ...GRANT, sub: 'b', domains: ['*.*.example'] }],
    'entry 2, domains, 0: must be a domain, such as example.com, or *.example.com for those below it',
  ],
  ['types as a text', [{ ...GRANT, taskTypes: 'X' }], 'entry 1, taskTypes: must be a list of types of tasks'],
  ['a subject twice', [GRANT, { ...GRANT, scopes: [] }], 'must not list a subject twice'],
] as const) {
  test(`grants with ${name} are refused, and the rule tells where`, () => assert.equal(ruleOf(...entries), rule))
}

test('what a grant is restricted to holds for whom it is granted', () => {
  const parsed = parseGrants(JSON.stringify([{ ...GRANT, domains: ['*.A.example'], taskTypes: [] }]))
  assert.ok(parsed.ok)
  const granted = createGrants(parsed.entries).grantOf(GRANT.issuer, GRANT.sub)
  assert.deepEqual([granted.domains, granted.taskTypes], [['*.a.example'], []])
})

test('one name of two issuers is two subjects', () => {
  assert.equal(ruleOf(GRANT, { ...GRANT, issuer: 'https://b.example' }), null)
})

/** A gateway that grants the given scopes to the subject "shop", and looks at the file all the time. */
const startGranting = async (t: TestContext, scopes: readonly string[]) => {
  const issuer = await startIssuer(t)
  const path = join(await temporaryFolder(t), 'grants.json')
  const textOf = (granted: readonly string[]) => JSON.stringify([{ issuer: issuer.url, sub: 'shop', scopes: granted }])
  const put = async (text: string): Promise<void> => {
    await writeFile(`${path}.new`, text)
    await rename(`${path}.new`, path)
  }
  await put(textOf(scopes))
  const env = { ...issuer.env, GRANTS_FILE: path }
  const readFile = () => textOf(scopes)
  const started = await startGateway(t, { env, readFile, overrides: { timings: { watchEveryMs: 1 } } })
  const scopesOf = async (claims = {}): Promise<readonly string[]> =>
    (await started.api.get('/me').set(await issuer.bearer(claims))).body.scopes
  return { ...started, issuer, put, textOf, scopesOf }
}

test('what is granted by name replaces what a token claims', async (t) => {
  const { scopesOf } = await startGranting(t, ['audit:read'])
  assert.deepEqual(await scopesOf({ scope: 'tasks:cancel' }), ['audit:read'])
  assert.deepEqual(await scopesOf({ scope: undefined }), ['audit:read'])
})

test('whoever is not listed has no scopes, whatever the token claims', async (t) => {
  const { scopesOf, api, issuer } = await startGranting(t, ['tasks:cancel'])
  assert.deepEqual(await scopesOf({ sub: 'other' }), [])
  const { body } = await api.delete('/tasks/x').set(await issuer.bearer({ sub: 'other' }))
  assert.equal(body.code, 'forbidden')
})

test('a grant that is taken back counts no longer, even for a token that was verified before', async (t) => {
  const { api, issuer, put, textOf } = await startGranting(t, ['tasks:read'])
  const headers = await issuer.bearer()
  const scopes = async () => (await api.get('/me').set(headers)).body.scopes
  assert.deepEqual(await scopes(), ['tasks:read'])
  await put(textOf([]))
  await eventually(async () => ((await scopes()).length === 0 ? true : undefined))
})

test('a faulty new file of grants changes nothing and raises an alarm', async (t) => {
  const { scopesOf, put, logLines } = await startGranting(t, ['tasks:read'])
  await put('[{"issuer":"canary"}]')
  const line = await eventually(() => logLines.find((it) => it.includes('"level":"error"')))
  assert.match(line, /"setting":"GRANTS_FILE"/)
  assert.doesNotMatch(line, /canary/)
  assert.deepEqual(await scopesOf(), ['tasks:read'])
})
