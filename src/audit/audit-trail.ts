import { setTimeout as delay } from 'node:timers/promises'
import { createLinkedList } from '../collections.ts'
import { GatewayError } from '../errors.ts'
import { describeError, type Log } from '../telemetry/log.ts'
import type { Meter } from '../telemetry/meter.ts'
import { type Deadline, deadlineIn, withDeadline } from '../time.ts'
import {
  AppendError,
  type AuditFilter,
  type AuditPage,
  type AuditRecord,
  type AuditStore,
  type FinalFilter,
  type FinalPage,
  type Intent,
  type OutcomeEvent,
  outcomeEvent,
  type Sighting,
  StoreError,
} from './store.ts'

export interface AuditTrailOptions {
  readonly store: AuditStore
  readonly log: Log
  readonly meter: Meter
  /** Called after each append that holds an outcome. */
  readonly onOutcome?: () => void
  readonly now?: () => number
}

const OUTCOME_WAIT_MS = 1000
const READ_MS = 5000
const PROBE_MS = 2000
const CLOSE_MS = 1000
const RETRY_MIN_MS = 100
const RETRY_MAX_MS = 5000

export type AuditTrail = ReturnType<typeof createAuditTrail>

/** The audit trail of cancellations: each intent is recorded before the call, and each outcome after it. */
export const createAuditTrail = ({ store, log, meter, onOutcome, now = Date.now }: AuditTrailOptions) => {
  const unwritten = createLinkedList<Promise<void>>()
  /** Intents without a written outcome. */
  const openIntents = new Map<string, Intent>()
  const unwrittenOutcomes = new Set<OutcomeEvent>()
  const closing = new AbortController()
  /** The reason of the last probe's failure. */
  let writeFault: string | null = null

  const append: AuditStore['append'] = async (intents, outcomes) => {
    const startedAtMs = performance.now()
    let isDone = false
    try {
      await store.append(intents, outcomes)
      isDone = true
      if (outcomes.length > 0) onOutcome?.()
    } finally {
      meter.auditWrite({ isDone, durationMs: performance.now() - startedAtMs })
    }
  }

  const writeOutcome = async (outcome: OutcomeEvent): Promise<void> => {
    const { cancellationId } = outcome
    let intents: readonly Intent[] = []
    for (let waitMs = RETRY_MIN_MS; ; waitMs = Math.min(waitMs * 2, RETRY_MAX_MS)) {
      try {
        return await append(intents, [outcome])
      } catch (error) {
        const intent = openIntents.get(cancellationId)
        if (kindOf(error) === 'invalid' && (intent === undefined || intents.length > 0)) throw error
        unwrittenOutcomes.add(outcome)
        // It may be gone with the server that had it, or have come after its outcome.
        if (intent !== undefined) intents = [intent]
        const reason = reasonOf(error)
        log.error('the outcome of a cancellation could not be written; the write is retried', {
          cancellationId,
          reason,
          waitMs,
        })
        await delay(waitMs, undefined, { signal: closing.signal })
      }
    }
  }

  /** Probes are frequent: the log has a line for each change. */
  const noteWritable = (fault: string | null): void => {
    if (fault === writeFault || closing.signal.aborted) return
    if (fault === null) log.info('the audit trail is writable again')
    else log.error('the audit trail is not writable; the gateway is not ready', { reason: fault })
    writeFault = fault
  }

  /** Closing waits for each tracked write. */
  const track = (writing: Promise<void>): Promise<void> => writing.finally(unwritten.add(writing))

  /** A tracked write can start another one: a late intent needs an outcome. */
  const allWritten = async (): Promise<void> => {
    while (unwritten.size > 0) await Promise.all(unwritten.values())
  }

  /**
   * Writes the outcome. Resolves once it is durable, or after a second at most, since the response need not wait for
   * it; then further attempts follow in the background.
   */
  const recordOutcome = async (outcome: OutcomeEvent, deadline: Deadline): Promise<void> => {
    const { cancellationId } = outcome
    const written = track(
      writeOutcome(outcome)
        .catch((error: unknown) => {
          log.error('the outcome of a cancellation was never written', { cancellationId, reason: reasonOf(error) })
        })
        .finally(() => {
          openIntents.delete(cancellationId)
          unwrittenOutcomes.delete(outcome)
        }),
    )
    await withDeadline(deadlineIn(Math.min(OUTCOME_WAIT_MS, deadline.remainingMs())), written, undefined)
  }

  const readInTime = async <T>(
    read: (signal: AbortSignal) => Promise<T>,
    deadline: Deadline,
    caller?: AbortSignal,
  ): Promise<T> => {
    const abandoned = new AbortController()
    const abandon = (): void => abandoned.abort()
    caller?.addEventListener('abort', abandon, { once: true })
    if (caller?.aborted) abandon()
    const readable = deadlineIn(Math.min(READ_MS, deadline.remainingMs()))
    const answer = await withDeadline(
      readable,
      read(abandoned.signal).then(
        (value) => ({ value }),
        (error: unknown) => ({ error }),
      ),
      { error: new StoreError(NO_ANSWER) },
    )
    caller?.removeEventListener('abort', abandon)
    if ('value' in answer) return answer.value
    abandon()
    if (!caller?.aborted) {
      log.error('the audit trail could not be read', { ...describeError(answer.error), reason: reasonOf(answer.error) })
    }
    throw new GatewayError('audit-unavailable')
  }

  const warnUnrecognized = (records: readonly (AuditRecord | null)[]): void => {
    const [first] = records.filter((record) => record?.isUnrecognized === true)
    if (!first) return
    log.warn('an audit record has an outcome that this version does not know', { cancellationId: first.id })
  }

  const recordNotSent = (intent: Intent, deadline: Deadline): Promise<void> => {
    openIntents.set(intent.id, intent)
    return recordOutcome(outcomeEvent(intent.id, 'failed', now(), { attempts: 0 }), deadline)
  }

  return {
    /**
     * Resolves once the intent is durable.
     * @throws audit-unavailable where it can't be written by the deadline; then nothing may be sent
     */
    recordIntent: async (intent: Intent, deadline: Deadline): Promise<void> => {
      const write = append([intent], []).then(() => null, failureOf)
      const failure = await withDeadline(deadline, write, { kind: 'undone', reason: NO_ANSWER })
      if (failure === null) return void openIntents.set(intent.id, intent)
      // A write that comes through after all must not stay pending: nothing is sent for it.
      const isThere = (end: WriteFailure | null): boolean => end === null || end.kind === 'indeterminate'
      void track(write.then((end) => (isThere(end) ? recordNotSent(intent, deadline) : undefined)))
      const { reason } = failure
      log.error('the intent of a cancellation could not be written', { cancellationId: intent.id, reason })
      throw new GatewayError('audit-unavailable', { outcome: 'not-cancelled' })
    },

    /**
     * Writes intent and outcome of a call that is not sent. A failure is only logged, since sending nothing stays
     * right.
     */
    recordUnsent: async (intent: Intent, outcome: OutcomeEvent, deadline: Deadline): Promise<void> => {
      const write = track(
        append([intent], [outcome]).catch((error: unknown) => {
          log.error('a refused cancel could not be recorded', { cancellationId: intent.id, reason: reasonOf(error) })
        }),
      )
      const state = await withDeadline(deadline, write, 'late' as const)
      if (state === 'late') log.error('a refused cancel is not recorded yet', { cancellationId: intent.id })
    },

    recordOutcome,
    /**
     * The signal says that the caller has left: the read ends.
     * @throws audit-unavailable where the store does not respond in time
     */
    find: async (id: string, deadline: Deadline, signal?: AbortSignal): Promise<AuditRecord | null> => {
      const record = await readInTime((abandoned) => store.find(id, abandoned), deadline, signal)
      warnUnrecognized([record])
      return record
    },
    /** Like `find`: the newest reading of the task. @throws audit-unavailable */
    lastSighting: (id: string, deadline: Deadline, signal?: AbortSignal): Promise<Sighting | null> =>
      readInTime((abandoned) => store.lastSighting(id, abandoned), deadline, signal),
    /** Like `find`: outcomes in the order in which they became final. @throws audit-unavailable */
    listFinal: async (filter: FinalFilter, deadline: Deadline, signal?: AbortSignal): Promise<FinalPage> => {
      const page = await readInTime((abandoned) => store.listFinal(filter, abandoned), deadline, signal)
      warnUnrecognized(page.records)
      return page
    },
    /** Like `find`. @throws audit-unavailable where the store does not respond in time */
    list: async (filter: AuditFilter, deadline: Deadline, signal?: AbortSignal): Promise<AuditPage> => {
      const page = await readInTime((abandoned) => store.list(filter, abandoned), deadline, signal)
      warnUnrecognized(page.records)
      return page
    },
    /** The number of outcomes that could not be written yet, and are tried again. */
    unwritten: () => unwrittenOutcomes.size,
    isWritable: async (): Promise<boolean> => {
      const probed = store.probe().then(() => null, failureOf)
      const failure = await withDeadline(deadlineIn(PROBE_MS), probed, { kind: 'undone', reason: NO_ANSWER })
      noteWritable(failure?.reason ?? null)
      return failure === null
    },

    /** Waits for unwritten outcomes until the deadline, then closes the store. */
    close: async (deadline: Deadline): Promise<void> => {
      await withDeadline(deadline, allWritten(), undefined)
      closing.abort()
      await withDeadline(deadlineIn(CLOSE_MS), allWritten(), undefined)
      await withDeadline(deadlineIn(CLOSE_MS), store.close(), undefined)
    },
  }
}

type Failure = AppendError['kind'] | 'undone'

const kindOf = (error: unknown): Failure => (error instanceof AppendError ? error.kind : 'undone')

/** The reason of a store's failure, for the log. */
const reasonOf = (error: unknown): string => {
  const { errorCode, errorName } = describeError(error)
  return String(errorCode ?? errorName)
}
/** The reason where the store did not answer in time. */
const NO_ANSWER = 'TIMEOUT'

interface WriteFailure {
  readonly kind: Failure
  readonly reason: string
}

const failureOf = (error: unknown): WriteFailure => ({ kind: kindOf(error), reason: reasonOf(error) })
