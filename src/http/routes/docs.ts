import { readFile } from 'node:fs/promises'
import type { RequestHandler } from 'express'
import { parse } from 'yaml'
import { GatewayError } from '../../errors.ts'

/** The description of the interface, for tools and as a page. */
export interface Docs {
  readonly openapi: RequestHandler
  readonly page: RequestHandler
  /** What the page loads, by the `:file` of the path. */
  readonly asset: RequestHandler
}

const DOCUMENT = new URL('../../../openapi.yaml', import.meta.url)
const SWAGGER_UI = import.meta.resolve('swagger-ui-dist/package.json')
const ASSET_AGE_S = 3600

/** The page loads from here alone, and no code or style stands in it. Icons are images that stand in the style sheet. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ')

const PAGE = `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>Domain task gateway</title>
    <link rel="icon" href="data:,">
    <link rel="stylesheet" href="docs/swagger-ui.css">
  </head>
  <body>
    <div id="swagger-ui"></div>
    <script src="docs/swagger-ui-bundle.js"></script>
    <script src="docs/start.js"></script>
  </body>
</html>
`

// The plain layout: the other one brings a badge that asks a stranger whether the document is valid.
// A request with a key or a token goes without cookies: beside a session it would be ambiguous.
const START = `const isCredential = (name) => ['x-api-key', 'authorization'].includes(name.toLowerCase())

const requestInterceptor = (request) => {
  if (Object.keys(request.headers ?? {}).some(isCredential)) request.credentials = 'omit'
  return request
}

SwaggerUIBundle({ url: 'openapi.json', dom_id: '#swagger-ui', deepLinking: true, requestInterceptor })
`

/** Reads everything once, since none of it changes while the process runs. */
export const createDocs = async (): Promise<Docs> => {
  const document: unknown = parse(await readFile(DOCUMENT, 'utf8'))
  const assets = await readAssets()
  return {
    openapi: function openapi(_req, res) {
      res.json(document)
    },

    page: function docsPage(_req, res) {
      res.set('Content-Security-Policy', POLICY).type('html').send(PAGE)
    },

    asset: function docsAsset(req, res) {
      const name = String(req.params.file)
      const content = assets.get(name)
      if (content === undefined) throw new GatewayError('not-found')
      res.set({ 'Content-Security-Policy': POLICY, 'Cache-Control': `public, max-age=${ASSET_AGE_S}` })
      res.type(name).send(content)
    },
  }
}

const readAssets = async (): Promise<ReadonlyMap<string, Buffer>> => {
  const names = ['swagger-ui.css', 'swagger-ui-bundle.js'] as const
  const read = names.map(async (name) => [name, await readFile(new URL(name, SWAGGER_UI))] as const)
  return new Map([...(await Promise.all(read)), ['start.js', Buffer.from(START)] as const])
}
