import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { comparePeers, cpuRatio } from '../../bench/peers.ts'
import { measurePromotion } from '../../bench/promotion.ts'
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

/**
 * Two cores shared with up to nine other busy processes gave medians of 1.60, 1.67, 1.74 and 1.76 (quartiles 1.44 to
 * 2.00). Fewer of them, and 500 requests in a slice, gave 1.43 in the first thirty slices and 1.32 afterwards: V8 still
 * compiles in the beginning, and the gateway has more code. Twice the cost of 1.32 exceeds this limit.
 */
const RATIO_MAX = 2.3

test('a cancel costs about as much as with the same protections written by hand', async (t) => {
  if (!requires(t, 'nginx') || !requires(t, 'procfs')) return
  const [gateway, byHand] = await comparePeers(await open(t), {
    slices: 14,
    requests: 250,
    warmUpRequests: 2000,
    concurrencies: [16],
    peers: ['by-hand'],
    print: (line) => t.diagnostic(line),
  })
  assert.ok(gateway && byHand)
  const { median, low, high } = cpuRatio(gateway, byHand, 16)
  t.diagnostic(`${median.toFixed(2)} of what it costs by hand, quartiles ${low.toFixed(2)} and ${high.toFixed(2)}`)
  assert.ok(median <= RATIO_MAX, String(median))
})

/**
 * A stream of got that references its request gives 14,300. Measured are 1,200 to 1,350: the stream, until V8 has
 * optimized Node's constructor of it, and about 200 for the open cancellation that the follow-up keeps.
 */
const PROMOTED_BYTES_MAX = 2048

test('a finished request leaves hardly anything in the old generation', async (t) => {
  if (!requires(t, 'procfs')) return
  const windows = await measurePromotion(await open(t), [1500, 3500, 5500], 10)
  for (const { requests, bytesPerRequest, collections } of windows) {
    t.diagnostic(`requests ${requests}: ${bytesPerRequest.toFixed(0)} bytes each in ${collections} collections`)
    assert.ok(collections > 2)
  }
  // What the compiler allocates in one of the windows is promoted too.
  assert.ok(Math.min(...windows.map(({ bytesPerRequest }) => bytesPerRequest)) <= PROMOTED_BYTES_MAX)
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
