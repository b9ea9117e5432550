import type { IntentValues, OutcomeDetails, OutcomeValues, RecordRow } from './columns.ts'

/**
 * The result of a cancellation. `refused`: by the gateway. `accepted`, `cancelled`: by upstream, as it reported.
 * `too-late`: accepted, but the task completed without being cancelled. `rejected`: by upstream, for a reason of the
 * task. `failed`: never took effect. `unknown`: can't be determined.
 */
export const OUTCOMES = ['refused', 'accepted', 'cancelled', 'too-late', 'rejected', 'failed', 'unknown'] as const

export type Outcome = (typeof OUTCOMES)[number]

/** The caller and its request, written before anything is sent. */
export type Intent = IntentValues

/** A result of an intent. There can be several; a definitive one supersedes `unknown`, never the reverse. */
export type OutcomeEvent = OutcomeValues & { readonly outcome: Outcome }

const NO_DETAILS: OutcomeDetails = {
  ...{ attempts: null, requestId: null, upstreamCode: null, settledBy: null },
  ...{ taskStatus: null, taskCancelStatus: null, taskSeenAtMs: null },
}

/** Builds each outcome event. A detail that is not given is null. */
export const outcomeEvent = (
  cancellationId: string,
  outcome: Outcome,
  finishedAtMs: number,
  details: Partial<OutcomeDetails> = {},
): OutcomeEvent => ({ cancellationId, outcome, finishedAtMs, ...NO_DETAILS, ...details })

/** An intent with its current outcome. */
export interface AuditRecord extends Omit<RecordRow, 'seq' | 'outcome' | 'isFinal'> {
  readonly outcome: Outcome | 'pending'
  /** Nothing changes the outcome any more but a definite answer that is written late. */
  readonly isFinal: boolean
  /** The event holds an outcome that this version does not know; it is shown as `unknown`. */
  readonly isUnrecognized?: true
}

export interface AuditFilter {
  readonly taskNo?: string | undefined
  readonly caller?: string | undefined
  readonly outcome?: Outcome | 'pending' | undefined
  /** The caller that owns the records; a name alone does not identify one. */
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

/** The order in which outcomes became final, oldest first. */
export interface FinalFilter extends Omit<AuditFilter, 'before'> {
  /** The number of the end after which the page begins; 0 begins with the first. */
  readonly after: number
}

export interface FinalPage {
  readonly records: readonly AuditRecord[]
  /** The number of the last end that was compared; `after` where there is no later one. */
  readonly next: number
}

/** A task as a reading showed it. Times are milliseconds since the epoch. */
export interface Sighting {
  readonly status: string
  readonly cancelStatus: string
  readonly seenAtMs: number
}

export interface AuditPage {
  readonly records: readonly AuditRecord[]
  /** Position to continue from, or null at the end. */
  readonly next: Position | null
}

/**
 * A read or write that the store could not do. The code is its reason, one word: an SQLSTATE, or a name of SQLite's, of
 * the operating system's or of ours. Neither code nor message holds anything of the record or of the settings.
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
 * An append that failed. `indeterminate`: it may have been done. `invalid`: the given data can't be stored, however
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

/**
 * Append-only events, and the records that follow from them. A promise of an append resolves once the append is
 * durable; every promise rejects if the store fails.
 */
export interface AuditStore {
  /**
   * One commit: all of it or nothing. An event that is there already, since it is tried again, is not doubled.
   * @throws AppendError
   */
  append(intents: readonly Intent[], outcomes: readonly OutcomeEvent[]): Promise<void>
  /** A reading that is aborted rejects, and does not go on in the database. */
  find(id: string, signal?: AbortSignal): Promise<AuditRecord | null>
  list(filter: AuditFilter, signal?: AbortSignal): Promise<AuditPage>
  /** The newest reading of the task among the events of a cancellation. */
  lastSighting(id: string, signal?: AbortSignal): Promise<Sighting | null>
  /** Ends after a number, oldest first. A page can be short though later ones have more. */
  listFinal(filter: FinalFilter, signal?: AbortSignal): Promise<FinalPage>
  /** The number of the last end; 0 where there is none. */
  lastFinal(): Promise<number>
  /** Writes something that is not an event, to learn whether writing works. */
  probe(): Promise<void>
  close(): Promise<void>
}

/** Reads the audit trail beside the gateway that writes it, and changes nothing there. */
export type AuditReader = Pick<AuditStore, 'list' | 'close'>

/** An intent whose process has ended, and the outcome that was written for it. */
export interface AbandonedIntent {
  readonly intent: Pick<Intent, 'taskNo' | 'requestedAtMs'>
  readonly outcome: OutcomeEvent
}

/** A cancellation whose outcome is not final, and the process that accepted it. */
export interface OpenRecord
  extends Pick<AuditRecord, 'id' | 'taskNo' | 'requestedAtMs' | 'outcome' | 'isUnrecognized'>,
    Position {
  readonly instanceId: string
}

export interface OpenPage {
  readonly records: readonly OpenRecord[]
  readonly next: Position | null
}

/** A store with its maintenance. */
export interface OpenedStore extends AuditStore {
  /** How many intents a crash had left pending; they are `unknown` now. */
  readonly recovered: number
  /** Makes pending intents of other processes `unknown`, once their deadline is over. */
  recover(): Promise<readonly AbandonedIntent[]>
  /** Cancellations whose outcome is not final, newest first. */
  listOpen(before: Position | null, limit: number): Promise<OpenPage>
  /** Tells that this process is at work. Returns the processes that were in the last 30 seconds, this one included. */
  liveReplicas(instanceId: string): Promise<readonly string[]>
  /** Projects some of the cancellations that are older than the projection; false where none is left. */
  backfill(): Promise<boolean>
  /** Removes some of the records that are so old, if there are any; null where that is not for this process to do. */
  readonly prune: ((ageMs: number) => Promise<boolean>) | null
}
