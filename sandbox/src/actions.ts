import { createHash } from 'node:crypto'
import { type Failure, failure, missing } from './failures.ts'
import type { Params } from './request.ts'
import type { SandboxTask, TaskStatus, TaskStore } from './tasks.ts'

type Fields = Readonly<Record<string, unknown>>

/** What an action comes to: a failure, or the fields of its answer next to `RequestId`. */
export interface ActionResult {
  readonly failure: Failure | null
  readonly fields: Fields
  /** Did this call change the task? */
  readonly effect: boolean
}

export interface ActionCall {
  readonly params: Params
  readonly tasks: TaskStore
  readonly nowMs: number
  /** False: answer as if it had been done, and change nothing. */
  readonly carryOut: boolean
}

interface Action {
  readonly required: readonly string[]
  run(call: ActionCall): ActionResult
}

interface Page<T> {
  readonly paging: Fields
  readonly rows: readonly T[]
}

const MAX_DETAIL_PAGE_SIZE = 1000
const DAY_MS = 86_400_000
/** The vendor's wall clock. */
const UTC_PLUS_8_MS = 8 * 3_600_000

const TASK_STATUS_CODES = { WAITING_EXECUTE: 1, EXECUTING: 2, COMPLETE: 3 } as const
const CANCEL_STATUS_CODES = { INIT: 0, CANCELLING: 1, COMPLETE: 2 } as const
const DETAIL_STATUS_CODES = { WAITING_EXECUTE: 0, EXECUTING: 1, EXECUTE_SUCCESS: 2, EXECUTE_FAILURE: 3 } as const

type DetailStatus = keyof typeof DETAIL_STATUS_CODES

const DETAIL_STATUSES = {
  WAITING_EXECUTE: 'WAITING_EXECUTE',
  EXECUTING: 'EXECUTING',
  COMPLETE: 'EXECUTE_SUCCESS',
} as const satisfies Record<TaskStatus, DetailStatus>

const TYPE_DESCRIPTIONS = new Map([
  ['CHG_DNS', '修改DNS'],
  ['ORDER_RENEW', '域名续费'],
  ['CREATE_DNSHOST', '创建DNS host'],
])

const refused = (reason: Failure): ActionResult => ({ failure: reason, fields: {}, effect: false })
const answered = (fields: Fields, effect = false): ActionResult => ({ failure: null, fields, effect })

const cancelTask = ({ params, tasks, nowMs, carryOut }: ActionCall): ActionResult => {
  const { TaskNo = '', UserClientIp = null, Lang = null } = params
  const obstacle = obstacleTo(tasks.find(TaskNo, nowMs))
  if (obstacle !== null) return refused(obstacle)
  if (carryOut) tasks.cancel(TaskNo, { userClientIp: UserClientIp, lang: Lang }, nowMs)
  return answered({}, carryOut)
}

const obstacleTo = (task: SandboxTask | undefined): Failure | null => {
  if (task === undefined) return failure('TaskNotExist')
  if (task.cancelStatus !== 'INIT') return failure('TaskAlreadyCancelled')
  return task.taskStatus === 'COMPLETE' ? failure('TaskStatusNotAllowed') : null
}

const queryTaskList = ({ params, tasks, nowMs }: ActionCall): ActionResult => {
  const { BeginCreateTime: begin = '0', EndCreateTime: end = String(Number.MAX_SAFE_INTEGER) } = params
  if (!isCount(begin) || !isCount(end)) return refused(failure('InvalidParameter'))
  const isInDays = ({ createdAt }: SandboxTask) => dayOf(createdAt) >= dayOf(+begin) && dayOf(createdAt) <= dayOf(+end)
  const page = pageOf(tasks.newestFirst(nowMs).filter(isInDays), params)
  if (page === null) return refused(failure('InvalidParameter'))
  return answered({ ...page.paging, Data: { TaskInfo: page.rows.map(taskInfo) } })
}

const queryTaskDetailList = ({ params, tasks, nowMs }: ActionCall): ActionResult => {
  const task = tasks.find(params.TaskNo ?? '', nowMs)
  // An unknown task has no details, rather than a failure code of its own (assumption).
  const details = task === undefined ? [] : taskDetails(task, nowMs)
  const page = pageOf(details.filter(matching(params)), params, MAX_DETAIL_PAGE_SIZE)
  if (page === null) return refused(failure('InvalidParameter'))
  return answered({ ...page.paging, Data: { TaskDetail: page.rows } })
}

type TaskDetail = ReturnType<typeof taskDetail>

const matching =
  ({ TaskStatus, DomainName, InstanceId }: Params) =>
  (detail: TaskDetail): boolean =>
    (TaskStatus === undefined || TaskStatus === String(detail.TaskStatusCode)) &&
    (DomainName === undefined || DomainName === detail.DomainName) &&
    (InstanceId === undefined || InstanceId === detail.InstanceId)

const taskInfo = (task: SandboxTask): Fields => ({
  TaskNo: task.taskNo,
  TaskType: task.taskType,
  TaskTypeDescription: descriptionOf(task.taskType),
  TaskStatus: task.taskStatus,
  TaskStatusCode: TASK_STATUS_CODES[task.taskStatus],
  TaskCancelStatus: task.cancelStatus,
  TaskCancelStatusCode: CANCEL_STATUS_CODES[task.cancelStatus],
  TaskNum: task.domains.length,
  CreateTime: wallTime(task.createdAt),
  Clientip: '127.0.0.1',
})

const taskDetails = (task: SandboxTask, nowMs: number): readonly TaskDetail[] =>
  task.domains.map((domain) => taskDetail(task, domain, nowMs))

const taskDetail = (task: SandboxTask, domain: string, nowMs: number) => {
  const isCancelled = task.cancelStatus === 'COMPLETE'
  const status: DetailStatus = isCancelled ? 'EXECUTE_FAILURE' : DETAIL_STATUSES[task.taskStatus]
  return {
    TaskNo: task.taskNo,
    TaskDetailNo: idFrom(`${task.taskNo} ${domain}`).toLowerCase(),
    TaskType: task.taskType,
    TaskTypeDescription: descriptionOf(task.taskType),
    TaskStatus: status,
    TaskStatusCode: DETAIL_STATUS_CODES[status],
    DomainName: domain,
    InstanceId: `S${idFrom(domain).slice(0, 16)}`,
    CreateTime: wallTime(task.createdAt),
    UpdateTime: wallTime(nowMs),
    TryCount: status === 'WAITING_EXECUTE' ? 0 : 1,
    ErrorMsg: isCancelled ? 'task cancelled' : '',
    TaskResult: '',
  }
}

/** Identifiers that the same task and domain always get again. */
const idFrom = (text: string): string => createHash('sha256').update(text).digest('hex').toUpperCase().slice(0, 32)

const descriptionOf = (taskType: string): string => TYPE_DESCRIPTIONS.get(taskType) ?? taskType

const wallTime = (atMs: number): string => new Date(atMs + UTC_PLUS_8_MS).toISOString().slice(0, 19).replace('T', ' ')

const dayOf = (atMs: number): number => Math.floor((atMs + UTC_PLUS_8_MS) / DAY_MS)

const isCount = (text: string): boolean => /^\d{1,16}$/.test(text)

const pageOf = <T>(rows: readonly T[], params: Params, maxSize = Number.MAX_SAFE_INTEGER): Page<T> | null => {
  const { PageNum = '', PageSize = '' } = params
  if (!isCount(PageNum) || !isCount(PageSize)) return null
  const [number, size] = [+PageNum, +PageSize]
  if (number < 1 || size < 1 || size > maxSize) return null
  const pages = Math.ceil(rows.length / size)
  const paging = {
    TotalItemNum: rows.length,
    TotalPageNum: pages,
    CurrentPageNum: number,
    PageSize: size,
    PrePage: number > 1,
    NextPage: number < pages,
  }
  return { paging, rows: rows.slice((number - 1) * size, number * size) }
}

const ACTIONS = new Map<string, Action>([
  ['CancelTask', { required: ['TaskNo'], run: cancelTask }],
  ['QueryTaskList', { required: ['PageNum', 'PageSize'], run: queryTaskList }],
  ['QueryTaskDetailList', { required: ['TaskNo', 'PageNum', 'PageSize'], run: queryTaskDetailList }],
])

export const ACTION_NAMES = [...ACTIONS.keys()]

/** Runs one of the actions; an empty required parameter counts as missing. */
export const runAction = (name: string, call: ActionCall): ActionResult => {
  const action = ACTIONS.get(name)
  if (action === undefined) return refused(failure('InvalidAction.NotFound'))
  const absent = action.required.find((parameter) => (call.params[parameter] ?? '') === '')
  return absent === undefined ? action.run(call) : refused(missing(absent))
}
