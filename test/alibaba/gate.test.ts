import assert from 'node:assert/strict'
import { mock, type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { createCircuit, type Verdict } from '../../src/alibaba/circuit.ts'
import { createGate, type GateOptions, type Pass, type Refusal, type Wait } from '../../src/alibaba/gate.ts'

const WELL: Verdict = { kind: 'well' }

type Entry = Pass | Refusal | null

const isPass = (entry: Entry | undefined): entry is Pass => entry !== undefined && entry !== null && 'leave' in entry

/** A gate on a clock that only the test moves. */
const start = (t: TestContext, options: Partial<Omit<GateOptions, 'circuit' | 'now'>> = {}) => {
  let atMs = 0
  mock.timers.enable({ apis: ['setTimeout'] })
  t.after(() => mock.timers.reset())
  const now = (): number => atMs
  const circuit = createCircuit({ now })
  const gate = createGate({ circuit, maxConcurrency: 1000, ...options, now })
  const pass = async (ms: number): Promise<void> => {
    for (let left = ms; left > 0; left -= 1) {
      atMs += 1
      mock.timers.tick(1)
      await turn()
    }
  }
  const enter = async (wait: Partial<Wait> = {}) => {
    const entered: { entry?: Entry; atMs?: number } = {}
    gate.enter({ forMs: 60_000, ...wait }).then((entry) => Object.assign(entered, { entry, atMs }))
    await turn()
    return entered
  }
  const mustPass = async (): Promise<Pass> => {
    const { entry } = await enter()
    assert.ok(isPass(entry))
    return entry
  }
  /** Time passes before any timer has fired. */
  const stall = (ms: number): void => {
    atMs += ms
  }
  return { enter, mustPass, pass, stall }
}

/** Lets everything run that waits for nothing but promises. */
const turn = async (): Promise<void> => {
  for (let round = 0; round < 5; round += 1) await Promise.resolve()
}

test('no more are under way at a time than was set, and the first to come is the first to go', async (t) => {
  const { enter, mustPass } = start(t, { maxConcurrency: 2 })
  const [first] = [await mustPass(), await mustPass()]
  const [third, fourth] = [await enter(), await enter()]
  assert.deepEqual([third.entry, fourth.entry], [undefined, undefined])
  first.leave(WELL)
  await turn()
  assert.ok(isPass(third.entry))
  assert.equal(fourth.entry, undefined)
})

test('a thousand get through two at a time, each once', async (t) => {
  const { enter } = start(t, { maxConcurrency: 2 })
  let underWay = 0
  const seen: number[] = []
  for (let index = 0; index < 1000; index += 1) {
    const { entry } = await enter()
    if (!isPass(entry)) continue
    underWay += 1
    seen.push(underWay)
    if (index % 3 === 0) {
      underWay -= 1
      entry.leave(WELL)
    }
  }
  assert.ok(seen.every((count) => count <= 2))
})

test('nobody waits for longer than a second', async (t) => {
  const { enter, mustPass, pass } = start(t, { maxConcurrency: 1 })
  await mustPass()
  const waiting = await enter()
  await pass(999)
  assert.equal(waiting.entry, undefined)
  await pass(1)
  assert.deepEqual(waiting.entry, { reason: 'busy', retryAfterMs: 1000 })
})

test('nor for longer than there is time', async (t) => {
  const { enter, mustPass, pass } = start(t, { maxConcurrency: 1 })
  await mustPass()
  const waiting = await enter({ forMs: 20 })
  await pass(20)
  assert.ok(waiting.entry !== null && waiting.entry !== undefined && 'reason' in waiting.entry)
})

test('after that has happened, whoever would come behind another is refused at once', async (t) => {
  const { enter, mustPass, pass } = start(t, { maxConcurrency: 1 })
  await mustPass()
  for (let round = 0; round < 10; round += 1) {
    await enter()
    await pass(1000)
  }
  await enter()
  const behind = await enter()
  assert.ok(behind.entry !== null && behind.entry !== undefined && 'reason' in behind.entry)
  assert.equal(behind.entry.reason, 'busy')
  assert.ok(behind.entry.retryAfterMs > 1000)
})

test('and when the queue moves again, it is taken in again', async (t) => {
  const { enter, mustPass, pass } = start(t, { maxConcurrency: 1 })
  let holder = await mustPass()
  for (let round = 0; round < 10; round += 1) {
    await enter()
    await pass(1000)
  }
  for (let round = 0; round < 10; round += 1) {
    const next = await enter()
    holder.leave(WELL)
    await turn()
    assert.ok(isPass(next.entry))
    holder = next.entry
  }
  const [ahead, behind] = [await enter(), await enter()]
  assert.deepEqual([ahead.entry, behind.entry], [undefined, undefined])
})

test('whoever leaves the queue makes room and is never let out', async (t) => {
  const { enter, mustPass } = start(t, { maxConcurrency: 1 })
  const holder = await mustPass()
  const leaver = new AbortController()
  const [left, next] = [await enter({ signal: leaver.signal }), await enter()]
  leaver.abort()
  await turn()
  assert.equal(left.entry, null)
  holder.leave(WELL)
  await turn()
  assert.ok(isPass(next.entry))
  assert.equal((await enter({ signal: leaver.signal })).entry, null)
})

test('who comes when the first of the queue is due does not overtake it', async (t) => {
  const { enter, mustPass, pass, stall } = start(t, { maxPerSecond: 10 })
  await mustPass()
  const first = await enter()
  stall(200)
  const second = await enter()
  assert.deepEqual([isPass(first.entry), isPass(second.entry)], [true, false])
  await pass(100)
  assert.ok(isPass(second.entry))
})

test('the first place of the queue is open, however slow it was of late', async (t) => {
  const { enter, mustPass, pass } = start(t, { maxConcurrency: 1 })
  await mustPass()
  for (let round = 0; round < 10; round += 1) {
    await enter()
    await pass(1000)
  }
  assert.equal((await enter({ forMs: 100 })).entry, undefined)
})

test('no more go out in any second than was set, evenly spaced, and the rest is refused at once', async (t) => {
  const { enter, pass } = start(t, { maxPerSecond: 100 })
  await pass(3000)
  const entered = await Promise.all(Array.from({ length: 300 }, () => enter()))
  const refused = entered.filter(({ entry }) => entry !== undefined && !isPass(entry))
  assert.ok(refused.length > 190 && refused.every(({ atMs }) => atMs === 3000))
  for (const { entry } of refused) {
    assert.ok(entry !== null && entry !== undefined && 'reason' in entry && entry.reason === 'busy')
    assert.ok(entry.retryAfterMs > 1000)
  }
  await pass(1000)
  const outAtMs = entered.flatMap(({ entry, atMs }) => (isPass(entry) && atMs !== undefined ? [atMs] : []))
  assert.equal(entered.filter(({ entry }) => entry === undefined).length, 0)
  const inAnySecond = outAtMs.map((from) => outAtMs.filter((at) => at >= from && at < from + 1000).length)
  assert.ok(Math.max(...inAnySecond) <= 102, String(Math.max(...inAnySecond)))
  assert.ok(Math.max(...inAnySecond) >= 98, String(Math.max(...inAnySecond)))
})

test('whatever comes and goes, the limits hold and nobody is forgotten', async (t) => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('enter' as const), forMs: fc.integer({ min: 1, max: 2000 }) }),
    fc.record({ kind: fc.constant('leave' as const) }),
    fc.record({ kind: fc.constant('pass' as const), ms: fc.integer({ min: 1, max: 50 }) }),
  )
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { maxLength: 60 }),
      fc.integer({ min: 1, max: 3 }),
      async (steps, maxConcurrency) => {
        const { enter, pass } = start(t, { maxConcurrency, maxPerSecond: 50 })
        const all: Awaited<ReturnType<typeof enter>>[] = []
        const gone = new Set<Pass>()
        const inside = () => all.flatMap(({ entry }) => (isPass(entry) && !gone.has(entry) ? [entry] : []))
        for (const each of steps) {
          if (each.kind === 'enter') all.push(await enter({ forMs: each.forMs }))
          if (each.kind === 'pass') await pass(each.ms)
          const [oldest] = each.kind === 'leave' ? inside() : []
          if (oldest !== undefined) {
            gone.add(oldest)
            oldest.leave(WELL)
            await turn()
          }
          assert.ok(inside().length <= maxConcurrency)
        }
        await pass(1000)
        assert.ok(all.every(({ entry }) => entry !== undefined))
        mock.timers.reset()
      },
    ),
    { numRuns: 60 },
  )
})

test('while upstream throttles they wait, one goes first, and then the others', async (t) => {
  const { enter, mustPass, pass } = start(t)
  const throttled = await mustPass()
  throttled.leave({ kind: 'throttled', forMs: 500 })
  const [first, second] = [await enter(), await enter()]
  await pass(499)
  assert.deepEqual([first.entry, second.entry], [undefined, undefined])
  await pass(1)
  assert.ok(isPass(first.entry))
  assert.equal(second.entry, undefined)
  first.entry.leave(WELL)
  await turn()
  assert.ok(isPass(second.entry))
})

test('while one goes first there is time to wait for it, at whatever pace', async (t) => {
  const { enter, mustPass, pass } = start(t, { maxPerSecond: 100 })
  const throttled = await mustPass()
  throttled.leave({ kind: 'throttled', forMs: 100 })
  await pass(100)
  const first = await mustPass()
  const others = await Promise.all(Array.from({ length: 20 }, () => enter({ forMs: 600 })))
  assert.ok(others.every(({ entry }) => entry === undefined))
  first.leave(WELL)
  await pass(250)
  assert.ok(others.every(({ entry }) => isPass(entry)))
})

test('what would wait for the end of throttling for too long is told so at once', async (t) => {
  const { enter, mustPass } = start(t)
  const throttled = await mustPass()
  throttled.leave({ kind: 'throttled', forMs: 5000 })
  assert.deepEqual((await enter()).entry, { reason: 'throttled', retryAfterMs: 5000 })
})

test('while upstream is ill nobody waits, and who waited is told', async (t) => {
  const { enter, mustPass, pass } = start(t, { maxConcurrency: 10 })
  const passes = await Promise.all(Array.from({ length: 10 }, mustPass))
  const waiting = await enter()
  for (const { leave } of passes.slice(0, 9)) leave({ kind: 'untold' })
  await turn()
  assert.ok(isPass(waiting.entry))
  for (let round = 0; round < 9; round += 1) (await mustPass()).leave({ kind: 'ill' })
  for (let round = 0; round < 8; round += 1) await mustPass()
  const queued = await enter()
  assert.equal(queued.entry, undefined)
  passes[9]?.leave({ kind: 'ill' })
  await turn()
  assert.deepEqual(queued.entry, { reason: 'ill', retryAfterMs: 5000 })
  assert.deepEqual((await enter()).entry, { reason: 'ill', retryAfterMs: 5000 })
  await pass(5000)
  assert.ok(isPass((await enter()).entry))
})
