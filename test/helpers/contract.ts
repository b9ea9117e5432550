import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { Ajv2020 } from 'ajv/dist/2020.js'
import formats from 'ajv-formats'
import supertest from 'supertest'

// Validates responses against openapi.yaml.

type Content = Readonly<
  Record<string, { readonly schema: object; readonly examples?: Readonly<Record<string, object>> }>
>

interface Header {
  readonly required?: boolean
  readonly schema: object
}

interface Response {
  readonly headers?: Readonly<Record<string, Header>>
  readonly content?: Content
}

export interface Operation {
  readonly operationId: string
  readonly responses: Readonly<Record<string, Response>>
}

type PathItem = Readonly<Record<string, Operation>>

interface Document {
  readonly info: { readonly version: string; readonly description: string }
  readonly paths: Readonly<Record<string, PathItem>>
  readonly components: {
    readonly headers: Readonly<Record<string, Header>>
    readonly schemas: { readonly ProblemCode: { readonly enum: readonly string[] } }
    readonly examples: Readonly<Record<string, { readonly value: Readonly<Record<string, unknown>> }>>
  }
}

const TEXT = readFileSync(join(import.meta.dirname, '../../openapi.yaml'), 'utf8')

const CACHE = join(import.meta.dirname, '../../node_modules/.cache')

/**
 * The document as JSON. The parser of YAML takes longer than most test files, so that all test processes share its
 * result: one file for each content, written in one step.
 */
const jsonOfDocument = async (): Promise<string> => {
  const path = join(CACHE, `openapi-${createHash('sha256').update(TEXT).digest('hex')}.json`)
  try {
    return readFileSync(path, 'utf8')
  } catch {
    const { parse } = await import('yaml')
    const json = JSON.stringify(parse(TEXT))
    mkdirSync(CACHE, { recursive: true })
    writeFileSync(`${path}.${process.pid}`, json)
    renameSync(`${path}.${process.pid}`, path)
    return json
  }
}

const JSON_TEXT = await jsonOfDocument()

/** As written, with unresolved references. */
export const DOCUMENT: Document = JSON.parse(JSON_TEXT)

const SCHEMAS = 'schemas'
// References become absolute, so that the validator can resolve them from any schema.
const RESOLVABLE = JSON.parse(JSON_TEXT, (key: string, value: unknown) =>
  key === '$ref' ? String(value).replace('#/components/schemas/', `${SCHEMAS}#/$defs/`) : value,
)

const ajv = new Ajv2020({ strict: true, allErrors: true, allowUnionTypes: true })
formats.default(ajv)
ajv.addSchema({ $id: SCHEMAS, $defs: RESOLVABLE.components.schemas })

/** Follows a reference; schemas are left to the validator. */
const resolve = <T>(node: T): T => {
  const reference = typeof node === 'object' && node !== null && '$ref' in node ? String(node.$ref) : null
  if (reference === null) return node
  const steps = reference.replace('#/', '').split('/')
  return steps.reduce((found, step) => found[step], RESOLVABLE)
}

const METHODS = ['get', 'put', 'post', 'delete', 'options', 'head', 'patch', 'trace'] as const

export interface DocumentedOperation {
  readonly method: string
  readonly path: string
  readonly operation: Operation
}

export const OPERATIONS: readonly DocumentedOperation[] = Object.entries<PathItem>(RESOLVABLE.paths).flatMap(
  ([path, item]) =>
    METHODS.flatMap((method) => {
      const operation = item[method]
      return operation === undefined ? [] : [{ method: method.toUpperCase(), path, operation }]
    }),
)

/** Problems that any request can receive, from the introduction of the document: code and status. */
export const GENERAL_PROBLEMS: readonly (readonly [string, number])[] = [
  ...DOCUMENT.info.description.matchAll(/`([a-z]+(?:-[a-z]+)*)`\s+\((\d{3})\b/g),
].map(([, code = '', status]) => [code, Number(status)])

/** General problems of paths and methods without a route. */
const UNROUTED: readonly string[] = ['not-found', 'method-not-allowed']

const GENERAL: Response = {
  headers: { 'X-Request-Id': resolve(RESOLVABLE.components.headers['X-Request-Id']) },
  content: { 'application/problem+json': { schema: { $ref: `${SCHEMAS}#/$defs/Problem` } } },
}

/** The response to `If-None-Match: *` and to preflights, from the introduction of the document. */
const EMPTY: Response = { headers: { 'X-Request-Id': resolve(RESOLVABLE.components.headers['X-Request-Id']) } }

const isEmpty = ({ method, status }: Answer, isUnrouted: boolean): boolean =>
  method === 'OPTIONS' ? status === 204 : status === 304 && !isUnrouted

export interface Answer {
  readonly method: string
  /** With its query or without. */
  readonly path: string
  readonly status: number
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string | undefined>>
  readonly text: string
}

const findOperation = ({ method, path }: Answer): Operation | undefined => {
  const [pathname = ''] = path.split('?')
  const found = OPERATIONS.find(
    (it) =>
      it.method === (method === 'HEAD' ? 'GET' : method) &&
      new RegExp(`^${it.path.replaceAll('.', '\\.').replace(/\{\w+\}/g, '[^/]+')}$`).test(pathname),
  )
  return found?.operation
}

const jsonOf = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

const codeIn = (body: unknown): string | null =>
  typeof body === 'object' && body !== null && 'code' in body ? String(body.code) : null

/** The problem codes among the examples of a response; null if the response is not a problem. */
export const problemCodesOf = (response: Response): readonly string[] | null => {
  const problem = resolve(response).content?.['application/problem+json']
  return problem === undefined ? null : Object.keys(problem.examples ?? {})
}

/** The documented response; undefined if there is none. */
const findResponse = (answer: Answer): Response | undefined => {
  const operation = findOperation(answer)
  const own = operation?.responses[String(answer.status)]
  const code = codeIn(jsonOf(answer.text))
  const codes = own === undefined ? null : problemCodesOf(own)
  if (own !== undefined && (codes === null || code === null || codes.includes(code))) return resolve(own)
  if (isEmpty(answer, operation === undefined)) return EMPTY
  return isGeneral(answer, code, operation === undefined) ? GENERAL : undefined
}

/** A response to HEAD has no body, and so no code. */
const isGeneral = ({ method, status }: Answer, code: string | null, isUnrouted: boolean): boolean =>
  GENERAL_PROBLEMS.some(
    ([general, itsStatus]) =>
      itsStatus === status &&
      (isUnrouted || !UNROUTED.includes(general)) &&
      (method === 'HEAD' ? code === null : code === general),
  )

const faultsOf = (what: string, schema: object, value: unknown): readonly string[] => {
  const validate = ajv.compile(schema)
  return validate(value) ? [] : [`${what} ${ajv.errorsText(validate.errors, { dataVar: '' })}`]
}

const headerFaults = (response: Response, { headers }: Answer): readonly string[] =>
  Object.entries(response.headers ?? {}).flatMap(([name, header]) => {
    const { required = false, schema } = resolve(header)
    const value = headers[name.toLowerCase()]
    // A header with several lines is an array.
    if (value !== undefined) return faultsOf(name, schema, String(value))
    return required ? [`${name} is missing`] : []
  })

const bodyFaults = ({ content }: Response, { method, headers, text }: Answer): readonly string[] => {
  if (content === undefined || method === 'HEAD') return text === '' ? [] : ['there is a body']
  const [type = ''] = (headers['content-type'] ?? '').split(';')
  const media = content[type]
  if (media === undefined) return [`the type "${type}" is not documented`]
  return faultsOf('the body', media.schema, type.endsWith('json') ? jsonOf(text) : text)
}

/** Differences from the document. Files of the docs page and of the console are not documented. */
export const findViolations = (answer: Answer): readonly string[] => {
  if (/^\/(docs|console)\//.test(answer.path) && [200, 304].includes(answer.status)) return []
  const response = findResponse(answer)
  const faults =
    response === undefined
      ? ['this answer is not documented']
      : [...headerFaults(response, answer), ...bodyFaults(response, answer)]
  return faults.map((fault) => `${answer.method} ${answer.path} ${answer.status}: ${fault}`)
}

/** A client that validates every response; undocumented responses fail the test at its end. */
export const createApi = (t: TestContext, url: string): ReturnType<typeof supertest> => {
  const violations: string[] = []
  t.after(() => assert.deepEqual(violations, []))
  return supertest.agent(url).on('response', (response: supertest.Response) => {
    const { status, headers, text = '' } = response
    const { method, url: target } = response.request
    violations.push(...findViolations({ method, path: target.replace(url, ''), status, headers, text }))
  })
}
