import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import type { TestContext } from 'node:test'
import { eventually, temporaryFolder } from './gateway.ts'
import { startBalancer } from './nginx.ts'
import { closedPort } from './ports.ts'
import { ROOT } from './process.ts'
import { type Edit, substitute } from './substitute.ts'

/** Debian's place of each program. */
const PROGRAMS = { haproxy: '/usr/sbin/haproxy', caddy: '/usr/bin/caddy', apache: '/usr/sbin/apache2' } as const

export const hasHaproxy = (): boolean => existsSync(PROGRAMS.haproxy)
export const hasCaddy = (): boolean => existsSync(PROGRAMS.caddy)
export const hasApache = (): boolean => existsSync(PROGRAMS.apache)

export interface RunningProxy {
  readonly url: string
  /** Changes the list of replicas and reloads, as an operator of a proxy without health checks does. */
  readonly use: ((gateways: readonly string[]) => Promise<void>) | undefined
}

interface Place {
  readonly folder: string
  readonly port: number
  /** Host and port of each of the two replicas. */
  readonly replicas: readonly string[]
  readonly edits: readonly Edit[]
}

interface Launch {
  /** Files of the folder: name and content. */
  readonly files: Readonly<Record<string, string>>
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
}

const isRoot = process.getuid?.() === 0

const shipped = (file: string, edits: readonly Edit[]): string =>
  substitute(`deploy/${file}`, readFileSync(join(ROOT, 'deploy', file), 'utf8'), edits)

const replicaEdits = ([first = '', second = '']: readonly string[]): readonly Edit[] => [
  [/10\.0\.0\.11:3000/g, first],
  [/10\.0\.0\.12:3000/g, second],
]

const haproxy = ({ port, replicas, edits }: Place): Launch => {
  // Only root can change the user and the root folder.
  const users: readonly Edit[] = isRoot ? [] : [[/^ {2}(user|group|chroot) .*\n/gm, '']]
  const places = [[/bind :8080/, `bind 127.0.0.1:${port}`] as const, ...replicaEdits(replicas)]
  return {
    files: { 'haproxy.cfg': shipped('haproxy.cfg', [...places, ...users, ...edits]) },
    args: ['-db', '-f', 'haproxy.cfg'],
    env: {},
  }
}

const caddy = ({ folder, port, replicas, edits }: Place): Launch => {
  const places = [[/^:8080 \{/m, `:${port} {\n\tbind 127.0.0.1`] as const, ...replicaEdits(replicas)]
  const admin = [/^\{\n/m, '{\n\tadmin off\n'] as const
  return {
    files: { Caddyfile: shipped('Caddyfile', [...places, admin, ...edits]) },
    args: ['run', '--config', 'Caddyfile', '--adapter', 'caddyfile'],
    env: { HOME: folder },
  }
}

/** The modules that the comment of the file tells the operator to enable, and those that Debian enables by itself. */
const apacheModules = (site: string): readonly string[] => {
  const [, enabled = ''] = /a2enmod ([\w ]+)/.exec(site) ?? []
  return ['mpm_event', 'authz_core', ...enabled.split(' ')]
}

const apache = ({ folder, port, replicas, edits }: Place): Launch => {
  const places = [
    [/Listen 8080/, `Listen 127.0.0.1:${port}`] as const,
    [/\*:8080/, `127.0.0.1:${port}`] as const,
    ...replicaEdits(replicas),
  ]
  const site = shipped('apache.conf', [...places, ...edits])
  const server = [
    `ServerRoot ${folder}`,
    `DefaultRuntimeDir ${folder}`,
    `PidFile ${folder}/apache2.pid`,
    `ErrorLog ${folder}/error.log`,
    'ServerName localhost',
    ...(isRoot ? ['User www-data', 'Group www-data'] : []),
    ...apacheModules(site).map((name) => `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`),
    'Include site.conf',
  ]
  return {
    files: { 'apache2.conf': `${server.join('\n')}\n`, 'site.conf': site },
    args: ['-f', join(folder, 'apache2.conf'), '-DFOREGROUND'],
    env: {},
  }
}

const LAUNCHES = { haproxy, caddy, apache } as const

export const PROXY_NAMES = ['nginx', 'haproxy', 'caddy', 'apache'] as const
export type ProxyName = (typeof PROXY_NAMES)[number]

/**
 * The real program with the configuration of deploy/ in front of two gateways, at other places; it ends with the test.
 * `edits` change the configuration further, as a careless operator would.
 */
export const startProxy = async (
  t: TestContext,
  name: ProxyName,
  gateways: readonly string[],
  edits: readonly Edit[] = [],
): Promise<RunningProxy> => {
  if (name === 'nginx') return startBalancer(t, gateways, undefined, edits)
  const [folder, port] = [await temporaryFolder(t), await closedPort()]
  const replicas = gateways.map((url) => new URL(url).host)
  const { files, args, env } = LAUNCHES[name]({ folder, port, replicas, edits })
  for (const [file, content] of Object.entries(files)) await writeFile(join(folder, file), content)
  const child = spawn(PROGRAMS[name], args, { cwd: folder, env, stdio: ['ignore', 'ignore', 'pipe'] })
  const url = `http://127.0.0.1:${port}`
  await Promise.race([servesFrom(url), failureOf(t, name, child)])
  return { url, use: undefined }
}

const servesFrom = (url: string): Promise<true> =>
  eventually(async () => {
    const response = await fetch(`${url}/livez`).catch(() => null)
    return response?.status === 200 || undefined
  })

/** Rejects with the error output if the program ends; stops it after the test. */
const failureOf = async (t: TestContext, name: ProxyName, child: ChildProcess): Promise<never> => {
  const closed = once(child, 'close')
  const output = child.stderr === null ? '' : text(child.stderr)
  t.after(async () => {
    child.kill('SIGTERM')
    await closed
  })
  await closed
  throw new Error(`${name} ended: ${await output}`)
}
