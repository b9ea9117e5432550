import type { Server } from 'node:http'
import { isIPv6 } from 'node:net'
import { ConfigError } from '../../errors.ts'

export interface Port {
  readonly host: string | undefined
  readonly port: number
}

/**
 * Connections that can wait in the kernel until the event loop accepts them. The limit `net.core.somaxconn` of the
 * system also applies. Node's default is 511. The kernel drops connections beyond that: their clients try again after a
 * second, and some proxies give up after two.
 */
const WAITING_MAX = 4096

/**
 * Opens a port, and resolves with where it can be reached. @throws ConfigError naming the settings that can't be kept
 */
export const openPort = (server: Server, { host, port }: Port, prefix: '' | 'ADMIN_' = ''): Promise<string> =>
  new Promise((resolve, reject) => {
    const fail = (error: Error & { code?: string }): void => reject(new ConfigError([refusedPort(prefix, error.code)]))
    server.once('error', fail)
    server.listen({ port, host, backlog: WAITING_MAX }, () => {
      server.off('error', fail)
      resolve(urlOf(server))
    })
  })

const refusedPort = (prefix: string, code = ''): string => {
  if (code === 'EADDRINUSE') return `${prefix}PORT is in use by another process`
  if (code === 'EACCES') return `${prefix}PORT may not be opened by this user`
  return `${prefix}HOST or ${prefix}PORT can't be opened (${code})`
}

const urlOf = (server: Server): string => {
  const address = server.address()
  if (address === null || typeof address === 'string') return ''
  const host = ['::', '0.0.0.0'].includes(address.address) ? 'localhost' : address.address
  return `http://${isIPv6(host) ? `[${host}]` : host}:${address.port}`
}
