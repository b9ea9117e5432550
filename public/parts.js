import { byId, h } from './dom.js'
import { shortNumber } from './domains.js'
import { TASK_TYPES } from './task-types.js'
import { formatAge, formatTime, language, t } from './texts.js'

/** @typedef {import('./api.js').Failure} Failure */
/** @typedef {import('./api.js').Task} Task */
/** @typedef {import('./texts.js').TextKey} TextKey */
/** @typedef {'calm' | 'info' | 'busy' | 'good' | 'bad' | 'open'} Tone */
/** @typedef {Node | string | null} Content */

/** @type {Readonly<Record<string, Tone>>} */
const TONES = {
  waiting: 'info',
  executing: 'info',
  complete: 'good',
  succeeded: 'good',
  failed: 'bad',
  cancelling: 'busy',
  cancelled: 'calm',
  pending: 'busy',
  accepted: 'busy',
  sending: 'busy',
  'not-sent': 'calm',
  'not-cancelled': 'bad',
  'too-late': 'bad',
  refused: 'bad',
  rejected: 'bad',
  unknown: 'open',
}

/**
 * @typedef {'waiting' | 'executing' | 'complete' | 'succeeded' | 'failed' | 'cancelling' | 'cancelled' | 'accepted' |
 *   'sending' | 'not-sent' | 'not-cancelled' | 'unknown'} State
 */

/**
 * A state as text. Its colour carries no extra information.
 * @template {'state' | 'outcome'} Kind
 * @param {Kind} kind
 * @param {{ state: State, outcome: import('./api.js').Cancellation['outcome'] }[Kind]} state
 */
export const badge = (kind, state) =>
  h('span', { class: `badge ${TONES[state] ?? 'open'}` }, t(/** @type {TextKey} */ (`${kind}.${state}`)))

/**
 * One state of a task: that of its cancellation once there is one, otherwise that of its execution.
 * @param {Pick<Task, 'status' | 'cancelStatus'>} task
 * @returns {State & Task['status' | 'cancelStatus']}
 */
export const stateOf = ({ status, cancelStatus }) =>
  cancelStatus === 'cancelling' || cancelStatus === 'cancelled' ? cancelStatus : status

/** @param {Pick<Task, 'cancelStatus'>} task */
export const isCancelling = ({ cancelStatus }) => cancelStatus === 'cancelling'

/** @param {Pick<Task, 'status' | 'cancelStatus'>} task */
export const isCancellable = ({ status, cancelStatus }) =>
  status !== 'complete' && (cancelStatus === 'none' || cancelStatus === 'unknown')

/** @param {string | null} iso */
export const moment = (iso) => (iso === null ? t('none') : h('time', { datetime: iso }, formatTime(new Date(iso))))

/**
 * The age, with the complete time and its zone while the pointer or the focus is on it.
 * @param {string | null} iso
 */
export const age = (iso) => {
  if (iso === null) return t('none')
  const at = new Date(iso)
  return h(
    'time',
    { class: 'age', datetime: iso, tabindex: '0' },
    h('span', { 'data-age': iso }, formatAge(at)),
    h('span', { class: 'tip' }, formatTime(at)),
  )
}

/**
 * Corrects the ages after some time.
 * @param {Element} parent
 */
export const renewAges = (parent) => {
  for (const element of parent.querySelectorAll('[data-age]')) {
    const text = formatAge(new Date(element.getAttribute('data-age') ?? ''))
    if (element.textContent !== text) element.textContent = text
  }
}

/** @param {string | null} text */
export const code = (text) => (text === null || text === '' ? t('none') : h('code', {}, text))

/** @param {{ type: string | null, typeDescription: string | null }} task */
export const typeText = ({ type, typeDescription }) =>
  TASK_TYPES[type ?? '']?.[language()] ?? typeDescription ?? type ?? t('none')

/**
 * The type in the language of the page, with its code in small print. An unknown type has the text of the upstream.
 * @param {{ type: string | null, typeDescription: string | null }} task
 */
export const typeOf = (task) => {
  const text = typeText(task)
  return h(
    'span',
    { class: 'type' },
    h('span', { class: 'type-name', title: text }, text),
    ' ',
    codeOfType(task.type, text),
  )
}

/**
 * @param {string | null} type
 * @param {string} text
 */
const codeOfType = (type, text) => (type === null || type === text ? null : h('code', { class: 'small-print' }, type))

/**
 * A button that copies a text. It says so for a moment.
 * @param {string} text
 * @param {string} label
 */
export const copyButton = (text, label) => {
  const face = h('span', {}, t('copy'))
  const say = (/** @type {TextKey} */ key) => {
    face.textContent = t(key)
    byId('status').textContent = t(key)
    setTimeout(() => {
      face.textContent = t('copy')
    }, COPIED_MS)
  }
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text)
      say('copied')
    } catch {
      say('copy-failed')
    }
  }
  return h('button', { class: 'copy', type: 'button', 'aria-label': label, click: () => void copy() }, face)
}

const COPIED_MS = 2000

/**
 * The shortened number of a task, and a button that copies all of it.
 * @param {string} taskNo
 */
export const numberOf = (taskNo) =>
  h(
    'span',
    { class: 'number' },
    h('code', { title: taskNo }, shortNumber(taskNo)),
    copyButton(taskNo, t('task.copy', { taskNo })),
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

/** @typedef {{ key: string, label: string, isHidden?: boolean }} Column */

/**
 * A table that is displayed as a list of cards on narrow screens. Some browsers drop the implicit roles of cells with
 * another `display` value, so the roles are explicit.
 * @param {string} caption
 * @param {readonly Column[]} columns
 * @param {HTMLTableSectionElement} body
 * @param {string} [kind]
 */
export const table = (caption, columns, body, kind = '') =>
  h(
    'table',
    { role: 'table', class: kind },
    h('caption', { class: 'visually-hidden' }, caption),
    h(
      'thead',
      { role: 'rowgroup' },
      h(
        'tr',
        { role: 'row' },
        ...columns.map(({ key, label, isHidden }) =>
          h(
            'th',
            { role: 'columnheader', scope: 'col', class: key },
            isHidden === true ? h('span', { class: 'visually-hidden' }, label) : label,
          ),
        ),
      ),
    ),
    body,
  )

/** @param {...HTMLTableRowElement} rows */
export const tableBody = (...rows) => h('tbody', { role: 'rowgroup' }, ...rows)

/**
 * @param {readonly Column[]} columns
 * @param {readonly Content[]} cells
 */
export const tableRow = (columns, cells) =>
  h(
    'tr',
    { role: 'row' },
    ...columns.map(({ key, label }, index) =>
      h('td', { role: 'cell', class: key, 'data-label': label }, cells[index] ?? null),
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
 * The failure in words, its effect on a cancellation, and behind "Details" what a report to the operator needs.
 * @param {Failure} failure
 * @param {...Content} actions
 */
export const problemBox = (failure, ...actions) => {
  const [title, detail] = wordsOf(failure)
  const hasAction = actions.some((action) => action !== null)
  return h(
    'section',
    { class: 'problem', role: 'alert' },
    h('h2', {}, title),
    h('p', {}, detail),
    failure.outcome === null ? null : h('p', {}, effectOf(failure)),
    hasAction ? h('div', { class: 'actions' }, ...actions) : h('p', {}, againOf(failure)),
    problemDetails(failure),
  )
}

/**
 * Title and explanation.
 * @param {Failure} failure
 * @returns {readonly [string, string]}
 */
export const wordsOf = ({ problem, kind }) => {
  if (problem !== null) return [problem.title, problem.detail]
  return kind === 'unreachable'
    ? [t('problem.unreachable'), t('problem.unreachable-detail')]
    : [t('problem.unreadable'), t('problem.unreadable-detail')]
}

/**
 * A button for another attempt; null if the failure is not retryable. A press before `retryAfterS` has passed waits.
 * @param {Failure} failure
 * @param {() => void} retry
 * @param {string | null} [id]
 */
export const retryButton = ({ retryable, retryAfterS }, retry, id = null) => {
  if (!retryable) return null
  let leftS = retryAfterS ?? 0
  let isWanted = false
  const textNow = () => {
    if (leftS === 0) return t('retry')
    return t(isWanted ? 'retry.scheduled' : 'retry.in', { count: leftS })
  }
  const button = h('button', { id }, textNow())
  button.addEventListener('click', () => {
    if (leftS === 0) return retry()
    isWanted = true
    button.textContent = textNow()
  })
  const clock = setInterval(() => {
    leftS = Math.max(0, leftS - 1)
    button.textContent = textNow()
    if (leftS > 0 && (button.isConnected || leftS === retryAfterS)) return
    clearInterval(clock)
    if (isWanted && button.isConnected) retry()
  }, SECOND_MS)
  return button
}

const SECOND_MS = 1000

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
 * @param {Fact | null} [reason] where the title is not shown elsewhere
 */
export const problemDetails = ({ problem, requestId }, reason = null) =>
  more([
    reason,
    problem === null ? null : [t('problem.code'), explained(problem)],
    idFact(t('history.gateway-id'), requestId),
    idFact(t('history.upstream-code'), problem?.upstreamCode),
    idFact(t('cancel.request-id'), problem?.requestId),
    idFact(t('cancel.id'), problem?.cancellationId),
  ])

/**
 * Facts for a report to the operator, which are closed at first.
 * @param {readonly (Fact | null)[]} known
 */
export const more = (known) =>
  known.every((fact) => fact === null)
    ? null
    : h('details', { class: 'more-facts' }, h('summary', {}, t('details')), facts(known))

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
