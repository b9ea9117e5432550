import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import type { RequestHandler } from 'express'
import { GatewayError } from '../../errors.ts'

/** A page on which people look at tasks and cancel them. */
export interface Console {
  readonly page: RequestHandler
  /** What the page loads, by the `:file` of the path. */
  readonly asset: RequestHandler
}

export interface ConsoleOptions {
  /** Whether the page offers to sign in through the gateway. */
  readonly signIn: boolean
}

const PUBLIC = new URL('../../../public/', import.meta.url)
const FILES = [
  'api.js',
  'cancel.js',
  'console.css',
  'console.js',
  'dom.js',
  'history.js',
  'icon.svg',
  'parts.js',
  'sign-in.js',
  'task.js',
  'tasks.js',
  'texts.js',
  'watch.js',
] as const

/** The page loads from here alone; no code or style stands in it, and its scripts can make none out of texts. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join('; ')

/** Reads everything once, since none of it changes while the process runs. */
export const createConsole = async ({ signIn }: ConsoleOptions): Promise<Console> => {
  const page = await readFile(new URL('index.html', PUBLIC), 'utf8')
  const markup = page.replace('data-sign-in="false"', `data-sign-in="${signIn}"`)
  const assets = new Map<string, Asset>(await Promise.all(FILES.map(readAsset)))
  return {
    page: function consolePage(_req, res) {
      res.set('Content-Security-Policy', POLICY).type('html').send(markup)
    },

    asset: function consoleAsset(req, res) {
      const name = String(req.params.file)
      const asset = assets.get(name)
      if (asset === undefined) throw new GatewayError('not-found')
      // Asked for each time, so that scripts of two versions never meet.
      res.set({ 'Content-Security-Policy': POLICY, 'Cache-Control': 'no-cache', ETag: asset.etag })
      res.type(name).send(asset.content)
    },
  }
}

interface Asset {
  readonly content: Buffer
  readonly etag: string
}

const readAsset = async (name: string): Promise<readonly [string, Asset]> => {
  const content = await readFile(new URL(name, PUBLIC))
  return [name, { content, etag: `"${createHash('sha256').update(content).digest('base64url')}"` }]
}
