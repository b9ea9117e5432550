import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { globSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { promisify } from 'node:util'
import { build } from 'esbuild'
import { compile } from '../helpers/client-package.ts'
import { CANARIES, startGateway, temporaryFolder } from '../helpers/gateway.ts'
import { ROOT } from '../helpers/process.ts'
import { needPackages } from './server.ts'

// Clients that generators of others make of openapi.yaml. Each is compiled, cancels a task, reads its audit record and
// a problem.

const run = promisify(execFile)
const OPENAPI = join(ROOT, 'openapi.yaml')

/** A folder with these packages of npm, without their install scripts. */
const install = async (t: TestContext, ...packages: readonly string[]): Promise<string> => {
  const folder = await temporaryFolder(t)
  await writeFile(join(folder, 'package.json'), '{"type":"module","private":true}')
  const options = ['--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error']
  await run('npm', ['install', '--save-exact', ...options, ...packages], { cwd: folder })
  return folder
}

/** The environment of a client, and a task to cancel. */
const start = async (t: TestContext) => {
  const { url, upstream } = await startGateway(t)
  const env = { PATH: process.env.PATH, GATEWAY_URL: url, GATEWAY_API_KEY: CANARIES.operatorKey }
  return { env, taskNo: upstream.addTask() }
}

const GENERATORS = {
  '@hey-api/openapi-ts': {
    packages: ['@hey-api/openapi-ts@0.99.0', 'typescript@5.9.3'],
    command: ['openapi-ts', '--input', OPENAPI, '--output', 'generated', '--no-log-file'],
    use: `
      import { cancelTask, getCancellation } from './generated'
      import { client } from './generated/client.gen'
      client.setConfig({ baseUrl, headers: { 'X-API-Key': key } })
      const cancel = (taskNo: string) => cancelTask({ path: { taskNo } }).then(({ data, error }) => data ?? error)
      const read = (id: string) => getCancellation({ path: { id } }).then(({ data, error }) => data ?? error)`,
  },
  'swagger-typescript-api': {
    packages: ['swagger-typescript-api@13.13.0'],
    command: ['swagger-typescript-api', 'generate', '--path', OPENAPI, '--output', 'generated', '--name', 'api.ts'],
    use: `
      import { Api, type HttpResponse } from './generated/api'
      const { tasks, cancellations } = new Api({ baseUrl, baseApiParams: { headers: { 'X-API-Key': key } } })
      const bodyOf = <T, E>(call: Promise<HttpResponse<T, E>>): Promise<T | E> =>
        call.then(({ data }) => data, ({ error }: { error: E }) => error)
      const cancel = (taskNo: string) => bodyOf(tasks.cancelTask(taskNo))
      const read = (id: string) => bodyOf(cancellations.getCancellation(id))`,
  },
  orval: {
    packages: ['orval@8.38.0'],
    command: ['orval', '--input', OPENAPI, '--output', 'generated/api.ts', '--client', 'fetch'],
    // Its functions send to paths, as on a page of the gateway.
    use: `
      import { cancelTask, getCancellation } from './generated/api'
      const send = globalThis.fetch
      globalThis.fetch = (input, init) => send(new URL(String(input), baseUrl), init)
      const headers = { 'X-API-Key': key }
      const cancel = (taskNo: string) => cancelTask(taskNo, undefined, { headers }).then(({ data }) => data)
      const read = (id: string) => getCancellation(id, undefined, { headers }).then(({ data }) => data)`,
  },
} as const

/** Compiles only if the client has types for results and problems, and \`code\` tells them apart. */
const programOf = (use: string): string => `
declare const process: { readonly env: Readonly<Record<string, string>>; readonly argv: readonly string[] }
const baseUrl = process.env['GATEWAY_URL'] ?? ''
const key = process.env['GATEWAY_API_KEY'] ?? ''
${use}
const result = await cancel(process.argv[2] ?? '')
if (!result || 'code' in result) throw new Error(result?.code)
console.log(result.cancelStatus)
const record = await read(result.cancellationId)
if (!record || 'code' in record) throw new Error(record?.code)
console.log(record.outcome, record.settledBy)
const problem = await cancel('absent')
if (!problem || !('code' in problem)) throw new Error('no problem')
console.log(problem.status, problem.code)
`

const COMPILER_OPTIONS = ['--target', 'ES2022', '--module', 'esnext', '--moduleResolution', 'bundler']

for (const [name, { packages, command, use }] of Object.entries(GENERATORS)) {
  test(`the client in TypeScript of ${name}`, async (t) => {
    const folder = await install(t, ...packages)
    const [program, ...args] = command
    await run(process.execPath, [join(folder, 'node_modules/.bin', program), ...args], { cwd: folder })
    await writeFile(join(folder, 'use.ts'), programOf(use))
    const errors = await compile(folder, '--strict', '--noEmit', '--skipLibCheck', ...COMPILER_OPTIONS, 'use.ts').then(
      () => '',
      ({ stdout }) => stdout,
    )
    assert.equal(errors, '')
    await build({
      ...{ absWorkingDir: folder, entryPoints: ['use.ts'], outfile: 'use.js', bundle: true },
      ...{ format: 'esm', platform: 'node', logLevel: 'silent' },
    })
    const { env, taskNo } = await start(t)
    const { stdout } = await run(process.execPath, ['use.js', taskNo], { cwd: folder, env })
    assert.equal(stdout, 'accepted\naccepted null\n404 task-not-found\n')
  })
}

/** The last package of npm that contains the generator itself: later ones download it. It reads OpenAPI 3.0 only. */
const OPENAPI_GENERATOR = '@openapitools/openapi-generator-cli@1.0.18-4.3.1'
const CONVERTER = '@apiture/openapi-down-convert@0.14.2'

/** Generates a client into the folder `generated` of the folder that it returns. */
const generate = async (t: TestContext, ...options: readonly string[]): Promise<string> => {
  const folder = await install(t, OPENAPI_GENERATOR, CONVERTER)
  const converter = join(folder, 'node_modules/.bin/openapi-down-convert')
  await run(process.execPath, [converter, '--input', OPENAPI, '--output', 'openapi.yaml'], { cwd: folder })
  const converted = await readFile(join(folder, 'openapi.yaml'), 'utf8')
  // The converter leaves `summary`, which 3.0 does not have; the generator fails on null in an enum of Python.
  const readable = converted.replace(/^ {2}summary: .*\n/m, '').replace(/^ *- null\n/gm, '')
  await writeFile(join(folder, 'openapi.yaml'), readable)
  const archive = join(folder, 'node_modules/@openapitools/openapi-generator-cli/bin/openapi-generator.jar')
  await run('/usr/bin/java', ['-jar', archive, 'generate', '-i', 'openapi.yaml', '-o', 'generated', ...options], {
    cwd: folder,
  })
  return folder
}

const USES = join(import.meta.dirname, 'generated')

test('the client in Python of OpenAPI Generator', async (t) => {
  needPackages({
    'default-jdk-headless': '/usr/bin/java',
    ...{ python3: '/usr/bin/python3', 'python3-certifi': '/usr/lib/python3/dist-packages/certifi' },
    ...{ 'python3-dateutil': '/usr/lib/python3/dist-packages/dateutil' },
    ...{ 'python3-six': '/usr/lib/python3/dist-packages/six.py' },
    ...{ 'python3-urllib3': '/usr/lib/python3/dist-packages/urllib3' },
  })
  const folder = await generate(t, '-g', 'python')
  const { env, taskNo } = await start(t)
  const { stdout } = await run('/usr/bin/python3', ['-B', join(USES, 'use.py'), taskNo], {
    env: { ...env, PYTHONPATH: join(folder, 'generated') },
  })
  assert.equal(stdout, 'accepted\naccepted None\n404 task-not-found\n')
})

const JAVA = '/usr/share/java'
const JARS = ['jackson-annotations', 'jackson-core', 'jackson-databind', 'jsr305'].map((name) => `${JAVA}/${name}.jar`)

/** What the generated sources use of packages that Debian does not have. */
const STAND_INS = {
  'io/swagger/annotations/ApiModel': '@interface ApiModel { String description() default ""; }',
  'io/swagger/annotations/ApiModelProperty':
    '@interface ApiModelProperty { boolean required() default false; String example() default ""; String value(); }',
  'com/fasterxml/jackson/datatype/jsr310/JavaTimeModule':
    'class JavaTimeModule extends com.fasterxml.jackson.databind.module.SimpleModule {}',
  'org/openapitools/jackson/nullable/JsonNullableModule':
    'class JsonNullableModule extends com.fasterxml.jackson.databind.module.SimpleModule {}',
  'org/openapitools/jackson/nullable/JsonNullable': `record JsonNullable<T>(T get) {
    public static <T> JsonNullable<T> undefined() { return of(null); }
    public static <T> JsonNullable<T> of(T value) { return new JsonNullable<>(value); }
    public boolean isPresent() { return get != null; }
    public T orElse(T other) { return isPresent() ? get : other; }
  }`,
} as const

test('the client in Java of OpenAPI Generator', async (t) => {
  needPackages({
    'default-jdk-headless': '/usr/bin/javac',
    'libjackson2-databind-java': `${JAVA}/jackson-databind.jar`,
    'libjsr305-java': `${JAVA}/jsr305.jar`,
  })
  // Dates of java.util, which Jackson reads without a further package.
  const folder = await generate(t, '-g', 'java', '--library', 'native', '--additional-properties', 'dateLibrary=legacy')
  for (const [name, declaration] of Object.entries(STAND_INS)) {
    const path = join(folder, 'generated/src/main/java', `${name}.java`)
    await mkdir(dirname(path), { recursive: true })
    await writeFile(path, `package ${dirname(name).replaceAll('/', '.')}; public ${declaration}`)
  }
  const sources = globSync('generated/src/main/java/**/*.java', { cwd: folder })
  const classpath = [...JARS, 'classes'].join(':')
  await run('/usr/bin/javac', ['-nowarn', '-cp', classpath, '-d', 'classes', ...sources, join(USES, 'Use.java')], {
    cwd: folder,
  })
  const { env, taskNo } = await start(t)
  const { stdout } = await run('/usr/bin/java', ['-cp', classpath, 'Use', taskNo], { cwd: folder, env })
  assert.equal(stdout, 'accepted\naccepted null\n404 task-not-found\n')
})
