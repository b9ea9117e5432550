import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { hash } from 'node:crypto'
import { globSync, readFileSync } from 'node:fs'
import { cp, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { promisify } from 'node:util'
import { Ajv } from 'ajv'
import formats from 'ajv-formats'
import { build } from 'esbuild'
import type { PackedClient } from '../../build/client.ts'
import { writeRelease } from '../../build/release.ts'
import { staleFiles, VERSIONED_FILES, writeVersions } from '../../build/version.ts'
import { CLIENT, compile, installArchive } from '../helpers/client-package.ts'
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

/** Licences whose terms the notices meet. A dependency with another one needs a decision. */
const LICENCES = ['0BSD', 'Apache-2.0', 'BlueOak-1.0.0', 'BSD-2-Clause', 'BSD-3-Clause', 'ISC', 'MIT']

interface Bill {
  readonly metadata: { readonly component: { readonly name: string; readonly version: string } }
  readonly components: readonly {
    readonly name: string
    readonly licenses: readonly { readonly expression: string }[]
    readonly hashes: readonly { readonly content: string }[]
  }[]
}

/** The errors of a bill of materials under the schema of CycloneDX, which the official library brings along. */
const createBillValidator = () => {
  const library = import.meta.resolve('@cyclonedx/cyclonedx-library/package.json')
  const read = (file: string) => JSON.parse(readFileSync(new URL(`res/schema/${file}`, library), 'utf8'))
  const referenced = ['spdx.SNAPSHOT.schema.json', 'jsf-0.82.SNAPSHOT.schema.json']
  const schemas = Object.fromEntries(referenced.map((file) => [`http://cyclonedx.org/schema/${file}`, read(file)]))
  const ajv = new Ajv({ strict: false, schemas, formats: { 'idn-email': true, 'iri-reference': true } })
  formats.default(ajv)
  const validate = ajv.compile(read('bom-1.5.SNAPSHOT.schema.json'))
  return (bill: unknown) => (validate(bill) ? [] : validate.errors)
}

const checkRelease = async (folder: string, { archive, files }: PackedClient): Promise<void> => {
  for (const name of ['LICENSE', 'README.md', 'package.json', 'dist/index.js', 'dist/index.d.ts']) {
    assert.ok(files.includes(name), `${name} is not in the package`)
  }
  assert.deepEqual(
    files.filter((name) => !/^(LICENSE|README\.md|package\.json|dist\/[\w-]+\.(js|d\.ts))$/.test(name)),
    [],
  )

  const names = [
    ...['NOTES.md', 'SHA256SUMS', 'THIRD-PARTY-NOTICES.txt', 'client.sbom.cdx.json', 'gateway.sbom.cdx.json'],
    archive,
  ]
  assert.deepEqual((await readdir(folder)).sort(), names.sort())
  const sums = names
    .filter((name) => name !== 'SHA256SUMS')
    .map((name) => `${hash('sha256', readFileSync(join(folder, name)))}  ${name}\n`)
  assert.equal(readFileSync(join(folder, 'SHA256SUMS'), 'utf8'), sums.join(''))

  const { name, version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
  const errorsOf = createBillValidator()
  assert.notDeepEqual(errorsOf({ bomFormat: 'CycloneDX', specVersion: '1.5', components: [{}] }), [])
  const bills = ['gateway', 'client'].map((of): Bill => {
    const bill = JSON.parse(readFileSync(join(folder, `${of}.sbom.cdx.json`), 'utf8'))
    assert.deepEqual(errorsOf(bill), [], of)
    return bill
  })
  assert.deepEqual(
    bills.map(({ metadata: { component } }) => [component.name, component.version]),
    [name, '@domain-task-gateway/client'].map((each) => [each, version]),
  )
  assert.deepEqual(
    bills[1]?.components.map((each) => each.name),
    ['openapi-fetch', 'openapi-typescript-helpers'],
  )
  const components = bills.flatMap((bill) => bill.components)
  const others = components.filter(({ licenses }) => !LICENCES.includes(licenses[0]?.expression ?? ''))
  assert.deepEqual(others, [])
  assert.deepEqual(
    components.filter(({ hashes }) => !/^[0-9a-f]{128}$/.test(hashes[0]?.content ?? '')),
    [],
  )
}

test('the packed client of a release has its types for old and new resolvers, and runs in both forms', async (t) => {
  const released = await temporaryFolder(t)
  const { client } = await writeRelease(released, true)
  await t.test('the files of the release', () => checkRelease(released, client))
  const folder = await installArchive(t, join(released, client.archive))

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

test('npm version changes the version in every file that repeats it', async (t) => {
  assert.equal(JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')).scripts.version, 'node build/version.ts')
  const folder = await temporaryFolder(t)
  for (const file of VERSIONED_FILES) await cp(join(ROOT, file), join(folder, file))
  await writeFile(join(folder, 'package.json'), '{"version":"1.20.3"}')
  // The lock file states it four times.
  assert.equal(staleFiles(folder).length, VERSIONED_FILES.length + 3)
  writeVersions(folder)
  assert.deepEqual(staleFiles(folder), [])
})
