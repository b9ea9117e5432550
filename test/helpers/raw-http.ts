import { once } from 'node:events'
import { type ClientRequest, request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import type { TestContext } from 'node:test'

// Requests that no HTTP client would send.

export interface RawAnswer {
  readonly status: number
  /** Names in lower case; of two lines of a name, the last. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

export const openSocket = (url: string): Socket => {
  const { hostname, port } = new URL(url)
  // The server may cut the connection while more is on its way; what it said before counts.
  return connect(Number(port), hostname).on('error', () => {})
}

/** Sends the bytes as they are, and reads what comes until the other side closes. */
export const sendBytes = (url: string, bytes: string): Promise<string> => {
  const socket = openSocket(url)
  socket.write(bytes, 'latin1')
  return text(socket)
}

export const sendRaw = async (url: string, bytes: string): Promise<RawAnswer> =>
  parseAnswer(await sendBytes(url, bytes))

/** One request whose path no client has tidied up, on a connection of its own; further header lines as they are. */
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

/** All answers on one connection that are whole, without those that only say "go on". */
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

/** A connection that stays open until the test is over; resolves once the gateway has taken it, and those bytes. */
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

/** A cancel whose caller can hang up: `destroy()`. */
export const startCancel = (url: string, path: string, headers: Headers): ClientRequest =>
  startRequest('DELETE', url, path, headers)

/** Likewise a read. */
export const startGet = (url: string, path: string, headers: Headers): ClientRequest =>
  startRequest('GET', url, path, headers)
