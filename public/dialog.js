import { h } from './dom.js'
import { t } from './texts.js'

/** @typedef {import('./parts.js').Content} Content */

/**
 * A modal dialog, whose content changes from step to step.
 * @typedef {object} Modal
 * @property {AbortSignal} signal ends when the dialog closes
 * @property {() => void} close
 * @property {(heading: string, content: readonly Content[], buttons: readonly Content[]) => void} show
 * @property {(stop: () => void, work: () => Promise<void>) => Promise<void>} during the dialog stays open while the work
 *   lasts: the Escape key calls `stop`, and the Back button changes nothing
 */

/** @type {Map<Element, { isBusy: boolean }>} */
const open = new Map()

/**
 * @param {{ onClosed: () => void, kind?: string }} options
 * @returns {Modal}
 */
export const openDialog = ({ onClosed, kind = '' }) => {
  const closing = new AbortController()
  const state = { isBusy: false }
  const dialog = h('dialog', { class: kind, 'aria-labelledby': 'dialog-heading' })
  const note = h('p', { class: 'hint', role: 'status' })
  dialog.addEventListener('close', () => {
    open.delete(dialog)
    closing.abort()
    dialog.remove()
    onClosed()
  })
  document.body.append(dialog)
  dialog.showModal()
  open.set(dialog, state)
  return {
    signal: closing.signal,
    close: () => dialog.close(),
    show: (heading, content, buttons) => {
      const title = h('h2', { id: 'dialog-heading', tabindex: '-1' }, heading)
      note.textContent = ''
      dialog.replaceChildren(
        title,
        h('div', { class: 'dialog-body' }, ...content.filter((part) => part !== null)),
        note,
        h('div', { class: 'actions' }, ...buttons.filter((button) => button !== null)),
      )
      title.focus()
    },
    during: async (stop, work) => {
      const onCancel = (/** @type {Event} */ event) => {
        event.preventDefault()
        stop()
      }
      // A browser closes the dialog at the second Escape, unless the key itself is intercepted.
      const onKey = (/** @type {KeyboardEvent} */ event) => {
        if (event.key === 'Escape') onCancel(event)
      }
      const onBlocked = () => {
        note.textContent = t('dialog.busy')
      }
      state.isBusy = true
      dialog.addEventListener('cancel', onCancel)
      dialog.addEventListener('keydown', onKey)
      dialog.addEventListener('blocked', onBlocked)
      try {
        await work()
      } finally {
        state.isBusy = false
        dialog.removeEventListener('cancel', onCancel)
        dialog.removeEventListener('keydown', onKey)
        dialog.removeEventListener('blocked', onBlocked)
      }
    },
  }
}

/**
 * Closes all dialogs, because the page behind them changes.
 * @returns {boolean} false if one of them must stay: a request that it sent has no response yet
 */
export const closeDialogs = () => {
  for (const [dialog, { isBusy }] of open) {
    if (isBusy) {
      dialog.dispatchEvent(new Event('blocked'))
      return false
    }
  }
  for (const dialog of [...open.keys()]) if (dialog instanceof HTMLDialogElement) dialog.close()
  return true
}

export const isDialogOpen = () => open.size > 0

// The browser asks before it leaves the page. Its text cannot be changed.
window.addEventListener('beforeunload', (event) => {
  if ([...open.values()].some(({ isBusy }) => isBusy)) event.preventDefault()
})
