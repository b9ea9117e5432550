import { createHash } from 'node:crypto'
import type { UpstreamFailure } from '../alibaba/response.ts'
import type { ChargeCall, QueryContext, TaskQueries, TaskScan } from '../alibaba/task-queries.ts'
import { allows, excludes, isRestricted, type Restrictions } from '../callers/policy.ts'
import { GatewayError, upstreamFacts } from '../errors.ts'
import { deadlineIn, withDeadline } from '../time.ts'
import { createSharedCache, SHARED_TTL_MS } from './shared-cache.ts'

/** Whether a caller may access a task; `indeterminate` where the task could not be read. */
export type Permission =
  | { readonly kind: 'granted' | 'denied' }
  | { readonly kind: 'indeterminate'; readonly failure: UpstreamFailure }

export type Permissions = ReturnType<typeof createPermissions>

export interface PermissionOptions {
  readonly queries: Pick<TaskQueries, 'allDetails'>
  /** A restricted caller is denied a task with more details than this. */
  readonly detailsLimit: number
  /** For one shared read. The deadlines of the requests that share it do not end it. */
  readonly timeoutMs: number
  readonly ttlMs?: number | undefined
}

/** Only permissions are cached, no part of a task. */
const CACHE_BYTES = 8 * 2 ** 20

const GRANTED = { kind: 'granted' } as const
const DENIED = { kind: 'denied' } as const

/** Compares tasks with the restrictions of callers. For an unrestricted caller no task is read. */
export const createPermissions = (options: PermissionOptions) => {
  const { queries, detailsLimit, timeoutMs, ttlMs = SHARED_TTL_MS } = options
  const reads = createSharedCache<Permission>({ ttlMs, maxBytes: CACHE_BYTES })

  /** Stops at the first page that excludes the task. */
  const scan = (taskNo: string, restrictions: Restrictions, context: QueryContext): Promise<TaskScan> =>
    queries.allDetails(taskNo, detailsLimit, context, (details) => excludes(restrictions, details))

  const evaluate = (task: TaskScan, restrictions: Restrictions): Permission => {
    const { failure, details } = task
    if (excludes(restrictions, details)) return DENIED
    if (failure !== null) return isUnreadable(failure) ? DENIED : { kind: 'indeterminate', failure }
    return allows(restrictions, task) ? GRANTED : DENIED
  }

  const readPermission = async (
    taskNo: string,
    restrictions: Restrictions,
    chargeCall: ChargeCall | undefined,
  ): Promise<Permission> => {
    const task = await scan(taskNo, restrictions, { priority: 'read', deadline: deadlineIn(timeoutMs), chargeCall })
    const { failure, details } = task
    // If upstream was unavailable from the first page on, that proves nothing about the task.
    if (failure?.code === 'upstream-unavailable' && details.length === 0) return { kind: 'indeterminate', failure }
    return evaluate(task, restrictions)
  }

  return {
    /** Before a cancellation: by a read of its own, which starts now. */
    forCancel: async (taskNo: string, restrictions: Restrictions, context: QueryContext): Promise<Permission> => {
      if (!isRestricted(restrictions)) return GRANTED
      const task = await scan(taskNo, restrictions, context)
      const { failure } = task
      // A caller that disconnects ends the read. That must not count as a denial.
      const wasAborted = failure !== null && context.signal?.aborted
      return wasAborted ? { kind: 'indeterminate', failure } : evaluate(task, restrictions)
    },

    /**
     * Before a read: by a cached read that all callers with the same restrictions share. `chargeCall` is charged only
     * for calls that this request starts.
     * @throws GatewayError task-not-found where the caller is denied, a code of the query where that is indeterminate,
     * or the one that `chargeCall` throws
     */
    forRead: async (
      taskNo: string,
      restrictions: Restrictions,
      { deadline, chargeCall }: Pick<QueryContext, 'deadline' | 'chargeCall'>,
    ): Promise<void> => {
      if (!isRestricted(restrictions)) return
      const key = readKey(taskNo, restrictions)
      const read = (charge: ChargeCall | undefined) => readPermission(taskNo, restrictions, charge)
      const result = reads.get(key, read, { priority: 'read', chargeCall })
      const permission = await withDeadline(deadline, result, null)
      if (permission === null) throw new GatewayError('upstream-timeout')
      if (permission.kind === 'denied') throw new GatewayError('task-not-found')
      if (permission.kind === 'indeterminate')
        throw new GatewayError(permission.failure.code, upstreamFacts(permission.failure))
    },
  }
}

/** Hashed, because the lists of restrictions can be long. */
const readKey = (taskNo: string, { domains, taskTypes }: Restrictions): string =>
  createHash('sha256')
    .update(JSON.stringify([taskNo, domains, taskTypes]))
    .digest('base64')

/**
 * The task is the cause, not upstream: it does not exist, or the response to a sent request was missing or malformed.
 */
const isUnreadable = ({ code, sent }: UpstreamFailure): boolean =>
  code === 'task-not-found' || code === 'upstream-bad-response' || (code === 'upstream-unavailable' && sent)
