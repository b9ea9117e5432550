import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { setTimeout as pause, setImmediate } from 'node:timers/promises'
import type { Fault } from '../../sandbox/src/server.ts'
import { openSqliteStore } from '../../src/audit/sqlite.ts'
import type { AuditRecord } from '../../src/audit/store.ts'
import { createEnds } from '../../src/tasks/ends.ts'
import { deadlineIn } from '../../src/time.ts'
import { recordOf } from '../helpers/audit-events.ts'
import { asAuditor, asOperator, asReader, eventually, type Started, startGateway } from '../helpers/gateway.ts'

const DAY_MS = 86_400_000
const HOUR_MS = 3_600_000
/** The wait of a request ends with its result: the machine may be busy. */
const PATIENT = { REQUEST_TIMEOUT_MS: '60000', SHUTDOWN_GRACE_MS: '65000' }
const QUICK = { settlementPauseMs: () => 20, followUpCallEveryMs: 20, followUpQuietMs: 300, lookupTtlMs: 0 }
const WITHOUT_EFFECT: Fault = { reply: 'envelope', effect: false }
const DOWN: Fault = { reply: { status: 500, code: 'InternalError' } }

/** Moves clocks while a gateway runs. */
interface Clocks {
  /** The time of tasks, which complete when it is an hour later. */
  readonly passForTasks: (ms: number) => void
  /** The time of the follow-up, which ends after a day. */
  readonly passForFollowUp: (ms: number) => void
}

interface Behaviour {
  readonly name: string
  readonly lifecycle: { readonly cancellingMs: number }
  readonly fault?: Fault
  /** After the cancel is accepted. */
  readonly after?: (started: Started, taskNo: string, clocks: Clocks) => Promise<unknown> | unknown
  readonly outcome: 'cancelled' | 'too-late' | 'accepted'
  /** Default: whether the outcome is not `accepted`. */
  readonly isFinal?: boolean
  readonly task: { readonly status: string; readonly cancelStatus: string }
}

/** Some readings of lists, the first of which is evaluated before the last one begins. */
const readTwice = async ({ upstream }: Started): Promise<void> => {
  for (let readings = 0; readings < 2; readings += 1) await upstream.nextCall('QueryTaskList')
}

const CANCELLED = { status: 'complete', cancelStatus: 'cancelled' }
const BEING_CANCELLED = { status: 'executing', cancelStatus: 'cancelling' }
const NEVER_CANCELLED = { status: 'complete', cancelStatus: 'none' }

const BEHAVIOURS: readonly Behaviour[] = [
  { name: 'is cancelled soon', lifecycle: { cancellingMs: 50 }, outcome: 'cancelled', task: CANCELLED },
  { name: 'is cancelled late', lifecycle: { cancellingMs: 700 }, outcome: 'cancelled', task: CANCELLED },
  {
    name: 'is never cancelled',
    lifecycle: { cancellingMs: DAY_MS },
    outcome: 'accepted',
    task: BEING_CANCELLED,
  },
  {
    name: 'completes first',
    lifecycle: { cancellingMs: 0 },
    fault: WITHOUT_EFFECT,
    after: (_started, _taskNo, { passForTasks }) => passForTasks(HOUR_MS),
    outcome: 'too-late',
    task: NEVER_CANCELLED,
  },
  {
    name: 'is cancelled by another caller later',
    lifecycle: { cancellingMs: 0 },
    fault: WITHOUT_EFFECT,
    after: ({ api }, taskNo) => api.delete(`/tasks/${taskNo}`).set(asAuditor).expect(202),
    outcome: 'cancelled',
    task: CANCELLED,
  },
  {
    name: 'shows complete for one reading, and is executed and cancelled then',
    lifecycle: { cancellingMs: 0 },
    fault: WITHOUT_EFFECT,
    after: async (started, taskNo, { passForTasks }) => {
      passForTasks(HOUR_MS)
      await started.upstream.nextCall('QueryTaskList')
      passForTasks(-HOUR_MS)
      await readTwice(started)
      assert.equal((await started.record(taskNo)).outcome, 'accepted')
      await started.api.delete(`/tasks/${taskNo}`).set(asAuditor).expect(202)
    },
    outcome: 'cancelled',
    task: CANCELLED,
  },
  {
    name: 'disappears from the list',
    lifecycle: { cancellingMs: DAY_MS },
    after: async (started, taskNo) => {
      await readTwice(started)
      started.upstream.removeTask(taskNo)
      await readTwice(started)
    },
    outcome: 'accepted',
    task: BEING_CANCELLED,
  },
  {
    name: 'is not cancelled for a day',
    lifecycle: { cancellingMs: 10 * DAY_MS },
    after: async (started, _taskNo, { passForFollowUp }) => {
      await readTwice(started)
      passForFollowUp(DAY_MS)
    },
    outcome: 'accepted',
    isFinal: true,
    task: BEING_CANCELLED,
  },
  {
    name: 'cannot be read for a while',
    lifecycle: { cancellingMs: 50 },
    after: ({ upstream }) => upstream.fault('QueryTaskList', DOWN, 5),
    outcome: 'cancelled',
    task: CANCELLED,
  },
]

/** Follows the ends as another system does. */
const readFeed = async ({ api }: Started, from?: string) => {
  const query = { sort: 'finished', limit: 1, ...(from === undefined ? {} : { cursor: from }) }
  const { body } = await api.get('/cancellations').query(query).set(asAuditor).expect(200)
  return body
}

for (const isWaiting of [false, true]) {
  for (const { name, lifecycle, fault, after, outcome, isFinal = outcome !== 'accepted', task } of BEHAVIOURS) {
    test(`a task that ${name}: ${outcome}, ${isWaiting ? 'for a request that waits' : 'without a request'}`, async (t) => {
      const shiftsMs = { tasks: 0, followUp: 0 }
      const sandbox = { waitingMs: 0, ...lifecycle, now: () => Date.now() + shiftsMs.tasks }
      const overrides = { timings: QUICK, now: () => Date.now() + shiftsMs.followUp }
      const started = await startGateway(t, { env: PATIENT, sandbox, overrides })
      const clocks: Clocks = {
        passForTasks: (ms) => {
          shiftsMs.tasks += ms
          started.upstream.setClockOffset(-shiftsMs.tasks)
        },
        passForFollowUp: (ms) => {
          shiftsMs.followUp += ms
        },
      }
      const { api, upstream } = started
      const taskNo = upstream.addTask()
      if (fault !== undefined) upstream.fault('CancelTask', fault)
      const { body, headers } = await api.delete(`/tasks/${taskNo}`).set(asOperator).expect(202)
      assert.equal(headers.link, `</cancellations/${body.cancellationId}>; rel="monitor"`)
      const path = `/cancellations/${body.cancellationId}`
      await after?.(started, taskNo, clocks)
      if (isWaiting) {
        const wait = isFinal ? 50 : 1
        const answer = await api
          .get(path)
          .set({ ...asOperator, prefer: `wait=${wait}` })
          .expect(200)
        assert.deepEqual([answer.body.outcome, answer.body.isFinal], [outcome, isFinal])
        assert.equal(answer.headers['preference-applied'], `wait=${wait}`)
      } else if (isFinal) {
        await eventually(async () => (await api.get(path).set(asOperator)).body.isFinal || undefined)
      } else {
        await eventually(async () => (await api.get(path).set(asOperator)).body.task.seenAt ?? undefined)
      }
      const shown = (await api.get(path).set(asOperator).expect(200)).body
      assert.deepEqual([shown.outcome, shown.isFinal], [outcome, isFinal])
      assert.deepEqual({ status: shown.task.status, cancelStatus: shown.task.cancelStatus }, task)
      assert.equal((await api.get(path).set(asAuditor)).body.outcome, outcome)
      assert.equal(upstream.task(taskNo)?.cancelStatus === 'COMPLETE', outcome === 'cancelled')
      const ended: string[] = []
      for (let page = await readFeed(started); page.items.length > 0; page = await readFeed(started, page.nextCursor)) {
        ended.push(page.items[0].id)
      }
      assert.equal(ended.includes(body.cancellationId), isFinal)
      const { items } = (await api.get('/cancellations').query({ taskNo }).set(asAuditor)).body
      const listed = items.find(({ id }: { id: string }) => id === body.cancellationId)
      assert.deepEqual([listed.outcome, listed.isFinal], [outcome, isFinal])
    })
  }
}

test('a gateway that starts later follows the cancellations of an earlier one', async (t) => {
  const sandbox = { cancellingMs: 0 }
  const first = await startGateway(t, { sandbox })
  const taskNo = first.upstream.addTask()
  const { body } = await first.api.delete(`/tasks/${taskNo}`).set(asOperator).expect(202)
  await first.stop()
  const env = { AUDIT_URL: `sqlite:${first.auditPath}`, UPSTREAM_URL: first.upstream.url }
  const second = await startGateway(t, { env, overrides: { timings: QUICK } })
  const path = `/cancellations/${body.cancellationId}`
  const { outcome, settledBy } = (await second.api.get(path).set({ ...asOperator, prefer: 'wait=10' })).body
  assert.deepEqual([outcome, settledBy], ['cancelled', 'query'])
})

const cancelAccepted = async (t: TestContext, cancellingMs: number) => {
  const started = await startGateway(t, { sandbox: { cancellingMs }, overrides: { timings: QUICK } })
  const { body } = await started.api.delete(`/tasks/${started.upstream.addTask()}`).set(asOperator).expect(202)
  return { ...started, path: `/cancellations/${body.cancellationId}` }
}

test('a record has an ETag that changes with its end, and only then', async (t) => {
  const { api, path } = await cancelAccepted(t, 0)
  const final = await api
    .get(path)
    .set({ ...asOperator, prefer: 'wait=10' })
    .expect(200)
  assert.equal(final.body.isFinal, true)
  const etag = String(final.headers.etag)
  await api
    .get(path)
    .set({ ...asOperator, 'if-none-match': etag })
    .expect(304)
  await api
    .get(path)
    .set({ ...asOperator, 'if-none-match': etag, prefer: 'wait=5' })
    .expect(304)
  await api
    .get(path)
    .set({ ...asOperator, 'if-none-match': '"other"' })
    .expect(200)
})

test('a cancel that was not sent shows no task', async (t) => {
  const { api } = await startGateway(t)
  const { body } = await api.delete('/tasks/t-1').set(asReader).expect(403)
  const { body: refused } = await api.get(`/cancellations/${body.cancellationId}`).set(asAuditor).expect(200)
  assert.deepEqual([refused.outcome, refused.isFinal, refused.task], ['refused', true, null])
})

test('a reader of the ends that is killed at any step misses none', async (t) => {
  const started = await startGateway(t, { env: { RATE_LIMIT_MAX: '1000' } })
  const { api } = started
  const expected: string[] = []
  const seen = new Set<string>()
  let stored: string | undefined
  for (let step = 0; step < 12; step += 1) {
    const { body } = await api.delete(`/tasks/t-${step}`).set(asReader).expect(403)
    if (body.cancellationId !== undefined) expected.push(body.cancellationId)
    const page = await readFeed(started, stored)
    // Killed before the page is processed, after that, or after the cursor is stored too.
    if (step % 3 === 0) continue
    for (const { id } of page.items) seen.add(id)
    if (step % 3 === 2) stored = page.nextCursor
  }
  for (let isAtEnd = false; !isAtEnd; ) {
    const page = await readFeed(started, stored)
    for (const { id } of page.items) seen.add(id)
    isAtEnd = page.items.length === 0
    stored = page.nextCursor
  }
  assert.deepEqual([...seen], expected)
})

test('a reader of the ends waits for the next one, and for no longer than it prefers', async (t) => {
  const { api } = await startGateway(t)
  const first = await api.get('/cancellations?sort=finished').set(asAuditor).expect(200)
  assert.deepEqual(first.body.items, [])
  const query = { sort: 'finished', cursor: first.body.nextCursor }
  const empty = await api
    .get('/cancellations')
    .query(query)
    .set({ ...asAuditor, prefer: 'wait=1' })
    .expect(200)
  assert.deepEqual([empty.body, empty.headers['preference-applied']], [first.body, 'wait=1'])
  const waiting = api
    .get('/cancellations')
    .query(query)
    .set({ ...asAuditor, prefer: 'wait=10' })
    .then(({ body }) => body)
  const { body } = await api.delete('/tasks/t-1').set(asReader).expect(403)
  assert.deepEqual(
    (await waiting).items.map(({ id }: { id: string }) => id),
    [body.cancellationId],
  )
})

test('a cursor of one order is invalid in the other', async (t) => {
  const { api } = await startGateway(t)
  const { body } = await api.get('/cancellations?sort=finished').set(asAuditor).expect(200)
  for (const query of [{ cursor: body.nextCursor }, { sort: 'finished', cursor: 'MTAuMQ' }, { sort: 'other' }]) {
    const refused = await api.get('/cancellations').query(query).set(asAuditor).expect(400)
    assert.equal(refused.body.code, 'query-invalid')
  }
})

test('a record that is read slowly shortens the wait, and does not delay the response', async (t) => {
  let slowReads = 0
  const openStore = async (path: string) => {
    const store = await openSqliteStore(path)
    const find: typeof store.find = async (...given) => {
      if (slowReads > 0 && (await store.find(...given))?.outcome === 'accepted') {
        slowReads -= 1
        await pause(1200)
      }
      return store.find(...given)
    }
    return { ...store, find }
  }
  const env = { UPSTREAM_TIMEOUT_MS: '1000', REQUEST_TIMEOUT_MS: '4000' }
  const { api, upstream } = await startGateway(t, { env, overrides: { openStore } })
  const { body } = await api.delete(`/tasks/${upstream.addTask()}`).set(asOperator).expect(202)
  const timeOfWait = async (): Promise<number> => {
    const startedAtMs = performance.now()
    await api
      .get(`/cancellations/${body.cancellationId}`)
      .set({ ...asOperator, prefer: 'wait=60' })
      .expect(200)
    return performance.now() - startedAtMs
  }
  const quickMs = await timeOfWait()
  slowReads = 2
  const ratio = (await timeOfWait()) / quickMs
  assert.equal(slowReads, 0)
  assert.ok(ratio < 1.5, `${ratio} times as long`)
})

const LONG_MS = 600_000

/** The reader of ends alone: the store holds these ends, and counts its reads. */
const readEnds = (t: TestContext, timing: { readonly everyMs?: number; readonly pauseMs?: number }) => {
  const ended: AuditRecord[] = []
  const reads: number[] = []
  const failures: Error[] = []
  const held: Promise<void>[] = []
  const ends = createEnds({
    store: {
      lastFinal: async () => {
        const failure = failures.pop()
        if (failure !== undefined) throw failure
        return ended.length
      },
      listFinal: async ({ after }) => {
        reads.push(after)
        const page = { records: ended.slice(after), next: ended.length }
        await held.pop()
        return page
      },
    },
    ...timing,
  })
  t.after(ends.close)
  const wait = async (isAwaited: (record: AuditRecord) => boolean) => {
    const waiter = await ends.open(isAwaited)
    const state = { isOver: false }
    const over = waiter?.wait(deadlineIn(LONG_MS), new AbortController().signal).then(() => {
      state.isOver = true
      waiter.close()
    })
    return { state, over }
  }
  return { ends, ended, reads, failures, held, wait }
}

test('outcomes that are recorded in quick succession share a read of the ends', async (t) => {
  const { ends, reads, wait } = readEnds(t, { pauseMs: LONG_MS })
  await wait(() => true)
  for (let count = 0; count < 100; count += 1) {
    ends.readSoon()
    await setImmediate()
  }
  assert.deepEqual(reads, [0])
})

test('an outcome that is recorded during a read of the ends is read by the next one', async (t) => {
  const { ends, ended, reads, held, wait } = readEnds(t, { everyMs: LONG_MS, pauseMs: 1 })
  const read = Promise.withResolvers<void>()
  held.push(read.promise)
  const { over } = await wait(() => true)
  assert.equal(reads.length, 1)
  ends.readSoon()
  read.resolve()
  ended.push(recordOf())
  await over
})

test('only requests that wait for an end are woken by it', async (t) => {
  const { ends, ended, wait } = readEnds(t, { everyMs: LONG_MS, pauseMs: 1 })
  const other = await wait(({ caller }) => caller === 'other')
  const own = await wait(({ caller }) => caller === 'operator')
  ended.push(recordOf({ caller: 'operator' }))
  ends.readSoon()
  await own.over
  await setImmediate()
  assert.equal(other.state.isOver, false)
})

test('no request begins to wait while the gateway stops', async (t) => {
  const { ends } = readEnds(t, {})
  ends.close()
  assert.equal(await ends.open(() => true), null)
})

test('after a failure to read the last end, all look for themselves once, and later requests wait', async (t) => {
  const { ended, reads, failures, wait } = readEnds(t, { everyMs: 2, pauseMs: 1 })
  ended.push(recordOf())
  failures.push(new Error('away'))
  await (await wait(() => false)).over
  const later = await wait(() => false)
  await eventually(() => reads.length > 3 || undefined)
  assert.deepEqual([later.state.isOver, new Set(reads)], [false, new Set([1])])
})
