import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { pipeline, Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import type { FaultName } from './faults.ts'

/** An answer before it goes out. */
export interface Reply {
  readonly status: number
  readonly body: Readonly<Record<string, unknown>>
  readonly headers?: Readonly<Record<string, string>> | undefined
}

/** What faults need beyond the right answer. */
export interface FaultContext {
  readonly socket: Socket
  readonly right: Reply
  readonly envelope: Reply
  readonly elsewhere: string
}

type SendFault = (res: ServerResponse, context: FaultContext) => void

const HUGE_BYTES = 64 * 1024 * 1024
const HUGE_CHUNK = 'A'.repeat(64 * 1024)
const SLOW_BYTE_MS = 2
/** How much of a truncated answer is announced and never sent. */
const WITHHELD_BYTES = 100

const JSON_TYPE = { 'content-type': 'application/json;charset=utf-8' } as const

export const sendReply = (res: ServerResponse, { status, body, headers }: Reply): void => {
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

/** A caller that goes away ends the stream; that is what it is for, so the error says nothing. */
const stream = (source: Readable, res: ServerResponse): void => {
  pipeline(source, res, () => {})
}

/** One row more than there are. */
const wrongTotal: SendFault = (res, { right }) => {
  const { TotalItemNum } = right.body
  sendReply(res, { ...right, body: { ...right.body, TotalItemNum: Number(TotalItemNum) + 1 } })
}

const SEND_FAULT = {
  stall: () => {},
  reset: (_res, { socket }) => socket.resetAndDestroy(),
  truncate,
  'not-json': (res) => res.writeHead(200, { 'content-type': 'text/html' }).end('<html><body>Bad Gateway</body></html>'),
  huge,
  redirect: (res, { elsewhere }) => res.writeHead(302, { location: elsewhere }).end(),
  'no-request-id': (res) => sendReply(res, { status: 200, body: {} }),
  envelope: (res, { envelope }) => sendReply(res, envelope),
  slow,
  right: (res, { right }) => sendReply(res, right),
  'wrong-total': wrongTotal,
} as const satisfies Record<FaultName, SendFault>

export const sendFault = (name: FaultName, res: ServerResponse, context: FaultContext): void =>
  void SEND_FAULT[name](res, context)
