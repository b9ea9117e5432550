import * as z from 'zod'
import { ownText } from '../collections.ts'
import { parseUpstreamTime } from './upstream-time.ts'

// The upstream's tasks, parsed by schema: with the gateway's names, and only the fields that are named here.

/** A value that upstream has and we do not know is `unknown`, never a failure. */
export type TaskStatus = 'waiting' | 'executing' | 'complete' | 'unknown'
export type CancelStatus = 'none' | 'cancelling' | 'cancelled' | 'unknown'
export type DetailStatus = 'waiting' | 'executing' | 'succeeded' | 'failed' | 'unknown'

/** One row of QueryTaskList. Times are milliseconds since the epoch; null stands for an absent or unreadable value. */
export type Task = Readonly<z.output<ReturnType<typeof taskSchema>>>

/** One row of QueryTaskDetailList: the effect of a task on one domain. */
export type TaskDetail = Readonly<z.output<ReturnType<typeof detailSchema>>>

export interface Page<T> {
  readonly items: readonly T[]
  readonly page: number
  readonly pageSize: number
  readonly totalItems: number
  readonly totalPages: number
  readonly hasNext: boolean
}

/** Reports a value that is not known here, or a time that can't be parsed (with an empty value). */
export type ReportUnknown = (field: string, value: string) => void

// (assumption) enum-values: these names are all. By name: the vendor's own sample pairs the name COMPLETE with the code
// of another status.
const TASK_STATUSES: ReadonlyMap<string, TaskStatus> = new Map([
  ['WAITING_EXECUTE', 'waiting'],
  ['EXECUTING', 'executing'],
  ['COMPLETE', 'complete'],
])
const CANCEL_STATUSES: ReadonlyMap<string, CancelStatus> = new Map([
  ['INIT', 'none'],
  ['CANCELLING', 'cancelling'],
  // So older pages of the vendor spell it.
  ['CANCELING', 'cancelling'],
  ['COMPLETE', 'cancelled'],
])
const DETAIL_STATUSES: ReadonlyMap<string, DetailStatus> = new Map([
  ['WAITING_EXECUTE', 'waiting'],
  ['EXECUTING', 'executing'],
  ['EXECUTE_SUCCESS', 'succeeded'],
  ['EXECUTE_FAILURE', 'failed'],
])

/** The number by which QueryTaskDetailList filters by status. */
export const DETAIL_STATUS_CODES = { waiting: 0, executing: 1, succeeded: 2, failed: 3 } as const

/** Upstream's own limit for a page of details; pages of tasks have fewer rows. */
const ROWS_MAX = 1000
/** No name, number, date or address is longer. */
const NAME_MAX = 256
/** Of texts for people. */
const TEXT_MAX = 4000

const anyText = z
  .union([z.string(), z.int().transform(String)])
  .nullish()
  .catch(null)
  .transform((value) => value || null)

/** A text that is too long is unreadable: shortened it would be another name. */
const name = anyText.transform((value) => (value !== null && value.length > NAME_MAX ? null : value))

/** A text for people, which is cut where it is too long, between characters. */
const text = anyText.transform((value) => {
  if (value === null || value.length <= TEXT_MAX) return value
  return ownText(value.slice(0, TEXT_MAX).replace(/[\ud800-\udbff]$/, ''))
})

/** Of a task. A list with a row without one is invalid, and so is a list with a number of uncertain digits. */
const taskNumber = z.union([z.string().min(1).max(NAME_MAX), z.int().transform(String)])

const count = z.union([
  z.number().int().nonnegative(),
  z
    .string()
    .regex(/^\d{1,15}$/)
    .transform(Number),
])

const looseCount = count
  .nullish()
  .catch(null)
  .transform((value) => value ?? null)

/** A time that is there and can't be parsed is reported without its text. */
const timeSchema = (field: string, report: ReportUnknown) =>
  name.transform((value) => {
    const at = value === null ? null : parseUpstreamTime(value)
    if (value !== null && at === null) report(field, '')
    return at
  })

/** The requested page. Its values are used if the response does not repeat them. */
export interface PageRequest {
  readonly page: number
  readonly pageSize: number
}

/**
 * Both parsers return null if the body differs. (assumption) response-shape: bodies are as the vendor documents them.
 */
export const createTaskParsers = (report: ReportUnknown) => ({
  readTasks: parserOf('TaskInfo', taskSchema(report)),
  readDetails: parserOf('TaskDetail', detailSchema(report)),
})

const parserOf =
  <T>(list: string, row: z.ZodType<T>) =>
  (body: unknown, requested: PageRequest): Page<T> | null => {
    const { data } = bodySchema.safeParse(body)
    const rows = readRows(data?.Data?.[list], row)
    return data === undefined || rows === null ? null : toPage(rows, data, requested)
  }

/**
 * The rows of a list, undefined where it was left out; null where it is no list, is longer than any page, or has a
 * faulty row. The first faulty row ends the reading: a schema of the whole list would describe each one.
 */
const readRows = <T>(list: unknown, row: z.ZodType<T>): readonly T[] | null | undefined => {
  if (list === undefined || list === null) return undefined
  if (!Array.isArray(list) || list.length > ROWS_MAX) return null
  const rows: T[] = []
  for (const each of list) {
    const parsed = row.safeParse(each)
    if (!parsed.success) return null
    rows.push(parsed.data)
  }
  return rows
}

/** Pages count from one, so zero carries no information. */
const pageNumber = looseCount.transform((value) => value || null)

const bodySchema = z.object({
  TotalItemNum: count,
  TotalPageNum: pageNumber,
  CurrentPageNum: pageNumber,
  PageSize: pageNumber,
  Data: z.looseObject({}).nullish(),
})

/** An empty list may be left out, but only where nothing should be in it. */
const toPage = <T>(
  items: readonly T[] | undefined,
  paging: z.output<typeof bodySchema>,
  requested: PageRequest,
): Page<T> | null => {
  const { TotalItemNum: totalItems } = paging
  const page = paging.CurrentPageNum ?? requested.page
  const pageSize = paging.PageSize ?? requested.pageSize
  const totalPages = paging.TotalPageNum ?? Math.ceil(totalItems / pageSize)
  if (!items && (page - 1) * pageSize < totalItems) return null
  return { items: items ?? [], page, pageSize, totalItems, totalPages, hasNext: page < totalPages }
}

const statusSchema = <T>(field: string, known: ReadonlyMap<string, T>, report: ReportUnknown) =>
  name.transform((value): T | 'unknown' => {
    const status = known.get(value ?? '')
    if (status === undefined) report(field, value ?? '')
    return status ?? 'unknown'
  })

const taskSchema = (report: ReportUnknown) =>
  z
    .object({
      TaskNo: taskNumber,
      TaskType: name,
      TaskTypeDescription: text,
      TaskStatus: statusSchema('TaskStatus', TASK_STATUSES, report),
      TaskCancelStatus: statusSchema('TaskCancelStatus', CANCEL_STATUSES, report),
      TaskNum: looseCount,
      CreateTime: timeSchema('CreateTime', report),
      Clientip: name,
    })
    .transform((row) => ({
      taskNo: row.TaskNo,
      type: row.TaskType,
      typeDescription: row.TaskTypeDescription,
      status: row.TaskStatus,
      cancelStatus: row.TaskCancelStatus,
      domainCount: row.TaskNum,
      createdAtMs: row.CreateTime,
      clientIp: row.Clientip,
    }))

const detailSchema = (report: ReportUnknown) =>
  z
    .object({
      TaskNo: taskNumber,
      TaskDetailNo: name,
      TaskType: name,
      TaskTypeDescription: text,
      TaskStatus: statusSchema('TaskStatus of a detail', DETAIL_STATUSES, report),
      DomainName: name,
      InstanceId: name,
      CreateTime: timeSchema('CreateTime of a detail', report),
      UpdateTime: timeSchema('UpdateTime of a detail', report),
      TryCount: looseCount,
      ErrorMsg: text,
      FailReason: text,
      TaskResult: text,
    })
    .transform((row) => ({
      detailNo: row.TaskDetailNo,
      taskNo: row.TaskNo,
      type: row.TaskType,
      typeDescription: row.TaskTypeDescription,
      status: row.TaskStatus,
      domain: row.DomainName,
      instanceId: row.InstanceId,
      createdAtMs: row.CreateTime,
      updatedAtMs: row.UpdateTime,
      attempts: row.TryCount,
      message: row.ErrorMsg ?? row.FailReason,
      result: row.TaskResult,
    }))
