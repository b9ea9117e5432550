import express from 'express'
import { listen } from './common.ts'
import { cancelTask } from './vendor.ts'

// Express and the vendor's newer client: three lines, nothing else.

const app = express()
app.delete('/tasks/:taskNo', async (req, res) => {
  res.status(202).json({ requestId: await cancelTask(String(req.params.taskNo), String(req.ip)) })
})
listen(app)
