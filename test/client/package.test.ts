import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { globSync, readFileSync } from 'node:fs'
import { rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { promisify } from 'node:util'
import { build } from 'esbuild'
import { CLIENT, compile, installPacked } from '../helpers/client-package.ts'
import { temporaryFolder } from '../helpers/gateway.ts'
import { ROOT } from '../helpers/process.ts'

const run = promisify(execFile)
const read = (path: string): string => readFileSync(join(CLIENT, path), 'utf8')

test('the sources of the client import its one dependency and each other, and nothing else', () => {
  const imports = globSync('src/**/*.ts', { cwd: CLIENT }).flatMap((path) =>
    [...read(path).matchAll(/\b(?:from|import|require)\s*\(?\s*['"]([^'"]+)['"]/g)].map(([, from]) => from),
  )
  assert.deepEqual([...new Set(imports)].sort(), [
    './cancel-and-wait.ts',
    './problem.ts',
    './schema.ts',
    'openapi-fetch',
  ])
  assert.deepEqual(Object.keys(JSON.parse(read('package.json')).dependencies), ['openapi-fetch'])
})

/** The errors of sources under the options that the client's sources and example compile under, by file. */
const compileProbes = async (t: TestContext, sources: Readonly<Record<string, string>>): Promise<string> => {
  const folder = await temporaryFolder(t)
  for (const [name, source] of Object.entries(sources)) await writeFile(join(folder, name), source)
  await writeFile(join(folder, 'package.json'), '{"type":"module"}')
  await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'))
  const config = { extends: join(CLIENT, 'tsconfig.json'), include: ['*.ts'] }
  await writeFile(join(folder, 'tsconfig.json'), JSON.stringify(config))
  return compile(folder).then(
    () => '',
    ({ stdout }) => stdout,
  )
}

const OF_NODE = {
  'process.ts': 'process.env',
  'buffer.ts': "Buffer.from('a')",
  'immediate.ts': 'setImmediate',
  'import.ts': "await import('node:fs')",
} as const

test('the client uses only features that browsers have: none of Node compiles', async (t) => {
  const wrong = Object.entries(OF_NODE).map(([name, source]) => [name, `export const a = ${source}`])
  const browser = "export const a = new URL('http://a'), b = fetch(a), c = document.title"
  const errors = await compileProbes(t, { ...Object.fromEntries(wrong), 'browser.ts': browser })
  for (const name of Object.keys(OF_NODE)) {
    assert.match(errors, new RegExp(`^${name}\\(1,\\d+\\): error \\w+: Cannot find (name|module)`, 'm'))
  }
  assert.doesNotMatch(errors, /browser\.ts/)
})

/** Compiles only if the types of the client are found, and are no `any`. */
const PROBE = `
import { createGatewayClient, isProblem, type CancelResult } from '@domain-task-gateway/client'
const client = createGatewayClient({ baseUrl: '', session: true, headers: async () => ({ a: 'b' }) })
export const result: Promise<CancelResult> = client.cancelAndWait('a', { timeoutMs: 1 })
export const isGone = (error: unknown): boolean => isProblem(error, 'task-not-found')
// @ts-expect-error
client.GET('/no-such-path')
// @ts-expect-error
isProblem(null, 'no-such-code')
export const read = async (): Promise<string | undefined> => {
  const { data } = await client.GET('/tasks/{taskNo}', { params: { path: { taskNo: 'a' } } })
  // @ts-expect-error
  data?.noSuchField
  return data?.taskNo
}
`

const RESOLVERS = {
  node10: ['--module', 'esnext', '--moduleResolution', 'node10', '--ignoreDeprecations', '5.0'],
  nodenext: ['--module', 'nodenext'],
  bundler: ['--module', 'esnext', '--moduleResolution', 'bundler'],
} as const

test('the packed client has its types for old and new resolvers, and runs bundled and unbundled', async (t) => {
  const { folder, files } = await installPacked(t)
  for (const name of ['LICENSE', 'README.md', 'package.json', 'dist/index.js', 'dist/index.d.ts']) {
    assert.ok(files.includes(name), `${name} is not in the package`)
  }
  assert.deepEqual(
    files.filter((name) => !/^(LICENSE|README\.md|package\.json|dist\/[\w-]+\.(js|d\.ts))$/.test(name)),
    [],
  )

  const example = read('example/cancel.ts').replace('../src/index.ts', '@domain-task-gateway/client')
  await writeFile(join(folder, 'example.ts'), example)
  await writeFile(join(folder, 'probe.ts'), PROBE)
  const strict = ['--strict', '--noEmit', '--target', 'ES2022', '--lib', 'ES2022,DOM', '--skipDefaultLibCheck']
  const compiled = Object.values(RESOLVERS).map((options) =>
    compile(folder, ...strict, ...options, 'example.ts', 'probe.ts').then(
      () => '',
      ({ stdout }) => stdout,
    ),
  )
  assert.deepEqual(await Promise.all(compiled), Object.keys(RESOLVERS).fill(''))

  const use = "import * as client from '@domain-task-gateway/client'; console.log(Object.keys(client).sort().join())"
  await writeFile(join(folder, 'use.js'), use)
  const { metafile } = await build({
    ...{ absWorkingDir: folder, entryPoints: ['use.js'], outfile: 'bundle.js', bundle: true, metafile: true },
    ...{ format: 'esm', platform: 'browser', target: 'es2022', logLevel: 'silent' },
  })
  assert.deepEqual(metafile.outputs['bundle.js']?.imports, [])
  await rm(join(folder, 'node_modules/openapi-fetch'))
  const bundled = await run(process.execPath, ['bundle.js'], { cwd: folder })
  await symlink(join(ROOT, 'node_modules/openapi-fetch'), join(folder, 'node_modules/openapi-fetch'))
  const unbundled = await run(process.execPath, ['use.js'], { cwd: folder })
  assert.deepEqual([bundled.stdout.trim(), unbundled.stdout], ['createGatewayClient,isProblem', bundled.stdout])
})

test('the licence of the client is that of the repository', () => {
  assert.equal(read('LICENSE'), readFileSync(join(ROOT, 'LICENSE'), 'utf8'))
})
