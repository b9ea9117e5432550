import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import type { RequestHandler } from 'express'
import { GatewayError } from '../../errors.ts'

export interface AssetOptions {
  /** Names of the files that are served. */
  readonly names: RegExp
  readonly contentSecurityPolicy: string
  readonly cacheControl: string
  /** Texts that are served beside the files, by name. */
  readonly texts?: Readonly<Record<string, string>>
}

/**
 * Serves files of that folder by the `:file` of the path. Reads them once, since they do not change while the process
 * runs. @throws not-found for any other name
 */
export const createAssets = async (folder: URL, options: AssetOptions): Promise<RequestHandler> => {
  const { names, contentSecurityPolicy, cacheControl, texts = {} } = options
  const files = (await readdir(folder)).filter((name) => names.test(name))
  const read = files.map(async (name) => [name, await readFile(new URL(name, folder))] as const)
  const contents = [
    ...(await Promise.all(read)),
    ...Object.entries(texts).map(([name, text]) => [name, Buffer.from(text)] as const),
  ]
  const assets = new Map(contents.map(([name, content]) => [name, { content, etag: etagOf(content) }]))
  return function assetServer(req, res) {
    const name = String(req.params.file)
    const asset = assets.get(name)
    if (asset === undefined) throw new GatewayError('not-found')
    res.set({ 'Content-Security-Policy': contentSecurityPolicy, 'Cache-Control': cacheControl, ETag: asset.etag })
    res.type(name).send(asset.content)
  }
}

/** A strong entity tag of the content (RFC 9110, 8.8.3). */
export const etagOf = (content: Buffer | string): string =>
  `"${createHash('sha256').update(content).digest('base64url')}"`
