import { randomUUID } from 'node:crypto'
import type { AuditRecord, Intent, OutcomeEvent } from '../../src/audit/store.ts'

export const intentOf = (fields: Partial<Intent> = {}): Intent => ({
  id: randomUUID(),
  taskNo: 't-1',
  via: 'api-key',
  issuer: null,
  caller: 'operator',
  callerDisplayName: null,
  clientIp: '203.0.113.7',
  peerIp: '127.0.0.1',
  userAgent: 'test',
  requestedAtMs: 1000,
  gatewayRequestId: randomUUID(),
  instanceId: 'i-1',
  deadlineAtMs: 16_000,
  ...fields,
})

export const outcomeOf = (intent: Intent, fields: Partial<OutcomeEvent> = {}): OutcomeEvent => ({
  cancellationId: intent.id,
  outcome: 'accepted',
  attempts: 1,
  requestId: 'r-1',
  upstreamCode: null,
  finishedAtMs: 2000,
  settledBy: null,
  taskStatus: null,
  taskCancelStatus: null,
  taskSeenAtMs: null,
  ...fields,
})

/** A record of an accepted cancellation. */
export const recordOf = (fields: Partial<AuditRecord> = {}): AuditRecord => {
  const { instanceId: _instance, deadlineAtMs: _deadline, ...intent } = intentOf()
  const details = { attempts: 1, requestId: 'r-1', upstreamCode: null, finishedAtMs: 2000, settledBy: null }
  return { ...intent, outcome: 'accepted', isFinal: false, ...details, ...fields }
}
