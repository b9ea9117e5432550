// The current outcome of each cancellation, so that filters by outcome and by owner have an index. It repeats what the
// events say, and can be made again from them at any time. Triggers maintain it in the commit of the event, whichever
// version of the gateway writes that. They run with the rights of the tables' owner, so that the gateway's role cannot
// change it.

/** One step of the schema: literal, since a step that was released never changes. */
export const PROJECTION = `
  CREATE TABLE audit.current_outcomes (
    intent_seq bigint PRIMARY KEY,
    requested_at bigint NOT NULL,
    task_no text NOT NULL,
    via text NOT NULL,
    issuer text,
    caller text NOT NULL,
    deadline_at bigint NOT NULL,
    outcome text,
    outcome_seq bigint
  );
  CREATE INDEX current_by_deadline ON audit.current_outcomes (deadline_at) WHERE outcome IS NULL;
  CREATE INDEX current_by_outcome ON audit.current_outcomes (outcome, requested_at, intent_seq)
    WHERE outcome IS NOT NULL;
  CREATE INDEX current_by_task_and_outcome ON audit.current_outcomes (task_no, outcome, requested_at, intent_seq)
    WHERE outcome IS NOT NULL;
  CREATE INDEX current_by_caller_and_outcome ON audit.current_outcomes (caller, outcome, requested_at, intent_seq)
    WHERE outcome IS NOT NULL;
  CREATE INDEX current_by_owner ON audit.current_outcomes (caller, via, issuer, requested_at, intent_seq);
  CREATE INDEX current_by_owner_and_outcome
    ON audit.current_outcomes (caller, via, issuer, outcome, requested_at, intent_seq) WHERE outcome IS NOT NULL;
  CREATE TABLE audit.projection_progress (id integer PRIMARY KEY CHECK (id = 0), requested_at bigint, seq bigint);

  CREATE FUNCTION audit.project(cancellation text) RETURNS void LANGUAGE plpgsql AS $$
  DECLARE
    found_seq bigint;
  BEGIN
    -- The lock waits for a removal under way, which does not see the row that would be added here.
    SELECT seq INTO found_seq FROM audit.intents WHERE id = cancellation FOR KEY SHARE;
    IF NOT FOUND THEN RETURN; END IF;
    -- The lock comes first, and each statement sees what is committed by then: of two events that are written at the same
    -- moment the second transaction sees both.
    PERFORM FROM audit.current_outcomes WHERE intent_seq = found_seq FOR UPDATE;
    IF NOT FOUND THEN
      INSERT INTO audit.current_outcomes (intent_seq, requested_at, task_no, via, issuer, caller, deadline_at)
        SELECT seq, requested_at, task_no, via, issuer, caller, deadline_at FROM audit.intents WHERE id = cancellation
        ON CONFLICT (intent_seq) DO NOTHING;
      PERFORM FROM audit.current_outcomes WHERE intent_seq = found_seq FOR UPDATE;
    END IF;
    UPDATE audit.current_outcomes SET (outcome, outcome_seq) = (
      SELECT outcome, seq FROM audit.outcomes AS events WHERE cancellation_id = cancellation
      ORDER BY settled_by IS NOT NULL AND 0 < (SELECT count(*) FROM audit.outcomes AS denials
        WHERE denials.cancellation_id = events.cancellation_id AND denials.settled_by IS NULL
        AND denials.outcome IN ('refused', 'rejected', 'failed')),
        CASE outcome WHEN 'cancelled' THEN 0 WHEN 'too-late' THEN 1 WHEN 'unknown' THEN 3 ELSE 2 END,
        settled_by IS NOT NULL, seq DESC
      LIMIT 1)
    WHERE intent_seq = found_seq;
  END $$;

  CREATE FUNCTION audit.project_intents() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
  BEGIN
    INSERT INTO audit.current_outcomes (intent_seq, requested_at, task_no, via, issuer, caller, deadline_at)
      SELECT seq, requested_at, task_no, via, issuer, caller, deadline_at FROM added
      ON CONFLICT (intent_seq) DO NOTHING;
    RETURN NULL;
  END $$;
  -- The first event of a cancellation is its outcome. Only a later one is compared with those before. All transactions lock
  -- rows in the order of ids, so that none waits for another in a circle.
  CREATE FUNCTION audit.project_outcomes() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
  DECLARE
    event record;
  BEGIN
    FOR event IN SELECT cancellation_id, outcome, seq FROM added ORDER BY cancellation_id, seq LOOP
      UPDATE audit.current_outcomes SET outcome = event.outcome, outcome_seq = event.seq
        WHERE intent_seq = (SELECT seq FROM audit.intents WHERE id = event.cancellation_id) AND outcome_seq IS NULL;
      IF NOT FOUND THEN PERFORM audit.project(event.cancellation_id); END IF;
    END LOOP;
    RETURN NULL;
  END $$;
  CREATE FUNCTION audit.project_removals() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
  DECLARE
    removed_seq bigint;
  BEGIN
    FOR removed_seq IN SELECT seq FROM removed LOOP
      DELETE FROM audit.current_outcomes WHERE intent_seq = removed_seq;
    END LOOP;
    RETURN NULL;
  END $$;
  CREATE FUNCTION audit.project_older(most integer) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
  DECLARE
    progress record;
    cancellation text;
  BEGIN
    SELECT requested_at, seq INTO progress FROM audit.projection_progress
      WHERE requested_at IS NOT NULL FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN RETURN false; END IF;
    FOR cancellation IN
      SELECT id FROM (
        SELECT id FROM audit.intents WHERE (requested_at, seq) < (progress.requested_at, progress.seq)
        ORDER BY requested_at DESC, seq DESC LIMIT least(most, 1000)
      ) AS batch ORDER BY id
    LOOP
      PERFORM audit.project(cancellation);
    END LOOP;
    UPDATE audit.projection_progress SET (requested_at, seq) = (
      SELECT requested_at, seq FROM audit.intents WHERE (requested_at, seq) < (progress.requested_at, progress.seq)
      ORDER BY requested_at DESC, seq DESC LIMIT 1 OFFSET least(most, 1000) - 1);
    RETURN true;
  END $$;
  REVOKE ALL ON FUNCTION audit.project(text), audit.project_intents(), audit.project_outcomes(),
    audit.project_removals(), audit.project_older(integer) FROM PUBLIC;

  -- From here on nothing is appended until this is committed, so that no cancellation is missed.
  CREATE TRIGGER intents_are_projected AFTER INSERT ON audit.intents REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION audit.project_intents();
  CREATE TRIGGER outcomes_are_projected AFTER INSERT ON audit.outcomes REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION audit.project_outcomes();
  CREATE TRIGGER removed_intents_are_projected AFTER DELETE ON audit.intents REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION audit.project_removals();
  INSERT INTO audit.projection_progress SELECT 0, max(requested_at) + 1, 0 FROM audit.intents;
`
