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

/** Settling with reads whose results the test gives, and the requests for these reads. */
const start = (find: Lookup['find']) => {
  const reads: FindLimits[] = []
  const settling = createSettling({
    find: (taskNo, limits) => {
      reads.push(limits)
      return find(taskNo, limits)
    },
  })
  return { ...settling, reads }
}

test('no poll of a watch takes longer than the watch', async () => {
  const { watch, reads } = start(async (_taskNo, { deadline }) => {
    assert.ok(deadline.remainingMs() <= 50)
    return null
  })
  assert.equal(await watch('t', deadlineIn(50), new AbortController().signal), null)
  assert.ok(reads.length >= 1)
})

test('a caller that disconnects stops its watch, even during a poll', async () => {
  const leaving = new AbortController()
  const { watch } = start(() => {
    leaving.abort()
    return new Promise(() => {})
  })
  assert.equal(await watch('t', deadlineIn(FOREVER_MS), leaving.signal), null)
})

test('a watch of a caller that has already disconnected does not poll', async () => {
  const { watch, reads } = start(async () => taskOf({ cancelStatus: 'cancelled' }))
  await watch('t', deadlineIn(FOREVER_MS), AbortSignal.abort())
  assert.equal(reads.length, 0)
})

test('a read from before the call can prove a cancellation, without another read', async () => {
  const { settle, reads } = start(async () => taskOf({ cancelStatus: 'cancelling' }))
  assert.equal((await settle('t', AMBIGUOUS, deadlineIn(20_000))).observed, 'cancelling')
  assert.equal(reads.length, 1)
})

test('a read from before the call proves nothing else: a read that starts after the call follows', async () => {
  const endedAtMs = performance.now()
  const { settle } = start(async (_taskNo, { startedAfterMs }) =>
    taskOf({ cancelStatus: (startedAfterMs ?? 0) >= endedAtMs ? 'cancelled' : 'none' }),
  )
  assert.equal((await settle('t', AMBIGUOUS, deadlineIn(20_000))).observed, 'cancelled')
})

test('after a conclusive result the task is not read', async () => {
  const { settle, reads } = start(async () => taskOf({ cancelStatus: 'cancelled' }))
  const throttled = { ...AMBIGUOUS, code: 'upstream-throttled', ambiguous: false } as const
  const accepted = { ok: true, requestId: 'r', body: {}, attempts: 1 } as const
  for (const result of [throttled, accepted])
    assert.equal((await settle('t', result, deadlineIn(20_000))).observed, null)
  assert.equal(reads.length, 0)
})

test('just before its end a watch polls once more, and accepts only a recent read', async () => {
  const { watch, reads } = start(async () => taskOf({ cancelStatus: 'cancelling' }))
  const begunAtMs = performance.now()
  assert.equal((await watch('t', deadlineIn(2000), new AbortController().signal))?.cancelStatus, 'cancelling')
  const [first, last] = [reads.at(0), reads.at(-1)]
  assert.deepEqual([reads.length > 1, first?.startedAfterMs], [true, undefined])
  assert.ok((last?.startedAfterMs ?? 0) >= begunAtMs + 500)
})
