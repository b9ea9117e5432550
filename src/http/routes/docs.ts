import { readFile } from 'node:fs/promises'
import type { RequestHandler } from 'express'
import { parse } from 'yaml'
import { csp } from '../presentation/csp.ts'
import { createAssets } from './assets.ts'

export type Docs = Awaited<ReturnType<typeof createDocs>>

const DOCUMENT = new URL(import.meta.resolve('#openapi.yaml'))

/** The page contains no code or style, and loads from the gateway alone. Icons are images inside the style sheet. */
const POLICY = csp({
  'script-src': "'self'",
  'style-src': "'self'",
  'img-src': "'self' data:",
  'connect-src': "'self'",
})

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

// The standalone layout would show a badge that asks a third party whether the document is valid.
// A request with a key or a token is sent without cookies: together with a session it would be ambiguous.
const START = `const isCredential = (name) => ['x-api-key', 'authorization'].includes(name.toLowerCase())

const requestInterceptor = (request) => {
  if (Object.keys(request.headers ?? {}).some(isCredential)) request.credentials = 'omit'
  return request
}

SwaggerUIBundle({ url: 'openapi.json', dom_id: '#swagger-ui', deepLinking: true, requestInterceptor })
`

/** The OpenAPI document, for tools and as a page, and the files that the page loads. */
export const createDocs = async () => {
  const document: unknown = parse(await readFile(DOCUMENT, 'utf8'))
  const asset = await createAssets(new URL('.', import.meta.resolve('swagger-ui-dist/package.json')), {
    names: /^swagger-ui(\.css|-bundle\.js)$/,
    contentSecurityPolicy: POLICY,
    cacheControl: 'public, max-age=3600',
    texts: { 'start.js': START },
  })
  const openapi: RequestHandler = function openapi(_req, res) {
    res.json(document)
  }
  const page: RequestHandler = function docsPage(_req, res) {
    res.set('Content-Security-Policy', POLICY).type('html').send(PAGE)
  }
  return { openapi, page, asset }
}
