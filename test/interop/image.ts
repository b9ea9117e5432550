import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { chown, mkdtemp, readdir, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, type TestContext, test } from 'node:test'
import { promisify } from 'node:util'
import { z } from 'zod'
import type { Env } from '../../src/config.ts'
import { asOperator, baseEnv, CANARIES, eventually } from '../helpers/gateway.ts'
import { closedPort } from '../helpers/ports.ts'
import { ROOT, whenListening } from '../helpers/process.ts'
import { startResponseHoldingProxy } from '../helpers/upstream-proxy.ts'
import { buildBaseImages, lockedNodeVersion } from './base-images.ts'
import {
  type ContainerOptions,
  createBuilder,
  type Entry,
  entriesOf,
  type Image,
  missingPrivilege,
  startContainer,
} from './container-engine.ts'
import { needPackages } from './server.ts'

// buildah builds the Dockerfile as it is, and crun runs both images without rights. Base images of Debian's packages
// stand for the real ones.

const run = promisify(execFile)

const PACKAGES = {
  buildah: '/usr/bin/buildah',
  crun: '/usr/bin/crun',
  debootstrap: '/usr/sbin/debootstrap',
} as const

/** Time limit of the build, also on a busy machine. */
const BUILD_MS = 1_200_000
const USER = 65_532
const AUDIT_PATH = '/data/audit.db'
/** In bytes, of all files together. */
const SIZE_MAX = 160e6

const skip = (await missingPrivilege()) ?? false

describe('the images of the Dockerfile', { skip, timeout: 2 * BUILD_MS }, () => {
  let folder = ''
  let images: { readonly gateway: Image; readonly sandbox: Image }
  let entries: ReadonlyMap<string, Entry>

  before(
    async () => {
      needPackages(PACKAGES)
      folder = await mkdtemp(join(tmpdir(), 'gateway-image-'))
      const builder = createBuilder(folder)
      await buildBaseImages(folder, builder)
      await builder.build({ name: 'gateway', context: ROOT })
      await builder.build({ name: 'sandbox', context: ROOT, target: 'sandbox' })
      images = { gateway: await builder.unpack('gateway'), sandbox: await builder.unpack('sandbox') }
      entries = await entriesOf(images.gateway.root)
    },
    { timeout: BUILD_MS },
  )
  after(() => removeFolder(folder))

  /** A folder of the image's user, to mount at /data. */
  const createVolume = async (owner = USER): Promise<string> => {
    const volume = await mkdtemp(join(folder, 'volume-'))
    await chown(volume, owner, owner)
    return volume
  }
  const start = async (t: TestContext, env: Env, options: ContainerOptions = {}) => {
    const settings = { ...baseEnv('http://127.0.0.1:9', AUDIT_PATH), ...env }
    return startContainer(t, folder, images.gateway, { ...options, env: settings })
  }
  const startSandbox = async (t: TestContext) => {
    const { accessKeyId, accessKeySecret } = CANARIES
    const keys = { SANDBOX_ACCESS_KEY_ID: accessKeyId, SANDBOX_ACCESS_KEY_SECRET: accessKeySecret }
    const env = { ...keys, SANDBOX_HOST: '127.0.0.1', SANDBOX_PORT: '0' }
    const container = await startContainer(t, folder, images.sandbox, { env })
    const [url = ''] = /http:\/\/[\d.:]+/.exec(await container.firstOutput) ?? []
    const tasks = z.array(z.object({ taskNo: z.string() })).parse(await fetchJson(`${url}/sandbox/tasks`))
    const cancels = async () => {
      const calls = z.array(z.object({ action: z.string() })).parse(await fetchJson(`${url}/sandbox/calls`))
      return calls.filter(({ action }) => action === 'CancelTask').length
    }
    return { container, url, taskNo: String(tasks[0]?.taskNo), cancels }
  }

  for (const name of ['gateway', 'sandbox'] as const) {
    test(`the image of the ${name} has no program but Node and an init, and nothing to gain rights with`, async () => {
      const all = [...(await entriesOf(images[name].root))]
      // Scripts in /etc are for a shell.
      const isProgram = (path: string, { mode, isFile, isFolder }: Entry): boolean =>
        (PROGRAM_FOLDER.test(path) && !isFolder) ||
        (isFile && (mode & 0o111) !== 0 && !/^\/etc\/|\.so(\.\d+)*$/.test(path))
      assert.deepEqual(pathsOf(all, isProgram), ['/nodejs/bin/node', '/sbin/tini'])
      const suspects = /\/(sh|bash|dash|busybox|npm|npx|corepack|yarn|apt|dpkg|tests?)$|\.ts$|\.test\./
      assert.deepEqual(
        pathsOf(all, (path) => path.startsWith('/app/') && suspects.test(path)),
        [],
      )
      assert.deepEqual(
        pathsOf(all, (_, { mode }) => (mode & 0o6000) !== 0),
        [],
      )
    })
  }

  for (const [name, volumes] of [
    ['gateway', ['/data']],
    ['sandbox', []],
  ] as const) {
    test(`the user of the image of the ${name} can write its volumes and no code`, async () => {
      const { root, config } = images[name]
      const all = [...(await entriesOf(root))]
      const isWritable = (_: string, { mode, uid, isLink }: Entry): boolean =>
        !isLink && (uid !== 0 || (mode & 0o2) !== 0)
      assert.deepEqual(pathsOf(all, isWritable), [...volumes, ...OPEN_IN_BASE])
      assert.deepEqual(Object.keys(config.Volumes ?? {}), volumes)
      assert.equal(config.User, `${USER}:${USER}`)
    })
  }

  test('the image of the gateway holds no sandbox, and maps to sources of the gateway and its packages only', async () => {
    const { root } = images.gateway
    assert.deepEqual(
      pathsOf(entries, (path) => /sandbox|demo/.test(path)),
      [],
    )
    const maps = pathsOf(entries, (path) => path.startsWith('/app/') && path.endsWith('.map'))
    assert.ok(maps.length > 10)
    for (const path of maps) {
      const { sources, sourcesContent } = mapSchema.parse(await readJson(join(root, path)))
      assert.equal(sourcesContent, undefined)
      const paths = sources.map((source) => join('/app/dist', source))
      assert.deepEqual(
        paths.filter((source) => !/^\/app\/(src|build|node_modules)\/|^\/(src|build|node_modules)\//.test(source)),
        [],
      )
    }
  })

  test('the image of the gateway has the labels, the notices and the bill of materials of what it contains', async () => {
    const { root, config } = images.gateway
    const { name, version, description, license, dependencies } = await readJson(join(ROOT, 'package.json'))
    for (const [label, value] of Object.entries({ title: name, version, description, licenses: license })) {
      assert.equal(config.Labels?.[`org.opencontainers.image.${label}`], value)
    }
    const { components } = billSchema.parse(await readJson(join(root, 'app/dist/sbom.cdx.json')))
    const notices = await readFile(join(root, 'app/dist/THIRD-PARTY-NOTICES.txt'), 'utf8')
    for (const each of components) assert.ok(notices.includes(`\n${each.name} ${each.version} (`), each.name)
    const listed = components.map((each) => each.name)
    assert.deepEqual(
      Object.keys(dependencies).filter((each) => !listed.includes(each)),
      [],
    )
  })

  test('the image of the gateway has at most 160 MB', (t) => {
    const sizeBelow = (...folders: readonly string[]): number =>
      [...entries]
        .filter(([path, { isFile }]) => isFile && folders.some((folder) => path.startsWith(folder)))
        .reduce((sum, [, { size }]) => sum + size, 0)
    const parts = {
      all: sizeBelow('/'),
      Node: sizeBelow('/nodejs/bin/'),
      libraries: sizeBelow('/lib', '/usr/lib'),
      dist: sizeBelow('/app/dist/'),
      'compile cache': sizeBelow('/app/compile-cache/'),
      'swagger-ui': sizeBelow('/app/node_modules/'),
    }
    for (const [name, size] of Object.entries(parts)) t.diagnostic(`${name}: ${(size / 1e6).toFixed(1)} MB`)
    assert.ok(parts.all <= SIZE_MAX, String(parts.all))
  })

  test('a container cancels a task of the sandbox as a user without rights, and writes to nothing but its volume', async (t) => {
    const [sandbox, data] = [await startSandbox(t), await createVolume()]
    const env = { UPSTREAM_URL: sandbox.url, ADMIN_PORT: String(await closedPort()) }
    const container = await start(t, env, { data })
    const gateway = await whenListening(t, container)
    await container.line('the upstream accepts the credentials')

    const { status } = await gateway.api.delete(`/tasks/${sandbox.taskNo}`).set(asOperator)
    const [record] = await gateway.records()
    const [, ...healthCheck] = images.gateway.config.Healthcheck?.Test ?? []
    const health = container.exec(...healthCheck)
    const first = await container.status()
    const node = container.exec('/nodejs/bin/node', '--print', 'process.version')
    const cancels = await sandbox.cancels()
    container.kill('SIGTERM')
    const { code, stderr } = await container.ended
    sandbox.container.kill('SIGTERM')

    assert.deepEqual([status, record?.outcome, cancels], [202, 'accepted', 1])
    assert.deepEqual(health, { code: 0, output: '' })
    assert.equal(first.get('Name'), 'tini')
    assert.match(first.get('NSpid') ?? '', /\t1$/)
    assert.equal(first.get('Uid'), Array(4).fill(USER).join('\t'))
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) assert.match(first.get(set) ?? '', /^0+$/)
    assert.equal(first.get('NoNewPrivs'), '1')
    assert.equal(node.output.trim(), `v${await lockedNodeVersion()}`)
    assert.deepEqual([code, stderr, (await sandbox.container.ended).code], [0, '', 0])
    assert.deepEqual((await readdir(data)).sort(), ['audit.db', 'audit.db-lock'])
    assert.deepEqual(await entriesOf(images.gateway.root), entries)
  })

  test('a container writes to nothing but its volume where it could write everywhere', async (t) => {
    const [sandbox, data, root] = [await startSandbox(t), await createVolume(), join(folder, 'writable')]
    await run('cp', ['--archive', images.gateway.root, root])
    await run('chmod', ['--recursive', 'a+w', root])
    const before = await entriesOf(root)
    const env = { UPSTREAM_URL: sandbox.url, DOCS_ENABLED: 'true', CONSOLE_ENABLED: 'true' }
    const container = await start(t, env, { data, writableRoot: root })
    const gateway = await whenListening(t, container)

    const cancelled = await gateway.api.delete(`/tasks/${sandbox.taskNo}`).set(asOperator)
    const pages = [
      await gateway.api.get('/docs'),
      await gateway.api.get('/openapi.json'),
      await gateway.api.get('/console'),
    ]
    container.kill('SIGTERM')

    assert.equal((await container.ended).code, 0)
    assert.deepEqual(
      [cancelled, ...pages].map(({ status }) => status),
      [202, 200, 200, 200],
    )
    assert.deepEqual(await entriesOf(root), before)
  })

  test('a container answers a request in flight at SIGTERM, and ends with 0', async (t) => {
    const sandbox = await startSandbox(t)
    const proxy = await startResponseHoldingProxy(t, sandbox.url)
    const container = await start(t, { UPSTREAM_URL: proxy.url }, { data: await createVolume() })
    const gateway = await whenListening(t, container)
    const answer = gateway.api.delete(`/tasks/${sandbox.taskNo}`).set(asOperator).then()
    await eventually(async () => (await sandbox.cancels()) === 1 || undefined)

    container.kill('SIGTERM')
    await container.line('stopping')
    proxy.release()

    const { status } = await answer
    assert.deepEqual([status, (await container.ended).code], [202, 0])
  })

  for (const [name, code, { owner, userId = USER, file = AUDIT_PATH }] of [
    ['no volume', 'EROFS', {}],
    ['a folder that does not exist', 'EROFS', { owner: USER, file: '/record/audit.db' }],
    ['a volume of another user', 'EACCES', { owner: 0 }],
    ['a user without a name, who cannot write the volume,', 'EACCES', { owner: USER, userId: 4242 }],
  ] as const) {
    test(`a container with ${name} ends with the reason, the file and the user`, async (t) => {
      const options = { userId, ...(owner === undefined ? {} : { data: await createVolume(owner) }) }
      const { ended } = await start(t, { AUDIT_URL: `sqlite:${file}` }, options)
      const rule = `AUDIT_URL must name a file that can be created and written there (${code}; file ${file}, user ${userId})`
      const stderr = `The gateway did not start. Faulty settings:\n  ${rule}\n`
      assert.deepEqual(await ended, { code: 1, stdout: '', stderr })
    })
  }

  test('a container reads its code from the compile cache', async (t) => {
    const [node = '', ...args] = images.gateway.config.Entrypoint.slice(2)
    const command = ['/sbin/tini', '--', node, '--import', WITHOUT_DEBUG, ...args]
    const container = await start(t, { NODE_DEBUG_NATIVE: 'COMPILE_CACHE' }, { data: await createVolume(), command })
    await container.line('listening')
    container.kill('SIGTERM')
    const { stderr } = await container.ended
    const read = [...stderr.matchAll(/code cache for ESM \S+\/dist\/(\S+) was (\w+)/g)]
    const names = read.map(([, file = '']) => file.replace(/-\w{8}\.js$/, '.js'))
    for (const file of ['server.js', 'app.js']) assert.ok(names.includes(file), file)
    assert.deepEqual(new Set(read.map(([, , fate]) => fate)), new Set(['accepted']))
  })

  test('a container runs the commands of the documents', async (t) => {
    const data = await createVolume()
    const container = await start(t, {}, { data })
    await container.line('listening')
    const command = (file: string, ...args: readonly string[]) =>
      container.exec('/nodejs/bin/node', `/app/dist/bin/${file}.js`, ...args)
    const [key, secret, backup] = [command('key', 'ops'), command('secret'), command('backup', '/data/copy.db')]
    assert.deepEqual([key.code, secret.code, backup.code], [0, 0, 0])
    assert.match(key.output, /"name":"ops"/)
    assert.match(backup.output, /^Copied 0 cancellations/)
    assert.ok((await readdir(data)).includes('copy.db'))
  })
})

/** Folders of the base image that its user can write: a read-only file system protects them. */
const OPEN_IN_BASE = ['/home/nonroot', '/tmp', '/var/lock', '/var/tmp']

const PROGRAM_FOLDER = /^\/(usr\/(local\/)?)?s?bin\//

/** Node has read the variable already, and the gateway does not start with it. */
const WITHOUT_DEBUG = 'data:text/javascript,delete process.env.NODE_DEBUG_NATIVE'

const mapSchema = z.object({ sources: z.array(z.string()), sourcesContent: z.unknown().optional() })
const billSchema = z.object({ components: z.array(z.object({ name: z.string(), version: z.string() })) })

const pathsOf = (entries: Iterable<readonly [string, Entry]>, isMeant: (path: string, entry: Entry) => boolean) =>
  [...entries].flatMap(([path, entry]) => (isMeant(path, entry) ? [path] : []))

const readJson = async (path: string) => JSON.parse(await readFile(path, 'utf8'))

const fetchJson = async (url: string): Promise<unknown> => (await fetch(url)).json()

/** Not beyond a mount, of which none should be left. */
const removeFolder = async (folder: string): Promise<void> => {
  if (folder !== '') await run('rm', ['--recursive', '--force', '--one-file-system', folder])
}
