import { abortRequests, endSession, Failure, getCaller, onUnauthenticated, useKey, usesKey } from './api.js'
import { openCancelDialog } from './cancel.js'
import { openCancelManyDialog } from './cancel-many.js'
import { closeDialogs, isDialogOpen } from './dialog.js'
import { byId, h } from './dom.js'
import { forgetNames } from './domains.js'
import { historyView } from './history.js'
import { callerOf, code, copyButton, problemBox, retryButton } from './parts.js'
import { recallPlace, signInView } from './sign-in.js'
import { taskView } from './task.js'
import { tasksView } from './tasks.js'
import { language, setLanguage, t } from './texts.js'

/** @typedef {import('./api.js').Caller} Caller */

/**
 * The address and the caller of a view, and the actions that the view can start.
 * @typedef {object} Visit
 * @property {string} taskNo
 * @property {URLSearchParams} query
 * @property {AbortSignal} signal ends with the visit
 * @property {boolean} mayCancel
 * @property {boolean} mayRead
 * @property {boolean} mayAudit
 * @property {(address: string) => void} go
 * @property {() => void} refresh
 * @property {(taskNo: string, onClosed: () => void) => void} cancel
 * @property {(tasks: readonly import('./api.js').Task[], onClosed: () => void) => void} cancelMany
 * @property {(heading: string) => void} entitle changes the heading and the title of the tab
 * @property {(text: string) => void} announce
 */

/**
 * @typedef {object} View
 * @property {string} heading
 * @property {readonly Node[]} controls
 * @property {() => Promise<readonly Node[]>} load
 */

const ROUTES = /** @type {const} */ ([
  [/^#\/tasks\/(?<taskNo>[A-Za-z0-9_-]{1,64})(?:\?|$)/, taskView],
  [/^#\/history(?:\?|$)/, historyView],
])

const main = byId('main')
const results = h('div', { id: 'results' })

/** @type {Caller | null} */
let caller = null
let visit = new AbortController()
/** @type {unknown} */
let shownView = null

const findRoute = () => {
  const found = ROUTES.map(([pattern, view]) => ({ view, match: pattern.exec(location.hash) })).find((it) => it.match)
  return {
    view: found?.view ?? tasksView,
    taskNo: found?.match?.groups?.taskNo ?? '',
    query: new URLSearchParams(location.hash.split('?')[1] ?? ''),
  }
}

/** @param {string} text */
const announce = (text) => {
  byId('status').textContent = text
}

/** Shows the view of the address. The results of the same kind of view stay until the new ones are loaded. */
const navigate = async () => {
  if (caller === null) return
  if (caller.scopes.length === 0) return showNoPermissions(caller)
  visit.abort()
  visit = new AbortController()
  const { signal } = visit
  const { view, taskNo, query } = findRoute()
  const focused = view === shownView ? document.activeElement?.id : undefined
  const heading = h('h1', { tabindex: '-1' })
  const entitle = (/** @type {string} */ text) => {
    if (signal.aborted) return
    heading.textContent = text
    document.title = `${text} · ${t('title')}`
  }
  const may = (/** @type {Caller['scopes'][number]} */ scope) => caller?.scopes.includes(scope) ?? false
  const {
    heading: text,
    controls,
    load,
  } = view({
    taskNo,
    query,
    signal,
    mayCancel: may('tasks:cancel'),
    mayRead: may('tasks:read'),
    mayAudit: may('audit:read'),
    go,
    refresh: navigate,
    cancel: (cancelled, onClosed) =>
      openCancelDialog({ taskNo: cancelled, mayRead: may('tasks:read'), onClosed: () => signal.aborted || onClosed() }),
    cancelMany: (tasks, onClosed) => openCancelManyDialog({ tasks, onClosed: () => signal.aborted || onClosed() }),
    entitle,
    announce,
  })
  entitle(text)
  if (view !== shownView) results.replaceChildren(h('p', { class: 'loading' }, t('loading')))
  results.setAttribute('aria-busy', 'true')
  main.replaceChildren(heading, ...controls, results)
  markCurrent(view)
  focusOn(focused, shownView === null ? null : heading)
  shownView = view
  announce(t('loading'))
  const content = await load().catch((error) => failureContent(error, signal))
  if (signal.aborted) return
  const wasInside = results.contains(document.activeElement)
  results.replaceChildren(...content)
  results.removeAttribute('aria-busy')
  if (byId('status').textContent === t('loading')) announce('')
  if (wasInside) focusOn(focused, heading)
}

/** @param {string} address the target; the current address reloads the view */
const go = (address) => {
  if (address === location.hash) void navigate()
  else location.hash = address
}

/**
 * @param {string | undefined} id
 * @param {HTMLElement | null} otherwise
 */
const focusOn = (id, otherwise) => {
  const target = id ? document.getElementById(id) : null
  ;(target ?? otherwise)?.focus()
}

/**
 * @param {unknown} error
 * @param {AbortSignal} signal
 */
const failureContent = (error, signal) => {
  if (signal.aborted) return []
  if (!(error instanceof Failure)) throw error
  return [problemBox(error, retryButton(error, navigate, 'retry'))]
}

/** @param {unknown} view */
const markCurrent = (view) => {
  for (const [id, its] of /** @type {const} */ ([
    ['nav-tasks', tasksView],
    ['nav-history', historyView],
  ])) {
    const link = document.getElementById(id)
    if (view === its) link?.setAttribute('aria-current', 'page')
    else link?.removeAttribute('aria-current')
  }
}

const showFrame = () => {
  document.documentElement.lang = language() === 'zh' ? 'zh-CN' : 'en'
  document.title = t('title')
  byId('header').replaceChildren(
    h('a', { class: 'skip', href: '#main', click: skipToMain }, t('skip.main')),
    h('p', { class: 'brand' }, t('title')),
    ...(caller === null ? [] : [navigation(caller), identity(caller)]),
    languageButton(),
  )
  byId('footer').replaceChildren(...(caller === null ? [] : [h('p', {}, grantsOf(caller))]))
}

// The hash is the address of a view, so it cannot also be an anchor on the page.
/** @param {Event} event */
const skipToMain = (event) => {
  event.preventDefault()
  main.querySelector('h1')?.focus()
}

/** @param {Caller} who */
const navigation = ({ scopes }) =>
  h(
    'nav',
    { 'aria-label': t('nav.label') },
    scopes.length === 0 ? null : h('a', { id: 'nav-tasks', href: '#/tasks' }, t('nav.tasks')),
    scopes.includes('audit:read') ? h('a', { id: 'nav-history', href: '#/history' }, t('nav.history')) : null,
  )

/** @param {Caller} who */
const identity = ({ name, via, callerDisplayName }) =>
  h(
    'div',
    { class: 'identity' },
    h('span', { id: 'who' }, callerOf(name, via, callerDisplayName)),
    via === 'anonymous' ? null : h('button', { class: 'small', click: signOut }, t('who.sign-out')),
  )

/** @param {Caller} who */
const grantsOf = ({ scopes }) =>
  scopes.length === 0 ? '' : t('who.may', { scopes: scopes.map((scope) => t(`scope.${scope}`)).join(' · ') })

const languageButton = () => {
  const other = language() === 'zh' ? 'en' : 'zh'
  const button = h('button', { id: 'language', class: 'small', lang: other }, t('language.other'))
  button.addEventListener('click', () => {
    setLanguage(other)
    shownView = null
    showFrame()
    if (caller === null) showSignIn({})
    else void navigate()
    byId('language').focus()
  })
  return button
}

/** @param {{ failure?: Failure, hasEnded?: boolean, isKeyInvalid?: boolean }} options */
const showSignIn = ({ failure, hasEnded = false, isKeyInvalid = false }) => {
  visit.abort()
  useKey(null)
  forgetNames()
  caller = null
  shownView = null
  showFrame()
  document.title = `${t('sign-in.heading')} · ${t('title')}`
  const signIn = document.body.dataset.signIn === 'true'
  main.replaceChildren(signInView({ signIn, hasEnded, isKeyInvalid, failure: failure ?? null, onKey }))
  announce('')
}

/** @param {string} key */
const onKey = (key) => {
  useKey(key)
  void enter()
}

/** Requests the caller, then shows the view or the sign-in form. */
const enter = async () => {
  announce(t('loading'))
  try {
    const found = await getCaller()
    const hadAsked = main.querySelector('.sign-in') !== null
    caller = found
    showFrame()
    await navigate()
    if (hadAsked) main.querySelector('h1')?.focus()
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure
    if (failure.status !== 401) showUnreachable(failure)
    else showSignIn(usesKey() ? { failure, isKeyInvalid: failure.problem?.code === 'unauthenticated' } : {})
    main.querySelector('h1')?.focus()
  }
}

/**
 * For a caller without any permission: the name that the operator needs.
 * @param {Caller} who
 */
const showNoPermissions = ({ name, via, callerDisplayName }) => {
  const text = t('no-permissions.heading')
  document.title = `${text} · ${t('title')}`
  announce('')
  main.replaceChildren(
    h('h1', { tabindex: '-1' }, text),
    h(
      'section',
      { class: 'card no-permissions' },
      h('p', {}, t('no-permissions.lead')),
      h('p', {}, t('no-permissions.hint')),
      h('p', { class: 'number' }, code(name), copyButton(name, t('copy-value', { value: name }))),
      callerDisplayName === null ? null : h('p', { class: 'hint' }, callerOf(name, via, callerDisplayName)),
      h('div', { class: 'actions' }, h('button', { id: 'retry', click: enter }, t('no-permissions.again'))),
    ),
  )
}

/** @param {Failure} failure */
const showUnreachable = (failure) => {
  announce('')
  main.replaceChildren(
    h('h1', { tabindex: '-1' }, t('title')),
    problemBox(failure, retryButton(failure, enter, 'retry')),
  )
}

// An open dialog stays, because it may show the outcome of a cancellation.
onUnauthenticated((failure) => {
  if (caller === null || isDialogOpen()) return
  showSignIn({ failure, hasEnded: true })
  main.querySelector('h1')?.focus()
})

const signOut = async () => {
  visit.abort()
  abortRequests()
  if (usesKey()) {
    showSignIn({})
    main.querySelector('h1')?.focus()
    return
  }
  try {
    const { logoutUrl } = await endSession()
    if (logoutUrl === null) location.reload()
    else location.assign(logoutUrl)
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure
    if (caller !== null) main.prepend(problemBox(failure))
  }
}

recallPlace()
showFrame()
window.addEventListener('hashchange', ({ oldURL }) => {
  // The dialog shows what a request did that was sent: it stays, and so does the page behind it.
  if (!closeDialogs()) history.pushState(null, '', oldURL)
  else void navigate()
})
void enter()
