import { GatewayError, type Lang, upstreamFacts } from '../errors.ts'
import type { Log } from '../telemetry/log.ts'
import { ASSUMPTIONS, type Assumption, type ReportContradiction } from './assumptions.ts'
import type { CallLimits, Upstream } from './client.ts'
import { failed, type UpstreamFailure } from './response.ts'
import {
  createTaskParsers,
  DETAIL_STATUS_CODES,
  type Page,
  type PageRequest,
  type ReportUnknown,
  type Task,
  type TaskDetail,
} from './task-schemas.ts'

/** The caller of a query, if it has only one: the upstream's common parameters. */
export interface CallerContext {
  readonly clientIp: string | null
  readonly lang: Lang
}

export interface TaskListQuery extends PageRequest {
  /** Milliseconds since the epoch; upstream looks at their days alone. */
  readonly createdFromMs?: number | undefined
  readonly createdToMs?: number | undefined
}

export interface TaskDetailQuery extends PageRequest {
  readonly taskNo: string
  readonly status?: keyof typeof DETAIL_STATUS_CODES | undefined
  readonly domain?: string | undefined
}

/**
 * Charges a caller for a call to upstream, before it is sent: one page of a query, however often it is attempted.
 * @throws GatewayError where the call may not be charged; then nothing is sent
 */
export type ChargeCall = () => Promise<void>

export interface QueryContext extends Omit<CallLimits, 'currentSignal'> {
  readonly signal?: AbortSignal | undefined
  /** Left out where an answer is shared by many. */
  readonly caller?: CallerContext
  /** Absent for calls that belong to a cancel: they cost their caller nothing. */
  readonly chargeCall?: ChargeCall | undefined
}

/** A page, and upstream's RequestId of the answer that carried it. */
export type PageResponse<T> = Page<T> & { readonly requestId: string }

/** The fields of a detail that a policy needs. All details of a task are in memory until the last page is read. */
export type TaskPart = Pick<TaskDetail, 'taskNo' | 'detailNo' | 'type' | 'domain'>

/** All that a task does, as far as it could be read. */
export interface TaskScan {
  readonly taskNo: string
  readonly details: readonly TaskPart[]
  /** How many details there are, as each page said. */
  readonly totals: readonly number[]
  /** The failure that ended the scan early. */
  readonly failure: UpstreamFailure | null
}

export type TaskQueries = ReturnType<typeof createTaskQueries>

export interface TaskQueryOptions {
  readonly upstream: Upstream
  readonly log: Log
  readonly onContradiction?: ReportContradiction | undefined
}

export const createTaskQueries = ({ upstream, log, onContradiction = () => undefined }: TaskQueryOptions) => {
  const parsers = createTaskParsers(reportUnknown(log, onContradiction))

  const queryPage = async <T>(
    action: string,
    params: QueryParams,
    { caller, chargeCall, signal, ...limits }: QueryContext,
    read: (body: unknown) => Page<T> | null,
  ): Promise<QueryResult<T>> => {
    await chargeCall?.()
    const common = { UserClientIp: caller?.clientIp ?? undefined, Lang: caller?.lang }
    const result = await upstream.query(action, definedParams({ ...params, ...common }), {
      ...limits,
      currentSignal: () => signal,
    })
    if (!result.ok) return result
    const { requestId, attempts } = result
    const page = read(result.body)
    if (page !== null) return { ok: true, page: { ...page, requestId } }
    onContradiction('response-shape', { action, upstreamRequestId: requestId })
    log.error('the upstream response does not match its documentation', { action, upstreamRequestId: requestId })
    return failed('query', 'bad-response', { sent: true, requestId, attempts })
  }

  const queryDetails = (query: TaskDetailQuery, context: QueryContext): Promise<QueryResult<TaskDetail>> =>
    queryPage('QueryTaskDetailList', detailParams(query), context, (body) => parsers.readDetails(body, query))

  return {
    /**
     * QueryTaskList: the account's tasks. (assumption) list-order: newest first.
     * @throws GatewayError, a code of the upstream
     */
    list: async (query: TaskListQuery, context: QueryContext): Promise<PageResponse<Task>> => {
      const params = {
        PageNum: query.page,
        PageSize: query.pageSize,
        BeginCreateTime: query.createdFromMs,
        EndCreateTime: query.createdToMs,
      }
      const result = await queryPage('QueryTaskList', params, context, (body) => parsers.readTasks(body, query))
      if (result.ok) {
        const { requestId: upstreamRequestId } = result.page
        for (const each of contradictionsIn(result.page, query)) onContradiction(each, { upstreamRequestId })
        return result.page
      }
      // The list names no task, so that no task can be missing.
      throw failureOf(result.code === 'task-not-found' ? { ...result, code: 'upstream-bad-response' } : result)
    },
    /**
     * QueryTaskDetailList: the effects of a task on each domain. @throws GatewayError, a code of the upstream or
     * task-not-found
     */
    details: async (query: TaskDetailQuery, context: QueryContext): Promise<PageResponse<TaskDetail>> => {
      const result = await queryDetails(query, context)
      if (result.ok) return result.page
      throw failureOf(result)
    },
    /**
     * Every page of a task's details. Stops if there are more than `max`, and after a page for which `stopWhen` is true.
     * @throws GatewayError only that of `chargeCall`
     */
    allDetails: async (
      taskNo: string,
      max: number,
      context: QueryContext,
      stopWhen: (details: readonly TaskDetail[]) => boolean,
    ): Promise<TaskScan> => {
      const [details, totals]: [TaskPart[], number[]] = [[], []]
      const pageSize = Math.min(DETAIL_PAGE_MAX, max)
      for (let page = 1; ; page += 1) {
        const result = await queryDetails({ taskNo, page, pageSize }, context)
        if (!result.ok) return { taskNo, details, totals, failure: result }
        const { items, totalItems } = result.page
        details.push(...items.map(partOf))
        totals.push(totalItems)
        // Full pages would have held all of them: shorter ones must not cause more calls than that.
        const isWhole = details.length >= totalItems || page * pageSize >= totalItems
        if (items.length === 0 || isWhole || totalItems > max || stopWhen(items))
          return { taskNo, details, totals, failure: null }
      }
    },
  }
}

const partOf = ({ taskNo, detailNo, type, domain }: TaskDetail): TaskPart => ({ taskNo, detailNo, type, domain })

/** Upstream's limit. */
const DETAIL_PAGE_MAX = 1000

type QueryResult<T> = { readonly ok: true; readonly page: PageResponse<T> } | UpstreamFailure

const detailParams = ({ taskNo, page, pageSize, status, domain }: TaskDetailQuery): QueryParams => ({
  TaskNo: taskNo,
  PageNum: page,
  PageSize: pageSize,
  TaskStatus: status === undefined ? undefined : DETAIL_STATUS_CODES[status],
  DomainName: domain,
})

type QueryParams = Readonly<Record<string, string | number | undefined>>

const definedParams = (params: QueryParams): Readonly<Record<string, string>> =>
  Object.fromEntries(
    Object.entries(params).flatMap(([name, value]) => (value === undefined ? [] : [[name, String(value)]])),
  )

const failureOf = (failure: UpstreamFailure): GatewayError => new GatewayError(failure.code, upstreamFacts(failure))

/** Times have whole seconds. Clocks differ, but not by most of an hour: zones do. */
const SECOND_MS = 1000
const FUTURE_MS = 45 * 60_000

/** The assumptions that a page of the list contradicts. */
const contradictionsIn = ({ items, pageSize }: Page<Task>, requested: PageRequest): readonly Assumption[] => {
  const times = items.flatMap(({ createdAtMs }) => createdAtMs ?? [])
  const isRising = times.some((atMs, index) => atMs >= (times[index - 1] ?? Number.POSITIVE_INFINITY) + SECOND_MS)
  const found: Readonly<Partial<Record<Assumption, boolean>>> = {
    'list-order': isRising,
    'list-page-size': pageSize < requested.pageSize || items.length > requested.pageSize,
    'time-zone': times.some((atMs) => atMs > Date.now() + FUTURE_MS),
  }
  return ASSUMPTIONS.filter((label) => found[label] === true)
}

const REPORTED_MAX = 100

/** Counts each value, with one line for each: pages are read again and again. */
const reportUnknown = (log: Log, onContradiction: ReportContradiction): ReportUnknown => {
  const reported = new Set<string>()
  return (field, value) => {
    const shown = printable(value)
    onContradiction(/^\w+Time\b/.test(field) ? 'date-format' : 'enum-values', { field, value: shown })
    const name = `${field} ${shown}`
    if (reported.has(name) || reported.size >= REPORTED_MAX) return
    reported.add(name)
    log.warn('the upstream sent an unknown value', { field, value: shown })
  }
}

/** A name is logged only where it looks like one. */
const printable = (value: string): string | null => (/^[A-Za-z0-9_.-]{1,64}$/.test(value) ? value : null)
