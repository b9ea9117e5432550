import { Failure, getTask, listDetails } from './api.js'
import { h } from './dom.js'
import { nameOfTask, rememberDomains } from './domains.js'
import {
  badge,
  code,
  copyButton,
  facts,
  isCancellable,
  isCancelling,
  moment,
  notice,
  pages,
  stateOf,
  table,
  tableBody,
  tableRow,
  typeOf,
} from './parts.js'
import { t } from './texts.js'
import { watchTasks } from './watch.js'

/** @typedef {import('./api.js').Task} Task */
/** @typedef {import('./api.js').TaskDetail} TaskDetail */
/** @typedef {import('./console.js').Visit} Visit */

const DETAILS_A_PAGE = '50'
const NAMES_MAX = 3

/**
 * One task, and its details for each domain.
 * @param {Visit} visit
 */
export const taskView = (visit) => ({
  heading: nameOfTask(visit.taskNo),
  controls: [
    h(
      'div',
      { class: 'toolbar' },
      h('a', { href: '#/tasks' }, `← ${t('task.back')}`),
      h('button', { id: 'refresh', class: 'small', click: visit.refresh }, t('refresh')),
    ),
  ],
  load: () => load(visit).catch((failure) => withoutReading(failure, visit)),
})

/** @param {Visit} visit */
const load = async (visit) => {
  const { taskNo, query, signal, entitle } = visit
  const [task, details] = await Promise.all([
    getTask(taskNo, { signal }),
    listDetails(taskNo, [['pageSize', DETAILS_A_PAGE], ...query], { signal }),
  ])
  if (details.page === 1) rememberDomains(taskNo, firstNames(details.items), details.totalItems)
  entitle(nameOfTask(taskNo))
  return [summary(task, visit), h('h2', {}, t('details.heading')), ...detailsOf(details, taskNo)]
}

/** @param {readonly Pick<TaskDetail, 'domain'>[]} details */
export const firstNames = (details) => [...new Set(details.flatMap(({ domain }) => domain ?? []))].slice(0, NAMES_MAX)

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
    const name = nameOfTask(task.taskNo)
    announce(t('task.changed', { name, status: t(`state.${stateOf(task)}`) }))
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
    [t('task.status'), badge('state', stateOf(task))],
    [t('task.type'), typeOf(task)],
    [t('task.domains'), task.domainCount === null ? t('none') : String(task.domainCount)],
    [t('task.created'), moment(task.createdAt)],
    [
      t('task.no'),
      h(
        'span',
        { class: 'number' },
        code(task.taskNo),
        copyButton(task.taskNo, t('task.copy', { taskNo: task.taskNo })),
      ),
    ],
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
const cancelButton = ({ taskNo, cancel, refresh }) =>
  h('button', { id: 'cancel', class: 'danger', click: () => cancel(taskNo, refresh) }, t('task.cancel'))

/** @param {Visit} visit */
const historyLink = ({ taskNo, mayAudit }) =>
  mayAudit ? h('a', { class: 'button', href: `#/history?taskNo=${taskNo}` }, t('task.history')) : null

const columns = () => [
  { key: 'domain', label: t('details.domain') },
  { key: 'state', label: t('task.status') },
  { key: 'type-cell', label: t('task.type') },
  { key: 'attempts', label: t('details.attempts') },
  { key: 'updated', label: t('details.updated') },
  { key: 'message', label: t('details.message') },
]

/**
 * @param {import('./api.js').TaskDetailPage} details
 * @param {string} taskNo
 */
const detailsOf = (details, taskNo) => [
  details.items.length === 0
    ? notice(t('details.empty'), t('details.empty-hint'))
    : table(
        t('details.caption'),
        columns(),
        tableBody(...details.items.map((detail) => tableRow(columns(), detailCells(detail)))),
      ),
  pages(details, (page) => `#/tasks/${taskNo}?page=${page}`),
]

/** @param {TaskDetail} detail */
const detailCells = (detail) => [
  h('strong', {}, detail.domain ?? t('none')),
  badge('state', detail.status),
  typeOf(detail),
  detail.attempts === null ? t('none') : String(detail.attempts),
  moment(detail.updatedAt),
  [detail.message, detail.result].filter(Boolean).join(' · ') || t('none'),
]
