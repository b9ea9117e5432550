import { AsyncLocalStorage } from 'node:async_hooks'
import { createHash } from 'node:crypto'
import type { QueryContext, TaskQueries } from '../alibaba/task-queries.ts'
import type { Page, Task } from '../alibaba/task-schemas.ts'
import { noonOfUpstreamDay } from '../alibaba/upstream-time.ts'
import { pause } from '../async.ts'
import type { AuditTrail } from '../audit/audit-trail.ts'
import {
  type AuditRecord,
  type Intent,
  type OpenedStore,
  type OpenRecord,
  type Outcome,
  type OutcomeEvent,
  outcomeEvent,
  type Position,
  type Sighting,
} from '../audit/store.ts'
import type { Log, LogFields } from '../telemetry/log.ts'
import type { Meter } from '../telemetry/meter.ts'
import { deadlineIn } from '../time.ts'

export type FollowUp = ReturnType<typeof createFollowUp>

export interface FollowUpOptions {
  readonly trail: Pick<AuditTrail, 'find' | 'recordOutcome'>
  readonly store: Pick<OpenedStore, 'listOpen' | 'liveReplicas'>
  readonly queries: Pick<TaskQueries, 'list' | 'details'>
  readonly log: Log
  readonly meter: Meter
  /** Called if a reading shows that a task was cancelled after its end was recorded as `too-late`. */
  readonly onContradiction?: (label: 'completed-task', fields: LogFields) => void
  readonly instanceId: string
  /** A task that is not among this many of the newest tasks is searched by its day. */
  readonly lookupLimit: number
  /** The time between the starts of two calls. */
  readonly callEveryMs: number
  /** The wall clock and a monotonic one, milliseconds. */
  readonly now?: (() => number) | undefined
  readonly monotonic?: () => number
  readonly beatEveryMs?: number | undefined
  readonly loadEveryMs?: number
  /** The pause before the next poll of a cancellation of this age. */
  readonly pauseMs?: ((ageMs: number) => number) | undefined
  /** Cancellations in memory. */
  readonly max?: number
  readonly quietMs?: number | undefined
  readonly sleep?: typeof pause
}

/** A cancellation whose outcome is not final. Times but `requestedAtMs` are on the monotonic clock. */
interface OpenCancellation {
  readonly id: string
  readonly taskNo: string
  readonly requestedAtMs: number
  readonly instanceId: string
  readonly addedAtMs: number
  /** Beyond the limit of memory, so in memory for one turn only. */
  readonly isTemporary: boolean
  pollAtMs: number
  /** Noon of the day on which the task was created; null: the newest tasks are searched. */
  dayMs: number | null
  /** The page of the list to be read next, and the one where this search began. */
  page: number
  firstPage: number
  needsDetails: boolean
  /** The start of the first of the readings in a row that showed the task complete and not cancelled. */
  completeSinceMs: number | null
  seen: Sighting | null
  /** Requests that wait for the end. */
  waiting: number
}

const GIVE_UP_MS = 24 * 3_600_000
const CALL_TIMEOUT_MS = 10_000
const RECORD_TIMEOUT_MS = 10_000
const PAUSE_MIN_MS = 2000
const PAUSE_MAX_MS = 10 * 60_000
const WAITED_PAUSE_MS = 1000
const PAGE_SIZE = 100
const LOAD_LIMIT = 1000
/** Replicas count as stopped after three missed beats. */
const BEAT_EVERY_MS = 10_000
const LOAD_EVERY_MS = 10 * 60_000
const MAX_OPEN = 10_000
/** Of the memory, the share for cancellations beyond its limit. */
const TEMPORARY_SHARE = 10
/** Tasks whose end was `too-late` and that later readings are compared with. */
const MAX_COMPLETED = 1000

/** Polls become rarer with age, as an old cancellation is less likely to change the task. */
const backoff = (ageMs: number): number => Math.min(PAUSE_MAX_MS, Math.max(PAUSE_MIN_MS, ageMs / 2))

/**
 * (assumption) completed-task: a task that is complete and not cancelled for so long is not cancelled any more by an
 * earlier request.
 */
const QUIET_MS = 60_000

/** The time between two calls: at most one call per second, and at most a tenth of the calls that the gateway may make. */
export const followUpCallEveryMs = (maxPerSecond = Number.POSITIVE_INFINITY): number =>
  Math.max(1000, 10_000 / maxPerSecond)

/**
 * Follows each accepted cancellation, and each of unknown outcome, until the task shows its end, for at most a day.
 * Reads pages of lists: one page serves all open cancellations whose tasks are on it.
 */
export const createFollowUp = (options: FollowUpOptions) => {
  const { trail, store, queries, log, meter, instanceId, lookupLimit, callEveryMs, max = MAX_OPEN } = options
  const { now = Date.now, monotonic = () => performance.now(), pauseMs = backoff, sleep = pause } = options
  const { beatEveryMs = BEAT_EVERY_MS, loadEveryMs = LOAD_EVERY_MS, quietMs = QUIET_MS } = options
  const { onContradiction = () => undefined } = options
  const startedAtMs = now()
  const open = new Map<string, OpenCancellation>()
  /**
   * Where the search for one that makes room goes on. A search from the start would pass all that were removed: a Map
   * keeps their places until it grows.
   */
  let oldest = open.values()
  const unknown = new Set<string>()
  /** The newest tasks that completed without being cancelled, and that no later request has cancelled. */
  const completed = new Map<string, { readonly cancellationId: string }>()
  const closing = new AbortController()
  /** Calls belong to no request, so they must not be part of the trace of the request that starts them. */
  const outside = AsyncLocalStorage.snapshot()
  let replicas: ReadonlySet<string> = new Set([instanceId])
  let isRunning = false
  let callAtMs = monotonic()
  let wakeAtMs = Number.POSITIVE_INFINITY
  let changed = Promise.withResolvers<void>()
  let deferred = 0
  /** Where the next turn of temporary ones begins. */
  let turn: Position | null = null

  const wake = (): void => {
    changed.resolve()
    changed = Promise.withResolvers()
  }

  const remove = (cancellation: OpenCancellation): void => {
    const { id } = cancellation
    if (open.get(id) !== cancellation) return
    open.delete(id)
    unknown.delete(id)
  }

  /** The next one without a waiting request, in the order in which they were added; null if there is none. */
  const nextOldest = (): OpenCancellation | null => {
    for (let isFromStart = false; ; ) {
      const { value } = oldest.next()
      if (value !== undefined && value.waiting === 0) return value
      if (value !== undefined) continue
      if (isFromStart) return null
      oldest = open.values()
      isFromStart = true
    }
  }

  /** The one that was added first makes room: it is polled in turns then. */
  const makeRoom = (): void => {
    if (open.size < max) return
    const first = nextOldest()
    if (first === null) return
    remove(first)
    deferred += 1
  }

  type Added = Pick<OpenCancellation, 'id' | 'taskNo' | 'requestedAtMs' | 'instanceId' | 'pollAtMs'> & {
    readonly outcome: Outcome
    readonly isTemporary?: boolean
  }

  const add = ({ outcome, isTemporary = false, ...added }: Added): OpenCancellation => {
    const { id, taskNo, requestedAtMs, instanceId: creator, pollAtMs } = added
    if (outcome === 'unknown') unknown.add(id)
    else unknown.delete(id)
    const known = open.get(id)
    if (known !== undefined) return known
    makeRoom()
    const cancellation: OpenCancellation = {
      id,
      taskNo,
      requestedAtMs,
      instanceId: creator,
      addedAtMs: monotonic(),
      isTemporary,
      pollAtMs,
      dayMs: null,
      page: 1,
      firstPage: 1,
      needsDetails: false,
      completeSinceMs: null,
      seen: null,
      waiting: 0,
    }
    open.set(id, cancellation)
    if (cancellation.pollAtMs < wakeAtMs) wake()
    if (!isRunning) void outside(run)
    return cancellation
  }

  /** The replica that accepted it follows it. If that one has stopped, the hash of the task selects another. */
  const isMine = ({ instanceId: creator, taskNo }: Pick<OpenCancellation, 'instanceId' | 'taskNo'>): boolean => {
    if (replicas.has(creator)) return creator === instanceId
    const rankOf = (replica: string): string => createHash('sha256').update(`${replica} ${taskNo}`).digest('hex')
    const mine = rankOf(instanceId)
    return [...replicas].every((replica) => rankOf(replica) <= mine)
  }

  const pollLater = (cancellation: OpenCancellation): void => {
    const waitMs = pauseMs(now() - cancellation.requestedAtMs)
    const atMs = monotonic() + (cancellation.waiting > 0 ? Math.min(WAITED_PAUSE_MS, waitMs) : waitMs)
    // The second of two readings is due as soon as it can prove the end.
    const provesAtMs = (cancellation.completeSinceMs ?? Number.NEGATIVE_INFINITY) + quietMs
    cancellation.pollAtMs = provesAtMs > monotonic() ? Math.min(atMs, provesAtMs) : atMs
  }

  /** The event of an end, unless the record has one by now, by a response or by another replica. */
  const eventOf = (
    { id, seen, requestedAtMs }: OpenCancellation,
    record: AuditRecord,
    shown: Outcome | null,
  ): OutcomeEvent | null => {
    if (record.isFinal || record.isUnrecognized || (record.outcome !== 'accepted' && record.outcome !== 'unknown')) {
      return null
    }
    const outcome = shown ?? record.outcome
    if (outcome === record.outcome && shown !== null) return null
    const { attempts, requestId, upstreamCode } = record
    const sighting = {
      taskStatus: seen?.status ?? null,
      taskCancelStatus: seen?.cancelStatus ?? null,
      taskSeenAtMs: seen?.seenAtMs ?? null,
    }
    // The same for all replicas that give up.
    const finishedAtMs = shown === null ? requestedAtMs + GIVE_UP_MS : now()
    const details = { attempts, requestId, upstreamCode, settledBy: 'query', ...sighting } as const
    return outcomeEvent(id, outcome, finishedAtMs, details)
  }

  const noteCompleted = (taskNo: string, cancellationId: string): void => {
    completed.set(taskNo, { cancellationId })
    const [oldest] = completed.keys()
    if (completed.size > MAX_COMPLETED && oldest !== undefined) completed.delete(oldest)
  }

  /** Readings for other cancellations show these tasks too. */
  const compareCompleted = ({ taskNo, cancelStatus }: Task): void => {
    const end = completed.get(taskNo)
    if (end === undefined || (cancelStatus !== 'cancelling' && cancelStatus !== 'cancelled')) return
    completed.delete(taskNo)
    onContradiction('completed-task', end)
  }

  /** Records what the task shows; null: the follow-up ends without a proof. */
  const settle = async (
    cancellation: OpenCancellation,
    prove: (outcome: AuditRecord['outcome']) => Outcome | null,
  ): Promise<void> => {
    const { id: cancellationId, taskNo } = cancellation
    const isCurrent = (): boolean => open.get(cancellationId) === cancellation && !closing.signal.aborted
    if (!isCurrent()) return
    const record = await trail.find(cancellationId, deadlineIn(RECORD_TIMEOUT_MS)).catch(() => undefined)
    // A pending outcome is being written.
    if (record === undefined || record?.outcome === 'pending' || !isCurrent()) return
    const event = record === null ? null : eventOf(cancellation, record, prove(record.outcome))
    if (record?.outcome !== 'unknown') unknown.delete(cancellationId)
    if (event === null) return record?.isFinal === false ? undefined : remove(cancellation)
    await trail.recordOutcome(event, deadlineIn(RECORD_TIMEOUT_MS))
    const facts = { cancellationId, taskNo, outcome: event.outcome }
    const isGivenUp = event.outcome === record?.outcome
    if (isGivenUp) log.warn('a cancellation was followed for a day without an end', facts)
    else {
      log.info(END_MESSAGES[record?.outcome === 'unknown' ? 'unknown' : 'accepted'], facts)
      meter.cancellation(event.outcome)
    }
    if (event.outcome === 'too-late') noteCompleted(taskNo, cancellationId)
    if (event.outcome === 'accepted' && !isGivenUp) unknown.delete(cancellationId)
    else remove(cancellation)
  }

  /** The proof in a row of a list that was read from that time on. */
  const observe = async (cancellation: OpenCancellation, task: Task, readAtMs: number): Promise<void> => {
    const { status, cancelStatus, createdAtMs } = task
    cancellation.seen = { status, cancelStatus, seenAtMs: now() }
    if (cancellation.dayMs === null && createdAtMs !== null) cancellation.dayMs = noonOfUpstreamDay(createdAtMs)
    const isComplete = status === 'complete' && cancelStatus === 'none'
    if (!isComplete) cancellation.completeSinceMs = null
    else cancellation.completeSinceMs ??= readAtMs
    if (cancelStatus === 'cancelled') await settle(cancellation, () => 'cancelled')
    else if (cancelStatus === 'cancelling' && unknown.has(cancellation.id)) await settle(cancellation, () => 'accepted')
    else if (isComplete) {
      // A cancel of unknown outcome was over before it was followed, so one late reading is enough.
      const { addedAtMs, completeSinceMs } = cancellation
      const completeMs = readAtMs - (unknown.has(cancellation.id) ? addedAtMs : (completeSinceMs ?? readAtMs))
      if (completeMs >= quietMs) {
        await settle(cancellation, (outcome) => (outcome === 'unknown' ? 'failed' : 'too-late'))
      }
    }
  }

  /** After a poll that has proved nothing. */
  const endPoll = async (cancellation: OpenCancellation): Promise<void> => {
    if (now() - cancellation.requestedAtMs >= GIVE_UP_MS) await settle(cancellation, () => null)
    pollLater(cancellation)
  }

  const contextOf = (): QueryContext => ({
    // Below all cancels. A repetition would be a call more than the limit allows.
    priority: 'read',
    deadline: deadlineIn(CALL_TIMEOUT_MS),
    maxAttempts: 1,
  })

  /** The task is not on the page: the search goes on, or ends without a proof. */
  const searchFurther = async (cancellation: OpenCancellation, { hasNext }: Page<Task>): Promise<void> => {
    const { dayMs, page, firstPage } = cancellation
    const isNewest = dayMs === null
    if (hasNext && (!isNewest || page * PAGE_SIZE < lookupLimit)) {
      cancellation.page = page + 1
      return
    }
    cancellation.page = 1
    cancellation.firstPage = 1
    if (isNewest) cancellation.needsDetails = true
    // Rows before the page where it was last seen.
    else if (firstPage === 1) await endPoll(cancellation)
  }

  /** Reads the page that the cancellation needs next, for all whose tasks are on it. */
  const readPage = async ({ dayMs, page }: OpenCancellation): Promise<void> => {
    const days = dayMs === null ? {} : { createdFromMs: dayMs, createdToMs: dayMs }
    const readAtMs = monotonic()
    const read = await queries.list({ page, pageSize: PAGE_SIZE, ...days }, contextOf()).catch(() => null)
    const searching = [...open.values()].filter(
      (each) => each.dayMs === dayMs && each.page === page && !each.needsDetails && each.pollAtMs <= readAtMs,
    )
    const rows = new Map(read?.items.map((task) => [task.taskNo, task]))
    for (const cancellation of searching) {
      if (read === null) await endPoll(cancellation)
      else if (!rows.has(cancellation.taskNo)) await searchFurther(cancellation, read)
    }
    if (rows.size === 0) return
    for (const task of rows.values()) compareCompleted(task)
    for (const cancellation of [...open.values()]) {
      const task = rows.get(cancellation.taskNo)
      if (task === undefined) continue
      if (cancellation.dayMs === dayMs) cancellation.page = dayMs === null ? 1 : page
      cancellation.firstPage = cancellation.page
      cancellation.needsDetails = false
      await observe(cancellation, task, readAtMs)
      await endPoll(cancellation)
    }
  }

  /** Details show the day of an old task. They show no cancel status, so they prove nothing. */
  const readDay = async (cancellation: OpenCancellation): Promise<void> => {
    const { taskNo } = cancellation
    cancellation.needsDetails = false
    const details = await queries.details({ taskNo, page: 1, pageSize: 1 }, contextOf()).catch(() => null)
    const createdAtMs = details?.items[0]?.createdAtMs ?? null
    if (createdAtMs === null) return endPoll(cancellation)
    for (const each of open.values()) if (each.taskNo === taskNo) each.dayMs ??= noonOfUpstreamDay(createdAtMs)
  }

  /**
   * Requests that wait come first, then the longest overdue. After a call for a request that waits it is the turn of the
   * longest overdue, so that such requests do not hold up all others. Only cancellations that this replica follows are
   * here.
   */
  const mostUrgent = (isTurnOfWaiting: boolean): OpenCancellation | null => {
    let first: OpenCancellation | null = null
    const isFirst = ({ waiting, pollAtMs }: OpenCancellation) => waiting > 0 && pollAtMs <= monotonic()
    const rankOf = (each: OpenCancellation) => (isTurnOfWaiting && isFirst(each) ? 0 : 1)
    for (const each of open.values()) {
      const isEarlier =
        first === null ||
        rankOf(each) < rankOf(first) ||
        (rankOf(each) === rankOf(first) && each.pollAtMs < first.pollAtMs)
      if (isEarlier) first = each
    }
    return first
  }

  const run = async (): Promise<void> => {
    if (isRunning) return
    isRunning = true
    let isTurnOfWaiting = true
    while (open.size > 0 && !closing.signal.aborted) {
      const next = mostUrgent(isTurnOfWaiting)
      const waitMs = Math.max(callAtMs, next?.pollAtMs ?? monotonic() + PAUSE_MAX_MS) - monotonic()
      if (next === null || waitMs > 0) {
        wakeAtMs = monotonic() + waitMs
        await Promise.race([sleep(waitMs, closing.signal), changed.promise])
        wakeAtMs = Number.POSITIVE_INFINITY
        continue
      }
      callAtMs = monotonic() + callEveryMs
      isTurnOfWaiting = next.waiting === 0
      await (next.needsDetails ? readDay(next) : readPage(next))
    }
    isRunning = false
  }

  /**
   * Adds the open cancellations that this replica follows, newest first. The oldest have no place if there are too
   * many: a part of them has a turn, the next part at the next load.
   */
  const load = async (toMs: number): Promise<void> => {
    for (const each of [...open.values()]) if (each.waiting === 0 && (each.isTemporary || !isMine(each))) remove(each)
    const temporaryMax = Math.floor(max / TEMPORARY_SHARE)
    const beyond: Position | null = turn
    let [temporary, missing] = [0, 0]
    const chosen: (readonly [OpenRecord, isTemporary: boolean])[] = []
    turn = null
    for (let before: Position | null = null, more = true; more; more = before !== null) {
      const { records, next } = await store.listOpen(before, LOAD_LIMIT)
      for (const record of records) {
        if (record.requestedAtMs >= toMs || open.has(record.id) || record.isUnrecognized || !isMine(record)) continue
        const isTemporary = open.size + chosen.length >= max - temporaryMax
        const isInTurn = beyond === null || isBefore(record, beyond)
        if (isTemporary && (temporary >= temporaryMax || !isInTurn)) {
          missing += 1
          continue
        }
        if (isTemporary) {
          temporary += 1
          turn = record
        }
        chosen.push([record, isTemporary])
      }
      before = next
    }
    // In the order of their age, in which they make room.
    for (const [record, isTemporary] of chosen.reverse()) addRecord(record, isTemporary)
    wake()
    deferred = missing
    if (missing === 0 || temporary < temporaryMax) turn = null
  }

  const addRecord = (
    record: Pick<OpenRecord, 'id' | 'taskNo' | 'requestedAtMs' | 'instanceId' | 'outcome'>,
    isTemporary: boolean,
  ) => {
    const { id, taskNo, requestedAtMs, instanceId: creator, outcome } = record
    const known = outcome === 'pending' ? 'unknown' : outcome
    return add({ id, taskNo, requestedAtMs, instanceId: creator, outcome: known, pollAtMs: monotonic(), isTemporary })
  }

  /** Returns whether the set of replicas has changed. */
  const beat = async (): Promise<boolean> => {
    const live = new Set([instanceId, ...(await store.liveReplicas(instanceId))])
    const isChanged = live.size !== replicas.size || [...live].some((replica) => !replicas.has(replica))
    replicas = live
    return isChanged
  }

  /**
   * First loads cancellations that were requested before this process started; for later ones its own state is better
   * than the audit trail. Loads again at each interval, and when a replica has started or stopped.
   */
  const loadRegularly = async (): Promise<void> => {
    await sleep(pauseMs(0), closing.signal)
    let [toMs, loadAtMs] = [startedAtMs, monotonic()]
    while (!closing.signal.aborted) {
      if (await beat().catch(() => false)) loadAtMs = monotonic()
      if (monotonic() >= loadAtMs) {
        // A load that fails is repeated after the next beat.
        await load(toMs).then(
          () => {
            loadAtMs = monotonic() + loadEveryMs
            toMs = Number.POSITIVE_INFINITY
          },
          () => undefined,
        )
      }
      await sleep(beatEveryMs, closing.signal)
    }
  }

  return {
    /** To be called with each outcome that is recorded: follows an open one, and stops after any other. */
    track: ({ taskNo, requestedAtMs }: Pick<Intent, 'taskNo' | 'requestedAtMs'>, event: OutcomeEvent): void => {
      const { cancellationId: id, outcome } = event
      const known = open.get(id)
      if (outcome !== 'refused') completed.delete(taskNo)
      if (outcome === 'accepted' || outcome === 'unknown') {
        add({ id, taskNo, requestedAtMs, instanceId, outcome, pollAtMs: monotonic() + pauseMs(now() - requestedAtMs) })
      } else if (known !== undefined) remove(known)
    },

    /** Moves the task of an open cancellation to the front until the returned function is called. */
    hurry: (
      record: Pick<AuditRecord, 'id' | 'taskNo' | 'requestedAtMs' | 'outcome' | 'isUnrecognized'>,
    ): (() => void) => {
      const { outcome, isUnrecognized } = record
      if (isUnrecognized || (outcome !== 'accepted' && outcome !== 'unknown')) return () => undefined
      const cancellation = addRecord({ ...record, instanceId: OTHER_REPLICA }, false)
      cancellation.waiting += 1
      cancellation.pollAtMs = Math.min(cancellation.pollAtMs, monotonic())
      wake()
      return () => {
        cancellation.waiting -= 1
        if (cancellation.waiting === 0 && cancellation.instanceId === OTHER_REPLICA) remove(cancellation)
        else pollLater(cancellation)
      }
    },

    /** The task of an open cancellation as it was last read here; null where it was not. */
    seen: (cancellationId: string): Sighting | null => open.get(cancellationId)?.seen ?? null,

    /** Starts to load open cancellations of earlier processes, and later those of replicas that have stopped. */
    resume: (): void => void loadRegularly(),
    /** The numbers of cancellations in memory, of those with an unknown outcome, and of those without a place. */
    sizes: () => ({ open: open.size, unknown: unknown.size, deferred }),
    close: (): void => {
      closing.abort()
      wake()
    },
  }
}

const END_MESSAGES = {
  unknown: 'an unknown outcome was resolved',
  accepted: 'the end of a cancellation was read',
} as const

/** Of a cancellation that is only followed while a request waits: its own replica may follow it too. */
const OTHER_REPLICA = ''

const isBefore = (record: Position, position: Position): boolean =>
  record.requestedAtMs < position.requestedAtMs ||
  (record.requestedAtMs === position.requestedAtMs && record.seq < position.seq)
