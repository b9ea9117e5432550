import { setTimeout as delay } from 'node:timers/promises'
import { describeError, type Log } from '../telemetry/log.ts'
import type { Lost, OpenedStore } from './trail.ts'

/** What a record needs besides being written and read: now and then, one thing after the other. */
export interface Upkeep {
  start(): void
  close(): void
}

export interface UpkeepOptions {
  readonly store: Pick<OpenedStore, 'recover' | 'prune'>
  readonly retentionDays: number
  /** Is told of each intent that turned out to be lost. */
  readonly onLost: (intent: Lost['intent'], outcome: Lost['outcome']) => void
  readonly log: Log
  readonly everyMs?: number | undefined
}

const EVERY_MS = 30_000
const DAY_MS = 24 * 3_600_000
/** Outcomes are found for a day at most, and must find their intent. */
const SPARE_MS = 3_600_000

/** Records are removed once they are so old. */
export const prunedAgeMs = (retentionDays: number): number => retentionDays * DAY_MS + SPARE_MS

export const createUpkeep = (options: UpkeepOptions): Upkeep => {
  const { store, retentionDays, onLost, log, everyMs = EVERY_MS } = options
  const closing = new AbortController()

  const recover = async (): Promise<void> => {
    for (const { intent, outcome } of await store.recover()) {
      const { cancellationId } = outcome
      log.warn('a cancellation that another gateway left pending is unknown now', { cancellationId })
      onLost(intent, outcome)
    }
  }

  const prune = async (): Promise<void> => {
    if (store.prune === null) return
    let isThereMore = true
    while (isThereMore && !closing.signal.aborted) isThereMore = await store.prune(prunedAgeMs(retentionDays))
  }

  const attempt = (work: () => Promise<void>): Promise<void> =>
    work().catch((error: unknown) => log.error('the record could not be looked after', describeError(error)))

  const run = async (): Promise<void> => {
    while (!closing.signal.aborted) {
      await attempt(recover)
      await attempt(prune)
      await delay(everyMs, undefined, { signal: closing.signal, ref: false }).catch(() => undefined)
    }
  }

  return { start: () => void run(), close: () => closing.abort() }
}
