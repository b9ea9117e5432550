import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { asOperator } from './gateway.ts'
import { parseAnswer, type RawAnswer } from './raw-http.ts'

/** Another address of loopback than the proxy's. */
export const CLIENT_ADDRESS = '127.0.0.2'

/** A cancel from that address, on its own connection, with further header lines exactly as given. */
export const cancelFromClient = async (
  url: string,
  taskNo: string,
  lines: readonly string[] = [],
): Promise<RawAnswer> => {
  const socket = connect({ host: '127.0.0.1', port: Number(new URL(url).port), localAddress: CLIENT_ADDRESS })
  const key = `X-API-Key: ${asOperator['x-api-key']}`
  socket.write([`DELETE /tasks/${taskNo} HTTP/1.1`, 'Host: a', 'Connection: close', key, ...lines, '', ''].join('\r\n'))
  return parseAnswer(await text(socket))
}

/** Header lines by which a client claims another address, or that of the proxy. */
export const forgedLines = (proxyAddress: string): readonly (readonly string[])[] => [
  [],
  ['X-Forwarded-For: 6.6.6.6'],
  ['X-Forwarded-For: 6.6.6.6', 'X-Forwarded-For: 7.7.7.7'],
  ['X-Forwarded-For: 6.6.6.6', 'X-Forwarded-For:', `X-Forwarded-For: ${proxyAddress}`],
  [`X-Forwarded-For: 6.6.6.6, ${proxyAddress}`],
  [`X-Forwarded-For: 6.6.6.6, ::ffff:${proxyAddress}, [${mappedInHex(proxyAddress)}]:80`],
  ['X-Forwarded-For: 2001:db8::1'],
  ['X-Forwarded-For: [2001:DB8::1]:443'],
  ['X-Forwarded-For: ::ffff:6.6.6.6'],
  ['X-Forwarded-For: fe80::1%eth0'],
  ['X-Forwarded-For: 6.6.6.6:80'],
  ['X-Forwarded-For: ::1'],
  ['X-Forwarded-For: unknown'],
  ['X-Forwarded-For: "6.6.6.6"'],
  ['X-Forwarded-For: 6.6.6.6,'],
  ['X-Forwarded-For: ,,,'],
  ['X-Forwarded-For:'],
  ['X-Forwarded-For: garbage \t; drop table'],
  ['X-Forwarded-For: \xff\xfe'],
  [`X-Forwarded-For: ${'6.6.6.6, '.repeat(300)}6.6.6.6`],
  ['x-forwarded-for: 6.6.6.6'],
  ['X_Forwarded_For: 6.6.6.6'],
  ['Forwarded: for=6.6.6.6', 'X-Real-IP: 6.6.6.6', 'X-Client-IP: 6.6.6.6', 'True-Client-IP: 6.6.6.6'],
  ['Connection: close, X-Forwarded-For', 'X-Forwarded-For: 6.6.6.6'],
]

/** `::ffff:7f00:3` for `127.0.0.3`. */
const mappedInHex = (address: string): string => {
  const [a = 0, b = 0, c = 0, d = 0] = address.split('.').map(Number)
  return `::ffff:${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`
}
