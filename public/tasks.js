import { Failure, listTasks } from './api.js'
import { h, submitted } from './dom.js'
import { badge, field, isCancellable, isCancelling, moment, notice, pages, rangeOf, table, typeOf } from './parts.js'
import { t } from './texts.js'
import { watchTasks } from './watch.js'

/** @typedef {import('./api.js').Task} Task */
/** @typedef {import('./console.js').Visit} Visit */

const PAGE_SIZES = ['10', '20', '50', '100']
const DEFAULT_PAGE_SIZE = '20'
const TASK_NO = '\\s*[A-Za-z0-9_\\-]{1,64}\\s*'

/** @param {Iterable<readonly [string, string]>} query */
const addressOf = (query) => `#/tasks?${new URLSearchParams([...query].map(([name, value]) => [name, value]))}`

/**
 * The list of tasks.
 * @param {Visit} visit
 */
export const tasksView = (visit) => ({
  heading: t('tasks.heading'),
  controls: [h('div', { class: 'card controls' }, filterForm(visit), goForm(visit))],
  load: () => load(visit),
})

/** @param {Visit} visit */
const filterForm = ({ query, go, refresh }) =>
  h(
    'form',
    { 'aria-label': t('tasks.filter'), submit: (event) => go(addressOf(submitted(event))) },
    field('createdFrom', t('tasks.from'), dateInput('createdFrom', query), t('tasks.days-hint')),
    field('createdTo', t('tasks.to'), dateInput('createdTo', query)),
    field('pageSize', t('tasks.page-size'), pageSizeSelect(query.get('pageSize') ?? DEFAULT_PAGE_SIZE)),
    h('button', { id: 'apply', class: 'primary' }, t('apply')),
    h('button', { id: 'refresh', type: 'button', click: refresh }, t('refresh')),
  )

/** @param {Visit} visit */
const goForm = ({ go }) =>
  h(
    'form',
    { submit: (event) => go(`#/tasks/${submitted(event).get('taskNo')}`) },
    field(
      'taskNo',
      t('tasks.go-label'),
      h('input', {
        id: 'taskNo',
        name: 'taskNo',
        required: true,
        pattern: TASK_NO,
        autocomplete: 'off',
        spellcheck: 'false',
      }),
    ),
    h('button', { id: 'go' }, t('tasks.go')),
  )

/**
 * @param {string} id
 * @param {URLSearchParams} query
 */
const dateInput = (id, query) => h('input', { id, name: id, type: 'date', value: query.get(id) ?? '' })

/** @param {string} chosen */
const pageSizeSelect = (chosen) =>
  h(
    'select',
    { id: 'pageSize', name: 'pageSize' },
    ...PAGE_SIZES.map((size) => h('option', { value: size, selected: size === chosen }, size)),
  )

/** @param {Visit} visit */
const load = async (visit) => {
  const { query, signal, announce } = visit
  const answer = await listTasks(query, { signal }).catch(readForbidden)
  if (answer === null) return [notice(t('tasks.forbidden'), t('tasks.forbidden-hint'))]
  announce(answer.items.length === 0 ? t('tasks.empty') : rangeOf(answer))
  if (answer.items.length === 0) return [notice(t('tasks.empty'), t('tasks.empty-hint')), pagesOf(answer, query)]
  const rows = new Map(answer.items.map((task) => [task.taskNo, rowOf(task, visit)]))
  watchRows(answer.items.filter(isCancelling), rows, visit)
  return [
    table(
      t('tasks.caption'),
      columns(visit),
      [...rows.values()].map(({ cells }) => cells),
    ),
    pagesOf(answer, query),
  ]
}

/**
 * A caller that is restricted to domains may not read the list, because its rows contain no domains.
 * @param {unknown} failure
 */
const readForbidden = (failure) => {
  if (failure instanceof Failure && failure.problem?.code === 'forbidden') return null
  throw failure
}

/**
 * @param {import('./api.js').TaskPage} answer
 * @param {URLSearchParams} query
 */
const pagesOf = (answer, query) => pages(answer, (page) => addressOf(new Map([...query, ['page', String(page)]])))

/** @param {Visit} visit */
const columns = ({ mayCancel }) => [
  t('task.no'),
  t('task.type'),
  t('task.status'),
  t('task.cancel-status'),
  t('task.domains'),
  t('task.created'),
  ...(mayCancel ? [t('task.actions')] : []),
]

/**
 * @param {Task} task
 * @param {Visit} visit
 */
const rowOf = (task, { mayCancel, cancel }) => {
  const { taskNo } = task
  const status = h('span', {}, badge('status', task.status))
  const cancelStatus = h('span', {}, badge('cancel-status', task.cancelStatus))
  const button = h(
    'button',
    {
      id: `cancel-${taskNo}`,
      class: 'small',
      'aria-label': t('task.cancel-one', { taskNo }),
      click: () => cancel(taskNo),
    },
    t('task.cancel'),
  )
  return {
    status,
    cancelStatus,
    cells: [
      h('a', { href: `#/tasks/${taskNo}` }, h('code', {}, taskNo)),
      typeOf(task),
      status,
      cancelStatus,
      String(task.domainCount),
      moment(task.createdAt),
      ...(mayCancel ? [isCancellable(task) ? button : t('none')] : []),
    ],
  }
}

/**
 * @param {readonly Task[]} tasks
 * @param {ReadonlyMap<string, ReturnType<typeof rowOf>>} rows
 * @param {Visit} visit
 */
const watchRows = (tasks, rows, { signal, announce }) => {
  const onTask = (/** @type {Task} */ task) => {
    const row = rows.get(task.taskNo)
    row?.status.replaceChildren(badge('status', task.status))
    row?.cancelStatus.replaceChildren(badge('cancel-status', task.cancelStatus))
    if (!isCancelling(task))
      announce(t('task.changed', { taskNo: task.taskNo, status: t(`cancel-status.${task.cancelStatus}`) }))
  }
  void watchTasks(
    tasks.map(({ taskNo }) => taskNo),
    { onTask, isDone: (task) => !isCancelling(task), signal },
  )
}
