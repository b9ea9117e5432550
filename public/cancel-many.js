import { cancelTask, Failure, listDetails } from './api.js'
import { countDomains, domainList } from './cancel.js'
import { openDialog } from './dialog.js'
import { h } from './dom.js'
import { nameOfTask, rememberDomains } from './domains.js'
import { badge, code, facts, more, problemDetails, stateOf, typeOf, wordsOf } from './parts.js'
import { firstNames } from './task.js'
import { t } from './texts.js'
import { watchTasks } from './watch.js'

/** @typedef {import('./api.js').Task} Task */
/** @typedef {import('./api.js').TaskDetailPage} TaskDetailPage */
/** @typedef {import('./dialog.js').Modal} Modal */

/** Requests in flight. */
const AT_ONCE = 3
const DOMAINS_SHOWN = '1000'

/** @typedef {{ task: Task, details: TaskDetailPage | null, failure: Failure | null }} Plan */

/**
 * Lists everything that the tasks affect, then cancels each task once, and shows what became of each. A request is never
 * repeated.
 * @param {{ tasks: readonly Task[], onClosed: () => void }} options
 */
export const openCancelManyDialog = ({ tasks, onClosed }) => {
  const modal = openDialog({ onClosed, kind: 'wide' })
  const title = t('many.heading', { count: tasks.length })
  modal.show(title, [h('p', { role: 'status' }, t('loading'))], [closeButton(modal, 'many.keep')])
  void readPlans(tasks, modal.signal).then((plans) => {
    if (!modal.signal.aborted) askFirst(modal, plans)
  })
}

/**
 * @param {Modal} modal
 * @param {import('./texts.js').TextKey} text
 */
const closeButton = (modal, text) => h('button', { click: modal.close }, t(text))

/**
 * Does the work for each item, for three at a time.
 * @template T
 * @param {readonly T[]} items
 * @param {(item: T) => Promise<void>} work
 */
const threeAtATime = async (items, work) => {
  const queue = [...items]
  const next = async () => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item)
  }
  await Promise.all(Array.from({ length: AT_ONCE }, next))
}

/**
 * @param {readonly Task[]} tasks
 * @param {AbortSignal} signal
 */
const readPlans = async (tasks, signal) => {
  /** @type {Map<Task, Plan>} */
  const plans = new Map()
  await threeAtATime(tasks, async (task) => {
    if (signal.aborted) return
    try {
      const details = await listDetails(task.taskNo, [['pageSize', DOMAINS_SHOWN]], { signal })
      rememberDomains(task.taskNo, firstNames(details.items), details.totalItems)
      plans.set(task, { task, details, failure: null })
    } catch (failure) {
      if (signal.aborted) return
      if (!(failure instanceof Failure)) throw failure
      plans.set(task, { task, details: null, failure })
    }
  })
  return tasks.flatMap((task) => plans.get(task) ?? [])
}

/**
 * @param {Modal} modal
 * @param {readonly Plan[]} plans
 */
const askFirst = (modal, plans) => {
  const known = plans.filter(({ details }) => details !== null)
  const domains = known.reduce((sum, { details }) => sum + (details === null ? 0 : countDomains(details)), 0)
  const confirm = h(
    'button',
    { class: 'danger', disabled: known.length === 0 },
    t('many.confirm', { count: known.length }),
  )
  confirm.addEventListener('click', () => {
    if (confirm.disabled) return
    confirm.disabled = true
    void cancelEach(
      modal,
      known.map(({ task }) => task),
    )
  })
  const keep = closeButton(modal, 'many.keep')
  modal.show(
    t('many.heading', { count: known.length }),
    [
      h('p', {}, t('many.sum', { tasks: known.length, domains })),
      h('ul', { class: 'plans' }, ...plans.map((plan) => h('li', {}, ...planParts(plan)))),
      h('p', {}, t('many.lead')),
    ],
    [keep, confirm],
  )
  keep.focus()
}

/** @param {Plan} plan */
const planParts = ({ task, details, failure }) => [
  h('div', { class: 'plan-heading' }, h('strong', {}, nameOfTask(task.taskNo)), badge('state', stateOf(task))),
  typeOf(task),
  details === null
    ? h('p', { class: 'hint' }, t('many.not-shown', { reason: failure === null ? '' : wordsOf(failure)[0] }))
    : h(
        'details',
        { hidden: details.items.length === 1, open: details.items.length > 1 && details.items.length <= 10 },
        h('summary', {}, t('cancel.domains', { count: countDomains(details) })),
        domainList(details, task.taskNo),
      ),
]

/**
 * One task in the list of results: its state, what that means, and the ids.
 * @param {Task} task
 */
const createResult = (task) => {
  const state = h('span', { role: 'status' }, badge('state', 'waiting'))
  const now = h('div', {})
  const words = h('div', {})
  /** @type {import('./parts.js').State} */
  let current = 'waiting'
  const showState = (/** @type {import('./parts.js').State} */ next) => {
    current = next
    state.replaceChildren(badge('state', next))
  }
  return {
    task,
    element: h(
      'li',
      {},
      h('div', { class: 'plan-heading' }, h('strong', {}, nameOfTask(task.taskNo)), state),
      now,
      words,
    ),
    state: () => current,
    showState,
    /**
     * @param {import('./parts.js').State} next
     * @param {...(Node | string | null)} more
     */
    show: (next, ...more) => {
      showState(next)
      words.replaceChildren(...more.filter((part) => part !== null))
    },
    /** @param {Task} seen */
    showNow: (seen) => now.replaceChildren(facts([[t('cancel.now'), badge('state', stateOf(seen))]])),
    forgetNow: () => now.replaceChildren(),
  }
}

/** @typedef {ReturnType<typeof createResult>} Result */

/** After these the gateway would refuse the other requests, too. */
const ENDS_ALL = ['unauthenticated', 'too-many-requests', 'shutting-down']

/**
 * @param {Modal} modal
 * @param {readonly Task[]} tasks
 */
const cancelEach = async (modal, tasks) => {
  const results = tasks.map(createResult)
  let isStopped = false
  const stop = () => {
    isStopped = true
    stopButton.disabled = true
  }
  const stopButton = h('button', { click: stop }, t('many.stop'))
  const list = h('ul', { class: 'plans' }, ...results.map(({ element }) => element))
  modal.show(
    t('many.sending', { count: tasks.length }),
    [h('div', { class: 'progress', 'aria-hidden': 'true' }), h('p', {}, t('many.sending-lead')), list],
    [stopButton],
  )
  await modal.during(stop, () =>
    threeAtATime(results, async (result) => {
      if (isStopped) return result.show('not-sent')
      const code = await cancelOne(result, modal.signal)
      if (ENDS_ALL.includes(code ?? '')) stop()
    }),
  )
  if (modal.signal.aborted) return
  watchOpen(results, modal)
  modal.show(t('many.done'), [h('p', {}, sumOf(results)), list], [closeButton(modal, 'close')])
}

/**
 * @param {Result} result
 * @param {AbortSignal} signal
 * @returns {Promise<string | null>} the code of the problem
 */
const cancelOne = async (result, signal) => {
  const { taskNo } = result.task
  result.show('sending')
  try {
    const { cancelStatus, cancellationId, requestId } = await cancelTask(taskNo, signal)
    const ids = more([
      [t('task.no'), code(taskNo)],
      [t('cancel.id'), code(cancellationId)],
      [t('cancel.request-id'), code(requestId)],
    ])
    result.show(cancelStatus, ids)
    return null
  } catch (failure) {
    if (signal.aborted) return null
    if (!(failure instanceof Failure)) throw failure
    const isUnknown = failure.outcome === 'unknown'
    const [title] = wordsOf(failure)
    const text = isUnknown ? t('many.unknown') : title
    result.show(
      isUnknown ? 'unknown' : 'not-cancelled',
      h('p', {}, text),
      problemDetails(failure, isUnknown ? [t('problem.reason'), title] : null),
    )
    return failure.problem?.code ?? null
  }
}

/** @param {readonly Result[]} results */
const sumOf = (results) => {
  const count = (/** @type {readonly string[]} */ states) =>
    results.filter((result) => states.includes(result.state())).length
  return t('many.result', {
    cancelled: count(['cancelled']),
    open: count(['accepted', 'cancelling']),
    unknown: count(['unknown']),
    not: count(['not-cancelled', 'not-sent']),
  })
}

/**
 * Reads the tasks that are not known to be cancelled, until they are.
 * @param {readonly Result[]} results
 * @param {Modal} modal
 */
const watchOpen = (results, { signal }) => {
  const open = results.filter((result) => ['accepted', 'cancelling', 'unknown'].includes(result.state()))
  const isDone = (/** @type {Task} */ { status, cancelStatus }) => cancelStatus === 'cancelled' || status === 'complete'
  const onTask = (/** @type {Task} */ task) => {
    const result = open.find((each) => each.task.taskNo === task.taskNo)
    if (result === undefined) return
    const state = stateOf(task)
    if (result.state() === 'unknown' && state !== 'cancelled' && state !== 'cancelling') return result.showNow(task)
    result.forgetNow()
    result.showState(state)
  }
  void watchTasks(
    open.map(({ task }) => task.taskNo),
    { onTask, isDone, signal },
  )
}
