import { randomUUID } from 'node:crypto'
import { RAM_ACTIONS } from '../alibaba/ram-actions.ts'
import type { UpstreamResult } from '../alibaba/response.ts'
import { createAuditTrail } from '../audit/audit-trail.ts'
import { type Intent, outcomeEvent } from '../audit/store.ts'
import { outcomeOf } from '../tasks/settle.ts'
import { NO_METER } from '../telemetry/meter.ts'
import { type Deadline, deadlineIn, RECORD_RESERVE_MS, SETTLE_RESERVE_MS } from '../time.ts'
import { createCollectingLog, type Finding, failure, ok, reasonIn, warning } from './finding.ts'
import type { Subject } from './subject.ts'
import { forbidden } from './upstream-checks.ts'

/** The caller in the audit record, and its address: that of no other machine. */
const CALLER = {
  via: 'anonymous',
  issuer: null,
  callerDisplayName: null,
  caller: 'doctor',
  userAgent: 'doctor',
} as const
const ADDRESS = '127.0.0.1'

/**
 * Whether the RAM policy permits to cancel: a CancelTask for a task number that does not exist, after its intent is
 * durable in the audit record. Nothing is sent without it.
 */
export const checkCancelPolicy = async (subject: Subject): Promise<Finding> => {
  if (!subject.isCancelProbed)
    return ok('not checked: --probe-cancel sends a CancelTask for a task that does not exist')
  const store = await subject.store().catch(() => null)
  if (store === null) {
    return failure(
      'nothing was sent: the audit record cannot be written',
      'Stop the gateway that uses it, or repair it.',
    )
  }
  const log = createCollectingLog()
  const trail = createAuditTrail({ store, log, meter: NO_METER })
  const deadline = deadlineIn(subject.config.requestTimeoutMs)
  const intent = intentFor(subject, deadline)
  try {
    await trail.recordIntent(intent, deadline.minus(SETTLE_RESERVE_MS))
  } catch {
    return failure(`nothing was sent: the audit record cannot be written (${reasonIn(log.lines)})`, 'Repair it first.')
  }
  const { upstream } = await subject.query()
  const params = { TaskNo: intent.taskNo, UserClientIp: ADDRESS }
  const result = await upstream.call('CancelTask', params, {
    priority: 'cancel',
    deadline: deadline.minus(RECORD_RESERVE_MS),
  })
  await trail.recordOutcome(outcomeFor(intent, result), deadline)
  return findingOf(result)
}

const intentFor = ({ instanceId }: Subject, deadline: Deadline): Intent => ({
  ...{ id: randomUUID(), taskNo: randomUUID(), ...CALLER, clientIp: ADDRESS, peerIp: null },
  ...{ requestedAtMs: Date.now(), gatewayRequestId: randomUUID(), instanceId },
  deadlineAtMs: Math.ceil(Date.now() + deadline.remainingMs()),
})

const outcomeFor = ({ id }: Intent, result: UpstreamResult) =>
  outcomeEvent(id, outcomeOf({ result, observed: null }), Date.now(), {
    attempts: result.attempts,
    requestId: result.requestId,
    upstreamCode: result.ok ? null : result.upstreamCode,
  })

/**
 * (assumption) policy-first: the upstream checks the policy before the task, so that a refusal about the task proves the
 * right.
 */
const findingOf = (result: UpstreamResult): Finding => {
  if (result.ok) {
    return warning('the upstream accepted to cancel a task that does not exist', 'This proves no right. Report it.')
  }
  const { code, upstreamCode } = result
  if (code === 'task-not-found' || code === 'task-not-cancellable') {
    return ok(`the policy permits ${RAM_ACTIONS.CancelTask} (${upstreamCode})`)
  }
  if (code === 'upstream-forbidden') return forbidden(result, RAM_ACTIONS.CancelTask)
  return warning(`not shown: the call ended with ${code} (${upstreamCode ?? 'no code'})`, 'Correct the other findings.')
}
