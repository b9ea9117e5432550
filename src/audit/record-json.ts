import { isoTime } from '../time.ts'
import { visible, visibleOrNull, visibleUserAgent } from '../visible-text.ts'
import type { AuditRecord } from './store.ts'

/** A record as callers and exports see it. Earlier versions wrote texts as they came, so they are escaped here too. */
export const recordToJson = (record: AuditRecord) => ({
  id: record.id,
  taskNo: visible(record.taskNo),
  caller: visible(record.caller),
  via: record.via,
  clientIp: record.clientIp,
  peerIp: record.peerIp,
  userAgent: visibleUserAgent(record.userAgent),
  requestedAt: isoTime(record.requestedAtMs),
  outcome: record.outcome,
  attempts: record.attempts,
  requestId: visibleOrNull(record.requestId),
  upstreamCode: visibleOrNull(record.upstreamCode),
  finishedAt: isoTime(record.finishedAtMs),
  gatewayRequestId: record.gatewayRequestId,
  settledBy: record.settledBy,
})
