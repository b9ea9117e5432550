import { t } from './texts.js'

/** @typedef {import('./api.js').Task} Task */

/** @typedef {{ names: readonly string[], count: number | null }} Domains */

/**
 * First domains of tasks, and how many they have, as far as this page has seen them.
 * @type {Map<string, Domains>}
 */
const seen = new Map()

/**
 * @param {string} taskNo
 * @param {readonly string[]} names
 * @param {number | null} count
 */
export const rememberDomains = (taskNo, names, count) => {
  seen.set(taskNo, { names, count })
}

/** @param {string} taskNo */
export const namesOf = (taskNo) => seen.get(taskNo)?.names

/**
 * All that is known of the domains, as one text.
 * @param {string} taskNo
 */
export const domainsText = (taskNo) => {
  const { names = [], count = null } = seen.get(taskNo) ?? {}
  const others = (count ?? 0) - names.length
  return `${names.join(', ') || t('none')}${others > 0 ? ` ${t('task.others', { count: others })}` : ''}`
}

/** Another caller may not see the same tasks. */
export const forgetNames = () => seen.clear()

const NUMBER_SHOWN = 8

/** @param {string} taskNo */
export const shortNumber = (taskNo) =>
  taskNo.length <= NUMBER_SHOWN + 4 ? taskNo : `${taskNo.slice(0, NUMBER_SHOWN)}…`

/**
 * The first domain and the number of the others, as one text; the number of the task where no domain is known.
 * @param {string} taskNo
 */
export const nameOfTask = (taskNo) => {
  const [first] = namesOf(taskNo) ?? []
  if (first === undefined) return t('task.numbered', { taskNo: shortNumber(taskNo) })
  const others = othersOf(taskNo)
  return others === '' ? first : `${first} ${others}`
}

/** @param {number | null} count of all domains */
export const othersText = (count) => (count === null || count < 2 ? '' : t('task.others', { count: count - 1 }))

/** @param {string} taskNo */
export const othersOf = (taskNo) => othersText(seen.get(taskNo)?.count ?? null)
