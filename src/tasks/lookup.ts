import type { Asked, Page, Task, TaskDetail } from '../alibaba/task-answers.ts'
import type { TaskListQuery, TaskQueries } from '../alibaba/task-queries.ts'
import { setBounded } from '../bounded.ts'
import { by, type Deadline, deadlineIn } from '../deadline.ts'
import { GatewayError } from '../errors.ts'
import type { Priority } from '../priority.ts'
import { createSharedReads, type ReadNeed, SHARED_MS } from './shared-reads.ts'

/** Finds a task by its number, which upstream has no filter for, at the cost of a few calls however many ask. */
export interface Lookup {
  /**
   * The task as it was a moment ago; null where there is none. `begunAfterMs` (of `performance.now`) asks for a reading
   * that began later than that. Less important readings in flight or failed are not shared, see `SharedReads`.
   * @throws GatewayError upstream-timeout where it isn't found out by the deadline, or another code of upstream's
   */
  find(taskNo: string, limits: FindLimits): Promise<Task | null>
  /** Takes note that a task was changed: no reading that began before serves those who look for it. */
  changed(taskNo: string): void
}

export interface FindLimits extends ReadNeed {
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
const LISTS_KEPT = 100
const OLD_TASKS_KEPT = 10_000

type ReadPage = (asked: Asked, priority: Priority) => Promise<Page<Task>>

/** A list that is read for everybody: the newest tasks, or those of one day. */
interface List {
  readonly key: string
  readonly plan: Plan
  readonly days: Pick<TaskListQuery, 'createdFromMs' | 'createdToMs'>
}

export const createLookup = ({ queries, limit, timeoutMs, ttlMs = SHARED_MS }: LookupOptions): Lookup => {
  const lists = createSharedReads<ReadPage>({ ttlMs, max: LISTS_KEPT })
  const details = createSharedReads<Page<TaskDetail> | null>({ ttlMs, max: OLD_TASKS_KEPT })
  /** The list of the day on which a task was created; that never changes. */
  const listOf = new Map<string, List>()
  const newest: List = { key: 'newest', plan: planPages(limit), days: {} }
  const dayPlan = planPages(DAY_LIMIT)
  /** As long as a reading from before can be under way or remembered. */
  const changedAtMs = new Map<string, number>()
  const limits = (priority: Priority) => ({ priority, deadline: deadlineIn(timeoutMs) })

  /** The first page is read at once, each other when it is first needed. */
  const read = async ({ plan, days }: List, priority: Priority): Promise<ReadPage> => {
    // They last as long as the list that they belong to.
    const pages = createSharedReads<Page<Task>>({ ttlMs: Number.POSITIVE_INFINITY, max: plan.length })
    const readPage: ReadPage = (asked, priority) =>
      pages.get(String(asked.page), () => queries.list({ ...asked, ...days }, limits(priority)), { priority })
    await readPage(plan[0], priority)
    return readPage
  }

  const search = async (taskNo: string, list: List, need: ReadNeed): Promise<Task | null> => {
    const { priority } = need
    const readPage = await lists.get(list.key, () => read(list, priority), need)
    for (const asked of list.plan) {
      const { items, hasNext } = await readPage(asked, priority)
      const task = items.find((item) => item.taskNo === taskNo)
      if (task !== undefined) return task
      if (!hasNext) return null
    }
    return null
  }

  const readDetails = async (taskNo: string, priority: Priority): Promise<Page<TaskDetail> | null> => {
    try {
      return await queries.details({ taskNo, page: 1, pageSize: DETAILS_READ }, limits(priority))
    } catch (error) {
      if (error instanceof GatewayError && error.code === 'task-not-found') return null
      throw error
    }
  }

  const rememberDay = (taskNo: string, createdAtMs: number): List => {
    const dayMs = queries.dayOf(createdAtMs)
    const list = { key: String(dayMs), plan: dayPlan, days: { createdFromMs: dayMs, createdToMs: dayMs } }
    setBounded(listOf, taskNo, list, OLD_TASKS_KEPT)
    return list
  }

  /** An old task's details name the day on which it was created, and upstream can list that day. */
  const searchOld = async (taskNo: string, need: ReadNeed): Promise<Task | null> => {
    const { priority } = need
    const day = listOf.get(taskNo)
    const listed = day === undefined ? null : await search(taskNo, day, need)
    if (listed !== null) return listed
    // They never tell whether it is cancelled, so that it does not matter when their reading began.
    const found = await details.get(taskNo, () => readDetails(taskNo, priority), { priority })
    const [first] = found?.items ?? []
    if (found === null || first === undefined) return null
    if (day !== undefined || first.createdAtMs === null) return fromDetails(first, found)
    return (await search(taskNo, rememberDay(taskNo, first.createdAtMs), need)) ?? fromDetails(first, found)
  }

  return {
    changed: (taskNo) => {
      const nowMs = performance.now()
      for (const [other, atMs] of changedAtMs) {
        if (nowMs - atMs < timeoutMs + ttlMs) break
        changedAtMs.delete(other)
      }
      // The latest stands last.
      changedAtMs.delete(taskNo)
      changedAtMs.set(taskNo, nowMs)
    },

    find: async (taskNo, { priority, deadline, begunAfterMs = 0 }) => {
      const need = { priority, begunAfterMs: Math.max(begunAfterMs, changedAtMs.get(taskNo) ?? 0) }
      const look = async () => (await search(taskNo, newest, need)) ?? (await searchOld(taskNo, need))
      const looked = look().then((task) => ({ task }))
      const found = await by(deadline, looked, null)
      if (found === null) throw new GatewayError('upstream-timeout')
      return found.task
    },
  }
}

type Plan = readonly [Asked, ...Asked[]]

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
  const plan: [Asked, ...Asked[]] = [{ page: 1, pageSize: first }]
  for (let page = 2, end = first; end < limit; page += 1) {
    const pageSize = Math.min(Math.floor((end - OVERLAP) / (page - 1)), Math.ceil(limit / page))
    plan.push({ page, pageSize })
    end = page * pageSize
  }
  return plan
}

/** A task that no list shows any more: what its details say of it, and nothing of whether it was cancelled. */
const fromDetails = (first: TaskDetail, { items, totalItems, hasNext }: Page<TaskDetail>): Task => ({
  taskNo: first.taskNo,
  type: first.type,
  typeDescription: first.typeDescription,
  status: hasNext ? 'unknown' : statusOf(items),
  cancelStatus: 'unknown',
  domainCount: totalItems,
  createdAtMs: first.createdAtMs,
  clientIp: null,
})

const ENDED: readonly TaskDetail['status'][] = ['succeeded', 'failed']

const statusOf = (details: readonly TaskDetail[]): Task['status'] => {
  if (details.some(({ status }) => status === 'unknown')) return 'unknown'
  if (details.every(({ status }) => status === 'waiting')) return 'waiting'
  return details.every(({ status }) => ENDED.includes(status)) ? 'complete' : 'executing'
}
