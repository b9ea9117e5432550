import type { Server } from 'node:http'
import { isIPv6 } from 'node:net'
import { ConfigError } from '../../errors.ts'

export interface Port {
  readonly host: string | undefined
  readonly port: number
}

/**
 * Opens a port, and resolves with where it can be reached. @throws ConfigError naming the settings that can't be kept
 */
export const openPort = (server: Server, { host, port }: Port, prefix: '' | 'ADMIN_' = ''): Promise<string> =>
  new Promise((resolve, reject) => {
    const fail = (error: Error & { code?: string }): void => reject(new ConfigError([refusedPort(prefix, error.code)]))
    server.once('error', fail)
    server.listen({ port, host }, () => {
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
