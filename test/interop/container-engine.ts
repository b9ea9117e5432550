import { execFile, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { lstat, mkdir, mkdtemp, readdir, readFile, rmdir, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { promisify } from 'node:util'
import { z } from 'zod'
import { followGateway, type GatewayProcess } from '../helpers/process.ts'

// buildah and crun in the place of a container engine. Each runs in a mount namespace of its own, so that no mount stays,
// and everything that they write is in one folder.

const run = promisify(execFile)

/** Time limit of one program, also on a busy machine. */
const STEP_MS = 900_000
/** Of a program that is waited for without other work. */
const LIMIT = { timeout: 60_000 } as const

/** buildah has a cache in /var/lib. crun does not start beside a second hierarchy of control groups. */
const PRIVATE = 'mount -t tmpfs tmpfs /var/lib && { umount /sys/fs/cgroup/unified 2>/dev/null || :; } && exec "$@"'

const isolated = (command: readonly string[]): readonly string[] => [
  ...['--mount', '--propagation', 'private', '/bin/sh', '-c', PRIVATE, 'sh', ...command],
]

/** Runs a program in a mount namespace of its own. Rejects with its output if the program fails. */
export const runIsolated = async (folder: string, ...command: readonly string[]): Promise<string> => {
  const options = { env: await envIn(folder), maxBuffer: 1e8, timeout: STEP_MS }
  const { stdout } = await run('/usr/bin/unshare', isolated(command), options)
  return stdout
}

const envIn = async (folder: string) => {
  const [file, tmp] = [join(folder, 'containers.conf'), join(folder, 'tmp')]
  await mkdir(tmp, { recursive: true })
  await writeFile(file, `[network]\nnetwork_config_dir = "${folder}"\n`)
  return { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME: folder, TMPDIR: tmp, CONTAINERS_CONF: file }
}

const PROBE = 'set -e; mount -t tmpfs tmpfs "$1"; mknod "$1/null" c 1 3; echo > "$1/null"; chroot / true'

/** Why containers can't be built and run here, or undefined if they can. */
export const missingPrivilege = async (): Promise<string | undefined> => {
  const folder = await mkdtemp(join(tmpdir(), 'gateway-probe-'))
  const namespaces = ['--mount', '--propagation', 'private', '--pid', '--fork', '--ipc', '--uts']
  const { status, stderr, error } = spawnSync(
    '/usr/bin/unshare',
    [...namespaces, 'sh', '-c', PROBE, 'sh', folder],
    LIMIT,
  )
  await rmdir(folder)
  if (status === 0) return undefined
  const detail = error?.message ?? String(stderr).trim()
  return `needs the rights of root to make namespaces, mounts and devices (${detail})`
}

const imageSchema = z.object({
  Docker: z.object({
    config: z.object({
      User: z.string(),
      Env: z.array(z.string()),
      Entrypoint: z.array(z.string()),
      WorkingDir: z.string(),
      Labels: z.record(z.string(), z.string()).nullish(),
      Volumes: z.record(z.string(), z.object({})).nullish(),
      Healthcheck: z.object({ Test: z.array(z.string()) }).nullish(),
    }),
  }),
})

export interface Image {
  /** The folder that its files were unpacked to. */
  readonly root: string
  readonly config: z.infer<typeof imageSchema>['Docker']['config']
}

export interface BuildOptions {
  readonly name: string
  readonly context: string
  /** Default: the Dockerfile of the context. */
  readonly file?: string
  /** Default: the last stage. */
  readonly target?: string
}

/** Builds images below `folder` and takes no image from elsewhere. */
export const createBuilder = (folder: string) => {
  const place = ['--root', join(folder, 'storage'), '--runroot', join(folder, 'run'), '--storage-driver', 'vfs']
  const buildah = async (...args: readonly string[]): Promise<string> =>
    (await runIsolated(folder, '/usr/bin/buildah', ...place, ...args)).trim()

  return {
    build: async ({ name, context, file = join(context, 'Dockerfile'), target }: BuildOptions): Promise<void> => {
      // Images in the format of OCI have no health check.
      const options = ['--isolation', 'chroot', '--format', 'docker', '--pull-never', '--tag', name, '--file', file]
      await buildah('bud', ...options, ...(target === undefined ? [] : ['--target', target]), context)
    },
    unpack: async (name: string): Promise<Image> => {
      const { Docker } = imageSchema.parse(JSON.parse(await buildah('inspect', '--type', 'image', name)))
      const container = await buildah('from', '--pull-never', name)
      return { root: await buildah('mount', container), config: Docker.config }
    },
  }
}

export interface Entry {
  readonly mode: number
  readonly uid: number
  readonly size: number
  readonly isFile: boolean
  readonly isFolder: boolean
  readonly isLink: boolean
  readonly changedAtMs: number
}

/** Every file and folder of an image by its path. */
export const entriesOf = async (root: string): Promise<ReadonlyMap<string, Entry>> => {
  const names = (await readdir(root, { recursive: true })).sort()
  const entries = names.map(async (name) => {
    const stats = await lstat(join(root, name))
    const [isFile, isFolder, isLink] = [stats.isFile(), stats.isDirectory(), stats.isSymbolicLink()]
    const { mode, uid, size, ctimeMs: changedAtMs } = stats
    return [`/${name}`, { mode: mode & 0o7777, uid, size, isFile, isFolder, isLink, changedAtMs }] as const
  })
  return new Map(await Promise.all(entries))
}

export interface ContainerOptions {
  readonly env?: Readonly<Record<string, string | undefined>>
  /** The folder that is mounted at /data. Default: none. */
  readonly data?: string
  /** Default: the one of the image. */
  readonly command?: readonly string[]
  /** Default: the one of the image. */
  readonly userId?: number
  /** A copy of the image's files, in a file system that is not read-only. Default: the image's own, read-only. */
  readonly writableRoot?: string
}

export interface Container extends GatewayProcess {
  /** The first text on standard output. */
  readonly firstOutput: Promise<string>
  /** Runs a command in the container, as its user. */
  exec(...command: readonly string[]): { readonly code: number | null; readonly output: string }
  /** The fields of the status that the kernel has of the first process. */
  status(): Promise<ReadonlyMap<string, string>>
}

const specSchema = z.looseObject({
  process: z.looseObject({}),
  mounts: z.array(z.looseObject({ destination: z.string() })),
  linux: z.looseObject({ namespaces: z.array(z.object({ type: z.string() })) }),
})

const NO_CAPABILITIES = { bounding: [], effective: [], inheritable: [], permitted: [], ambient: [] }

/** As crun proposes, but without a terminal, rights and a network of its own. */
const createSpec = (proposal: unknown, { root, config }: Image, options: ContainerOptions) => {
  const spec = specSchema.parse(proposal)
  const { data, writableRoot, command = config.Entrypoint, userId } = options
  const [uid = 0, gid = 0] = userId === undefined ? config.User.split(':').map(Number) : [userId, userId]
  const volume = { destination: '/data', type: 'bind', source: data, options: ['rbind', 'rw', 'nosuid', 'nodev'] }
  const set = Object.entries(options.env ?? {}).map(([name, value]) => `${name}=${value}`)
  return {
    ...spec,
    process: {
      ...spec.process,
      ...{ terminal: false, user: { uid, gid }, cwd: config.WorkingDir, args: command, env: [...config.Env, ...set] },
      ...{ capabilities: NO_CAPABILITIES, noNewPrivileges: true },
    },
    root: { path: writableRoot ?? root, readonly: writableRoot === undefined },
    mounts: [
      ...spec.mounts.filter(({ destination }) => destination !== '/sys/fs/cgroup'),
      ...(data === undefined ? [] : [volume]),
    ],
    linux: { ...spec.linux, namespaces: spec.linux.namespaces.filter(({ type }) => type !== 'network') },
  }
}

/** Starts a container of the image, locked down as docs/deployment.md says. */
export const startContainer = async (
  t: TestContext,
  folder: string,
  image: Image,
  options: ContainerOptions = {},
): Promise<Container> => {
  const bundle = await mkdtemp(join(folder, 'bundle-'))
  const env = await envIn(folder)
  const [id, state] = [bundle.slice(folder.length + 1), ['--root', join(folder, 'crun'), '--cgroup-manager=disabled']]
  await run('/usr/bin/crun', ['spec'], { cwd: bundle })
  const proposal: unknown = JSON.parse(await readFile(join(bundle, 'config.json'), 'utf8'))
  const spec = createSpec(proposal, image, options)
  await writeFile(join(bundle, 'config.json'), JSON.stringify(spec))

  const child = spawn('/usr/bin/unshare', isolated(['/usr/bin/crun', ...state, 'run', id]), {
    cwd: bundle,
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const firstOutput = once(child.stdout.setEncoding('utf8'), 'data').then(([text]) => String(text))
  const kill = (signal: NodeJS.Signals): void => {
    // There is no container yet, or no longer.
    if (spawnSync('/usr/bin/crun', [...state, 'kill', id, signal], LIMIT).status !== 0) child.kill(signal)
  }

  return {
    ...followGateway(t, child, kill),
    firstOutput,
    exec: (...command) => {
      const file = join(bundle, 'process.json')
      writeFileSync(file, JSON.stringify({ ...spec.process, args: command }))
      const { status, stdout, stderr } = spawnSync('/usr/bin/crun', [...state, 'exec', '--process', file, id], LIMIT)
      return { code: status, output: `${stdout}${stderr}` }
    },
    status: async () => {
      const { pid } = JSON.parse((await run('/usr/bin/crun', [...state, 'state', id])).stdout)
      const lines = (await readFile(`/proc/${pid}/status`, 'utf8')).trim().split('\n')
      return new Map(lines.map((line) => [line.split(':\t')[0] ?? '', line.split(':\t')[1]?.trim() ?? '']))
    },
  }
}
