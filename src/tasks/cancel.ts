import { randomUUID } from 'node:crypto'
import type { CallLimits, Upstream } from '../alibaba/client.ts'
import { failed, type UpstreamFailure } from '../alibaba/response.ts'
import type { QueryContext } from '../alibaba/task-queries.ts'
import type { AuditTrail } from '../audit/audit-trail.ts'
import { type Intent, type OutcomeEvent, outcomeEvent } from '../audit/store.ts'
import type { Caller } from '../callers/caller.ts'
import { createLinkedList } from '../collections.ts'
import { GatewayError, type Lang, upstreamFacts } from '../errors.ts'
import { describeError, type Log } from '../telemetry/log.ts'
import type { Meter } from '../telemetry/meter.ts'
import type { Tracer } from '../telemetry/tracing.ts'
import { type Deadline, deadlineIn, RECORD_RESERVE_MS, SETTLE_RESERVE_MS } from '../time.ts'
import { visibleUserAgent } from '../visible-text.ts'
import type { FollowUp } from './follow-up.ts'
import type { Lookup } from './lookup.ts'
import type { Permission, Permissions } from './permission.ts'
import { createRefusals } from './refusals.ts'
import { type CallResult, createSettling, outcomeOf } from './settle.ts'
import { createSharedCalls, type SharedCall } from './shared-calls.ts'

/** One `DELETE /tasks/:taskNo`: its caller, the address of the caller, and how long the caller waits. */
export interface CancelRequest {
  readonly taskNo: string
  readonly caller: Caller
  /** Both are null where the connection is already closed. */
  readonly clientIp: string | null
  readonly peerIp: string | null
  readonly userAgent: string | null
  readonly lang: Lang
  readonly gatewayRequestId: string
  readonly deadline: Deadline
  /** Aborts when the caller disconnects. */
  readonly signal: AbortSignal
  /** For how long the task is watched until it is cancelled; the deadline can shorten it. 0 returns at once. */
  readonly waitMs: number
}

export interface Cancelled {
  readonly cancellationId: string
  /** Of the response upstream; null where the status of the task proved the success instead. */
  readonly requestId: string | null
  readonly cancelStatus: 'accepted' | 'cancelling' | 'cancelled'
  /** The time for which the task was to be watched; 0 where it could not be read. */
  readonly waitedMs: number
}

export type Cancellations = ReturnType<typeof createCancellations>

export interface CancellationOptions {
  readonly upstream: Pick<Upstream, 'call'>
  readonly lookup: Lookup
  readonly permissions: Pick<Permissions, 'forCancel'>
  /** Reads the tasks of open outcomes after their requests have ended. */
  readonly followUp: Pick<FollowUp, 'track'>
  readonly trail: AuditTrail
  readonly log: Log
  readonly meter: Meter
  readonly tracer: Tracer
  /** Identifies this process in the audit trail. */
  readonly instanceId: string
  /** How many refused cancels of one caller are recorded one by one in a window. */
  readonly refusalLimit: { readonly max: number; readonly windowMs: number }
  readonly now?: () => number
}

/** For recording the counted refusals of a window. No request waits for it. */
const COUNTED_REFUSALS_TIMEOUT_MS = 5000

/** The result of a request whose time ended before its call did. */
const TIMED_OUT: CallResult = { result: failed('call', 'timeout', { sent: true, attempts: 1 }), observed: null }

export const createCancellations = (options: CancellationOptions) => {
  const { upstream, lookup, permissions, followUp, trail, log, instanceId, refusalLimit, now = Date.now } = options
  const { meter, tracer } = options
  const settling = createSettling(lookup)
  const sharedCalls = createSharedCalls<CallResult>()
  const inFlight = createLinkedList<Promise<unknown>>()

  const track = <T>(running: Promise<T>): Promise<T> => running.finally(inFlight.add(running))

  const intentOf = (request: CancelRequest): Intent => ({
    id: uuidV7(now()),
    taskNo: request.taskNo,
    via: request.caller.via,
    issuer: request.caller.issuer,
    caller: request.caller.name,
    callerDisplayName: request.caller.displayName,
    clientIp: request.clientIp,
    peerIp: request.peerIp,
    userAgent: visibleUserAgent(request.userAgent),
    requestedAtMs: now(),
    gatewayRequestId: request.gatewayRequestId,
    instanceId,
    deadlineAtMs: Math.ceil(now() + request.deadline.remainingMs()),
  })

  const reportUnexpected = (error: unknown): UpstreamFailure => {
    log.error('an upstream call failed with an internal error', describeError(error))
    return failed('call', 'unexpected', { sent: true, attempts: 1 })
  }

  const joinCall = (request: CancelRequest, clientIp: string): SharedCall<CallResult> =>
    sharedCalls.join(sharedCallKey(request), async (control) => {
      const { taskNo, lang, deadline } = request
      const limits: CallLimits = {
        priority: 'cancel',
        deadline: deadline.minus(SETTLE_RESERVE_MS),
        currentSignal: control.currentSignal,
      }
      const params = { TaskNo: taskNo, UserClientIp: clientIp, Lang: lang }
      const result = await upstream.call('CancelTask', params, limits).catch(reportUnexpected).finally(control.close)
      if (result.ok) lookup.invalidate(taskNo)
      return await settling.settle(taskNo, result, settleDeadline(deadline))
    })

  const report = (intent: Intent, outcome: OutcomeEvent): void => {
    log.info('cancellation', summary(intent, outcome))
    meter.cancellation(outcome.outcome)
  }

  const recordOutcome = async (intent: Intent, callResult: CallResult, deadline: Deadline): Promise<void> => {
    const outcome = callEvent(intent, callResult, now())
    followUp.track(intent, outcome)
    await tracer.span('record outcome', 'internal', async (span) => {
      span.set({ 'gateway.outcome': outcome.outcome })
      await trail.recordOutcome(outcome, deadline)
    })
    report(intent, outcome)
  }

  /** If the caller asked to wait: watches the task until it is cancelled, and records that as a further outcome. */
  const watchUntilCancelled = async (
    intent: Intent,
    callResult: CallResult,
    request: CancelRequest,
  ): Promise<Cancelled> => {
    const { taskNo, signal } = request
    const { observed } = callResult
    const leftMs = request.deadline.minus(RECORD_RESERVE_MS).remainingMs()
    const waitedMs = Math.min(request.waitMs, Math.max(0, leftMs))
    const common = { cancellationId: intent.id, requestId: requestIdOf(callResult), waitedMs }
    if (observed === 'cancelled' || waitedMs === 0) return { ...common, cancelStatus: observed ?? 'accepted' }
    const read = await settling.watch(taskNo, deadlineIn(waitedMs), signal)
    if (read === null) return { ...common, cancelStatus: observed ?? 'accepted', waitedMs: 0 }
    if (read.cancelStatus !== 'cancelled') return { ...common, cancelStatus: 'cancelling' }
    await recordOutcome(intent, { ...callResult, observed: 'cancelled', taskStatus: read.status }, request.deadline)
    return { ...common, cancelStatus: 'cancelled' }
  }

  /** Records intent and outcome of a cancellation that is not sent: refused (no failure), or failed before sending. */
  const recordUnsent = async (intent: Intent, failure: UpstreamFailure | null, deadline: Deadline): Promise<void> => {
    const outcome = unsentEvent(intent, failure, now())
    report(intent, outcome)
    await trail.recordUnsent(intent, outcome, deadline.minus(RECORD_RESERVE_MS))
  }

  const refusals = createRefusals({
    ...refusalLimit,
    record: async (first, count) => {
      const outcome: OutcomeEvent = { ...unsentEvent(first, null, now()), attempts: count }
      log.warn('a caller exceeded the limit of refused cancels', { ...identity(first), refusals: count })
      await trail.recordUnsent(first, outcome, deadlineIn(COUNTED_REFUSALS_TIMEOUT_MS))
    },
  })

  /** Returns the id of the audit record; null where the refusal is only counted. */
  const recordRefusal = async (intent: Intent, deadline: Deadline): Promise<string | null> => {
    if (refusals.isRecordedAlone(intent)) {
      await recordUnsent(intent, null, deadline)
      return intent.id
    }
    meter.cancellation('refused')
    meter.rateLimited('refusals')
    return null
  }

  const permissionFor = async (request: CancelRequest): Promise<Permission> => {
    const { taskNo, clientIp, lang, signal } = request
    const deadline = request.deadline.minus(SETTLE_RESERVE_MS)
    const context: QueryContext = { priority: 'check', caller: { clientIp, lang }, deadline, signal }
    return await permissions
      .forCancel(taskNo, request.caller, context)
      .catch((error) => ({ kind: 'indeterminate', failure: reportUnexpected(error) }) as const)
  }

  /** @throws GatewayError forbidden where the caller is denied, the code of the failure where that is indeterminate */
  const authorize = async (intent: Intent, request: CancelRequest): Promise<void> => {
    const permission = await tracer.span('policy', 'internal', async (span) => {
      const evaluated = await permissionFor(request)
      span.set({ 'gateway.permission': evaluated.kind })
      return evaluated
    })
    if (permission.kind === 'granted') return
    if (permission.kind === 'indeterminate') {
      const { failure } = permission
      await recordUnsent(intent, failure, request.deadline)
      const facts = { cancellationId: intent.id, outcome: 'not-cancelled' } as const
      throw new GatewayError(failure.code, { ...upstreamFacts(failure), ...facts })
    }
    const cancellationId = await recordRefusal(intent, request.deadline)
    throw new GatewayError('forbidden', { cancellationId, outcome: 'not-cancelled' })
  }

  const run = async (request: CancelRequest): Promise<Cancelled> => {
    const { clientIp } = request
    if (clientIp === null) throw new GatewayError('bad-request', { outcome: 'not-cancelled' })
    const intent = intentOf(request)
    await authorize(intent, request)
    await tracer.span('record intent', 'internal', () =>
      trail.recordIntent(intent, request.deadline.minus(SETTLE_RESERVE_MS)),
    )
    const call = joinCall(request, clientIp)
    const inTime = await call.wait(request)
    // This request may have joined a call that outlives its deadline: the result is recorded when it arrives.
    if (inTime === null) track(call.result.then((late) => recordOutcome(intent, late, request.deadline)))
    const callResult = inTime ?? TIMED_OUT
    await recordOutcome(intent, callResult, request.deadline)
    const { result, observed } = callResult
    if (!result.ok && observed === null) throw failureOf(intent.id, result)
    return await watchUntilCancelled(intent, callResult, request)
  }

  return {
    /**
     * Cancels a task if its caller is allowed to: records the intent, makes one signed call (shared with equal requests
     * of the caller that are in flight), and records the outcome. If the result of the call is not conclusive, the
     * status of the task decides.
     * @throws GatewayError with the `outcome` of this request, and with `cancellationId` once it has one
     */
    cancel: (request: CancelRequest): Promise<Cancelled> => track(run(request)),

    /**
     * Records that the caller was refused. Returns the id of the audit record; null where the caller has reached its
     * limit of refusals, so that this one is only counted.
     */
    refuse: (request: CancelRequest): Promise<string | null> =>
      track(recordRefusal(intentOf(request), request.deadline)),

    /**
     * Resolves when all cancellations in flight have an outcome, even if their callers have disconnected, and when
     * counted refusals are recorded.
     */
    idle: async (): Promise<void> => {
      while (inFlight.size > 0) await Promise.allSettled(inFlight.values())
      await refusals.flush()
    },
  }
}

/**
 * A UUID of version 7 (RFC 9562). It is ordered by time, so that rows of about the same time are adjacent in an index,
 * and a commit changes few of its pages.
 */
const uuidV7 = (atMs: number): string => {
  const time = atMs.toString(16).padStart(12, '0')
  return `${time.slice(0, 8)}-${time.slice(8)}-7${randomUUID().slice(15)}`
}

/**
 * Reading the task uses at most the reserved time, so that a slow read does not delay a result that is already known.
 */
const settleDeadline = (deadline: Deadline): Deadline =>
  deadlineIn(Math.min(SETTLE_RESERVE_MS, deadline.minus(RECORD_RESERVE_MS).remainingMs()))

/** Requests share a call only if upstream cannot distinguish them: same caller, address, language and task. */
const sharedCallKey = ({ taskNo, caller, clientIp, lang }: CancelRequest): string =>
  JSON.stringify([taskNo, caller.via, caller.issuer, caller.name, clientIp, lang])

const callEvent = (intent: Intent, callResult: CallResult, finishedAtMs: number): OutcomeEvent =>
  outcomeEvent(intent.id, outcomeOf(callResult), finishedAtMs, {
    attempts: callResult.result.attempts,
    requestId: requestIdOf(callResult),
    upstreamCode: callResult.result.ok ? null : callResult.result.upstreamCode,
    settledBy: callResult.observed === null ? null : 'query',
    taskStatus: callResult.taskStatus ?? null,
    taskCancelStatus: callResult.observed,
    taskSeenAtMs: callResult.observed === null ? null : finishedAtMs,
  })

/** For a cancellation that was not sent: refused, or failed because the task could not be read. */
const unsentEvent = (intent: Intent, failure: UpstreamFailure | null, finishedAtMs: number): OutcomeEvent =>
  outcomeEvent(intent.id, failure === null ? 'refused' : 'failed', finishedAtMs, {
    attempts: failure?.attempts ?? 0,
    requestId: failure?.requestId ?? null,
    upstreamCode: failure?.upstreamCode ?? null,
  })

/** Of the response that decided the outcome; null where the status of the task decided it. */
const requestIdOf = ({ result, observed }: CallResult): string | null =>
  result.ok || observed === null ? result.requestId : null

const failureOf = (cancellationId: string, result: UpstreamFailure): GatewayError =>
  new GatewayError(result.code, {
    cancellationId,
    outcome: result.ambiguous ? 'unknown' : 'not-cancelled',
    ...upstreamFacts(result),
  })

const identity = (intent: Intent) => ({
  cancellationId: intent.id,
  taskNo: intent.taskNo,
  requestId: intent.gatewayRequestId,
  caller: intent.caller,
  via: intent.via,
  clientIp: intent.clientIp,
})

const summary = (intent: Intent, outcome: OutcomeEvent) => ({
  ...identity(intent),
  outcome: outcome.outcome,
  upstreamCode: outcome.upstreamCode,
  upstreamRequestId: outcome.requestId,
  settledBy: outcome.settledBy,
})
