import { cpuRatio, growth, type Ratio, type Result } from './peers.ts'

const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`

const textOf = ({ median, low, high }: Ratio): string => `${median.toFixed(2)} (${low.toFixed(2)}–${high.toFixed(2)})`

const HEADINGS = [
  ...[
    '',
    'CPU at 16 (µs)',
    'at 1,000',
    'of 16',
    'of by-hand',
    'of express-got',
    'of openapi-client',
    'Requests/s at 16',
    'at 1,000',
    'p50 (ms)',
    'p99',
    'p99.9',
  ],
  ...['Start-up (ms)', 'Idle (MiB)', 'Peak (MiB)'],
]

/**
 * Medians, and ratios of CPU time with quartiles: of 1,000 cancels in flight to 16, and to three peers. Ratios to peers
 * and latencies are at concurrency 16.
 */
export const tableOf = (results: readonly Result[]): string => {
  const ratioTo = (result: Result, peer: string): string => {
    const other = results.find(({ name }) => name === peer)
    if (other === undefined) return ''
    return textOf(cpuRatio(result, other, 16))
  }
  const rows = results.map((result) => {
    const { name, medians, startedInMs, idleMiB, peakMiB } = result
    const [few, many] = [medians.get(16), medians.get(1000)]
    if (few === undefined || many === undefined) throw new Error(`${name} was not measured`)
    return [
      ...[name, few.cpuMicroseconds.toFixed(0), many.cpuMicroseconds.toFixed(0), textOf(growth(result, 16, 1000))],
      ...['by-hand', 'express-got', 'openapi-client'].map((peer) => ratioTo(result, peer)),
      ...[few.perSecond, many.perSecond, few.p50Ms, few.p99Ms, few.p999Ms, startedInMs, idleMiB, peakMiB].map(
        (figure) => figure.toFixed(0),
      ),
    ]
  })
  return [HEADINGS, HEADINGS.map(() => '---'), ...rows].map(line).join('\n')
}

const [WIDTH, BAR, GAP, LABEL] = [640, 18, 10, 150]

/** CPU time per request: two bars for each subject, at concurrency 16 and 1,000. */
export const plot = (results: readonly Result[]): string => {
  const most = Math.max(...results.flatMap(({ medians }) => [...medians.values()].map((one) => one.cpuMicroseconds)))
  const rows = results.flatMap(({ name, medians }, at) =>
    [...medians].map(([concurrency, { cpuMicroseconds }], index) => {
      const y = 30 + at * (2 * BAR + GAP) + index * BAR
      const width = ((WIDTH - LABEL - 110) * cpuMicroseconds) / most
      const label = index === 0 ? `<text x="${LABEL - 8}" y="${y + BAR}" text-anchor="end">${name}</text>` : ''
      const bar = `<rect x="${LABEL}" y="${y + 1}" width="${width.toFixed(1)}" height="${BAR - 2}" fill="${index === 0 ? '#2f6fab' : '#9bbbd8'}"/>`
      const figure = `<text x="${LABEL + width + 6}" y="${y + 13}">${cpuMicroseconds.toFixed(0)}${index === 0 ? '' : ` at ${concurrency}`}</text>`
      return `${label}${bar}${figure}`
    }),
  )
  const height = 30 + results.length * (2 * BAR + GAP)
  const title = `<title>CPU a cancel</title><text x="${LABEL}" y="18" font-weight="bold">CPU a cancel (µs), 16 and 1,000 at a time</text>`
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n${title}\n${rows.join('\n')}\n</svg>\n`
}

/** A document with another table between the comments that name it. @throws if the document has no place for it */
export const withTable = (document: string, name: string, table: string): string => {
  const place = new RegExp(`(<!-- ${name} -->\\n)[^]*?(<!-- end of ${name} -->)`)
  if (!place.test(document)) throw new Error(`the document has no place for ${name}`)
  return document.replace(place, (_all, start, end) => `${start}\n${table}\n${end}`)
}
