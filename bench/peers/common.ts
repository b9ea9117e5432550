import { createServer, type RequestListener } from 'node:http'

// Settings of every peer, from its environment.

export const upstream = String(process.env.UPSTREAM_URL)

export const keys = { accessKeyId: 'bench-key-id', accessKeySecret: 'bench-key-secret' } as const

/** Listens on the port of the environment. */
export const listen = (app: RequestListener): void => {
  createServer(app).listen(Number(process.env.PORT), '127.0.0.1')
}
