import { once } from 'node:events'
import { type ClientRequest, request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import type { TestContext } from 'node:test'

// Requests that HTTP clients refuse to send.

export interface RawAnswer {
  readonly status: number
  /** Names in lower case; the last line of each name. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

export const openSocket = (url: string): Socket => {
  const { hostname, port } = new URL(url)
  // The server may close the connection while the request is sent; its response still counts.
  return connect(Number(port), hostname).on('error', () => {})
}

/** Sends the bytes unchanged, and reads until the server closes the connection. */
export const sendBytes = (url: string, bytes: string): Promise<string> => {
  const socket = openSocket(url)
  socket.write(bytes, 'latin1')
  return text(socket)
}

export const sendRaw = async (url: string, bytes: string): Promise<RawAnswer> =>
  parseAnswer(await sendBytes(url, bytes))

/** One request on its own connection; the path and the header lines are sent unchanged. */
export const sendLine = (url: string, methodAndPath: string, ...lines: readonly string[]): Promise<RawAnswer> =>
  sendRaw(url, [`${methodAndPath} HTTP/1.1`, 'Host: 127.0.0.1', 'Connection: close', ...lines, '', ''].join('\r\n'))

export const statusAndCode = ({ status, body }: RawAnswer): readonly [number, unknown] => [
  status,
  body.startsWith('{') ? JSON.parse(body).code : undefined,
]

export const parseAnswer = (answer: string): RawAnswer => {
  const end = answer.indexOf('\r\n\r\n')
  const [start = '', ...lines] = answer.slice(0, end).split('\r\n')
  const fields = lines
    .map((line) => line.split(': '))
    .map(([name = '', ...value]) => [name.toLowerCase(), value.join(': ')])
  return { status: Number(start.split(' ')[1]), headers: Object.fromEntries(fields), body: answer.slice(end + 4) }
}

/** All complete responses on one connection, without those of status 1xx. */
export const parseAnswers = (text: string): readonly RawAnswer[] => {
  const answers: RawAnswer[] = []
  for (let rest = text; rest.includes('\r\n\r\n'); ) {
    const answer = parseAnswer(rest)
    const bytes = Buffer.from(answer.body)
    const length = Number(answer.headers['content-length'] ?? 0)
    if (answer.status >= 200 && bytes.length >= length) {
      answers.push({ ...answer, body: bytes.toString('utf8', 0, length) })
    }
    rest = bytes.toString('utf8', length)
  }
  return answers
}

/** Opens a connection until the end of the test; resolves once the gateway has accepted it and read the bytes. */
export const holdOpen = async (t: TestContext, { url }: { readonly url: string }, bytes: string): Promise<void> => {
  const socket = openSocket(url)
  t.after(() => socket.destroy())
  await once(socket, 'connect')
  socket.write(bytes)
  await sendLine(url, 'GET /livez')
}

type Headers = Readonly<Record<string, string>>

const startRequest = (method: string, url: string, path: string, headers: Headers): ClientRequest => {
  const sent = request(new URL(path, url), { method, headers, agent: false })
  sent.on('error', () => {})
  sent.on('response', (res) => res.resume())
  return sent.end()
}

/** A cancel request that the caller can abandon with `destroy()`. */
export const startCancel = (url: string, path: string, headers: Headers): ClientRequest =>
  startRequest('DELETE', url, path, headers)

/** A read that the caller can abandon with `destroy()`. */
export const startGet = (url: string, path: string, headers: Headers): ClientRequest =>
  startRequest('GET', url, path, headers)
