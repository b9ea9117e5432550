import { ConfigError } from '../errors.ts'
import type { Answer, Connections, Query } from './postgres-connections.ts'
import { ENDS } from './postgres-ends.ts'
import { PROJECTION } from './postgres-projection.ts'
import { ruleFor } from './postgres-reason.ts'

// Each step only adds, so that gateways of the version before go on beside it. A step that was released never changes.
const STEPS = [
  `
  CREATE TABLE audit.intents (
    seq bigint GENERATED ALWAYS AS IDENTITY,
    id text PRIMARY KEY,
    task_no text NOT NULL,
    via text NOT NULL,
    issuer text,
    caller text NOT NULL,
    client_ip text,
    peer_ip text,
    user_agent text,
    requested_at bigint NOT NULL,
    gateway_request_id text NOT NULL,
    instance_id text NOT NULL,
    deadline_at bigint NOT NULL
  );
  CREATE TABLE audit.outcomes (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cancellation_id text NOT NULL REFERENCES audit.intents (id),
    outcome text NOT NULL,
    attempts integer,
    request_id text,
    upstream_code text,
    finished_at bigint NOT NULL,
    settled_by text
  );
  CREATE UNIQUE INDEX outcomes_once
    ON audit.outcomes (cancellation_id, outcome, finished_at, coalesce(settled_by, ''));
  CREATE INDEX intents_by_time ON audit.intents (requested_at, seq);
  CREATE INDEX intents_by_task_and_time ON audit.intents (task_no, requested_at, seq);
  CREATE INDEX intents_by_caller_and_time ON audit.intents (caller, requested_at, seq);
  CREATE INDEX intents_by_deadline ON audit.intents (deadline_at);

  CREATE FUNCTION audit.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    IF TG_OP = 'DELETE' AND current_setting('audit.pruning', true) = 'on' THEN RETURN NULL; END IF;
    RAISE EXCEPTION 'events are never updated';
  END $$;
  CREATE TRIGGER intents_are_final BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.intents
    EXECUTE FUNCTION audit.refuse_change();
  CREATE TRIGGER outcomes_are_final BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.outcomes
    EXECUTE FUNCTION audit.refuse_change();
  `,
  PROJECTION,
  'ALTER TABLE audit.intents ADD COLUMN caller_display_name text',
  ENDS,
] as const

const BOOTSTRAP = `
  CREATE SCHEMA IF NOT EXISTS audit;
  CREATE TABLE IF NOT EXISTS audit.schema_version (
    version integer PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
  );
`
/** Any number that no other program uses in this database. */
const MIGRATION_LOCK = 7_240_019
/** Other gateways append meanwhile, and a statement that waits for a lock on a table delays them. */
const TABLE_LOCK = "SET LOCAL lock_timeout = '3s'"
const VERSION = 'SELECT coalesce(max(version), 0) AS version FROM audit.schema_version'

/**
 * Brings the tables up to date, one process at a time, and lets the role write and read them.
 * @throws ConfigError where that can't be done
 */
export const migrate = async (admin: Connections, role: string): Promise<void> => {
  const migrated = await admin.transaction(async (query) => {
    const begun = await runAll(query, [`SELECT pg_advisory_xact_lock(${MIGRATION_LOCK})`, TABLE_LOCK])
    if (!begun.ok) return begun
    const prepared = await bootstrap(query)
    if (!prepared.ok) return prepared
    const version = await query(VERSION)
    return version.ok ? runAll(query, [...stepsFrom(versionIn(version)), ...grantsFor(role)]) : version
  })
  if (!migrated.ok) throw new ConfigError([`AUDIT_ADMIN_URL ${ruleOf(migrated.reason, ADMIN_RULES)}`])
}

/** @throws ConfigError where the tables are missing or old */
export const checkSchema = async ({ query }: Connections): Promise<void> => {
  const version = await query(VERSION)
  if (!version.ok) throw new ConfigError([`AUDIT_URL ${ruleOf(version.reason)}`])
  if (versionIn(version) < STEPS.length) throw new ConfigError([`AUDIT_URL ${OLD_RULE}`])
}

/** The role that a connection is, by the name that the server knows it by. @throws ConfigError where there is none */
export const roleOf = async ({ query }: Connections): Promise<string> => {
  const role = await query('SELECT quote_ident(current_user) AS name')
  if (!role.ok) throw new ConfigError([`AUDIT_URL ${ruleOf(role.reason)}`])
  return String(role.rows[0]?.name)
}

const bootstrap = async (query: Query): Promise<Answer> => {
  // The owner of the schema may lack the right to create one.
  const known = await query("SELECT to_regclass('audit.schema_version') IS NOT NULL AS known")
  return known.ok && known.rows[0]?.known !== true ? query(BOOTSTRAP) : known
}

const stepsFrom = (version: number): readonly string[] =>
  STEPS.slice(version).flatMap((step, index) => [
    step,
    `INSERT INTO audit.schema_version (version) VALUES (${version + index + 1})`,
  ])

const grantsFor = (role: string): readonly string[] => [
  `GRANT USAGE ON SCHEMA audit TO ${role}`,
  `GRANT SELECT ON audit.schema_version TO ${role}`,
  `GRANT SELECT, INSERT ON audit.intents, audit.outcomes TO ${role}`,
  `GRANT SELECT ON audit.current_outcomes, audit.projection_progress TO ${role}`,
  `GRANT SELECT ON audit.open_cancellations, audit.final_outcomes TO ${role}`,
  `GRANT EXECUTE ON FUNCTION audit.project_older(integer), audit.live_replicas(text) TO ${role}`,
]

const runAll = async (query: Query, statements: readonly string[]): Promise<Answer> => {
  let answer: Answer = { ok: true, rows: [] }
  for (const statement of statements) {
    answer = await query(statement)
    if (!answer.ok) break
  }
  return answer
}

const versionIn = ({ rows }: Answer & { ok: true }): number => Number(rows[0]?.version)

/** The rule that AUDIT_URL breaks where the tables are missing or old. */
export const OLD_RULE =
  'names a database without the tables of this version: AUDIT_ADMIN_URL makes them, here or for npm run migrate'
const RIGHTS_RULE = 'needs a role that may read and append the record: AUDIT_ADMIN_URL grants it that'

const RULES: Readonly<Record<string, string>> = {
  '3F000': OLD_RULE,
  '42P01': OLD_RULE,
  '42501': RIGHTS_RULE,
}

const ADMIN_RULES: Readonly<Record<string, string>> = {
  '42501': 'needs a role that owns the record or may make a schema, and grant rights on it',
}

/** The rule that a setting breaks where a statement failed for that reason. */
export const ruleOf = (reason: string, rules: Readonly<Record<string, string>> = RULES): string =>
  ruleFor(reason, rules)
