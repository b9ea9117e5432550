import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { chromiumPath } from './browser.ts'
import { canIsolate } from './distant-network.ts'
import { hasNginx } from './nginx.ts'
import { hasPgbouncer } from './pgbouncer.ts'
import { hasPostgres } from './postgres.ts'
import { hasPrometheus } from './prometheus.ts'
import { hasApache, hasCaddy, hasHaproxy } from './proxies.ts'
import { hasRedis } from './redis.ts'

const REQUIREMENTS = {
  chromium: { reason: 'needs Chromium', isMet: () => chromiumPath() !== undefined },
  pgbouncer: { reason: 'needs PgBouncer, as Debian has it', isMet: hasPgbouncer },
  postgres: { reason: 'needs PostgreSQL, as Debian has it', isMet: hasPostgres },
  prometheus: { reason: 'needs Prometheus and promtool, as Debian has them', isMet: hasPrometheus },
  jq: { reason: 'needs curl and jq', isMet: () => succeeds('curl', '--version') && succeeds('jq', '--version') },
  python: { reason: 'needs Python 3', isMet: () => succeeds('python3', '--version') },
  redis: { reason: 'needs Redis, as Debian has it', isMet: hasRedis },
  apache: { reason: 'needs Apache, as Debian has it', isMet: hasApache },
  caddy: { reason: 'needs Caddy, as Debian has it', isMet: hasCaddy },
  haproxy: { reason: 'needs HAProxy, as Debian has it', isMet: hasHaproxy },
  nginx: { reason: 'needs nginx, as Debian has it', isMet: hasNginx },
  procfs: { reason: 'needs /proc, as Linux has it', isMet: () => existsSync('/proc/self/status') },
  systemd: { reason: 'needs systemd-analyze, as Debian has it', isMet: () => succeeds('systemd-analyze', '--version') },
  terminal: {
    reason: 'needs /proc and the program script of util-linux',
    isMet: () => existsSync('/proc/self/stat') && succeeds('script', '--version'),
  },
  namespace: { reason: 'needs root, ip (iproute2), Perl and /dev/net/tun', isMet: () => canIsolate() },
  mount: { reason: 'needs root and the right to mount a tmpfs', isMet: () => canMount() },
} as const

/**
 * Returns false and skips the test if the machine does not meet the requirement; the test must then return.
 * @throws instead with `CI=true`
 */
export const requires = (t: TestContext, name: keyof typeof REQUIREMENTS): boolean => {
  const { reason, isMet } = REQUIREMENTS[name]
  if (isMet()) return true
  if (process.env.CI === 'true') throw new Error(`${reason}, and CI may skip nothing`)
  t.skip(reason)
  return false
}

/** Mounts a tmpfs that is unmounted after the test. */
export const mountTmpfs = (t: TestContext, options: string): string => {
  const folder = mount(options)
  if (folder === null) throw new Error('a tmpfs could not be mounted')
  t.after(() => unmount(folder))
  return folder
}

const succeeds = (program: string, ...args: readonly string[]): boolean => spawnSync(program, args).status === 0

const mount = (options: string): string | null => {
  const folder = mkdtempSync(join(tmpdir(), 'gateway-mount-'))
  if (succeeds('mount', '-t', 'tmpfs', '-o', options, 'tmpfs', folder)) return folder
  rmdirSync(folder)
  return null
}

/** Lazily, because processes that still have files open there end soon. */
const unmount = (folder: string): void => {
  succeeds('umount', '--lazy', folder)
  rmdirSync(folder)
}

const canMount = (): boolean => {
  const folder = mount('size=64k')
  if (folder !== null) unmount(folder)
  return folder !== null
}
