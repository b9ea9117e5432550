import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { comparePeers } from '../../bench/peers.ts'
import { duplicates, type Finding, quota, slowUpstream } from '../../bench/scenarios.ts'
import { openEnvironment, START } from '../../bench/subjects.ts'
import { requires } from '../helpers/requirements.ts'

// A short form of `npm run bench`, from the sources. Absolute times are not reliable while other tests run, so these
// tests check a ratio within one run, and counts.

const open = async (t: TestContext) => {
  const environment = await openEnvironment([...START.slice(0, -1), 'src/server.ts'])
  t.after(() => environment.close())
  return environment
}

/** Measured alone it is less than one. */
const RATIO_MAX = 1.5

test('a cancel costs about as much as with the same protections written by hand', async (t) => {
  if (!requires(t, 'nginx') || !requires(t, 'procfs')) return
  const rounds = {
    rounds: 3,
    seconds: 1,
    // On a slow machine the compiler has not optimized the code of the gateway before.
    warmUpSeconds: 12,
    concurrencies: [16],
    print: (line: string) => t.diagnostic(line),
  }
  const [gateway, byHand] = await comparePeers(await open(t), { ...rounds, peers: ['by-hand'] })
  const cpu = (result: typeof gateway): number => result?.medians.get(16)?.cpuMicroseconds ?? Number.NaN
  const ratio = cpu(gateway) / cpu(byHand)
  t.diagnostic(`${ratio.toFixed(2)} of what it costs by hand`)
  assert.ok(ratio <= RATIO_MAX, String(ratio))
})

/** A busy machine lets some of a quota expire. */
const LEEWAY = 0.75

/** The counts whose aims are not reached. Memory is excluded, since Node needs more when it runs from the sources. */
const missed = (findings: readonly Finding[]): readonly Finding[] =>
  findings
    .filter(({ unit }) => unit !== 'ms' && unit !== 'MiB')
    .filter(({ found, aim, isMost, unit }) => (isMost ? found > aim : found < aim * (unit === 'rate' ? LEEWAY : 1)))

for (const [scenario, scope] of [
  [duplicates, { rounds: 1, seconds: 1, many: 300 }],
  [quota, { rounds: 1, seconds: 4, many: 1 }],
  [slowUpstream, { rounds: 1, seconds: 1, many: 300 }],
] as const) {
  test(`under load, ${scenario.name} reaches its aims`, async (t) => {
    if (!requires(t, 'procfs')) return
    const findings = await scenario(await open(t), scope)
    for (const { what, found } of findings) t.diagnostic(`${what}: ${found.toFixed(2)}`)
    assert.ok(findings.length > 0)
    assert.deepEqual(missed(findings), [])
  })
}
