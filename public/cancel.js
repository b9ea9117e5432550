import { cancelTask, Failure, getTask, listDetails } from './api.js'
import { h } from './dom.js'
import { badge, code, facts, moment, problemBox, typeOf } from './parts.js'
import { t } from './texts.js'
import { watchTasks } from './watch.js'

/** @typedef {import('./api.js').Task} Task */
/** @typedef {import('./api.js').TaskDetailPage} TaskDetailPage */
/** @typedef {import('./api.js').CancelResult} CancelResult */
/** @typedef {import('./parts.js').Content} Content */

const DOMAINS_SHOWN = '1000'
const SECOND_MS = 1000

/**
 * @typedef {object} Cancelling
 * @property {string} taskNo
 * @property {boolean} mayRead
 * @property {() => void} onClosed
 */

/**
 * Asks for confirmation, cancels the task once, and shows the outcome. Closing the dialog aborts its requests.
 * @param {Cancelling} cancelling
 */
export const openCancelDialog = (cancelling) => {
  const closing = new AbortController()
  const dialog = h('dialog', { 'aria-labelledby': 'dialog-heading' })
  dialog.addEventListener('close', () => {
    closing.abort()
    dialog.remove()
    cancelling.onClosed()
  })
  document.body.append(dialog)
  dialog.showModal()
  void askFirst({ ...cancelling, dialog, signal: closing.signal })
}

/** @typedef {Cancelling & { dialog: HTMLDialogElement, signal: AbortSignal }} Step */

/**
 * @param {Step} step
 * @param {string} heading
 * @param {readonly Content[]} content
 * @param {readonly Content[]} buttons
 */
const show = ({ dialog }, heading, content, buttons) => {
  const title = h('h2', { id: 'dialog-heading', tabindex: '-1' }, heading)
  dialog.replaceChildren(
    title,
    h('div', { class: 'dialog-body' }, ...content.filter((part) => part !== null)),
    h('div', { class: 'actions' }, ...buttons),
  )
  title.focus()
}

/**
 * @param {Step} step
 * @param {import('./texts.js').TextKey} text
 */
const closeButton = ({ dialog }, text) => h('button', { click: () => dialog.close() }, t(text))

/** @param {Step} step */
const askFirst = async (step) => {
  show(step, t('cancel.heading'), [h('p', { role: 'status' }, t('loading'))], [closeButton(step, 'cancel.keep')])
  try {
    const plan = step.mayRead ? await readPlan(step) : null
    step.signal.throwIfAborted()
    showPlan(step, plan)
  } catch (failure) {
    if (step.signal.aborted) return
    if (!(failure instanceof Failure)) throw failure
    const content = [h('p', {}, t('cancel.failed-to-show')), problemBox(failure)]
    show(step, t('cancel.heading'), content, [closeButton(step, 'close')])
  }
}

/** @typedef {{ task: Task, details: TaskDetailPage }} Plan */

/** @param {Step} step */
const readPlan = async ({ taskNo, signal }) => {
  const [task, details] = await Promise.all([
    getTask(taskNo, { signal }),
    listDetails(taskNo, [['pageSize', DOMAINS_SHOWN]], { signal }),
  ])
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
      : [planFacts(plan), ...domainsOf(plan)]
  const keep = closeButton(step, 'cancel.keep')
  show(step, t('cancel.heading'), [...content, h('p', {}, t('cancel.lead'))], [keep, confirm])
  keep.focus()
}

/** @param {Plan} plan */
const planFacts = ({ task }) =>
  facts([
    [t('task.no'), code(task.taskNo)],
    [t('task.type'), typeOf(task)],
    [t('task.status'), badge('status', task.status)],
    [t('task.created'), moment(task.createdAt)],
  ])

/** @param {Plan} plan */
const domainsOf = ({ details: { items, totalItems, hasNext } }) => {
  const domains = [...new Set(items.map(({ domain }) => domain ?? t('none')))]
  const count = hasNext ? totalItems : domains.length
  return [
    h('h3', { id: 'domains' }, t('cancel.domains', { count })),
    h(
      'ul',
      { class: 'domains', tabindex: '0', 'aria-labelledby': 'domains' },
      ...domains.map((domain) => h('li', {}, domain)),
      hasNext ? h('li', {}, t('cancel.more')) : null,
    ),
  ]
}

/**
 * @param {Step} step
 * @param {Task | null} before
 */
const cancelOnce = async (step, before) => {
  const waiting = new AbortController()
  const now = lookOn(step, before)
  const elapsed = h('span', { role: 'timer' }, t('cancel.seconds', { count: 0 }))
  const startedAt = performance.now()
  const clock = setInterval(() => {
    elapsed.textContent = t('cancel.seconds', { count: Math.floor((performance.now() - startedAt) / SECOND_MS) })
  }, SECOND_MS)
  show(
    step,
    t('cancel.waiting'),
    [
      h('div', { class: 'progress', 'aria-hidden': 'true' }),
      h('p', {}, t('cancel.waiting-lead')),
      facts([
        [t('task.no'), code(step.taskNo)],
        [t('cancel.elapsed'), elapsed],
        [t('cancel.now'), now.shown],
      ]),
    ],
    [h('button', { click: () => waiting.abort() }, t('cancel.stop'))],
  )
  // The Escape key stops the waiting, but does not close the dialog: the user must see that a request was sent.
  const stop = (/** @type {Event} */ event) => {
    event.preventDefault()
    waiting.abort()
  }
  step.dialog.addEventListener('cancel', stop)
  try {
    const result = await cancelTask(step.taskNo, AbortSignal.any([waiting.signal, step.signal]))
    showResult(step, result, now)
  } catch (failure) {
    if (step.signal.aborted) return
    if (waiting.signal.aborted) showStopped(step, now)
    else if (failure instanceof Failure) showFailure(step, failure, now)
    else throw failure
  } finally {
    step.dialog.removeEventListener('cancel', stop)
    clearInterval(clock)
  }
}

/**
 * The state of the task from now on, if the caller may read it.
 * @param {Step} step
 * @param {Task | null} before
 */
const lookOn = ({ taskNo, mayRead, signal }, before) => {
  const shown = h('span', { role: 'status' }, ...(before === null ? [t('cancel.not-seen')] : stateOf(before)))
  /** @type {Set<() => void>} */
  const onCancelled = new Set()
  const isDone = (/** @type {Task} */ { cancelStatus }) => cancelStatus === 'cancelled'
  const onTask = (/** @type {Task} */ task) => {
    shown.replaceChildren(...stateOf(task))
    if (isDone(task)) for (const listener of onCancelled) listener()
  }
  if (mayRead) void watchTasks([taskNo], { onTask, isDone, signal })
  return { shown, onCancelled }
}

/** @typedef {ReturnType<typeof lookOn>} Now */

/** @param {Task} task */
const stateOf = (task) => [badge('status', task.status), ' ', badge('cancel-status', task.cancelStatus)]

/**
 * @param {Step} step
 * @param {CancelResult} result
 * @param {Now} now
 */
const showResult = (step, result, now) => {
  const { cancelStatus, taskNo, cancellationId, requestId } = result
  const isOpen = cancelStatus !== 'cancelled'
  show(
    step,
    t(`cancel.${cancelStatus}`),
    [
      h('p', {}, t(`cancel.${cancelStatus}-lead`)),
      facts([
        [t('task.no'), code(taskNo)],
        [t('task.cancel-status'), badge('cancel-status', cancelStatus)],
        [t('cancel.id'), code(cancellationId)],
        [t('cancel.request-id'), code(requestId)],
        isOpen && step.mayRead ? [t('cancel.now'), now.shown] : null,
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
  show(
    step,
    t('cancel.stopped'),
    [h('p', {}, h('strong', {}, t('cancel.unknown'))), h('p', {}, t('cancel.stopped-hint')), ...nowParts(step, now)],
    [closeButton(step, 'close')],
  )

/**
 * @param {Step} step
 * @param {Failure} failure
 * @param {Now} now
 */
const showFailure = (step, failure, now) => {
  const isUnknown = failure.outcome === 'unknown'
  show(
    step,
    t(isUnknown ? 'cancel.unknown' : 'cancel.refused'),
    [problemBox(failure), ...(isUnknown ? nowParts(step, now) : [])],
    [closeButton(step, 'close')],
  )
}

/**
 * @param {Step} step
 * @param {Now} now
 */
const nowParts = ({ taskNo, mayRead }, { shown }) => [
  mayRead ? h('p', {}, t('cancel.unknown-lead')) : null,
  facts([[t('task.no'), code(taskNo)], mayRead ? [t('cancel.now'), shown] : null]),
]
