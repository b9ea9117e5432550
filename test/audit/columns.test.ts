import assert from 'node:assert/strict'
import { test } from 'node:test'
import { intentRow, isRecordRow, outcomeRow, recordColumns } from '../../src/audit/columns.ts'
import { POSTGRES_STATEMENTS } from '../../src/audit/postgres.ts'
import { recordToJson } from '../../src/audit/record-json.ts'
import { WRITER_STATEMENTS } from '../../src/audit/sqlite-writer.ts'
import { outcomeEvent } from '../../src/audit/store.ts'

// The text of the generated statements, so that a change of the list of columns shows here.

const oneLine = (sql: string): string => sql.replaceAll(/\s+/g, ' ').trim()

test('the statements of SQLite name each column once', () => {
  assert.equal(
    oneLine(WRITER_STATEMENTS.insertIntent),
    'INSERT OR ROLLBACK INTO intents (id, task_no, caller, caller_display_name, via, issuer, client_ip, peer_ip, ' +
      'user_agent, requested_at, instance_id, deadline_at, gateway_request_id) ' +
      'VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ' +
      'ON CONFLICT (id) DO NOTHING',
  )
  assert.equal(
    oneLine(WRITER_STATEMENTS.insertOutcome),
    'INSERT INTO outcomes (cancellation_id, outcome, attempts, request_id, upstream_code, finished_at, settled_by, ' +
      'task_status, task_cancel_status, task_seen_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING',
  )
})

test('the statement of PostgreSQL names each column with its type, and sets the deadline by the clock of the server', () => {
  assert.equal(
    oneLine(POSTGRES_STATEMENTS.append),
    'WITH appended AS ( INSERT INTO intents (id, task_no, caller, caller_display_name, via, issuer, client_ip, ' +
      'peer_ip, user_agent, requested_at, instance_id, deadline_at, gateway_request_id) ' +
      'SELECT "id", "taskNo", "caller", "callerDisplayName", "via", "issuer", "clientIp", "peerIp", "userAgent", "requestedAtMs", ' +
      '"instanceId", (extract(epoch FROM clock_timestamp()) * 1000)::bigint + "remainingMs", "gatewayRequestId" ' +
      'FROM jsonb_to_recordset($1::jsonb) AS event ("id" text, "taskNo" text, "caller" text, "callerDisplayName" text, "via" text, ' +
      '"issuer" text, "clientIp" text, "peerIp" text, "userAgent" text, "requestedAtMs" bigint, "instanceId" text, ' +
      '"deadlineAtMs" bigint, "gatewayRequestId" text, "remainingMs" bigint) ON CONFLICT (id) DO NOTHING ) ' +
      'INSERT INTO outcomes (cancellation_id, outcome, attempts, request_id, upstream_code, finished_at, settled_by, ' +
      'task_status, task_cancel_status, task_seen_at) ' +
      'SELECT "cancellationId", "outcome", "attempts", "requestId", "upstreamCode", "finishedAtMs", "settledBy", ' +
      '"taskStatus", "taskCancelStatus", "taskSeenAtMs" ' +
      'FROM jsonb_to_recordset($2::jsonb) AS event ("cancellationId" text, "outcome" text, "attempts" integer, ' +
      '"requestId" text, "upstreamCode" text, "finishedAtMs" bigint, "settledBy" text, "taskStatus" text, ' +
      '"taskCancelStatus" text, "taskSeenAtMs" bigint) ON CONFLICT DO NOTHING',
  )
})

test('a query of records names the columns of the intent and of its current outcome', () => {
  assert.equal(
    recordColumns('page'),
    'page.id AS "id", page.task_no AS "taskNo", page.caller AS "caller", ' +
      'page.caller_display_name AS "callerDisplayName", page.via AS "via", page.issuer AS "issuer", ' +
      'page.client_ip AS "clientIp", page.peer_ip AS "peerIp", page.user_agent AS "userAgent", ' +
      'page.requested_at AS "requestedAtMs", outcomes.outcome AS "outcome", outcomes.attempts AS "attempts", ' +
      'outcomes.request_id AS "requestId", outcomes.upstream_code AS "upstreamCode", ' +
      'outcomes.finished_at AS "finishedAtMs", page.gateway_request_id AS "gatewayRequestId", ' +
      'outcomes.settled_by AS "settledBy"',
  )
})

const PENDING = {
  ...{
    id: 'i',
    taskNo: 't',
    caller: 'c',
    callerDisplayName: null,
    via: 'v',
    issuer: null,
    clientIp: null,
    peerIp: null,
    userAgent: null,
  },
  ...{ requestedAtMs: 0, outcome: null, attempts: null, requestId: null, upstreamCode: null, finishedAtMs: null },
  ...{ gatewayRequestId: 'g', settledBy: null },
}

test('the JSON of a record has its members in a fixed order', () => {
  assert.equal(
    JSON.stringify(recordToJson({ ...PENDING, outcome: 'pending', isFinal: false })),
    '{"id":"i","taskNo":"t","caller":"c","callerDisplayName":null,"via":"v","clientIp":null,"peerIp":null,"userAgent":null,' +
      '"requestedAt":"1970-01-01T00:00:00.000Z","outcome":"pending","attempts":null,"requestId":null,' +
      '"upstreamCode":null,"finishedAt":null,"gatewayRequestId":"g","settledBy":null,"isFinal":false}',
  )
})

for (const [fault, fields] of [
  ['an intent without its task', { taskNo: null }],
  ['a time that is no number', { requestedAtMs: '0' }],
  ['an unknown source of an outcome', { settledBy: 'guess' }],
  ['a missing column', { gatewayRequestId: undefined }],
] as const) {
  test(`a row with ${fault} is no record`, () => {
    assert.ok(isRecordRow({ seq: 1, isFinal: 0, ...PENDING }))
    assert.ok(!isRecordRow({ seq: 1, isFinal: 0, ...PENDING, ...fields }))
  })
}

for (const value of [null, undefined, 'row', 1]) {
  test(`${JSON.stringify(value) ?? 'undefined'} is no record`, () => assert.ok(!isRecordRow(value)))
}

test('a row without its number is no record', () => assert.ok(!isRecordRow({ ...PENDING })))

test('the values of an event are in the order of the columns, and null where the event has none', () => {
  const intent = {
    ...{ gatewayRequestId: 'g', deadlineAtMs: 2, instanceId: 'n', requestedAtMs: 1, peerIp: '::1', clientIp: null },
    ...{ via: 'v', caller: 'c', taskNo: 't', id: 'i' },
  }
  assert.deepEqual(intentRow(intent), ['i', 't', 'c', null, 'v', null, null, '::1', null, 1, 'n', 2, 'g'])
  const outcome = outcomeEvent('i', 'accepted', 3, { requestId: 'R-1', attempts: 0 })
  assert.deepEqual(outcomeRow(outcome), ['i', 'accepted', 0, 'R-1', null, 3, null, null, null, null])
})
