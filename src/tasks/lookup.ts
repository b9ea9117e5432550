import type { ChargeCall, QueryContext, TaskListQuery, TaskQueries } from '../alibaba/task-queries.ts'
import type { Page, PageRequest, Task, TaskDetail } from '../alibaba/task-schemas.ts'
import { noonOfUpstreamDay } from '../alibaba/upstream-time.ts'
import { createCache } from '../collections.ts'
import { GatewayError } from '../errors.ts'
import type { Priority } from '../priority.ts'
import { type Deadline, deadlineIn, withDeadline } from '../time.ts'
import { createSharedCache, type ReadOptions, SHARED_TTL_MS } from './shared-cache.ts'

export type Lookup = ReturnType<typeof createLookup>

export interface FindLimits extends ReadOptions {
  readonly deadline: Deadline
}

export interface LookupOptions {
  readonly queries: TaskQueries
  /** A task that is not among this many of the newest tasks counts as old. */
  readonly limit: number
  /** For one read. The deadlines of the requests that share it do not end it. */
  readonly timeoutMs: number
  /** For how long a cached read is served; `SHARED_TTL_MS` where absent. */
  readonly ttlMs?: number | undefined
}

/** Of the tasks that were created on the same day as an old task, this many are searched. */
const DAY_LIMIT = 1000
const DETAILS_PAGE_SIZE = 1000

const MIB = 2 ** 20
/** A page holds up to a hundred tasks of about half a kilobyte each. */
const PAGES_BYTES = 16 * MIB
const OLD_TASKS_BYTES = 8 * MIB
const DAYS_BYTES = 4 * MIB
const CHANGES_BYTES = 4 * MIB
const DAYS_MS = 600_000

/** A list whose reads all callers share: the newest tasks, or the tasks of one day. */
interface TaskList {
  readonly key: string
  readonly plan: Plan
  readonly days: Pick<TaskListQuery, 'createdFromMs' | 'createdToMs'>
}

/** One read of a list: the first page at once, each later page when a request first needs it. */
interface ListSnapshot {
  /** Part of the key of its later pages, because pages of different snapshots do not fit together. */
  readonly number: number
  readonly first: Page<Task>
}

/** Finds a task by its number, for which upstream has no filter, in a few calls that concurrent requests share. */
export const createLookup = ({ queries, limit, timeoutMs, ttlMs = SHARED_TTL_MS }: LookupOptions) => {
  const lists = createSharedCache<ListSnapshot>({ ttlMs, maxBytes: PAGES_BYTES })
  const laterPages = createSharedCache<Page<Task>>({ ttlMs, maxBytes: PAGES_BYTES })
  const oldTasks = createSharedCache<Task | null>({ ttlMs, maxBytes: OLD_TASKS_BYTES })
  /** A moment of the day on which a task was created. It never changes. */
  const dayOf = createCache<number>({ ttlMs: DAYS_MS, maxBytes: DAYS_BYTES })
  const newest: TaskList = { key: 'newest', plan: planPages(limit), days: {} }
  const dayPlan = planPages(DAY_LIMIT)
  let snapshots = 0
  /** The latest change that was evicted. As its task is not known any more, it counts as a change of every task. */
  let evictedChangeAtMs = 0
  /** The start of the latest read. */
  let readAtMs = Number.NEGATIVE_INFINITY
  /** For how long a read can be in flight or cached. */
  const readLifeMs = timeoutMs + ttlMs
  /** Each change is kept as long as a read that started before it can be in flight or cached. */
  const changedAtMs = createCache<number>({
    ttlMs: readLifeMs,
    maxBytes: CHANGES_BYTES,
    onEvicted: (atMs) => {
      evictedChangeAtMs = Math.max(evictedChangeAtMs, atMs)
    },
  })

  /** The context of a read that starts now. */
  const startRead = (priority: Priority, chargeCall: ChargeCall | undefined): QueryContext => {
    readAtMs = performance.now()
    return { priority, deadline: deadlineIn(timeoutMs), chargeCall }
  }

  const readPage = (request: PageRequest, days: TaskList['days'], context: QueryContext): Promise<Page<Task>> =>
    queries.list({ ...request, ...days }, context)

  const startSnapshot = async ({ plan, days }: TaskList, context: QueryContext): Promise<ListSnapshot> => {
    snapshots += 1
    const number = snapshots
    return { number, first: await readPage(plan[0], days, context) }
  }

  const search = async (taskNo: string, list: TaskList, options: ReadOptions): Promise<Task | null> => {
    const { priority, chargeCall } = options
    const read = (charge: ChargeCall | undefined) => startSnapshot(list, startRead(priority, charge))
    const { number, first } = await lists.get(list.key, read, options)
    for (const request of list.plan) {
      const readLater = (charge: ChargeCall | undefined) => readPage(request, list.days, startRead(priority, charge))
      const { page } = request
      const { items, hasNext } =
        page === 1 ? first : await laterPages.get(`${number} ${page}`, readLater, { priority, chargeCall })
      const task = items.find((item) => item.taskNo === taskNo)
      if (task !== undefined) return task
      if (!hasNext) return null
    }
    return null
  }

  const readOldTask = async (taskNo: string, context: QueryContext): Promise<Task | null> => {
    try {
      const request = { taskNo, page: 1, pageSize: DETAILS_PAGE_SIZE }
      return taskFromDetails(await queries.details(request, context))
    } catch (error) {
      if (error instanceof GatewayError && error.code === 'task-not-found') return null
      throw error
    }
  }

  const listOfDay = (dayMs: number): TaskList => ({
    key: String(dayMs),
    plan: dayPlan,
    days: { createdFromMs: dayMs, createdToMs: dayMs },
  })

  /** The details of an old task contain the day on which it was created, and upstream can list that day. */
  const searchByDay = async (taskNo: string, options: ReadOptions): Promise<Task | null> => {
    const knownDayMs = dayOf.get(taskNo)
    const listed = knownDayMs === undefined ? null : await search(taskNo, listOfDay(knownDayMs), options)
    if (listed !== null) return listed
    // Details contain no cancel status, so a read of any age is good enough.
    const { priority, chargeCall } = options
    const read = (charge: ChargeCall | undefined) => readOldTask(taskNo, startRead(priority, charge))
    const task = await oldTasks.get(taskNo, read, { priority, chargeCall })
    if (task === null || knownDayMs !== undefined || task.createdAtMs === null) return task
    const dayMs = noonOfUpstreamDay(task.createdAtMs)
    dayOf.set(taskNo, dayMs)
    return (await search(taskNo, listOfDay(dayMs), options)) ?? task
  }

  return {
    /** To be called after a task was changed: a read that started before is not served for this task any more. */
    invalidate: (taskNo: string): void => {
      const nowMs = performance.now()
      // Without a read that started before, there is nothing to remember.
      if (nowMs - readAtMs <= readLifeMs) changedAtMs.set(taskNo, nowMs)
    },

    /**
     * The task as it was a moment ago; null where there is none. `chargeCall` is charged only for calls that this
     * request starts. The other options are those of the shared cache.
     * @throws GatewayError upstream-timeout where the deadline passes first, a code of the query, or the one that
     * `chargeCall` throws
     */
    find: async (taskNo: string, limits: FindLimits): Promise<Task | null> => {
      const { priority, deadline, startedAfterMs = 0, chargeCall } = limits
      const lastChangeMs = Math.max(changedAtMs.get(taskNo) ?? 0, evictedChangeAtMs)
      const options: ReadOptions = { priority, startedAfterMs: Math.max(startedAfterMs, lastChangeMs), chargeCall }
      const searchAll = async () => (await search(taskNo, newest, options)) ?? (await searchByDay(taskNo, options))
      const result = searchAll().then((task) => ({ task }))
      const inTime = await withDeadline(deadline, result, null)
      if (inTime === null) throw new GatewayError('upstream-timeout')
      return inTime.task
    },
  }
}

type Plan = readonly [PageRequest, ...PageRequest[]]

/** (assumption) list-page-size: upstream documents no maximum for its list. */
const PAGE_SIZE_MAX = 100
/** No row is missed if rows move up or down by at most this many places between two pages. */
const OVERLAP = 5

/**
 * Pages that cover the first `limit` rows (up to 1000). Each begins before the end of the previous one. The sizes
 * shrink, because the first row of a page follows from its size.
 */
export const planPages = (limit: number): Plan => {
  const first = Math.min(PAGE_SIZE_MAX, limit)
  const plan: [PageRequest, ...PageRequest[]] = [{ page: 1, pageSize: first }]
  for (let page = 2, end = first; end < limit; page += 1) {
    const pageSize = Math.min(Math.floor((end - OVERLAP) / (page - 1)), Math.ceil(limit / page))
    plan.push({ page, pageSize })
    end = page * pageSize
  }
  return plan
}

/** A task that is in no list any more, from its details. They do not contain its cancel status. */
const taskFromDetails = ({ items, totalItems, hasNext }: Page<TaskDetail>): Task | null => {
  const [first] = items
  if (first === undefined) return null
  const { taskNo, type, typeDescription, createdAtMs } = first
  const status = hasNext ? 'unknown' : statusOf(items)
  const domainCount = totalItems
  return { taskNo, type, typeDescription, status, cancelStatus: 'unknown', domainCount, createdAtMs, clientIp: null }
}

const ENDED: readonly TaskDetail['status'][] = ['succeeded', 'failed']

const statusOf = (details: readonly TaskDetail[]): Task['status'] => {
  if (details.some(({ status }) => status === 'unknown')) return 'unknown'
  if (details.every(({ status }) => status === 'waiting')) return 'waiting'
  return details.every(({ status }) => ENDED.includes(status)) ? 'complete' : 'executing'
}
