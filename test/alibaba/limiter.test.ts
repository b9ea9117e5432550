import assert from 'node:assert/strict'
import { mock, type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { createCircuits, type HealthSignal } from '../../src/alibaba/circuit-breaker.ts'
import { createLimiter, limitsFor, type Rejection, type RunOptions } from '../../src/alibaba/limiter.ts'
import { PRIORITIES, type Priority } from '../../src/priority.ts'

const OK: HealthSignal = { kind: 'ok' }

interface Measured {
  readonly health: HealthSignal
}

/** An attempt that is in flight until it is ended. */
interface Pass {
  readonly revoked: AbortSignal | undefined
  leave(health: HealthSignal): Promise<void>
}

type Entry = Pass | Rejection | null

const isPass = (entry: Entry | undefined): entry is Pass => entry !== undefined && entry !== null && 'leave' in entry

const isRejected = (entry: Entry | undefined): boolean => entry !== undefined && entry !== null && 'reason' in entry

/** A limiter on a clock that only the test moves. */
const start = (
  t: TestContext,
  options: Partial<Omit<Parameters<typeof createLimiter>[0], 'circuits' | 'now'>> = {},
) => {
  let atMs = 0
  mock.timers.enable({ apis: ['setTimeout'] })
  t.after(() => mock.timers.reset())
  const now = (): number => atMs
  const circuits = createCircuits({ now })
  const limiter = createLimiter({ circuits, maxConcurrency: 1000, ...options, now })
  const pass = async (ms: number): Promise<void> => {
    for (let left = ms; left > 0; left -= 1) {
      atMs += 1
      mock.timers.tick(1)
      await turn()
    }
  }
  const enter = async (wait: Partial<RunOptions> = {}) => {
    const entered: { entry?: Entry; atMs?: number } = {}
    const run = limiter.run<Measured>({ priority: 'cancel', forMs: 60_000, ...wait }, ({ revoked }) => {
      const done = Promise.withResolvers<Measured | null>()
      const leave = (health: HealthSignal): Promise<void> => {
        done.resolve({ health })
        return turn()
      }
      const entry = { revoked, leave }
      revoked?.addEventListener('abort', () => done.resolve(null))
      Object.assign(entered, { entry, atMs })
      return done.promise
    })
    run.then((result) => {
      if (entered.entry === undefined && (result === null || 'reason' in result)) {
        Object.assign(entered, { entry: result, atMs })
      }
    })
    await turn()
    return entered
  }
  const mustPass = async (priority: Priority = 'cancel'): Promise<Pass> => {
    const { entry } = await enter({ priority })
    assert.ok(isPass(entry))
    return entry
  }
  /** Time passes before any timer has fired. */
  const stall = (ms: number): void => {
    atMs += ms
  }
  return { limiter, enter, mustPass, pass, stall }
}

/** Lets everything run that waits for nothing but promises. */
const turn = async (): Promise<void> => {
  for (let round = 0; round < 10; round += 1) await Promise.resolve()
}

test('no more are in flight than was set, and the first to come is the first to be sent', async (t) => {
  const { enter, mustPass } = start(t, { maxConcurrency: 2 })
  const [first] = [await mustPass(), await mustPass()]
  const [third, fourth] = [await enter(), await enter()]
  assert.deepEqual([third.entry, fourth.entry], [undefined, undefined])
  await first.leave(OK)
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
      entry.leave(OK)
    }
  }
  assert.ok(seen.every((count) => count <= 2))
})

test('no attempt waits for longer than a second', async (t) => {
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

test('after that has happened, an attempt behind another is rejected at once', async (t) => {
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
    await holder.leave(OK)
    await turn()
    assert.ok(isPass(next.entry))
    holder = next.entry
  }
  const [ahead, behind] = [await enter(), await enter()]
  assert.deepEqual([ahead.entry, behind.entry], [undefined, undefined])
})

test('an abandoned attempt leaves the queue and is never sent', async (t) => {
  const { enter, mustPass } = start(t, { maxConcurrency: 1 })
  const holder = await mustPass()
  const leaver = new AbortController()
  const [left, next] = [await enter({ signal: leaver.signal }), await enter()]
  leaver.abort()
  await turn()
  assert.equal(left.entry, null)
  await holder.leave(OK)
  await turn()
  assert.ok(isPass(next.entry))
  assert.equal((await enter({ signal: leaver.signal })).entry, null)
})

test('an attempt that comes when the first of the queue is due does not overtake it', async (t) => {
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

test('at any arrivals and departures the limits hold and no attempt is forgotten', async (t) => {
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
            await oldest.leave(OK)
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

test('while the upstream throttles attempts wait, one probes, and then the others are sent', async (t) => {
  const { enter, mustPass, pass } = start(t)
  const throttled = await mustPass()
  await throttled.leave({ kind: 'throttled', forMs: 500 })
  const [first, second] = [await enter(), await enter()]
  await pass(499)
  assert.deepEqual([first.entry, second.entry], [undefined, undefined])
  await pass(1)
  assert.ok(isPass(first.entry))
  assert.equal(second.entry, undefined)
  await first.entry.leave(OK)
  await turn()
  assert.ok(isPass(second.entry))
})

test('during a probe there is time to wait for it, at any pace', async (t) => {
  const { enter, mustPass, pass } = start(t, { maxPerSecond: 100 })
  const throttled = await mustPass()
  await throttled.leave({ kind: 'throttled', forMs: 100 })
  await pass(100)
  const first = await mustPass()
  const others = await Promise.all(Array.from({ length: 20 }, () => enter({ forMs: 600 })))
  assert.ok(others.every(({ entry }) => entry === undefined))
  await first.leave(OK)
  await pass(250)
  assert.ok(others.every(({ entry }) => isPass(entry)))
})

test('an attempt that would wait too long for the end of throttling is rejected at once', async (t) => {
  const { enter, mustPass } = start(t)
  const throttled = await mustPass()
  await throttled.leave({ kind: 'throttled', forMs: 5000 })
  assert.deepEqual((await enter()).entry, { reason: 'throttled', retryAfterMs: 5000 })
})

test('while the circuit is open after failures no attempt waits, and those that waited are rejected', async (t) => {
  const { enter, mustPass, pass } = start(t, { maxConcurrency: 10 })
  const passes = await Promise.all(Array.from({ length: 10 }, mustPass))
  const waiting = await enter()
  for (const { leave } of passes.slice(0, 9)) await leave({ kind: 'ignore' })
  await turn()
  assert.ok(isPass(waiting.entry))
  for (let round = 0; round < 9; round += 1) await (await mustPass()).leave({ kind: 'failure' })
  for (let round = 0; round < 8; round += 1) await mustPass()
  const queued = await enter()
  assert.equal(queued.entry, undefined)
  await passes[9]?.leave({ kind: 'failure' })
  await turn()
  assert.deepEqual(queued.entry, { reason: 'unhealthy', retryAfterMs: 5000 })
  assert.deepEqual((await enter()).entry, { reason: 'unhealthy', retryAfterMs: 5000 })
  await pass(5000)
  assert.ok(isPass((await enter()).entry))
})

test('waiting cancels are sent before everything else, in the order of the priorities', async (t) => {
  const { enter, mustPass } = start(t, { maxConcurrency: 1 })
  let holder = await mustPass('cancel')
  const waiting = await Promise.all([...PRIORITIES].reverse().map((priority) => enter({ priority })))
  for (const entered of waiting.reverse()) {
    assert.equal(isPass(entered.entry), false)
    await holder.leave(OK)
    assert.ok(isPass(entered.entry))
    holder = entered.entry
  }
})

for (const maxConcurrency of [4, 5, 8, 64]) {
  test(`of ${maxConcurrency} places each priority leaves some to the more important ones`, async (t) => {
    const { enter, limiter } = start(t, { maxConcurrency })
    const fill = async (priority: Priority): Promise<number> => {
      for (let index = 0; index < maxConcurrency; index += 1) await enter({ priority })
      return limiter.inFlight(priority)
    }
    const counts = [await fill('read'), await fill('follow-up'), await fill('check'), await fill('cancel')]
    assert.ok(
      counts.every((count) => count >= 1),
      String(counts),
    )
    assert.equal(
      counts.reduce((sum, count) => sum + count),
      maxConcurrency,
    )
    assert.equal(counts[0], limitsFor(maxConcurrency).read)
  })
}

for (const [maxConcurrency, holder, newcomer, expected] of [
  [1, 'read', 'cancel', true],
  [1, 'read', 'check', true],
  [1, 'read', 'follow-up', true],
  [1, 'follow-up', 'cancel', true],
  [1, 'follow-up', 'read', false],
  [1, 'check', 'cancel', true],
  [1, 'follow-up', 'check', true],
  [1, 'cancel', 'check', false],
  [1, 'check', 'read', false],
  [1, 'cancel', 'cancel', false],
  [1, 'read', 'read', false],
  [2, 'read', 'follow-up', true],
  [2, 'read', 'check', true],
  [2, 'follow-up', 'check', true],
  [3, 'read', 'follow-up', true],
  [2, 'follow-up', 'read', false],
] as const) {
  test(`with ${maxConcurrency} places a ${newcomer} ${expected ? 'takes' : 'does not take'} the one of a ${holder}`, async (t) => {
    const { enter, mustPass } = start(t, { maxConcurrency })
    const held = await mustPass(holder)
    const { entry } = await enter({ priority: newcomer })
    assert.deepEqual([held.revoked?.aborted ?? false, isPass(entry)], [expected, expected])
  })
}

test('with two places a cancel has one beside a read', async (t) => {
  const { limiter, enter, mustPass } = start(t, { maxConcurrency: 2 })
  const read = await mustPass('read')
  await enter({ priority: 'read' })
  await mustPass('cancel')
  assert.deepEqual([read.revoked?.aborted, limiter.inFlight('read'), limiter.waiting('read')], [false, 1, 1])
})

test('a cancel is sent at the next moment that the rate allows, however many reads wait for it', async (t) => {
  const { enter, pass } = start(t, { maxPerSecond: 10 })
  await pass(1000)
  const reads = await Promise.all(Array.from({ length: 40 }, () => enter({ priority: 'read' })))
  const waiting = reads.filter(({ entry }) => entry === undefined)
  assert.ok(waiting.length > 5 && reads.some(({ entry }) => isRejected(entry)))
  const [first, second] = [await enter({ forMs: 210 }), await enter({ forMs: 210 })]
  assert.deepEqual([first.entry, second.entry], [undefined, undefined])
  await pass(200)
  assert.ok(isPass(first.entry) && isPass(second.entry))
  assert.ok(waiting.every(({ entry }) => !isPass(entry)))
})

test('at one attempt a second a cancel that comes just after a read is sent, again and again', async (t) => {
  const { enter, pass } = start(t, { maxPerSecond: 1 })
  await pass(1000)
  for (let round = 0; round < 5; round += 1) {
    const read = await enter({ priority: 'read' })
    assert.equal(isRejected(read.entry), false)
    if (!isPass(read.entry)) await pass(1000)
    assert.ok(isPass(read.entry))
    const cancel = await enter()
    await enter({ priority: 'read' })
    await pass(1000)
    assert.ok(isPass(cancel.entry))
    await pass(1000)
  }
})

test('reads go on between cancels that are few', async (t) => {
  const { enter, pass } = start(t, { maxPerSecond: 10 })
  await pass(1000)
  const reads: Awaited<ReturnType<typeof enter>>[] = []
  for (let round = 0; round < 20; round += 1) {
    if (round % 2 === 0) await enter()
    reads.push(await enter({ priority: 'read' }))
    await pass(100)
  }
  const sent = reads.filter(({ entry }) => isPass(entry)).length
  assert.ok(sent >= 8, String(sent))
})

test('no read overtakes a cancel that is due', async (t) => {
  const { enter, mustPass, stall } = start(t, { maxPerSecond: 10 })
  await mustPass()
  const cancel = await enter()
  stall(200)
  const read = await enter({ priority: 'read' })
  assert.deepEqual([isPass(cancel.entry), isPass(read.entry)], [true, false])
})

test('slow reads in the queue do not make a cancel be rejected', async (t) => {
  const { enter, mustPass, pass } = start(t, { maxConcurrency: 2 })
  await mustPass('read')
  for (let round = 0; round < 10; round += 1) {
    await enter({ priority: 'read' })
    await pass(1000)
  }
  assert.ok(isRejected((await enter({ priority: 'read' })).entry) === false)
  assert.ok(isRejected((await enter({ priority: 'read' })).entry))
  const holder = await mustPass('cancel')
  const [first, second] = [await enter(), await enter()]
  await holder.leave(OK)
  assert.ok(isPass(first.entry))
  await first.entry.leave(OK)
  assert.ok(isPass(second.entry))
})

test('failing reads hold back reads alone, and throttled ones hold back all', async (t) => {
  const { enter, mustPass } = start(t)
  for (let round = 0; round < 10; round += 1) await (await mustPass('read')).leave({ kind: 'failure' })
  assert.deepEqual((await enter({ priority: 'read' })).entry, { reason: 'unhealthy', retryAfterMs: 5000 })
  for (const priority of ['check', 'follow-up'] as const) await mustPass(priority)
  await (await mustPass('cancel')).leave({ kind: 'throttled', forMs: 2000 })
  for (const priority of ['cancel', 'check', 'follow-up'] as const) {
    assert.deepEqual((await enter({ priority })).entry, { reason: 'throttled', retryAfterMs: 2000 })
  }
})

test('a read that probes after throttling and does not end holds up no cancel', async (t) => {
  const { enter, mustPass, pass } = start(t)
  await (await mustPass('read')).leave({ kind: 'throttled', forMs: 100 })
  await pass(100)
  await mustPass('read')
  assert.equal(isPass((await enter({ priority: 'read' })).entry), false)
  const cancel = await mustPass('cancel')
  await cancel.leave(OK)
  await mustPass('read')
})

test('work that fails gives its place back', async (t) => {
  const { limiter, mustPass } = start(t, { maxConcurrency: 1 })
  await assert.rejects(
    limiter.run({ priority: 'cancel', forMs: 1000 }, () => Promise.reject(new Error('internal error'))),
    /internal error/,
  )
  await mustPass()
})
