import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import type { TestContext } from 'node:test'
import { eventually, temporaryFolder } from './gateway.ts'
import { closedPort, isOpen } from './ports.ts'
import { ROOT } from './process.ts'
import { type Edit, substitute } from './substitute.ts'

const NGINX = '/usr/sbin/nginx'

export const hasNginx = (): boolean => existsSync(NGINX)

/** The source address of nginx: an alias of loopback, so that it differs from the address of the client. */
export const NGINX_ADDRESS = '127.0.0.3'

export interface NginxOptions {
  /** URLs of gateways: nginx uses the others if the first fails. */
  readonly gateways: readonly [string, ...string[]]
  /** Configuration lines of the location. */
  readonly lines: readonly string[]
}

// One process in the foreground: it needs no other user, and ends on the signal.
const configOf = (port: number, { gateways: [first, ...others], lines }: NginxOptions): string => `
daemon off;
master_process off;
pid nginx.pid;
error_log stderr;
events {}
http {
  access_log off;
  ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${name};`).join(' ')}
  upstream gateway {
    server ${new URL(first).host};
    ${others.map((url) => `server ${new URL(url).host} backup;`).join(' ')}
  }
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://gateway;
      proxy_bind ${NGINX_ADDRESS};
      ${lines.join('\n      ')}
    }
  }
}
`

const BALANCER = join(ROOT, 'deploy/nginx.conf')

/** The configuration of deploy/, at other places and for these gateways. */
const balancerConfig = (
  folder: string,
  port: number,
  gateways: readonly string[],
  generation: number,
  edits: readonly Edit[],
): string => {
  const servers = gateways.map((url) => `server ${new URL(url).host};`).join(' ')
  return substitute('deploy/nginx.conf', readFileSync(BALANCER, 'utf8'), [
    [/worker_processes auto;/, 'daemon off; user root; worker_processes 1;'],
    [/\/tmp\//g, `${folder}/`],
    [/access_log \/dev\/stdout;/, 'access_log off;'],
    [/resolver [^;]+;/, ''],
    [/server gateway:3000 resolve;/, servers],
    [/listen 8080;/, `listen 127.0.0.1:${port}; add_header X-Generation ${generation} always;`],
    ...edits,
  ])
}

export interface Balancer {
  readonly url: string
  /** Replaces the gateways; requests in flight complete. */
  use(gateways: readonly string[]): Promise<void>
}

/** A real nginx on the configuration of deploy/, on a free port unless one is given; it is gone after the test. */
export const startBalancer = async (
  t: TestContext,
  gateways: readonly string[],
  given?: number,
  edits: readonly Edit[] = [],
): Promise<Balancer> => {
  const [folder, port] = [await temporaryFolder(t), given ?? (await closedPort())]
  const url = `http://127.0.0.1:${port}`
  let generation = 0
  const configure = (asked: readonly string[]): Promise<void> => {
    generation += 1
    return writeFile(join(folder, 'nginx.conf'), balancerConfig(folder, port, asked, generation, edits))
  }
  const isInForce = (): Promise<true> =>
    eventually(async () => {
      const answer = await fetch(`${url}/livez`).catch(() => null)
      return answer?.headers.get('x-generation') === String(generation) || undefined
    })

  await configure(gateways)
  const child = spawn(NGINX, ['-e', 'stderr', '-p', folder, '-c', 'nginx.conf'], { stdio: 'ignore' })
  const closed = once(child, 'close')
  t.after(async () => {
    child.kill('SIGTERM')
    await closed
  })
  await isInForce()
  return {
    url,
    use: async (asked) => {
      await configure(asked)
      child.kill('SIGHUP')
      await isInForce()
    },
  }
}

/** A real nginx before gateways, in a temporary folder; it ends after the test. */
export const startNginx = async (t: TestContext, options: NginxOptions): Promise<string> => {
  const [folder, port] = [await temporaryFolder(t), await closedPort()]
  await writeFile(join(folder, 'nginx.conf'), configOf(port, options))
  const args = ['-e', 'stderr', '-p', folder, '-c', 'nginx.conf']
  const child = spawn(NGINX, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  const [closed, complaints] = [once(child, 'close'), text(child.stderr)]
  t.after(async () => {
    child.kill('SIGTERM')
    await closed
  })
  const over = closed.then(async () => {
    throw new Error(`nginx ended: ${await complaints}`)
  })
  over.catch(() => undefined)
  const url = `http://127.0.0.1:${port}`
  await Promise.race([eventually(async () => ((await isOpen(url)) ? true : undefined)), over])
  return url
}
