import { Failure, getTask, listDetails } from './api.js'
import { h } from './dom.js'
import { badge, code, facts, isCancellable, isCancelling, moment, notice, pages, table, typeOf } from './parts.js'
import { t } from './texts.js'
import { watchTasks } from './watch.js'

/** @typedef {import('./api.js').Task} Task */
/** @typedef {import('./api.js').TaskDetail} TaskDetail */
/** @typedef {import('./console.js').Visit} Visit */

const DETAILS_A_PAGE = '50'

/**
 * One task, and its details for each domain.
 * @param {Visit} visit
 */
export const taskView = (visit) => ({
  heading: t('task.heading'),
  controls: [
    h(
      'div',
      { class: 'toolbar' },
      h('a', { href: '#/tasks' }, `← ${t('task.back')}`),
      h('button', { id: 'refresh', click: visit.refresh }, t('refresh')),
    ),
  ],
  load: () => load(visit).catch((failure) => withoutReading(failure, visit)),
})

/** @param {Visit} visit */
const load = async (visit) => {
  const { taskNo, query, signal } = visit
  const [task, details] = await Promise.all([
    getTask(taskNo, { signal }),
    listDetails(taskNo, [['pageSize', DETAILS_A_PAGE], ...query], { signal }),
  ])
  return [summary(task, visit), h('h2', {}, t('details.heading')), ...detailsOf(details, taskNo)]
}

/**
 * A caller that may cancel tasks but not read them can still cancel by the number.
 * @param {unknown} failure
 * @param {Visit} visit
 */
const withoutReading = (failure, visit) => {
  const isForbidden = failure instanceof Failure && failure.problem?.code === 'forbidden'
  if (!isForbidden || !visit.mayCancel) throw failure
  return [
    h(
      'section',
      { class: 'card' },
      facts([[t('task.no'), code(visit.taskNo)]]),
      notice(t('task.not-readable'), t('task.not-readable-hint')),
      h('div', { class: 'actions' }, cancelButton(visit), historyLink(visit)),
    ),
  ]
}

/**
 * @param {Task} first
 * @param {Visit} visit
 */
const summary = (first, visit) => {
  const { signal, announce } = visit
  const shown = h('div', {}, ...summaryParts(first, visit))
  const onTask = (/** @type {Task} */ task) => {
    shown.replaceChildren(...summaryParts(task, visit))
    announce(t('task.changed', { taskNo: task.taskNo, status: t(`cancel-status.${task.cancelStatus}`) }))
  }
  if (isCancelling(first)) {
    void watchTasks([first.taskNo], { onTask, isDone: (task) => !isCancelling(task), signal })
  }
  return h('section', { class: 'card' }, shown)
}

/**
 * @param {Task} task
 * @param {Visit} visit
 */
const summaryParts = (task, visit) => [
  facts([
    [t('task.no'), code(task.taskNo)],
    [t('task.type'), typeOf(task)],
    [t('task.status'), badge('status', task.status)],
    [t('task.cancel-status'), badge('cancel-status', task.cancelStatus)],
    [t('task.domains'), String(task.domainCount)],
    [t('task.created'), moment(task.createdAt)],
    task.clientIp === null ? null : [t('task.client-ip'), code(task.clientIp)],
  ]),
  h(
    'div',
    { class: 'actions' },
    visit.mayCancel && isCancellable(task) ? cancelButton(visit) : null,
    historyLink(visit),
  ),
]

/** @param {Visit} visit */
const cancelButton = ({ taskNo, cancel }) =>
  h('button', { id: 'cancel', class: 'danger', click: () => cancel(taskNo) }, t('task.cancel'))

/** @param {Visit} visit */
const historyLink = ({ taskNo, mayAudit }) =>
  mayAudit ? h('a', { class: 'button', href: `#/history?taskNo=${taskNo}` }, t('task.history')) : null

/**
 * @param {import('./api.js').TaskDetailPage} details
 * @param {string} taskNo
 */
const detailsOf = (details, taskNo) => [
  details.items.length === 0
    ? notice(t('details.empty'), t('details.empty-hint'))
    : table(
        t('details.caption'),
        [
          t('details.domain'),
          t('task.status'),
          t('task.type'),
          t('details.attempts'),
          t('details.updated'),
          t('details.message'),
        ],
        details.items.map(detailCells),
      ),
  pages(details, (page) => `#/tasks/${taskNo}?page=${page}`),
]

/** @param {TaskDetail} detail */
const detailCells = (detail) => [
  h('strong', {}, detail.domain ?? t('none')),
  badge('status', detail.status),
  typeOf(detail),
  detail.attempts === null ? t('none') : String(detail.attempts),
  moment(detail.updatedAt),
  [detail.message, detail.result].filter(Boolean).join(' · ') || t('none'),
]
