import { isoTime } from '../iso-time.ts'
import type { AuditRecord } from './trail.ts'

/** A record as callers and exports see it. */
export const toItem = (record: AuditRecord) => ({
  id: record.id,
  taskNo: record.taskNo,
  caller: record.caller,
  via: record.via,
  clientIp: record.clientIp,
  peerIp: record.peerIp,
  userAgent: record.userAgent,
  requestedAt: isoTime(record.requestedAtMs),
  outcome: record.outcome,
  attempts: record.attempts,
  requestId: record.requestId,
  upstreamCode: record.upstreamCode,
  finishedAt: isoTime(record.finishedAtMs),
  gatewayRequestId: record.gatewayRequestId,
  settledBy: record.settledBy,
})
