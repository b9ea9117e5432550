import RpcClient from '@alicloud/pop-core'
import express from 'express'
import { keys, listen, upstream } from './common.ts'

// Express and the vendor's older client: three lines, nothing else.

const client = new RpcClient({ endpoint: upstream, apiVersion: '2018-01-29', ...keys })
const app = express()
app.delete('/tasks/:taskNo', async (req, res) => {
  const params = { TaskNo: String(req.params.taskNo), UserClientIp: String(req.ip) }
  const { RequestId } = await client.request<{ RequestId: string }>('CancelTask', params, { method: 'POST' })
  res.status(202).json({ requestId: RequestId })
})
listen(app)
