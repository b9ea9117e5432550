import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { types } from 'node:util'
import { build } from 'esbuild'
import { TARGETS } from './targets.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const CACHE = join(ROOT, 'node_modules/.cache/fuzz')
/** Filled by `newer-libc.sh`. */
export const LIBC_FOLDER = join(CACHE, 'libc')
export const CORPUS = join(import.meta.dirname, 'corpus')

const CLI = fileURLToPath(import.meta.resolve('@jazzer.js/core/dist/cli.js'))
const BUNDLE = join(CACHE, 'bundle/targets.mjs')

/** One execution may take so long: a text of a few thousand characters that takes longer blocks the event loop. */
const TIMEOUT_MS = 5000
/** Larger inputs of the corpus count too. */
const INPUT_MAX = 4096

const isRunning = (command: readonly string[]): boolean => {
  const [program = '', ...args] = command
  try {
    execFileSync(program, [...args, CLI, '--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

/** The command of Node with which the addon of Jazzer.js can be loaded; null where the C library is too old. */
export const findNode = (): readonly string[] | null => {
  const libraries = join(LIBC_FOLDER, 'lib')
  const loader = existsSync(libraries) ? readdirSync(libraries).find((name) => name.startsWith('ld-linux')) : undefined
  const commands = [
    [process.execPath],
    ...(loader === undefined ? [] : [[join(libraries, loader), '--library-path', libraries, process.execPath]]),
  ]
  return commands.find(isRunning) ?? null
}

/** The targets and the sources of the gateway in one file, which Jazzer.js instruments. Packages stay as they are. */
export const bundleTargets = async (): Promise<void> => {
  await build({
    absWorkingDir: ROOT,
    entryPoints: { targets: join(import.meta.dirname, 'entry.ts') },
    outfile: BUNDLE,
    bundle: true,
    packages: 'external',
    format: 'esm',
    platform: 'node',
    target: 'node24',
    logLevel: 'warning',
  })
}

export interface FuzzOptions {
  /** The command of `findNode`. */
  readonly node: readonly string[]
  /** A name in `TARGETS`, or `any` for all of them. */
  readonly target: string
  /** New inputs are written to the first folder, which exists. */
  readonly corpus: readonly [string, ...string[]]
  /** An input that fails is written to it. */
  readonly artifacts: string
  /** Options of libFuzzer. */
  readonly flags: readonly string[]
  /** Ends the process. */
  readonly signal?: AbortSignal
}

export interface FuzzResult {
  /** 0 where nothing was found. */
  readonly code: number | null
  /** Without the progress that libFuzzer reports. */
  readonly output: string
  readonly executions: number
  /** Edges of the bundle that were reached, and edges with how often. */
  readonly edges: number
  readonly features: number
}

/** Runs one target in a process of its own. The targets must be bundled. */
export const fuzz = async ({ node, target, corpus, artifacts, flags, signal }: FuzzOptions): Promise<FuzzResult> => {
  const [program = '', ...args] = node
  const isAsync = target === 'any' || types.isAsyncFunction(TARGETS.get(target))
  const command = [
    ...[...args, CLI, BUNDLE, ...corpus, ...(isAsync ? [] : ['--sync'])],
    ...['--includes', '/.cache/fuzz/bundle/', '--timeout', String(TIMEOUT_MS), '--'],
    ...[`-artifact_prefix=${artifacts}/`, `-max_len=${INPUT_MAX}`, '-print_final_stats=1', ...flags],
  ]
  const child = spawn(program, command, {
    cwd: artifacts,
    env: { PATH: process.env.PATH, FUZZ_TARGET: target, NODE_NO_WARNINGS: '1' },
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(signal === undefined ? {} : { signal, killSignal: 'SIGKILL' }),
  })
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  const all = `${stdout}${stderr}`
  const counts = [...all.matchAll(/^(?:#|stat::number_of_executed_units:\s*|Done )(\d+)/gm)]
  const [, edges = '0', features = '0'] = [...all.matchAll(/cov: (\d+) ft: (\d+)/g)].at(-1) ?? []
  return {
    code,
    output: all.replace(/^(#|INFO:|Dictionary:|stat::|Done ).*\n/gm, ''),
    executions: Math.max(0, ...counts.map(([, count]) => Number(count))),
    edges: Number(edges),
    features: Number(features),
  }
}
