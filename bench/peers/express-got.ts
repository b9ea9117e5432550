import { randomUUID } from 'node:crypto'
import express from 'express'
import got from 'got'
import { signRpcV1 } from '../../src/alibaba/rpc-v1.ts'
import { keys, listen, upstream } from './common.ts'

// Express, got and the signature: a minimal version with the libraries of the gateway, and nothing else.

const { host } = new URL(upstream)
const app = express()
app.delete('/tasks/:taskNo', async (req, res) => {
  const params = { TaskNo: String(req.params.taskNo), UserClientIp: String(req.ip) }
  const stamp = { nonce: randomUUID(), at: new Date() }
  const { headers, body } = signRpcV1({ action: 'CancelTask', params, host }, keys, stamp)
  const { RequestId } = await got.post(upstream, { headers, body, retry: { limit: 0 } }).json<{ RequestId: string }>()
  res.status(202).json({ requestId: RequestId })
})
listen(app)
