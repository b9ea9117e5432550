import type { Asked, Page, Task, TaskDetail } from '../alibaba/task-answers.ts'
import type { TaskQueries } from '../alibaba/task-queries.ts'
import { by, type Deadline, deadlineIn } from '../deadline.ts'
import { GatewayError } from '../errors.ts'
import { createSharedReads } from './shared-reads.ts'

/** Finds a task by its number, which upstream has no filter for, at the cost of a few calls however many ask. */
export interface Lookup {
  /**
   * The task as it was a moment ago; null where there is none. `begunAfterMs` (of `performance.now`) asks for a reading
   * that began later than that.
   * @throws GatewayError upstream-timeout where it isn't found out by the deadline, or another code of upstream's
   */
  find(taskNo: string, deadline: Deadline, begunAfterMs?: number): Promise<Task | null>
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

const TTL_MS = 1500
const OLD_TASKS_KEPT = 1000
/** How many tasks of an old task's day are looked through. */
const DAY_LIMIT = 1000
const DETAILS_READ = 1000

type ReadPage = (asked: Asked) => Promise<Page<Task>>

export const createLookup = ({ queries, limit, timeoutMs, ttlMs = TTL_MS }: LookupOptions): Lookup => {
  const newestPlan = planPages(limit)
  const dayPlan = planPages(DAY_LIMIT)
  const newest = createSharedReads<ReadPage>({ ttlMs, max: 1 })
  const old = createSharedReads<Task | null>({ ttlMs, max: OLD_TASKS_KEPT })
  const limits = () => ({ deadline: deadlineIn(timeoutMs) })

  /** The first page is read at once, each other when someone first needs it. */
  const readNewest = async (): Promise<ReadPage> => {
    const pages = new Map([[1, Promise.resolve(await queries.list(newestPlan[0], limits()))]])
    return (asked) => {
      const page = pages.get(asked.page) ?? queries.list(asked, limits())
      pages.set(asked.page, page)
      return page
    }
  }

  const search = async (taskNo: string, plan: Plan, read: ReadPage): Promise<Task | null> => {
    for (const asked of plan) {
      const { items, hasNext } = await read(asked)
      const task = items.find((item) => item.taskNo === taskNo)
      if (task !== undefined) return task
      if (!hasNext) return null
    }
    return null
  }

  const readDetails = async (taskNo: string): Promise<Page<TaskDetail> | null> => {
    try {
      return await queries.details({ taskNo, page: 1, pageSize: DETAILS_READ }, limits())
    } catch (error) {
      if (error instanceof GatewayError && error.code === 'task-not-found') return null
      throw error
    }
  }

  /** An old task's details name the day on which it was created, and upstream can list that day. */
  const readOld = async (taskNo: string): Promise<Task | null> => {
    const details = await readDetails(taskNo)
    const [first] = details?.items ?? []
    if (details === null || first === undefined) return null
    const { createdAtMs } = first
    if (createdAtMs === null) return fromDetails(first, details)
    const day = { createdFromMs: createdAtMs, createdToMs: createdAtMs }
    const listed = await search(taskNo, dayPlan, (asked) => queries.list({ ...asked, ...day }, limits()))
    return listed ?? fromDetails(first, details)
  }

  const look = async (taskNo: string, begunAfterMs: number | undefined): Promise<Task | null> => {
    const read = await newest.get('newest', readNewest, begunAfterMs)
    return (await search(taskNo, newestPlan, read)) ?? (await old.get(taskNo, () => readOld(taskNo), begunAfterMs))
  }

  return {
    find: async (taskNo, deadline, begunAfterMs) => {
      const looked = look(taskNo, begunAfterMs).then((task) => ({ task }))
      const found = await by(deadline, looked, null)
      if (found === null) throw new GatewayError('upstream-timeout')
      return found.task
    },
  }
}

type Plan = readonly [Asked, ...Asked[]]

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
