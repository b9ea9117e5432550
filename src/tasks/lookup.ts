import type { ChargeCall, QueryContext, TaskListQuery, TaskQueries } from '../alibaba/task-queries.ts'
import type { Page, PageRequest, Task, TaskDetail } from '../alibaba/task-schemas.ts'
import { noonOfUpstreamDay } from '../alibaba/upstream-time.ts'
import { createCache } from '../collections.ts'
import { GatewayError } from '../errors.ts'
import type { Priority } from '../priority.ts'
import { type Deadline, deadlineIn, withDeadline } from '../time.ts'
import { createSharedCache, type ReadOptions, SHARED_TTL_MS } from './shared-cache.ts'

/** Finds a task by its number, which upstream has no filter for, at the cost of a few calls however many ask. */
export interface Lookup {
  /**
   * The task as it was a moment ago; null where there is none. `startedAfterMs` (of `performance.now`) asks for a reading
   * that began later than that; `chargeCall` charges the calls that this request starts, and those alone. Less
   * important readings in flight or failed are not shared, see `SharedReads`.
   * @throws GatewayError upstream-timeout where it isn't found out by the deadline, another code of upstream's, or that
   * of `chargeCall`
   */
  find(taskNo: string, limits: FindLimits): Promise<Task | null>
  /** Takes note that a task was changed: no reading that began before serves those who look for it. */
  invalidate(taskNo: string): void
}

export interface FindLimits extends ReadOptions {
  readonly deadline: Deadline
}

export interface LookupOptions {
  readonly queries: TaskQueries
  /** How many of the newest tasks are read before a task counts as old. */
  readonly limit: number
  /** For one reading, which nobody's own deadline cuts short, since others wait for it too. */
  readonly timeoutMs: number
  /** How long a reading serves those who come after it; a second and a half where absent. */
  readonly ttlMs?: number | undefined
}

/** How many tasks of an old task's day are looked through. */
const DAY_LIMIT = 1000
const DETAILS_READ = 1000

const MIB = 2 ** 20
/** A page holds up to a hundred tasks of about half a kilobyte each. */
const PAGES_BYTES = 16 * MIB
const OLD_TASKS_BYTES = 8 * MIB
const DAYS_BYTES = 4 * MIB
const CHANGES_BYTES = 4 * MIB
const DAYS_MS = 600_000

/** A list that is read for everybody: the newest tasks, or those of one day. */
interface TaskList {
  readonly key: string
  readonly plan: Plan
  readonly days: Pick<TaskListQuery, 'createdFromMs' | 'createdToMs'>
}

/** A list as far as it was read: its first page at once, each other when a request first needs it. */
interface ListSnapshot {
  /** Identifies the reading: pages of different readings do not fit together. */
  readonly number: number
  readonly first: Page<Task>
}

export const createLookup = ({ queries, limit, timeoutMs, ttlMs = SHARED_TTL_MS }: LookupOptions): Lookup => {
  const lists = createSharedCache<ListSnapshot>({ ttlMs, maxBytes: PAGES_BYTES })
  const laterPages = createSharedCache<Page<Task>>({ ttlMs, maxBytes: PAGES_BYTES })
  const oldTasks = createSharedCache<Task | null>({ ttlMs, maxBytes: OLD_TASKS_BYTES })
  /** A moment of the day on which a task was created; that never changes. */
  const dayOf = createCache<number>({ ttlMs: DAYS_MS, maxBytes: DAYS_BYTES })
  const newest: TaskList = { key: 'newest', plan: planPages(limit), days: {} }
  const dayPlan = planPages(DAY_LIMIT)
  let readings = 0
  /** The latest of the changes that were evicted: from then on it counts for every task. */
  let forgottenAtMs = 0
  /** Kept as long as a reading that began before the change can be in flight or cached. */
  const changedAtMs = createCache<number>({
    ttlMs: timeoutMs + ttlMs,
    maxBytes: CHANGES_BYTES,
    onEvicted: (atMs) => {
      forgottenAtMs = Math.max(forgottenAtMs, atMs)
    },
  })

  const limitsOf = (priority: Priority, chargeCall: ChargeCall | undefined): QueryContext => ({
    priority,
    deadline: deadlineIn(timeoutMs),
    chargeCall,
  })

  const readPage = (asked: PageRequest, days: TaskList['days'], limits: QueryContext): Promise<Page<Task>> =>
    queries.list({ ...asked, ...days }, limits)

  const read = async ({ plan, days }: TaskList, limits: QueryContext): Promise<ListSnapshot> => {
    readings += 1
    const number = readings
    return { number, first: await readPage(plan[0], days, limits) }
  }

  const search = async (taskNo: string, list: TaskList, need: ReadOptions): Promise<Task | null> => {
    const { priority, chargeCall } = need
    const { number, first } = await lists.get(list.key, (charge) => read(list, limitsOf(priority, charge)), need)
    for (const asked of list.plan) {
      const readLater = (charge: ChargeCall | undefined) => readPage(asked, list.days, limitsOf(priority, charge))
      const { items, hasNext } =
        asked.page === 1 ? first : await laterPages.get(`${number} ${asked.page}`, readLater, { priority, chargeCall })
      const task = items.find((item) => item.taskNo === taskNo)
      if (task !== undefined) return task
      if (!hasNext) return null
    }
    return null
  }

  const readOld = async (taskNo: string, limits: QueryContext): Promise<Task | null> => {
    try {
      const asked = { taskNo, page: 1, pageSize: DETAILS_READ }
      return fromDetails(await queries.details(asked, limits))
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

  /** An old task's details name the day on which it was created, and upstream can list that day. */
  const searchByDay = async (taskNo: string, need: ReadOptions): Promise<Task | null> => {
    const knownDayMs = dayOf.get(taskNo)
    const listed = knownDayMs === undefined ? null : await search(taskNo, listOfDay(knownDayMs), need)
    if (listed !== null) return listed
    // Details never tell whether a task is cancelled, so that it does not matter when their reading began.
    const { priority, chargeCall } = need
    const readNow = (charge: ChargeCall | undefined) => readOld(taskNo, limitsOf(priority, charge))
    const task = await oldTasks.get(taskNo, readNow, { priority, chargeCall })
    if (task === null || knownDayMs !== undefined || task.createdAtMs === null) return task
    const dayMs = noonOfUpstreamDay(task.createdAtMs)
    dayOf.set(taskNo, dayMs)
    return (await search(taskNo, listOfDay(dayMs), need)) ?? task
  }

  return {
    invalidate: (taskNo) => {
      changedAtMs.set(taskNo, performance.now())
    },

    find: async (taskNo, { priority, deadline, startedAfterMs = 0, chargeCall }) => {
      const sinceMs = Math.max(startedAfterMs, changedAtMs.get(taskNo) ?? 0, forgottenAtMs)
      const need = { priority, startedAfterMs: sinceMs, chargeCall }
      const look = async () => (await search(taskNo, newest, need)) ?? (await searchByDay(taskNo, need))
      const looked = look().then((task) => ({ task }))
      const found = await withDeadline(deadline, looked, null)
      if (found === null) throw new GatewayError('upstream-timeout')
      return found.task
    },
  }
}

type Plan = readonly [PageRequest, ...PageRequest[]]

/** (assumption) Upstream names no maximum for its list. */
const PAGE_SIZE_MAX = 100
/** Rows can move up or down by so many between two pages, and none is missed. */
const OVERLAP = 5

/**
 * Pages that cover the first `limit` rows (up to 1000), each beginning before the end of the one before. As a page's
 * place follows from its size, the sizes shrink.
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

/** A task that no list shows any more: what its details say of it, and nothing of whether it was cancelled. */
const fromDetails = ({ items, totalItems, hasNext }: Page<TaskDetail>): Task | null => {
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
