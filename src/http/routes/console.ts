import { readFile } from 'node:fs/promises'
import type { RequestHandler } from 'express'
import { csp } from '../presentation/csp.ts'
import { createAssets } from './assets.ts'

export interface ConsoleOptions {
  /** Whether the page offers to sign in through the gateway. */
  readonly signIn: boolean
}

export type Console = Awaited<ReturnType<typeof createConsole>>

const PUBLIC = new URL('.', import.meta.resolve('#public/index.html'))

/** The page contains no code or style, loads from the gateway alone, and its scripts cannot make code of texts. */
const POLICY = csp({
  'script-src': "'self'",
  'style-src': "'self'",
  'img-src': "'self'",
  'connect-src': "'self'",
  'require-trusted-types-for': "'script'",
  'trusted-types': "'none'",
})

/** A page for people to look at tasks and to cancel them, and the files that it loads. */
export const createConsole = async ({ signIn }: ConsoleOptions) => {
  const markup = await readFile(new URL('index.html', PUBLIC), 'utf8')
  const page = markup.replace('data-sign-in="false"', `data-sign-in="${signIn}"`)
  // Browsers revalidate each time, so that scripts of two versions are never mixed.
  const options = { names: /^[a-z-]+\.(css|js|svg)$/, contentSecurityPolicy: POLICY, cacheControl: 'no-cache' }
  const asset = await createAssets(PUBLIC, options)
  const consolePage: RequestHandler = function consolePage(_req, res) {
    res.set('Content-Security-Policy', POLICY).type('html').send(page)
  }
  const startPage: RequestHandler = function startPage(_req, res) {
    res.status(302).location('console').end()
  }
  return { page: consolePage, start: startPage, asset }
}
