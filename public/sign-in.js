import { h, submitted } from './dom.js'
import { problemBox, problemDetails, wordsOf } from './parts.js'
import { t } from './texts.js'

/** @typedef {import('./api.js').Failure} Failure */

const RETURN_TO = 'returnTo'

/**
 * @param {object} options
 * @param {boolean} options.signIn whether sign-in is configured
 * @param {boolean} options.hasEnded whether the user was signed in before
 * @param {boolean} options.isKeyInvalid whether the failure concerns the key that was sent
 * @param {Failure | null} options.failure
 * @param {(key: string) => void} options.onKey
 */
export const signInView = ({ signIn, hasEnded, isKeyInvalid, failure, onKey }) =>
  h(
    'section',
    { class: 'sign-in card' },
    h('h1', { tabindex: '-1' }, t('sign-in.heading')),
    h('p', {}, t(hasEnded ? 'sign-in.ended' : 'sign-in.lead')),
    ...failureParts(failure, { hasEnded, isKeyInvalid }),
    signIn ? providerLink() : null,
    keyForm(onKey, signIn ? null : 'primary'),
  )

/**
 * @param {Failure | null} failure
 * @param {{ hasEnded: boolean, isKeyInvalid: boolean }} cause
 */
const failureParts = (failure, { hasEnded, isKeyInvalid }) => {
  if (failure === null) return []
  if (hasEnded) return [problemDetails(failure, [t('problem.reason'), wordsOf(failure)[0]])]
  return [isKeyInvalid ? invalidKey(failure) : problemBox(failure)]
}

/** @param {Failure} failure */
const invalidKey = (failure) =>
  h(
    'section',
    { class: 'problem', role: 'alert' },
    h('h2', {}, t('sign-in.key-invalid')),
    h('p', {}, t('sign-in.key-invalid-hint')),
    problemDetails(failure),
  )

const providerLink = () =>
  h(
    'div',
    { class: 'provider' },
    h(
      'a',
      { class: 'button primary', href: 'auth/login?returnTo=/console', click: rememberPlace },
      t('sign-in.provider'),
    ),
    h('p', { class: 'or' }, t('sign-in.or')),
  )

/**
 * @param {(key: string) => void} onKey
 * @param {string | null} emphasis class of the button: none if the identity provider is the primary way
 */
const keyForm = (onKey, emphasis) =>
  h(
    'form',
    {
      submit: (event) => {
        const key = submitted(event).get('key')
        if (event.currentTarget instanceof HTMLFormElement) event.currentTarget.reset()
        if (key !== undefined) onKey(key)
      },
    },
    h('label', { for: 'key' }, t('sign-in.key')),
    h('input', {
      id: 'key',
      name: 'key',
      type: 'password',
      required: true,
      pattern: '\\s*[!-~]+\\s*',
      autocomplete: 'off',
      spellcheck: 'false',
      'aria-describedby': 'key-hint',
    }),
    h('p', { id: 'key-hint', class: 'hint' }, t('sign-in.key-hint')),
    h('button', { class: emphasis }, t('sign-in.key-submit')),
  )

// The redirect from the identity provider does not keep the hash.
const rememberPlace = () => sessionStorage.setItem(RETURN_TO, location.hash)

/** Restores the address from before the sign-in. */
export const recallPlace = () => {
  const place = sessionStorage.getItem(RETURN_TO)
  sessionStorage.removeItem(RETURN_TO)
  if (place !== null && location.hash === '') history.replaceState(null, '', `${location.pathname}${place}`)
}
