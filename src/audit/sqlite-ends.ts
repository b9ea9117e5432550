import type { DatabaseSync } from 'node:sqlite'

// Which cancellations are open, and the order in which the others became final. Triggers maintain both in the commit of
// the event, whichever version of the gateway writes that.

const INTENT = 'FROM intents WHERE id = NEW.cancellation_id'
const FINAL = "('refused', 'rejected', 'failed', 'cancelled', 'too-late')"

/**
 * A reading that repeats the outcome a day after the request is the end of the follow-up. A definite answer that comes
 * after the end moves the cancellation to the end of the order. The events of the last day before the tables were added
 * are followed too; older ones count as final, and are not listed in the order of their ends.
 */
const SCHEMA = `
  ALTER TABLE outcomes ADD COLUMN task_status TEXT;
  ALTER TABLE outcomes ADD COLUMN task_cancel_status TEXT;
  ALTER TABLE outcomes ADD COLUMN task_seen_at INTEGER;
  CREATE TABLE open_cancellations (
    requested_at INTEGER NOT NULL,
    intent_seq INTEGER NOT NULL,
    PRIMARY KEY (requested_at, intent_seq)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE final_outcomes (
    final_seq INTEGER PRIMARY KEY AUTOINCREMENT,
    intent_seq INTEGER NOT NULL UNIQUE
  ) STRICT;

  CREATE TRIGGER readings_are_once BEFORE INSERT ON outcomes
    WHEN NEW.settled_by IS NOT NULL AND NEW.outcome IN ${FINAL} AND EXISTS (SELECT 1 FROM outcomes
      WHERE cancellation_id = NEW.cancellation_id AND outcome = NEW.outcome AND settled_by IS NOT NULL)
  BEGIN
    SELECT RAISE(IGNORE);
  END;
  CREATE TRIGGER ends_are_projected AFTER INSERT ON outcomes
    WHEN NEW.outcome IN ${FINAL}
      OR (NEW.settled_by IS NOT NULL AND NEW.finished_at >= (SELECT requested_at ${INTENT}) + 86400000)
  BEGIN
    DELETE FROM open_cancellations
      WHERE requested_at = (SELECT requested_at ${INTENT}) AND intent_seq = (SELECT seq ${INTENT});
    DELETE FROM final_outcomes
      WHERE intent_seq = (SELECT seq ${INTENT}) AND NEW.settled_by IS NULL AND NEW.outcome <> 'unknown';
    INSERT INTO final_outcomes (intent_seq) SELECT seq ${INTENT} ON CONFLICT (intent_seq) DO NOTHING;
  END;
  CREATE TRIGGER open_outcomes_are_projected AFTER INSERT ON outcomes
    WHEN NEW.outcome NOT IN ${FINAL}
  BEGIN
    INSERT INTO open_cancellations
      SELECT requested_at, seq ${INTENT} AND NOT EXISTS (SELECT 1 FROM final_outcomes WHERE intent_seq = intents.seq)
      ON CONFLICT DO NOTHING;
  END;
  CREATE TRIGGER late_answers_are_projected AFTER INSERT ON outcomes
    WHEN NEW.settled_by IS NULL AND NEW.outcome NOT IN ${FINAL} AND NEW.outcome <> 'unknown'
      AND EXISTS (SELECT 1 FROM final_outcomes WHERE intent_seq = (SELECT seq ${INTENT}))
  BEGIN
    DELETE FROM final_outcomes WHERE intent_seq = (SELECT seq ${INTENT});
    INSERT INTO final_outcomes (intent_seq) SELECT seq ${INTENT};
  END;
  CREATE TRIGGER removed_ends_are_projected AFTER DELETE ON intents BEGIN
    DELETE FROM open_cancellations WHERE requested_at = OLD.requested_at AND intent_seq = OLD.seq;
    DELETE FROM final_outcomes WHERE intent_seq = OLD.seq;
  END;
`

const SEED = `
  INSERT INTO open_cancellations
    SELECT requested_at, seq FROM intents WHERE requested_at > ?
    AND EXISTS (SELECT 1 FROM outcomes WHERE cancellation_id = id)
    AND NOT EXISTS (SELECT 1 FROM outcomes WHERE cancellation_id = id AND outcome IN ${FINAL})
`
const DAY_MS = 86_400_000

/** Adds tables, columns and triggers where they are missing, in one transaction. */
export const addEnds = (db: DatabaseSync, nowMs: number): void => {
  const known = db.prepare("SELECT name FROM sqlite_master WHERE name = 'open_cancellations'").get()
  if (known !== undefined) return
  db.exec(`BEGIN IMMEDIATE; ${SCHEMA}`)
  db.prepare(SEED).run(nowMs - DAY_MS)
  db.exec('COMMIT')
}
