// Which cancellations are open, and the order in which the others became final. Triggers maintain both in the commit of
// the event, whichever version of the gateway writes that.

/**
 * One step of the schema: literal, since a step that was released never changes. A number of `final_outcomes` is taken
 * under a lock that is held until the commit, so that the numbers have the order of the commits: a reader that has seen
 * a number has seen each smaller one. The events of the last day before this step are followed too; older ones count as
 * final, and are not listed in the order of their ends.
 */
export const ENDS = `
  ALTER TABLE audit.outcomes ADD COLUMN IF NOT EXISTS task_status text;
  ALTER TABLE audit.outcomes ADD COLUMN IF NOT EXISTS task_cancel_status text;
  ALTER TABLE audit.outcomes ADD COLUMN IF NOT EXISTS task_seen_at bigint;
  CREATE TABLE audit.open_cancellations (
    requested_at bigint NOT NULL,
    intent_seq bigint NOT NULL,
    PRIMARY KEY (requested_at, intent_seq)
  );
  CREATE TABLE audit.final_outcomes (
    final_seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    intent_seq bigint NOT NULL UNIQUE
  );
  CREATE TABLE audit.replicas (instance_id text PRIMARY KEY, seen_at bigint NOT NULL);

  -- Two replicas that read the same end of a task write one event. The lock is the first of the transaction, so that no
  -- transaction waits for another in a circle.
  CREATE FUNCTION audit.keep_one_reading() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
  BEGIN
    PERFORM pg_advisory_xact_lock(7240021);
    IF NEW.settled_by IS NOT NULL AND EXISTS (SELECT 1 FROM audit.outcomes
      WHERE cancellation_id = NEW.cancellation_id AND outcome = NEW.outcome AND settled_by IS NOT NULL)
      THEN RETURN NULL;
    END IF;
    RETURN NEW;
  END $$;
  -- A reading that repeats the outcome a day after the request is the end of the follow-up.
  CREATE FUNCTION audit.project_end() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
  DECLARE
    intent record;
    is_answer boolean := NEW.settled_by IS NULL AND NEW.outcome <> 'unknown';
  BEGIN
    SELECT seq, requested_at INTO intent FROM audit.intents WHERE id = NEW.cancellation_id;
    IF NOT FOUND THEN RETURN NULL; END IF;
    IF NEW.outcome IN ('refused', 'rejected', 'failed', 'cancelled', 'too-late')
      OR (NEW.settled_by IS NOT NULL AND NEW.finished_at >= intent.requested_at + 86400000) THEN
      PERFORM pg_advisory_xact_lock(7240021);
      DELETE FROM audit.open_cancellations WHERE requested_at = intent.requested_at AND intent_seq = intent.seq;
      INSERT INTO audit.final_outcomes (intent_seq) VALUES (intent.seq)
        ON CONFLICT (intent_seq) DO UPDATE SET final_seq = DEFAULT WHERE is_answer;
    ELSIF NOT EXISTS (SELECT 1 FROM audit.final_outcomes WHERE intent_seq = intent.seq) THEN
      INSERT INTO audit.open_cancellations VALUES (intent.requested_at, intent.seq) ON CONFLICT DO NOTHING;
    ELSIF is_answer THEN
      PERFORM pg_advisory_xact_lock(7240021);
      UPDATE audit.final_outcomes SET final_seq = DEFAULT WHERE intent_seq = intent.seq;
    END IF;
    RETURN NULL;
  END $$;
  CREATE FUNCTION audit.remove_ends() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
  DECLARE
    intent record;
  BEGIN
    FOR intent IN SELECT requested_at, seq FROM removed LOOP
      DELETE FROM audit.open_cancellations WHERE requested_at = intent.requested_at AND intent_seq = intent.seq;
      DELETE FROM audit.final_outcomes WHERE intent_seq = intent.seq;
    END LOOP;
    RETURN NULL;
  END $$;
  -- Tells that a replica is at work, and returns all that were in the last 30 seconds, by the clock of the database.
  CREATE FUNCTION audit.live_replicas(instance text) RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
  DECLARE
    at bigint := (extract(epoch FROM clock_timestamp()) * 1000)::bigint;
  BEGIN
    INSERT INTO audit.replicas VALUES (instance, at)
      ON CONFLICT (instance_id) DO UPDATE SET seen_at = excluded.seen_at;
    DELETE FROM audit.replicas WHERE instance_id IN
      (SELECT instance_id FROM audit.replicas WHERE seen_at < at - 3600000 FOR UPDATE SKIP LOCKED);
    RETURN QUERY SELECT instance_id FROM audit.replicas WHERE seen_at > at - 30000 ORDER BY instance_id;
  END $$;
  REVOKE ALL ON FUNCTION audit.keep_one_reading(), audit.project_end(), audit.remove_ends(), audit.live_replicas(text)
    FROM PUBLIC;

  -- From here on nothing is appended until this is committed, so that no cancellation is missed.
  CREATE TRIGGER readings_are_once BEFORE INSERT ON audit.outcomes FOR EACH ROW
    WHEN (NEW.outcome IN ('refused', 'rejected', 'failed', 'cancelled', 'too-late'))
    EXECUTE FUNCTION audit.keep_one_reading();
  CREATE TRIGGER ends_are_projected AFTER INSERT ON audit.outcomes FOR EACH ROW
    EXECUTE FUNCTION audit.project_end();
  CREATE TRIGGER removed_ends_are_projected AFTER DELETE ON audit.intents REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION audit.remove_ends();
  INSERT INTO audit.open_cancellations
    SELECT requested_at, seq FROM audit.intents
    WHERE requested_at > (extract(epoch FROM clock_timestamp()) * 1000)::bigint - 86400000
    AND EXISTS (SELECT 1 FROM audit.outcomes WHERE cancellation_id = id)
    AND NOT EXISTS (SELECT 1 FROM audit.outcomes WHERE cancellation_id = id
      AND outcome IN ('refused', 'rejected', 'failed', 'cancelled', 'too-late'));
`
