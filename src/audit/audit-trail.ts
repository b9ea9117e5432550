import { setTimeout as delay } from 'node:timers/promises'
import { createLinkedList } from '../collections.ts'
import { GatewayError } from '../errors.ts'
import { describeError, type Log } from '../telemetry/log.ts'
import type { Meter } from '../telemetry/meter.ts'
import { type Deadline, deadlineIn, withDeadline } from '../time.ts'

/**
 * What became of a cancellation. `refused`: by us. `accepted`, `cancelled`: by upstream, as we were told.
 * `rejected`: by upstream, for a reason of the task's. `failed`: never took effect. `unknown`: nobody can tell.
 */
export const OUTCOMES = ['refused', 'accepted', 'cancelled', 'rejected', 'failed', 'unknown'] as const

export type Outcome = (typeof OUTCOMES)[number]

/** Who asked for what, written before anything is sent. Times are milliseconds since the epoch. */
export interface Intent {
  readonly id: string
  readonly taskNo: string
  readonly via: string
  readonly issuer: string | null
  readonly caller: string
  readonly clientIp: string | null
  readonly peerIp: string | null
  readonly userAgent: string | null
  readonly requestedAtMs: number
  readonly gatewayRequestId: string
  /** The process that answers for it, and until when. On a record that several share, nobody else may judge it before. */
  readonly instanceId: string
  readonly deadlineAtMs: number
}

/** What was found out about an intent. There can be several; a definitive one supersedes `unknown`, never the reverse. */
export interface OutcomeEvent {
  readonly cancellationId: string
  readonly outcome: Outcome
  readonly attempts: number | null
  readonly requestId: string | null
  readonly upstreamCode: string | null
  readonly finishedAtMs: number
  readonly settledBy: 'query' | null
}

/** The fold of an intent and its outcomes. */
export interface AuditRecord extends Omit<Intent, 'instanceId' | 'deadlineAtMs'> {
  readonly outcome: Outcome | 'pending'
  /** The event holds an outcome that this version does not know; it is shown as `unknown`. */
  readonly isUnrecognized?: true
  readonly attempts: number | null
  readonly requestId: string | null
  readonly upstreamCode: string | null
  readonly finishedAtMs: number | null
  readonly settledBy: 'query' | null
}

export interface AuditFilter {
  readonly taskNo?: string | undefined
  readonly caller?: string | undefined
  readonly outcome?: Outcome | 'pending' | undefined
  /** The one whose records they are; a name alone is not enough to tell. */
  readonly owner?: Pick<AuditRecord, 'via' | 'issuer' | 'caller'> | undefined
  readonly fromMs?: number | undefined
  readonly toMs?: number | undefined
  readonly limit: number
  /** Continues after the record at this position; null starts with the newest. */
  readonly before: Position | null
}

/** The place of a record in the order of all. */
export interface Position {
  readonly requestedAtMs: number
  readonly seq: number
}

export interface AuditPage {
  readonly records: readonly AuditRecord[]
  /** Position to continue from, or null at the end. */
  readonly next: Position | null
}

/**
 * A read or write that the store could not do. The code is its reason, one word: an SQLSTATE, or a name of SQLite's, of the
 * operating system's or of ours. Neither code nor message holds anything of the record or of the settings.
 */
export class StoreError extends Error {
  readonly code: string

  constructor(code: string) {
    super(`the audit store could not do it (${code})`)
    this.name = 'StoreError'
    this.code = code
  }
}

/**
 * An append that failed. `unsure`: it may have been done all the same. `unfit`: what was given can't stand as it is, however
 * often it is tried. Any other error of an append says that nothing was done.
 */
export class AppendError extends StoreError {
  readonly kind: 'indeterminate' | 'invalid'

  constructor(kind: 'indeterminate' | 'invalid', code: string) {
    super(code)
    this.name = 'AppendError'
    this.kind = kind
  }
}

type Failure = AppendError['kind'] | 'undone'

const kindOf = (error: unknown): Failure => (error instanceof AppendError ? error.kind : 'undone')

/** What the log tells of a failure of the store. */
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

/** Append-only events, and their fold. Every promise rejects where the store can't do it; none settles before it is durable. */
export interface AuditStore {
  /**
   * One commit: all of it or nothing. An event that is there already, since it is tried again, is not doubled.
   * @throws AppendError
   */
  append(intents: readonly Intent[], outcomes: readonly OutcomeEvent[]): Promise<void>
  /** A reading that is aborted rejects, and does not go on in the database. */
  find(id: string, signal?: AbortSignal): Promise<AuditRecord | null>
  list(filter: AuditFilter, signal?: AbortSignal): Promise<AuditPage>
  /** Writes something that is not an event, to learn whether writing works. */
  probe(): Promise<void>
  close(): Promise<void>
}

/** Looks at the record beside whoever writes it, and changes nothing there. */
export type AuditReader = Pick<AuditStore, 'list' | 'close'>

/** An intent that nobody is at work on any more, and what was written of that. */
export interface AbandonedIntent {
  readonly intent: Pick<Intent, 'taskNo' | 'requestedAtMs'>
  readonly outcome: OutcomeEvent
}

/** A store with what keeps it in order. */
export interface OpenedStore extends AuditStore {
  /** How many intents a crash had left pending; they are `unknown` now. */
  readonly recovered: number
  /** Makes `unknown` what others left pending, once their time for it is over. */
  recover(): Promise<readonly AbandonedIntent[]>
  /** Projects some of the cancellations that are older than the projection; false where none is left. */
  backfill(): Promise<boolean>
  /** Removes some of the records that are so old, if there are any; null where that is not for this process to do. */
  readonly prune: ((ageMs: number) => Promise<boolean>) | null
}

/** The record of cancellations: intent before, outcome after, nothing missing. */
export interface AuditTrail {
  /**
   * Resolves once the intent is durable.
   * @throws audit-unavailable where it can't be written by the deadline; then nothing may be sent
   */
  recordIntent(intent: Intent, deadline: Deadline): Promise<void>
  /**
   * Writes down, intent and outcome in one, that nothing is sent. What can't be written is reported as an alarm, since
   * sending nothing stays right.
   */
  recordUnsent(intent: Intent, outcome: OutcomeEvent, deadline: Deadline): Promise<void>
  /**
   * Writes the outcome. Resolves once it is durable, or after a second at most, since the answer need not wait for it;
   * then tries on in the background.
   */
  recordOutcome(outcome: OutcomeEvent, deadline: Deadline): Promise<void>
  /**
   * The signal says that the caller has left: the reading ends.
   * @throws audit-unavailable where the store does not answer in time
   */
  find(id: string, deadline: Deadline, signal?: AbortSignal): Promise<AuditRecord | null>
  /** Like `find`. @throws audit-unavailable where the store does not answer in time */
  list(filter: AuditFilter, deadline: Deadline, signal?: AbortSignal): Promise<AuditPage>
  isWritable(): Promise<boolean>
  /** How many outcomes could not be written yet, and are tried again. */
  unwritten(): number
  /** Gives outcomes that are still unwritten until the deadline, then closes the store. */
  close(deadline: Deadline): Promise<void>
}

export interface AuditTrailOptions {
  readonly store: AuditStore
  readonly log: Log
  readonly meter: Meter
  readonly now?: () => number
}

const OUTCOME_WAIT_MS = 1000
const READ_MS = 5000
const PROBE_MS = 2000
const CLOSE_MS = 1000
const RETRY_MIN_MS = 100
const RETRY_MAX_MS = 5000

export const createAuditTrail = ({ store, log, meter, now = Date.now }: AuditTrailOptions): AuditTrail => {
  const unwritten = createLinkedList<Promise<void>>()
  /** Those whose outcome is yet to be written. */
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
        log.error('the outcome of a cancellation could not be written, trying again', {
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
    if (fault === null) log.info('the record can be written again')
    else log.error('the record can not be written, so the gateway is not ready', { reason: fault })
    writeFault = fault
  }

  /** Closing waits for what is tracked. */
  const track = (writing: Promise<void>): Promise<void> => writing.finally(unwritten.add(writing))

  /** What is tracked can begin more: an intent that comes late brings an outcome. */
  const allWritten = async (): Promise<void> => {
    while (unwritten.size > 0) await Promise.all(unwritten.values())
  }

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
      log.error('the record could not be read', { ...describeError(answer.error), reason: reasonOf(answer.error) })
    }
    throw new GatewayError('audit-unavailable')
  }

  const warnUnrecognized = (records: readonly (AuditRecord | null)[]): void => {
    const [first] = records.filter((record) => record?.isUnrecognized === true)
    if (!first) return
    log.warn('the record holds an outcome that this version does not know', { cancellationId: first.id })
  }

  const recordNotSent = (intent: Intent, deadline: Deadline): Promise<void> => {
    openIntents.set(intent.id, intent)
    return recordOutcome(failedBeforeSending(intent, now()), deadline)
  }

  return {
    recordIntent: async (intent, deadline) => {
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

    recordUnsent: async (intent, outcome, deadline) => {
      const write = track(
        append([intent], [outcome]).catch((error: unknown) => {
          log.error('a refusal could not be written', { cancellationId: intent.id, reason: reasonOf(error) })
        }),
      )
      const state = await withDeadline(deadline, write, 'late' as const)
      if (state === 'late') log.error('a refusal is slow to be written', { cancellationId: intent.id })
    },

    recordOutcome,
    find: async (id, deadline, signal) => {
      const record = await readInTime((abandoned) => store.find(id, abandoned), deadline, signal)
      warnUnrecognized([record])
      return record
    },
    list: async (filter, deadline, signal) => {
      const page = await readInTime((abandoned) => store.list(filter, abandoned), deadline, signal)
      warnUnrecognized(page.records)
      return page
    },
    unwritten: () => unwrittenOutcomes.size,
    isWritable: async () => {
      const probed = store.probe().then(() => null, failureOf)
      const failure = await withDeadline(deadlineIn(PROBE_MS), probed, { kind: 'undone', reason: NO_ANSWER })
      noteWritable(failure?.reason ?? null)
      return failure === null
    },

    close: async (deadline) => {
      await withDeadline(deadline, allWritten(), undefined)
      closing.abort()
      await withDeadline(deadlineIn(CLOSE_MS), allWritten(), undefined)
      await withDeadline(deadlineIn(CLOSE_MS), store.close(), undefined)
    },
  }
}

const failedBeforeSending = (intent: Intent, finishedAtMs: number): OutcomeEvent => ({
  cancellationId: intent.id,
  outcome: 'failed',
  attempts: 0,
  requestId: null,
  upstreamCode: null,
  finishedAtMs,
  settledBy: null,
})
