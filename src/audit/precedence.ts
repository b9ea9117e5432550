import type { Outcome } from './store.ts'

// Which of a cancellation's outcome events counts, however late each was written. The triggers of both databases hold
// the same order in their own text, and a test compares the texts.

/**
 * The smallest rank counts. An outcome of a later version ranks as `accepted` does. The task shows `cancelled` and
 * `too-late`, and a task does not leave either state.
 */
const RANKS = {
  cancelled: 0,
  'too-late': 1,
  accepted: 2,
  refused: 2,
  rejected: 2,
  failed: 2,
  unknown: 3,
} as const satisfies Readonly<Record<Outcome, number>>

const OTHERS = RANKS.accepted

/**
 * Answers that deny the cancellation. A reading of the task never changes one: another caller may have cancelled it.
 */
const DENIALS = ['refused', 'rejected', 'failed'] as const satisfies readonly Outcome[]

const rankCases = Object.entries(RANKS)
  .filter(([, rank]) => rank !== OTHERS)
  .map(([outcome, rank]) => `WHEN '${outcome}' THEN ${rank}`)

/**
 * The order, as SQL, in which the first of the `events` of one cancellation is its current outcome: readings beside a
 * denial last, then by rank, then answers before readings, then the newest. `outcomes` is the table's name. Denials are
 * counted, since PostgreSQL can answer EXISTS by a hash of all denials of the table.
 */
export const precedenceOrder = (outcomes: string): string =>
  [
    `settled_by IS NOT NULL AND 0 < (SELECT count(*) FROM ${outcomes} AS denials`,
    'WHERE denials.cancellation_id = events.cancellation_id AND denials.settled_by IS NULL',
    `AND denials.outcome IN (${DENIALS.map((denial) => `'${denial}'`).join(', ')})),`,
    `CASE outcome ${rankCases.join(' ')} ELSE ${OTHERS} END, settled_by IS NOT NULL, seq DESC`,
  ].join(' ')
