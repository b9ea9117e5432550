import type { Server, Socket } from 'node:net'

export interface Connections {
  readonly size: number
  /** The TCP socket below a request's socket, which under TLS is another one. */
  below(socket: Socket): Socket
  /** Resolves when none is open. */
  closed(): Promise<void>
  destroy(): void
}

export const trackConnections = (server: Server): Connections => {
  const open = new Set<Socket>()
  let none = Promise.withResolvers<void>()

  server.on('connection', (socket: Socket) => {
    open.add(socket)
    socket.once('close', () => {
      open.delete(socket)
      if (open.size > 0) return
      none.resolve()
      none = Promise.withResolvers()
    })
  })

  return {
    get size() {
      return open.size
    },
    below: (socket) => [...open].find(({ remotePort }) => remotePort === socket.remotePort) ?? socket,
    closed: () => (open.size === 0 ? Promise.resolve() : none.promise),
    destroy: () => {
      for (const socket of open) socket.destroy()
    },
  }
}
