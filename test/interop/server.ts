import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { createCertificate } from '../helpers/certificate.ts'
import { eventually, temporaryFolder } from '../helpers/gateway.ts'
import { startBalancer } from '../helpers/nginx.ts'
import { closedPort } from '../helpers/ports.ts'

/** @throws Error that names the Debian packages whose files are missing */
export const needPackages = (fileOf: Readonly<Record<string, string>>): void => {
  const missing = Object.keys(fileOf).filter((name) => !existsSync(fileOf[name] ?? ''))
  if (missing.length > 0) throw new Error(`missing: apt-get install --no-install-recommends ${missing.join(' ')}`)
}

export interface Server {
  readonly command: readonly [program: string, ...args: string[]]
  readonly cwd: string
  readonly env?: Readonly<Record<string, string>>
  /** Responds with 200 as soon as the server is ready. */
  readonly readyUrl: string
}

/** Starts a server in the foreground, waits until it is ready, and ends it after the test. */
export const startServer = async (t: TestContext, { command, cwd, env = {}, readyUrl }: Server): Promise<void> => {
  const [program, ...args] = command
  const child = spawn(program, args, {
    cwd,
    env: { PATH: process.env.PATH, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const output: string[] = []
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => output.push(text))
  const closed = once(child, 'close')
  t.after(async () => {
    child.kill('SIGKILL')
    await closed
  })
  const failed = (): Error => new Error(`${program} did not become ready:\n${output.join('')}`)
  const ended = closed.then(() => Promise.reject(failed()))
  ended.catch(() => undefined)
  const status = await Promise.race([
    eventually(async () => (await fetch(readyUrl).catch(() => undefined))?.status),
    ended,
  ])
  if (status !== 200) throw failed()
}

/** nginx with the configuration of deploy/, which also listens with TLS and HTTP/2. */
export const startTls = async (t: TestContext, gateway: string) => {
  const [folder, port] = [await temporaryFolder(t), await closedPort()]
  const { key, cert } = createCertificate()
  const [keyFile, certFile] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
  await writeFile(keyFile, key)
  await writeFile(certFile, cert)
  const lines = `listen 127.0.0.1:${port} ssl http2; ssl_certificate ${certFile}; ssl_certificate_key ${keyFile};\n    `
  await startBalancer(t, [gateway], undefined, [[/(?=listen 127\.0\.0\.1:)/, lines]])
  return { url: `https://localhost:${port}`, authority: certFile }
}
