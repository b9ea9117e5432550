import { Failure, lookAgain } from './api.js'

/** @typedef {import('./api.js').Task} Task */

/**
 * @typedef {object} Watch
 * @property {(task: Task) => void} onTask
 * @property {(task: Task) => boolean} isDone
 * @property {AbortSignal} signal
 */

const FIRST_ROUND_MS = 2000
const LAST_ROUND_MS = 15_000
const SLOWER = 1.2
/** Minimum time between two requests, for any number of tasks. */
const APART_MS = 1000

/**
 * Polls the tasks one after the other, at growing intervals, while the page is visible. Ends when all tasks are done,
 * when the signal is aborted, or after a failure that is not retryable.
 * @param {readonly string[]} taskNos
 * @param {Watch} watch
 */
export const watchTasks = (taskNos, watch) =>
  lookInTurn(taskNos, watch).catch((error) => {
    if (!(error instanceof Failure) && !watch.signal.aborted) throw error
  })

/**
 * @param {readonly string[]} taskNos
 * @param {Watch} watch
 */
const lookInTurn = async (taskNos, { onTask, isDone, signal }) => {
  /** @type {Map<string, string | null>} */
  const etags = new Map()
  const queue = [...taskNos]
  let roundMs = FIRST_ROUND_MS
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    await pause(Math.max(APART_MS, roundMs / (queue.length + 1)), signal)
    await untilVisible(signal)
    const { task, etag } = await lookAgain(next, etags.get(next) ?? null, signal).catch(async (failure) => {
      await pauseAfter(failure, signal)
      return { task: null, etag: null }
    })
    etags.set(next, etag)
    if (task !== null) onTask(task)
    if (task === null || !isDone(task)) queue.push(next)
    roundMs = Math.min(LAST_ROUND_MS, roundMs * SLOWER)
  }
}

/**
 * @param {unknown} failure
 * @param {AbortSignal} signal
 */
const pauseAfter = async (failure, signal) => {
  if (!(failure instanceof Failure) || !failure.retryable) throw failure
  await pause(Math.max(LAST_ROUND_MS, (failure.retryAfterS ?? 0) * 1000), signal)
}

/**
 * @param {number} ms
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */
export const pause = (ms, signal) =>
  new Promise((resolve, reject) => {
    signal.throwIfAborted()
    const end = () => {
      clearTimeout(timer)
      reject(signal.reason)
    }
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', end)
      resolve()
    }, ms)
    signal.addEventListener('abort', end, { once: true })
  })

/**
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */
export const untilVisible = (signal) =>
  new Promise((resolve) => {
    if (document.visibilityState === 'visible') resolve()
    else document.addEventListener('visibilitychange', () => resolve(), { once: true, signal })
  })
