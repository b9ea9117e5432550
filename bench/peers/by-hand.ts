import express from 'express'
import { rateLimit } from 'express-rate-limit'
import helmet from 'helmet'
import { createRemoteJWKSet, jwtVerify } from 'jose'
import pino from 'pino'
import { listen } from './common.ts'
import { cancelTask } from './vendor.ts'

// A gateway that a team could write by hand: the same protections, without the audit trail.

const issuer = String(process.env.JWT_ISSUER)
const keySet = createRemoteJWKSet(new URL(`${issuer}/jwks`))
const log = pino(pino.destination({ dest: String(process.env.LOG_FILE), sync: true }))

const app = express()
app.use(helmet())
app.use(rateLimit({ windowMs: 60_000, limit: 100_000_000, standardHeaders: 'draft-8', legacyHeaders: false }))
app.delete('/tasks/:taskNo', async (req, res) => {
  const startedAtMs = performance.now()
  const token = req.get('authorization')?.replace(/^Bearer /, '') ?? ''
  const { payload } = await jwtVerify(token, keySet, { issuer, audience: String(process.env.JWT_AUDIENCE) })
  if (!String(payload.scope).split(' ').includes('tasks:cancel')) return void res.status(403).end()
  const taskNo = String(req.params.taskNo)
  const requestId = await cancelTask(taskNo, String(req.ip))
  res.status(202).json({ taskNo, requestId })
  log.info({ sub: payload.sub, taskNo, requestId, durationMs: performance.now() - startedAtMs }, 'cancellation')
})
listen(app)
