import { createServer, type RequestListener } from 'node:http'

// The settings that every peer gets from its environment.

export const upstream = String(process.env.UPSTREAM_URL)

export const keys = { accessKeyId: 'bench-key-id', accessKeySecret: 'bench-key-secret' } as const

/** Listens where it is told to. */
export const listen = (app: RequestListener): void => {
  createServer(app).listen(Number(process.env.PORT), '127.0.0.1')
}
