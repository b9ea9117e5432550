import { spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { cpuMs, machine } from './machine.ts'
import { median, quantile } from './open-loop.ts'
import { openEnvironment, START } from './subjects.ts'

// Compares starts of the build with those of single modules: `node bench/start.ts [rounds]`, after a build. The
// variants take turns; a ratio is one to the first variant in the same round.

const rounds = Number(process.argv[2] ?? 20)
const ROOT = resolve(import.meta.dirname, '..')
const OPTIONS = START.slice(0, -1)
/** Until memory no longer changes. */
const IDLE_MS = 1500

/** Each module of the gateway compiled on its own, with its packages in `node_modules`. */
const compileModules = (folder: string): string => {
  const compilerOptions = { noEmit: false, allowImportingTsExtensions: false, rootDir: join(ROOT, 'src') }
  const include = [join(ROOT, 'src')]
  const typeRoots = [join(ROOT, 'node_modules/@types')]
  const config = { extends: join(ROOT, 'tsconfig.json'), compilerOptions: { ...compilerOptions, typeRoots }, include }
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(config))
  cpSync(join(ROOT, 'package.json'), join(folder, 'package.json'))
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'))
  run('node_modules/typescript/bin/tsc', '-p', folder, '--outDir', join(folder, 'dist'))
  return join(folder, 'dist/server.js')
}

const run = (...args: readonly string[]): void => {
  const { status } = spawnSync(process.execPath, args, {
    cwd: ROOT,
    stdio: 'inherit',
    env: { ...process.env, ...CACHE },
  })
  if (status !== 0) throw new Error(`${args[0]} ended with ${status}`)
}

const folder = mkdtempSync(join(tmpdir(), 'gateway-start-'))
const CACHE = { NODE_COMPILE_CACHE: join(folder, 'compile-cache') }
const modules = compileModules(folder)
run(...OPTIONS, 'build/compile-cache.ts')

const VARIANTS = [
  { name: 'modules', entry: modules, env: {} },
  { name: 'bundle', entry: 'dist/server.js', env: {} },
  { name: 'bundle and compile cache', entry: 'dist/server.js', env: CACHE },
]
const MEASURES = ['ms', 'cpu', 'idle'] as const

const measure = async ({ entry, env }: (typeof VARIANTS)[number]) => {
  const environment = await openEnvironment([...OPTIONS, entry])
  const gateway = await environment.startGateway('http://127.0.0.1:9', env)
  const cpu = cpuMs(gateway.pid)
  await delay(IDLE_MS)
  const idle = gateway.memoryMiB().now
  await gateway.end()
  environment.close()
  return { ms: gateway.startedInMs, cpu, idle }
}

const results = VARIANTS.map((variant) => ({ variant, found: [] as Awaited<ReturnType<typeof measure>>[] }))
for (let round = 0; round < rounds; round += 1) {
  for (const { variant, found } of round % 2 === 0 ? results : results.toReversed()) found.push(await measure(variant))
}
rmSync(folder, { recursive: true })

const [first] = results
process.stdout.write(`${machine()}, ${rounds} rounds\n\n`)
process.stdout.write('| | Start (ms) | of modules | CPU (ms) | of modules | Idle (MiB) | of modules |\n')
process.stdout.write('| --- | --- | --- | --- | --- | --- | --- |\n')
for (const { variant, found } of results) {
  const cells = MEASURES.flatMap((measured) => {
    const values = found.map((each) => each[measured])
    const ratios = values.map((value, at) => value / (first?.found[at]?.[measured] ?? Number.NaN))
    const spread = `${quantile(ratios, 0.25).toFixed(2)}–${quantile(ratios, 0.75).toFixed(2)}`
    return [median(values).toFixed(0), `${median(ratios).toFixed(2)} (${spread})`]
  })
  process.stdout.write(`| ${variant.name} | ${cells.join(' | ')} |\n`)
}
