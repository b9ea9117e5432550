import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { bundleTargets, CORPUS, findNode, fuzz, LIBC_FOLDER } from './jazzer.ts'
import { TARGETS } from './targets.ts'

// `npm run fuzz:parsers`: each target in turn, for ten minutes together. FUZZ_SECONDS and FUZZ_TARGETS (names with
// commas) say otherwise.

const SECONDS = Number(process.env.FUZZ_SECONDS ?? 600)
const names = process.env.FUZZ_TARGETS?.split(',') ?? [...TARGETS.keys()]
const unknown = names.filter((name) => !TARGETS.has(name))
if (unknown.length > 0) throw new Error(`FUZZ_TARGETS: ${unknown} is not one of ${[...TARGETS.keys()]}`)
const AT_ONCE = Math.min(availableParallelism(), names.length)

const prepareNode = (): readonly string[] => {
  const node = findNode()
  if (node !== null) return node
  execFileSync(join(import.meta.dirname, 'newer-libc.sh'), [LIBC_FOLDER], { stdio: 'inherit' })
  const newer = findNode()
  if (newer === null) throw new Error('Jazzer.js cannot be loaded, also with the newer C library')
  return newer
}

const node = prepareNode()
await bundleTargets()
const folder = mkdtempSync(join(tmpdir(), 'fuzz-'))
const seconds = Math.max(1, Math.floor((SECONDS * AT_ONCE) / names.length))
console.log(`${names.length} targets, ${seconds} s each, ${AT_ONCE} at once; new inputs are in ${folder}`)

const runOne = async (target: string): Promise<boolean> => {
  const [found, artifacts] = [join(folder, target), join(folder, `${target}-failures`)]
  for (const path of [found, artifacts]) mkdirSync(path)
  const flags = [`-max_total_time=${seconds}`, '-use_value_profile=1']
  const corpus = [found, join(CORPUS, target)] as const
  const { code, output, executions, edges, features } = await fuzz({ node, target, corpus, artifacts, flags })
  const news = readdirSync(found).length
  console.log(`${target}: ${executions} executions, ${edges} edges, ${features} features, ${news} new inputs`)
  if (code === 0) return true
  console.log(output)
  for (const file of readdirSync(artifacts)) {
    console.log(`It fails with ${join(artifacts, file)}: fix the fault, and add the file to ${join(CORPUS, target)}.`)
  }
  return false
}

const queue = [...names]
const results: boolean[] = []
await Promise.all(
  Array.from({ length: AT_ONCE }, async () => {
    for (let target = queue.shift(); target !== undefined; target = queue.shift()) results.push(await runOne(target))
  }),
)
process.exitCode = results.every(Boolean) ? 0 : 1
