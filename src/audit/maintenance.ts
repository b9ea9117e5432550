import { pause, repeat } from '../async.ts'
import { describeError, type Log } from '../telemetry/log.ts'
import type { AbandonedIntent, OpenedStore } from './store.ts'

/** Periodic work on the audit trail besides writing and reading. */
export interface Maintenance {
  start(): void
  close(): void
}

export interface MaintenanceOptions {
  readonly store: Pick<OpenedStore, 'recover' | 'backfill' | 'prune'>
  readonly retentionDays: number
  /** Called for each intent whose process has ended without an outcome. */
  readonly onAbandoned: (intent: AbandonedIntent['intent'], outcome: AbandonedIntent['outcome']) => void
  readonly log: Log
  readonly everyMs?: number | undefined
}

const EVERY_MS = 30_000
/** Appends wait for a batch that is written, so batches are small and take a fifth of the time. */
const PAUSE_PER_WORK = 4
const DAY_MS = 24 * 3_600_000
/** An outcome can be found for a day after its intent, which must still exist then. */
const SPARE_MS = 3_600_000

/** The age at which records are removed. */
export const prunedAgeMs = (retentionDays: number): number => retentionDays * DAY_MS + SPARE_MS

export const createMaintenance = (options: MaintenanceOptions): Maintenance => {
  const { store, retentionDays, onAbandoned, log, everyMs = EVERY_MS } = options
  const closing = new AbortController()

  const recover = async (): Promise<void> => {
    for (let lost = await store.recover(); lost.length > 0; lost = await store.recover()) {
      for (const { intent, outcome } of lost) {
        const { cancellationId } = outcome
        log.warn('a pending cancellation of another gateway was recorded as unknown', { cancellationId })
        onAbandoned(intent, outcome)
      }
    }
  }

  const inBatches = async (batch: () => Promise<boolean>): Promise<void> => {
    for (let isThereMore = true; isThereMore && !closing.signal.aborted; ) {
      const startedAtMs = performance.now()
      isThereMore = await batch()
      if (isThereMore) await pause(PAUSE_PER_WORK * (performance.now() - startedAtMs), closing.signal)
    }
  }

  const prune = async (): Promise<void> => {
    const { prune: batch } = store
    if (batch !== null) await inBatches(() => batch(prunedAgeMs(retentionDays)))
  }

  /** Work in flight can fail when the store closes after this; the next start repeats it. */
  const attempt = (work: () => Promise<void>): Promise<void> =>
    work().catch((error: unknown) => {
      if (!closing.signal.aborted) log.error('the maintenance of the audit trail failed', describeError(error))
    })

  return {
    // Separate loops, since pruning and backfill of a large audit trail take minutes.
    start: () => {
      for (const work of [recover, prune, () => inBatches(store.backfill)]) {
        void repeat(() => attempt(work), everyMs, closing.signal)
      }
    },
    close: () => closing.abort(),
  }
}
