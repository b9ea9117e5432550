import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { ROOT } from './process.ts'

const RELIABILITY = 'docs/reliability.md'

/** What a cancel or a read met, and what each side knew of it afterwards. */
export interface FaultRow {
  readonly fault: string
  readonly request: string
  /** Status, and what a problem said. */
  readonly answer: string
  /** The outcome on record, and how it was found. */
  readonly record: string
  /** What upstream had received, and what became of the task there. */
  readonly upstream: string
}

const COLUMNS = ['fault', 'request', 'answer', 'record', 'upstream'] as const satisfies readonly (keyof FaultRow)[]
const HEADINGS = ['Fault', 'Request', 'Response', 'Audit record', 'Upstream'] as const

const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`

const tableOf = (headings: readonly string[], rows: readonly (readonly string[])[]): string =>
  [headings, headings.map(() => '---'), ...rows].map(line).join('\n')

/** What stands between the marks of that name, and the document with something else there. */
const openPlace = (name: string, document: string) => {
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

/** Holds the table of that name to what was found, or puts that in its place where `WRITE_RELIABILITY` is set. */
export const holdTable = (name: string, rows: readonly FaultRow[]): void => {
  const place = openPlace(name, RELIABILITY)
  const found = `\n${tableOf(
    HEADINGS,
    rows.map((row) => COLUMNS.map((column) => row[column])),
  )}\n\n`
  if (WRITES) place.fill(found)
  else assert.equal(place.content, found)
}

/** Figures of one run, which no two runs share: they are only written, and only where `WRITE_RELIABILITY` is set. */
export const noteFigures = (
  name: string,
  rows: readonly Readonly<Record<string, string | number>>[],
  document = RELIABILITY,
): void => {
  const place = openPlace(name, document)
  if (!WRITES) return
  const headings = Object.keys(rows[0] ?? {})
  const cells = rows.map((row) => headings.map((heading) => String(row[heading])))
  const day = new Date().toISOString().slice(0, 10)
  const machine = `Measured on ${day} with Node ${process.version} on ${availableParallelism()} cores.`
  place.fill(`\n${tableOf(headings, cells)}\n\n${machine}\n\n`)
}
