import { createServer } from 'node:http'
import { openPort, type Port } from './ports.ts'

export interface AdminListener {
  readonly url: string
  close(): void
}

/** What is shown to the machines that watch this one. */
export interface Shown {
  readonly contentType: string
  text(): Promise<string>
}

/**
 * `GET /metrics` on a port of its own, for the operator's network: without credentials, and with nothing else.
 * @throws ConfigError where the port can't be opened
 */
export const listenAdmin = async ({ contentType, text }: Shown, port: Port): Promise<AdminListener> => {
  const server = createServer((req, res) => {
    const isAsked = req.url === '/metrics' && (req.method === 'GET' || req.method === 'HEAD')
    if (!isAsked) return void res.writeHead(404).end()
    text().then(
      (metrics) => res.writeHead(200, { 'Content-Type': contentType, 'Cache-Control': 'no-store' }).end(metrics),
      () => res.writeHead(500).end(),
    )
  })
  const url = await openPort(server, port, 'ADMIN_')
  // What watches a process keeps none alive.
  server.unref()
  return { url, close: () => void server.close().closeAllConnections() }
}
