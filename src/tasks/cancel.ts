import { randomUUID } from 'node:crypto'
import type { CallLimits, Upstream, UpstreamFailure, UpstreamResult } from '../alibaba/client.ts'
import type { Intent, Outcome, OutcomeEvent, Trail } from '../audit/trail.ts'
import type { Caller } from '../callers/caller.ts'
import { by, type Deadline, SETTLE_RESERVE_MS } from '../deadline.ts'
import { type ErrorCode, GatewayError, type Lang } from '../errors.ts'
import { describeError, type Log } from '../telemetry/log.ts'

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
}

export interface Cancelled {
  readonly cancellationId: string
  readonly requestId: string
  readonly cancelStatus: 'accepted'
}

export interface Cancellations {
  /**
   * Cancels a task: intent on record, one signed call (shared with the caller's equal requests under way), outcome on record.
   * @throws GatewayError with `outcome` (of this request) and `cancellationId`
   */
  cancel(request: CancelRequest): Promise<Cancelled>
  /** Puts on record that the caller was refused, and returns the id of that record. */
  refuse(request: CancelRequest): Promise<string>
  /** Resolves when the cancellations under way have an outcome, those whose callers went away included. */
  idle(): Promise<void>
}

export interface CancellationOptions {
  readonly upstream: Upstream
  readonly trail: Trail
  readonly log: Log
  /** Names this process in the record. */
  readonly instanceId: string
  readonly now?: () => number
}

/** A call upstream that is under way, and how many callers still wait for it. */
interface Flight {
  readonly result: Promise<UpstreamResult>
  readonly abandon: () => void
  readonly take: () => void
  waiting: number
}

const USER_AGENT_MAX = 256

const OUT_OF_TIME: UpstreamFailure = {
  ok: false,
  code: 'outcome-unknown',
  ambiguous: true,
  upstreamCode: null,
  requestId: null,
  retryAfterMs: null,
  attempts: 1,
}

const BUG: UpstreamFailure = { ...OUT_OF_TIME, code: 'internal' }

export const createCancellations = (options: CancellationOptions): Cancellations => {
  const { upstream, trail, log, instanceId, now = Date.now } = options
  const flights = new Map<string, Flight>()
  const underWay = new Set<Promise<unknown>>()

  const track = <T>(running: Promise<T>): Promise<T> => {
    const tracked = running.finally(() => underWay.delete(tracked))
    underWay.add(tracked)
    return tracked
  }

  const intentOf = (request: CancelRequest): Intent => ({
    id: randomUUID(),
    taskNo: request.taskNo,
    via: request.caller.via,
    issuer: request.caller.issuer,
    caller: request.caller.name,
    clientIp: request.clientIp,
    peerIp: request.peerIp,
    userAgent: request.userAgent?.slice(0, USER_AGENT_MAX) ?? null,
    requestedAtMs: now(),
    gatewayRequestId: request.gatewayRequestId,
    instanceId,
    deadlineAtMs: Math.ceil(now() + request.deadline.remainingMs()),
  })

  // A bug of ours in mid-call proves nothing about the task: only `unknown` is sure to be true.
  const surprise = (error: unknown): UpstreamResult => {
    log.error('a call upstream ended in a bug', describeError(error))
    return BUG
  }

  const takeOff = (key: string, request: CancelRequest, clientIp: string): Flight => {
    let abandoned = new AbortController()
    const limits: CallLimits = {
      deadline: request.deadline,
      get signal() {
        return abandoned.signal
      },
    }
    const params = { TaskNo: request.taskNo, UserClientIp: clientIp, Lang: request.lang }
    const land = (): void => {
      if (flights.get(key) === flight) flights.delete(key)
    }
    const flight: Flight = {
      result: upstream.call('CancelTask', params, limits).catch(surprise).finally(land),
      abandon: () => abandoned.abort(),
      // What was sent before everyone left flies on; for whoever joins it then it may be tried again.
      take: () => {
        if (abandoned.signal.aborted) abandoned = new AbortController()
      },
      waiting: 0,
    }
    flights.set(key, flight)
    return flight
  }

  /**
   * Waits in a flight until it lands or the time is up. Whoever goes away or runs out of time leaves it, and the last to
   * leave gives up what was not sent yet: that lands before any other event, so nobody joins it any more.
   */
  const ride = async (flight: Flight, { signal, deadline }: CancelRequest): Promise<UpstreamResult> => {
    let isAboard = true
    const leave = (): void => {
      if (isAboard) flight.waiting -= 1
      isAboard = false
      if (flight.waiting === 0) flight.abandon()
    }
    flight.waiting += 1
    flight.take()
    if (signal.aborted) leave()
    signal.addEventListener('abort', leave, { once: true })
    return await by(deadline, flight.result, OUT_OF_TIME).finally(() => {
      signal.removeEventListener('abort', leave)
      leave()
    })
  }

  const conclude = async (intent: Intent, result: UpstreamResult, deadline: Deadline): Promise<void> => {
    const outcome = outcomeOf(intent, result, now())
    await trail.finish(outcome, deadline)
    log.info('cancellation', summary(intent, outcome))
  }

  const run: Cancellations['cancel'] = async (request) => {
    const { clientIp } = request
    if (clientIp === null) throw new GatewayError('bad-request', { outcome: 'not-cancelled' })
    const intent = intentOf(request)
    await trail.begin(intent, request.deadline.earlier(SETTLE_RESERVE_MS))
    const key = flightKey(request)
    const flight = flights.get(key) ?? takeOff(key, request, clientIp)
    const result = await ride(flight, request)
    // Whose flight began later than this request can be out of time before it: what it comes to is added to the record.
    if (result === OUT_OF_TIME) track(flight.result.then((late) => conclude(intent, late, request.deadline)))
    await conclude(intent, result, request.deadline)
    if (!result.ok) throw failureOf(intent.id, result)
    return { cancellationId: intent.id, requestId: result.requestId, cancelStatus: 'accepted' }
  }

  const cancel: Cancellations['cancel'] = (request) => track(run(request))

  const refuse: Cancellations['refuse'] = async (request) => {
    const intent = intentOf(request)
    log.info('cancellation', { ...identity(intent), outcome: 'refused' })
    await trail.refuse(intent, request.deadline.earlier(SETTLE_RESERVE_MS))
    return intent.id
  }

  return {
    cancel,
    refuse,
    idle: async () => {
      while (underWay.size > 0) await Promise.allSettled(underWay)
    },
  }
}

/** Requests share a call only where upstream could not tell them apart: same caller, address, language and task. */
const flightKey = ({ taskNo, caller, clientIp, lang }: CancelRequest): string =>
  JSON.stringify([taskNo, caller.via, caller.issuer, caller.name, clientIp, lang])

const REJECTIONS: readonly ErrorCode[] = ['task-not-found', 'task-not-cancellable']

const verdict = (result: UpstreamResult): Outcome => {
  if (result.ok) return 'accepted'
  if (result.ambiguous) return 'unknown'
  return REJECTIONS.includes(result.code) ? 'rejected' : 'failed'
}

const outcomeOf = (intent: Intent, result: UpstreamResult, finishedAtMs: number): OutcomeEvent => ({
  cancellationId: intent.id,
  outcome: verdict(result),
  attempts: result.attempts,
  requestId: result.requestId,
  upstreamCode: result.ok ? null : result.upstreamCode,
  finishedAtMs,
  settledBy: null,
})

const failureOf = (cancellationId: string, result: UpstreamFailure): GatewayError =>
  new GatewayError(result.code, {
    cancellationId,
    outcome: result.ambiguous ? 'unknown' : 'not-cancelled',
    upstreamCode: result.upstreamCode,
    requestId: result.requestId,
    retryAfterMs: result.retryAfterMs,
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
})
