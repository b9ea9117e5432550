import type { QueryContext, TaskQueries } from '../alibaba/task-queries.ts'
import type { Task, TaskDetail } from '../alibaba/task-schemas.ts'
import { createCache } from '../collections.ts'
import { GatewayError } from '../errors.ts'
import { deadlineIn, withDeadline } from '../time.ts'
import { createSharedCache, type Read, SHARED_TTL_MS } from './shared-cache.ts'

export type TaskDomains = ReturnType<typeof createTaskDomains>

export interface TaskDomainsOptions {
  readonly queries: Pick<TaskQueries, 'details'>
  /** For one shared read. The deadlines of the requests that share it do not end it. */
  readonly timeoutMs: number
  /** For how long a failed or empty read is served; `SHARED_TTL_MS` where absent. A new task may have no details yet. */
  readonly ttlMs?: number | undefined
  /** For the domains of one list; `WAIT_MS` where absent. */
  readonly waitMs?: number | undefined
}

/** Names of a task's first domains, and the types of the details that contain them. */
interface FirstDomains {
  readonly names: readonly string[]
  readonly types: readonly (string | null)[]
}

const NAMES_MAX = 3
/** (assumption) fixed-domains: the domains of a task do not change. */
const KEPT_MS = 300_000
const KEPT_BYTES = 8 * 2 ** 20
const READS_BYTES = 2 * 2 ** 20
/** Reads in flight for one list. */
const CONCURRENCY = 4
const WAIT_MS = 5000

/** Reads the names of the first domains of tasks: one call a task, whose result all callers share. */
export const createTaskDomains = (options: TaskDomainsOptions) => {
  const { queries, timeoutMs, ttlMs = SHARED_TTL_MS, waitMs = WAIT_MS } = options
  const kept = createCache<FirstDomains>({ ttlMs: KEPT_MS, maxBytes: KEPT_BYTES })
  const reads = createSharedCache<FirstDomains>({ ttlMs, maxBytes: READS_BYTES })

  const read = (taskNo: string, context: Pick<QueryContext, 'chargeCall'>): Promise<FirstDomains> => {
    const start: Read<FirstDomains> = async (chargeCall) => {
      const query = { taskNo, page: 1, pageSize: NAMES_MAX }
      const { items } = await queries.details(query, { priority: 'read', deadline: deadlineIn(timeoutMs), chargeCall })
      const found = firstDomains(items)
      if (found.names.length > 0) kept.set(taskNo, found)
      return found
    }
    return reads.get(taskNo, start, { priority: 'read', chargeCall: context.chargeCall })
  }

  /** Reads one task after the other. The first failure that does not concern the task itself ends the reading. */
  const readInTurn = async (queue: string[], found: Map<string, FirstDomains>, context: QueryContext) => {
    for (let taskNo = queue.shift(); taskNo !== undefined; taskNo = queue.shift()) {
      try {
        found.set(taskNo, await read(taskNo, context))
      } catch (error) {
        if (!(error instanceof GatewayError)) throw error
        if (error.code !== 'task-not-found') queue.length = 0
      }
    }
  }

  return {
    /**
     * Names of up to three domains of each task that could be read in time. Waits at most `waitMs`. `chargeCall` is
     * charged for each call, and no call follows one that was not paid for. A caller that is restricted to types gets no
     * names from details of other types.
     */
    firstOf: async (
      tasks: readonly Pick<Task, 'taskNo'>[],
      taskTypes: readonly string[] | null,
      context: QueryContext,
    ): Promise<ReadonlyMap<string, readonly string[]>> => {
      const found = new Map<string, FirstDomains>()
      for (const { taskNo } of tasks) {
        const known = kept.get(taskNo)
        if (known !== undefined) found.set(taskNo, known)
      }
      const queue = tasks.map(({ taskNo }) => taskNo).filter((taskNo) => !found.has(taskNo))
      const readers = Array.from({ length: Math.min(CONCURRENCY, queue.length) }, () =>
        readInTurn(queue, found, context),
      )
      const deadline = deadlineIn(Math.min(waitMs, context.deadline.remainingMs()))
      await withDeadline(deadline, Promise.all(readers), undefined)
      queue.length = 0
      const isSeen = ({ types }: FirstDomains): boolean =>
        taskTypes === null || types.every((type) => type !== null && taskTypes.includes(type))
      return new Map([...found].filter(([, domains]) => isSeen(domains)).map(([taskNo, { names }]) => [taskNo, names]))
    },
  }
}

const firstDomains = (details: readonly TaskDetail[]): FirstDomains => ({
  names: [...new Set(details.flatMap(({ domain }) => domain ?? []))].slice(0, NAMES_MAX),
  types: [...new Set(details.map(({ type }) => type))],
})
