import { h } from './dom.js'
import { formatTime, language, t } from './texts.js'

/** @typedef {import('./api.js').Failure} Failure */
/** @typedef {import('./api.js').Task} Task */
/** @typedef {import('./texts.js').TextKey} TextKey */
/** @typedef {'calm' | 'info' | 'busy' | 'good' | 'bad' | 'open'} Tone */
/** @typedef {Node | string | null} Content */

/** @type {Readonly<Record<string, Tone>>} */
const TONES = {
  waiting: 'calm',
  executing: 'info',
  complete: 'good',
  succeeded: 'good',
  failed: 'bad',
  none: 'calm',
  cancelling: 'busy',
  cancelled: 'good',
  pending: 'busy',
  accepted: 'busy',
  'too-late': 'bad',
  refused: 'bad',
  rejected: 'bad',
  unknown: 'open',
}

/**
 * A state as text. Its colour carries no extra information.
 * @template {'status' | 'cancel-status' | 'outcome'} Kind
 * @param {Kind} kind
 * @param {{
 *   status: 'waiting' | 'executing' | 'complete' | 'succeeded' | 'failed' | 'unknown',
 *   'cancel-status': 'none' | 'accepted' | 'cancelling' | 'cancelled' | 'unknown',
 *   outcome: 'pending' | 'refused' | 'accepted' | 'cancelled' | 'too-late' | 'rejected' | 'failed' | 'unknown',
 * }[Kind]} state
 */
export const badge = (kind, state) =>
  h('span', { class: `badge ${TONES[state] ?? 'open'}` }, t(/** @type {TextKey} */ (`${kind}.${state}`)))

/** @param {Pick<Task, 'cancelStatus'>} task */
export const isCancelling = ({ cancelStatus }) => cancelStatus === 'cancelling'

/** @param {Pick<Task, 'status' | 'cancelStatus'>} task */
export const isCancellable = ({ status, cancelStatus }) =>
  status !== 'complete' && (cancelStatus === 'none' || cancelStatus === 'unknown')

/** @param {string | null} iso */
export const moment = (iso) => (iso === null ? t('none') : h('time', { datetime: iso }, formatTime(new Date(iso))))

/** @param {string | null} text */
export const code = (text) => (text === null || text === '' ? t('none') : h('code', {}, text))

/** @param {{ type: string | null, typeDescription: string | null }} task */
export const typeOf = ({ type, typeDescription }) =>
  h(
    'span',
    {},
    typeDescription ?? type ?? t('none'),
    typeDescription !== null && type !== null ? code(` ${type}`) : null,
  )

/**
 * A caller: its name, the method of authentication, and the name that the identity provider states. The latter never
 * stands alone, because different people can have the same one.
 * @param {string} name
 * @param {'api-key' | 'jwt' | 'session' | 'anonymous'} via
 * @param {string | null} displayName
 */
export const callerOf = (name, via, displayName) =>
  h(
    'span',
    {},
    t('who.via', { name, via: t(`via.${via}`) }),
    displayName === null ? null : ' ',
    displayName === null ? null : h('bdi', { class: 'display-name', title: t('who.display-name') }, `“${displayName}”`),
  )

/** @typedef {readonly [term: string, description: Content]} Fact */

/** @param {readonly (Fact | null)[]} known null is omitted */
export const facts = (known) =>
  h(
    'dl',
    {},
    ...known.flatMap((fact) => (fact === null ? [] : [h('div', {}, h('dt', {}, fact[0]), h('dd', {}, fact[1]))])),
  )

/**
 * A table that is displayed as a list of cards on narrow screens. Some browsers drop the implicit roles of cells with
 * another `display` value, so the roles are explicit.
 * @param {string} caption
 * @param {readonly string[]} columns
 * @param {readonly (readonly Content[])[]} rows
 */
export const table = (caption, columns, rows) =>
  h(
    'table',
    { role: 'table' },
    h('caption', { class: 'visually-hidden' }, caption),
    h(
      'thead',
      { role: 'rowgroup' },
      h('tr', { role: 'row' }, ...columns.map((column) => h('th', { role: 'columnheader', scope: 'col' }, column))),
    ),
    h(
      'tbody',
      { role: 'rowgroup' },
      ...rows.map((cells) =>
        h(
          'tr',
          { role: 'row' },
          ...cells.map((cell, index) => h('td', { role: 'cell', 'data-label': columns[index] ?? '' }, cell)),
        ),
      ),
    ),
  )

/**
 * @param {Range & { hasNext: boolean }} answer
 * @param {(page: number) => string} addressOf
 */
export const pages = (answer, addressOf) =>
  h(
    'nav',
    { class: 'pages', 'aria-label': t('pages.label') },
    h('span', {}, answer.items.length === 0 ? null : rangeOf(answer)),
    answer.page > 1
      ? h('a', { class: 'button', id: 'previous', href: addressOf(answer.page - 1) }, t('pages.previous'))
      : null,
    answer.hasNext ? h('a', { class: 'button', id: 'next', href: addressOf(answer.page + 1) }, t('pages.next')) : null,
  )

/** @typedef {{ page: number, pageSize: number, totalItems: number | null, items: readonly unknown[] }} Range */

/** @param {Range} answer its total is null if the caller may not see all tasks */
export const rangeOf = ({ page, pageSize, totalItems, items }) => {
  if (totalItems === null) return t('pages.page', { page })
  const before = (page - 1) * pageSize
  return t('pages.range', { from: before + 1, to: before + items.length, total: totalItems })
}

/**
 * @param {string} id
 * @param {string} label
 * @param {HTMLElement} input
 * @param {string} [hint]
 */
export const field = (id, label, input, hint) => {
  if (hint !== undefined) input.setAttribute('aria-describedby', `${id}-hint`)
  return h(
    'div',
    { class: 'field' },
    h('label', { for: id }, label),
    input,
    hint === undefined ? null : h('span', { id: `${id}-hint`, class: 'hint' }, hint),
  )
}

/**
 * @param {string} title
 * @param {string} hint
 */
export const notice = (title, hint) => h('div', { class: 'notice' }, h('h2', {}, title), h('p', {}, hint))

/**
 * The failure, its effect on a cancellation, and the ids that a report to the operator needs.
 * @param {Failure} failure
 * @param {...Content} actions
 */
export const problemBox = (failure, ...actions) => {
  const { problem, kind } = failure
  const [title, detail] =
    kind === 'unreachable'
      ? [t('problem.unreachable'), t('problem.unreachable-detail')]
      : [t('problem.unreadable'), t('problem.unreadable-detail')]
  return h(
    'section',
    { class: 'problem', role: 'alert' },
    h('h2', {}, problem?.title ?? title),
    h('p', {}, problem?.detail ?? detail),
    facts([
      failure.outcome === null ? null : [t('problem.effect'), effectOf(failure)],
      [t('problem.again'), againOf(failure)],
      problem === null ? null : [t('problem.code'), explained(problem)],
      ...idsOf(failure),
    ]),
    actions.every((action) => action === null) ? null : h('div', { class: 'actions' }, ...actions),
  )
}

/** @param {Failure} failure */
const effectOf = ({ outcome }) =>
  h('strong', {}, t(outcome === 'unknown' ? 'problem.unknown' : 'problem.not-cancelled'))

/** @param {Failure} failure */
const againOf = ({ retryable, retryAfterS }) => {
  if (!retryable) return t('problem.not-retryable')
  return retryAfterS === null ? t('problem.retryable') : t('problem.retry-after', { count: retryAfterS })
}

/**
 * @param {Failure} failure
 * @returns {readonly (Fact | null)[]}
 */
const idsOf = ({ problem, requestId }) => [
  idFact(t('history.gateway-id'), requestId),
  idFact(t('history.upstream-code'), problem?.upstreamCode),
  idFact(t('cancel.request-id'), problem?.requestId),
  idFact(t('cancel.id'), problem?.cancellationId),
]

/**
 * @param {string} term
 * @param {string | null | undefined} id
 * @returns {Fact | null}
 */
const idFact = (term, id) => (id ? [term, code(id)] : null)

/**
 * The code and a link to its explanation. The link opens a new tab, because leaving this page would drop the API key.
 * @param {import('./api.js').Problem} problem
 */
const explained = ({ type, code: name }) => {
  const address = URL.parse(type, document.baseURI)
  if (address === null || !/^https?:$/.test(address.protocol)) return code(name)
  address.searchParams.set('lang', language())
  return h(
    'span',
    {},
    code(name),
    ' ',
    h('a', { href: address.href, target: '_blank', rel: 'noopener' }, `${t('problem.page')} ${t('problem.new-tab')}`),
  )
}
