import { type GatewayClient, isProblem, type Task } from '../src/index.ts'

/** The newest tasks that are neither finished nor cancelled. */
export const findOpenTasks = async (client: GatewayClient): Promise<readonly Task[]> => {
  const { data, error } = await client.GET('/tasks', { params: { query: { pageSize: 100 } } })
  if (data === undefined) throw failure(error)
  return data.items.filter(({ status, cancelStatus }) => status !== 'complete' && cancelStatus === 'none')
}

export type Standing = Task['cancelStatus'] | 'accepted' | 'not-found' | 'not-cancellable'

/** Cancels a task, waits for up to ten seconds, and tells how it stands then. */
export const cancelTask = async (client: GatewayClient, taskNo: string): Promise<Standing> => {
  const { data, error } = await client
    .DELETE('/tasks/{taskNo}', { params: { path: { taskNo }, header: { Prefer: 'wait=10' } } })
    // The connection broke: the request may have arrived all the same.
    .catch(() => ({ data: undefined, error: undefined }))
  if (data !== undefined) return data.cancelStatus
  // `outcome-unknown` and its like, or no answer of the gateway's at all: it may have taken effect.
  if (!isProblem(error) || error.outcome === 'unknown') return lookAt(client, taskNo)
  switch (error.code) {
    case 'task-not-found':
      return 'not-found'
    case 'task-not-cancellable':
      return 'not-cancellable'
    default:
      throw failure(error)
  }
}

/** How the cancellation of a task stands. */
export const lookAt = async (client: GatewayClient, taskNo: string): Promise<Standing> => {
  const { data, error } = await client.GET('/tasks/{taskNo}', { params: { path: { taskNo } } })
  if (data !== undefined) return data.cancelStatus
  if (isProblem(error, 'task-not-found')) return 'not-found'
  throw failure(error)
}

const failure = (error: unknown): Error =>
  new Error(isProblem(error) ? `${error.title} (${error.code}): ${error.detail}` : 'The gateway did not answer.')
