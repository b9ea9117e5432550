import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, connect, type Server, type Socket } from 'node:net'
import type { TestContext } from 'node:test'

/** Listens on a free port of loopback. After the test it closes the server and all its connections. */
export const listenOn = async (t: TestContext, server: Server): Promise<number> => {
  const sockets = new Set<Socket>()
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  const { port } = server.address() as AddressInfo
  return port
}

/** Below the range of ephemeral ports, so that the system does not assign the port before the test uses it. */
const PORTS = { from: 20_000, to: 32_000 } as const

/** A port of loopback without a listener. */
export const closedPort = async (): Promise<number> => {
  const port = randomInt(PORTS.from, PORTS.to)
  if (await isOpen(`http://127.0.0.1:${port}`)) return closedPort()
  return port
}

/** Whether a server listens there. */
export const isOpen = (url: string): Promise<boolean> => {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const { hostname, port } = new URL(url)
  const probe = connect(Number(port), hostname)
  probe.once('error', () => resolve(false)).once('connect', () => resolve(true))
  return promise.finally(() => probe.destroy())
}
