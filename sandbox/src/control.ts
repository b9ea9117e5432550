import { validateHeaderName, validateHeaderValue } from 'node:http'
import type { Credentials } from '../../src/alibaba/signing.ts'
import { ACTION_NAMES } from './actions.ts'
import type { SandboxCall } from './calls.ts'
import { FAULT_NAMES, type FailureReply, type Fault, type FaultReply } from './faults.ts'
import type { SandboxRequest } from './request.ts'
import type { NewTask, SandboxTask } from './tasks.ts'

/** What a person may do to a running sandbox over HTTP. */
export interface Controlled {
  readonly calls: readonly SandboxCall[]
  tasks(): readonly SandboxTask[]
  addTask(task: NewTask): string
  fault(action: string, fault: Fault, times?: number): void
  clearFaults(): void
  setClockOffset(ms: number): void
  addKeys(keys: Credentials): void
  revokeKeys(accessKeyId: string): void
}

export interface ControlReply {
  readonly status: number
  /** Absent where the reply has no body. */
  readonly body?: unknown
}

type Fields = Readonly<Record<string, unknown>>
type Route = (sandbox: Controlled, fields: Fields) => ControlReply

const PREFIX = '/sandbox/'
const DONE = { status: 204 } as const

/** Anything that is wrong with the input; its text is for the person who sent it. */
const bad = (text: string): Error => new Error(text)

export const isControl = ({ path }: SandboxRequest): boolean => path.startsWith(PREFIX)

export const answerControl = (sandbox: Controlled, request: SandboxRequest): ControlReply => {
  const route = ROUTES.get(`${request.method} ${request.path}`)
  if (route === undefined) return { status: 404, body: { error: `no such route, there are: ${routeNames()}` } }
  try {
    return route(sandbox, request.method === 'GET' ? {} : parseFields(request.body))
  } catch (error) {
    return { status: 400, body: { error: error instanceof Error ? error.message : String(error) } }
  }
}

const listTasks: Route = (sandbox) => ({ status: 200, body: sandbox.tasks() })

const createTask: Route = (sandbox, fields) => {
  const taskNo = sandbox.addTask({
    taskNo: optional(fields, 'taskNo', textOf),
    taskType: optional(fields, 'taskType', textOf),
    domains: optional(fields, 'domains', textsOf),
  })
  return { status: 201, body: { taskNo } }
}

const listCalls: Route = (sandbox) => ({ status: 200, body: sandbox.calls })

const addFault: Route = (sandbox, { action, fault, times = 1 }) => {
  if (!ACTION_NAMES.some((name) => name === action)) throw bad(`action must be one of ${ACTION_NAMES.join(', ')}`)
  if (!isInteger(times) || times < 1) throw bad('times must be a positive integer')
  sandbox.fault(textOf(action, 'action'), parseFault(fault), times)
  return DONE
}

const clearFaults: Route = (sandbox) => {
  sandbox.clearFaults()
  return DONE
}

const setClock: Route = (sandbox, { offsetMs }) => {
  if (!isInteger(offsetMs)) throw bad('offsetMs must be an integer, in milliseconds')
  sandbox.setClockOffset(offsetMs)
  return DONE
}

const addKeys: Route = (sandbox, fields) => {
  sandbox.addKeys({
    accessKeyId: textOf(fields.accessKeyId, 'accessKeyId'),
    accessKeySecret: textOf(fields.accessKeySecret, 'accessKeySecret'),
    securityToken: optional(fields, 'securityToken', textOf),
  })
  return DONE
}

const revokeKeys: Route = (sandbox, { accessKeyId }) => {
  sandbox.revokeKeys(textOf(accessKeyId, 'accessKeyId'))
  return DONE
}

const ROUTES = new Map<string, Route>([
  ['GET /sandbox/tasks', listTasks],
  ['POST /sandbox/tasks', createTask],
  ['GET /sandbox/calls', listCalls],
  ['POST /sandbox/faults', addFault],
  ['DELETE /sandbox/faults', clearFaults],
  ['PUT /sandbox/clock', setClock],
  ['POST /sandbox/keys', addKeys],
  ['DELETE /sandbox/keys', revokeKeys],
])

const routeNames = (): string => [...ROUTES.keys()].join(', ')

const parseFields = (body: string): Fields => {
  const value: unknown = body === '' ? {} : parseJson(body)
  if (!isFields(value)) throw bad('the body must be a JSON object')
  return value
}

const parseJson = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    throw bad('the body must be JSON')
  }
}

const parseFault = (value: unknown): Fault => {
  if (!isFields(value)) throw bad('fault must be an object with a reply')
  const { reply, effect } = value
  if (effect !== undefined && typeof effect !== 'boolean') throw bad('fault.effect must be true or false')
  return effect === undefined ? { reply: parseReply(reply) } : { reply: parseReply(reply), effect }
}

const parseReply = (value: unknown): FaultReply => {
  const name = FAULT_NAMES.find((known) => known === value)
  if (name !== undefined) return name
  if (!isFields(value)) throw bad(`fault.reply must be {code, status} or one of ${FAULT_NAMES.join(', ')}`)
  return parseFailureReply(value)
}

const parseFailureReply = ({ code, status, message, headers = {} }: Fields): FailureReply => {
  if (!isInteger(status) || status < 200 || status > 599) throw bad('fault.reply.status must be from 200 to 599')
  return {
    code: textOf(code, 'fault.reply.code'),
    status,
    ...(message === undefined ? {} : { message: textOf(message, 'fault.reply.message') }),
    headers: headersOf(headers),
  }
}

const headersOf = (value: unknown): Readonly<Record<string, string>> => {
  if (!isFields(value)) throw bad('fault.reply.headers must be an object')
  const headers = Object.entries(value).map(([name, text]) => [name, textOf(text, `header ${name}`)] as const)
  for (const [name, text] of headers) {
    validateHeaderName(name)
    validateHeaderValue(name, text)
  }
  return Object.fromEntries(headers)
}

const optional = <T>(fields: Fields, name: string, parse: (value: unknown, name: string) => T): T | undefined =>
  fields[name] === undefined ? undefined : parse(fields[name], name)

const textOf = (value: unknown, name: string): string => {
  if (typeof value !== 'string' || value === '') throw bad(`${name} must be a text that is not empty`)
  return value
}

const textsOf = (value: unknown, name: string): readonly string[] => {
  if (!Array.isArray(value)) throw bad(`${name} must be a list of texts`)
  return value.map((item: unknown) => textOf(item, `each of ${name}`))
}

const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const isInteger = (value: unknown): value is number => Number.isSafeInteger(value)
