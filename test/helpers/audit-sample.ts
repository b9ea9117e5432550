import type { AuditFilter, AuditRecord, AuditStore, Intent, Outcome, OutcomeEvent } from '../../src/audit/store.ts'
import { intentOf, outcomeOf } from './audit-events.ts'

// Sample audit trails of any size with the same distribution: common outcomes grow with the size, and the number of
// cancellations with rare outcomes stays the same.

export interface SampleEntry {
  readonly intent: Intent
  readonly outcomes: readonly OutcomeEvent[]
}

const DAYS = 300
const DAY_MS = 24 * 3_600_000
const RARE = 60
const GROUP = 1000

export const SHARED_NAME = 'alice'
/** Has a twentieth of all entries. */
export const BUSY_OWNER = { via: 'jwt', issuer: 'https://issuer.example.com', caller: SHARED_NAME } as const
/** Has the same caller name, and few entries. */
export const RARE_OWNER = { via: 'session', issuer: 'https://issuer.example.com', caller: SHARED_NAME } as const
/** Many callers cancel this task repeatedly. */
export const BUSY_TASK = 't-busy'

const ownerAt = (at: number): Pick<Intent, 'via' | 'issuer' | 'caller'> => {
  if (at % 20 === 0) return BUSY_OWNER
  return { via: 'api-key', issuer: null, caller: `service-${at % 20}` }
}

const COMMON = ['rejected', 'failed', 'refused'] as const satisfies readonly Outcome[]

const outcomeAt = (at: number): Outcome => COMMON[at % 33] ?? 'accepted'

/** The entry at this position, from the oldest to the newest. The newest is at `nowMs`. */
export const entryAt = (at: number, entries: number, nowMs: number): SampleEntry => {
  const rare = at % Math.floor(entries / RARE)
  const requestedAtMs = nowMs - DAYS * DAY_MS + Math.floor((at * DAYS * DAY_MS) / entries)
  const id = `${requestedAtMs.toString(16).padStart(12, '0')}7${at.toString(16).padStart(11, '0')}00000000`
  const intent = intentOf({
    id: id.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5'),
    taskNo: at % 50 === 1 ? BUSY_TASK : `7f217ae0-61f5-42e2-a1c3-${at.toString(16).padStart(12, '0')}`,
    ...(rare === 5 ? RARE_OWNER : ownerAt(at)),
    userAgent: 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36',
    requestedAtMs,
    deadlineAtMs: rare === 7 ? nowMs + DAY_MS : requestedAtMs + 15_000,
  })
  if (rare === 7) return { intent, outcomes: [] }
  const outcome = rare === 3 || rare === 5 ? 'unknown' : outcomeAt(at)
  const answer = outcomeOf(intent, { outcome, requestId: intent.gatewayRequestId, finishedAtMs: requestedAtMs + 100 })
  const end = { ...answer, outcome: 'cancelled', settledBy: 'query', finishedAtMs: requestedAtMs + 60_000 } as const
  return { intent, outcomes: outcome === 'accepted' && at % 2 === 0 ? [answer, end] : [answer] }
}

/** Appends the entries in groups. */
export const fillStore = async (store: Pick<AuditStore, 'append'>, entries: number, nowMs: number): Promise<void> => {
  for (let from = 0; from < entries; from += GROUP) {
    const group = Array.from({ length: Math.min(GROUP, entries - from) }, (_, at) => entryAt(from + at, entries, nowMs))
    await store.append(
      group.map(({ intent }) => intent),
      group.flatMap(({ outcomes }) => outcomes),
    )
  }
}

export type SampleFilter = Omit<AuditFilter, 'limit' | 'before'>

/** The current outcome of an entry. */
export const outcomeOfEntry = ({ outcomes }: SampleEntry): AuditRecord['outcome'] =>
  outcomes.at(-1)?.outcome ?? 'pending'

export const matchesFilter = (entry: SampleEntry, filter: SampleFilter): boolean => {
  const { intent } = entry
  const { taskNo, caller, outcome, owner, fromMs, toMs } = filter
  return (
    (taskNo === undefined || intent.taskNo === taskNo) &&
    (caller === undefined || intent.caller === caller) &&
    (outcome === undefined || outcomeOfEntry(entry) === outcome) &&
    (owner === undefined ||
      (intent.caller === owner.caller && intent.via === owner.via && intent.issuer === owner.issuer)) &&
    (fromMs === undefined || intent.requestedAtMs >= fromMs) &&
    (toMs === undefined || intent.requestedAtMs < toMs)
  )
}

const FILTERED: readonly SampleFilter['outcome'][] = [undefined, 'unknown', 'pending', 'cancelled']

const optional = <T>(value: T): readonly (T | undefined)[] => [undefined, value]

/** Each combination of the documented filters, with and without a restriction to the caller's own entries. */
export const filterCombinations = (nowMs: number): readonly SampleFilter[] =>
  optional(BUSY_TASK).flatMap((taskNo) =>
    optional(SHARED_NAME).flatMap((caller) =>
      FILTERED.flatMap((outcome) =>
        [undefined, BUSY_OWNER, RARE_OWNER].flatMap((owner) =>
          optional(nowMs - 290 * DAY_MS).flatMap((fromMs) =>
            optional(nowMs - 10 * DAY_MS).map((toMs) => ({ taskNo, caller, outcome, owner, fromMs, toMs })),
          ),
        ),
      ),
    ),
  )
