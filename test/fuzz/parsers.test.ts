import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { temporaryFolder } from '../helpers/gateway.ts'
import { bundleTargets, CORPUS, findNode, fuzz } from './jazzer.ts'
import { TARGETS } from './targets.ts'

// The short form of `npm run fuzz:parsers`.

const SEED = 7
const RUNS = 10_000
const RUNS_TO_PLANTED_FAULT = 200_000

const inputsOf = (target: string): readonly Buffer[] =>
  readdirSync(join(CORPUS, target)).map((file) => readFileSync(join(CORPUS, target, file)))

test('the corpus has inputs of each target, and no other folder', () => {
  assert.deepEqual(readdirSync(CORPUS).sort(), [...TARGETS.keys()].sort())
})

for (const [target, check] of TARGETS) {
  test(`${target}: each input of the corpus keeps the properties`, async () => {
    for (const input of inputsOf(target)) await check(input)
  })
}

const node = findNode()
const skip = node === null && 'the C library is older than glibc 2.38: run test/fuzz/newer-libc.sh as .ci/run does'

const prepare = async (t: TestContext) => {
  const [folder] = await Promise.all([temporaryFolder(t), bundleTargets()])
  const [corpus, artifacts] = [join(folder, 'corpus'), join(folder, 'failures')]
  for (const path of [corpus, artifacts]) mkdirSync(path)
  return {
    corpus,
    artifacts,
    failures: () => readdirSync(artifacts).map((file) => readFileSync(join(artifacts, file))),
  }
}

test('inputs that coverage leads to keep the properties', { skip }, async (t) => {
  const { signal } = t
  const { corpus, artifacts, failures } = await prepare(t)
  for (const [index, target] of [...TARGETS.keys()].entries()) {
    for (const [at, input] of inputsOf(target).entries()) {
      writeFileSync(join(corpus, `${target}-${at}`), Buffer.concat([Buffer.of(index), input]))
    }
  }
  const flags = [`-runs=${RUNS}`, `-seed=${SEED}`]
  const result = await fuzz({ node: node ?? [], target: 'any', corpus: [corpus], artifacts, flags, signal })
  assert.equal(
    result.code,
    0,
    `${result.output}\n${failures().map((input) => JSON.stringify(input.toString('latin1')))}`,
  )
  assert.ok(result.executions >= RUNS, String(result.executions))
})

test('the fuzzer finds a planted fault that chance does not find', { skip }, async (t) => {
  const { signal } = t
  const { corpus, artifacts, failures } = await prepare(t)
  const flags = [`-runs=${RUNS_TO_PLANTED_FAULT}`, `-seed=${SEED}`]
  const { code, output } = await fuzz({
    node: node ?? [],
    target: 'planted',
    corpus: [corpus],
    artifacts,
    flags,
    signal,
  })
  const found = failures().map((input) => input.toString('latin1').slice(0, 6))
  assert.deepEqual([code, found], [77, ['Prefer']], output)
})
