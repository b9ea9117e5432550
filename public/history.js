import { Failure, listCancellations, listDetails } from './api.js'
import { openDialog } from './dialog.js'
import { h, submitted } from './dom.js'
import { domainsText, nameOfTask, namesOf, othersOf, rememberDomains } from './domains.js'
import { toCsv, toJsonLines } from './export.js'
import {
  age,
  badge,
  callerOf,
  code,
  copyButton,
  facts,
  field,
  moment,
  more,
  notice,
  numberOf,
  problemBox,
  retryButton,
  table,
  tableBody,
  tableRow,
} from './parts.js'
import { firstNames } from './task.js'
import { t, zoneName } from './texts.js'

/** @typedef {import('./api.js').Cancellation} Cancellation */
/** @typedef {import('./api.js').CancellationPage} CancellationPage */
/** @typedef {import('./console.js').Visit} Visit */

const PAGE_ROWS = '20'
const OUTCOMES = /** @type {const} */ ([
  ...['pending', 'refused', 'accepted', 'cancelled', 'too-late', 'rejected', 'failed', 'unknown'],
])
/** As the list of tasks shows them. */
const NAMES_MAX = '3'
const WIDE = '(min-width: 55.01rem)'

/** @param {Iterable<readonly [string, string]>} query */
const addressOf = (query) => `#/history?${new URLSearchParams([...query].map(([name, value]) => [name, value]))}`

/**
 * The audit records: cancel requests and their outcomes.
 * @param {Visit} visit
 */
export const historyView = (visit) => ({
  heading: t('history.heading'),
  controls: [filterCard(visit)],
  load: () => createList(visit).load(),
})

/** @param {Visit} visit */
const filterCard = (visit) => {
  const wide = matchMedia(WIDE)
  const isOpen = wide.matches || [...visit.query.keys()].length > 0
  const card = h(
    'details',
    { id: 'filters', class: 'card filters', open: isOpen },
    h('summary', {}, t('tasks.filters')),
    h('div', { class: 'controls' }, filterForm(visit)),
  )
  wide.addEventListener('change', ({ matches }) => card.toggleAttribute('open', matches), { signal: visit.signal })
  return card
}

/** @param {Visit} visit */
const filterForm = ({ query, go }) =>
  h(
    'form',
    { 'aria-label': t('history.filter'), submit: (event) => go(addressOf(submitted(event))) },
    field('caller', t('history.caller'), textInput('caller', query), t('history.caller-hint')),
    field('outcome', t('history.outcome'), outcomeSelect(query.get('outcome') ?? '')),
    field('from', t('history.from'), dateInput('from', query), t('history.days-hint', { zone: zoneName() })),
    field('to', t('history.to'), dateInput('to', query)),
    field('taskNo', t('task.no'), textInput('taskNo', query)),
    h('button', { id: 'apply', class: 'primary' }, t('apply')),
  )

/**
 * @param {string} id
 * @param {URLSearchParams} query
 */
const textInput = (id, query) =>
  h('input', { id, name: id, value: query.get(id) ?? '', autocomplete: 'off', spellcheck: 'false' })

/**
 * @param {string} id
 * @param {URLSearchParams} query
 */
const dateInput = (id, query) => h('input', { id, name: id, type: 'date', value: query.get(id) ?? '' })

/** @param {string} chosen */
const outcomeSelect = (chosen) =>
  h(
    'select',
    { id: 'outcome', name: 'outcome' },
    h('option', { value: '' }, t('history.any')),
    ...OUTCOMES.map((outcome) =>
      h('option', { value: outcome, selected: outcome === chosen }, t(`outcome.${outcome}`)),
    ),
  )

/**
 * The days of the form as moments: both are days of the browser's time zone, and the last one is included.
 * @param {URLSearchParams} query
 * @returns {readonly (readonly [string, string])[]}
 */
const filtersOf = (query) =>
  [...query].map(([name, value]) => {
    if (name === 'from') return [name, momentOf(value, 0)]
    return name === 'to' ? [name, momentOf(value, 1)] : [name, value]
  })

/**
 * The first moment of a day; the text itself where it is no day, so that the gateway explains the rule.
 * @param {string} day
 * @param {number} later in days
 */
const momentOf = (day, later) => {
  const at = new Date(`${day}T00:00`)
  if (Number.isNaN(at.getTime())) return day
  at.setDate(at.getDate() + later)
  return at.toISOString()
}

const columns = () => [
  { key: 'created', label: t('history.when') },
  { key: 'domain', label: t('task.domain') },
  { key: 'state', label: t('history.outcome') },
  { key: 'caller', label: t('history.caller') },
  { key: 'number-cell', label: t('task.no') },
  { key: 'action', label: t('details'), isHidden: true },
]

/** @param {Cancellation} record */
const createRow = (record) => {
  const { taskNo } = record
  const link = h('a', { href: `#/tasks/${taskNo}` })
  const others = h('span', { class: 'others' })
  const element = tableRow(columns(), [
    age(record.requestedAt),
    h('span', { class: 'name' }, link, ' ', others),
    badge('outcome', record.outcome),
    callerOf(record.caller, record.via, record.callerDisplayName),
    numberOf(taskNo),
    h('button', { class: 'small details', click: () => openDrawer(record) }, t('details')),
  ])
  const showName = () => {
    const [first] = namesOf(taskNo) ?? []
    link.textContent = first ?? nameOfTask(taskNo)
    link.title = namesOf(taskNo)?.join(', ') ?? ''
    others.textContent = othersOf(taskNo)
  }
  showName()
  return { element, record, link, showName }
}

/** @param {Visit} visit */
const createList = ({ query, signal, mayRead, announce, refresh }) => {
  /** @type {ReturnType<typeof createRow>[]} */
  const rows = []
  /** @type {string | null} */
  let cursor = null
  const filters = filtersOf(query)
  const body = tableBody()
  const count = h('span', { id: 'count' })
  const failure = h('div', { id: 'refresh-failure' })
  const older = h('button', { id: 'more', click: () => void loadMore() }, t('history.load-more'))

  const read = () =>
    listCancellations(
      [['limit', PAGE_ROWS], ...filters, ...(cursor === null ? [] : [/** @type {const} */ (['cursor', cursor])])],
      { signal },
    )

  const add = (/** @type {CancellationPage} */ { items, nextCursor }) => {
    const added = items.map(createRow)
    rows.push(...added)
    body.append(...added.map(({ element }) => element))
    cursor = nextCursor
    older.hidden = nextCursor === null
    count.textContent = t('history.loaded', { loaded: rows.length })
    void fillNames(added)
    return added
  }

  /**
   * A record has the number of the task only. The domains are those of the task now, one read for each task.
   * @param {typeof rows} added
   */
  const fillNames = async (added) => {
    if (!mayRead) return
    const numbers = new Set(added.map(({ record }) => record.taskNo).filter((taskNo) => namesOf(taskNo) === undefined))
    for (const taskNo of numbers) {
      const found = await listDetails(taskNo, [['pageSize', NAMES_MAX]], { signal, isBackground: true }).catch(
        (error) => {
          if (signal.aborted || (error instanceof Failure && error.status !== 404)) return 'over'
          return null
        },
      )
      if (found === 'over') return
      if (found === null) continue
      rememberDomains(taskNo, firstNames(found.items), found.totalItems)
      for (const row of rows) if (row.record.taskNo === taskNo) row.showName()
    }
  }

  const loadMore = async () => {
    older.disabled = true
    try {
      const added = add(await read())
      failure.replaceChildren()
      announce(t('tasks.more-loaded', { count: added.length }))
      added[0]?.link.focus({ preventScroll: true })
    } catch (error) {
      if (signal.aborted) return
      if (!(error instanceof Failure)) throw error
      failure.replaceChildren(
        problemBox(
          error,
          retryButton(error, () => void loadMore()),
        ),
      )
    } finally {
      older.disabled = false
    }
  }

  const exported = () => rows.map(({ record }) => ({ ...record, domains: namesOf(record.taskNo) ?? null }))

  const load = async () => {
    const page = await read()
    if (page.items.length === 0) return [notice(t('history.empty'), t('history.empty-hint'))]
    add(page)
    return [
      h(
        'div',
        { class: 'toolbar' },
        count,
        h('button', { id: 'csv', class: 'small', click: () => save('csv', toCsv(exported())) }, t('history.csv')),
        h(
          'button',
          { id: 'jsonl', class: 'small', click: () => save('jsonl', toJsonLines(exported())) },
          t('history.jsonl'),
        ),
        h('button', { id: 'refresh', class: 'small', click: refresh }, t('refresh')),
      ),
      failure,
      table(t('history.caption'), columns(), body, 'history'),
      h('div', { class: 'pages' }, older),
    ]
  }

  return { load }
}

/**
 * @param {'csv' | 'jsonl'} kind
 * @param {string} text
 */
const save = (kind, text) => {
  const type = kind === 'csv' ? 'text/csv' : 'application/jsonl'
  const href = URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` }))
  h('a', { href, download: `cancellations.${kind}` }).click()
  setTimeout(() => URL.revokeObjectURL(href), KEPT_MS)
}

const KEPT_MS = 60_000

/**
 * All of a record. The technical part is closed at first.
 * @param {Cancellation} record
 */
const openDrawer = (record) => {
  const modal = openDialog({ onClosed: () => {}, kind: 'drawer' })
  modal.show(
    nameOfTask(record.taskNo),
    [
      badge('outcome', record.outcome),
      h('p', {}, t(`outcome-meaning.${record.outcome}`)),
      facts([
        namesOf(record.taskNo) === undefined ? null : [t('history.domains-now'), domainsText(record.taskNo)],
        [t('history.caller'), callerOf(record.caller, record.via, record.callerDisplayName)],
        [t('history.when'), moment(record.requestedAt)],
        [t('history.finished'), moment(record.finishedAt)],
        record.settledBy === null ? null : [t('history.settled-by'), t('history.settled')],
        countOf(record),
        [t('task.no'), withCopy(record.taskNo)],
      ]),
      more([
        [t('history.address'), code(record.clientIp)],
        [t('history.user-agent'), record.userAgent ?? t('none')],
        [t('cancel.id'), withCopy(record.id)],
        [t('history.gateway-id'), withCopy(record.gatewayRequestId)],
        [t('cancel.request-id'), code(record.requestId)],
        [t('history.upstream-code'), code(record.upstreamCode)],
      ]),
    ],
    [h('button', { click: modal.close }, t('close'))],
  )
}

/** @param {string} id */
const withCopy = (id) => h('span', { class: 'number' }, code(id), copyButton(id, t('copy-value', { value: id })))

/**
 * A refused cancel sends nothing upstream, so a number above zero is the number of refused cancels in this record.
 * @param {Cancellation} cancellation
 * @returns {[string, string]}
 */
const countOf = ({ outcome, attempts }) => {
  const isSum = outcome === 'refused' && attempts !== null && attempts > 0
  return [t(isSum ? 'history.refusals' : 'history.attempts'), attempts === null ? t('none') : String(attempts)]
}
