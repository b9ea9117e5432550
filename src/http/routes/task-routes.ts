import type { Request, RequestHandler, Response } from 'express'
import * as z from 'zod'
import type { PageResponse, QueryContext, TaskQueries } from '../../alibaba/task-queries.ts'
import type { Task, TaskDetail } from '../../alibaba/task-schemas.ts'
import { GatewayError } from '../../errors.ts'
import type { Cancellations, CancelRequest } from '../../tasks/cancel.ts'
import type { Lookup } from '../../tasks/lookup.ts'
import type { Permissions } from '../../tasks/permission.ts'
import type { TaskDomains } from '../../tasks/task-domains.ts'
import { isoTime } from '../../time.ts'
import { visible, visibleOrNull } from '../../visible-text.ts'
import { callerIn } from '../middleware/authenticate.ts'
import { waitSeconds } from './prefer.ts'
import { countParameter, langParameter, momentParameter, parseQuery, rule, textParameter } from './query.ts'
import { sendTaggedJson } from './tagged-json.ts'

export interface TaskRouteOptions {
  readonly cancellations: Cancellations
  readonly queries: TaskQueries
  readonly lookup: Lookup
  readonly permissions: Pick<Permissions, 'forRead'>
  readonly taskDomains: TaskDomains
  /** Origin that `Location` is built on; a path alone where it is undefined. */
  readonly publicUrl: string | undefined
}

// Vendor examples are UUIDs, but no format is published: every character is allowed that needs no escaping anywhere.
const TASK_NO = /^[A-Za-z0-9_-]{1,64}$/

const TASK_NO_RULE = {
  en: 'must be 1 to 64 letters, digits, hyphens or underscores',
  zh: '必须为 1 到 64 个字母、数字、连字符或下划线',
} as const

const DAY_MS = 86_400_000

const page = countParameter('page', 1_000_000).default(1)

/** Upstream counts days from 1970 on, and no task is older. */
const day = momentParameter.transform((ms) => (ms === undefined ? undefined : Math.max(0, ms)))

const listQuery = z
  .strictObject({
    page,
    pageSize: countParameter('pageSize', 100).default(20),
    createdFrom: day,
    createdTo: day,
    include: z.literal('domains', rule('include')).optional(),
    lang: langParameter,
  })
  // Days are whole, so that the afternoon of a day does not come after that day.
  .refine(({ createdFrom = 0, createdTo = Number.POSITIVE_INFINITY }) => createdFrom < createdTo + DAY_MS, {
    ...rule('createdTo'),
    path: ['createdTo'],
  })

const detailQuery = z.strictObject({
  page,
  pageSize: countParameter('detailPageSize', 1000).default(100),
  status: z.enum(['waiting', 'executing', 'succeeded', 'failed'], rule('detailStatus')).optional(),
  // As it is given: whether upstream knows a name by its A-label or its U-label is not documented.
  domain: textParameter,
  lang: langParameter,
})

const findQuery = z.strictObject({ lang: langParameter })

// Not strict, unlike the query of a read: an unknown parameter does not change which task is cancelled.
const cancelQuery = z.object({ lang: langParameter })

/** Handlers of all routes under `/tasks`. */
export const createTaskRoutes = (options: TaskRouteOptions) => {
  const { cancellations, queries, lookup, permissions, taskDomains, publicUrl } = options
  return {
    /** Takes the place of a scope check: a refused cancel is recorded. */
    requireCancelScope: async function cancelScopeGuard(req, _res, next) {
      if (callerIn(req).scopes.includes('tasks:cancel')) return next()
      const cancellationId = await cancellations.refuse(cancelRequest(req))
      throw new GatewayError('forbidden', { cancellationId, outcome: 'not-cancelled', scope: 'tasks:cancel' })
    },

    cancelTask: async function cancelTask(req, res) {
      parseQuery(cancelQuery, req.query)
      const taskNo = taskNoOf(req)
      const { waitedMs, ...cancelled } = await cancellations.cancel(cancelRequest(req))
      const waitedSeconds = Math.round(waitedMs / 1000)
      if (waitedSeconds > 0) res.set('Preference-Applied', `wait=${waitedSeconds}`)
      // RFC 8288: a resource that tells how the request goes on.
      if (cancelled.cancelStatus !== 'cancelled') res.links({ monitor: `/cancellations/${cancelled.cancellationId}` })
      res
        .status(cancelled.cancelStatus === 'cancelled' ? 200 : 202)
        .location(`${publicUrl ?? ''}/tasks/${taskNo}`)
        .json({ taskNo, ...cancelled })
    },

    listTasks: async function listTasks(req, res) {
      const { createdFrom, createdTo, include, ...asked } = parseQuery(listQuery, req.query)
      const query = { ...asked, createdFromMs: createdFrom, createdToMs: createdTo }
      const { domains, taskTypes } = callerIn(req)
      // A row names too few domains to tell whether the caller may see the task.
      if (domains !== null) throw new GatewayError('forbidden')
      const context = queryContextOf(req)
      const tasks = onlyOf(taskTypes, await queries.list(query, context))
      const names = include === undefined ? null : await taskDomains.firstOf(tasks.items, taskTypes, context)
      // An allowance that ends with the domains refuses nothing: the rows are there.
      if (names !== null) res.removeHeader('Retry-After')
      const domainsOf = ({ taskNo }: Task) => names && { domains: names.get(taskNo)?.map(visible) ?? null }
      const items = tasks.items.map((task) => ({ ...toItem(task, maySeeAddresses(req)), ...domainsOf(task) }))
      sendPage(req, res, { ...tasks, items })
    },

    findTask: async function findTask(req, res) {
      parseQuery(findQuery, req.query)
      const taskNo = taskNoOf(req)
      await permissions.forRead(taskNo, callerIn(req), queryContextOf(req))
      const task = await lookup.find(taskNo, queryContextOf(req))
      if (task === null) throw new GatewayError('task-not-found')
      sendTaggedJson(req, res, toItem(task, maySeeAddresses(req)))
    },

    listDetails: async function listDetails(req, res) {
      const query = parseQuery(detailQuery, req.query)
      const taskNo = taskNoOf(req)
      await permissions.forRead(taskNo, callerIn(req), queryContextOf(req))
      const details = await queries.details({ ...query, taskNo }, queryContextOf(req))
      // A filter can leave nothing of a task, and an unknown one has nothing: only a look tells which it is.
      if (details.totalItems === 0 && (await lookup.find(taskNo, queryContextOf(req))) === null) {
        throw new GatewayError('task-not-found', { requestId: details.requestId })
      }
      sendPage(req, res, { ...details, items: details.items.map(toDetailItem) })
    },
  } satisfies Record<string, RequestHandler>
}

export const checkTaskNo: RequestHandler = function taskNoGuard(req, _res, next) {
  if (!TASK_NO.test(taskNoOf(req))) throw new GatewayError('task-no-invalid', { field: 'taskNo', rule: TASK_NO_RULE })
  next()
}

/** The `:taskNo` of the path; empty where the route has none. */
const taskNoOf = (req: Request): string => (typeof req.params.taskNo === 'string' ? req.params.taskNo : '')

const cancelRequest = (req: Request): CancelRequest => ({
  taskNo: taskNoOf(req),
  caller: callerIn(req),
  clientIp: req.context.clientIp,
  peerIp: req.context.peerIp,
  userAgent: req.get('user-agent') ?? null,
  lang: req.context.lang,
  gatewayRequestId: req.context.requestId,
  deadline: req.context.deadline,
  signal: req.context.signal,
  waitMs: (waitSeconds(req.get('prefer')) ?? 0) * 1000,
})

const queryContextOf = ({ context }: Request): QueryContext => ({
  priority: 'read',
  deadline: context.deadline,
  signal: context.signal,
  caller: { clientIp: context.clientIp, lang: context.lang },
  chargeCall: context.chargeCall,
})

/** Only callers who may read the audit trail see addresses of people. */
const maySeeAddresses = (req: Request): boolean => callerIn(req).scopes.includes('audit:read')

/** Totals are null where they would count tasks that the caller may not see. */
type SentPage<T> = Omit<PageResponse<T>, 'totalItems' | 'totalPages'> & {
  readonly totalItems: number | null
  readonly totalPages: number | null
}

/** The tasks of those types on a page, which keeps its place; null for all types. */
const onlyOf = (types: readonly string[] | null, tasks: PageResponse<Task>): SentPage<Task> =>
  types === null
    ? tasks
    : {
        ...tasks,
        items: tasks.items.filter(({ type }) => type !== null && types.includes(type)),
        totalItems: null,
        totalPages: null,
      }

/** A page and, by the same query, its neighbours (RFC 8288). */
const sendPage = (req: Request, res: Response, answered: SentPage<unknown>): void => {
  const { items, page, pageSize, totalItems, totalPages, hasNext, requestId } = answered
  const address = (number: number): string => {
    const { pathname, searchParams } = new URL(req.url, 'http://localhost')
    searchParams.set('page', String(number))
    return `${pathname}?${searchParams}`
  }
  if (hasNext) res.links({ next: address(page + 1) })
  if (page > 1 && totalPages !== 0) res.links({ prev: address(Math.min(page - 1, totalPages ?? page)) })
  res.json({ items, page, pageSize, totalItems, totalPages, hasNext, requestId })
}

const toItem = (task: Task, withAddress: boolean) => ({
  taskNo: visible(task.taskNo),
  type: visibleOrNull(task.type),
  typeDescription: visibleOrNull(task.typeDescription),
  status: task.status,
  cancelStatus: task.cancelStatus,
  domainCount: task.domainCount,
  createdAt: isoTime(task.createdAtMs),
  clientIp: withAddress ? visibleOrNull(task.clientIp) : null,
})

const toDetailItem = (detail: TaskDetail) => ({
  detailNo: visibleOrNull(detail.detailNo),
  taskNo: visible(detail.taskNo),
  type: visibleOrNull(detail.type),
  typeDescription: visibleOrNull(detail.typeDescription),
  status: detail.status,
  domain: visibleOrNull(detail.domain),
  instanceId: visibleOrNull(detail.instanceId),
  createdAt: isoTime(detail.createdAtMs),
  updatedAt: isoTime(detail.updatedAtMs),
  attempts: detail.attempts,
  message: visibleOrNull(detail.message),
  result: visibleOrNull(detail.result),
})
