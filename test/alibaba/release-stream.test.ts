import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import { Duplex } from 'node:stream'
import { type TestContext, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import got, { type Request } from 'got'
import { RELEASED_FIELDS, releaseAfterSuccess } from '../../src/alibaba/release-stream.ts'
import { listenOn } from '../helpers/ports.ts'

/** A stream of got after its exchange with a server that answers in the given way. */
const exchange = async (t: TestContext, answer: (res: ServerResponse) => void): Promise<Request> => {
  const server = createServer((req, res) => req.resume().on('end', () => answer(res)))
  const url = `http://127.0.0.1:${await listenOn(t, server)}`
  const stream = got.stream(url, { method: 'POST', body: 'x=1', retry: { limit: 0 }, timeout: { request: 5000 } })
  releaseAfterSuccess(stream)
  stream.on('error', () => stream.destroy()).resume()
  await once(stream, 'close').catch(() => {})
  await turn()
  return stream
}

/** A stream of got that is destroyed in the middle of the response. */
const abandon = async (t: TestContext): Promise<Request> => {
  const server = createServer((req, res) => req.resume().on('end', () => res.write('{')))
  const stream = got.stream(`http://127.0.0.1:${await listenOn(t, server)}`, { method: 'POST', body: 'x=1' })
  releaseAfterSuccess(stream)
  stream.on('error', () => {}).once('data', () => stream.destroy())
  await once(stream, 'close')
  await turn()
  return stream
}

/** The fields of got itself: those that a plain Duplex does not have. */
const fieldsOf = (stream: Request): readonly (readonly [string, unknown])[] => {
  const ofNode = new Set(Object.keys(new Duplex()))
  return Object.entries(stream).filter(([name]) => !ofNode.has(name))
}

/** Numbers, booleans, and fields that this version of got never sets for a stream. */
const KEPT = [
  ...['constructor', '_noPipe', 'retryCount', '_stopReading', '_downloadedSize', '_uploadedSize', '_responseSize'],
  ...['_bodySize', '_triggerRead', '_flushed', '_aborted', '_retrying', '_expectedContentLength'],
  ...['_compressedBytesCount', '_skipRequestEndInFinal', '_dispatchingOwnBody', '_hasWrittenBody'],
  ...['_hasWritableBody', '_discardBodyWrites', '_requestInitialized', '_eventsCount'],
]

for (const [ending, answer] of [
  ['stays open', (res: ServerResponse) => res.end('{}')],
  ['is closed', (res: ServerResponse) => res.setHeader('connection', 'close').end('{}')],
] as const) {
  test(`after success a stream references nothing but Node's state, when the connection ${ending}`, async (t) => {
    const stream = await exchange(t, answer)
    const fields = fieldsOf(stream)
    assert.deepEqual(fields.map(([name]) => name).sort(), [...RELEASED_FIELDS, ...KEPT].sort())
    const references = fields.filter(([, value]) => value !== null && ['object', 'function'].includes(typeof value))
    assert.deepEqual(references, [])
    assert.deepEqual(stream.eventNames(), ['error'])
  })
}

test('a failure after the release is ignored', async (t) => {
  const stream = await exchange(t, (res) => res.end('{}'))
  assert.doesNotThrow(() => stream.emit('error', new Error('late')))
})

for (const [failure, answer] of [
  ['is reset', (res: ServerResponse) => res.socket?.resetAndDestroy()],
  ['ends within the response', (res: ServerResponse) => res.writeHead(200, { 'content-length': 9 }).end('{}')],
] as const) {
  test(`a stream keeps its fields when the connection ${failure}`, async (t) => {
    const { options } = await exchange(t, answer)
    assert.equal(options.method, 'POST')
  })
}

test('a stream keeps its fields when it is destroyed before the end of the response', async (t) => {
  const { options } = await abandon(t)
  assert.equal(options.method, 'POST')
})
