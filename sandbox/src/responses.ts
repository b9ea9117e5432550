import { randomUUID } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { pipeline, Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { canonicalQuery } from '../../src/alibaba/signing.ts'
import type { ActionResult } from './actions.ts'
import type { Decision } from './decision.ts'
import { type Failure, failure } from './failures.ts'
import type { FailureReply, FaultName } from './faults.ts'
import type { SignedRequest } from './signed-request.ts'

/** A response before it is sent. */
interface UpstreamResponse {
  readonly status: number
  readonly body: Readonly<Record<string, unknown>>
  readonly headers?: Readonly<Record<string, string>> | undefined
}

/** The data from which a fault makes its response. */
interface FaultContext {
  readonly socket: Socket
  readonly right: UpstreamResponse
  readonly envelope: UpstreamResponse
  readonly elsewhere: string
}

type SendFault = (res: ServerResponse, context: FaultContext) => void

const HOST_ID = 'domain.aliyuncs.com'
const HUGE_BYTES = 64 * 1024 * 1024
const HUGE_CHUNK = 'A'.repeat(64 * 1024)
const SLOW_BYTE_MS = 2
/** How much of a truncated response is announced and never sent. */
const WITHHELD_BYTES = 100

const JSON_TYPE = { 'content-type': 'application/json;charset=utf-8' } as const

/** Sends the response that was decided on: the right one, or that of a fault. */
export const sendResponse = (
  res: ServerResponse,
  { signedRequest, fault, result }: Decision,
  context: Pick<FaultContext, 'socket' | 'elsewhere'>,
): void => {
  const requestId = randomUUID().toUpperCase()
  const right = rightResponse(requestId, signedRequest, result)
  if (fault === undefined) writeResponse(res, right)
  else if (typeof fault.reply === 'object') writeResponse(res, scriptedResponse(requestId, fault.reply))
  else SEND_FAULT[fault.reply](res, { ...context, right, envelope: envelopeOf(signedRequest, right) })
}

/** For a request that the sandbox itself can't serve, such as one with a body that is far too long. */
export const sendInternalError = (res: ServerResponse): void => {
  const { code, status, en } = failure('InternalError')
  if (res.headersSent) res.destroy()
  else writeResponse(res, { status, body: failureBody(randomUUID().toUpperCase(), code, en) })
}

const scriptedResponse = (requestId: string, reply: FailureReply): UpstreamResponse => {
  const { code, status, message = 'sandbox fault', headers } = reply
  return { status, body: failureBody(requestId, code, message), headers }
}

const rightResponse = (
  requestId: string,
  signedRequest: SignedRequest,
  { failure: found, fields }: ActionResult,
): UpstreamResponse =>
  found === null
    ? { status: 200, body: { RequestId: requestId, ...fields } }
    : { status: found.status, body: failureBody(requestId, found.code, messageOf(found, signedRequest)) }

const messageOf = ({ en, zh }: Failure, { params }: SignedRequest): string => (params.Lang === 'zh' ? zh : en)

const failureBody = (requestId: string, code: string, message: string): UpstreamResponse['body'] => ({
  RequestId: requestId,
  HostId: HOST_ID,
  Code: code,
  Message: message,
})

/** The form that the vendor's page on CancelTask shows. It contains the URL of the request with its signature. */
const envelopeOf = (
  { params, accessKeyId, signature }: SignedRequest,
  { status, body }: UpstreamResponse,
): UpstreamResponse => {
  const { Code = '200', Message = 'success' } = body
  const signed = canonicalQuery({ ...params, AccessKeyId: accessKeyId, Signature: signature })
  return {
    status,
    body: {
      code: Code,
      data: { HostId: HOST_ID, Code, Message, ...body },
      name: Code === '200' ? 'TaskCancellSuccess' : Code,
      message: Message,
      url: `http://127.0.0.1/?${signed}`,
    },
  }
}

const writeResponse = (res: ServerResponse, { status, body, headers }: UpstreamResponse): void => {
  const text = JSON.stringify(body)
  res.writeHead(status, { ...JSON_TYPE, 'content-length': Buffer.byteLength(text), ...headers }).end(text)
}

const truncate: SendFault = (res, { socket, right }) => {
  const text = JSON.stringify(right.body)
  res.writeHead(right.status, { ...JSON_TYPE, 'content-length': Buffer.byteLength(text) + WITHHELD_BYTES })
  res.write(text, () => socket.destroy())
}

const huge: SendFault = (res) => {
  res.writeHead(200, JSON_TYPE)
  stream(Readable.from(hugeText()), res)
}

function* hugeText(): Generator<string> {
  yield '{"RequestId":"'
  for (let sent = 0; sent < HUGE_BYTES; sent += HUGE_CHUNK.length) yield HUGE_CHUNK
  yield '"}'
}

const slow: SendFault = (res, { right }) => {
  const bytes = Buffer.from(JSON.stringify(right.body))
  res.writeHead(right.status, { ...JSON_TYPE, 'content-length': bytes.length })
  stream(Readable.from(byteByByte(bytes)), res)
}

async function* byteByByte(bytes: Buffer): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += 1) {
    yield bytes.subarray(at, at + 1)
    await delay(SLOW_BYTE_MS)
  }
}

/** A caller that disconnects ends the stream, which is expected: the error is ignored. */
const stream = (source: Readable, res: ServerResponse): void => {
  pipeline(source, res, () => {})
}

/** One row more than there are. */
const wrongTotal: SendFault = (res, { right }) => {
  const { TotalItemNum } = right.body
  writeResponse(res, { ...right, body: { ...right.body, TotalItemNum: Number(TotalItemNum) + 1 } })
}

const SEND_FAULT = {
  stall: () => {},
  reset: (_res, { socket }) => socket.resetAndDestroy(),
  truncate,
  'not-json': (res) => res.writeHead(200, { 'content-type': 'text/html' }).end('<html><body>Bad Gateway</body></html>'),
  huge,
  redirect: (res, { elsewhere }) => res.writeHead(302, { location: elsewhere }).end(),
  'no-request-id': (res) => writeResponse(res, { status: 200, body: {} }),
  envelope: (res, { envelope }) => writeResponse(res, envelope),
  slow,
  right: (res, { right }) => writeResponse(res, right),
  'wrong-total': wrongTotal,
} as const satisfies Record<FaultName, SendFault>
