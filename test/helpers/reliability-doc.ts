import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { ROOT } from './process.ts'

const RELIABILITY = 'docs/reliability.md'

/** One row of the table: a fault, and its effect on the response, the audit record and the upstream. */
export interface FaultRow {
  readonly fault: string
  readonly request: string
  /** Status, and members of the body. */
  readonly answer: string
  /** The outcome in the audit record, and how it was determined. */
  readonly record: string
  /** The number of received requests, and the state of the task. */
  readonly upstream: string
}

const COLUMNS = ['fault', 'request', 'answer', 'record', 'upstream'] as const satisfies readonly (keyof FaultRow)[]
const HEADINGS = ['Fault', 'Request', 'Response', 'Audit record', 'Upstream'] as const

const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`

const tableOf = (headings: readonly string[], rows: readonly (readonly string[])[]): string =>
  [headings, headings.map(() => '---'), ...rows].map(line).join('\n')

/** The text between the markers of that name, and a function that replaces it. */
const readSection = (name: string, document: string) => {
  const path = join(ROOT, document)
  const [begin, end] = [`<!-- ${name}: begin -->\n`, `<!-- ${name}: end -->`]
  const text = readFileSync(path, 'utf8')
  const [from, to] = [text.indexOf(begin) + begin.length, text.indexOf(end)]
  assert.ok(from >= begin.length && to >= from, `${document} has no place called "${name}"`)
  return {
    content: text.slice(from, to),
    fill: (content: string) => writeFileSync(path, text.slice(0, from) + content + text.slice(to)),
  }
}

const WRITES = process.env.WRITE_RELIABILITY === 'true'

/** Asserts that the table in the document has these rows; with `WRITE_RELIABILITY` writes them instead. */
export const checkTable = (name: string, rows: readonly FaultRow[]): void => {
  const place = readSection(name, RELIABILITY)
  const found = `\n${tableOf(
    HEADINGS,
    rows.map((row) => COLUMNS.map((column) => row[column])),
  )}\n\n`
  if (WRITES) place.fill(found)
  else assert.equal(place.content, found)
}

/** Writes figures, which differ between runs, if `WRITE_RELIABILITY` is set. Nothing is asserted. */
export const writeFigures = (
  name: string,
  rows: readonly Readonly<Record<string, string | number>>[],
  document = RELIABILITY,
): void => {
  const place = readSection(name, document)
  if (!WRITES) return
  const headings = Object.keys(rows[0] ?? {})
  const cells = rows.map((row) => headings.map((heading) => String(row[heading])))
  const day = new Date().toISOString().slice(0, 10)
  const machine = `Measured on ${day} with Node ${process.version} on ${availableParallelism()} cores.`
  place.fill(`\n${tableOf(headings, cells)}\n\n${machine}\n\n`)
}
