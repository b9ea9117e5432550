/** @typedef {string | boolean | null | ((event: Event) => void)} Attribute */

/**
 * Creates an element. A function as attribute is a listener for the event of that name. Text is never parsed as markup.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Readonly<Record<string, Attribute>>} [attributes] false and null are omitted
 * @param {...(Node | string | null)} children null is omitted
 */
export const h = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name, value)
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? '' : value)
  }
  element.append(...children.filter((child) => child !== null))
  return element
}

/**
 * An element that always exists on the page.
 * @param {string} id
 */
export const byId = (id) => {
  const element = document.getElementById(id)
  if (element === null) throw new Error(`#${id} is missing`)
  return element
}

/**
 * The values of a form, without empty fields.
 * @param {Event} event
 */
export const submitted = (event) => {
  event.preventDefault()
  const { currentTarget } = event
  if (!(currentTarget instanceof HTMLFormElement)) throw new Error('not a form')
  const entries = [...new FormData(currentTarget)].map(
    ([name, value]) => /** @type {const} */ ([name, `${value}`.trim()]),
  )
  return new Map(entries.filter(([, value]) => value !== ''))
}
