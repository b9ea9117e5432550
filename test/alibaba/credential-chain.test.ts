import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { createCredentialChain, type ExpiringCredentials } from '../../src/alibaba/credential-chain.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { eventually } from '../helpers/gateway.ts'

const START_MS = Date.UTC(2027, 0, 1)
const HOUR_MS = 3_600_000

type Answer = () => Promise<ExpiringCredentials>

const keysOf = (version: string) => ({ accessKeyId: `id-${version}`, accessKeySecret: `secret-${version}` })
/** Keys that serve for so long after the start. */
const lasting =
  (version: string, lifeMs = HOUR_MS): Answer =>
  async () => ({ credentials: keysOf(version), expiresAtMs: START_MS + lifeMs })
const never: Answer = () => new Promise(() => {})
const failing: Answer = () => Promise.reject(new Error('canary'))

/** A chain with scripted results, and a clock that only the test moves. */
const start = (t: TestContext, answer = lasting('1'), timeoutMs = 10_000) => {
  let nowMs = START_MS
  let asked = 0
  const lines: Readonly<Record<string, unknown>>[] = []
  const source = createCredentialChain({
    fetchCredentials: () => {
      asked += 1
      return answer()
    },
    log: createLog({ level: 'info', destination: { write: (line) => void lines.push(JSON.parse(line)) } }),
    now: () => nowMs,
    timeoutMs,
  })
  t.after(source.close)
  const id = async () => (await source.get())?.accessKeyId ?? null
  return {
    source,
    lines,
    id,
    became: (wanted: string) => eventually(async () => ((await id()) === wanted ? true : undefined)),
    pass: (ms: number) => {
      nowMs += ms
    },
    answerWith: (next: Answer) => {
      answer = next
    },
    asked: () => asked,
  }
}

test('the first keys are fetched before the first use, which waits for them', async (t) => {
  const { source, id, asked } = start(t)
  assert.equal(source.isReady(), false)
  assert.equal(asked(), 1)
  assert.equal(await id(), 'id-1')
  assert.deepEqual([source.isReady(), asked()], [true, 1])
})

test('a hundred callers at once cause one way through the chain', async (t) => {
  const { source, asked } = start(t)
  const found = await Promise.all(Array.from({ length: 100 }, source.get))
  assert.deepEqual(new Set(found.map((keys) => keys?.accessKeyId)), new Set(['id-1']))
  assert.equal(asked(), 1)
})

test('keys are fetched anew in the second half of their life, while the old ones go on to serve', async (t) => {
  const { id, became, pass, answerWith, asked } = start(t, lasting('1', 20 * 60_000))
  await id()
  pass(9 * 60_000)
  assert.deepEqual([await id(), asked()], ['id-1', 1])
  answerWith(lasting('2'))
  pass(2 * 60_000)
  assert.deepEqual([await id(), asked()], ['id-1', 2])
  await became('id-2')
})

test('a probe is enough to have them fetched anew', async (t) => {
  const { source, id, became, pass, answerWith } = start(t)
  await id()
  answerWith(lasting('2', 2 * HOUR_MS))
  pass(HOUR_MS / 2)
  assert.equal(source.isReady(), true)
  await id()
  await became('id-2')
})

test('keys that say nothing of their end are fetched anew every half hour', async (t) => {
  const { id, became, pass, answerWith, asked } = start(t, lasting('1', Number.POSITIVE_INFINITY))
  await id()
  pass(29 * 60_000)
  await id()
  assert.equal(asked(), 1)
  answerWith(lasting('2'))
  pass(60_000)
  await id()
  await became('id-2')
  assert.equal(asked(), 2)
})

test('while the chain fails the last keys serve until they expire, and then there are none', async (t) => {
  const { source, id, pass, answerWith } = start(t)
  await id()
  answerWith(failing)
  pass(HOUR_MS - 1)
  assert.equal(await id(), 'id-1')
  assert.equal(source.isReady(), true)
  pass(1)
  assert.equal(source.isReady(), false)
  assert.equal(await id(), null)
})

test('a chain that failed is asked again after a pause, and not before, however many want keys', async (t) => {
  const { source, id, pass, answerWith, asked } = start(t, failing)
  assert.equal(await id(), null)
  assert.deepEqual(await Promise.all(Array.from({ length: 100 }, source.get)), Array(100).fill(null))
  assert.equal(asked(), 1)
  answerWith(lasting('1'))
  pass(2000)
  assert.deepEqual([await id(), asked()], ['id-1', 2])
})

test('a clock that is set back does not keep a chain that failed from being asked', async (t) => {
  const { id, pass, answerWith } = start(t, failing)
  await id()
  answerWith(lasting('1'))
  pass(-HOUR_MS)
  assert.equal(await id(), 'id-1')
})

test('a chain that never answers is given up', async (t) => {
  const { id, lines } = start(t, never, 1)
  assert.equal(await id(), null)
  assert.equal(lines[0]?.reason, 'took too long')
})

test('keys that have expired already are none', async (t) => {
  const { id, lines } = start(t, lasting('1', 0))
  assert.equal(await id(), null)
  assert.equal(lines.at(-1)?.reason, 'has only expired credentials, by the clock of this machine')
})

test('rejected credentials are read again, once for all requests that were rejected', async (t) => {
  const { source, id, answerWith, asked } = start(t)
  await id()
  answerWith(lasting('2'))
  const found = await Promise.all(Array.from({ length: 100 }, () => source.renewAfterRejection(keysOf('1'))))
  for (const keys of found) assert.deepEqual(keys, keysOf('2'))
  assert.equal(asked(), 2)
})

test('keys that were refused when they had expired are replaced by those that are being fetched', async (t) => {
  const { source, id, answerWith, pass } = start(t)
  await id()
  const fetched = Promise.withResolvers<ExpiringCredentials>()
  answerWith(() => fetched.promise)
  pass(HOUR_MS)
  source.isReady()
  const others = source.renewAfterRejection(keysOf('1'))
  fetched.resolve({ credentials: keysOf('2'), expiresAtMs: START_MS + 2 * HOUR_MS })
  assert.deepEqual(await others, keysOf('2'))
})

test('and where none are being fetched, they are now', async (t) => {
  const { source, id, answerWith, pass } = start(t)
  await id()
  answerWith(failing)
  pass(HOUR_MS)
  assert.equal(await id(), null)
  answerWith(lasting('2', 3 * HOUR_MS))
  pass(2000)
  assert.deepEqual(await source.renewAfterRejection(keysOf('1')), keysOf('2'))
  assert.equal(await id(), 'id-2')
})

test('keys that stay refused do not have the chain asked by each request', async (t) => {
  const { source, id, pass, asked } = start(t)
  await id()
  assert.equal(await source.renewAfterRejection(keysOf('1')), null)
  for (let request = 0; request < 100; request += 1) assert.equal(await source.renewAfterRejection(keysOf('1')), null)
  assert.equal(asked(), 2)
  // Requests in the meantime do not postpone the next read.
  for (let step = 0; step < 2; step += 1) {
    pass(1000)
    await source.renewAfterRejection(keysOf('1'))
  }
  assert.equal(asked(), 3)
})

test('the error of the chain is not logged', async (t) => {
  const { id, lines } = start(t, failing)
  await id()
  assert.deepEqual(
    lines.map(({ level, setting, reason }) => [level, setting, reason]),
    [['error', 'CREDENTIALS', 'has no credentials']],
  )
  assert.doesNotMatch(JSON.stringify(lines), /canary/)
})

for (const [name, spoiled] of [
  ['two lines', 'id\nother'],
  ['quotes', '"id"'],
  ['a character that no header can carry', 'id-\u4e2d'],
  ['a NUL', 'id\u0000'],
  ['nothing but a line feed', '\n'],
] as const) {
  test(`keys of the chain with ${name} are not taken, and the old ones go on to serve`, async (t) => {
    for (const part of ['accessKeyId', 'accessKeySecret', 'securityToken']) {
      const { id, pass, answerWith, lines, asked } = start(t, lasting('1', 20 * 60_000))
      await id()
      answerWith(async () => ({ credentials: { ...keysOf('2'), [part]: spoiled }, expiresAtMs: START_MS + HOUR_MS }))
      pass(11 * 60_000)
      await id()
      const alarm = await eventually(() => lines.find(({ level }) => level === 'error'))
      assert.deepEqual([await id(), asked(), alarm.reason], ['id-1', 2, 'has credentials with invalid characters'])
      assert.doesNotMatch(JSON.stringify(lines), /other|\u4e2d/)
    }
  })
}

test('white space at the ends of keys of the chain does not count', async (t) => {
  const dressed = { accessKeyId: 'id-2\n', accessKeySecret: '\ufeffsecret-2\r\n', securityToken: ' token\u200b' }
  const { source } = start(t, async () => ({ credentials: dressed, expiresAtMs: START_MS + HOUR_MS }))
  assert.deepEqual(await source.get(), { ...keysOf('2'), securityToken: 'token' })
})
