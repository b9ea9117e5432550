import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { machine, pin } from './machine.ts'
import { comparePeers } from './peers.ts'
import { plot, tableOf } from './report.ts'
import { type Finding, SCENARIOS, tableOfFindings } from './scenarios.ts'
import { openEnvironment } from './subjects.ts'

// The built gateway with everything on, beside what one would write instead, in one run: round by round, each in a process
// of its own. Times of shared machines tell little; their ratios, and CPU time, do.

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '4' },
    only: { type: 'string' },
  },
})
const [rounds, seconds] = [Number(values.rounds), Number(values.seconds)]

const tell = (line: string): void => void process.stdout.write(`${line}\n`)

const write = (name: string, table: string): void => {
  const text = `${table}\n\n${machine()}, ${rounds} rounds of ${seconds} s.\n`
  writeFileSync(join(folder, name), text)
  tell(`\n${text}`)
}

const folder = join(import.meta.dirname, 'results')
mkdirSync(folder, { recursive: true })
pin(process.pid, 'other')
const ground = await openEnvironment()
try {
  if (values.only !== 'scenarios') {
    const results = await comparePeers(ground, { rounds, seconds, warmUpSeconds: 10, tell })
    writeFileSync(join(folder, 'peers.svg'), plot(results))
    write('peers.md', tableOf(results))
  }
  if (values.only !== 'peers') {
    const findings: Finding[] = []
    for (const scenario of SCENARIOS) {
      tell(`scenario ${scenario.name}`)
      findings.push(...(await scenario(ground, { rounds, seconds: 2 * seconds, many: 1000 })))
    }
    write('scenarios.md', tableOfFindings(findings))
  }
} finally {
  ground.close()
}
