import { randomUUID } from 'node:crypto'
import type { CallLimits, Upstream, UpstreamFailure } from '../alibaba/client.ts'
import type { AuditTrail, Intent, OutcomeEvent } from '../audit/audit-trail.ts'
import type { Caller } from '../callers/caller.ts'
import { createLinkedList } from '../collections.ts'
import { GatewayError, type Lang, upstreamFacts } from '../errors.ts'
import { describeError, type Log } from '../telemetry/log.ts'
import type { Meter } from '../telemetry/meter.ts'
import type { Tracer } from '../telemetry/tracing.ts'
import { type Deadline, deadlineIn, RECORD_RESERVE_MS, SETTLE_RESERVE_MS } from '../time.ts'
import { visibleUserAgent } from '../visible-text.ts'
import type { BackgroundSettlement } from './background-settlement.ts'
import type { Lookup } from './lookup.ts'
import type { Permission, Permissions } from './permission.ts'
import { createRefusals } from './refusals.ts'
import { type CallResult, createSettling, outcomeOf } from './settle.ts'
import { createSharedCalls, type SharedCall } from './shared-calls.ts'

/** One `DELETE /tasks/:taskNo`: who asks, from where, and how long they wait. */
export interface CancelRequest {
  readonly taskNo: string
  readonly caller: Caller
  /** Both null where the connection is gone. */
  readonly clientIp: string | null
  readonly peerIp: string | null
  readonly userAgent: string | null
  readonly lang: Lang
  readonly gatewayRequestId: string
  readonly deadline: Deadline
  /** Aborts when the caller goes away. */
  readonly signal: AbortSignal
  /** How long the caller would wait for the task to be cancelled, as far as the deadline allows; 0 for not at all. */
  readonly waitMs: number
}

export interface Cancelled {
  readonly cancellationId: string
  /** Null where the task showed that the goal was reached, rather than an answer. */
  readonly requestId: string | null
  readonly cancelStatus: 'accepted' | 'cancelling' | 'cancelled'
  /** For how long, at most, the task was watched. */
  readonly waitedMs: number
}

export interface Cancellations {
  /**
   * Cancels a task that its caller may touch: intent on record, one signed call (shared with the caller's equal requests
   * under way), outcome on record. What the call leaves open is settled by looking at the task.
   * @throws GatewayError with `outcome` (of this request) and `cancellationId`
   */
  cancel(request: CancelRequest): Promise<Cancelled>
  /**
   * Puts on record that the caller was refused, and returns the id of that record; null where the caller had so many
   * refusals that this one is only counted.
   */
  refuse(request: CancelRequest): Promise<string | null>
  /**
   * Resolves when the cancellations under way have an outcome, those whose callers went away included, and refusals that
   * were only counted are on record.
   */
  idle(): Promise<void>
}

export interface CancellationOptions {
  readonly upstream: Pick<Upstream, 'call'>
  readonly lookup: Lookup
  readonly permissions: Pick<Permissions, 'forCancel'>
  /** Goes on to look at what stays unknown. */
  readonly settlement: Pick<BackgroundSettlement, 'track'>
  readonly trail: AuditTrail
  readonly log: Log
  readonly meter: Meter
  readonly tracer: Tracer
  /** Names this process in the record. */
  readonly instanceId: string
  /** Refused cancels of one caller that are recorded one by one in a window. */
  readonly refusalLimit: { readonly max: number; readonly windowMs: number }
  readonly now?: () => number
}

/** For the record of a window's further refusals, which no request waits for. */
const COUNTED_MS = 5000

const LOST: UpstreamFailure = {
  ok: false,
  code: 'outcome-unknown',
  ambiguous: true,
  sent: true,
  upstreamCode: null,
  requestId: null,
  retryAfterMs: null,
  attempts: 1,
}

const BUG: UpstreamFailure = { ...LOST, code: 'internal' }

/** Of one who could not wait for the landing. */
const TIMED_OUT: CallResult = { result: LOST, observed: null }

export const createCancellations = (options: CancellationOptions): Cancellations => {
  const {
    upstream,
    lookup,
    permissions,
    settlement: unsettled,
    trail,
    log,
    instanceId,
    refusalLimit,
    now = Date.now,
    meter,
    tracer,
  } = options
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
    clientIp: request.clientIp,
    peerIp: request.peerIp,
    userAgent: visibleUserAgent(request.userAgent),
    requestedAtMs: now(),
    gatewayRequestId: request.gatewayRequestId,
    instanceId,
    deadlineAtMs: Math.ceil(now() + request.deadline.remainingMs()),
  })

  // A bug of ours in mid-call proves nothing about the task: only `unknown` is sure to be true.
  const reportUnexpected = (error: unknown): UpstreamFailure => {
    log.error('a call upstream ended in a bug', describeError(error))
    return BUG
  }

  const joinCall = (request: CancelRequest, clientIp: string): SharedCall<CallResult> =>
    sharedCalls.join(sharedCallKey(request), async (control) => {
      const { taskNo, lang, deadline } = request
      const limits: CallLimits = {
        priority: 'cancel',
        deadline: deadline.minus(SETTLE_RESERVE_MS),
        get signal() {
          return control.signal
        },
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

  const recordOutcome = async (intent: Intent, landing: CallResult, deadline: Deadline): Promise<void> => {
    const outcome = outcomeEvent(intent, landing, now())
    unsettled.track(intent, outcome)
    await tracer.span('record outcome', 'internal', async (span) => {
      span.set({ 'gateway.outcome': outcome.outcome })
      await trail.recordOutcome(outcome, deadline)
    })
    report(intent, outcome)
  }

  /** For whoever asked for it: watches the task until it is cancelled, and adds that to the record. */
  const watch = async (intent: Intent, landing: CallResult, request: CancelRequest): Promise<Cancelled> => {
    const { taskNo, signal } = request
    const leftMs = request.deadline.minus(RECORD_RESERVE_MS).remainingMs()
    const waitedMs = Math.min(request.waitMs, Math.max(0, leftMs))
    const known = { cancellationId: intent.id, requestId: requestIdOf(landing), waitedMs }
    if (landing.observed === 'cancelled' || waitedMs === 0)
      return { ...known, cancelStatus: landing.observed ?? 'accepted' }
    const seen = await settling.watch(taskNo, deadlineIn(waitedMs), signal)
    if (seen === null) return { ...known, cancelStatus: landing.observed ?? 'accepted', waitedMs: 0 }
    if (seen !== 'cancelled') return { ...known, cancelStatus: 'cancelling' }
    await recordOutcome(intent, { ...landing, observed: seen }, request.deadline)
    return { ...known, cancelStatus: seen }
  }

  /** Puts on record that nothing is sent, and why. */
  const recordUnsent = async (intent: Intent, failure: UpstreamFailure | null, deadline: Deadline): Promise<void> => {
    const outcome = unsentEvent(intent, failure, now())
    report(intent, outcome)
    await trail.recordUnsent(intent, outcome, deadline.minus(RECORD_RESERVE_MS))
  }

  const refusals = createRefusals({
    ...refusalLimit,
    record: async (first, count) => {
      const outcome: OutcomeEvent = { ...unsentEvent(first, null, now()), attempts: count }
      log.warn('refused cancels of a caller are over their limit', { ...identity(first), refusals: count })
      await trail.recordUnsent(first, outcome, deadlineIn(COUNTED_MS))
    },
  })

  /** Puts on record that the caller was refused. Null where that is only counted. */
  const recordRefusal = async (intent: Intent, deadline: Deadline): Promise<string | null> => {
    if (refusals.isRecordedAlone(intent)) {
      await recordUnsent(intent, null, deadline)
      return intent.id
    }
    meter.cancellation('refused')
    meter.rateLimited('refusals')
    return null
  }

  const permissionFor = async ({
    taskNo,
    caller,
    clientIp,
    lang,
    deadline,
    signal,
  }: CancelRequest): Promise<Permission> => {
    const limits = {
      priority: 'check',
      caller: { clientIp, lang },
      deadline: deadline.minus(SETTLE_RESERVE_MS),
      signal,
    } as const
    return await permissions
      .forCancel(taskNo, caller, limits)
      .catch((error) => ({ kind: 'indeterminate', failure: reportUnexpected(error) }) as const)
  }

  /** @throws forbidden where the task is none of the caller's, another code where that could not be found out */
  const authorize = async (intent: Intent, request: CancelRequest): Promise<void> => {
    const permission = await tracer.span('policy', 'internal', async (span) => {
      const found = await permissionFor(request)
      span.set({ 'gateway.permission': found.kind })
      return found
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

  const run: Cancellations['cancel'] = async (request) => {
    const { clientIp } = request
    if (clientIp === null) throw new GatewayError('bad-request', { outcome: 'not-cancelled' })
    const intent = intentOf(request)
    await authorize(intent, request)
    await tracer.span('record intent', 'internal', () =>
      trail.recordIntent(intent, request.deadline.minus(SETTLE_RESERVE_MS)),
    )
    const call = joinCall(request, clientIp)
    const landed = await call.wait(request)
    // Whose flight began later than this request can be out of time before it: what it comes to is added to the record.
    if (landed === null) track(call.result.then((late) => recordOutcome(intent, late, request.deadline)))
    const landing = landed ?? TIMED_OUT
    await recordOutcome(intent, landing, request.deadline)
    const { result, observed: seen } = landing
    if (!result.ok && seen === null) throw failureOf(intent.id, result)
    return await watch(intent, landing, request)
  }

  const cancel: Cancellations['cancel'] = (request) => track(run(request))

  const refuse: Cancellations['refuse'] = (request) => track(recordRefusal(intentOf(request), request.deadline))

  return {
    cancel,
    refuse,
    idle: async () => {
      while (inFlight.size > 0) await Promise.allSettled(inFlight.values())
      await refusals.flush()
    },
  }
}

/**
 * A UUID of version 7 (RFC 9562): by time, so that rows of about the same time stand side by side in an index, and a commit
 * touches few of its pages.
 */
const uuidV7 = (atMs: number): string => {
  const time = atMs.toString(16).padStart(12, '0')
  return `${time.slice(0, 8)}-${time.slice(8)}-7${randomUUID().slice(15)}`
}

/** What is known already does not wait for a slow answer about the task for longer than is kept for that. */
const settleDeadline = (deadline: Deadline): Deadline =>
  deadlineIn(Math.min(SETTLE_RESERVE_MS, deadline.minus(RECORD_RESERVE_MS).remainingMs()))

/** Requests share a call only where upstream could not tell them apart: same caller, address, language and task. */
const sharedCallKey = ({ taskNo, caller, clientIp, lang }: CancelRequest): string =>
  JSON.stringify([taskNo, caller.via, caller.issuer, caller.name, clientIp, lang])

const outcomeEvent = (intent: Intent, landing: CallResult, finishedAtMs: number): OutcomeEvent => ({
  cancellationId: intent.id,
  outcome: outcomeOf(landing),
  attempts: landing.result.attempts,
  requestId: requestIdOf(landing),
  upstreamCode: landing.result.ok ? null : landing.result.upstreamCode,
  finishedAtMs,
  settledBy: landing.observed === null ? null : 'query',
})

/** Of what was not sent: refused by us, or failed since upstream could not be asked about the task. */
const unsentEvent = (intent: Intent, failure: UpstreamFailure | null, finishedAtMs: number): OutcomeEvent => ({
  cancellationId: intent.id,
  outcome: failure === null ? 'refused' : 'failed',
  attempts: failure?.attempts ?? 0,
  requestId: failure?.requestId ?? null,
  upstreamCode: failure?.upstreamCode ?? null,
  finishedAtMs,
  settledBy: null,
})

/** Upstream's of the answer that decided; where asking decided, there is none. */
const requestIdOf = ({ result, observed: seen }: CallResult): string | null =>
  result.ok || seen === null ? result.requestId : null

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
