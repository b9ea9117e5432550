import { randomUUID } from 'node:crypto'
import { Agent, request } from 'node:http'
import { signRpcV1 } from '../../src/alibaba/rpc-v1.ts'
import { keys, listen, upstream } from './common.ts'

// The minimum: node:http in and out with the signature, and nothing else.

const url = new URL(upstream)
const agent = new Agent({ keepAlive: true })

listen((req, res) => {
  const params = { TaskNo: (req.url ?? '').slice('/tasks/'.length), UserClientIp: req.socket.remoteAddress ?? '' }
  const stamp = { nonce: randomUUID(), at: new Date() }
  const { method, path, headers, body } = signRpcV1({ action: 'CancelTask', params, host: url.host }, keys, stamp)
  const length = { 'content-length': Buffer.byteLength(body) }
  const options = { host: url.hostname, port: url.port, method, path, headers: { ...headers, ...length }, agent }
  request(options, (answer) => {
    let text = ''
    answer.setEncoding('utf8').on('data', (chunk) => {
      text += chunk
    })
    answer.on('end', () => {
      const { RequestId } = JSON.parse(text)
      res.writeHead(202, { 'content-type': 'application/json' }).end(JSON.stringify({ requestId: RequestId }))
    })
  }).end(body)
})
