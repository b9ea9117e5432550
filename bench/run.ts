import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { machine, pin } from './machine.ts'
import { comparePeers } from './peers.ts'
import { plot, tableOf, withTable } from './report.ts'
import { type Finding, SCENARIOS, tableOfFindings } from './scenarios.ts'
import { openEnvironment } from './subjects.ts'

// Compares the built gateway, with all features on, with hand-written alternatives in one run. Each subject is its own
// process, and slices alternate. On a shared machine only ratios and CPU times are comparable, not absolute times.

const { values } = parseArgs({
  options: {
    slices: { type: 'string', default: '20' },
    requests: { type: 'string', default: '2000' },
    'warm-up': { type: 'string', default: '20000' },
    rounds: { type: 'string', default: '8' },
    seconds: { type: 'string', default: '4' },
    only: { type: 'string' },
    document: { type: 'boolean', default: false },
  },
})
const [slices, requests] = [Number(values.slices), Number(values.requests)]
const warmUpRequests = Number(values['warm-up'])
const [rounds, seconds] = [Number(values.rounds), Number(values.seconds)]

const print = (line: string): void => void process.stdout.write(`${line}\n`)

const DOCUMENT = join(import.meta.dirname, '../docs/performance.md')

/** Writes a table to a file of `results/` and, with `--document`, to its place in the description. */
const write = (name: string, table: string, extent: string): void => {
  const text = `${table}\n\n${machine()}, ${extent}.\n`
  writeFileSync(join(folder, name), text)
  print(`\n${text}`)
  if (values.document) writeFileSync(DOCUMENT, withTable(readFileSync(DOCUMENT, 'utf8'), name, text))
}

const folder = join(import.meta.dirname, 'results')
mkdirSync(folder, { recursive: true })
pin(process.pid, 'other')
const environment = await openEnvironment()
try {
  if (values.only !== 'scenarios') {
    const results = await comparePeers(environment, { slices, requests, warmUpRequests, print })
    writeFileSync(join(folder, 'peers.svg'), plot(results))
    write('peers.md', tableOf(results), `${slices} slices of ${requests} requests`)
  }
  if (values.only !== 'peers') {
    const findings: Finding[] = []
    for (const scenario of SCENARIOS) {
      print(`scenario ${scenario.name}`)
      findings.push(...(await scenario(environment, { rounds, seconds: 2 * seconds, many: 1000 })))
    }
    write('scenarios.md', tableOfFindings(findings), `${rounds} rounds of ${2 * seconds} s`)
  }
} finally {
  environment.close()
}
