import { Failure, listTasks } from './api.js'
import { h, submitted } from './dom.js'
import { nameOfTask, namesOf, othersText, rememberDomains } from './domains.js'
import {
  age,
  badge,
  field,
  isCancellable,
  isCancelling,
  notice,
  numberOf,
  problemBox,
  renewAges,
  retryButton,
  stateOf,
  table,
  tableBody,
  tableRow,
  typeOf,
  typeText,
} from './parts.js'
import { t } from './texts.js'
import { pause, untilVisible, watchTasks } from './watch.js'

/** @typedef {import('./api.js').Task} Task */
/** @typedef {import('./api.js').TaskPage} TaskPage */
/** @typedef {import('./console.js').Visit} Visit */
/** @typedef {ReturnType<typeof createRow>} Row */

/** The gateway's own page size. */
const PAGE_ROWS = 20
const PAGE_ROWS_MAX = 100
const REFRESH_MS = 30_000
const DOMAINS = /** @type {const} */ (['include', 'domains'])
const STATES = /** @type {const} */ (['waiting', 'executing', 'cancelling', 'cancelled', 'complete', 'unknown'])
const TASK_NO = '\\s*[A-Za-z0-9_\\-]{1,64}\\s*'
const WIDE = '(min-width: 55.01rem)'

/** @param {Iterable<readonly [string, string]>} query */
const addressOf = (query) => `#/tasks?${new URLSearchParams([...query].map(([name, value]) => [name, value]))}`

/**
 * The list of tasks.
 * @param {Visit} visit
 */
export const tasksView = (visit) => {
  const filter = { text: '', state: '' }
  const list = createList(visit, filter)
  const card = filterCard(visit, filter, list.filterRows)
  return {
    heading: t('tasks.heading'),
    controls: [card],
    load: async () => {
      const content = await list.load()
      if (content !== null) return content
      for (const form of card.querySelectorAll('form:not(.by-number)')) form.toggleAttribute('hidden', true)
      card.open = true
      return [notice(t('tasks.forbidden'), t('tasks.forbidden-hint'))]
    },
  }
}

/**
 * @param {Visit} visit
 * @param {{ text: string, state: string }} filter
 * @param {() => void} onFilter
 */
const filterCard = (visit, filter, onFilter) => {
  const wide = matchMedia(WIDE)
  const card = h(
    'details',
    { id: 'filters', class: 'card filters', open: wide.matches },
    h('summary', {}, t('tasks.filters')),
    h('div', { class: 'controls' }, rowFilters(filter, onFilter), dateForm(visit), goForm(visit)),
  )
  wide.addEventListener('change', ({ matches }) => card.toggleAttribute('open', matches), { signal: visit.signal })
  return card
}

/**
 * @param {{ text: string, state: string }} filter
 * @param {() => void} onFilter
 */
const rowFilters = (filter, onFilter) => {
  const search = h('input', { id: 'search', type: 'search', autocomplete: 'off', spellcheck: 'false' })
  const state = h(
    'select',
    { id: 'state', name: 'state' },
    h('option', { value: '' }, t('tasks.any-state')),
    ...STATES.map((each) => h('option', { value: each }, t(`state.${each}`))),
  )
  const apply = () => {
    filter.text = search.value.trim().toLowerCase()
    filter.state = state.value
    onFilter()
  }
  search.addEventListener('input', apply)
  state.addEventListener('change', apply)
  return h(
    'form',
    { role: 'search', 'aria-label': t('tasks.filter-rows'), submit: (event) => event.preventDefault() },
    field('search', t('tasks.search'), search, t('tasks.search-hint')),
    field('state', t('task.status'), state),
  )
}

/** @param {Visit} visit */
const dateForm = ({ query, go }) =>
  h(
    'form',
    { 'aria-label': t('tasks.filter'), submit: (event) => go(addressOf(submitted(event))) },
    field('createdFrom', t('tasks.from'), dateInput('createdFrom', query), t('tasks.days-hint')),
    field('createdTo', t('tasks.to'), dateInput('createdTo', query)),
    h('button', { id: 'apply' }, t('apply')),
  )

/** @param {Visit} visit */
const goForm = ({ go }) =>
  h(
    'form',
    { class: 'by-number', submit: (event) => go(`#/tasks/${submitted(event).get('taskNo')}`) },
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

/** @param {Visit} visit */
const columns = ({ mayCancel }) => [
  ...(mayCancel ? [{ key: 'select', label: t('tasks.select'), isHidden: true }] : []),
  { key: 'domain', label: t('task.domain') },
  { key: 'type-cell', label: t('task.type') },
  { key: 'state', label: t('task.status') },
  { key: 'created', label: t('task.age') },
  { key: 'number-cell', label: t('task.no') },
  ...(mayCancel ? [{ key: 'action', label: t('task.actions'), isHidden: true }] : []),
]

/**
 * @param {Task} first
 * @param {Visit} visit
 * @param {{ cancel: (taskNo: string) => void, select: () => void }} on
 */
const createRow = (first, visit, on) => {
  const { taskNo } = first
  let task = first
  let isNamed = false
  const link = h('a', { href: `#/tasks/${taskNo}` })
  const others = h('span', { class: 'others' })
  const state = h('span', {})
  const button = h(
    'button',
    { id: `cancel-${taskNo}`, class: 'small', click: () => on.cancel(taskNo) },
    t('task.cancel'),
  )
  const checkbox = h('input', { id: `select-${taskNo}`, type: 'checkbox', change: on.select })
  const element = tableRow(columns(visit), [
    ...(visit.mayCancel ? [checkbox] : []),
    h('span', { class: 'name' }, link, ' ', others),
    typeOf(first),
    state,
    age(first.createdAt),
    numberOf(taskNo),
    button,
  ])

  const showNames = () => {
    const names = namesOf(taskNo)
    const [first] = names ?? []
    link.textContent = first ?? t(textWithoutName(names, isNamed))
    link.title = names?.join(', ') ?? ''
    link.classList.toggle('quiet', first === undefined)
    others.textContent = othersText(task.domainCount)
    const name = nameOfTask(taskNo)
    button.setAttribute('aria-label', t('task.cancel-one', { name }))
    checkbox.setAttribute('aria-label', t('tasks.select-one', { name }))
  }

  const update = (/** @type {Task} */ current) => {
    task = current
    state.replaceChildren(badge('state', stateOf(task)))
    if (document.activeElement === button && !isCancellable(task)) link.focus()
    button.hidden = !isCancellable(task)
    checkbox.disabled = !isCancellable(task)
    if (checkbox.disabled) checkbox.checked = false
    showNames()
  }
  update(first)

  return {
    element,
    link,
    update,
    task: () => task,
    isSelected: () => checkbox.checked,
    /** @param {boolean} isSelected ignored for a task that cannot be cancelled */
    select: (isSelected) => {
      checkbox.checked = isSelected && !checkbox.disabled
    },
    /** No further names come: a row without one says so. */
    endNaming: () => {
      isNamed = true
      showNames()
    },
    /** @param {{ text: string, state: string }} filter */
    matches: ({ text, state: wanted }) => {
      const words = [taskNo, task.type, typeText(task), ...(namesOf(taskNo) ?? [])]
      return (
        (wanted === '' || stateOf(task) === wanted) && words.some((word) => word?.toLowerCase().includes(text) ?? false)
      )
    },
  }
}

/**
 * @param {readonly string[] | undefined} names
 * @param {boolean} isNamed
 */
const textWithoutName = (names, isNamed) => {
  if (names !== undefined) return 'tasks.no-domain'
  return isNamed ? 'tasks.domain-unavailable' : 'loading'
}

/**
 * The rows that are loaded. A refresh changes rows where they are; new tasks wait until the user shows them, so that no
 * row moves below the pointer.
 * @param {Visit} visit
 * @param {{ text: string, state: string }} filter
 */
const createList = (visit, filter) => {
  const { query, signal, announce } = visit
  /** @type {Map<string, Row>} */
  const rows = new Map()
  /** @type {readonly Task[]} */
  let waiting = []
  /** @type {Set<string>} */
  const watched = new Set()
  let pageCount = 0
  /** @type {number | null} */
  let totalItems = null
  const days = [...query].filter(([name]) => name === 'createdFrom' || name === 'createdTo')
  const body = tableBody()
  const empty = h('div', { class: 'notice', hidden: true })
  const count = h('span', { id: 'count' })
  const failure = h('div', { id: 'refresh-failure' })
  const newer = h('button', { id: 'newer', class: 'small', hidden: true, click: () => showWaiting()[0]?.link.focus() })
  const next = h('button', { id: 'more', click: () => void loadMore() }, t('tasks.more'))

  const refreshButton = h('button', { id: 'refresh', class: 'small', click: () => void refresh() }, t('refresh'))
  const selectAll = h('input', { id: 'select-all', type: 'checkbox', change: () => selectShown() })
  const cancelSelected = h('button', { id: 'cancel-selected', class: 'small', click: () => cancelAll() })

  const selected = () => [...rows.values()].filter((row) => row.isSelected())

  const showSelected = () => {
    const count = selected().length
    cancelSelected.textContent = t('tasks.cancel-selected', { count })
    if (document.activeElement === cancelSelected && count === 0) selectAll.focus()
    cancelSelected.disabled = count === 0
    if (count === 0) selectAll.checked = false
  }

  const selectShown = () => {
    for (const row of rows.values()) row.select(selectAll.checked && !row.element.hidden)
    showSelected()
  }

  const cancelAll = () => {
    const tasks = selected().map((row) => row.task())
    const onClosed = () => {
      for (const row of rows.values()) row.select(false)
      void refresh()
    }
    const [only, ...others] = tasks
    if (only !== undefined && others.length === 0) visit.cancel(only.taskNo, onClosed)
    else visit.cancelMany(tasks, onClosed)
  }

  /** A row that is not shown is not selected: the user would not see what is cancelled. */
  const filterRows = () => {
    for (const row of rows.values()) {
      row.element.hidden = !row.matches(filter)
      if (row.element.hidden) row.select(false)
    }
    showSelected()
    showCounts()
  }

  const showCounts = () => {
    const shown = [...rows.values()].filter(({ element }) => !element.hidden).length
    const isFiltered = filter.text !== '' || filter.state !== ''
    count.textContent = countText(isFiltered ? shown : null)
    empty.hidden = shown > 0
    const [title, hint] = isFiltered ? ['tasks.no-match', 'tasks.no-match-hint'] : ['tasks.empty', 'tasks.empty-hint']
    empty.replaceChildren(h('h2', {}, t(asText(title))), h('p', {}, t(asText(hint))))
    newer.hidden = waiting.length === 0
    newer.textContent = t('tasks.newer', { count: waiting.length })
  }

  const countText = (/** @type {number | null} */ shown) => {
    const loaded = rows.size
    if (shown !== null) return t('tasks.matching', { shown, loaded })
    return totalItems === null || totalItems < loaded
      ? t('tasks.loaded', { loaded })
      : t('tasks.loaded-of', { loaded, total: totalItems })
  }

  const addRow = (/** @type {Task} */ task) => {
    if (task.domains) rememberDomains(task.taskNo, task.domains, task.domainCount)
    const row = createRow(task, visit, {
      cancel: (taskNo) => visit.cancel(taskNo, () => void refresh()),
      select: showSelected,
    })
    row.element.hidden = !row.matches(filter)
    rows.set(task.taskNo, row)
    return row
  }

  const update = (/** @type {Task} */ task) => {
    if (task.domains) rememberDomains(task.taskNo, task.domains, task.domainCount)
    rows.get(task.taskNo)?.update(task)
  }

  const addPage = (/** @type {TaskPage} */ page) => {
    const added = page.items.filter(({ taskNo }) => !rows.has(taskNo)).map(addRow)
    body.append(...added.map(({ element }) => element))
    totalItems = page.totalItems
    next.hidden = !page.hasNext
    watchCancelling()
    showSelected()
    showCounts()
    return added
  }

  const showWaiting = () => {
    const added = waiting.filter(({ taskNo }) => !rows.has(taskNo)).map(addRow)
    body.prepend(...added.map(({ element }) => element))
    waiting = []
    watchCancelling()
    showCounts()
    if (added.length > 0) void fillNames(1, added)
    return added
  }

  /**
   * @param {number} page
   * @param {readonly Row[]} added
   */
  const fillNames = async (page, added) => {
    if (added.some((row) => namesOf(row.task().taskNo) === undefined)) {
      const answer = await listTasks([...queryOf(days, page), DOMAINS], {
        signal,
        isBackground: true,
      }).catch(ignoreFailure)
      if (signal.aborted) return
      for (const task of answer?.items ?? []) update(task)
    }
    for (const row of added) row.endNaming()
    filterRows()
  }

  const load = async () => {
    const answer = await listTasks(queryOf(days, 1), { signal }).catch(readForbidden)
    if (answer === null) return null
    pageCount = 1
    const added = addPage(answer)
    announce(answer.items.length === 0 ? t('tasks.empty') : countText(null))
    void fillNames(1, added)
    void keepCurrent().catch(unlessAborted)
    return [
      h(
        'div',
        { class: 'toolbar' },
        ...(visit.mayCancel
          ? [h('label', { class: 'select-all' }, selectAll, t('tasks.select-all')), cancelSelected]
          : []),
        count,
        newer,
        refreshButton,
      ),
      failure,
      table(t('tasks.caption'), columns(visit), body, 'tasks'),
      empty,
      h('div', { class: 'pages' }, next),
    ]
  }

  const loadMore = async () => {
    next.disabled = true
    try {
      const answer = await listTasks(queryOf(days, pageCount + 1), { signal })
      pageCount += 1
      const added = addPage(answer)
      announce(t('tasks.more-loaded', { count: added.length }))
      added[0]?.link.focus({ preventScroll: true })
      failure.replaceChildren()
      void fillNames(pageCount, added)
    } catch (error) {
      showFailure(error, () => void loadMore())
    } finally {
      next.disabled = false
    }
  }

  /** Reads the newest tasks again, by a request of the user. */
  const refresh = async () => {
    try {
      await readNewest(false)
      showWaiting()
      if (failure.contains(document.activeElement)) refreshButton.focus()
      failure.replaceChildren()
      announce(countText(null))
    } catch (error) {
      showFailure(error, () => void refresh())
    }
  }

  const readNewest = async (/** @type {boolean} */ isBackground) => {
    const pageSize = Math.min(PAGE_ROWS_MAX, Math.max(PAGE_ROWS, rows.size))
    const size = /** @type {const} */ (['pageSize', String(pageSize)])
    const isUnnamed = [...rows.keys()].some((taskNo) => namesOf(taskNo) === undefined)
    const answer = await listTasks([...days, size, ...(isUnnamed ? [DOMAINS] : [])], { signal, isBackground })
    for (const task of answer.items) update(task)
    waiting = answer.items.filter(({ taskNo }) => !rows.has(taskNo) && isNewer(taskNo, answer.items))
    totalItems = answer.totalItems
    renewAges(body)
    watchCancelling()
    filterRows()
  }

  /**
   * Whether a task comes before a loaded one. After the last loaded one, it belongs to a page that is not loaded.
   * @param {string} taskNo
   * @param {readonly Task[]} items
   */
  const isNewer = (taskNo, items) => {
    const from = items.findIndex((item) => item.taskNo === taskNo)
    return rows.size === 0 || items.slice(from).some((item) => rows.has(item.taskNo))
  }

  const keepCurrent = async () => {
    for (;;) {
      await pause(REFRESH_MS, signal)
      await untilVisible(signal)
      await readNewest(true).catch(async (error) => {
        ignoreFailure(error)
        await pause((error.retryAfterS ?? 0) * 1000, signal)
      })
    }
  }

  /** Tasks that are being cancelled change soon. */
  const watchCancelling = () => {
    const tasks = [...rows.values()].map((row) => row.task()).filter(isCancelling)
    const added = tasks.map(({ taskNo }) => taskNo).filter((taskNo) => !watched.has(taskNo))
    for (const taskNo of added) watched.add(taskNo)
    const onTask = (/** @type {Task} */ task) => {
      update(task)
      if (isCancelling(task)) return
      watched.delete(task.taskNo)
      const name = nameOfTask(task.taskNo)
      announce(t('task.changed', { name, status: t(`state.${stateOf(task)}`) }))
    }
    void watchTasks(added, { onTask, isDone: (task) => !isCancelling(task), signal })
  }

  /**
   * @param {unknown} error
   * @param {() => void} retry
   */
  const showFailure = (error, retry) => {
    if (signal.aborted) return
    if (!(error instanceof Failure)) throw error
    failure.replaceChildren(problemBox(error, retryButton(error, retry)))
  }

  const unlessAborted = (/** @type {unknown} */ error) => {
    if (!signal.aborted) throw error
  }

  const ignoreFailure = (/** @type {unknown} */ error) => {
    if (!(error instanceof Failure)) unlessAborted(error)
    return null
  }

  return { load, filterRows }
}

/** @param {string} key */
const asText = (key) => /** @type {import('./texts.js').TextKey} */ (key)

/**
 * @param {readonly (readonly [string, string])[]} days
 * @param {number} page
 * @returns {readonly (readonly [string, string])[]}
 */
const queryOf = (days, page) => (page === 1 ? days : [...days, ['page', String(page)]])

/**
 * A caller that is restricted to domains may not read the list.
 * @param {unknown} failure
 */
const readForbidden = (failure) => {
  if (failure instanceof Failure && failure.problem?.code === 'forbidden') return null
  throw failure
}
