import type { DatabaseSync } from 'node:sqlite'
import { precedenceOrder } from './precedence.ts'

// The current outcome of each cancellation, so that filters by outcome and by owner have an index. It repeats what the
// events say, and can be made again from them at any time. Triggers maintain it in the commit of the event, whichever
// version of the gateway writes that.

const CURRENT_OUTCOME = `
        SELECT seq FROM outcomes AS events WHERE cancellation_id = NEW.cancellation_id
        ORDER BY settled_by IS NOT NULL AND 0 < (SELECT count(*) FROM outcomes AS denials
          WHERE denials.cancellation_id = events.cancellation_id AND denials.settled_by IS NULL
          AND denials.outcome IN ('refused', 'rejected', 'failed')),
          CASE outcome WHEN 'cancelled' THEN 0 WHEN 'too-late' THEN 1 WHEN 'unknown' THEN 3 ELSE 2 END,
          settled_by IS NOT NULL, seq DESC
        LIMIT 1`

/**
 * The last column of the last index is there for the planner: without it a page of one owner's outcome in a range of
 * time is searched by outcome alone. No outcome means pending. Cancellations before the position in
 * `projection_progress` may be missing; null: none is.
 */
const SCHEMA = `
  CREATE TABLE current_outcomes (
    intent_seq INTEGER PRIMARY KEY,
    requested_at INTEGER NOT NULL,
    task_no TEXT NOT NULL,
    via TEXT NOT NULL,
    issuer TEXT,
    caller TEXT NOT NULL,
    outcome TEXT,
    outcome_seq INTEGER
  ) STRICT;
  CREATE INDEX current_by_outcome ON current_outcomes (outcome, requested_at, intent_seq);
  CREATE INDEX current_by_task_and_outcome ON current_outcomes (task_no, outcome, requested_at, intent_seq)
    WHERE outcome IS NOT NULL;
  CREATE INDEX current_by_caller_and_outcome ON current_outcomes (caller, outcome, requested_at, intent_seq)
    WHERE outcome IS NOT NULL;
  CREATE INDEX current_by_owner ON current_outcomes (caller, via, issuer, requested_at, intent_seq);
  CREATE INDEX current_by_owner_and_outcome
    ON current_outcomes (caller, via, issuer, outcome, requested_at, intent_seq, outcome_seq) WHERE outcome IS NOT NULL;

  CREATE TABLE projection_progress (id INTEGER PRIMARY KEY CHECK (id = 0), requested_at INTEGER, seq INTEGER) STRICT;
  INSERT INTO projection_progress
    SELECT 0, max(requested_at) + 1, 0 FROM intents;

  CREATE TRIGGER intents_are_projected AFTER INSERT ON intents BEGIN
    INSERT INTO current_outcomes (intent_seq, requested_at, task_no, via, issuer, caller)
      VALUES (NEW.seq, NEW.requested_at, NEW.task_no, NEW.via, NEW.issuer, NEW.caller);
  END;
  CREATE TRIGGER outcomes_are_projected AFTER INSERT ON outcomes BEGIN
    INSERT INTO current_outcomes (intent_seq, requested_at, task_no, via, issuer, caller, outcome, outcome_seq)
      SELECT intents.seq, requested_at, task_no, via, issuer, caller, outcomes.outcome, outcomes.seq
      FROM intents JOIN outcomes ON outcomes.seq = (${CURRENT_OUTCOME})
      WHERE id = NEW.cancellation_id
      ON CONFLICT (intent_seq) DO UPDATE SET outcome = excluded.outcome, outcome_seq = excluded.outcome_seq
        WHERE outcome_seq IS NOT excluded.outcome_seq;
  END;
  CREATE TRIGGER removed_intents_are_projected AFTER DELETE ON intents BEGIN
    DELETE FROM current_outcomes WHERE intent_seq = OLD.seq;
  END;
`

/**
 * Adds the projection where there is none, in one transaction. Cancellations of before are projected later, in batches.
 */
export const addProjection = (db: DatabaseSync): void => {
  const known = db.prepare("SELECT name FROM sqlite_master WHERE name = 'current_outcomes'").get()
  if (known === undefined) db.exec(`BEGIN IMMEDIATE; ${SCHEMA}; COMMIT`)
}

/** Few at a time, since appends wait meanwhile. */
const BATCH_ROWS = 50

const BATCH = `
  SELECT * FROM intents WHERE (requested_at, seq) < (?, ?) ORDER BY requested_at DESC, seq DESC LIMIT ${BATCH_ROWS}
`

export const PROJECTION_STATEMENTS = {
  progress: 'SELECT requested_at, seq FROM projection_progress',
  backfill: `
    INSERT INTO current_outcomes (intent_seq, requested_at, task_no, via, issuer, caller, outcome, outcome_seq)
    SELECT batch.seq, requested_at, task_no, via, issuer, caller, outcome, outcomes.seq
    FROM (${BATCH}) AS batch LEFT JOIN outcomes ON outcomes.seq = (
      SELECT seq FROM outcomes AS events WHERE cancellation_id = batch.id
      ORDER BY ${precedenceOrder('outcomes')} LIMIT 1)
    WHERE true
    ON CONFLICT (intent_seq) DO UPDATE SET outcome = excluded.outcome, outcome_seq = excluded.outcome_seq
  `,
  advance: `
    UPDATE projection_progress SET (requested_at, seq) = (
      SELECT requested_at, seq FROM intents WHERE (requested_at, seq) < (?, ?)
      ORDER BY requested_at DESC, seq DESC LIMIT 1 OFFSET ${BATCH_ROWS - 1})
  `,
  recover: `
    INSERT INTO outcomes (cancellation_id, outcome, finished_at)
    SELECT id, 'unknown', ? FROM current_outcomes JOIN intents ON seq = intent_seq WHERE current_outcomes.outcome IS NULL
  `,
} as const

/** Until the last cancellation is projected, by the events. */
const RECOVER_BY_EVENTS = `
  INSERT INTO outcomes (cancellation_id, outcome, finished_at)
  SELECT id, 'unknown', ? FROM intents
  WHERE NOT EXISTS (SELECT 1 FROM outcomes WHERE cancellation_id = intents.id)
`

/** The position before which cancellations may be missing in the projection, or null. */
const progressOf = (db: DatabaseSync): readonly [requestedAtMs: number, seq: number] | null => {
  const { requested_at, seq } = db.prepare(PROJECTION_STATEMENTS.progress).get() ?? {}
  return typeof requested_at === 'number' && typeof seq === 'number' ? [requested_at, seq] : null
}

/** Projects the next few of the cancellations that are older than the projection, in the transaction of the caller. */
export const backfill = (db: DatabaseSync): void => {
  const progress = progressOf(db)
  if (progress === null) return
  db.prepare(PROJECTION_STATEMENTS.backfill).run(...progress)
  db.prepare(PROJECTION_STATEMENTS.advance).run(...progress)
}

/** Makes each pending cancellation `unknown`. Returns their number. */
export const recover = (db: DatabaseSync, nowMs: number): number => {
  const sql = progressOf(db) === null ? PROJECTION_STATEMENTS.recover : RECOVER_BY_EVENTS
  return Number(db.prepare(sql).run(nowMs).changes)
}
