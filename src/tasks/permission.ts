import { createHash } from 'node:crypto'
import type { UpstreamFailure } from '../alibaba/client.ts'
import type { ChargeCall, QueryContext, TaskQueries, TaskScan } from '../alibaba/task-queries.ts'
import { allows, excludes, isRestricted, type Restrictions } from '../callers/policy.ts'
import { GatewayError, upstreamFacts } from '../errors.ts'
import { deadlineIn, withDeadline } from '../time.ts'
import { createSharedCache, SHARED_TTL_MS } from './shared-cache.ts'

/** Whether a caller may touch a task; `untold` where upstream could not be asked. */
export type Permission =
  | { readonly kind: 'granted' | 'denied' }
  | { readonly kind: 'indeterminate'; readonly failure: UpstreamFailure }

/** Holds tasks against what their callers are restricted to. Those who are not cost no reading. */
export interface Permissions {
  /** For a change: by a reading of its own, which begins now. */
  forCancel(taskNo: string, restrictions: Restrictions, limits: QueryContext): Promise<Permission>
  /**
   * For a look: by a reading that all with the same restrictions share for a moment. `chargeCall` charges the calls
   * that this request starts, and those alone.
   * @throws task-not-found where it is not granted, another code of upstream's where nobody can tell, or that of
   * `chargeCall`
   */
  forRead(
    taskNo: string,
    restrictions: Restrictions,
    limits: Pick<QueryContext, 'deadline' | 'chargeCall'>,
  ): Promise<void>
}

export interface PermissionOptions {
  readonly queries: Pick<TaskQueries, 'allDetails'>
  /** A task of more details is not touched by whoever is restricted. */
  readonly detailsLimit: number
  /** For one shared reading, which nobody's own deadline cuts short. */
  readonly timeoutMs: number
  readonly ttlMs?: number | undefined
}

/** Permissions alone, and no part of a task. */
const CACHE_BYTES = 8 * 2 ** 20

const GRANTED = { kind: 'granted' } as const
const DENIED = { kind: 'denied' } as const

export const createPermissions = (options: PermissionOptions): Permissions => {
  const { queries, detailsLimit, timeoutMs, ttlMs = SHARED_TTL_MS } = options
  const reads = createSharedCache<Permission>({ ttlMs, maxBytes: CACHE_BYTES })

  /** No more is read than it takes to know. */
  const scan = (taskNo: string, restrictions: Restrictions, limits: QueryContext): Promise<TaskScan> =>
    queries.allDetails(taskNo, detailsLimit, limits, (details) => excludes(restrictions, details))

  const evaluate = (whole: TaskScan, restrictions: Restrictions): Permission => {
    const { failure, details } = whole
    if (excludes(restrictions, details)) return DENIED
    if (failure !== null) return isUnreadable(failure) ? DENIED : { kind: 'indeterminate', failure }
    return allows(restrictions, whole) ? GRANTED : DENIED
  }

  const readPermission = async (
    taskNo: string,
    restrictions: Restrictions,
    chargeCall: ChargeCall | undefined,
  ): Promise<Permission> => {
    const limits = { priority: 'read', deadline: deadlineIn(timeoutMs), chargeCall } as const
    const whole = await scan(taskNo, restrictions, limits)
    const { failure, details } = whole
    // Where upstream served nothing at all, that says nothing of the task.
    if (failure?.code === 'upstream-unavailable' && details.length === 0) return { kind: 'indeterminate', failure }
    return evaluate(whole, restrictions)
  }

  return {
    forCancel: async (taskNo, restrictions, limits) => {
      if (!isRestricted(restrictions)) return GRANTED
      const whole = await scan(taskNo, restrictions, limits)
      const { failure } = whole
      // Whoever left in the meantime was refused nothing.
      const isCutShort = failure !== null && limits.signal?.aborted
      return isCutShort ? { kind: 'indeterminate', failure } : evaluate(whole, restrictions)
    },

    forRead: async (taskNo, restrictions, { deadline, chargeCall }) => {
      if (!isRestricted(restrictions)) return
      const key = readKey(taskNo, restrictions)
      const need = { priority: 'read', chargeCall } as const
      const looked = reads.get(key, (charge) => readPermission(taskNo, restrictions, charge), need)
      const permission = await withDeadline(deadline, looked, null)
      if (permission === null) throw new GatewayError('upstream-timeout')
      if (permission.kind === 'denied') throw new GatewayError('task-not-found')
      if (permission.kind === 'indeterminate')
        throw new GatewayError(permission.failure.code, upstreamFacts(permission.failure))
    },
  }
}

/** Short, however long the lists are. */
const readKey = (taskNo: string, { domains, taskTypes }: Restrictions): string =>
  createHash('sha256')
    .update(JSON.stringify([taskNo, domains, taskTypes]))
    .digest('base64')

/** The task itself, rather than upstream, is what can't be read: it is unknown, or it was asked for and not served whole. */
const isUnreadable = ({ code, sent }: UpstreamFailure): boolean =>
  code === 'task-not-found' || code === 'upstream-bad-response' || (code === 'upstream-unavailable' && sent)
