import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { UpstreamFailure } from '../../src/alibaba/response.ts'
import type { FindLimits, Lookup } from '../../src/tasks/lookup.ts'
import { createSettling } from '../../src/tasks/settle.ts'
import { deadlineIn } from '../../src/time.ts'
import { taskOf } from '../helpers/task.ts'

const FOREVER_MS = 3_600_000

const AMBIGUOUS: UpstreamFailure = {
  ok: false,
  code: 'outcome-unknown',
  ambiguous: true,
  sent: true,
  upstreamCode: null,
  requestId: null,
  retryAfterMs: null,
  attempts: 1,
}

/** Looks that are answered as the test says, and what they were asked for. */
const start = (find: Lookup['find']) => {
  const asked: FindLimits[] = []
  const settling = createSettling({
    find: (taskNo, limits) => {
      asked.push(limits)
      return find(taskNo, limits)
    },
  })
  return { ...settling, asked }
}

test('no look of a watch goes on for longer than the watch', async () => {
  const { watch, asked } = start(async (_taskNo, { deadline }) => {
    assert.ok(deadline.remainingMs() <= 50)
    return null
  })
  assert.equal(await watch('t', deadlineIn(50), new AbortController().signal), null)
  assert.ok(asked.length >= 1)
})

test('whoever goes away stops a watch, even in the middle of a look', async () => {
  const leaving = new AbortController()
  const { watch } = start(() => {
    leaving.abort()
    return new Promise(() => {})
  })
  assert.equal(await watch('t', deadlineIn(FOREVER_MS), leaving.signal), null)
})

test('nobody looks for one who is gone already', async () => {
  const { watch, asked } = start(async () => taskOf({ cancelStatus: 'cancelled' }))
  await watch('t', deadlineIn(FOREVER_MS), AbortSignal.abort())
  assert.equal(asked.length, 0)
})

test('what was read before the call proves a cancellation, and nothing is asked anew', async () => {
  const { settle, asked } = start(async () => taskOf({ cancelStatus: 'cancelling' }))
  assert.equal((await settle('t', AMBIGUOUS, deadlineIn(1000))).observed, 'cancelling')
  assert.equal(asked.length, 1)
})

test('what was read before the call proves nothing else: a reading that began after it is asked for', async () => {
  const endedAtMs = performance.now()
  const { settle } = start(async (_taskNo, { startedAfterMs }) =>
    taskOf({ cancelStatus: (startedAfterMs ?? 0) >= endedAtMs ? 'cancelled' : 'none' }),
  )
  assert.equal((await settle('t', AMBIGUOUS, deadlineIn(1000))).observed, 'cancelled')
})

test('an answer that says all is not looked behind', async () => {
  const { settle, asked } = start(async () => taskOf({ cancelStatus: 'cancelled' }))
  const throttled = { ...AMBIGUOUS, code: 'upstream-throttled', ambiguous: false } as const
  const accepted = { ok: true, requestId: 'r', body: {}, attempts: 1 } as const
  for (const result of [throttled, accepted]) assert.equal((await settle('t', result, deadlineIn(1000))).observed, null)
  assert.equal(asked.length, 0)
})

test('a watch that is nearly over looks once more, at what was read a moment ago at most', async () => {
  const { watch, asked } = start(async () => taskOf({ cancelStatus: 'cancelling' }))
  const begunAtMs = performance.now()
  assert.equal(await watch('t', deadlineIn(400), new AbortController().signal), 'cancelling')
  const [first, last] = [asked.at(0), asked.at(-1)]
  assert.deepEqual([asked.length > 1, first?.startedAfterMs], [true, undefined])
  assert.ok((last?.startedAfterMs ?? 0) >= begunAtMs - 500)
})
