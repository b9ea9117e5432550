import assert from 'node:assert/strict'
import { test } from 'node:test'
import { contradictionsOf, type Entry, type HistoryEvent } from '../helpers/history-check.ts'
import { drawPlan } from '../helpers/history-plan.ts'

// The checker of histories itself: hand-made histories, each of which breaks one rule.

const ENTRY: Entry = {
  ...{ id: 'id-1', taskNo: 't', caller: 'alpha', clientIp: '198.51.100.1', userAgent: 'request-1' },
  ...{ outcome: 'cancelled', settledBy: 'query', requestId: 'R', isFinal: true },
}

type EventOf<K extends HistoryEvent['kind']> = Extract<HistoryEvent, { kind: K }>

const request = (changes: Partial<EventOf<'request'>> = {}): HistoryEvent => ({
  ...{ kind: 'request', atMs: 10, userAgent: 'request-1', replica: 0, caller: 'alpha', clientIp: '198.51.100.1' },
  ...{ lang: 'en', taskNo: 't', ...changes },
})
const intent = (atMs = 20, id = 'id-1'): HistoryEvent => ({ kind: 'intent', atMs, id })
const call = (changes: Partial<EventOf<'call'>> = {}): HistoryEvent => ({
  ...{ kind: 'call', atMs: 30, taskNo: 't', clientIp: '198.51.100.1', lang: 'en', effect: true, code: null },
  ...{ cancelledAtMs: 80, ...changes },
})
const response = (status: number, body: EventOf<'response'>['body'], atMs = 40): HistoryEvent => ({
  ...{ kind: 'response', atMs, userAgent: 'request-1', status, body: { cancellationId: 'id-1', ...body } },
})
const accepted = response(202, { cancelStatus: 'accepted', requestId: 'R' })
const refusedByTask = response(409, { code: 'task-not-cancellable', outcome: 'not-cancelled', requestId: 'R' })
const unknown = response(504, { code: 'outcome-unknown', outcome: 'unknown' })
const reading = (atMs: number, ...entries: readonly Partial<Entry>[]): HistoryEvent => ({
  ...{ kind: 'reading', atMs, endMs: atMs + 1, entries: entries.map((entry) => ({ ...ENTRY, ...entry })) },
})
const ends = (...ids: readonly string[]): HistoryEvent => ({ kind: 'ends', ids })
const killed: HistoryEvent = { kind: 'killed', atMs: 41, replica: 0 }

const RIGHT: readonly HistoryEvent[] = [
  request(),
  intent(),
  call(),
  accepted,
  reading(50, { outcome: 'accepted', settledBy: null, isFinal: false }),
  reading(100, {}),
]
const REJECTED: readonly HistoryEvent[] = [
  request(),
  intent(),
  call({ effect: false, code: 'InvalidParameter' }),
  refusedByTask,
  reading(100, { outcome: 'rejected', settledBy: null }),
]
const others = { userAgent: 'request-2', caller: 'beta', clientIp: '198.51.100.3' } as const
const OF_BETA: readonly HistoryEvent[] = [request({ ...others, atMs: 50 }), intent(55, 'id-2')]
const ENTRY_OF_BETA = { ...others, id: 'id-2' }

const without = (history: readonly HistoryEvent[], ...kinds: readonly HistoryEvent['kind'][]) =>
  history.filter(({ kind }) => !kinds.includes(kind))

const CASES: readonly (readonly [name: string, history: readonly HistoryEvent[], found: readonly RegExp[]])[] = [
  ['a cancellation that is accepted and ends', RIGHT, []],
  ['one that the upstream rejects', REJECTED, []],
  [
    'an unknown outcome that a query resolves',
    [request(), intent(), call(), unknown, reading(60, { outcome: 'unknown', settledBy: null }), reading(100, {})],
    [],
  ],
  ['a request without a response and an entry', [request(), reading(100)], []],
  [
    'a throttled call that is sent again',
    [...RIGHT.slice(0, 2), call({ atMs: 25, effect: false, code: 'Throttling.User' }), ...RIGHT.slice(2)],
    [],
  ],
  [
    'an answer that is lost with its replica',
    [
      ...without(REJECTED, 'reading'),
      killed,
      ...OF_BETA,
      call({ ...others, atMs: 60 }),
      reading(200, {}, ENTRY_OF_BETA),
    ],
    [],
  ],
  [
    'an answer that is written late and replaces what a query showed',
    [
      ...without(REJECTED, 'reading'),
      ...OF_BETA,
      call({ ...others, atMs: 60 }),
      reading(200, {}, ENTRY_OF_BETA),
      reading(300, { outcome: 'rejected', settledBy: null }, ENTRY_OF_BETA),
    ],
    [],
  ],
  ['a call before its intent is durable', [...without(RIGHT, 'intent'), intent(31)], [/was sent without an intent/]],
  ['a call of a request without an entry', [request(), call(), reading(100)], [/was sent without an intent/]],
  [
    'a call after the answer',
    [...RIGHT, call({ atMs: 45, effect: false, code: 'TaskAlreadyCancelled' })],
    [/was sent without an intent/],
  ],
  [
    'an ambiguous call that is sent again',
    [
      ...[request(), intent(), call({ effect: false }), call({ atMs: 35 })],
      ...[response(200, { cancelStatus: 'cancelled', requestId: 'R' }, 90), reading(100, {})],
    ],
    [/is one more than its requests allow/],
  ],
  [
    'an acceptance without an effect',
    [request(), intent(), accepted, reading(100, { outcome: 'unknown', settledBy: null })],
    [/answered 202 accepted, is unknown on record/, /and the upstream had not cancelled the task/],
  ],
  [
    'an acceptance before its effect',
    [request(), intent(), call({ atMs: 45 }), accepted, reading(100, {})],
    [/had not cancelled the task/, /without an intent/],
  ],
  [
    'an end before the upstream has reached it',
    [...without(RIGHT, 'response'), response(200, { cancelStatus: 'cancelled', requestId: 'R' })],
    [/was still cancelling the task/],
  ],
  [
    'an end on record before the upstream has reached it',
    [...without(RIGHT, 'reading'), reading(60, {})],
    [/is cancelled on record, and the upstream was still cancelling/],
  ],
  [
    'a denial of an effect',
    [request(), intent(), call(), refusedByTask, reading(100, { outcome: 'rejected', settledBy: null })],
    [/each of its requests is denied on record/, /each of its requests was answered not-cancelled/],
  ],
  [
    'a denial of an effect on record alone',
    [request(), intent(), call(), unknown, reading(100, { outcome: 'failed' })],
    [/each of its requests is denied on record/],
  ],
  [
    'a query that overrules an answer',
    [...without(REJECTED, 'reading'), ...OF_BETA, call({ ...others, atMs: 60 }), reading(200, {}, ENTRY_OF_BETA)],
    [/answered 409 task-not-cancellable, is cancelled by a query on record/],
  ],
  [
    'an answer that is lost while its replica goes on',
    [...without(REJECTED, 'reading'), reading(100, { outcome: 'unknown', settledBy: null })],
    [/answered 409 task-not-cancellable, is unknown on record/],
  ],
  [
    'an outcome that is taken back',
    [...RIGHT, reading(200, { outcome: 'accepted', isFinal: false })],
    [/was cancelled by a query, final on record, and then accepted by a query/],
  ],
  [
    'an answer on record that is taken back by a query',
    [...REJECTED, ...OF_BETA, call({ ...others, atMs: 60 }), reading(200, {}, ENTRY_OF_BETA)],
    [/is cancelled by a query on record/, /was rejected, final on record, and then cancelled by a query, final/],
  ],
  [
    'a cancellation without an end',
    [request(), intent(), reading(100, { outcome: 'pending', settledBy: null, isFinal: false })],
    [/has no end/],
  ],
  [
    'a call that two callers share',
    [
      ...without(RIGHT, 'reading'),
      request({ ...others }),
      intent(21, 'id-2'),
      {
        ...{ kind: 'response', atMs: 40, userAgent: 'request-2', status: 202 },
        body: { cancellationId: 'id-2', cancelStatus: 'accepted', requestId: 'R' },
      },
      reading(100, {}, ENTRY_OF_BETA),
    ],
    [/request-2 .* was not sent with the identity of its caller/],
  ],
  [
    'a rejection of the call of another caller',
    [...without(REJECTED, 'call'), call({ ...others, effect: false })],
    [/request-1 .* was not sent with the identity/, /of 198.51.100.3 was sent without an intent/],
  ],
  [
    'an entry with the identity of another caller',
    [...RIGHT.slice(0, -2), reading(100, { caller: 'beta' })],
    [/identity of another request/],
  ],
  ['an entry that was not requested', [reading(100, { outcome: 'failed' })], [/was never requested/]],
  ['two entries of one request', [...RIGHT, reading(200, { id: 'id-2' }, {})], [/has two entries/]],
  [
    'a response with the id of another entry',
    [...without(RIGHT, 'response'), response(202, { cancelStatus: 'accepted', requestId: 'R', cancellationId: 'x' })],
    [/has the entry of another request/],
  ],
  [
    'an acceptance without an entry',
    [request(), call(), accepted, reading(100)],
    [/has no entry/, /without an intent/],
  ],
  [
    'an unknown outcome without an entry',
    [request(), unknown, reading(100)],
    [/answered 504 outcome-unknown, has no entry/],
  ],
  [
    'a response that the contract does not have',
    [request(), response(500, { code: 'internal', outcome: 'unknown' }), reading(100)],
    [/is not a response of the contract/],
  ],
  [
    'a problem with the wrong claim',
    [request(), response(504, { code: 'outcome-unknown', outcome: 'not-cancelled' }), reading(100)],
    [/is not a response of the contract/],
  ],
  [
    'a task that is too late on record and was cancelled',
    [...RIGHT.slice(0, -2), reading(100, { outcome: 'too-late' })],
    [/is too-late on record, and the upstream cancelled the task/],
  ],
  [
    'a reading of a task that nobody has cancelled',
    [request(), reading(100), { kind: 'task', endMs: 50, taskNo: 't', cancelStatus: 'cancelling' }],
    [/a reading showed t as cancelling/],
  ],
  ['an end that a reader of the ends was not told', [...RIGHT, ends()], [/a reader of the ends was not told/]],
  [
    'an end that is none',
    [request(), intent(), unknown, reading(100, { outcome: 'unknown', settledBy: null, isFinal: false }), ends('id-1')],
    [/was told as an end, and is not final/],
  ],
  [
    'a replica that ends by itself',
    [...RIGHT, { kind: 'crashed', atMs: 60, replica: 1 }],
    [/replica 1 ended by itself/],
  ],
]

/** Unless the history says otherwise, all ends of its last reading are told. */
const withEnds = (history: readonly HistoryEvent[]): readonly HistoryEvent[] => {
  if (history.some(({ kind }) => kind === 'ends')) return history
  const last = history.findLast((event) => event.kind === 'reading')?.entries ?? []
  return [...history, ends(...last.filter(({ isFinal }) => isFinal).map(({ id }) => id))]
}

for (const [name, history, found] of CASES) {
  test(`${found.length === 0 ? 'a history without a contradiction' : 'a contradiction'}: ${name}`, () => {
    const contradictions = contradictionsOf(withEnds(history))
    assert.equal(contradictions.length, found.length, contradictions.join('\n'))
    for (const each of found)
      assert.ok(
        contradictions.some((text) => each.test(text)),
        contradictions.join('\n'),
      )
  })
}

test('a plan is a function of its seed', () => {
  assert.deepEqual(drawPlan(5), drawPlan(5))
  assert.notDeepEqual(drawPlan(5), drawPlan(6))
})
