import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { cp, mkdir, stat } from 'node:fs/promises'
import { basename, join, relative, resolve } from 'node:path'
import { promisify } from 'node:util'
import { ROOT } from './process.ts'

export interface Instruction {
  readonly name: string
  readonly value: string
}

export interface Stage {
  readonly name: string
  readonly base: string
  readonly steps: readonly Instruction[]
}

const run = promisify(execFile)

/** Without comments, and with continuation lines joined. */
export const parseDockerfile = (source: string): readonly Instruction[] =>
  source
    .replace(/^#.*\n/gm, '')
    .replace(/\\\n\s*/g, '')
    .split('\n')
    .flatMap((line) => {
      const [, name, value] = /^([A-Z]+)\s+(.*)$/.exec(line) ?? []
      return name === undefined || value === undefined ? [] : [{ name, value }]
    })

export const stagesOf = (instructions: readonly Instruction[]): readonly Stage[] => {
  const starts = instructions.flatMap(({ name }, index) => (name === 'FROM' ? [index] : []))
  return starts.map((start, index) => {
    const [base = '', , name = 'final'] = instructions[start]?.value.split(' ') ?? []
    return { name, base, steps: instructions.slice(start + 1, starts[index + 1]) }
  })
}

/** The last line that matches a path or one of its parents applies. The only supported pattern is `*`. */
export const parseDockerignore = (source: string) => {
  const lines = source.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  const isInContext = (path: string): boolean => {
    const deciding = lines.findLast((line) => {
      const pattern = line.replace(/^!/, '')
      return pattern === '*' || path === pattern || path.startsWith(`${pattern}/`)
    })
    return deciding === undefined || deciding.startsWith('!')
  }
  return { lines, isInContext }
}

/** Runs COPY, WORKDIR, ENV and RUN of each stage in its own folder below `folder`; skips stages that need apt. */
export const runStages = async (folder: string, stages: readonly Stage[]): Promise<void> => {
  const { isInContext } = parseDockerignore(readFileSync(join(ROOT, '.dockerignore'), 'utf8'))
  const followed = new Map<string, Promise<void>>()
  const places = { rootOf: (stage: string) => join(folder, stage), isInContext, followed }
  for (const stage of stages) {
    if (!needsApt(stage)) followed.set(stage.name, runStage(stage, places))
  }
  await Promise.all(followed.values())
}

const needsApt = ({ steps }: Stage): boolean => steps.some(({ name, value }) => name === 'RUN' && /apt-get/.test(value))

interface Places {
  rootOf(stage: string): string
  isInContext(path: string): boolean
  readonly followed: ReadonlyMap<string, Promise<void>>
}

const runStage = async ({ name: stage, steps }: Stage, places: Places): Promise<void> => {
  const root = places.rootOf(stage)
  let workdir = root
  let env: Readonly<Record<string, string>> = {}
  for (const { name, value } of steps) {
    if (name === 'WORKDIR') workdir = join(root, value)
    await mkdir(workdir, { recursive: true })
    if (name === 'RUN' && value.startsWith('npm ci')) await installPackages(value, workdir)
    else if (name === 'RUN') await runCommand(value, workdir, { ...npmEnv(), ...env })
    if (name === 'COPY') await copy(value, { ...places, root, workdir })
    if (name === 'ENV') env = { ...env, ...parseEnv(value, root) }
  }
}

/** The variables of an ENV line. A path in the image becomes the path below `root`. */
export const parseEnv = (value: string, root: string): Readonly<Record<string, string>> =>
  Object.fromEntries(
    value
      .split(' ')
      .map((pair) => pair.split('='))
      .map(([name = '', text = '']) => [name, text.startsWith('/app/') ? join(root, text) : text]),
  )

/** A command for a shell, or one of the image's Node without a shell, which has the form of JSON. */
const runCommand = async (value: string, cwd: string, env: NodeJS.ProcessEnv): Promise<void> => {
  if (!value.startsWith('["/nodejs/bin/node"')) await run('/bin/sh', ['-c', value], { cwd, env })
  else await run(process.execPath, JSON.parse(value).slice(1), { cwd, env })
}

/**
 * npm compares the lock file with `package.json` and with what it would install. The packages are links to those of this
 * repository, which were installed from the same lock file: a second installation takes a minute of CPU time.
 */
const installPackages = async (command: string, workdir: string): Promise<void> => {
  await run('/bin/sh', ['-c', `${command} --dry-run`], { cwd: workdir, env: npmEnv() })
  await run('cp', ['-al', join(ROOT, 'node_modules'), workdir])
}

const copy = async (value: string, places: Places & { readonly root: string; readonly workdir: string }) => {
  const words = value.split(' ')
  const from = words.find((word) => word.startsWith('--from='))?.slice('--from='.length)
  const paths = words.filter((word) => !word.startsWith('--'))
  const target = paths.at(-1) ?? '.'
  if (from !== undefined && !places.followed.has(from)) return
  await places.followed.get(from ?? '')
  const source = from === undefined ? ROOT : places.rootOf(from)
  const destination = target.startsWith('/') ? join(places.root, target) : resolve(places.workdir, target)
  for (const path of paths.slice(0, -1)) {
    const original = join(source, path)
    const isFile = (await stat(original)).isFile()
    await cp(original, isFile && target.endsWith('/') ? join(destination, basename(path)) : destination, {
      recursive: true,
      verbatimSymlinks: true,
      filter: (file) => from !== undefined || places.isInContext(relative(ROOT, file)),
    })
  }
}

/** Without the variables that npm sets for its scripts: they would direct a nested npm to this repository. */
const npmEnv = (): NodeJS.ProcessEnv => ({
  ...Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^npm_(?!config_(registry|cache|userconfig)$)|^NODE_/i.test(name)),
  ),
  npm_config_prefer_offline: 'true',
})
