import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { globSync, readFileSync } from 'node:fs'
import { cp, mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { promisify } from 'node:util'
import { temporaryFolder } from '../helpers/gateway.ts'
import { ROOT } from '../helpers/process.ts'

const run = promisify(execFile)
const CLIENT = join(ROOT, 'client')
const read = (path: string): string => readFileSync(join(CLIENT, path), 'utf8')

/** Runs the client's own compiler there. */
const compile = (cwd: string, ...options: readonly string[]) =>
  run(process.execPath, [join(CLIENT, 'node_modules/typescript/bin/tsc'), ...options], { cwd })

test('the sources of the client import its one dependency and each other, and nothing else', () => {
  const imports = globSync('src/**/*.ts', { cwd: CLIENT }).flatMap((path) =>
    [...read(path).matchAll(/\b(?:from|import|require)\s*\(?\s*['"]([^'"]+)['"]/g)].map(([, from]) => from),
  )
  assert.deepEqual([...new Set(imports)].sort(), ['./schema.ts', 'openapi-fetch'])
  assert.deepEqual(Object.keys(JSON.parse(read('package.json')).dependencies), ['openapi-fetch'])
})

/** Whether a source compiles under the options that the client's sources and example compile under. */
const compiles = async (t: TestContext, source: string): Promise<string> => {
  const folder = await temporaryFolder(t)
  await writeFile(join(folder, 'probe.ts'), source)
  await writeFile(join(folder, 'package.json'), '{"type":"module"}')
  await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'))
  const config = { extends: join(CLIENT, 'tsconfig.json'), include: ['probe.ts'] }
  await writeFile(join(folder, 'tsconfig.json'), JSON.stringify(config))
  return compile(folder).then(
    () => 'yes',
    ({ stdout }) => stdout,
  )
}

test('the client uses only features that browsers have', async (t) => {
  assert.equal(await compiles(t, "export const a = new URL('http://a'), b = fetch(a), c = document.title"), 'yes')
})

for (const source of ['process.env', "Buffer.from('a')", 'setImmediate', "await import('node:fs')"]) {
  test(`no Node API compiles in the client: ${source}`, async (t) => {
    assert.match(await compiles(t, `export const a = ${source}`), /Cannot find (name|module)/)
  })
}

/** A package that has the client installed, built as its own command builds it, and nothing of this repository's. */
const installBuilt = async (t: TestContext): Promise<string> => {
  const folder = await temporaryFolder(t)
  const installed = join(folder, 'node_modules/@domain-task-gateway/client')
  await mkdir(installed, { recursive: true })
  await compile(CLIENT, '-p', 'tsconfig.build.json', '--outDir', join(installed, 'dist'))
  await cp(join(CLIENT, 'package.json'), join(installed, 'package.json'))
  for (const name of ['openapi-fetch', 'openapi-typescript-helpers']) {
    await symlink(join(ROOT, 'node_modules', name), join(folder, 'node_modules', name))
  }
  await writeFile(join(folder, 'package.json'), '{"type":"module"}')
  return folder
}

test('the built client is a module with types, found by its name', async (t) => {
  const folder = await installBuilt(t)
  const example = read('example/cancel.ts').replace('../src/index.ts', '@domain-task-gateway/client')
  const strict = ['--strict', '--noEmit', '--target', 'ES2022', '--skipLibCheck']
  await writeFile(join(folder, 'example.ts'), example)
  for (const module of ['NodeNext', 'ESNext --moduleResolution bundler']) {
    await assert.doesNotReject(compile(folder, ...strict, '--module', ...module.split(' '), 'example.ts'), module)
  }
  await writeFile(
    join(folder, 'use.js'),
    "console.log(Object.keys(await import('@domain-task-gateway/client')).join())",
  )
  const { stdout } = await run(process.execPath, ['use.js'], { cwd: folder })
  assert.equal(stdout.trim(), 'createGatewayClient,isProblem')
})
