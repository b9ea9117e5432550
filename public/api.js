import { language } from './texts.js'

/** @typedef {import('../client/src/schema.ts').components['schemas']} Schemas */
/** @typedef {Schemas['Problem']} Problem */
/** @typedef {Schemas['Caller']} Caller */
/** @typedef {Schemas['Task']} Task */
/** @typedef {Schemas['TaskPage']} TaskPage */
/** @typedef {Schemas['TaskDetail']} TaskDetail */
/** @typedef {Schemas['TaskDetailPage']} TaskDetailPage */
/** @typedef {Schemas['CancelResult']} CancelResult */
/** @typedef {Schemas['Cancellation']} Cancellation */
/** @typedef {Schemas['CancellationPage']} CancellationPage */

/** How many seconds the gateway polls the task of a cancel (`Prefer: wait`). */
const WAIT_S = 10

// The only copy of the API key. It is gone when the page is closed.
/** @type {string | null} */
let apiKey = null

let leaving = new AbortController()

/** @type {(failure: Failure) => void} */
let unauthenticated = () => {}

/** A request that got no successful response, with the reason. */
export class Failure extends Error {
  /**
   * @param {'problem' | 'unreachable' | 'unreadable'} kind
   * @param {{ isCancel: boolean, response?: Response, problem?: Problem }} facts
   */
  constructor(kind, { isCancel, response, problem }) {
    super(kind)
    this.kind = kind
    this.problem = problem ?? null
    this.status = response?.status ?? null
    this.requestId = response?.headers.get('x-request-id') ?? null
    const seconds = Number(response?.headers.get('retry-after') ?? '')
    this.retryAfterS = seconds > 0 ? seconds : null
    this.retryable = problem?.retryable ?? !isCancel
    // Without a response of the gateway it is unknown whether the cancel arrived.
    this.outcome = problem === undefined ? (isCancel ? 'unknown' : null) : (problem.outcome ?? null)
  }
}

/** @param {string | null} key */
export const useKey = (key) => {
  apiKey = key
}

export const usesKey = () => apiKey !== null

/** @param {typeof unauthenticated} listener called on each 401 */
export const onUnauthenticated = (listener) => {
  unauthenticated = listener
}

export const abortRequests = () => {
  leaving.abort()
  leaving = new AbortController()
}

/**
 * @typedef {object} Options
 * @property {AbortSignal} [signal]
 * @property {boolean} [isBackground] true: no user activity, so the request must not restart the idle time of a session
 * @property {Readonly<Record<string, string>>} [headers]
 */

/**
 * @param {'GET' | 'POST' | 'DELETE'} method
 * @param {string} path relative to the page
 * @param {Options} [options]
 * @throws Failure, or the signal's reason
 */
const request = async (method, path, { signal, isBackground = false, headers = {} } = {}) => {
  const isCancel = method === 'DELETE'
  const ended = signal === undefined ? leaving.signal : AbortSignal.any([leaving.signal, signal])
  const { response, text } = await send(path, {
    method,
    headers: { ...headers, ...credentialHeaders(isBackground), 'Accept-Language': language() },
    credentials: apiKey === null ? 'same-origin' : 'omit',
    cache: 'no-store',
    redirect: 'error',
    signal: ended,
  }).catch(() => {
    ended.throwIfAborted()
    throw new Failure('unreachable', { isCancel })
  })
  const { status } = response
  const body = status === 304 ? null : parse(text)
  if (body !== undefined && (response.ok || status === 304)) return { status, headers: response.headers, body }

  const failure = isProblem(body)
    ? new Failure('problem', { isCancel, response, problem: body })
    : new Failure('unreadable', { isCancel, response })
  if (status === 401) unauthenticated(failure)
  throw failure
}

/**
 * @param {string} path
 * @param {RequestInit} init
 */
const send = async (path, init) => {
  const response = await fetch(path, init)
  return { response, text: await response.text() }
}

/**
 * @param {boolean} isBackground
 * @returns {Record<string, string>}
 */
const credentialHeaders = (isBackground) => {
  if (apiKey !== null) return { 'X-API-Key': apiKey }
  return isBackground ? {} : { 'X-CSRF': '1' }
}

/**
 * @param {string} text
 * @returns {any} undefined if the text is not JSON
 */
const parse = (text) => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/**
 * @param {any} body
 * @returns {body is Problem}
 */
const isProblem = (body) => typeof body?.code === 'string' && typeof body.title === 'string'

/**
 * @param {string} path
 * @param {Iterable<readonly [string, string]>} query
 */
const withQuery = (path, query) => {
  const text = new URLSearchParams([...query].map(([name, value]) => [name, value])).toString()
  return text === '' ? path : `${path}?${text}`
}

/** @returns {Promise<Caller>} */
export const getCaller = async () => (await request('GET', 'me')).body

/**
 * @param {Iterable<readonly [string, string]>} query
 * @param {Options} options
 * @returns {Promise<TaskPage>}
 */
export const listTasks = async (query, options) => (await request('GET', withQuery('tasks', query), options)).body

/**
 * @param {string} taskNo
 * @param {Options} options
 * @returns {Promise<Task>}
 */
export const getTask = async (taskNo, options) => (await request('GET', `tasks/${taskNo}`, options)).body

/**
 * @param {string} taskNo
 * @param {string | null} etag of the last response
 * @param {AbortSignal} signal
 * @returns {Promise<{ task: Task | null, etag: string | null }>} the task is null if it has not changed
 */
export const lookAgain = async (taskNo, etag, signal) => {
  /** @type {Record<string, string>} */
  const headers = etag === null ? {} : { 'If-None-Match': etag }
  const answer = await request('GET', `tasks/${taskNo}`, { signal, isBackground: true, headers })
  return { task: answer.body, etag: answer.headers.get('etag') }
}

/**
 * @param {string} taskNo
 * @param {Iterable<readonly [string, string]>} query
 * @param {Options} options
 * @returns {Promise<TaskDetailPage>}
 */
export const listDetails = async (taskNo, query, options) =>
  (await request('GET', withQuery(`tasks/${taskNo}/details`, query), options)).body

/**
 * The request is sent only once, even if it fails.
 * @param {string} taskNo
 * @param {AbortSignal} signal
 * @returns {Promise<CancelResult>}
 */
export const cancelTask = async (taskNo, signal) =>
  (await request('DELETE', `tasks/${taskNo}`, { signal, headers: { Prefer: `wait=${WAIT_S}` } })).body

/**
 * @param {Iterable<readonly [string, string]>} query
 * @param {Options} options
 * @returns {Promise<CancellationPage>}
 */
export const listCancellations = async (query, options) =>
  (await request('GET', withQuery('cancellations', query), options)).body

/** @returns {Promise<{ logoutUrl: string | null }>} */
export const endSession = async () => (await request('POST', 'auth/logout')).body
