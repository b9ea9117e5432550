import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, connect, type Server, type Socket } from 'node:net'
import type { TestContext } from 'node:test'

/** Listens on a free port of loopback until the test is over, and cuts what is still connected then. */
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

/** Below what systems hand out to whoever asks for any port, so that none of these is given away before it is used. */
const PORTS = { from: 20_000, to: 32_000 } as const

/** A port of loopback on which nobody listens. */
export const closedPort = async (): Promise<number> => {
  const port = randomInt(PORTS.from, PORTS.to)
  if (await isOpen(`http://127.0.0.1:${port}`)) return closedPort()
  return port
}

/** Whether somebody listens there. */
export const isOpen = (url: string): Promise<boolean> => {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const { hostname, port } = new URL(url)
  const probe = connect(Number(port), hostname)
  probe.once('error', () => resolve(false)).once('connect', () => resolve(true))
  return promise.finally(() => probe.destroy())
}
