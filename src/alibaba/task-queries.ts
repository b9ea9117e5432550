import { GatewayError, type Lang } from '../errors.ts'
import type { Log } from '../telemetry/log.ts'
import type { CallLimits, Upstream, UpstreamFailure } from './client.ts'
import {
  type Asked,
  createTaskAnswers,
  DETAIL_STATUS_CODES,
  type Page,
  type ReportUnknown,
  type Task,
  type TaskDetail,
} from './task-answers.ts'
import { noonOf } from './wall-time.ts'

/** Who asks, where that is one caller: upstream's common parameters. */
export interface Asker {
  readonly clientIp: string | null
  readonly lang: Lang
}

export interface TaskListQuery extends Asked {
  /** Milliseconds since the epoch; upstream looks at their days alone. */
  readonly createdFromMs?: number | undefined
  readonly createdToMs?: number | undefined
}

export interface TaskDetailQuery extends Asked {
  readonly taskNo: string
  readonly status?: keyof typeof DETAIL_STATUS_CODES | undefined
  readonly domain?: string | undefined
}

export interface QueryLimits extends CallLimits {
  /** Left out where an answer is shared by many. */
  readonly asker?: Asker
}

/** A page, and upstream's RequestId of the answer that carried it. */
export type Answered<T> = Page<T> & { readonly requestId: string }

export interface TaskQueries {
  /** QueryTaskList: the account's tasks, (assumption) newest first. @throws GatewayError, a code of upstream's */
  list(query: TaskListQuery, limits: QueryLimits): Promise<Answered<Task>>
  /** QueryTaskDetailList: what a task does, domain by domain. @throws GatewayError, a code of upstream's or task-not-found */
  details(query: TaskDetailQuery, limits: QueryLimits): Promise<Answered<TaskDetail>>
  /** A moment that stands for the day of upstream's on which the given one lies: the same for all of that day. */
  dayOf(atMs: number): number
}

export interface TaskQueryOptions {
  readonly upstream: Upstream
  readonly log: Log
}

export const createTaskQueries = ({ upstream, log }: TaskQueryOptions): TaskQueries => {
  const answers = createTaskAnswers(reportOnce(log))

  const ask = async <T>(
    action: string,
    params: Params,
    { asker, ...limits }: QueryLimits,
    read: (body: unknown) => Page<T> | null,
  ): Promise<Answered<T>> => {
    const common = { UserClientIp: asker?.clientIp ?? undefined, Lang: asker?.lang }
    const result = await upstream.query(action, given({ ...params, ...common }), limits)
    if (!result.ok) throw failureOf(result, params)
    const page = read(result.body)
    if (page !== null) return { ...page, requestId: result.requestId }
    log.error('upstream answered what its documents do not say', { action, upstreamRequestId: result.requestId })
    throw new GatewayError('upstream-bad-response', { requestId: result.requestId })
  }

  return {
    dayOf: noonOf,
    list: async (query, limits) => {
      const params = {
        PageNum: query.page,
        PageSize: query.pageSize,
        BeginCreateTime: query.createdFromMs,
        EndCreateTime: query.createdToMs,
      }
      return await ask('QueryTaskList', params, limits, (body) => answers.readTasks(body, query))
    },
    details: async (query, limits) => {
      const params = {
        TaskNo: query.taskNo,
        PageNum: query.page,
        PageSize: query.pageSize,
        TaskStatus: query.status === undefined ? undefined : DETAIL_STATUS_CODES[query.status],
        DomainName: query.domain,
      }
      return await ask('QueryTaskDetailList', params, limits, (body) => answers.readDetails(body, query))
    },
  }
}

type Params = Readonly<Record<string, string | number | undefined>>

const given = (params: Params): Readonly<Record<string, string>> =>
  Object.fromEntries(
    Object.entries(params).flatMap(([name, value]) => (value === undefined ? [] : [[name, String(value)]])),
  )

const failureOf = ({ code, upstreamCode, requestId, retryAfterMs }: UpstreamFailure, asked: Params): GatewayError => {
  // Nobody who names no task can be told that there is none.
  const isAnswer = code !== 'task-not-found' || asked.TaskNo !== undefined
  return new GatewayError(isAnswer ? code : 'upstream-bad-response', { upstreamCode, requestId, retryAfterMs })
}

const REPORTED_MAX = 100

/** One line for each value: pages are read again and again. */
const reportOnce = (log: Log): ReportUnknown => {
  const reported = new Set<string>()
  return (field, value) => {
    const shown = printable(value)
    const name = `${field} ${shown}`
    if (reported.has(name) || reported.size >= REPORTED_MAX) return
    reported.add(name)
    log.warn('upstream sent a value that is not known here', { field, value: shown })
  }
}

/** A name is logged only where it looks like one. */
const printable = (value: string): string | null => (/^[A-Za-z0-9_.-]{1,64}$/.test(value) ? value : null)
