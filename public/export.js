/** @typedef {import('./api.js').Cancellation} Cancellation */
/** @typedef {Cancellation & { domains: readonly string[] | null }} Exported */

/**
 * One JSON object a line.
 * @param {readonly Exported[]} records
 */
export const toJsonLines = (records) => records.map((record) => `${JSON.stringify(record)}\n`).join('')

const COLUMNS = /** @type {const} */ ([
  ...['requestedAt', 'domains', 'taskNo', 'outcome', 'caller', 'callerDisplayName', 'via', 'clientIp', 'peerIp'],
  ...['userAgent', 'attempts', 'finishedAt', 'isFinal', 'settledBy', 'upstreamCode', 'requestId', 'id'],
  'gatewayRequestId',
])

/** So that spreadsheets read the text as UTF-8. */
const BYTE_ORDER_MARK = '\ufeff'

/**
 * A table (RFC 4180). Spreadsheets would execute a cell that looks like a formula, so such a cell begins with an
 * apostrophe.
 * @param {readonly Exported[]} records
 */
export const toCsv = (records) =>
  BYTE_ORDER_MARK +
  [COLUMNS, ...records.map((record) => COLUMNS.map((column) => textOf(record[column])))]
    .map((cells) => `${cells.map(cellOf).join(',')}\r\n`)
    .join('')

/** @param {string | number | boolean | null | readonly string[]} value */
const textOf = (value) => (Array.isArray(value) ? value.join(' ') : String(value ?? ''))

/** @param {string} text */
const cellOf = (text) => {
  const safe = /^\s*[=+\-@\t\r]/.test(text) ? `'${text}` : text
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe
}
