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

const [WIDTH, BAR, GAP, TEXT, TOP] = [720, 16, 14, 18, 48]
const FIGURE_WIDTH = 150

/** What each contestant contains, for the picture. */
const CONTENTS: Readonly<Record<string, string>> = {
  'the gateway': 'everything on: tokens, limits, audit trail with two durable writes per cancel, logs, metrics',
  'by-hand': 'Express, helmet, express-rate-limit, a JWT check, pino, the vendor’s client; no audit trail',
  'express-got': 'Express, got and the signature, nothing else',
  'openapi-client': 'Express and the vendor’s newer client, nothing else',
  'pop-core': 'Express and the vendor’s older client, nothing else',
  floor: 'node:http in and out, and the signature',
}

/** CPU time per request: two bars for each subject, at concurrency 16 and 1,000. */
export const plot = (results: readonly Result[]): string => {
  const most = Math.max(...results.flatMap(({ medians }) => [...medians.values()].map((one) => one.cpuMicroseconds)))
  const rows = results.flatMap(({ name, medians }, at) => {
    const top = TOP + at * (TEXT + 2 * BAR + GAP)
    const heading = `<text x="8" y="${top + 12}"><tspan font-weight="bold">${name}</tspan> <tspan fill="#555">${CONTENTS[name] ?? ''}</tspan></text>`
    const bars = [...medians].map(([concurrency, { cpuMicroseconds }], index) => {
      const y = top + TEXT + index * BAR
      const width = ((WIDTH - FIGURE_WIDTH) * cpuMicroseconds) / most
      const bar = `<rect x="8" y="${y + 1}" width="${width.toFixed(1)}" height="${BAR - 2}" fill="${index === 0 ? '#2f6fab' : '#9bbbd8'}"/>`
      return `${bar}<text x="${(width + 14).toFixed(1)}" y="${y + 12}">${cpuMicroseconds.toFixed(0)} µs, ${concurrency} in flight</text>`
    })
    return [heading, ...bars]
  })
  const height = TOP + results.length * (TEXT + 2 * BAR + GAP)
  const title = `<title>CPU time per cancel</title><text x="8" y="18" font-size="14" font-weight="bold">CPU time per cancel (µs): lower is better</text><text x="8" y="36" fill="#555">User and system time of the whole process, divided by its cancels. Dark: 16 cancels in flight. Light: 1,000.</text>`
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n${title}\n${rows.join('\n')}\n</svg>\n`
}

/** A document with another table between the comments that name it. @throws if the document has no place for it */
export const withTable = (document: string, name: string, table: string): string => {
  const place = new RegExp(`(<!-- ${name} -->\\n)[^]*?(<!-- end of ${name} -->)`)
  if (!place.test(document)) throw new Error(`the document has no place for ${name}`)
  return document.replace(place, (_all, start, end) => `${start}\n${table}\n${end}`)
}
