import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { validate } from 'dockerfile-utils'
import { parseDockerfile, parseDockerignore, parseEnv, runStages, stagesOf } from './helpers/dockerfile.ts'
import { asOperator } from './helpers/gateway.ts'
import { prepare, ROOT, startProcess } from './helpers/process.ts'

// There is no container engine where these run, so they hold the file to its rules and then follow its steps by hand,
// in folders that stand for the stages. `npm run interop` builds and runs the image (test/interop/image.ts).

const run = promisify(execFile)
const read = (name: string): string => readFileSync(join(ROOT, name), 'utf8')

const source = read('Dockerfile')
const instructions = parseDockerfile(source)
const stages = stagesOf(instructions)
const final = stages.at(-1)
const valuesOf = (name: string): readonly string[] =>
  (final?.steps ?? []).filter((step) => step.name === name).map(({ value }) => value)
const lastOf = (name: string): string => valuesOf(name).at(-1) ?? ''
const commandOf = (name: string): readonly string[] => JSON.parse(lastOf(name).replace(/^.*?CMD /, ''))
const settingsIn = (root: string) => Object.assign({}, ...valuesOf('ENV').map((value) => parseEnv(value, root)))
/** The options of Node. */
const execArgv = commandOf('ENTRYPOINT').slice(3, -1)

const { lines: ignoreLines, isInContext } = parseDockerignore(read('.dockerignore'))

describe('the Dockerfile', () => {
  test('has no fault and no questionable line', () => {
    assert.deepEqual(validate(source), [])
  })

  test('runs as a user other than root, by number', () => {
    assert.match(lastOf('USER'), /^[1-9]\d*:[1-9]\d*$/)
    assert.match(final?.base ?? '', /:nonroot$/)
  })

  test('starts an init, and Node as its direct child, without a shell', () => {
    const [, node, ...args] = JSON.parse(read('package.json')).scripts.start.split(' ')
    const entry = `/app/${args.pop()}`
    assert.deepEqual(commandOf('ENTRYPOINT'), ['/sbin/tini', '--', `/nodejs/bin/${node}`, ...args, entry])
    assert.deepEqual(valuesOf('CMD'), [])
  })

  // Node would not read the cache otherwise.
  test('writes the compile cache with the Node, the options and the user of the image', () => {
    const { base, steps = [] } = stages.find(({ name }) => name === 'compile-cache') ?? {}
    const lastIn = (name: string) => steps.findLast((step) => step.name === name)?.value ?? ''
    const [node, ...args] = JSON.parse(lastIn('RUN'))
    assert.deepEqual(
      [base, lastIn('USER'), node, args.slice(0, -1)],
      [final?.base, lastOf('USER'), '/nodejs/bin/node', execArgv],
    )
    for (const pair of lastIn('ENV').split(' ')) assert.ok(lastOf('ENV').includes(pair), pair)
  })

  test('checks with Node itself whether the gateway is ready', () => {
    const [node, ...code] = commandOf('HEALTHCHECK')
    assert.equal(node, '/nodejs/bin/node')
    assert.match(code.join(), /\/readyz/)
  })

  test('writes to nothing but the volume', () => {
    assert.deepEqual(valuesOf('VOLUME'), ['/data'])
    assert.deepEqual(settingsIn('/'), {
      NODE_ENV: 'production',
      AUDIT_URL: 'sqlite:/data/audit.db',
      SQLITE_TMPDIR: '/data',
      NODE_COMPILE_CACHE: '/app/compile-cache',
      NODE_COMPILE_CACHE_PORTABLE: '1',
    })
    const owned = valuesOf('COPY').filter((value) => value.includes('--chown='))
    assert.deepEqual(owned, [
      '--from=compile-cache --chown=0:0 /app/compile-cache ./compile-cache',
      `--from=build --chown=${lastOf('USER')} /app/data /data`,
    ])
    // A folder that WORKDIR makes belongs to the user before it.
    const [user, workdir] = (final?.steps ?? []).filter(({ name }) => name === 'USER' || name === 'WORKDIR')
    assert.deepEqual([user?.value, workdir?.value], ['0:0', '/app'])
  })

  test('takes nothing from elsewhere but base images and the locked packages, and runs none of their scripts', () => {
    assert.deepEqual(
      instructions.filter(({ name }) => name === 'ADD' || name === 'ARG'),
      [],
    )
    for (const { value } of instructions.filter(({ value }) => value.startsWith('npm ci'))) {
      assert.match(value, /--ignore-scripts/)
    }
    assert.doesNotMatch(source, /npm install|npx|curl|wget|:latest/)
  })

  test('holds no secret', () => {
    const names = instructions.filter(({ name }) => name === 'ENV' || name === 'LABEL').map(({ value }) => value)
    assert.doesNotMatch(names.join(), /SECRET|TOKEN|PASSWORD|API_KEY|ACCESS_KEY/)
  })

  test('names what package.json names', () => {
    const { name, description, version, license } = JSON.parse(read('package.json'))
    for (const [label, value] of Object.entries({ title: name, description, version, licenses: license })) {
      assert.ok(lastOf('LABEL').includes(`org.opencontainers.image.${label}="${value}"`), label)
    }
    assert.ok(lastOf('LABEL').includes(`base.name="${final?.base}"`))
  })

  test('is given only what it needs', () => {
    assert.deepEqual(
      ignoreLines.filter((line) => /[*?[\\]/.test(line)),
      ['*'],
    )
    for (const path of [
      '.env',
      '.git/config',
      'data/audit.db',
      'api-keys.json',
      'node_modules/x',
      'test/x',
      'dist/x',
      'sandbox/dist/x',
    ]) {
      assert.equal(isInContext(path), false, path)
    }
    assert.equal(isInContext('sandbox/bin/demo.ts'), false)
    for (const path of ['src/server.ts', 'sandbox/src/server.ts', 'src/bin/key.ts', 'package-lock.json'])
      assert.equal(isInContext(path), true, path)
  })
})

interface Bill {
  readonly components: readonly {
    readonly name: string
    readonly version: string
    readonly purl: string
    readonly licenses: readonly { readonly expression: string }[]
    readonly hashes: readonly { readonly content: string }[]
  }[]
}

/** Names of the packages that a source map names. */
const packagesOf = (map: string): readonly string[] =>
  [...map.matchAll(/node_modules\/((?:@[^/"]+\/)?[^/"]+)\/(?![^"]*node_modules\/)/g)].flatMap(([, name]) => name ?? [])

/** Node has read the variable already, and the gateway does not start with it. */
const WITHOUT_DEBUG = 'data:text/javascript,delete process.env.NODE_DEBUG_NATIVE'

// A build on a busy machine.
const BUILD_MS = 300_000

describe('what the Dockerfile builds', { timeout: BUILD_MS }, () => {
  let folder = ''
  const inImage = (path: string): string => join(folder, 'final', path)
  const settings = () => settingsIn(inImage(''))
  const files = async (path: string) => (await readdir(inImage(path), { recursive: true })).sort()

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'gateway-image-'))
    await runStages(folder, stages)
  })
  after(() => rm(folder, { recursive: true, force: true }))

  test('holds neither the sandbox nor the demo nor a source', async () => {
    const built = await files('app/dist')
    const entries = [
      'server.js',
      'sqlite-worker.js',
      'bin/key.js',
      'bin/secret.js',
      'bin/migrate.js',
      'bin/prune.js',
      'bin/doctor.js',
    ]
    for (const file of entries) assert.ok(built.includes(file), file)
    assert.deepEqual(
      built.filter((file) => /sandbox|demo|\.ts$|node_modules/.test(file)),
      [],
    )
    assert.deepEqual(await readdir(inImage('app')), [
      'compile-cache',
      'dist',
      'node_modules',
      'openapi.yaml',
      'package.json',
      'public',
    ])
  })

  test('has the sandbox in an image of its own, which needs no package', async (t) => {
    const image = join(folder, 'sandbox/app')
    assert.deepEqual(await readdir(image), ['dist', 'package.json'])
    const child = spawn(process.execPath, ['dist/sandbox/bin/sandbox.js'], {
      cwd: image,
      env: { SANDBOX_PORT: '0' },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    t.after(() => child.kill('SIGKILL'))
    const [said] = await once(child.stdout.setEncoding('utf8'), 'data')
    const [url = ''] = /http:\/\/[\d.:]+/.exec(String(said)) ?? []
    const answer = await fetch(url)
    assert.equal(Object(await answer.json()).Code, 'MissingAccessKeyId')
  })

  test('has no package beside the bundle but the files that a page loads', async () => {
    assert.deepEqual(await files('app/node_modules'), [
      'swagger-ui-dist',
      ...['package.json', 'swagger-ui-bundle.js', 'swagger-ui.css'].map((name) => `swagger-ui-dist/${name}`),
    ])
  })

  test('has the notices and the bill of materials of the packages of production, and of no other', async () => {
    const notices = readFileSync(inImage('app/dist/THIRD-PARTY-NOTICES.txt'), 'utf8')
    const { components }: Bill = JSON.parse(readFileSync(inImage('app/dist/sbom.cdx.json'), 'utf8'))
    const names = components.map(({ name }) => name)
    const { dependencies, devDependencies, optionalDependencies } = JSON.parse(read('package.json'))
    assert.deepEqual(
      Object.keys(dependencies).filter((name) => !names.includes(name)),
      [],
    )
    assert.deepEqual(
      Object.keys({ ...devDependencies, ...optionalDependencies }).filter((name) => names.includes(name)),
      [],
    )
    for (const { name, version, purl, licenses, hashes } of components) {
      assert.ok(notices.includes(`\n${name} ${version} (${licenses[0]?.expression})`), name)
      assert.equal(decodeURIComponent(purl), `pkg:npm/${name}@${version}`)
      assert.match(hashes[0]?.content ?? '', /^[0-9a-f]{128}$/)
    }
    const sources = (await files('app/dist')).filter((file) => file.endsWith('.map'))
    const bundled = new Set(sources.flatMap((file) => packagesOf(readFileSync(inImage(`app/dist/${file}`), 'utf8'))))
    assert.ok(bundled.has('express') && bundled.has('pg'))
    assert.deepEqual(
      [...bundled].filter((name) => !names.includes(name)),
      [],
    )
  })

  test('reads its code from the compile cache', async (t) => {
    const { env } = await prepare(t)
    const gateway = await startProcess(
      t,
      { ...settings(), ...env, NODE_DEBUG_NATIVE: 'COMPILE_CACHE' },
      { entry: inImage('app/dist/server.js'), execArgv: ['--import', WITHOUT_DEBUG, ...execArgv] },
    )
    gateway.kill('SIGTERM')
    const { stderr } = await gateway.ended
    const read = [...stderr.matchAll(/code cache for ESM \S+\/dist\/(\S+) was (.*)/g)]
    const names = read.map(([, name = '']) => name.replace(/-\w{8}\.js$/, '.js'))
    for (const name of ['server.js', 'app.js']) assert.ok(names.includes(name), name)
    assert.deepEqual(
      read.filter(([, , fate]) => !fate?.startsWith('accepted')).map(([line]) => line),
      [],
    )
  })

  test('cancels a task, calls itself ready, and writes to nothing but its volume', async (t) => {
    const { sandbox, auditPath, env } = await prepare(t, inImage('data'))
    const untouched = await files('app')
    const gateway = await startProcess(
      t,
      { ...settings(), ...env },
      { entry: inImage('app/dist/server.js'), cwd: inImage('app'), execArgv },
    )
    const { port: ADMIN_PORT } = new URL(String((await gateway.line('listening')).adminAddress))
    const check = () => run(process.execPath, commandOf('HEALTHCHECK').slice(1), { env: { ADMIN_PORT } })

    const { status } = await gateway.api.delete(`/tasks/${sandbox.addTask()}`).set(asOperator)
    await check()
    gateway.kill('SIGTERM')
    const { code, stderr } = await gateway.ended

    assert.deepEqual([status, code, stderr, sandbox.violations], [202, 0, '', 0])
    await assert.rejects(check, { code: 1 })
    assert.ok(existsSync(auditPath))
    assert.deepEqual(await files('app'), untouched)
  })

  test('describes itself where that is switched on', async (t) => {
    const { env } = await prepare(t)
    const entry = inImage('app/dist/server.js')
    const { api } = await startProcess(t, { ...settings(), ...env, DOCS_ENABLED: 'true' }, { entry })
    const [document, page, script] = [
      await api.get('/openapi.json'),
      await api.get('/docs'),
      await api.get('/docs/swagger-ui-bundle.js'),
    ]
    assert.deepEqual([document.status, page.status, script.status], [200, 200, 200])
    assert.match(document.body.openapi, /^3\.1\./)
  })

  test('has a console where that is switched on', async (t) => {
    const { env } = await prepare(t)
    const entry = inImage('app/dist/server.js')
    const { api } = await startProcess(t, { ...settings(), ...env, CONSOLE_ENABLED: 'true' }, { entry })
    const [page, script] = [await api.get('/console'), await api.get('/console/console.js')]
    assert.deepEqual([page.status, script.status], [200, 200])
  })

  test('copies its record', async (t) => {
    const { env, auditPath } = await prepare(t)
    await startProcess(t, { ...settings(), ...env }, { entry: inImage('app/dist/server.js'), cwd: inImage('app') })
    const { stdout } = await run(process.execPath, [inImage('app/dist/bin/backup.js'), `${auditPath}.copy`], { env })
    assert.match(stdout, /^Copied 0 cancellations/)
  })

  test('makes keys', async () => {
    const { stdout } = await run(process.execPath, [inImage('app/dist/bin/key.js'), 'ops'])
    assert.match(stdout, /"name":"ops"/)
  })
})
