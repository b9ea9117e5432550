import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT } from './process.ts'

const PATH = join(ROOT, 'docs/reliability.md')

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
const HEADINGS = ['Fault', 'Request', 'Answer', 'Record', 'Upstream'] as const

const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`

const tableOf = (rows: readonly FaultRow[]): string =>
  [
    line(HEADINGS),
    line(HEADINGS.map(() => '---')),
    ...rows.map((row) => line(COLUMNS.map((column) => row[column]))),
  ].join('\n')

/**
 * Holds the table of that name in docs/reliability.md to what was found, or puts that in its place where
 * `WRITE_RELIABILITY` is set.
 */
export const holdTable = (name: string, rows: readonly FaultRow[]): void => {
  const [begin, end] = [`<!-- ${name}: begin -->\n`, `\n<!-- ${name}: end -->`]
  const text = readFileSync(PATH, 'utf8')
  const [from, to] = [text.indexOf(begin) + begin.length, text.indexOf(end)]
  assert.ok(from >= begin.length && to >= from, `docs/reliability.md has no place for the table "${name}"`)
  const found = `\n${tableOf(rows)}\n`
  if (process.env.WRITE_RELIABILITY === 'true') writeFileSync(PATH, text.slice(0, from) + found + text.slice(to))
  else assert.equal(text.slice(from, to), found)
}
