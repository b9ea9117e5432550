import { randomUUID } from 'node:crypto'

export type TaskStatus = 'WAITING_EXECUTE' | 'EXECUTING' | 'COMPLETE'
type CancelStatus = 'INIT' | 'CANCELLING' | 'COMPLETE'

interface CancelledBy {
  readonly userClientIp: string | null
  readonly lang: string | null
}

/** A task as of one moment. `createdAt` is milliseconds since the epoch. */
export interface SandboxTask {
  readonly taskNo: string
  readonly taskType: string
  readonly taskStatus: TaskStatus
  readonly cancelStatus: CancelStatus
  readonly domains: readonly string[]
  readonly createdAt: number
  readonly cancelledBy: CancelledBy | null
}

export interface NewTask {
  readonly taskNo?: string | undefined
  readonly taskType?: string | undefined
  readonly domains?: readonly string[] | undefined
  readonly createdAt?: number | undefined
}

/** How long a task stays in each state. */
export interface Lifecycle {
  readonly waitingMs: number
  readonly executingMs: number
  readonly cancellingMs: number
}

type Planned = Pick<SandboxTask, 'taskNo' | 'taskType' | 'domains' | 'createdAt'>

interface Cancellation extends CancelledBy {
  readonly atMs: number
}

export interface TaskStore {
  /** Returns the task's number. Throws where it is taken. */
  add(task: NewTask, nowMs: number): string
  remove(taskNo: string): void
  find(taskNo: string, nowMs: number): SandboxTask | undefined
  newestFirst(nowMs: number): readonly SandboxTask[]
  cancel(taskNo: string, by: CancelledBy, nowMs: number): void
}

/** Status that a task has by itself, that is, where nobody cancels it. */
const statusAt = (createdAt: number, { waitingMs, executingMs }: Lifecycle, nowMs: number): TaskStatus => {
  const ageMs = nowMs - createdAt
  if (ageMs < waitingMs) return 'WAITING_EXECUTE'
  return ageMs < waitingMs + executingMs ? 'EXECUTING' : 'COMPLETE'
}

/** A pure function of time: a task that is being cancelled stops where it is, and ends once that is done. */
const taskAt = (task: Planned, cancellation: Cancellation | undefined, lifecycle: Lifecycle, nowMs: number) => {
  if (cancellation === undefined) {
    const taskStatus = statusAt(task.createdAt, lifecycle, nowMs)
    return { ...task, taskStatus, cancelStatus: 'INIT', cancelledBy: null } as const
  }
  const { atMs, ...cancelledBy } = cancellation
  if (nowMs - atMs >= lifecycle.cancellingMs)
    return { ...task, taskStatus: 'COMPLETE', cancelStatus: 'COMPLETE', cancelledBy } as const
  return {
    ...task,
    taskStatus: statusAt(task.createdAt, lifecycle, atMs),
    cancelStatus: 'CANCELLING',
    cancelledBy,
  } as const
}

export const createTaskStore = (lifecycle: Lifecycle): TaskStore => {
  const tasks = new Map<string, Planned>()
  const cancellations = new Map<string, Cancellation>()
  let ordered: readonly Planned[] | null = null

  const at = (task: Planned, nowMs: number): SandboxTask =>
    taskAt(task, cancellations.get(task.taskNo), lifecycle, nowMs)

  const order = (): readonly Planned[] => [...tasks.values()].reverse().sort((a, b) => b.createdAt - a.createdAt)

  return {
    add: (given, nowMs) => {
      const { taskNo = randomUUID(), taskType = 'CHG_DNS', domains = ['example.com'], createdAt = nowMs } = given
      if (tasks.has(taskNo)) throw new Error(`task ${taskNo} exists already`)
      tasks.set(taskNo, { taskNo, taskType, domains: [...domains], createdAt })
      ordered = null
      return taskNo
    },

    remove: (taskNo) => {
      tasks.delete(taskNo)
      ordered = null
    },

    find: (taskNo, nowMs) => {
      const task = tasks.get(taskNo)
      return task && at(task, nowMs)
    },

    newestFirst: (nowMs) => {
      ordered ??= order()
      return ordered.map((task) => at(task, nowMs))
    },

    cancel: (taskNo, by, nowMs) => {
      cancellations.set(taskNo, { ...by, atMs: nowMs })
    },
  }
}
