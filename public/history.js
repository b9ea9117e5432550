import { listCancellations } from './api.js'
import { h, submitted } from './dom.js'
import { badge, callerOf, code, facts, field, moment, notice, table } from './parts.js'
import { t } from './texts.js'

/** @typedef {import('./api.js').Cancellation} Cancellation */
/** @typedef {import('./console.js').Visit} Visit */

const PAGE_SIZE = '20'
const OUTCOMES = /** @type {const} */ ([
  ...['pending', 'refused', 'accepted', 'cancelled', 'too-late', 'rejected', 'failed', 'unknown'],
])

/** @param {Iterable<readonly [string, string]>} query */
const addressOf = (query) => `#/history?${new URLSearchParams([...query].map(([name, value]) => [name, value]))}`

/**
 * The audit records: cancel requests and their outcomes.
 * @param {Visit} visit
 */
export const historyView = (visit) => ({
  heading: t('history.heading'),
  controls: [h('div', { class: 'card controls' }, filterForm(visit))],
  load: () => load(visit),
})

/** @param {Visit} visit */
const filterForm = ({ query, go, refresh }) =>
  h(
    'form',
    { 'aria-label': t('history.filter'), submit: (event) => go(addressOf(submitted(event))) },
    field('outcome', t('history.outcome'), outcomeSelect(query.get('outcome') ?? '')),
    field(
      'taskNo',
      t('task.no'),
      h('input', {
        id: 'taskNo',
        name: 'taskNo',
        value: query.get('taskNo') ?? '',
        autocomplete: 'off',
        spellcheck: 'false',
      }),
    ),
    h('button', { id: 'apply', class: 'primary' }, t('apply')),
    h('button', { id: 'refresh', type: 'button', click: refresh }, t('refresh')),
  )

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

/** @param {Visit} visit */
const load = async ({ query, signal }) => {
  const { items, nextCursor } = await listCancellations([['limit', PAGE_SIZE], ...query], { signal })
  const list =
    items.length === 0
      ? notice(t('history.empty'), t('history.empty-hint'))
      : table(t('history.caption'), columns(), items.map(cellsOf))
  return [list, pagesOf(query, nextCursor)]
}

/**
 * @param {URLSearchParams} query
 * @param {string | null} nextCursor
 */
const pagesOf = (query, nextCursor) => {
  const filters = new Map([...query].filter(([name]) => name !== 'cursor'))
  return h(
    'nav',
    { class: 'pages', 'aria-label': t('pages.label') },
    query.has('cursor')
      ? h('a', { class: 'button', id: 'previous', href: addressOf(filters) }, t('pages.newest'))
      : null,
    nextCursor === null
      ? null
      : h(
          'a',
          { class: 'button', id: 'next', href: addressOf([...filters, ['cursor', nextCursor]]) },
          t('pages.older'),
        ),
  )
}

const columns = () => [
  t('history.when'),
  t('task.no'),
  t('history.outcome'),
  t('history.caller'),
  t('history.address'),
  t('history.more'),
]

/** @param {Cancellation} cancellation */
const cellsOf = (cancellation) => [
  moment(cancellation.requestedAt),
  h('a', { href: `#/tasks/${cancellation.taskNo}` }, h('code', {}, cancellation.taskNo)),
  badge('outcome', cancellation.outcome),
  callerOf(cancellation.caller, cancellation.via, cancellation.callerDisplayName),
  h('span', { class: 'address' }, code(cancellation.clientIp)),
  moreOf(cancellation),
]

/**
 * A refused cancel sends nothing upstream, so a number above zero is the number of refused cancels in this record.
 * @param {Cancellation} cancellation
 * @returns {[string, string]}
 */
const countOf = ({ outcome, attempts }) => {
  const isSum = outcome === 'refused' && attempts !== null && attempts > 0
  return [t(isSum ? 'history.refusals' : 'history.attempts'), attempts === null ? t('none') : String(attempts)]
}

/** @param {Cancellation} cancellation */
const moreOf = (cancellation) =>
  h(
    'details',
    {},
    h('summary', { 'aria-label': t('history.more-of', { id: cancellation.id }) }, t('history.more')),
    facts([
      [t('cancel.id'), code(cancellation.id)],
      [t('cancel.request-id'), code(cancellation.requestId)],
      [t('history.gateway-id'), code(cancellation.gatewayRequestId)],
      [t('history.upstream-code'), code(cancellation.upstreamCode)],
      countOf(cancellation),
      [t('history.finished'), moment(cancellation.finishedAt)],
      [t('history.user-agent'), cancellation.userAgent ?? t('none')],
      cancellation.settledBy === null ? null : [t('history.outcome'), t('history.settled')],
    ]),
  )
