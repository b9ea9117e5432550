import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'

export type Params = Readonly<Record<string, string>>

/** What came over the wire, with nothing decided yet. */
export interface SandboxRequest {
  readonly method: string
  readonly path: string
  readonly query: Params
  /** Parameters of a form body; empty for every other body. */
  readonly form: Params
  /** Names in lower case. */
  readonly headers: Params
  readonly body: string
}

const MAX_BODY_BYTES = 1024 * 1024
const FORM = 'application/x-www-form-urlencoded'

/** Reads the whole request. Rejects where the caller goes away or sends more than 1 MiB. */
export const readRequest = async (req: IncomingMessage): Promise<SandboxRequest> => {
  const body = await readBody(req)
  const headers = flatten(req.headers)
  const { path, query } = splitTarget(req.url ?? '/')
  const form = headers['content-type']?.startsWith(FORM) ? parseForm(body) : {}
  return { method: req.method ?? 'GET', path, query, form, headers, body }
}

const readBody = async (req: AsyncIterable<Uint8Array>): Promise<string> => {
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of req) {
    bytes += chunk.length
    if (bytes > MAX_BODY_BYTES) throw new Error('the request body is too large')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

const splitTarget = (target: string): { path: string; query: Params } => {
  const mark = target.indexOf('?')
  if (mark === -1) return { path: target, query: {} }
  return { path: target.slice(0, mark), query: parseForm(target.slice(mark + 1)) }
}

const parseForm = (text: string): Params => Object.fromEntries(new URLSearchParams(text))

const flatten = (headers: IncomingHttpHeaders): Params =>
  Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, [value ?? ''].flat().join(',')]))
