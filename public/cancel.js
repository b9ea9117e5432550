import { cancelTask, Failure, getTask, listDetails } from './api.js'
import { openDialog } from './dialog.js'
import { h } from './dom.js'
import { nameOfTask, rememberDomains } from './domains.js'
import {
  badge,
  code,
  facts,
  moment,
  more,
  problemBox,
  problemDetails,
  retryButton,
  stateOf,
  typeOf,
  wordsOf,
} from './parts.js'
import { firstNames } from './task.js'
import { t } from './texts.js'
import { watchTasks } from './watch.js'

/** @typedef {import('./api.js').Task} Task */
/** @typedef {import('./api.js').TaskDetailPage} TaskDetailPage */
/** @typedef {import('./api.js').CancelResult} CancelResult */
/** @typedef {import('./dialog.js').Modal} Modal */

const DOMAINS_SHOWN = '1000'
const SECOND_MS = 1000

/**
 * @typedef {object} Cancelling
 * @property {string} taskNo
 * @property {boolean} mayRead
 * @property {() => void} onClosed
 */

/** @typedef {Cancelling & { modal: Modal, signal: AbortSignal }} Step */

/**
 * Asks for confirmation, cancels the task once, and shows the outcome. Closing the dialog aborts its requests.
 * @param {Cancelling} cancelling
 */
export const openCancelDialog = (cancelling) => {
  const modal = openDialog({ onClosed: cancelling.onClosed })
  void askFirst({ ...cancelling, modal, signal: modal.signal })
}

/**
 * @param {Step} step
 * @param {import('./texts.js').TextKey} text
 */
const closeButton = ({ modal }, text) => h('button', { click: modal.close }, t(text))

/** @param {Step} step */
const askFirst = async (step) => {
  step.modal.show(t('cancel.heading'), [h('p', { role: 'status' }, t('loading'))], [closeButton(step, 'cancel.keep')])
  try {
    const plan = step.mayRead ? await readPlan(step) : null
    step.signal.throwIfAborted()
    showPlan(step, plan)
  } catch (failure) {
    if (step.signal.aborted) return
    if (!(failure instanceof Failure)) throw failure
    const again = retryButton(failure, () => void askFirst(step))
    const content = [h('p', {}, t('cancel.failed-to-show')), problemBox(failure, again)]
    step.modal.show(t('cancel.heading'), content, [closeButton(step, 'close')])
  }
}

/** @typedef {{ task: Task, details: TaskDetailPage }} Plan */

/** @param {Step} step */
const readPlan = async ({ taskNo, signal }) => {
  const [task, details] = await Promise.all([
    getTask(taskNo, { signal }),
    listDetails(taskNo, [['pageSize', DOMAINS_SHOWN]], { signal }),
  ])
  rememberDomains(taskNo, firstNames(details.items), details.totalItems)
  return { task, details }
}

/**
 * @param {Step} step
 * @param {Plan | null} plan null if the caller may not read tasks
 */
const showPlan = (step, plan) => {
  const confirm = h('button', { class: 'danger' }, t('cancel.confirm'))
  confirm.addEventListener('click', () => {
    if (confirm.disabled) return
    confirm.disabled = true
    void cancelOnce(step, plan?.task ?? null)
  })
  const content =
    plan === null
      ? [facts([[t('task.no'), code(step.taskNo)]]), h('p', {}, t('cancel.blind'))]
      : [planFacts(plan), ...domainsWithHeading(plan)]
  const keep = closeButton(step, 'cancel.keep')
  step.modal.show(t('cancel.heading'), [...content, h('p', {}, t('cancel.lead'))], [keep, confirm])
  keep.focus()
}

/** @param {Plan} plan */
const planFacts = ({ task }) =>
  facts([
    [t('task.type'), typeOf(task)],
    [t('task.status'), badge('state', stateOf(task))],
    [t('task.created'), moment(task.createdAt)],
    [t('task.no'), code(task.taskNo)],
  ])

/** @param {Plan} plan */
const domainsWithHeading = ({ task, details }) => [
  h('h3', {}, t('cancel.domains', { count: countDomains(details) })),
  domainList(details, task.taskNo),
]

/**
 * Each domain counts once, unless there are more details than the page has.
 * @param {TaskDetailPage} details
 */
export const countDomains = ({ items, totalItems, hasNext }) =>
  hasNext ? (totalItems ?? items.length) : new Set(items.map(({ domain }) => domain)).size

/**
 * The domains of a page of details, each once.
 * @param {TaskDetailPage} details
 * @param {string} taskNo
 */
export const domainList = ({ items, hasNext }, taskNo) => {
  const domains = [...new Set(items.map(({ domain }) => domain ?? t('none')))]
  return h(
    'ul',
    { class: 'domains', tabindex: '0', 'aria-label': t('cancel.domains-of', { name: nameOfTask(taskNo) }) },
    ...domains.map((domain) => h('li', {}, domain)),
    hasNext ? h('li', {}, t('cancel.more')) : null,
  )
}

/**
 * @param {Step} step
 * @param {Task | null} before
 */
const cancelOnce = async (step, before) => {
  const { taskNo, modal, signal } = step
  const waiting = new AbortController()
  const now = lookOn(step, before)
  const elapsed = h('span', { role: 'timer' }, t('cancel.seconds', { count: 0 }))
  const startedAt = performance.now()
  const clock = setInterval(() => {
    elapsed.textContent = t('cancel.seconds', { count: Math.floor((performance.now() - startedAt) / SECOND_MS) })
  }, SECOND_MS)
  modal.show(
    t('cancel.waiting'),
    [
      h('div', { class: 'progress', 'aria-hidden': 'true' }),
      h('p', {}, t('cancel.waiting-lead')),
      facts([
        [t('task.heading'), nameOfTask(taskNo)],
        [t('cancel.elapsed'), elapsed],
        [t('cancel.now'), now.shown],
      ]),
    ],
    [h('button', { click: () => waiting.abort() }, t('cancel.stop'))],
  )
  // The Escape key stops the waiting, but does not close the dialog: the user must see that a request was sent.
  await modal.during(
    () => waiting.abort(),
    async () => {
      try {
        const result = await cancelTask(taskNo, AbortSignal.any([waiting.signal, signal]))
        showResult(step, result, now)
      } catch (failure) {
        if (signal.aborted) return
        if (waiting.signal.aborted) showStopped(step, now)
        else if (failure instanceof Failure) showFailure(step, failure, now)
        else throw failure
      } finally {
        clearInterval(clock)
      }
    },
  )
}

/**
 * The state of the task from now on, if the caller may read it.
 * @param {Step} step
 * @param {Task | null} before
 */
const lookOn = ({ taskNo, mayRead, signal }, before) => {
  const first = before === null ? t('cancel.not-seen') : badge('state', stateOf(before))
  const shown = h('span', { role: 'status' }, first)
  const looking = new AbortController()
  /** @type {Set<() => void>} */
  const onCancelled = new Set()
  const isDone = (/** @type {Task} */ { cancelStatus }) => cancelStatus === 'cancelled'
  const onTask = (/** @type {Task} */ task) => {
    shown.replaceChildren(badge('state', stateOf(task)))
    if (isDone(task)) for (const listener of onCancelled) listener()
  }
  if (mayRead) void watchTasks([taskNo], { onTask, isDone, signal: AbortSignal.any([looking.signal, signal]) })
  return { shown, onCancelled, end: () => looking.abort() }
}

/** @typedef {ReturnType<typeof lookOn>} Now */

/**
 * @param {Step} step
 * @param {CancelResult} result
 * @param {Now} now
 */
const showResult = (step, result, now) => {
  const { cancelStatus, taskNo, cancellationId, requestId } = result
  const isOpen = cancelStatus !== 'cancelled'
  // The last read came before the request.
  if (cancelStatus === 'cancelling') now.shown.replaceChildren(badge('state', cancelStatus))
  step.modal.show(
    t(`cancel.${cancelStatus}`),
    [
      h('p', {}, t(`cancel.${cancelStatus}-lead`)),
      isOpen && step.mayRead ? facts([[t('cancel.now'), now.shown]]) : null,
      more([
        [t('task.no'), code(taskNo)],
        [t('cancel.id'), code(cancellationId)],
        [t('cancel.request-id'), code(requestId)],
      ]),
    ],
    [closeButton(step, 'close')],
  )
  if (isOpen) now.onCancelled.add(() => showResult(step, { ...result, cancelStatus: 'cancelled' }, now))
}

/**
 * @param {Step} step
 * @param {Now} now
 */
const showStopped = (step, now) =>
  step.modal.show(
    t('cancel.stopped'),
    [
      ...nowParts(step, now),
      h('p', {}, t('cancel.stopped-lead')),
      ...whatToDo(step),
      more([[t('task.no'), code(step.taskNo)]]),
    ],
    [closeButton(step, 'close')],
  )

/**
 * @param {Step} step
 * @param {Failure} failure
 * @param {Now} now
 */
const showFailure = (step, failure, now) => {
  if (failure.outcome !== 'unknown') {
    now.end()
    // The user confirms the second request, too.
    const again = retryButton(failure, () => void askFirst(step))
    step.modal.show(t('cancel.refused'), [problemBox(failure, again)], [closeButton(step, 'close')])
    return
  }
  const [title] = wordsOf(failure)
  step.modal.show(
    t('cancel.unknown'),
    [
      ...nowParts(step, now),
      h('p', {}, t('cancel.unknown-lead')),
      ...whatToDo(step),
      problemDetails(failure, [t('problem.reason'), title]),
    ],
    [closeButton(step, 'close')],
  )
}

/**
 * @param {Step} step
 * @param {Now} now
 */
const nowParts = ({ mayRead }, { shown }) => (mayRead ? [facts([[t('cancel.now'), shown]])] : [])

/** @param {Step} step */
const whatToDo = ({ mayRead }) => [
  h('p', {}, h('strong', {}, t(mayRead ? 'cancel.unknown-hint' : 'cancel.unknown-hint-blind'))),
]
